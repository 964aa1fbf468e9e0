"""Checkpoints of version 0.1 resume with the scripts of today, to the losses of that time."""

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from trainers import ROOT, environment

from stmine_hf.training.checkpoints import last_checkpoint

OLD = ROOT / "tests" / "fixtures" / "formats_0_1" / "checkpoints"


@pytest.mark.slow
@pytest.mark.skipif(not OLD.is_dir(), reason="the fixtures of version 0.1 are not here")
@pytest.mark.parametrize("name", ["fisvl", "mttv", "sat", "fisvl_lora"])
def test_a_run_of_version_0_1_is_resumed_to_the_same_end(tmp_path, name):
    expected = json.loads((OLD / "expected.json").read_text())[name]
    shutil.copytree(OLD / name, tmp_path / name)
    command = [sys.executable, str(ROOT / "examples" / f"train_{name.partition('_')[0]}.py")]
    command += ["--config", f"{name}/config.yaml", "--output_dir", name, "--resume_from_checkpoint", "auto"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Resuming from {name}/checkpoint-{expected['checkpoint']}" in done.stdout + done.stderr
    last = tmp_path / last_checkpoint(tmp_path / name)
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    losses = {str(entry["step"]): entry["loss"] for entry in history if "loss" in entry}
    assert losses == pytest.approx(
        expected["losses"], rel=0.05
    )  # other machines and numbers of threads add in another order
    weights = load_file(last / expected["weights_file"])
    assert set(weights) == set(expected["final"]["norms"])
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert (tmp_path / name / "best" / expected["weights_file"]).is_file()
