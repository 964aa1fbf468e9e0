"""Checkpoints that ask for more than they hold, or name code: refused before anything is built or run."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from safetensors.torch import load_file, save_file

from stmine_hf import checkpoints
from stmine_hf.checkpoints import StoredWeights, building_within, read_settings, stored_weights
from stmine_hf.cli import main
from stmine_hf.conversion.official import read_official
from stmine_hf.conversion.sat import convert_checkpoint
from stmine_hf.errors import StmineError
from stmine_hf.hub.build import build
from stmine_hf.hub.checks.files import check_pickles
from stmine_hf.hub.merging import merge_adapter
from stmine_hf.loading import load_fisvl, load_model, load_mttv, load_sat
from stmine_hf.posts.detectors import load_detector
from stmine_hf.search.store import read_embeddings

SAVE = {"fisvl": save_tiny_fisvl, "mttv": save_tiny_mttv, "sat": save_tiny_sat}
HUGE = 10**9


def change(folder: Path, changes: dict, file: str = "config.json") -> None:
    settings = json.loads((folder / file).read_text())
    for name, value in changes.items():
        place = settings
        *parts, field = name.split(".")
        for part in parts:
            place = place[part]
        place[field] = value
    (folder / file).write_text(json.dumps(settings))


HOSTILE = {
    "fisvl": [
        {"projection_dim": HUGE},
        {"projection_dim": 60_000},
        {"graph_steps": 10**7},
        {"graph_steps": 4000},
        {"graph_steps": -3},
        {"projection_dim": "many"},
        {"projection_dim": 1e12},
        {"temperature_init": float("nan")},
        {"text_config.vocab_size": 10**10},
        {"text_config.vocab_size": 60_000},
        {"text_config.num_hidden_layers": 10**7},
        {"text_config.num_hidden_layers": 4000},
        {"text_config.hidden_size": HUGE},
        {"text_config.max_position_embeddings": 10**8},
        {"vision_config.depths": [10**7, 1, 1, 1]},
        {"vision_config.depths": [1] * 100_000},
        {"vision_config.num_heads": [HUGE] * 4},
        {"vision_config.embed_dim": HUGE},
        {"sensing_channels": HUGE},
        {"num_labels": HUGE},
        {"text_config.num_labels": HUGE},
        {"text_config": []},
        {"text_config.model_type": "no_such_type"},
        {"projection_dim": 10**4000},
        {"vision_config.auto_map": {"AutoModel": "evil.Evil"}},
        {"text_config.attn_implementation": "someone/kernel"},
    ],
    "mttv": [
        {"num_encoder_layers": 10**7},
        {"num_encoder_layers": 3000},
        {"num_encoder_layers": None},
        {"num_region_tokens": HUGE},
        {"vision_width": HUGE},
        {"id2label": {str(row): "x" for row in range(200_000)}},
        {"text_config.intermediate_size": HUGE},
        {"text_config.vocab_size": -5},
    ],
    "sat": [
        {"stage_blocks": [10**7, 1, 1]},
        {"stage_blocks": [2000, 1, 1]},
        {"stage_channels": [HUGE, 16, 16]},
        {"head_layers": 10**7},
        {"reg_max": 10**8},
        {"neck_channels": 16_000_000},
        {"attention_kernel_size": 10**8},
        {"num_labels": 10**7, "id2label": None, "label2id": None},
    ],
}


@pytest.mark.parametrize(
    "method, changes", [(method, changes) for method, cases in HOSTILE.items() for changes in cases], ids=str
)
def test_a_config_that_asks_for_more_than_the_weights_is_refused(method, changes, tmp_path):
    folder = SAVE[method](tmp_path / "model")
    change(folder, changes)
    with pytest.raises(StmineError) as refusal:
        load_model(method, folder, device="cpu")
    assert str(folder) in str(refusal.value) and "\n" not in str(refusal.value)


def test_deep_and_large_files_are_refused(tmp_path):
    for text, message in (
        ("[" * 100_000 + "]" * 100_000, "not valid JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "not valid JSON"),
        ('{"a": "' + "x" * (5 << 20) + '"}', "expected at most"),
        ('{"a": NaN}', "expected a finite number"),
        ('{"a": 1e999}', "finite"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[1]", "expected a JSON object"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(StmineError, match=message):
            read_settings(tmp_path / "config.json")


def test_a_processor_that_makes_huge_images_is_refused(tmp_path):
    folder = save_tiny_sat(tmp_path / "model")
    change(folder, {"size": {"height": HUGE, "width": HUGE}}, "preprocessor_config.json")
    with pytest.raises(StmineError, match=r"size\.height"):
        load_sat(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"height": 4096, "width": 320}},
        {"size": {"height": 0, "width": 320}},
        {"size": {"height": -320, "width": 320}},
        {"size": {"height": "320", "width": 320}},
        {"size": {"shortest_edge": 1e6}},
        {"size_divisor": 0},
        {"size_divisor": -32},
        {"image_std": [0, 0, 0]},
        {"image_std": [1e-300, 1, 1]},
        {"image_std": [-1, 1, 1]},
        {"image_std": ["1", 1, 1]},
        {"image_mean": [1e300, 0, 0]},
        {"image_mean": [None, 0, 0]},
        {"image_mean": [0, 0]},
        {"rescale_factor": 0},
        {"rescale_factor": 1e300},
    ],
    ids=str,
)
def test_a_processor_that_makes_no_usable_images_is_refused(changes, tmp_path):
    """Deviations of zero give pixels that are not finite: every answer would be nonsense, and none an error."""
    folder = save_tiny_sat(tmp_path / "sat")
    change(folder, changes, "preprocessor_config.json")
    with pytest.raises(StmineError, match=next(iter(changes))):
        load_sat(folder)
    folder = save_tiny_mttv(tmp_path / "mttv")
    change(folder, {f"image_processor.{name}": value for name, value in changes.items()}, "processor_config.json")
    with pytest.raises(StmineError, match=f"image_processor.{next(iter(changes))}"):
        load_mttv(folder)


def test_a_damaged_header_is_refused(tmp_path):
    folder = save_tiny_sat(tmp_path / "model")
    weights = folder / "model.safetensors"
    for header in (b"\xff" * 8, (10**9).to_bytes(8, "little"), b""):
        weights.write_bytes(header + b"{}")
        with pytest.raises(StmineError, match="cannot be loaded"):
            load_sat(folder)


def test_a_header_of_very_many_tensors_is_refused_at_once(tmp_path, monkeypatch):
    """Each is an object of its own, several times: 300,000 took 10 s."""
    folder = save_tiny_sat(tmp_path / "model")
    weights = folder / "model.safetensors"
    monkeypatch.setattr(checkpoints, "LARGEST_HEADER", 1 << 21)
    for count, words in (
        (20_001, "20,001 tensors; expected 20,000 at most"),
        (40_000, "bytes; expected 2,097,152 at"),
    ):
        entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        header = json.dumps({f"t{number}": entry for number in range(count)}).encode()
        weights.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(StmineError, match=words):
            load_sat(folder)
    for read in (
        lambda: convert_checkpoint(weights, tmp_path / "out"),
        lambda: read_embeddings_of(weights, tmp_path / "index"),
        lambda: check_pickles_of(folder),
    ):
        with pytest.raises(StmineError, match="expected 2,097,152 at most"):
            read()


def read_embeddings_of(weights: Path, index: Path) -> None:
    (index / "shards").mkdir(parents=True)
    shutil.copy(weights, index / "shards" / "000000.safetensors")
    read_embeddings(index, "000000")


def check_pickles_of(folder: Path) -> None:
    raise StmineError(str(check_pickles(folder, "model")))


def test_weights_that_the_model_has_no_place_for_are_refused(tmp_path):
    """Fewer layers in the config than in the file would load, and answer otherwise."""
    folder = save_tiny_fisvl(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "graph.9.query.weight": torch.zeros(2, 2)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StmineError, match=r"1 tensors of model.safetensors are not part .* \(graph.9.query.weight\)"):
        load_fisvl(folder)


def test_counting_ends_with_the_building_and_is_of_this_thread(tmp_path):
    with pytest.raises(StmineError, match="larger model"), building_within(StoredWeights(1, 1)):
        torch.nn.Linear(5000, 5000, device="meta")
    torch.nn.Linear(5000, 5000, device="meta")
    folder = save_tiny_sat(tmp_path / "model")
    held = stored_weights(str(folder))
    assert held.values == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


# ---- code in a folder ----


@pytest.fixture
def marker(tmp_path, monkeypatch) -> Path:
    """A file that the code in a hostile folder would write; a prompt for it is a failure."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path / "marker"


