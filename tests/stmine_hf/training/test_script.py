"""The last line that a user sees of a failed run is the error, under a launcher, too."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from trainers import ROOT, TWO_PROCESSES, accelerate_launch, environment

from stmine_hf import training
from stmine_hf.errors import StmineError
from stmine_hf.loading import published
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.interruption import Interrupted
from stmine_hf.training.script import RunFinished, resume_command, run_script

FAILING = """
from stmine_hf.errors import StmineError
from stmine_hf.training.script import run_script
def main():
    raise StmineError("expected a batch, found none. Add one.")
if __name__ == "__main__":
    run_script(main)
"""


def failing(error):
    def main():
        raise error

    return main


def test_each_end_has_its_exit_code_and_its_words(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        run_script(failing(StmineError("too small")))
    assert end.value.code == "error: too small"
    with pytest.raises(SystemExit) as end:
        run_script(failing(Interrupted("stopped by SIGINT; gone. Resume with:\n  python x", 2)))
    assert end.value.code == 130 and "Resume with" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        run_script(failing(KeyboardInterrupt()))
    assert end.value.code == 130
    run_script(failing(RunFinished("nothing is left to do")))
    assert capsys.readouterr().out == "nothing is left to do\n"
    with pytest.raises(SystemExit) as end:
        run_script(failing(PermissionError(13, "Permission denied", "out")))
    assert end.value.code == "error: cannot write out: Permission denied. Choose a folder that can be written."


def test_the_command_to_resume_is_the_one_that_started(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["examples/train_sat.py"])
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    folder = tmp_path / "my run"
    assert resume_command(folder).startswith(f"python examples/train_sat.py --config '{folder}/config.yaml' ")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert resume_command(folder).startswith("accelerate launch examples/train_sat.py ")


@pytest.mark.slow
@pytest.mark.parametrize("config", [None, TWO_PROCESSES])
@pytest.mark.parametrize("quiet", [False, True])
def test_the_error_is_the_last_line_under_a_launcher(tmp_path, config, quiet):
    (tmp_path / "fail.py").write_text(FAILING)
    command = [*accelerate_launch(config), *(["--quiet"] if quiet else []), str(tmp_path / "fail.py")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[-1] == "error: expected a batch, found none. Add one.", done.stderr[-3000:]
    if quiet and config is None:
        assert "Traceback" not in done.stderr and lines.count(lines[-1]) == 1


@pytest.mark.slow
def test_a_missing_start_says_what_to_build_or_to_start_from(tmp_path):
    config = yaml.safe_load((ROOT / "examples" / "configs" / "lite_rsicd.yaml").read_text())
    config |= {"dataset": "toy_scenes", "dataset_options": {"count": 40, "size": 32}, "output_dir": "run"}
    del config["data_dir"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, str(ROOT / "examples" / "train_fisvl.py"), "--config", "config.yaml"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=tmp_path, timeout=200)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: No model to start from: outputs/fisvl-lite-start is no folder here"), done.stderr
    assert "python examples/build_fisvl_lite.py --data_dir DATA --out outputs/fisvl-lite-start" in last
    assert "--model_name_or_path " in last and "fisvl-lite-rsicd" in last


@pytest.mark.parametrize("method, config", [("fisvl", "lite_rsicd"), ("mttv", "lite_weibo")])
def test_a_data_set_of_ones_own_starts_from_the_shipped_model(tmp_path, monkeypatch, caplog, method, config):
    """As the README shows it, where nobody has made the start of the config."""
    monkeypatch.chdir(tmp_path)
    kinds = [getattr(training, f"{method.title()}{part}Arguments") for part in ("Model", "Data", "Training")]
    file = str(ROOT / "examples" / "configs" / f"{config}.yaml")
    shipped = published(config.replace("lite", f"{method}-lite").replace("_", "-"))
    model = parse_arguments(kinds, ["--config", file, "--dataset", "mine.csv"])[0]
    assert model.model_name_or_path == shipped and "does not exist: starting from the shipped model" in caplog.text
    caplog.clear()
    named = parse_arguments(kinds, ["--config", file, "--dataset", "mine.csv", "--model_name_or_path", "mine"])[0]
    assert named.model_name_or_path == "mine" and not caplog.records  # the config's start is of no concern
    assert parse_arguments(kinds, ["--config", file])[0].model_name_or_path == f"outputs/{method}-lite-start"
    (tmp_path / "outputs" / f"{method}-lite-start").mkdir(parents=True)
    model = parse_arguments(kinds, ["--config", file, "--dataset", "mine.csv"])[0]
    assert model.model_name_or_path == f"outputs/{method}-lite-start"


LEFT_THREADS = """
import pathlib, sys
from types import SimpleNamespace
import torch.distributed as dist
from stmine_hf.training.script import run_script

def main():
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
    trainer = SimpleNamespace(group=dist.group.WORLD)
    trainer.model = SimpleNamespace(trainer=trainer)  # only the garbage collector takes them away

run_script(main)
print([file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")])
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc, where threads have names")
def test_no_thread_of_the_process_group_is_left_when_the_interpreter_ends(tmp_path):
    """One that frees a tensor then aborts the process, and the launcher calls a training that is done failed."""
    command = [sys.executable, "-c", LEFT_THREADS, str(tmp_path / "meeting")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "python" in done.stdout and "gloo" not in done.stdout
