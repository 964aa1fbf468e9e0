"""A run of SAT becomes a repository: loads as float32, says only what was measured, and its card runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from documents import ROOT, check_command, commands, python_blocks
from helpers_sat import tiny_sat
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForObjectDetection

from stmine_hf import SatForObjectDetection
from stmine_hf.cards.sat import IMAGE
from stmine_hf.cards.street_drawing import SIZE, draw_street
from stmine_hf.data.toy.toy_camouflage import draw_camouflage
from stmine_hf.hub.repository import PublishError
from stmine_hf.hub.sat_repository import SatRepository
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments

NAMES = {"sat-coco-small": ("person", "bus"), "sat-indiscernible": ("camouflaged_object", "person")}
DATA = {"sat-coco-small": "coco_small", "sat-indiscernible": "indiscernible"}


def write_data(folder: Path, names: tuple[str, ...]) -> Path:
    """Drawn animals under names of our choice, in the layout of COCO."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, seeds in (("train", range(2)), ("val", range(2, 8))):
        images, boxes = [], []
        for seed in seeds:
            image, animals = draw_camouflage(seed, 0.0, 96)
            image.save(folder / "images" / f"{seed}.png")
            source = ("CAMO", "SIRST")[seed % 2]
            images.append({"id": seed, "file_name": f"{seed}.png", "width": image.width, "height": image.height})
            images[-1] |= {"source": source}
            for animal in animals:
                box = {"bbox": list(animal.bbox), "area": animal.area, "iscrowd": 0, "image_id": seed}
                boxes.append({"id": len(boxes) + 1, "category_id": 1 + len(boxes) % 2, **box})
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
        document = {"images": images, "annotations": boxes, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return folder


def write_run(folder: Path, names: tuple[str, ...], settings: dict, results: dict) -> Path:
    model, processor = tiny_sat(
        id2label=dict(enumerate(names)), stem_channels=6, middle_channels=(3, 6, 9), attention="none", size=96
    )
    model.save_pretrained(folder / "best")
    processor.save_pretrained(folder / "best")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module", params=list(NAMES))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory, name) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / DATA[name], NAMES[name])


@pytest.fixture(scope="module")
def run(tmp_path_factory, name, data) -> Path:
    """What two rounds of distillation leave, and what a training after one does."""
    folder = tmp_path_factory.mktemp("run")
    distillation = {"dataset": "coco_json", "parent": "outputs/teacher/best", "data_dir": str(data)}
    distillation |= {"more": [str(data)], "images": ["/somewhere/fake_news"], "out": str(folder), "steps": 3000}
    distillation |= {"learning_rate": 5e-4, "warmup_steps": 200, "student": None, "seed": 0}
    distilled = {"images": {"own": 343, "others": 1519, "skipped": 0}, "seconds": 3600}
    distilled |= {"validation": {"ap": 0.1234}}
    first = write_run(tmp_path_factory.mktemp("first"), NAMES[name], distillation, distilled)
    if name == "sat-coco-small":
        settings, results = distillation | {"student": str(first / "best"), "steps": 1500, "seed": 1}, distilled
    else:
        settings = {"model_name_or_path": str(first / "best"), "dataset": "indiscernible"}
        settings |= {"data_dir": str(data), "output_dir": str(folder), "num_train_epochs": 24.0, "use_cpu": True}
        settings |= {"accelerator_config": {"a": None}, "seed": 3}
        results = {"best": {"step": 1234, "epoch": 21.0}, "training": {"train_runtime": 3000.0}}
    return write_run(folder, NAMES[name], settings, results)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    rows = [
        {"runtime": runtime, "model": model, "median_ms": time, "ratio": ratio}
        for runtime in ("onnx", "ncnn")
        for model, time, ratio in (("nanodet-m", 10.0, 1.0), ("sat", 7.5, 0.749))
    ]
    file = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    file.write_text(json.dumps({"threads": 1, "rounds": 9, "size": 320, "network": rows, "around_ms": {}}))
    return file


@pytest.fixture(scope="module")
def repository(tmp_path_factory, name, run, data, benchmark) -> Path:
    folder = tmp_path_factory.mktemp("hub_cards") / name
    compare = {"parent": run / "best", "benchmark": benchmark}
    SatRepository(folder, f"stmine-hf/{name}").from_run(run, data_dir=data, compare=compare, progress=False)
    return folder


@pytest.fixture(scope="module")
def card(repository) -> ModelCard:
    return ModelCard.load(repository / "README.md")


def results(repository: Path) -> dict:
    return json.loads((repository / "results" / f"{DATA[repository.name]}_val.json").read_text())


def test_weights_are_small_and_load_as_float32(run, repository):
    stored = load_file(repository / "model.safetensors")
    for key, tensor in stored.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), key
    trained = SatForObjectDetection.from_pretrained(run / "best").state_dict()
    loaded = AutoModelForObjectDetection.from_pretrained(repository, trust_remote_code=True).state_dict()
    assert loaded.keys() == trained.keys() == stored.keys()
    for key, tensor in loaded.items():
        torch.testing.assert_close(tensor, trained[key], rtol=2**-11, atol=2**-24)  # what float16 rounds