def hostile(folder: Path, marker: Path, model_type: str, method: str = "sat") -> Path:
    SAVE[method](folder)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    entries = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForObjectDetection",
        "AutoModelForSequenceClassification",
        "AutoImageProcessor",
        "AutoProcessor",
    )
    auto_map = {entry: "evil.Evil" for entry in entries} | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    for file in folder.glob("*config.json"):
        settings = json.loads(file.read_text())
        settings["auto_map"] = auto_map
        if file.name == "config.json":
            settings["model_type"] = model_type
        file.write_text(json.dumps(settings))
    return folder


DOORS = {
    "load_fisvl": load_fisvl,
    "load_mttv": load_mttv,
    "load_sat": load_sat,
    "load_detector": load_detector,
    "publish build": lambda folder: build(folder, folder.parent / "built"),
    "merge": lambda folder: merge_adapter(str(adapter_of(folder)), folder.parent / "merged"),
}
COMMANDS = {
    "index": ["index", "{images}", "--model", "{model}", "--out", "{out}"],
    "classify": ["classify", "--text", "x", "--model", "{model}"],
    "classify --detector": [
        "classify",
        "--text",
        "x",
        "--image",
        "{image}",
        "--model",
        "{mttv}",
        "--detector",
        "{model}",
    ],
    "detect": ["detect", "{image}", "--model", "{model}", "--out", "{out}"],
    "evaluate fisvl": ["evaluate", "fisvl", "--dataset", "toy_scenes", "--limit", "1", "--model", "{model}"],
    "evaluate mttv": ["evaluate", "mttv", "--dataset", "toy_posts", "--limit", "1", "--model", "{model}"],
    "evaluate sat": ["evaluate", "sat", "--dataset", "toy_camouflage", "--limit", "1", "--model", "{model}"],
    "features": ["features", "mttv", "--file", "{posts}", "--model", "{model}", "--out", "{out}"],
    "export": ["export", "sat", "--model", "{model}", "--format", "onnx", "--out", "{out}"],
    "merge": ["merge", "{adapter}", "--out", "{out}"],
    "publish build": ["publish", "build", "{model}", "--out", "{out}"],
}


