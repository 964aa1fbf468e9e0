"""examples/benchmarks/training_cost.py: every config has a stand-in, a run is measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from trainers import environment

from stmine_hf import load_dataset
from stmine_hf.training.arguments import _valid_names
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = EXAMPLES / "benchmarks" / "training_cost.py"
KINDS = {
    "fisvl": (FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments),
    "mttv": (MttvModelArguments, MttvDataArguments, MttvTrainingArguments),
    "sat": (SatModelArguments, SatDataArguments, SatTrainingArguments),
}
OF_STUDIES = {"sat_networks", "released_weibo_lite_start", "sat_aircraft"}  # start or data are made elsewhere


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("training_cost", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_config_can_be_measured(benchmark, tmp_path):
    configs = {file.stem for file in (EXAMPLES / "configs").glob("*.yaml")}
    assert set(benchmark.SETUPS) == configs - OF_STUDIES
    for name, setup in benchmark.SETUPS.items():
        fields = {} if callable(setup.start) else setup.start
        if setup.data is not None:
            fields = fields | setup.data(tmp_path / name, 3)
        assert set(fields) <= _valid_names(KINDS[setup.method]), name
    rows = load_dataset(
        "posts",
        data_dir=tmp_path / "official_fakeddit_3_way" / "posts",
        labels=["a", "b", "c"],
        split="train",
        cache_dir=tmp_path / "cache",
    )
    assert len(rows) == 3 and rows["label"] == [0, 1, 2] and len(rows[0]["text"].split()) == 10


def test_the_page_has_the_table_of_what_was_measured(benchmark):
    """As the command fills it: nothing in it is written by hand."""
    found = json.loads((EXAMPLES / "results" / "training_cost.json").read_text())
    page = (EXAMPLES / "RECIPES.md").read_text()
    shown = page.split("<!-- training_cost -->\n")[1].split("\n<!-- end of training_cost -->")[0]
    assert shown == benchmark.render(found["configs"])
    assert {name.split()[0] for name in found["configs"]} == set(benchmark.SETUPS)


@pytest.mark.slow
def test_a_config_is_measured_and_others_stay(tmp_path):
    out = tmp_path / "cost.json"
    other = {**json.loads((EXAMPLES / "results" / "training_cost.json").read_text())["configs"]["mttv_toy"]}
    page = tmp_path / "page.md"
    page.write_text("Cost\n<!-- training_cost -->\n<!-- end of training_cost -->\n")
    out.write_text(json.dumps({"configs": {"mttv_toy": other}}))
    command = [sys.executable, str(SCRIPT), "--configs", "sat_toy", "--steps", "2"]
    command += ["--batch", "4", "--out", str(out), "--page", str(page), "--max_train_images", "8"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(out.read_text())
    row = document["configs"]["sat_toy --max_train_images 8"]
    assert (row["batch"], row["config_batch"], row["epoch_samples"]) == (4, 16, None)
    assert row["peak_memory_mb"] > 100 and row["samples_per_second"] > 0 and row["parameters"] > 10_000
    assert document["configs"]["mttv_toy"] == other
    assert "\n| `sat_toy` `--max_train_images 8` | 4 (config: 16) |" in page.read_text()
    assert "\n| `mttv_toy` | 32 |" in page.read_text()
