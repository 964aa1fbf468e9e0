"""A program that test_faults.py runs: faults at random moments of commands; what runs again ends as if undisturbed.

    python -m faults --moments 20 [COMMAND ...]       make faults

Each command runs in a child, which is killed, loses its inputs, its disk or its rights, or meets a second writer. Then
it runs once more, and what it has written is compared with what a run without faults writes; a file of the user that
lay there is still the same. A disk is full, or cannot be written, as a file system of its own in memory, where one may
be mounted; elsewhere files are bounded, and rights are taken away. A process of its own, because it forks: a process
that has computed with torch may not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="stmine-faults-datasets-"))

import numpy as np
import torch
from helpers import save_tiny_fisvl
from helpers_adapters import adapter_trainer, save_base
from helpers_mttv import save_tiny_mttv
from helpers_sat import confident_sat
from PIL import Image
from safetensors.torch import load_file
from trainers import TRAINERS
from videos import write_video

from stmine_hf.cli import main as stmine
from stmine_hf.files import only_writer
from stmine_hf.posts.features import FeatureStore
from stmine_hf.search import store
from stmine_hf.training.checkpoints import last_checkpoint

FAULTS = ("kill", "terminate", "interrupt", "disk", "inputs", "rights", "writers")
_USER = "of the user.txt"
_said_before: dict[int, int] = {}  # of each child, bytes in its log when it began
_IN_A_ROW = 4  # signals to one output, each at a random moment, before the run that is compared
_VOLATILE = re.compile(rb'"(seconds|created|updated|[a-z_]*per_second|images_from_index|versions|exported)": [^,\n}]*')


@dataclass(frozen=True)
class Command:
    """What is disturbed.

    Attributes:
        run: with the inputs' folder and the output.
        content: what the output holds, for comparison.
        out: name of the output.
    """

    run: Callable[[Path, Path], object]
    content: Callable[[Path], Any]
    out: str = "out"


def _files(out: Path) -> dict[str, Any]:
    """Every file by its content, without times, and tensors by their values."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*") if out.is_dir() else [out]):
        if path.is_file() and not path.name.startswith(".") and "journal" not in path.name and path.name != _USER:
            found[path.relative_to(out).as_posix()] = _VOLATILE.sub(b"", path.read_bytes())
    return found


def _index(out: Path) -> dict[str, Any]:
    manifest = store.read_manifest(out / store.FINISHED)
    assert manifest is not None
    rows = store.read_rows(out, manifest.shards, manifest.checksums).column("path").to_pylist()
    vectors = np.concatenate([store.read_embeddings(out, name) for name in manifest.shards])
    return {path: vector.round(4).tolist() for path, vector in sorted(zip(rows, vectors, strict=True))}


def _features(out: Path) -> dict[str, Any]:
    found = FeatureStore.open(out)
    return {key: found.get(key)["global_features"].mul(1000).round().tolist() for key in sorted(found._rows)}


def _weights(out: Path) -> dict[str, Any]:
    checkpoint = last_checkpoint(out)
    assert checkpoint is not None
    return {name: tensor.tolist() for name, tensor in load_file(Path(checkpoint) / "model.safetensors").items()}


def _command(*words: str, content: Callable[[Path], Any] = _files, out: str = "out") -> Command:
    def run(inputs: Path, target: Path) -> None:
        stmine([word.format(inputs=inputs, out=target) for word in words])

    return Command(run, content, out)


def _train(method: str) -> Command:
    def run(inputs: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        with only_writer(target):  # as `start_run` does it
            trainer = TRAINERS[method](target, save_strategy="steps", save_steps=2)
            trainer.train(resume_from_checkpoint=last_checkpoint(target))

    return Command(run, _weights)


COMMANDS = {
    "index": _command("index", "{inputs}/images", "--out", "{out}", "--model", "{inputs}/fisvl", content=_index),
    "features": _command(
        "features", "mttv", "--file", "{inputs}/posts.jsonl", "--model", "{inputs}/mttv", "--out", "{out}",
        content=_features,
    ),
    "classify": _command(
        "classify", "--file", "{inputs}/posts.jsonl", "--model", "{inputs}/mttv", "--out", "{out}", out="out.jsonl"
    ),
    "detect": _command("detect", "{inputs}/images", "--model", "{inputs}/sat", "--out", "{out}"),
    "video": _command("detect", "{inputs}/film.mp4", "--model", "{inputs}/sat", "--out", "{out}"),
    "export": _command("export", "sat", "--model", "{inputs}/sat", "--out", "{out}", "--size", "64"),
    "data": _command("data", "export", "toy_posts", "--option", "count=24", "--out", "{out}", "--license", "mit"),
    "build": _command("publish", "build", "{inputs}/sat", "--out", "{out}", "--license", "mit"),
    "merge": _command("merge", "{inputs}/run/best", "--out", "{out}"),
    **{f"train-{method}": _train(method) for method in TRAINERS},
}  # fmt: skip


def write_inputs(folder: Path) -> None:
    """What the commands read."""
    (folder / "images").mkdir(parents=True)
    images = [np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8) for number in range(12)]
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / "images" / f"{number:02d}.png")
    posts = [{"id": f"p{n}", "text": "fake news " * (n % 4), "image": f"images/{n:02d}.png"} for n in range(12)]
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    write_video(folder / "film.mp4", 12)
    save_tiny_fisvl(folder / "fisvl")
    save_tiny_mttv(folder / "mttv")
    for part in confident_sat():
        part.save_pretrained(folder / "sat")
    save_base("fisvl", folder / "base")
    trainer = adapter_trainer("fisvl", folder / "base", folder / "run", save_strategy="epoch", eval_strategy="epoch")
    trainer.train()