def adapter_of(base: Path) -> Path:
    folder = base.parent / "adapter"
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("door", DOORS)
def test_code_of_an_unknown_type_is_never_run(door, tmp_path, marker):
    folder = hostile(tmp_path / "model", marker, "evil_type")
    with pytest.raises(StmineError, match="evil_type"):
        DOORS[door](folder)
    assert not marker.exists()


@pytest.mark.parametrize("method", SAVE)
def test_code_beside_a_known_type_is_never_run(method, tmp_path, marker):
    load_model(method, hostile(tmp_path / "model", marker, method, method))
    assert not marker.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_code_of_a_folder(command, tmp_path, marker, capsys):
    from PIL import Image

    folder = hostile(tmp_path / "model", marker, "evil_type")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "a.png")
    (tmp_path / "posts.jsonl").write_text('{"id": 1, "text": "x"}\n')
    places = {
        "model": folder,
        "images": tmp_path / "images",
        "image": tmp_path / "images" / "a.png",
        "posts": tmp_path / "posts.jsonl",
        "out": tmp_path / "out",
        "adapter": adapter_of(folder),
        "mttv": save_tiny_mttv(tmp_path / "mttv"),
    }
    with pytest.raises(SystemExit) as end:
        main([word.format(**places) for word in COMMANDS[command]])
    assert end.value.code == 1
    assert "evil_type" in capsys.readouterr().err
    assert not marker.exists()


def test_the_message_names_the_commands_that_use_such_a_model(tmp_path):
    folder = save_tiny_fisvl(tmp_path / "model")
    with pytest.raises(StmineError, match=r"expected a SAT model, found one of type 'fisvl'.*stmine index"):
        load_sat(folder)


