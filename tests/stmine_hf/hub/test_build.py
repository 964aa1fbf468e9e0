"""`stmine publish build`: what it takes, writes and leaves alone; and the repositories of this checkout."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from documents import ROOT
from helpers_sat import save_tiny_sat
from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForObjectDetection, AutoModelForSequenceClassification

from stmine_hf.cards.files import MANIFEST, files_in
from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.evaluation.detection_budget import budget
from stmine_hf.hub.build import build, repository_at
from stmine_hf.hub.check import check
from stmine_hf.hub.model_files import code_files
from stmine_hf.hub.repository import PublishError, read_manifest, write_manifest
from stmine_hf.loading import load_fisvl, published
from stmine_hf.modeling.sat.configuration_sat import SatConfig
from stmine_hf.outputs import Outputs

WEIGHTS_LIMIT = 30_000_000  # bytes that a checkout carries for one model
SHIPPED = sorted(path.parent for path in (ROOT / "hub_cards").glob("*/manifest.json"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    return save_tiny_sat(tmp_path_factory.mktemp("model") / "converted")


@pytest.fixture(scope="module")
def repository(tmp_path_factory, converted) -> Path:
    out = tmp_path_factory.mktemp("hub") / "my-detector"
    build(converted, out, license="cc-by-4.0")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def test_a_model_folder_becomes_a_repository_with_the_same_weights(converted, repository):
    assert {*files_in(repository)} == {
        *code_files("sat"), "LICENSE", "README.md", "config.json", "manifest.json", "model.safetensors",
        "preprocessor_config.json", "requirements.txt",
    }  # fmt: skip
    before, after = (load_file(folder / "model.safetensors") for folder in (converted, repository))
    assert before.keys() == after.keys() and all(after[name].equal(before[name]) for name in before)
    card = ModelCard.load(repository / "README.md")
    assert card.data.license == "cc-by-4.0" and "stored in float32" in card.text


def test_manifest_lists_every_file_with_size_and_hash(repository):
    listed = read_manifest(repository)
    assert {*listed, MANIFEST} == {*files_in(repository)}
    for name, entry in listed.items():
        data = (repository / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}, name


def test_leftovers_of_other_tools_are_no_files_of_the_repository(tmp_path):
    for name in (".git/HEAD", ".gitattributes", ".cache/huggingface/x", "__pycache__/a.pyc", ".eval_results/a.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_in(tmp_path) == [".eval_results/a.yaml"]


def test_building_again_changes_nothing_and_keeps_the_license(repository, tmp_path):
    again = tmp_path / repository.name
    build(repository, again)
    assert contents(again) == contents(repository)
    build(again, again)  # in place
    assert contents(again) == contents(repository)
    assert [path.name for path in tmp_path.iterdir()] == [repository.name]


def test_code_of_old_builds_goes(repository, tmp_path):
    old = tmp_path / repository.name
    shutil.copytree(repository, old)
    (old / "losses_sat.py").write_text("")
    (old / "forgotten_sat.py").write_text("")
    write_manifest(old)
    build(old, old)
    assert contents(old) == contents(repository)


def test_a_clone_of_the_hub_is_built_into_and_keeps_all_that_no_build_wrote(converted, repository, tmp_path):
    """With its history, links, empty folders and notes; only files of the list in manifest.json are replaced."""
    out = tmp_path / repository.name
    shutil.copytree(repository, out)
    kept = {".git/HEAD": "ref", ".git/objects/ab/cd": "history", ".cache/huggingface/x": "", "notes.txt": "mine"}
    for name, text in (kept | {".gitattributes": "*.safetensors filter=lfs"}).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (out / "empty").mkdir()
    (out / "link").symlink_to(tmp_path)
    (out / "forgotten_sat.py").write_text("")
    write_manifest(out)
    listed = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({name: entry for name, entry in listed.items() if name != "notes.txt"}))
    build(converted, out, license="cc-by-4.0")
    assert {name: (out / name).read_text() for name in kept} == kept
    assert (out / "empty").is_dir() and (out / "link").is_symlink() and not (out / "forgotten_sat.py").exists()
    assert {*read_manifest(out), MANIFEST, "notes.txt"} == {*files_in(out)}


@pytest.mark.parametrize("name", ["README.md", "modeling_sat.py", "results", "manifest.json"])
def test_a_file_in_the_way_that_no_build_wrote_stops_the_build_by_name(name, converted, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    if name == "results":
        build(converted, out)
    else:
        with pytest.raises(StmineError, match=f"{name} exists and is not listed as written by stmine"):
            build(converted, out)
        assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine"


def test_a_file_that_somebody_changed_after_the_build_is_not_replaced(repository, tmp_path):
    out = tmp_path / repository.name
    shutil.copytree(repository, out)
    (out / "README.md").write_text((out / "README.md").read_text() + "\nMy own words.\n")
    before = contents(out)
    with pytest.raises(StmineError, match=r"README\.md exists and is not listed as written by stmine"):
        build(repository, out)
    assert contents(out) == before
    assert not [*out.glob(".stmine*"), *out.glob(".lock")]


def test_the_card_that_the_hub_makes_of_a_form_is_replaced(converted, tmp_path):
    out = tmp_path / "clone"
    (out / ".git").mkdir(parents=True)
    (out / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (out / "README.md").write_text("---\nlicense: mit\n---\n")
    build(converted, out)
    assert "pipeline_tag: object-detection" in (out / "README.md").read_text()
    (out / "README.md").write_text("---\nlicense: mit\n---\nWhat I want to say.\n")
    with pytest.raises(StmineError, match=r"README\.md exists"):
        build(converted, out)


def test_a_killed_build_is_cleaned_up_by_the_next(converted, tmp_path):
    out = tmp_path / "mine"
    (out / ".stmine-building" / "mine").mkdir(parents=True)
    (out / ".stmine-building" / "mine" / "README.md").write_text("half")
    build(converted, out)
    assert not (out / ".stmine-building").exists() and check(out, load=False).passed


def test_a_link_that_leads_elsewhere_is_not_written_through(run_folder, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "training").symlink_to(elsewhere)
    with pytest.raises(StmineError, match="leads out of"):
        build(run_folder, out)
    assert not [*elsewhere.iterdir()]


def test_two_builds_of_one_folder_do_not_meet(converted, tmp_path):
    out = tmp_path / "mine"
    with Outputs(out), pytest.raises(StmineError, match="another run is writing"):
        build(converted, out)


@pytest.fixture
def run_folder(converted, tmp_path) -> Path:
    """A run on COCO's layout, whose config.yaml leaves out what is at its default."""
    shutil.copytree(converted, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"data_dir": "data/x", "num_train_epochs": 3}))
    return tmp_path / "run"


