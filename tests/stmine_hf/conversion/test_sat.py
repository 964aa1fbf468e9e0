"""NanoDet-m's checkpoints -> ours: every name, files of every kind, and the real COCO weights on real images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from deterministic import named_image, named_weights
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.ops import box_convert, box_iou
from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline

from stmine_hf import SatConfig, SatForObjectDetection, SatImageProcessor
from stmine_hf.cli import main
from stmine_hf.conversion.sat import convert_checkpoint, convert_name, convert_state_dict, official_config
from stmine_hf.errors import StmineError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sat"
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())["entries"]


def on_meta() -> dict[str, Tensor]:
    return {name: torch.empty(entry["shape"], device="meta") for name, entry in MANIFEST.items()}


def official_weights(classes: int = 80) -> dict[str, Tensor]:
    weights = named_weights(MANIFEST) | {"head.distribution_project.project": torch.linspace(0, 7, 8)}
    for name in weights:
        if "gfl_cls" in name:
            weights[name] = torch.cat([weights[name][:classes], weights[name][80:]])
    return weights


# ---------------------------------------------------------------------------------------------------------------------
# Names.


def test_every_official_tensor_has_its_place():
    converted = convert_state_dict(on_meta(), official_config("nanodet-m"))  # checks names and shapes
    dropped = {name for name in MANIFEST if convert_name(name) is None}
    assert len(MANIFEST) == 421 and len(converted) == 421 - len(dropped)
    assert {name.split(".")[1] for name in dropped} == {"gfl_reg", "distribution_project"}
    assert len({convert_name(name) for name in MANIFEST} - {None}) == len(converted)


def test_prefix_of_training_checkpoints():
    prefixed = {f"model.{name}": tensor for name, tensor in on_meta().items()}
    assert (
        convert_state_dict(prefixed, official_config()).keys()
        == convert_state_dict(on_meta(), official_config()).keys()
    )


def test_what_does_not_fit_is_named():
    official, config = on_meta(), official_config()
    with pytest.raises(StmineError, match=r"'backbone.stage2.0.branch2.2.weight' is not a tensor of a NanoDet-m"):
        convert_state_dict({**official, "backbone.stage2.0.branch2.2.weight": torch.zeros(1)}, config)
    with pytest.raises(StmineError, match=r"1 tensors are missing \(sat.backbone.stem.convolution.weight\)"):
        convert_state_dict({k: v for k, v in official.items() if k != "backbone.conv1.0.weight"}, config)
    with pytest.raises(StmineError, match=r"expected shape \(24, 3, 3, 3\), found \(24, 3, 5, 5\)"):
        convert_state_dict({**official, "backbone.conv1.0.weight": torch.zeros(24, 3, 5, 5)}, config)
    with pytest.raises(StmineError, match=r"the checkpoint does not fit the config: .* have no place"):
        convert_state_dict(official, SatConfig(stage_blocks=(3, 7, 3)))


# ---------------------------------------------------------------------------------------------------------------------
# Files.


@pytest.mark.parametrize("kind", ["safetensors", "pth", "ckpt"])
def test_a_file_becomes_a_folder(kind, tmp_path):
    weights = official_weights()
    path = tmp_path / f"nanodet.{kind}"
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "pth":
        torch.save(weights, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in weights.items()}}, path)
    config = convert_checkpoint(path, tmp_path / "out")
    assert config.num_labels == 80 and config.id2label[79] == "toothbrush"
    loaded = SatForObjectDetection.from_pretrained(tmp_path / "out")
    expected = convert_state_dict(weights, official_config())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "out")) is SatImageProcessor
    code = {"configuration_sat.py", "modeling_sat.py", "losses_sat.py", "image_processing_sat.py"}
    assert code == {file.name for file in (tmp_path / "out").glob("*.py")}


def test_files_of_yours_stay(tmp_path):
    """Neither a file of the folder nor the checkpoint itself, which has the name that is written, is replaced."""
    save_file(official_weights(classes=2), tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    for out, words in ((tmp_path / "out", "is not listed as written by stmine"), (tmp_path, "contains the input")):
        with pytest.raises(StmineError, match=words):
            convert_checkpoint(tmp_path / "model.safetensors", out)
    assert (tmp_path / "out" / "config.json").read_text() == "mine"
    assert len(load_file(tmp_path / "model.safetensors")) > 100
    for _ in range(2):
        convert_checkpoint(tmp_path / "model.safetensors", tmp_path / "new")


def test_classes_of_ones_own(tmp_path):
    save_file(official_weights(classes=2), tmp_path / "two.safetensors")
    assert convert_checkpoint(tmp_path / "two.safetensors", tmp_path / "out").id2label == {0: "LABEL_0", 1: "LABEL_1"}
    named = convert_checkpoint(tmp_path / "two.safetensors", tmp_path / "named", labels=["deer", "ebike"])
    assert named.id2label == SatForObjectDetection.from_pretrained(tmp_path / "named").config.id2label
    assert named.label2id == {"deer": 0, "ebike": 1}
    with pytest.raises(StmineError, match="expected 2 labels, one for each class of the checkpoint; found 1"):
        convert_checkpoint(tmp_path / "two.safetensors", tmp_path / "out", labels=["deer"])


class Code:
    ran = False

    def __reduce__(self):
        return (setattr, (Code, "ran", True))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("absent.pth", None, "no such file"),
        ("empty.pth", b"", "not a readable checkpoint"),
        ("text.pth", b"not a checkpoint", "not a readable checkpoint"),
        ("short.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{", "its header is given as 64 of 9 bytes"),
        ("code.pth", {"state_dict": Code()}, "nothing of it was run"),
        ("list.pth", [torch.zeros(1)], "expected a dict of tensors"),
        ("numbers.pth", {"state_dict": {"epoch": 3}}, "expected a dict of tensors"),
        ("other.pth", {"fc.weight": torch.zeros(1)}, "no head.gfl_cls.0.weight"),
    ],
)
def test_what_is_no_checkpoint_is_refused(name, content, message, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(StmineError, match=message):
        convert_checkpoint(path, tmp_path / "out")
    assert not Code.ran and not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The real weights: NanoDet-m trained on COCO.


@pytest.fixture(scope="module")
def coco_weights(shared_data) -> Path:
    folder = shared_data.parent / "weights" / "nanodet_m_coco"
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"needs the real weights: no model.safetensors in {folder}")
    return folder


@pytest.fixture(scope="module")
def coco_model(coco_weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("coco") / "nanodet-m-coco"
    convert_checkpoint(coco_weights / "model.safetensors", out)
    return out


@torch.no_grad()
def test_real_weights_give_the_official_numbers(parity, coco_weights, coco_model):
    facts = json.loads((coco_weights / "expected.json").read_text())["deterministic_image(360, 480, 11)"]
    model = AutoModelForObjectDetection.from_pretrained(coco_model).eval()
    image = named_image(facts["height"], facts["width"], facts["seed"])
    outputs = model(**AutoImageProcessor.from_pretrained(coco_model)(image, return_tensors="pt"))
    for ours, key in ((outputs.logits, "class"), (outputs.distance_logits, "box")):
        theirs = torch.tensor(facts[f"preds_every_211th_point_first_8_{key}_logits"])
        parity(f"real weights: {key} logits", (ours[0, ::211, :8] - theirs).abs().max(), 1e-4)
        norm = facts[f"preds_norm_{key}"]
        parity(f"real weights: norm of {key} logits, relative", abs(ours.norm().item() - norm) / norm, 1e-5)


@torch.no_grad()
def test_real_weights_detect_what_is_there(shared_data, coco_model):
    """Twelve real images of few large objects: most confident detections are right, most objects are found."""
    folder = shared_data / "detection" / "coco_small"
    if not folder.is_dir():
        pytest.skip(f"needs real images: no {folder}")
    annotations = json.loads((folder / "annotations" / "instances_val.json").read_text())
    classes = sorted(category["id"] for category in annotations["categories"])
    model = AutoModelForObjectDetection.from_pretrained(coco_model).eval().fuse()
    processor = AutoImageProcessor.from_pretrained(coco_model)
    right = detected = found = there = images = 0
    for row in annotations["images"]:
        objects = [x for x in annotations["annotations"] if x["image_id"] == row["id"]]
        large = all(x["bbox"][2] * x["bbox"][3] > 0.05 * row["width"] * row["height"] for x in objects)
        path = folder / "images" / row["file_name"]
        if not (large and 1 <= len(objects) <= 3 and path.is_file()) or any(x["iscrowd"] for x in objects):
            continue
        image = Image.open(path)
        outputs = model(**processor(image, return_tensors="pt"))
        sizes = [(image.height, image.width)]
        (result,) = processor.post_process_object_detection(outputs, threshold=0.4, target_sizes=sizes)
        boxes = box_convert(torch.tensor([x["bbox"] for x in objects]), "xywh", "xyxy")
        labels = torch.tensor([classes.index(x["category_id"]) for x in objects])
        hits = (box_iou(result["boxes"], boxes) > 0.5) & (result["labels"][:, None] == labels)
        right, detected = right + hits.any(dim=1).sum().item(), detected + len(hits)
        found, there = found + hits.any(dim=0).sum().item(), there + len(objects)
        images += 1
        if images == 12:
            break
    assert images == 12 and detected >= 10
    assert right >= 0.7 * detected and found >= 0.6 * there, f"{right} of {detected} right, {found} of {there} found"


def test_real_weights_in_the_pipeline(shared_data, coco_model):
    images = sorted((shared_data / "detection" / "coco_small" / "images").glob("*.jpg"))
    if not images:
        pytest.skip("needs real images: no detection/coco_small")
    detect = pipeline("object-detection", model=str(coco_model), trust_remote_code=True)
    image = Image.open(images[0])
    answers = detect(image, threshold=0.3)
    assert answers and all(set(answer) == {"score", "label", "box"} for answer in answers)
    for answer in answers:
        box = answer["box"]
        assert 0 <= box["xmin"] < box["xmax"] <= image.width and 0 <= box["ymin"] < box["ymax"] <= image.height


def test_the_stored_weights_are_those_described(coco_weights):
    digest = hashlib.sha256((coco_weights / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "b53021bf5c6c64ea236da5cf94d486f69c0952508c58e8cf5c3e9ded49f0499e"
    assert len(load_file(coco_weights / "model.safetensors")) == 421


def test_command(capsys, tmp_path):
    save_file(official_weights(classes=2), tmp_path / "two.safetensors")
    words = ["convert", "sat", str(tmp_path / "two.safetensors"), str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*words, "--labels", "deer, ebike", "--json"])
    assert json.loads(capsys.readouterr().out)["labels"] == ["deer", "ebike"]
    assert SatForObjectDetection.from_pretrained(tmp_path / "out").config.label2id == {"deer": 0, "ebike": 1}
    with pytest.raises(SystemExit, match=r"^1$"):
        main([*words, "--labels", "deer"])
    assert "expected 2 labels" in capsys.readouterr().err
