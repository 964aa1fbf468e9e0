"""The example script from end to end, as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[4]
CONFIG = ROOT / "examples" / "configs" / "fisvl_toy.yaml"


def launch(*options: str, config: Path = CONFIG) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    return subprocess.run(
        [*command, str(ROOT / "examples" / "train_fisvl.py"), "--config", str(config), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_toy_run_learns_writes_up_and_goes_on(tmp_path):
    out = tmp_path / "run"
    small = ["--output_dir", str(out), "--dataset_options", '{"count": 160, "size": 64}', "--disable_tqdm", "true"]
    small += ["--per_device_train_batch_size", "16", "--logging_steps", "2"]
    done = launch(*small, "--num_train_epochs", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "mean recall" in done.stdout and f"stmine index and a folder of yours, with --model {out}/best" in done.stdout
    )

    results = json.loads((out / "results.json").read_text())
    assert results["best"]["eval_r_mean"] > 0 and results["unreadable"] == 0
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.yaml").read_text())["learning_rate"] == 1e-3
    state = json.loads((max(out.glob("checkpoint-*"), key=os.path.getmtime) / "trainer_state.json").read_text())
    losses = [entry["loss_contrastive"] for entry in state["log_history"] if "loss_contrastive" in entry]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])

    # The settings as resolved start the same run, which resumes where it stopped.
    again = launch("--num_train_epochs", "5", "--resume_from_checkpoint", "auto", config=out / "config.yaml")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"Resuming from {out}/checkpoint-" in again.stdout + again.stderr
    assert json.loads((out / "results.json").read_text())["training"]["epoch"] == 5

    # What came out opens without any of our code imported.
    check = (
        "import sys; from transformers import AutoModel, AutoProcessor; "
        "model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True); "
        "AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True); "
        "assert 'stmine_hf' not in sys.modules; print(type(model).__name__)"
    )
    opened = subprocess.run(
        [sys.executable, "-c", check, str(out / "best")], capture_output=True, text=True, cwd=tmp_path
    )
    assert opened.stdout.strip() == "FisvlModel", opened.stderr[-2000:]


@pytest.mark.slow
def test_mistakes_are_one_line():
    done = launch("--lerning_rate", "1")
    assert done.returncode != 0
    assert "error: Unknown option '--lerning_rate'. Did you mean 'learning_rate'?" in done.stderr
