"""What version 0.1 wrote is opened and resumed: indexes, predictions, features, detections, runs, exports, data sets.

The files are in `fixtures/formats_0_1`, described there; `expected.json` beside them is what version 0.1 answered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import typer
import yaml
from documents import ROOT
from PIL import Image
from safetensors.torch import load_file

import stmine_hf
from stmine_hf import ImageIndex, load_dataset
from stmine_hf.cli import app, main
from stmine_hf.evaluation.reports import with_present_names
from stmine_hf.loading import load_fisvl, load_mttv, load_sat
from stmine_hf.posts.features import FeatureStore

FORMATS = Path(__file__).with_name("fixtures") / "formats_0_1"
SENTENCES = ("many planes near a terminal", "a sandy beach by the sea", "a dense green forest")


def expected(name: str) -> dict[str, Any]:
    return json.loads((FORMATS / name / "expected.json").read_text(encoding="utf-8"))


def copied(name: str, folder: Path) -> Path:
    """A copy of what version 0.1 wrote, with the file times that it had."""
    copy = shutil.copytree(FORMATS / name, folder / name)
    for file, time in expected(name).get("mtime_ns", {}).items():
        os.utime(copy / file, ns=(time, time))
    return copy


@pytest.fixture
def stmine(capsys):
    def run(*words: object, fails: bool = False) -> Any:
        """The JSON document that `stmine WORDS` prints, or its error message."""
        code: Any = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        assert code == int(fails), printed
        return printed.err if fails else json.loads(printed.out)

    return run


def part(report: dict[str, Any], *names: str) -> list[Any]:
    return [report[name] for name in names]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but for the empty lock files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_is(tensor: Any, numbers: dict[str, Any], tolerance: float) -> None:
    """Compare a tensor with the shape and the few values that are written of it."""
    array = np.asarray(tensor, dtype=np.float64)
    assert list(array.shape) == numbers["shape"]
    places = [int(place) for place in numbers["values"]]
    assert np.allclose(array.ravel()[places], list(numbers["values"].values()), atol=tolerance)
    assert np.isclose(np.linalg.norm(array), numbers["norm"], rtol=1e-2)


# Names


def test_names_of_python_are_there():
    names = json.loads((FORMATS / "interface.json").read_text())["python"]
    assert set(names) <= set(stmine_hf.__all__)


def test_options_of_commands_are_accepted():
    from stmine_hf.cli import _present_name

    missing = []
    for name, options in json.loads((FORMATS / "interface.json").read_text())["commands"].items():
        command: Any = typer.main.get_command(app)
        for word in name.split():
            command = command.commands[word]
        present = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        missing += [f"stmine {name} {option}" for option in options if _present_name(option) not in present]
    assert not missing


def training_dataclasses(method: str) -> list[Any]:
    module = importlib.import_module(f"stmine_hf.training.{method}.arguments")
    return [getattr(module, f"{method.capitalize()}{part}Arguments") for part in ("Model", "Data", "Training")]


@pytest.mark.parametrize("method", ["fisvl", "mttv", "sat"])
def test_settings_of_runs_are_accepted(tmp_path, method):
    from stmine_hf.training.arguments import parse_arguments

    names = json.loads((FORMATS / "interface.json").read_text())["training"][method]
    settings = yaml.safe_load((FORMATS / "checkpoints" / method / "config.yaml").read_text())
    if method == "mttv":
        settings |= {"picture_dropping": 0.25, "picture_augmentation": "lite"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    arguments = parse_arguments(training_dataclasses(method), ["--config", str(config)])
    found = {key: value for one in arguments for key, value in vars(one).items()}
    assert found["dataset"] == settings["dataset"] and found["save_steps"] == settings["save_steps"]
    if method == "mttv":
        assert found["image_dropping"] == 0.25 and found["image_augmentation"] == "lite"
        names = [name.replace("picture_", "image_") for name in names]
    assert set(names) <= {field.name for one in arguments for field in dataclasses.fields(one)}


# index


def assert_finds(folder: Path, index: str, name: str) -> None:
    opened = ImageIndex.open(folder / index)
    for query, hits in expected("index")["search"][name].items():
        found = opened.query(folder / "images" / Path(query).name if "/" in query else query, k=8)
        assert [hit.path.name for hit in found] == [file for file, _ in hits]
        assert all(hit.path.is_file() for hit in found)
        assert [hit.score for hit in found] == pytest.approx([score for _, score in hits], abs=1e-3)


INDEX_COUNTS = ("images", "added", "changed", "unchanged", "removed", "embedded")


@pytest.mark.parametrize("name", ["complete", "updated"])
def test_an_index_answers_and_is_up_to_date(tmp_path, stmine, name):
    folder = copied("index", tmp_path)
    images = contents(folder / "images")
    report = stmine("index", folder / "images", "--out", folder / name, "--json")
    assert part(report, *INDEX_COUNTS) == [8, 0, 0, 8, 0, 0]
    assert [skip["path"] for skip in report["skipped"]] == ["broken.jpg"]
    assert_finds(folder, name, name)
    assert contents(folder / "images") == images


def test_an_unfinished_index_is_finished(tmp_path, stmine):
    folder = copied("index", tmp_path)
    message = stmine("search", folder / "unfinished", SENTENCES[0], fails=True)
    assert message.startswith("error: ") and "stmine index" in message
    report = stmine("index", folder / "images", "--out", folder / "unfinished", "--json")
    assert part(report, *INDEX_COUNTS) == [8, 4, 0, 4, 0, 4]
    assert_finds(folder, "unfinished", "complete")


def test_an_index_follows_its_images_by_their_content(tmp_path, stmine):
    folder = copied("index", tmp_path)
    for path in (folder / "images").iterdir():
        os.utime(path)
    report = stmine("index", folder / "images", "--out", folder / "complete", "--json")
    assert part(report, *INDEX_COUNTS) == [8, 0, 0, 8, 0, 0]
    images = (folder / "images").rename(tmp_path / "elsewhere")
    (hit,) = ImageIndex.open(folder / "complete", images=images).query(SENTENCES[0], k=1)
    assert hit.path == images / "airport_0.jpg"


def test_an_index_among_its_images_is_brought_up_to_date(tmp_path, stmine):
    folder = copied("index", tmp_path)
    index = (folder / "complete").rename(folder / "images" / "my.index")
    manifest = index / "index.json"
    manifest.write_text(manifest.read_text().replace('"../images"', '".."'))
    before = contents(folder / "images")
    report = stmine("index", folder / "images", "--out", index, "--json")
    assert part(report, *INDEX_COUNTS) == [8, 0, 0, 8, 0, 0]
    after = contents(folder / "images")
    assert all(after[name] == data for name, data in before.items() if not name.startswith("my.index/"))
    (hit,) = stmine("search", index, SENTENCES[1], "--k", 1, "--json")["hits"]
    assert Path(hit["path"]) == folder / "images" / "beach_2.jpg"


# classify


@pytest.mark.parametrize(("name", "before"), [("complete", 8), ("interrupted", 4), ("cut", 3)])
def test_predictions_are_made_again(tmp_path, stmine, name, before):
    """They do not say which text and images they belong to, so none of them is trusted, and none is lost."""
    folder = copied("classify", tmp_path)
    out, posts = folder / f"{name}.jsonl", (folder / "posts.jsonl").read_bytes()
    words = ("classify", "--file", folder / "posts.jsonl", "--out", out, "--json")
    report = stmine(*words)
    assert part(report, "judged", "done_before", "outdated", "removed", "skipped") == [8, 0, before, 0, 2]
    assert report["verdicts"] == {"fake": 4, "real": 4}
    for found, old in zip(rows(out), expected("classify")["verdicts"], strict=True):
        # the posts have labels of their own, beside which ours has another name
        assert part(found, "id", "line", "predicted_label", "model") == part(old, "id", "line", "label", "model")
        assert found["scores"] == pytest.approx(old["scores"], abs=1e-4)
    assert sorted(row["line"] for row in rows(folder / f"{name}.skipped.jsonl")) == [5, 7]
    assert (folder / "posts.jsonl").read_bytes() == posts
    assert part(stmine(*words), "judged", "done_before", "outdated") == [0, 8, 0]


def test_predictions_of_removed_posts_are_set_aside(tmp_path, stmine):
    folder = copied("classify", tmp_path)
    posts, out = folder / "posts.jsonl", folder / "complete.jsonl"
    old = rows(out)
    posts.write_text("".join(posts.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    report = stmine("classify", "--file", posts, "--out", out, "--json")
    assert part(report, "judged", "outdated", "removed") == [2, 2, 6]
    assert [row["id"] for row in rows(out)] == ["0-0", "0-1"]
    kept = rows(folder / "complete.jsonl.journal.jsonl")
    assert [row for row in old[2:] if row not in kept] == [] and len(kept) == len(old) + 2


# features


def features(stmine, folder: Path, out: Path) -> dict[str, Any]:
    words = ("--file", folder / "classify" / "posts.jsonl", "--out", out, "--dtype", "float16", "--json")
    return stmine("features", "mttv", *words)


@pytest.mark.parametrize(("name", "before"), [("complete", 7), ("interrupted", 2)])
def test_features_are_read_and_completed(tmp_path, stmine, name, before):
    copied("classify", tmp_path)
    out = copied("features", tmp_path) / name
    answers = {7 if key == "7" else key: numbers for key, numbers in expected("features")["complete"].items()}
    store = FeatureStore.open(out)
    present = [key for key in answers if key in store]
    assert len(present) == before
    for key in present:
        assert_is(store.get(key)["global_features"], answers[key], 1e-6)
    report = features(stmine, tmp_path, out)
    assert part(report, "added", "done_before", "without_image", "total") == [7 - before, before, 1, 7]
    assert len(report["skipped"]) == 2
    store = FeatureStore.open(out)
    for key, numbers in answers.items():
        assert_is(store.get(key)["global_features"], numbers, 2e-2)


def test_features_serve_the_model_they_are_of(tmp_path):
    store = FeatureStore.open(copied("features", tmp_path) / "complete")
    model, _ = load_mttv(device="cpu")
    store.require(model.config)


# detect


def detect(stmine, folder: Path, name: str, *, threshold: float = 0.3, fails: bool = False) -> Any:
    model = ROOT / "hub_cards" / "sat-indiscernible"
    words = ("--model", model, "--threshold", threshold, "--out", folder / name, "--json")
    return stmine("detect", folder / "hidden" / "images", *words, fails=fails)


@pytest.mark.parametrize(("name", "before"), [("complete", 6), ("interrupted", 4), ("cut", 3)])
def test_detections_are_completed(tmp_path, stmine, name, before):
    folder = copied("detect", tmp_path)
    images = contents(folder / "hidden")
    if name == "cut":
        shutil.copytree(folder / "interrupted", folder / name)
        journal = folder / name / "journal.jsonl"
        os.truncate(journal, journal.stat().st_size - 40)
    report = detect(stmine, folder, name)
    assert part(report, "images", "detected", "unchanged", "with_objects", "objects") == [6, 6 - before, before, 5, 8]
    assert report["skipped"] == [] and report["classes"] == {"camouflaged_object": 8}
    document = json.loads((folder / name / "detections.json").read_text())
    for found, old in zip(document, expected("detect")["detections"], strict=True):
        keys = [key for key in old if key not in ("bbox", "score")]
        assert part(found, *keys) == part(old, *keys)
        assert found["bbox"] == pytest.approx(old["bbox"], abs=0.1)
        assert found["score"] == pytest.approx(old["score"], abs=1e-3)
    assert contents(folder / "hidden") == images
    for image in json.loads((folder / name / "summary.json").read_text())["images"]:
        assert (folder / name / image["annotated"]).is_file()


def test_detections_with_another_threshold_are_refused(tmp_path, stmine):
    folder = copied("detect", tmp_path)
    before = contents(folder / "complete")
    message = detect(stmine, folder, "complete", threshold=0.2, fails=True)
    assert message.startswith("error: ") and "0.3" in message
    assert contents(folder / "complete") == before


# What was trained, exported and published


def answers(model, processor, text: str | None = None) -> Any:
    with Image.open(FORMATS / "index" / "images" / "airport_0.jpg") as file:
        image = file.convert("RGB")
    texts = {} if text is None else {"text": [text]}
    with torch.no_grad():
        return model(**processor(images=[image], return_tensors="pt", **texts))


def test_best_models_answer(tmp_path):
    runs, best = copied("checkpoints", tmp_path), expected("checkpoints")["best_before"]
    for name in ("fisvl", "fisvl_lora"):
        found = answers(*load_fisvl(runs / name / "best", device="cpu"), SENTENCES[0])
        assert_is(found.image_embeds, best[name]["image_embeds"], 1e-4)
        assert_is(found.text_embeds, best[name]["text_embeds"], 1e-4)
    text = "breaking : one blue circle found at the harbour"
    assert_is(answers(*load_mttv(runs / "mttv" / "best", device="cpu"), text).logits, best["mttv"]["logits"], 1e-4)
    found = answers(*load_sat(runs / "sat" / "best", device="cpu"))
    assert_is(found.logits, best["sat"]["logits"], 1e-4)
    assert_is(found.pred_boxes, best["sat"]["pred_boxes"], 1e-4)


def test_an_adapter_is_merged(tmp_path, stmine):
    best = copied("checkpoints", tmp_path) / "fisvl_lora" / "best"
    before = contents(best)
    stmine("merge", best, "--out", tmp_path / "merged", "--json")
    found = answers(*load_fisvl(tmp_path / "merged", device="cpu"), SENTENCES[0])
    assert_is(found.image_embeds, expected("checkpoints")["merged_fisvl_lora"]["image_embeds"], 1e-4)
    assert contents(best) == before


def hidden_answers(model, processor) -> Any:
    with Image.open(FORMATS / "detect" / "hidden" / "images" / "camouflage_0.jpg") as file:
        image = file.convert("RGB")
    with torch.no_grad():
        return model(processor(images=[image], return_tensors="pt")["pixel_values"])


def test_an_export_is_opened(tmp_path, stmine):
    pytest.importorskip("onnxruntime")
    folder, old = copied("export", tmp_path) / "sat-onnx", expected("export")["sat-onnx"]
    found = hidden_answers(*load_sat(folder, device="cpu"))
    assert_is(found.logits, old["logits"], 1e-3)
    assert_is(found.pred_boxes, old["pred_boxes"], 1e-3)
    images, out = FORMATS / "detect" / "hidden" / "images", tmp_path / "found"
    report = stmine("detect", images, "--model", folder, "--threshold", old["threshold"], "--out", out, "--json")
    assert part(report, "images", "with_objects", "classes") == [6, 1, old["detect"]["classes"]]
    (found,), (box,) = json.loads((out / "detections.json").read_text()), old["detections"]
    assert found["category"] == box["category"] and found["file_name"] == box["file_name"]
    assert found["bbox"] == pytest.approx(box["bbox"], abs=0.1)
    assert found["score"] == pytest.approx(box["score"], abs=1e-3)


def test_an_export_is_not_replaced(tmp_path, stmine):
    """It has no list of its files, so nobody knows which of them are the user's."""
    pytest.importorskip("onnx")
    folder, best = copied("export", tmp_path) / "sat-onnx", FORMATS / "checkpoints" / "sat" / "best"
    before = contents(folder)
    words = ("export", "sat", "--model", best, "--format", "onnx", "--size", 64, "--out", folder)
    message = stmine(*words, fails=True)
    assert "holds other files (config.json, model.onnx" in message
    after = contents(folder)
    assert {name: after[name] for name in before} == before