def test_a_run_whose_settings_leave_out_defaults_is_built(run_folder, tmp_path):
    build(run_folder, tmp_path / "my-model", repo="me/my-model")
    settings = yaml.safe_load((tmp_path / "my-model" / "training" / "config.yaml").read_text())
    assert (settings["dataset"], settings["data_dir"]) == ("coco_json", "data/x")
    card = (tmp_path / "my-model" / "README.md").read_text()
    assert '"me/my-model"' in card and "stmine-hf/my-model" not in card
    build(tmp_path / "my-model", tmp_path / "my-model")  # the name is kept
    assert (tmp_path / "my-model" / "README.md").read_text() == card


def test_a_card_without_an_id_names_the_folder(run_folder, tmp_path):
    build(run_folder, tmp_path / "my-model")
    card = (tmp_path / "my-model" / "README.md").read_text()
    assert '"my-model"' in card and "stmine-hf/my-model" not in card


def test_the_base_of_a_card_is_the_shipped_model_or_one_of_the_hub(run_folder, converted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "first").mkdir(parents=True)
    for number, (start, base) in enumerate(
        (
            (published("sat-coco-small"), "stmine-hf/sat-coco-small"),
            ("someone/their-model", "someone/their-model"),
            (str(tmp_path / "mine" / "first"), None),
            ("mine/first", None),
        )
    ):
        run = shutil.copytree(run_folder, tmp_path / f"run{number}")
        settings = yaml.safe_load((run / "config.yaml").read_text()) or {}
        (run / "config.yaml").write_text(yaml.safe_dump({**settings, "model_name_or_path": start}))
        out = tmp_path / f"out{number}"
        build(run, out, repo="me/my-model")
        data = ModelCard.load(out / "README.md").data
        assert (data.base_model, getattr(data, "base_model_relation", None)) == (base, base and "finetune")
    model = shutil.copytree(converted, tmp_path / "merged")
    (model / "README.md").write_text("---\nbase_model: stmine-hf/sat-coco-small\n---\nmade by `stmine merge`")
    for _ in range(2):  # also of a folder that is built again
        build(model if not (tmp_path / "again").exists() else tmp_path / "again", tmp_path / "again")
        assert ModelCard.load(tmp_path / "again" / "README.md").data.base_model == "stmine-hf/sat-coco-small"


