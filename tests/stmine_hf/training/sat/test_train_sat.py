"""The example scripts from end to end, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers_sat import save_tiny_sat

ROOT = Path(__file__).parents[4]
CONFIG = ROOT / "examples" / "configs" / "sat_toy.yaml"


def launch(*options: str, config: Path = CONFIG) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    return subprocess.run(
        [*command, str(ROOT / "examples" / "train_sat.py"), "--config", str(config), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_toy_run_learns_writes_up_and_goes_on(tmp_path):
    out = tmp_path / "run"
    small = ["--output_dir", str(out), "--dataset_options", '{"count": 80, "size": 96, "difficulty": 0.1}']
    small += ["--disable_tqdm", "true", "--logging_steps", "1"]
    done = launch(*small, "--num_train_epochs", "5")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "AP50" in done.stdout
        and f"stmine detect and an image or a folder of yours, with --model {out}/best" in done.stdout
    )

    results = json.loads((out / "results.json").read_text())
    assert 0 <= results["best"]["eval_ap"] <= 1 and results["unreadable"] == 0 and results["parameters"] > 10_000
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.yaml").read_text())["learning_rate"] == 3e-3
    state = json.loads((max(out.glob("checkpoint-*"), key=os.path.getmtime) / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss_quality_focal" in entry]
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])

    # The settings as resolved start the same run, which resumes where it stopped.
    again = launch("--num_train_epochs", "6", "--resume_from_checkpoint", "auto", config=out / "config.yaml")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"Resuming from {out}/checkpoint-" in again.stdout + again.stderr
    assert json.loads((out / "results.json").read_text())["training"]["epoch"] == 6

    # What came out opens without any of our code imported.
    check = (
        "import sys; from transformers import pipeline; "
        "pipe = pipeline('object-detection', model=sys.argv[1], trust_remote_code=True); "
        "assert 'stmine_hf' not in sys.modules; print(type(pipe.model).__name__, type(pipe.image_processor).__name__)"
    )
    opened = subprocess.run(
        [sys.executable, "-c", check, str(out / "best")], capture_output=True, text=True, cwd=tmp_path
    )
    assert opened.stdout.strip() == "SatForObjectDetection SatImageProcessor", opened.stderr[-2000:]


@pytest.mark.slow
def test_a_run_starts_from_another_model_and_measures_its_batch_norms(tmp_path):
    source = save_tiny_sat(tmp_path / "source", neck_channels=32)  # its stem and neck fit the toy model, more does not
    out = tmp_path / "run"
    done = launch(
        *("--output_dir", str(out), "--dataset_options", '{"count": 40, "size": 96}', "--disable_tqdm", "true"),
        *("--init_from", str(source), "--recalibrate_batchnorm", "2", "--max_steps", "2", "--eval_strategy", "no"),
        *("--save_strategy", "no", "--image_size", "64"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert f"{source}: " in said and "tensors loaded" in said and "have the statistics of 2 batches" in said
    assert (out / "best" / "model.safetensors").is_file() and "Best on validation" not in done.stdout
    processor = json.loads((out / "best" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 64, "width": 64}


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    done = launch("--lerning_rate", "1")
    assert done.returncode != 0
    assert "error: Unknown option '--lerning_rate'. Did you mean 'learning_rate'?" in done.stderr
    done = launch("--output_dir", str(tmp_path), "--init_from", str(tmp_path / "nowhere"))
    assert done.returncode != 0 and "nowhere: no weights to start from" in done.stderr