# ---- adapters ----


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 10**7},
        {"r": HUGE},
        {"target_modules": r"(\w+)+x"},
        {"target_modules": ".*.*.*.*.*.*query"},
        {"rank_pattern": {"(a+)+$": 4}},
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},
        {"layer_replication": [[0, 1]] * 1000},
        {"peft_type": "XLORA", "adapters": {"a": "somewhere"}},
    ],
    ids=str,
)
def test_an_adapter_that_asks_for_more_than_it_holds_is_refused(settings, tmp_path):
    base = save_tiny_fisvl(tmp_path / "base")
    folder = adapter_of(base)
    change(folder, settings, "adapter_config.json")
    save_file({"base_model.model.x": torch.zeros(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(StmineError, match="adapter"):
        load_fisvl(folder)


# ---- files of the authors ----


def read(path: Path):
    return read_official(path, "a checkpoint", "Download it again.")


def test_a_checkpoint_that_grows_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "good.pth")
    assert read(tmp_path / "good.pth")["a"].shape == (1000,)
    with (
        zipfile.ZipFile(tmp_path / "good.pth") as good,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, bytes(50 << 20) if name.endswith("/0") else good.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(StmineError, match="compresses nothing"):
        read(tmp_path / "bomb.pth")


def test_a_view_of_more_values_than_the_file_holds_is_refused(tmp_path):
    torch.save({"model": {"a": torch.zeros(1).expand(10**6, 10**6)}}, tmp_path / "view.pth")
    with pytest.raises(StmineError, match="can hold"):
        read(tmp_path / "view.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path, marker):
    class Evil:
        def __reduce__(self):
            return open, (str(marker), "w")

    for protocol in range(5):
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol))
        with pytest.raises(StmineError, match="nothing of it was run"):
            read(tmp_path / "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize("method", ["fisvl", "mttv"])
@pytest.mark.parametrize("kind", ["large", "deep", "deep settings", "no JSON", "large vocabulary"])
def test_a_tokenizer_is_bounded_before_it_is_read(method, kind, tmp_path, monkeypatch):
    SAVE[method](tmp_path)
    file = {"deep settings": "tokenizer_config.json", "large vocabulary": "vocab.txt"}.get(kind, "tokenizer.json")
    if kind.startswith("large"):
        with open(tmp_path / file, "wb") as opened:
            opened.truncate(300 << 20)
    else:
        (tmp_path / file).write_text('{"a": ' * 10_000 + "1" + "}" * 10_000 if kind.startswith("deep") else "{")
    for owner in ("transformers.PreTrainedTokenizerFast", "transformers.PreTrainedTokenizerBase"):
        monkeypatch.setattr(f"{owner}.from_pretrained", lambda *words, **options: pytest.fail("it was read"))
    with pytest.raises(StmineError, match=r"expected 67,108,864 at most|not valid JSON"):
        load_model(method, tmp_path, "cpu")


@pytest.mark.parametrize(
    "steps, message",
    [
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}}, "may never end"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated",
                            "invert": False}}, "may never end"),
        ({"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 9}}, "times as long"),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}}, "times as long"),
        ({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000,
                             "pair": [], "special_tokens": {}}}, "times as long"),
    ],
    ids=["replace", "split", "growth", "prepend", "template"],
)  # fmt: skip
def test_steps_of_a_tokenizer_are_bounded(steps, message, tmp_path):
    """A text of ten letters would take gigabytes, or end the process by a panic of the library."""
    folder = save_tiny_mttv(tmp_path)
    change(folder, steps, "tokenizer.json")
    with pytest.raises(StmineError, match=message):
        load_mttv(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    folder = save_tiny_mttv(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.ndim)
    weights[name].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StmineError, match="not finite"):
        load_mttv(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = save_tiny_mttv(tmp_path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    change(folder, {"model.vocab": {word: row + 10**6 for word, row in vocabulary.items()}}, "tokenizer.json")
    with pytest.raises(StmineError, match=r"tokenizer has ids up to 1,000,"):
        load_mttv(folder)


def test_labels_of_one_name_are_refused(tmp_path):
    """Of the two only one would be in the scores."""
    folder = save_tiny_mttv(tmp_path)
    change(folder, {"id2label": {"0": "a", "1": "a"}})
    with pytest.raises(StmineError, match="two labels alike"):
        load_mttv(folder)


def test_a_chat_template_is_not_run(tmp_path):
    """No method has a use for one; it is text that stays text."""
    save_tiny_fisvl(tmp_path)
    hostile = "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}"
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": hostile}))
    (tmp_path / "chat_template.jinja").write_text(hostile)
    _, processor = load_model("fisvl", tmp_path, "cpu")
    inputs = processor(text=["many planes"], return_tensors="pt")
    assert inputs["input_ids"].shape[0] == 1
