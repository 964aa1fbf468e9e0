"""A training run becomes a repository: loads as float32, says only what was measured, and its card runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from documents import ROOT, check_command, commands, python_blocks
from helpers import save_tiny_fisvl, tiny_config, tiny_processor
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModel, TimmWrapperConfig

from stmine_hf import FisvlModel
from stmine_hf.data.toy.toy_scenes import draw_scene, write_scenes
from stmine_hf.hub.fisvl_repository import FisvlRepository
from stmine_hf.hub.model_files import write_model
from stmine_hf.hub.repository import PublishError
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments

REPO = "stmine-hf/fisvl-lite-rsicd"
SHIPPED = ROOT / "hub_cards" / "fisvl-lite-rsicd"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "rsicd"
    write_scenes(folder, count=24)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    """What a training of the lite model leaves: its image encoder, a tiny rest, random weights."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    vision = TimmWrapperConfig(architecture="tf_efficientnet_lite0", do_pooling=False)
    config = tiny_config(
        vision_config=vision, vision_width=1280, share_encoder=True, sensing_stage=1, sensing_in_channels=24
    )
    FisvlModel(config).save_pretrained(folder / "best")
    tiny_processor(64).save_pretrained(folder / "best")
    settings = {
        "model_name_or_path": "/somewhere/fisvl-lite-start",
        "data_dir": str(data),
        "output_dir": str(folder),
        "seed": 3,
    }
    settings |= {"num_train_epochs": 4.0, "learning_rate": 4e-4, "use_cpu": True, "accelerator_config": {"a": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    best = {"best": {"epoch": 3.0, "step": 1234}, "training": {"train_runtime": 3000.0}}
    (folder / "results.json").write_text(json.dumps(best))
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory, run, data) -> Path:
    folder = tmp_path_factory.mktemp("hub_cards") / "fisvl-lite-rsicd"
    FisvlRepository(folder, REPO).from_run(run, data_dir=data, progress=False)
    return folder


@pytest.fixture(scope="module")
def card(repository) -> ModelCard:
    return ModelCard.load(repository / "README.md")


def results(repository: Path) -> dict:
    return json.loads((repository / "results" / "rsicd_val.json").read_text())


def test_weights_are_small_and_load_as_float32(run, repository):
    stored = load_file(repository / "model.safetensors")
    for name, tensor in stored.items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name
    trained = FisvlModel.from_pretrained(run / "best").state_dict()
    loaded = AutoModel.from_pretrained(repository, trust_remote_code=True).state_dict()
    assert loaded.keys() == trained.keys() == stored.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == trained[name].dtype, name
        torch.testing.assert_close(tensor, trained[name], rtol=2**-11, atol=2**-24)  # what float16 rounds


def test_repository_is_complete_and_names_no_machine(repository, run):
    here = {file.relative_to(repository).as_posix() for file in repository.rglob("*") if file.is_file()}
    shipped = {file.name for file in (ROOT / "modeling" / "fisvl").glob("*_fisvl.py")}
    assert here == shipped | {
        ".eval_results/rsicd.yaml", "LICENSE", "README.md", "config.json", "manifest.json", "model.safetensors",
        "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json",
        "images/search.jpg", "processor_config.json", "requirements.txt",
        "results/rsicd_val.json", "results/rsicd_val.png", "tokenizer.json",
        "tokenizer_config.json", "training/config.yaml", "training/results.json",
    }  # fmt: skip
    assert (repository / "images" / "search.jpg").stat().st_size < 200_000
    assert (repository / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for file in here:
        if not file.endswith((".safetensors", ".jpg", ".png")):
            text = (repository / file).read_text(encoding="utf-8")
            assert str(run) not in text and str(repository.parent) not in text, file


def test_requirements_have_the_floors_of_the_package(repository):
    lines = (repository / "requirements.txt").read_text().split()
    assert [line.partition(">=")[0] for line in lines] == ["torch", "torchvision", "transformers", "pillow", "timm"]
    for line in lines:
        assert f'"{line}"' in (ROOT / "pyproject.toml").read_text(), f"{line}: install the package again"


def test_training_settings_can_be_trained_again(repository):
    groups = (FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments)
    model, data, args = parse_arguments(groups, ["--config", str(repository / "training" / "config.yaml")])
    assert (model.model_name_or_path, data.data_dir) == ("outputs/fisvl-lite-start", "data/rsicd")
    assert (args.output_dir, args.seed, args.num_train_epochs) == ("outputs/fisvl-lite-rsicd", 3, 4.0)


def test_results_say_when_on_what_and_how(repository):
    measured = results(repository)
    assert (measured["model"], measured["split"], measured["images"]) == ("fisvl-lite-rsicd", "val", 4)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", measured["date"]) and measured["hardware"]
    assert measured["command"].startswith(f"stmine evaluate fisvl --model {REPO} ")


def test_header_states_license_task_and_every_figure(card, repository):
    header = card.data
    assert (header.license, header.library_name, header.language) == ("apache-2.0", "transformers", ["en"])
    assert header.pipeline_tag == "zero-shot-image-classification"
    assert {"custom_code", "remote-sensing", "image-text-retrieval"} <= set(header.tags)
    metrics = results(repository)["metrics"]
    assert sorted(entry.metric_value for entry in header.eval_results) == sorted(
        round(value, 2) for value in metrics.values()
    )
    assert len({(entry.metric_type, entry.metric_name) for entry in header.eval_results}) == len(metrics)


def test_table_shows_the_measured_figures(card, repository):
    metrics = results(repository)["metrics"]
    keys = ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")
    for label, prefix in (("paper", ""), ("same text", "same_text_")):
        (row,) = re.findall(rf"^\| {label} \|(.*)\|$", card.text, re.MULTILINE)
        assert [cell.strip(" *") for cell in row.split("|")] == [f"{metrics[prefix + key]:.2f}" for key in keys]


def test_card_holds_nothing_unfilled_and_its_links_lead_somewhere(card, repository):
    assert not re.search(r"\{[{%]|[}%]\}|\bNone\b.*\bNone\b|Undefined", card.text)
    assert f"| `model.safetensors` | {(repository / 'model.safetensors').stat().st_size:,} |" in card.text
    assert (
        "the best validation epoch was 3 of 4 (step 1,234); the process that finished it ran 50 minutes." in card.text
    )
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", card.text):
        assert (repository / link).is_file(), link


def test_departures_are_those_of_the_config(card):
    for row in ("| `share_encoder` | False | True |", "| `sensing_in_channels` | 64 | 24 |"):
        assert row in card.text
    assert "`graph_steps`" not in card.text  # equal to the released model's


def test_card_renders_again_from_its_folder_alone(card, repository):
    assert FisvlRepository(repository).writer.card().text() == (repository / "README.md").read_text(encoding="utf-8")


def test_rebuild_brings_back_code_and_card_and_leaves_the_rest(repository, tmp_path):
    folder = tmp_path / repository.name
    shutil.copytree(repository, folder)
    (folder / "losses_fisvl.py").write_text("")
    (folder / "README.md").write_text("")
    FisvlRepository(folder, REPO).rebuild()
    for file in (path.relative_to(repository) for path in repository.rglob("*") if path.is_file()):
        assert (folder / file).read_bytes() == (repository / file).read_bytes(), file


def test_commands_of_the_card_exist(repository):
    lines = commands(repository / "README.md")
    assert any("evaluate fisvl" in line for line in lines) and any("train_fisvl" in line for line in lines)
    for line in lines:
        check_command(line)


def test_python_of_card_and_readme_runs(repository, data, tmp_path):
    """Every Python block, one after the other, offline, where the ids and folders it names are ours."""
    draw_scene("airport", 1)[0].save(tmp_path / "image.jpg")
    write_scenes(tmp_path / "scenes", count=4, size=64)
    for name, target in {"hub_cards/fisvl-lite-rsicd": repository, "data/rsicd": data}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    shown = [*python_blocks("README.md"), *python_blocks("examples/guides/search.md")]
    (tmp_path / "my_images").symlink_to(tmp_path / "scenes")
    others = ("pipeline", "PostClassifier", "Detector")
    blocks = [*python_blocks(repository / "README.md")]
    blocks += [block for block in shown if not any(name in block for name in others)]
    if find_spec("sentence_transformers") is None:
        blocks = [block for block in blocks if "sentence_transformers" not in block]
    assert len(blocks) >= 5
    # a block that fails names its own lines; the default model is the shipped one
    code = "import stmine_hf.loading\nstmine_hf.loading.published = 'hub_cards/{}'.format\n"
    code += "".join(f"exec(compile({block!r}, 'block {number}', 'exec'))\n" for number, block in enumerate(blocks))
    subprocess.run(
        [sys.executable, "-c", code.replace(REPO, "hub_cards/fisvl-lite-rsicd")],
        cwd=tmp_path,
        check=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def test_weights_beyond_float16_are_refused(tmp_path):
    save_tiny_fisvl(tmp_path / "model")
    model = FisvlModel.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.head_img.weight[0, 0] = 1e6
    with pytest.raises(PublishError, match=r"head_img\.weight has values that are not finite in float16"):
        write_model(tmp_path / "out", model, tiny_processor())


def test_other_models_get_a_card_that_says_what_their_files_tell(run, data, tmp_path):
    """Trained on the same data, with another encoder: nothing of the project's own model is said of it."""
    save_tiny_fisvl(tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").write_text("dataset: rsicd\nseed: 7\nmodel_name_or_path: someone/base\n")
    repository = FisvlRepository(tmp_path / "mine")
    (table,) = repository.from_run(tmp_path / "run", data_dir=data, license="mit", progress=False)
    assert table.row_count
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "mit" and "Weights: mit" in card.text and card.data.base_model == "someone/base"
    assert "EfficientNet" not in card.text and "seed: 7" in card.text and "someone/base" in card.text
    figure = json.loads((tmp_path / "mine" / "results" / "rsicd_val.json").read_text())["metrics"]["r_mean"]
    assert f"| `r_mean` | {figure:.4f} |" in card.text
    assert "timm" not in (tmp_path / "mine" / "requirements.txt").read_text()
    assert FisvlRepository(tmp_path / "mine").writer.card().text() == (tmp_path / "mine" / "README.md").read_text()


def test_unmeasured_run_says_so_and_asks_for_the_license(run, tmp_path):
    FisvlRepository(tmp_path / "mine").from_run(run)
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "unknown" and card.data.eval_results is None
    assert "Nothing was measured" in card.text and "did not state a license" in card.text


@pytest.mark.parametrize(
    ("compare", "data_dir", "message"),
    [({"parent": "x"}, "y", "nothing to compare named parent"), ({}, None, r"expected a training run with best/")],
)
def test_what_cannot_be_built_is_refused(tmp_path, compare, data_dir, message):
    with pytest.raises(PublishError, match=message):
        FisvlRepository(tmp_path / "out").from_run(tmp_path, data_dir=data_dir, compare=compare)
    assert not (tmp_path / "out").exists()
