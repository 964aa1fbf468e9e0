"""Authors' checkpoints -> ours: every name, every run option, and everything that is no checkpoint of theirs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import TINY_VOCABULARY, tiny_config, tiny_fisvl
from torch import Tensor
from transformers import AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor

from stmine_hf import FisvlConfig, FisvlModel, FisvlProcessor
from stmine_hf.conversion import fisvl as conversion
from stmine_hf.conversion.fisvl import (
    config_from_official,
    convert_checkpoint,
    convert_name,
    convert_state_dict,
    official_config,
)
from stmine_hf.errors import StmineError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "fisvl"
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())["state_dict"]


def on_meta(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def expected_names(config: FisvlConfig) -> set[str]:
    with torch.device("meta"):
        return set(FisvlModel(config).state_dict())


# ---------------------------------------------------------------------------------------------------------------------
# Names.


def test_every_official_tensor_has_its_place():
    assert len(MANIFEST) == 768
    official = on_meta({name: entry["shape"] for name, entry in MANIFEST.items()})
    converted = convert_state_dict(official, official_config())  # checks the shapes
    assert converted.keys() == expected_names(official_config())
    fused = [name for name in MANIFEST if ".attn.qkv." in name]
    rebuilt = [name for name in MANIFEST if ".attn.qkv." not in name and convert_name(name) is None]
    assert {name.rsplit(".", 1)[1] for name in rebuilt} == {"relative_position_index", "attn_mask"}
    assert len(converted) == len(MANIFEST) - len(rebuilt) + 2 * len(fused)


def test_baseline_names():
    inside = ("vision_", "text_", "temp")
    official = on_meta({name: e["shape"] for name, e in MANIFEST.items() if name.startswith(inside)})
    config = config_from_official({"is_baseline": True})
    assert convert_state_dict(official, config).keys() == expected_names(config)
    del official["temp"], official["temp2"]  # as in a baseline trained with the triplet loss
    config = config_from_official({"is_baseline": True, "use_triplet_loss": True, "temp1": 0.1})
    converted = convert_state_dict(official, config)
    assert converted.keys() == expected_names(config) and converted["temperature"].item() == pytest.approx(0.1)
    with pytest.raises(StmineError, match=r"tensors are missing \(center_temperature, conv_"):
        convert_state_dict(official, official_config())


def test_vit_names():
    linear = {"attn.qkv": (1152, 384), "attn.proj": (384, 384), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536)}
    shapes = {"cls_token": (1, 1, 384), "pos_embed": (1, 197, 384), "norm.weight": (384,), "norm.bias": (384,)}
    shapes |= {"patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,)}
    for block in range(12):
        for name, (rows, columns) in linear.items():
            shapes |= {f"blocks.{block}.{name}.weight": (rows, columns), f"blocks.{block}.{name}.bias": (rows,)}
        shapes |= {f"blocks.{block}.norm{n}.{kind}": (384,) for n in (1, 2) for kind in ("weight", "bias")}
    official = {name: entry["shape"] for name, entry in MANIFEST.items() if not name.startswith("vision_")}
    official |= {f"vision_encoder.{name}": shape for name, shape in shapes.items()}
    official |= {"vision_proj.weight": (512, 384), "vision_proj.bias": (512,)}
    config = config_from_official({"use_swin": False})
    assert convert_state_dict(on_meta(official), config).keys() == expected_names(config)


# ---------------------------------------------------------------------------------------------------------------------
# Options of the authors' runs.


def test_options_of_the_published_runs():
    released = config_from_official({})
    assert released.to_dict() == official_config().to_dict() and released.attend_padding
    rsitmd = {"embed_dim": 256, "img_gcn_step": 3, "dropout_r": 0.1, "temp1": 0.05, "temp2": 0.06, "alpha_m": 2}
    rsitmd |= {"center_factor": 0.5, "scene_factor": 2.0, "beta1": -0.0015, "beta2": 0.03, "max_tokens": 47}
    config = config_from_official(rsitmd | {"use_swin": True, "use_scene_loss": True, "use_triplet_loss": False})
    assert (config.projection_dim, config.graph_steps, config.dropout) == (256, 3, 0.1)
    assert (config.temperature_init, config.center_temperature_init) == (0.05, 0.06)
    assert (config.affiliation_weight, config.scene_weight) == (0.5, 2.0)
    assert (config.scene_beta_inter, config.scene_beta_intra, config.scene_margin) == (-0.0015, 0.03, 2)
    assert config.objective == "value_guided" and config.fusion


@pytest.mark.parametrize(
    "official, field, value",
    [
        ({"is_baseline": True}, "fusion", False),
        ({"use_triplet_loss": True, "use_scene_loss": False}, "objective", "triplet"),
        ({"use_triplet_loss": False, "use_scene_loss": False}, "objective", "contrastive"),
        ({"use_swin": False}, "vision_prefix_tokens", 1),
    ],
)
def test_options_of_other_runs(official, field, value):
    config = config_from_official(official)
    assert getattr(config, field) == value and config.attend_padding


# ---------------------------------------------------------------------------------------------------------------------
# Whole files. The checkpoint is a shrunken one: official names, tiny tensors.


def tiny_official(model: FisvlModel) -> dict[str, Tensor]:
    """The tiny model's weights under their official names, index tables and masks included."""
    ours, official = model.state_dict(), {}
    for name in MANIFEST:
        if ".attn.qkv." in name:
            output = convert_name(name.replace("qkv", "proj"))
            parts = [output.replace("o_proj", f"{part}_proj") for part in "qkv"]
            if parts[0] in ours:
                official[name] = torch.cat([ours[part] for part in parts])
        elif convert_name(name) is None:
            official[name] = torch.zeros(2, dtype=torch.int64)
        elif convert_name(name) in ours:
            official[name] = ours[convert_name(name)].clone()
    return official


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> tuple[FisvlModel, Path]:
    """A tiny model with learned temperatures, and its weights as a file such as the authors'."""
    config = tiny_config(attend_padding=True)
    monkeypatch.setattr(conversion, "config_from_official", lambda official: config)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(TINY_VOCABULARY) + "\n")
    torch.manual_seed(0)
    model = FisvlModel(config).eval()
    with torch.no_grad():
        model.temperature.fill_(0.0339)
        model.center_temperature.fill_(0.0333)
    torch.save({"model": tiny_official(model), "config": {"max_tokens": 31}}, tmp_path / "best.pth")
    return model, tmp_path / "best.pth"


