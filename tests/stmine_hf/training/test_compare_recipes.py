"""examples/compare_recipes.py: studies are valid, runs are kept, tables say what was measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stmine_hf.errors import StmineError
from stmine_hf.training.arguments import _valid_names
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments

EXAMPLES = Path(__file__).parents[3] / "examples"
STUDIES = sorted((EXAMPLES / "recipes").glob("*.yaml"))
KINDS = {
    "train_fisvl.py": (FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments),
    "train_mttv.py": (MttvModelArguments, MttvDataArguments, MttvTrainingArguments),
    "train_sat.py": (SatModelArguments, SatDataArguments, SatTrainingArguments),
}
RUNS = [
    {"variant": "released", "seed": 0, "score": 0.5, "steps": 10, "train_seconds": 4},
    {"variant": "released", "seed": 1, "score": 0.7, "steps": 10, "train_seconds": 6},
    {"variant": "mended", "seed": 0, "score": 0.9, "steps": 10, "train_seconds": 5},
]
STUDY = {"metric": "ap", "variants": {"released": {}, "mended": {}, "not run": {}}}


@pytest.fixture(scope="module")
def recipes():
    spec = importlib.util.spec_from_file_location("compare_recipes", EXAMPLES / "compare_recipes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_names_fields_that_exist_and_has_a_place_on_the_page(path, recipes, tmp_path):
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = yaml.safe_load((path.parent / study["base"]).read_text(encoding="utf-8"))
    valid = _valid_names(KINDS[study["script"]])
    for of_set, name, settings in recipes.settings_of(study, base):
        assert set(settings) <= valid, (of_set, name)
        assert settings["eval_steps"] == settings["max_steps"], "measured once, at the end"
        assert settings.get("eval_split", "val") == "val"
    page = tmp_path / "page.md"
    page.write_text((EXAMPLES / "RECIPES.md").read_text(encoding="utf-8"), encoding="utf-8")
    recipes.fill_page(page, path.stem, "the table")
    assert "the table" in page.read_text(encoding="utf-8")


def test_later_settings_win_and_mappings_are_merged(recipes):
    base = {"learning_rate": 1, "model_config": {"dropout": 0.1, "graph_steps": 2}}
    assert recipes.merged(base, None, {"model_config": {"dropout": 0.2}, "seed": 3}) == {
        "learning_rate": 1,
        "model_config": {"dropout": 0.2, "graph_steps": 2},
        "seed": 3,
    }
    assert base["model_config"]["dropout"] == 0.1
    assert recipes.merged(base, {"model_config": None}, {"model_config": {"dropout": 0.3}})["model_config"] == {
        "dropout": 0.3
    }


def test_the_summary_is_the_mean_over_seeds_and_the_ratio_that_to_the_first_over_shared_ones(recipes):
    first, second = recipes.summary(STUDY, RUNS)
    assert (first["mean"], first["ratio"], first["seconds"]) == (pytest.approx(0.6), 1.0, 5)
    assert first["spread"] == pytest.approx(0.1 * 2**0.5)
    shared = next(run for run in RUNS if run["variant"] == "mended")["seed"]  # a luckier seed is no better choice
    ratio = 0.9 / next(run["score"] for run in RUNS if run["variant"] == "released" and run["seed"] == shared)
    assert (second["variant"], second["spread"], second["ratio"]) == ("mended", None, pytest.approx(ratio))
    assert f"| mended | 0.9000 | 0.9000 | {ratio:.3f} | 5 |" in recipes.render(STUDY, [first, second])


def test_each_set_of_a_study_has_its_own_start_and_is_compared_by_itself(recipes, tmp_path):
    study = {
        "metric": "ap",
        "seeds": [0],
        "options": {},
        "sets": {"boats, 60": {"max_steps": 5}, "cars": {"max_steps": 9}},
        "variants": {"full": {}, "LoRA": {"peft": "lora"}},
    }
    for name, variant, settings in recipes.settings_of(study, {"max_steps": 1}):
        folder = recipes.run_folder(tmp_path, name, variant, 0)
        folder.mkdir()
        score = settings["max_steps"] * (0.02 if settings.get("peft") else 0.01)
        results = {"start": {"eval_ap": 0.005}, "best": {"eval_ap": score, "step": settings["max_steps"]}}
        (folder / "results.json").write_text(json.dumps(results | {"training": {"train_runtime": 7}}))
    assert (tmp_path / "boats-60-lora-0").is_dir()
    rows = recipes.summary(study, recipes.complete_runs(study, tmp_path))
    assert [(row["set"], row["variant"], row["ratio"]) for row in rows] == [
        ("boats, 60", "full", 1.0),
        ("boats, 60", "LoRA", 2.0),
        ("cars", "full", 1.0),
        ("cars", "LoRA", 2.0),
    ]
    assert "| cars | LoRA | 9 | 0.0050 | 0.1800 | 0.1800 | 7 |" in recipes.render(study, rows)


def test_a_page_without_a_place_for_the_table_is_told(recipes, tmp_path):
    with pytest.raises(StmineError, match="no place for the table"):
        recipes.fill_page(tmp_path / "page.md", "study", "table")


@pytest.mark.slow
def test_a_study_runs_and_runs_are_not_repeated(tmp_path):
    study = {
        "script": str(EXAMPLES / "train_sat.py"),
        "base": str(EXAMPLES / "configs" / "sat_toy.yaml"),
        "metric": "ap",
        "seeds": [0],
        "options": {
            "dataset_options": {"count": 24},
            "max_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "no",
        },
        "variants": {"released": {}, "weight mean": {"ema_decay": 0.5}},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(study))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- toy -->\n<!-- end of toy -->\nafter\n")
    command = [sys.executable, EXAMPLES / "compare_recipes.py", tmp_path / "toy.yaml"]
    for option, place in (("--out", "runs"), ("--results", "."), ("--page", "page.md")):
        command += [option, tmp_path / place]
    subprocess.run(command, check=True)
    runs = json.loads((tmp_path / "recipes_toy.json").read_text())["runs"]
    assert [run["variant"] for run in runs] == ["released", "weight mean"]
    assert "| weight mean |" in page.read_text() and page.read_text().endswith("after\n")
    written = (tmp_path / "runs" / "released-0" / "results.json").stat().st_mtime_ns
    subprocess.run(command, check=True)
    assert (tmp_path / "runs" / "released-0" / "results.json").stat().st_mtime_ns == written