def test_repository_is_complete_names_no_machine_and_shows_no_photograph(name, repository, run):
    here = {file.relative_to(repository).as_posix() for file in repository.rglob("*") if file.is_file()}
    shipped = {file.name for file in (ROOT / "modeling" / "sat").glob("*_sat.py")}
    measured = f"results/{DATA[name]}_val"
    assert here == shipped | {
        "LICENSE", "README.md", "config.json", "manifest.json", "model.safetensors", IMAGE,
        "preprocessor_config.json", "requirements.txt",
        f"{measured}.json", f"{measured}.png", "results/parent.json", "results/benchmark.json",
        "training/config.yaml", "training/results.json",
        "training/first_round.yaml", "training/first_round.json",
        *((".eval_results/coco.yaml",) if name == "sat-coco-small" else ()),
    }  # fmt: skip
    for file in here:
        if not file.endswith((".safetensors", ".png", ".jpg")):
            text = (repository / file).read_text(encoding="utf-8")
            assert str(run) not in text and str(repository.parent) not in text and "/somewhere" not in text, file
    assert (repository / IMAGE).stat().st_size < 300_000


def test_settings_can_be_run_again(name, repository):
    file = repository / "training" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    if name == "sat-coco-small":
        assert (settings["data_dir"], settings["more"]) == ("data/coco_small", ["data/coco_small"])
        assert (settings["images"], settings["out"]) == (["data/fake_news"], "outputs/sat-coco-small")
        return
    groups = (SatModelArguments, SatDataArguments, SatTrainingArguments)
    model, data, args = parse_arguments(groups, ["--config", str(file)])
    assert (model.model_name_or_path, data.data_dir) == ("outputs/sat-indiscernible-first/best", "data/indiscernible")
    assert (args.output_dir, args.seed, args.num_train_epochs) == ("outputs/sat-indiscernible", 3, 24.0)


def test_the_way_to_the_weights_is_told_step_by_step(name, repository, card):
    """All commands in the order in which they run, each starting from what an earlier one leaves."""
    (block,) = (text for text in re.findall(r"```bash\n(.*?)```", card.text, re.DOTALL) if "distill_sat.py" in text)
    lines = block.splitlines()[1:]
    assert lines[0] == "stmine convert sat nanodet_m.safetensors outputs/" + (
        "teacher/best" if name == "sat-coco-small" else "nanodet-m-coco"
    )
    if name == "sat-coco-small":
        assert f"--out outputs/{name}-first" in lines[1] and f"--student outputs/{name}-first/best" in lines[2]
    else:
        assert lines[1].endswith("--model_name_or_path outputs/nanodet-m-coco --output_dir outputs/teacher")
        assert "--parent outputs/teacher/best" in lines[2] and lines[2].endswith(f"--out outputs/{name}-first")
        assert lines[3].endswith(f"--config hub_cards/{name}/training/config.yaml")
        assert "AP after it: 0.1234" in card.text