def test_checkpoint_becomes_a_folder_that_every_door_opens(tiny):
    model, checkpoint = tiny
    returned = convert_checkpoint(checkpoint, "out", vocab="vocab.txt")
    assert not returned.training
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        loaded = auto.from_pretrained("out")
        ours = loaded.state_dict()
        assert ours.keys() == model.state_dict().keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in model.state_dict().items())
    assert loaded.temperature.item() == pytest.approx(0.0339)  # learned, not the initial value
    assert loaded.center_temperature.item() == pytest.approx(0.0333)
    assert loaded.config.attend_padding
    processor = AutoProcessor.from_pretrained("out")
    assert isinstance(processor, FisvlProcessor) and processor.max_tokens == 31
    assert processor(text="a plane")["input_ids"].tolist() == tiny_fisvl()[1](text="a plane")["input_ids"].tolist()


def test_what_is_converted_carries_its_code():
    """Also when nothing but the conversion was imported, as on the command line."""
    code = (
        "from stmine_hf.conversion import fisvl as c\n"
        "saved = c.FisvlConfig, c.FisvlModel, c.FisvlProcessor, c.FisvlImageProcessor\n"
        "assert all(one._auto_class for one in saved)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_bare_state_dict_and_half_precision_will_do(tiny):
    model, checkpoint = tiny
    weights = torch.load(checkpoint, weights_only=True)["model"]
    torch.save({name: t.half() if t.is_floating_point() else t for name, t in weights.items()}, "half.pth")
    converted = convert_checkpoint("half.pth", "out", vocab="vocab.txt")
    assert converted.dtype == torch.float32
    torch.testing.assert_close(converted.text_proj.weight, model.text_proj.weight, atol=1e-4, rtol=1e-3)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def cut_short(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])


def cut_to_the_start(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:300])