def test_a_repository_answers_with_its_own_code(tmp_path):
    from transformers import AutoModelForObjectDetection

    folder, answer = copied("repository", tmp_path) / "sat-toy", expected("repository")["answer"]
    model, processor = load_sat(folder, device="cpu")
    own = AutoModelForObjectDetection.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    for network in (model, own):
        found = hidden_answers(network, processor)
        assert_is(found.logits, answer["logits"], 1e-4)
        assert_is(found.pred_boxes, answer["pred_boxes"], 1e-4)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_repository_is_built_again(tmp_path, stmine, in_place):
    folder = copied("repository", tmp_path) / "sat-toy"
    before = contents(folder)
    (folder / "notes.txt").write_text("of the user")
    out = folder if in_place else tmp_path / "again" / "sat-toy"
    stmine("publish", "build", folder, "--out", out, "--json")
    after = contents(out)
    assert set(before) <= set(after)
    for name in ("model.safetensors", "LICENSE", "results/toy_camouflage_val.png"):
        assert after[name] == before[name], name
    results = "results/toy_camouflage_val.json"
    assert json.loads(after[results]) == with_present_names(json.loads(before[results]))
    assert (folder / "notes.txt").read_text() == "of the user"
    assert "notes.txt" not in json.loads(after["manifest.json"])
    if not in_place:
        assert {name: data for name, data in contents(folder).items() if name != "notes.txt"} == before


