"""A training run of MTTV becomes a repository: loads as float32, says only what was measured, and its card runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from documents import ROOT, check_command, commands, python_blocks
from helpers_mttv import save_tiny_mttv, tiny_mttv_config, tiny_mttv_processor
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, TimmWrapperConfig

from stmine_hf import MttvForSequenceClassification
from stmine_hf.cards.files import files_in
from stmine_hf.cards.mttv import IMAGE
from stmine_hf.hub.mttv_repository import MttvRepository
from stmine_hf.hub.repository import PublishError
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments

REPO = "stmine-hf/mttv-lite-weibo"
SHIPPED = ROOT / "hub_cards" / "mttv-lite-weibo"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Weibo's layout: posts of which a few have their image, and one has two."""
    folder = tmp_path_factory.mktemp("data") / "weibo"
    (folder / "images").mkdir(parents=True)

    def post(number: int) -> dict[str, str]:
        if number % 5 == 0:
            Image.new("RGB", (20, 30), (number, 9, 9)).save(folder / "images" / f"{number}.jpg")
        words = chr(0x4E00 + 40 * number) * 3 + chr(0x4E00 + 40 * number + 1) * 4
        label = ("fake", "real")[number % 2]
        return {"id": f"{number}", "label": label, "text": words, "img": f"images/{number}.jpg"}

    for name, numbers in {"train": range(20), "dev": range(20, 24), "test": range(24, 34)}.items():
        lines = [json.dumps(post(number), ensure_ascii=False) for number in numbers]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    more = post(5) | {"id": "again", "split": "train"}
    (folder / "more.jsonl").write_text(json.dumps(more, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    """What a training of the lite model leaves: its visual encoder, a tiny rest, random weights."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    stages = {"features_only": True, "out_indices": (1,)}
    vision = TimmWrapperConfig(architecture="tf_efficientnet_lite0", model_args=stages)
    config = tiny_mttv_config(
        vision_config=vision, vision_width=24, sequence_pooling="mean", attend_missing=False, scaling_mode="shift"
    )
    MttvForSequenceClassification(config).save_pretrained(folder / "best")
    tiny_mttv_processor().save_pretrained(folder / "best")
    settings = {
        "model_name_or_path": "/somewhere/mttv-lite-start",
        "data_dir": str(data),
        "output_dir": str(folder),
        "seed": 3,
    }
    settings |= {"dataset": "weibo", "dataset_options": {"validation": "events", "validation_share": 0.2}}
    settings["dataset_options"]["extra"] = "more.jsonl"
    settings |= {"num_train_epochs": 1.5, "group_balance": 0.5, "use_cpu": True, "accelerator_config": {"a": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    best = {"best": {"epoch": 1.0, "step": 1234}, "training": {"train_runtime": 3000.0}}
    (folder / "results.json").write_text(json.dumps(best))
    return folder


@pytest.fixture(scope="module")
def baselines(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("baselines") / "baselines.json"
    metrics = {"accuracy": 0.51, "macro_f1": 0.34, "recall_fake": 0.0, "recall_real": 1.0, "ece": 0.01}
    command = "python examples/baseline_weibo.py --data_dir data/weibo --split test"
    file.write_text(json.dumps({"command": command, "trained_on": 24, "scores": {"majority class": metrics}}))
    return file


@pytest.fixture(scope="module")
def repository(tmp_path_factory, run, data, baselines) -> Path:
    folder = tmp_path_factory.mktemp("hub_cards") / "mttv-lite-weibo"
    compare = {"baselines": baselines, "released": run}
    MttvRepository(folder, REPO).from_run(run, data_dir=data, compare=compare, progress=False)
    return folder


@pytest.fixture(scope="module")
def card(repository) -> ModelCard:
    return ModelCard.load(repository / "README.md")


def results(repository: Path, split: str = "test") -> dict:
    return json.loads((repository / "results" / split / "results.json").read_text())


def test_weights_are_small_and_load_as_float32(run, repository):
    stored = load_file(repository / "model.safetensors")
    for name, tensor in stored.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name
    trained = MttvForSequenceClassification.from_pretrained(run / "best").state_dict()
    loaded = AutoModelForSequenceClassification.from_pretrained(repository, trust_remote_code=True).state_dict()
    assert loaded.keys() == trained.keys() == stored.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == trained[name].dtype, name
        torch.testing.assert_close(tensor, trained[name], rtol=2**-11, atol=2**-24)  # what float16 rounds


def test_repository_is_complete_and_names_no_machine(repository, run):
    here = set(files_in(repository))
    shipped = {file.name for file in (ROOT / "modeling" / "mttv").glob("*_mttv.py")}
    measured = {"results.json", "confusion_matrix.png", "reliability.png"}
    assert here == shipped | {f"results/{split}/{file}" for split in ("val", "test") for file in measured} | {
        "LICENSE", "README.md", "config.json", "manifest.json", "model.safetensors", IMAGE, "processor_config.json",
        "requirements.txt", "results/baselines.json", "results/released.json", "tokenizer.json",
        "tokenizer_config.json", "training/config.yaml", "training/results.json",
    }  # fmt: skip
    for file in here:
        if not file.endswith((".safetensors", ".png")):
            text = (repository / file).read_text(encoding="utf-8")
            assert str(run) not in text and str(repository.parent) not in text, file


def test_training_settings_can_be_trained_again(repository):
    groups = (MttvModelArguments, MttvDataArguments, MttvTrainingArguments)
    model, data, args = parse_arguments(groups, ["--config", str(repository / "training" / "config.yaml")])
    assert (model.model_name_or_path, data.data_dir) == ("outputs/mttv-lite-start", "data/weibo")
    assert (args.output_dir, args.seed, args.num_train_epochs) == ("outputs/mttv-lite-weibo", 3, 1.5)


def test_each_split_is_measured_on_its_own_posts(repository):
    """Further images of the same posts take part in training alone: those of test are no test posts."""
    assert (results(repository)["rows"], results(repository)["images"]) == (10, 2)
    assert 1 <= results(repository, "val")["rows"] <= 5
    assert json.loads((repository / "training" / "results.json").read_text())["train_posts"] >= 20
    for split in ("val", "test"):
        measured = results(repository, split)
        assert measured["command"].startswith(f"stmine evaluate mttv --model {REPO} ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", measured["date"]) and measured["hardware"]


def test_header_states_license_task_and_figures(card, repository):
    header = card.data
    assert (header.license, header.library_name, header.language) == ("apache-2.0", "transformers", ["zh"])
    assert {"custom_code", "fake-news-detection"} <= set(header.tags)
    found = {(entry.dataset_split, entry.metric_type): entry.metric_value for entry in header.eval_results}
    for split in ("val", "test"):
        metrics = results(repository, split)["metrics"]
        for kind, key in {"accuracy": "accuracy", "f1": "macro_f1", "ece": "ece"}.items():
            assert found[split, kind] == round(metrics[key], 4)


def test_tables_show_the_measured_figures(card, repository):
    metrics = results(repository)["metrics"]
    keys = ("accuracy", "macro_f1", "recall_fake", "recall_real", "ece")
    for title in (r"\*\*this model\*\*", "released MTTV recipe, same start"):  # here the same weights
        (row,) = re.findall(rf"^\| {title} \|(.*)\|$", card.text, re.MULTILINE)
        assert [cell.strip() for cell in row.split("|")] == [f"{metrics[key]:.4f}" for key in keys], title
    assert "| majority class | 0.5100 | 0.3400 | 0.0000 | 1.0000 | 0.0100 |" in card.text
    for label in ("fake", "real"):
        (row,) = re.findall(rf"^\| {label} \|(.*)\|$", card.text, re.MULTILINE)
        expected = [f"{metrics[f'{score}_{label}']:.4f}" for score in ("precision", "recall", "f1")]
        assert [cell.strip() for cell in row.split("|")] == [*expected, "5"]


def test_card_holds_nothing_unfilled_and_its_links_lead_somewhere(card, repository):
    assert not re.search(r"\{[{%]|[}%]\}|\bNone\b.*\bNone\b|Undefined", card.text)
    assert f"| `model.safetensors` | {(repository / 'model.safetensors').stat().st_size:,} |" in card.text
    assert "was that of step 1,234 (epoch 1.00 of 1.5)" in card.text
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", card.text):
        assert (repository / link).is_file(), link


def test_departures_are_those_of_the_config(card):
    for row in ("| `sequence_pooling` | first | mean |", "| `attend_missing` | True | False |"):
        assert row in card.text
    assert "`global_pooling`" not in card.text  # equal to the released model's


def test_rebuild_brings_back_code_and_card_and_leaves_the_rest(repository, tmp_path):
    folder = tmp_path / repository.name
    shutil.copytree(repository, folder)
    (folder / "pipeline_mttv.py").write_text("")
    (folder / "README.md").write_text("")
    MttvRepository(folder, REPO).rebuild()
    for file in (path.relative_to(repository) for path in repository.rglob("*") if path.is_file()):
        assert (folder / file).read_bytes() == (repository / file).read_bytes(), file


def test_commands_of_the_card_exist(repository):
    lines = commands(repository / "README.md")
    assert any("evaluate mttv" in line for line in lines) and any("train_mttv" in line for line in lines)
    for line in lines:
        check_command(line)


def test_python_of_the_card_runs(repository, tmp_path):
    """Every Python block, one after the other, offline, where the ids it names are ours."""
    Image.new("RGB", (30, 20), "red").save(tmp_path / "image.jpg")
    (tmp_path / "hub_cards").mkdir()
    (tmp_path / "hub_cards" / "mttv-lite-weibo").symlink_to(repository)
    blocks = python_blocks(repository / "README.md")
    assert len(blocks) == 2
    code = "".join(f"exec(compile({block!r}, 'block {number}', 'exec'))\n" for number, block in enumerate(blocks))
    subprocess.run(
        [sys.executable, "-c", code.replace(REPO, "hub_cards/mttv-lite-weibo")],
        cwd=tmp_path,
        check=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def test_other_models_get_a_card_that_says_what_their_files_tell(tmp_path):
    save_tiny_mttv(tmp_path / "run" / "best")
    settings = {"dataset": "toy_posts", "seed": 7, "dataset_options": {"count": 40}}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    assert (
        len(MttvRepository(tmp_path / "mine").from_run(tmp_path / "run", progress=False)) == 2
    )  # drawn: needs no folder
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "unknown" and card.data.language is None
    assert {entry.dataset_split for entry in card.data.eval_results} == {"val", "test"}
    command = "stmine evaluate mttv --model mine --dataset toy_posts --split test --option count=40"
    assert command in card.text and "EfficientNet" not in card.text and "seed: 7" in card.text
    for line in commands(tmp_path / "mine" / "README.md"):
        check_command(line)


def test_comparison_without_data_is_refused(run, tmp_path):
    with pytest.raises(PublishError, match="A comparison needs measurements"):
        MttvRepository(tmp_path / "out").from_run(run, compare={"released": run})