def change(checkpoint: Path, **changed: Tensor | None) -> None:
    """Replaces tensors, or with None drops them; __ stands for a dot."""
    content = torch.load(checkpoint, weights_only=True)
    for name, tensor in changed.items():
        content["model"][name.replace("__", ".")] = tensor
    content["model"] = {name: tensor for name, tensor in content["model"].items() if tensor is not None}
    torch.save(content, checkpoint)


QKV = "vision_encoder__layers__0__blocks__0__attn__qkv__weight"
BROKEN = {
    "cut short": (cut_short, "not a readable checkpoint"),
    "cut to its start": (cut_to_the_start, "not a readable checkpoint"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable checkpoint"),
    "text": (lambda path: path.write_text("<html>Not found</html>\n" * 50), "not a readable checkpoint"),
    "a zip of something": (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "not a readable"),
    "hostile": (lambda path: torch.save({"model": {}, "config": Hostile()}, path), "nothing of it was run"),
    "a bare pickle": (lambda path: path.write_bytes(pickle.dumps(Hostile(), protocol=4)), "nothing of it was run"),
    "a whole module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "nothing of it was run"),
    "a list": (lambda path: torch.save([torch.zeros(2)], path), "expected a dict of tensors, found list"),
    "a dict of numbers": (lambda path: torch.save({"model": {"temp": 1.0}}, path), "expected a state dict"),
    "numbers for names": (lambda path: torch.save({0: torch.zeros(2)}, path), "expected a state dict"),
    "another model": (
        lambda path: torch.save({"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, path),
        "'conv1.weight' is not a tensor of a FISVL checkpoint",
    ),
    "a timm ViT": (
        lambda path: torch.save({"blocks.0.attn.qkv.weight": torch.zeros(6, 2)}, path),
        "is not a tensor of a FISVL checkpoint",
    ),
    "no tensors": (lambda path: torch.save({"model": {}}, path), "tensors are missing"),
    "tensors missing": (lambda path: change(path, text_proj__bias=None), "1 tensors are missing (text_proj.bias)"),
    "wrong shape": (lambda path: change(path, text_proj__bias=torch.zeros(3)), "expected shape (32,), found (3,)"),
    "wrong fused shape": (lambda path: change(path, **{QKV: torch.zeros(2, 16)}), "expected shape (16, 16)"),
    "scalar for a fused tensor": (lambda path: change(path, **{QKV: torch.zeros(())}), "expected shape (16, 16)"),
    "absent": (lambda path: path.unlink(), "no such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "no such file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_official_checkpoint_is_refused(kind, tiny, recwarn):
    _, checkpoint = tiny
    spoil, message = BROKEN[kind]
    spoil(checkpoint)
    with pytest.raises(StmineError) as refusal:
        convert_checkpoint(checkpoint, "out", vocab="vocab.txt")
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert not Path("out").exists() and not Path("was_run").exists()
    assert not recwarn.list  # the refusal stays one line


def test_the_hostile_file_is_hostile(tiny):
    _, checkpoint = tiny
    torch.save(Hostile(), checkpoint)
    torch.load(checkpoint, weights_only=False)
    assert Path("was_run").exists()


def test_vocabulary_and_output_are_checked(tiny):
    _, checkpoint = tiny
    Path("short.txt").write_text("\n".join(TINY_VOCABULARY[:40]) + "\n")
    Path("taken").write_text("")
    for out, vocab, message in (
        ("out", "nowhere.txt", "nowhere.txt: no such file"),
        ("out", "short.txt", f"expected vocab.txt of bert-base-uncased ({len(TINY_VOCABULARY)} lines), found 40"),
        ("out", None, "pass its vocab.txt"),
        ("taken", "vocab.txt", "taken: expected a folder to write to, found a file"),
    ):
        with pytest.raises(StmineError) as refusal:
            convert_checkpoint(checkpoint, out, vocab=vocab)
        assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert not Path("out").exists()


def test_stored_options_that_make_no_model_are_refused(tmp_path):
    for options in ({"embed_dim": "wide"}, {"embed_dim": 510}, {"temp1": 0}, {"max_tokens": "many"}, ["embed_dim"]):
        torch.save({"model": {}, "config": options}, tmp_path / "best.pth")
        with pytest.raises(StmineError, match="training options stored in it make no model"):
            convert_checkpoint(tmp_path / "best.pth", tmp_path / "out", vocab=tmp_path / "vocab.txt")