def test_an_adapter_is_not_merged_over_a_model(tmp_path, stmine):
    runs = copied("checkpoints", tmp_path)
    before = contents(runs)
    message = stmine("merge", runs / "fisvl_lora" / "best", "--out", runs / "fisvl" / "best", fails=True)
    assert "not replaced" in message
    after = contents(runs)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_a_repository_that_is_built_again_passes_its_check(tmp_path, stmine):
    folder = copied("repository", tmp_path) / "sat-toy"
    stmine("publish", "build", folder, "--out", folder, "--json")
    report = stmine("publish", "check", folder, "--json")
    assert report["passed"], report


@pytest.mark.parametrize(
    ("name", "kind"), [("toy-scenes", "captions"), ("toy-posts", "posts"), ("toy-camouflage", "boxes")]
)
def test_an_exported_data_set_is_read(tmp_path, name, kind):
    folder, old = copied("dataset_export", tmp_path) / name, expected("dataset_export")[name]
    stock = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in stock.items()} == old["rows"]
    assert stock["train"].column_names == old["columns"]
    first = stock["train"].cast_column("image", datasets.Image(decode=False))[0]
    assert hashlib.sha256(first.pop("image")["bytes"]).hexdigest() == old["first_image"]["sha256"]
    assert first == old["first"]
    for split, (count, columns) in old["as_own_data"].items():
        own = load_dataset(str(folder), kind=kind)[split]
        assert len(own) == count and set(columns) <= set(own.column_names)
        assert list(own[0]["image"].size) == old["first_image"]["size"]
        for column in set(columns) - {"image"}:
            assert own[0][column] == old["first"][column], column