def test_a_start_that_is_gone_leaves_no_path_of_a_machine(name, run, tmp_path, monkeypatch):
    """And a config.yaml that happens to lie where the command runs is no earlier round."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("parent: outputs/other\n")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    key = "student" if name == "sat-coco-small" else "model_name_or_path"
    for number, start in enumerate(("/somewhere/gone/best", None)):
        repository = SatRepository(tmp_path / str(number) / name)
        (repository.folder / "training").mkdir(parents=True)
        repository.record_training(run, settings | {key: start}, None)
        assert [file.name for file in sorted((repository.folder / "training").iterdir())] == [
            "config.yaml",
            "results.json",
        ]
        assert "/somewhere" not in (repository.folder / "training" / "config.yaml").read_text()


def test_without_a_first_round_there_is_nothing_to_tell_of_one(name, repository, tmp_path):
    other = shutil.copytree(repository, tmp_path / name)
    for kind in ("yaml", "json"):
        (other / "training" / f"first_round.{kind}").unlink()
    text = SatRepository(other).writer.card().text()
    if name == "sat-coco-small":
        assert text.count("python examples/distill_sat.py") == 1 and "in a second round" not in text
    else:
        assert "same data and schedule" in text and "distill_sat.py" not in text and "its teacher" not in text


def test_results_say_when_on_what_and_how(name, repository):
    measured = results(repository)
    assert (measured["model"], measured["split"], measured["images"]) == (name, "val", 6)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", measured["date"]) and measured["hardware"]
    assert measured["command"].startswith(f"stmine evaluate sat --model stmine-hf/{name} --dataset ")


def test_header_states_license_task_and_figures(card, repository):
    header = card.data
    assert (header.license, header.library_name, header.language) == ("apache-2.0", "transformers", ["en", "zh"])
    assert header.pipeline_tag == "object-detection" and {"custom_code", "sat"} <= set(header.tags)
    metrics = results(repository)["metrics"]
    found = {entry.metric_name: entry.metric_value for entry in header.eval_results}
    assert found == {label: round(metrics[label.lower()], 4) for label in ("AP", "AP50", "AP75")}


def test_card_says_that_it_is_a_reconstruction_and_warns_of_finding_people(card):
    assert "published a README and a demo script, but never the network" in card.text
    assert "It finds people." in card.text and "重建" in card.text and "能检测人" in card.text


def test_tables_show_the_measured_figures(name, card, repository):
    metrics = results(repository)["metrics"]
    other = "its parent and teacher" if name == "sat-coco-small" else "its teacher"
    for title in (r"\*\*this model\*\*", f"NanoDet-m, {other}"):  # here the same weights
        (row,) = re.findall(rf"^\| {title} \|(.*)\|$", card.text, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[:3] == [f"{metrics[key]:.4f}" for key in ("ap", "ap50", "ap75")]
        assert (
            cells[6] == f"{sum(p.numel() for p in SatForObjectDetection.from_pretrained(repository).parameters()):,}"
        )
    assert ("| CAMO |" in card.text) == (name == "sat-indiscernible")
    for runtime in ("onnx", "ncnn"):
        assert f"| {runtime} | 10.00 | 7.50 | 0.749 |" in card.text


def test_card_holds_nothing_unfilled_and_its_links_lead_somewhere(name, card, repository):
    assert not re.search(r"\{[{%]|[}%]\}|\bNone\b|Undefined", card.text)
    assert f"| `model.safetensors` | {(repository / 'model.safetensors').stat().st_size:,} |" in card.text
    if name == "sat-coco-small":
        told = "3,000 and, in a second round, 1,500 steps on random views of 343 train images of coco_small and 1,519"
        assert told in card.text and "120 minutes on one core" in card.text
        assert "known after the first round (AP 0.1234)" in card.text
        assert "--student outputs/sat-coco-small-first/best --steps 1500 " in card.text
    else:
        assert "was that of step 1,234 (epoch 21); the process that finished it ran 50 minutes." in card.text
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", card.text):
        assert (repository / link).is_file(), link


def test_card_does_without_comparison_and_benchmark(run, data, name, tmp_path):
    SatRepository(tmp_path / name).from_run(run, data_dir=data, progress=False)
    text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
    assert "## Speed" not in text and "| NanoDet-m," not in text and "Undefined" not in text


def test_card_renders_again_from_its_folder_alone(card, repository):
    assert SatRepository(repository).writer.card().text() == (repository / "README.md").read_text(encoding="utf-8")


def test_rebuild_brings_back_code_and_card_and_leaves_the_rest(repository, tmp_path):
    folder = tmp_path / repository.name
    shutil.copytree(repository, folder)
    (folder / "losses_sat.py").write_text("")
    (folder / "README.md").write_text("")
    SatRepository(folder, f"stmine-hf/{repository.name}").rebuild()
    for file in (path.relative_to(repository) for path in repository.rglob("*") if path.is_file()):
        assert (folder / file).read_bytes() == (repository / file).read_bytes(), file


def test_commands_of_the_card_exist(repository):
    lines = commands(repository / "README.md")
    assert any("evaluate sat" in line for line in lines) and any("stmine detect" in line for line in lines)
    for line in lines:
        check_command(line)


def test_python_of_the_card_runs(repository, tmp_path):
    draw_street().save(tmp_path / "image.jpg")
    (tmp_path / "hub_cards").mkdir()
    (tmp_path / "hub_cards" / repository.name).symlink_to(repository)
    blocks = python_blocks(repository / "README.md")
    assert len(blocks) == 2
    code = "".join(f"exec(compile({block!r}, 'block {number}', 'exec'))\n" for number, block in enumerate(blocks))
    subprocess.run(
        [sys.executable, "-c", code.replace("stmine-hf/sat", "hub_cards/sat")],
        cwd=tmp_path,
        check=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def test_street_is_always_the_same():
    street = draw_street()
    assert street.size == SIZE and np.array_equal(np.asarray(street), np.asarray(draw_street()))
    assert np.asarray(street)[63, 90].tolist()[0] > 150  # the sign's red


def test_other_models_get_a_card_that_says_what_their_files_tell(name, run, data, tmp_path):
    """Data of one's own, and a network of another budget: nothing of the project's own models is said of them."""
    own_data = tmp_path / "my_boxes"
    shutil.copytree(data, own_data)
    settings = {"dataset": "coco_json", "data_dir": str(own_data), "model_name_or_path": "/somewhere/start", "seed": 7}
    write_run(tmp_path / "run", NAMES[name], settings, {})
    SatRepository(tmp_path / "mine").from_run(tmp_path / "run", data_dir=own_data, progress=False)
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "unknown" and "Flickr" not in card.text and "seed: 7" in card.text
    command = "stmine evaluate sat --model mine --dataset coco_json --data-dir data/my_boxes --split val"
    assert command in card.text and "model_name_or_path: outputs/start" in card.text
    figures = json.loads((tmp_path / "mine" / "results" / "my_boxes_val.json").read_text())["metrics"]
    assert f"| `ap50` | {figures['ap50']:.4f} |" in card.text


def test_unknown_comparison_is_refused(run, tmp_path):
    with pytest.raises(PublishError, match=r"nothing to compare named teacher \(parent: folder of a NanoDet-m"):
        SatRepository(tmp_path / "out").from_run(run, compare={"teacher": run})