def start(command: Command, inputs: Path, out: Path, log: Path, limit: Callable[[], object] = lambda: None) -> int:
    """The id of a child that runs a command."""
    before = log.stat().st_size if log.exists() else 0
    if (child := os.fork()) == 0:
        code = 1
        try:
            with open(log, "a") as written:
                os.dup2(written.fileno(), 1)
                os.dup2(written.fileno(), 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            logging.basicConfig(level=logging.WARNING)
            torch.set_num_threads(1)
            limit()
            command.run(inputs, out)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _said_before[child] = before
    return child


def import_ahead(command: Command, inputs: Path, out: Path, log: Path) -> int:
    """Import what a command imports, once for all its children; gives the exit status of the child that told it."""
    names = log.with_suffix(".modules")

    def run(inputs: Path, target: Path) -> None:
        before = set(sys.modules)
        try:
            command.run(inputs, target)
        finally:
            names.write_text(json.dumps([name for name in list(sys.modules) if name not in before]))

    code = ended(start(Command(run, command.content), inputs, out, log))
    for name in json.loads(names.read_text()) if code == 0 else ():
        with suppress(Exception):  # a module that is no file, such as those that transformers makes
            importlib.import_module(name)
    return code


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended_well_said(child: int, log: Path) -> int:
    """Likewise; a command that ends with an error has said so in one line, and shown no traceback."""
    code = ended(child)
    said = log.read_bytes()[_said_before[child] :].decode(errors="replace") if log.exists() else ""
    if code not in (0, None) and not log.stem.startswith("train-"):
        last = (said.strip().splitlines() or [""])[-1]
        assert "Traceback" not in said and last.startswith("error: "), f"ends with {code}: {said[-1500:]}"
        assert "Error:" not in last.split(":", 2)[1], f"names a type of Python's: {last}"
    return code


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None] | None]:
    """A file system in memory at a folder, with what the folder holds; gives a function that changes its options.

    None where it may not be mounted.
    """
    program = shutil.which("mount")
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def mount(options: str) -> bool:
        words = [program, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return program is not None and subprocess.run(words, capture_output=True).returncode == 0

    if not mount("size=64m"):
        yield None
        return
    try:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        assert mount(f"remount,{options}")
        yield lambda new: None if mount(f"remount,{new}") else sys.exit("cannot mount")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def disturb(
    fault: str,
    command: Command,
    inputs: Path,
    out: Path,
    log: Path,
    chance: random.Random,
    whole: float,
    written: int,
    times: int = 1,
) -> Iterator[None]:
    """Run a command with a fault; inside of it, the fault is over, and what it has left is there.

    Args:
        times: how often a signal ends it, each time in the work that the time before has left.
        whole: seconds that a run takes.
        written: bytes that it writes.
    """
    moment = chance.uniform(0, whole)
    if fault in ("kill", "terminate", "interrupt"):
        number = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}[fault]
        for _ in range(times):
            child = start(command, inputs, out, log)
            time.sleep(moment)
            os.kill(child, number)
            ended(child)
            moment = chance.uniform(0, whole)
        yield
    elif fault == "disk":
        size = max(4096, int(written * chance.random()))
        with mounted(out.parent, f"size={size}") as place:
            bounds = (lambda: None) if place else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            before = log.stat().st_size
            code = ended_well_said(start(command, inputs, out, log, bounds), log)
            # A training goes on without a checkpoint that cannot be written, and says so.
            noticed = code != 0 or b"Cannot write" in log.read_bytes()[before:]
            assert noticed or not place or size > written // 2, "a full disk was not noticed"
            if place:
                place("size=100%")
            yield
    elif fault == "inputs":
        child = start(command, inputs, out, log)
        time.sleep(moment)
        inputs.rename(inputs.with_name("elsewhere"))
        try:
            ended_well_said(child, log)
        finally:
            inputs.with_name("elsewhere").rename(inputs)
        yield
    elif fault == "rights":
        with mounted(out.parent, "ro") as place:
            if place is None and os.getuid() == 0:  # the others' rights are not those of root
                inputs.parent.chmod(0o755)
                code = ended_well_said(start(command, inputs, out, log, lambda: os.setuid(65534)), log)
            elif place is None:
                out.parent.chmod(0o500)
                code = ended_well_said(start(command, inputs, out, log), log)
                out.parent.chmod(0o700)
            else:
                code = ended_well_said(start(command, inputs, out, log), log)
                place("rw")
            assert code != 0, "written where nothing may be written"
            assert not out.exists()
            yield
    else:
        first = start(command, inputs, out, log)
        time.sleep(moment / 2)
        its_log = log.with_name(f"{log.stem}-second.log")
        second = start(command, inputs, out, its_log)
        codes = {ended(first), ended_well_said(second, its_log)}
        assert 0 in codes or codes == {1}, codes
        yield


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--moments", type=int, default=20, help="of each signal; of the other faults a third")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--record", type=Path, metavar="FILE", help="add a line of JSON for each command and fault")
    options = parser.parse_args()
    failures: list[str] = []
    if options.record:
        options.record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stmine-faults-") as place:
        top = Path(place)
        made = start(Command(lambda inputs, out: write_inputs(inputs), _files), top / "inputs", top, top / "log")
        if ended(made):
            sys.exit((top / "log").read_text())
        originals = _files(top / "inputs")
        print(f"{'command':14}" + "".join(f"{fault:>11}" for fault in FAULTS))
        for name in options.commands or COMMANDS:
            command, chance, counts = COMMANDS[name], random.Random(f"{options.seed}/{name}"), Counter[str]()
            expected, whole, written, log = None, 0.0, 0, top / f"{name}.log"
            for launch in (import_ahead, lambda *words: ended(start(*words))):  # the second one says how long it takes
                began, out = time.monotonic(), top / name / "whole" / command.out
                shutil.rmtree(out.parent, ignore_errors=True)
                out.parent.mkdir(parents=True)
                if launch(command, top / "inputs", out, log):
                    sys.exit(f"{name} fails undisturbed: {log.read_text()[-3000:]}")
                whole, expected = time.monotonic() - began, command.content(out)
                written = sum(
                    -(-path.stat().st_size // 4096) * 4096 for path in out.parent.rglob("*") if path.is_file()
                )
            shutil.rmtree(out.parent)
            for fault in options.fault or FAULTS:
                failed, began = len(failures), time.monotonic()
                signals = fault in ("kill", "terminate", "interrupt")
                moments = options.moments if signals else 1 if fault == "rights" else -(-options.moments // 3)
                step = _IN_A_ROW if signals else 1
                for number in range(0, moments, step):
                    times = min(step, moments - number)
                    out.parent.mkdir(parents=True)
                    (out.parent / _USER).write_text("mine")
                    try:
                        with disturb(fault, command, top / "inputs", out, log, chance, whole, written, times):
                            assert (out.parent / _USER).read_text() == "mine", "a file of the user has changed"
                            code = ended(start(command, top / "inputs", out, log))
                            assert code == 0, f"the next run ends with {code}: {log.read_text()[-1500:]}"
                            assert command.content(out) == expected, "the next run writes something else"
                            assert (out.parent / _USER).read_text() == "mine", "a file of the user has changed"
                        counts[fault] += times
                    except AssertionError as error:
                        failures.append(f"{name}, {fault} {number}: {error}")
                    finally:
                        shutil.rmtree(out.parent)
                if options.record:
                    trials = {"command": name, "fault": fault, "passed": counts[fault], "failed": failures[failed:]}
                    seconds = {"undisturbed": round(whole, 2), "seconds": round(time.monotonic() - began, 1)}
                    with open(options.record, "a") as file:
                        file.write(json.dumps(trials | seconds) + "\n")
            print(f"{name:14}" + "".join(f"{counts[fault]:11}" for fault in FAULTS), flush=True)
        if _files(top / "inputs") != originals:
            failures.append("an input has changed")
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