# Training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [("fisvl", "fisvl"), ("mttv", "mttv"), ("sat", "sat"), ("fisvl_lora", "fisvl")]
)
def test_a_run_is_resumed(tmp_path, name, method):
    runs, old = copied("checkpoints", tmp_path), expected("checkpoints")[name]
    run, start, end = runs / name, old["checkpoint"], old["end"]
    (run / "results.json").unlink(missing_ok=True)
    state = run / f"checkpoint-{start}" / "trainer_state.json"
    history = json.loads(state.read_text())
    history["log_history"][0]["of_version_0_1"] = 1.0  # a run that starts anew would not have it
    state.write_text(json.dumps(history))
    script, config = ROOT / "examples" / f"train_{method}.py", f"{name}/config.yaml"
    command = [sys.executable, str(script), "--config", config, "--resume_from_checkpoint", "auto"]
    settings = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=runs, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    last = run / f"checkpoint-{end}"
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    assert history[0]["of_version_0_1"] == 1.0
    losses = {str(entry["step"]): entry["loss"] for entry in history if "loss" in entry}
    assert losses == pytest.approx(old["losses"], abs=1e-3)
    norms = {key: float(value.double().norm()) for key, value in load_file(last / old["weights_file"]).items()}
    assert norms == pytest.approx(old["final"]["norms"], abs=0.02)
    metric = old["metric"]
    best = json.loads((run / "results.json").read_text())["best"]
    assert best["step"] == old["best"]["step"]
    assert best[metric] == pytest.approx(old["best"][metric], abs=1e-3)
    of_best = json.loads((run / "best" / "results.json").read_text())["metrics"]
    assert of_best[metric.removeprefix("eval_")] == pytest.approx(old["best"][metric], abs=1e-3)


@pytest.mark.slow
def test_a_run_is_not_replaced_by_another(tmp_path):
    runs = copied("checkpoints", tmp_path)
    before = contents(runs / "fisvl")
    command = [sys.executable, str(ROOT / "examples" / "train_fisvl.py"), "--config", "fisvl/config.yaml"]
    settings = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=runs, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "--resume_from_checkpoint auto" in done.stderr
    after = contents(runs / "fisvl")
    assert {name: after[name] for name in before} == before