def test_a_single_adapter_is_to_be_merged_first(tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(PublishError, match=r"is an adapter, not a whole model. Merge it .* stmine merge .*adapter"):
        build(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("named", ["", "best"])
def test_the_adapter_of_a_run_is_merged_measured_and_its_recipe_told(named, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(ROOT / "tests/fixtures/formats_0_1/checkpoints/fisvl_lora", run)
    merged = load_fisvl(run / "best")[0]
    out = tmp_path / "my-model"
    build(run / named, out, repo="me/my-model", progress=False)
    packed = load_file(out / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in packed)
    weights = merged.state_dict()
    for name, tensor in packed.items():
        torch.testing.assert_close(tensor.float(), weights[name].float(), atol=1e-3, rtol=1e-3)
    assert not (out / "adapter_config.json").exists()
    settings = yaml.safe_load((out / "training" / "config.yaml").read_text())
    assert (settings["peft"], settings["dataset"]) == ("lora", "toy_scenes")
    assert [file.name for file in (out / "results").glob("*.json")] != []  # measured: the set is drawn
    loaded = load_fisvl(out)[0]
    assert loaded.num_parameters() == merged.num_parameters()


def test_a_build_that_fails_leaves_what_was_there(repository, tmp_path, monkeypatch):
    out = tmp_path / repository.name
    shutil.copytree(repository, out)
    monkeypatch.setattr("stmine_hf.hub.model_repository.write_license", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(repository, out)
    assert contents(out) == contents(repository) and len(list(tmp_path.iterdir())) == 1


def test_the_best_folder_of_a_run_is_the_run(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"dataset": "coco_json", "data_dir": "data/x"}))
    for name, source in (("one", tmp_path / "run"), ("two", tmp_path / "run" / "best")):
        build(source, tmp_path / name)
        assert (tmp_path / name / "training" / "config.yaml").is_file()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", {}, "nowhere: no such folder"),
        ("empty", {}, r"expected a folder with the config\.json of a model"),
        ("bert", {}, "expected a model of type fisvl, mttv, sat, found 'bert'"),
        ("model", {"data_dir": "x"}, "only a training run is measured"),
        ("model", {"out": "file"}, "expected a folder to write to, found a file"),
    ],
)
def test_what_cannot_be_built_is_refused(source, options, message, converted, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    shutil.copytree(converted, tmp_path / "model")
    (tmp_path / "file").touch()
    out = tmp_path / options.pop("out", "out")
    with pytest.raises(StmineError, match=message):
        build(tmp_path / source, out, **options)
    assert not out.is_dir()


def run(*words: object) -> int:
    """The exit code of `stmine publish WORDS`."""
    with pytest.raises(SystemExit) as end:
        main(["publish", *map(str, words)])
    return int(end.value.code or 0)


def test_command_says_what_it_wrote(converted, tmp_path, capsys):
    out = tmp_path / "mine"
    assert run("build", converted, "--out", out, "--license", "mit", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"].keys() == {*files_in(out)}
    assert run("build", out, "--out", out) == 0
    printed = capsys.readouterr().out
    assert f"{len(document['files'])} files" in printed and "publish check" in printed
    for pair in ("parent", "=x", "parent="):
        assert run("build", converted, "--out", out, "--compare", pair) == 2


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_repository_is_what_a_build_of_today_gives(shipped):
    """If this fails after a change of modeling/ or of a template: `stmine publish build NAME --out hub_cards/NAME`."""
    repository = repository_at(shipped)
    for name, file in code_files(repository.method).items():
        assert (shipped / name).read_bytes() == file.read_bytes(), name
    assert repository.writer.card().text() == (shipped / "README.md").read_text(encoding="utf-8")
    assert {*read_manifest(shipped), MANIFEST} == {*files_in(shipped)}
    for name, entry in read_manifest(shipped).items():
        assert hashlib.sha256((shipped / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert entry["bytes"] <= WEIGHTS_LIMIT, name
    for image in (*shipped.rglob("*.jpg"), *shipped.rglob("*.png")):
        with Image.open(image) as opened:
            opened.verify()


@pytest.mark.parametrize(
    ("method", "auto", "parameters"),
    [
        ("fisvl", AutoModel, 165_957_884),
        ("mttv", AutoModelForSequenceClassification, 121_034_560),
        ("sat", AutoModelForObjectDetection, 950_036),
    ],
)
def test_a_released_network_waits_for_its_weights(method, auto, parameters, tmp_path):
    """Its config and code alone build it, in the size that its card states."""
    folder = tmp_path / f"{method}-official"
    build(method, folder)
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        model = auto.from_config(config, trust_remote_code=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    card = ModelCard.load(folder / "README.md").text
    assert f"{parameters / 1e6:.1f} M" in card or f"{parameters / 1e6:.3f} M" in card
    report = check(folder)
    assert report.passed and [line.check for line in report.findings if line.outcome != "ok"] == ["weights"]


def test_a_repository_keeps_its_scores_under_another_name(tmp_path):
    build("sat-coco-small", tmp_path / "mine", repo="me/mine")
    shipped = ROOT / "hub_cards" / "sat-coco-small"
    before, after = (ModelCard.load(folder / "README.md") for folder in (shipped, tmp_path / "mine"))
    figures = [[entry.metric_value for entry in card.data.eval_results] for card in (before, after)]
    assert figures[0] == figures[1] and after.data.model_name == "mine"
    (entry,) = parse_eval_result_entries(yaml.safe_load((tmp_path / "mine/.eval_results/coco.yaml").read_text()))
    assert entry.value in figures[0] and entry.source_url == "https://huggingface.co/me/mine#measured"


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: folder.name)
def test_scores_for_the_hub_are_those_of_the_card(shipped):
    figures = {entry.metric_value for entry in ModelCard.load(shipped / "README.md").data.eval_results or ()}
    for file in (shipped / ".eval_results").glob("*.yaml"):
        for entry in parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8"))):
            assert isinstance(entry, EvalResultEntry) and entry.value in figures and entry.date


# What stands on cards and is measured nowhere here: figures of papers, and the budget that SAT's authors state.
QUOTED = {"10.43", "16.42", "18.96", "24.46", "26.39", "0.84", "0.65", "0.01"}


def numbers_in(document: object) -> list[float]:
    if isinstance(document, bool | str | None):
        return []
    if isinstance(document, int | float):
        return [float(document)]
    parts = document.values() if isinstance(document, dict) else document
    return [number for part in parts for number in numbers_in(part)]


@pytest.mark.parametrize("shipped", [folder for folder in SHIPPED if (folder / "results").is_dir()], ids=str)
def test_every_measured_number_of_a_card_comes_from_a_results_file(shipped):
    """Of "Measured" and of the Chinese part, to as many digits as are shown; in percent, millions or billions."""
    files = [*shipped.rglob("results/**/*.json"), *shipped.glob("training/*.json"), shipped / "config.json"]
    known = [number for file in files for number in numbers_in(json.loads(file.read_text(encoding="utf-8")))]
    known += [float((shipped / "model.safetensors").stat().st_size)]
    if json.loads((shipped / "config.json").read_text(encoding="utf-8"))["model_type"] == "sat":
        costs = budget(SatConfig.from_pretrained(shipped))  # counted, not measured
        known += [costs.parameters, costs.multiply_adds, costs.operations]
    card = (shipped / "README.md").read_text(encoding="utf-8")
    measured = card.split("\n## Measured\n")[1].split("\n## ")[0]
    measured += card.split("\n## 中文\n")[1] if "\n- zh\n" in card else ""
    measured = re.sub(r"(?s)```.*?```|\]\([^)]*\)|with torch [\d.]+ and transformers\s+[\d.]+\d", "", measured)
    shown = re.findall(r"(?<![\w.,-])\d+\.\d+(?![\w.]*\d)", measured)
    assert len(shown) > 10
    for text in shown:
        digits = len(text.partition(".")[2])
        scaled = {scale * number for number in known for scale in (1, 100, 1e-6, 1e-9)}
        assert text in QUOTED or any(f"{number:.{digits}f}" == text for number in scaled), text
