"""The ready configs of accelerate: its own loader takes them, and those for CPUs train."""

import json
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from trainers import ROOT, accelerate_launch, environment

FOLDER = ROOT / "examples" / "accelerate"
KINDS = {
    "cpu": DistributedType.NO,
    "cpu_two_processes": DistributedType.MULTI_GPU,
    "gpus": DistributedType.MULTI_GPU,
    "fsdp": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "several_nodes": DistributedType.MULTI_GPU,
}


def test_every_config_is_known_here():
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_takes_a_config_and_its_comment_is_a_command(name):
    file = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(file))
    assert config.distributed_type == KINDS[name]
    args = launch_command_parser().parse_args(["--config_file", str(file), "train.py"])
    args, *_ = _validate_launch_command(args)
    assert args.num_processes == config.num_processes and args.use_cpu == name.startswith("cpu")
    assert (args.use_fsdp, args.use_deepspeed) == (name == "fsdp", name == "deepspeed_zero2")
    comment = " ".join(line.lstrip("# ").rstrip("\\").strip() for line in file.read_text().splitlines()[:6])
    assert f"accelerate launch --config_file examples/accelerate/{name}.yaml" in comment
    for word in comment.split():
        if word.startswith("examples/") and "*" not in word:
            assert (ROOT / word).is_file(), word


def test_what_the_spread_configs_ask_for_reaches_the_processes():
    file = FOLDER / "fsdp.yaml"
    args = launch_command_parser().parse_args(["--config_file", str(file), "train.py"])
    env = prepare_multi_gpu_env(_validate_launch_command(args)[0])
    assert (env["ACCELERATE_USE_FSDP"], env["FSDP_VERSION"]) == ("true", "2")
    assert env["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT" and env["FSDP_MIN_NUM_PARAMS"] == "5000000"
    assert load_config_from_file(str(FOLDER / "deepspeed_zero2.yaml")).deepspeed_config["zero_stage"] == 2
    nodes = launch_command_parser().parse_args(
        ["--config_file", str(FOLDER / "several_nodes.yaml"), "--machine_rank", "1", "train.py"]
    )
    nodes = _validate_launch_command(nodes)[0]
    assert (nodes.num_machines, nodes.num_processes, nodes.machine_rank) == (2, 16, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, method", [("cpu", "sat"), ("cpu_two_processes", "sat"), ("cpu_two_processes", "fisvl")]
)
def test_the_configs_for_cpus_train(tmp_path, name, method):
    """The scripts as a person runs them; with two processes half as many steps, one of everything written."""
    options = {
        "output_dir": tmp_path / "run",
        "dataset_options": '{"count": 40, "size": 64}',
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "disable_tqdm": "true",
    }
    config = ROOT / "examples" / "configs" / f"{method}_toy.yaml"
    done = subprocess.run(
        [
            *accelerate_launch(FOLDER / f"{name}.yaml"),
            str(ROOT / "examples" / f"train_{method}.py"),
            *("--config", str(config)),
            *(str(part) for key, value in options.items() for part in (f"--{key}", value)),
        ],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Model, scores and curves are in") == 1
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    world = 2 if "two" in name else 1
    assert len(list(checkpoint.glob("rng_state*"))) == world
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["global_step"] == 28 // 4 // world  # of 40 rows 28 are for training
    assert Path(tmp_path / "run" / "best" / "model.safetensors").is_file()
