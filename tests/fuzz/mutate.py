"""The mutation fuzzer: changed files through every door, in child processes of bounded memory and time.

    PYTHONPATH=.:tests python -m fuzz.mutate --trials 200000 --seed 1 --record outputs/fuzz.jsonl

Good ends are a result or a StmineError. Anything else, a process that dies, takes too long or too much memory, is a
crash: printed, and with --save kept in tests/fixtures/corpus/, whose cases test_corpus.py replays. The same seed gives
the same files. With --record a line is written after each chunk of trials: a run that was stopped goes on behind them,
and `--sum` adds them up.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.gettempdir() + "/stmine-fuzz-datasets")

import torch
from fuzz.doors import DOORS, Door, cases_in, written
from fuzz.mutations import Case, mutate

from stmine_hf.errors import StmineError
from stmine_hf.files import LOCK

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "corpus"
MEMORY = 3 << 30  # bytes that a door may take beside what the process holds; one image may take half of it
SECONDS = 20  # of processor time for one file
PATIENCE = 240  # seconds of the clock before a process counts as hanging
_CHUNK = 400  # trials of one process
_ENDS = {"result": slice(8, 16), "refused": slice(16, 24)}  # where a child counts them


class TooSlow(BaseException):
    """Not an Exception: no door may take it for a fault of the file."""


@dataclass
class Tally:
    """What came of the trials of a door."""

    trials: int = 0
    results: int = 0
    refused: int = 0
    crashes: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def changed_case(name: str, cases: list[Case], seed: int, number: int) -> tuple[int, str, bytes]:
    """Which case, which file of it, and its new content, of a trial."""
    chance = random.Random(f"{seed}/{name}/{number}")
    which = chance.randrange(len(cases))
    files = [file for file in cases[which] if not file.endswith(LOCK) and DOORS[name].changed(file)]
    return which, *mutate(chance, cases[which], files)


def attempt(door: Door, case: Case, folder: Path) -> str:
    """ "result" or "refused", by a folder of its own; anything else is raised."""
    for _ in written(case, folder):
        pass
    try:
        door.open(folder)
    except StmineError:
        return "refused"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "result"


def _trials(name: str, cases: list[Case], seed: int, numbers: range, at: mmap.mmap, report: Any) -> None:
    """In a child: the trials of these numbers; a line of JSON for each crash, and one at the end."""
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))

    def too_slow(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, too_slow)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    top = Path(tempfile.mkdtemp(prefix="stmine-fuzz-", dir=shared))
    try:
        for number in numbers:
            at[:8] = number.to_bytes(8, "little")
            which, file, content = changed_case(name, cases, seed, number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                end = attempt(DOORS[name], {**cases[which], file: content}, top / "case")
                place = _ENDS[end]
                at[place] = (int.from_bytes(at[place], "little") + 1).to_bytes(8, "little")
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                frames = [one for one in traceback.extract_tb(error.__traceback__) if "stmine_hf" in one.filename]
                place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
                print(json.dumps({"number": number, "error": repr(error)[:300], "at": place}), file=report, flush=True)
                if os.environ.get("STMINE_FUZZ_TRACE"):
                    traceback.print_exc()
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"done": True}), file=report, flush=True)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _in_child(name: str, cases: list[Case], seed: int, numbers: range, tally: Tally) -> None:
    """Run trials in children, the next one behind a trial that has killed one."""
    while len(numbers):
        at = mmap.mmap(-1, 24)  # the number of the trial, and how many had each end
        at[:8] = numbers.start.to_bytes(8, "little")
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reading)
            code = 1
            try:
                with contextlib.suppress(KeyboardInterrupt), os.fdopen(writing, "w") as report:
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    if not os.environ.get("STMINE_FUZZ_TRACE"):
                        os.dup2(nowhere, 2)
                    os.dup2(nowhere, 1)
                    _trials(name, cases, seed, numbers, at, report)
                    code = 0
            finally:
                os._exit(code)
        os.close(writing)
        lines, status = _watched(child, reading, at)
        done = False
        for line in lines:
            entry = json.loads(line)
            if "done" in entry:
                done = True
            else:
                tally.crashes.append(entry)
        number = int.from_bytes(at[:8], "little")
        tally.results += int.from_bytes(at[_ENDS["result"]], "little")
        tally.refused += int.from_bytes(at[_ENDS["refused"]], "little")
        if done:
            tally.trials += len(numbers)
            return
        tally.crashes.append({"number": number, "error": f"the process ended with {status}", "at": "?"})
        tally.trials += number + 1 - numbers.start
        numbers = range(number + 1, numbers.stop)


def _watched(child: int, reading: int, at: mmap.mmap) -> tuple[list[str], int]:
    """The lines that a child reports and how it ended; it is killed where one trial takes too long."""
    os.set_blocking(reading, False)
    text, seen, since = b"", b"", time.monotonic()
    while True:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(reading, 1 << 16):
                text += block
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with contextlib.suppress(BlockingIOError):
                while block := os.read(reading, 1 << 16):
                    text += block
            os.close(reading)
            return text.decode().splitlines(), os.waitstatus_to_exitcode(status)
        if at[:8] != seen:
            seen, since = at[:8], time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def save(name: str, which: int, file: str, content: bytes, error: str) -> None:
    """Keep a crash for the tests: the changed file, and a line of what it is of."""
    CORPUS.mkdir(exist_ok=True)
    kept = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.bin"
    (CORPUS / kept).write_bytes(content)
    with open(CORPUS / "corpus.jsonl", "a") as lines:
        entry = {"door": name, "case": which, "file": file, "content": kept, "error": error}
        lines.write(json.dumps(entry) + "\n")


def made_cases(names: list[str], folder: Path) -> dict[str, list[Case]]:
    """The cases of doors, made in a child: this process does not compute, so that it can fork."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            for name in names:
                (folder / name).mkdir()
                DOORS[name].seeds(folder / name)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the cases cannot be made")
    cases = {name: cases_in(folder / name) for name in names}
    for name in names:  # an index does not leave the place of its images while they are there
        shutil.rmtree(folder / name)
    return cases


def recorded(record: Path | None) -> list[dict[str, Any]]:
    """The chunks of trials of earlier runs."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record and record.exists() else []


def summed(chunks: list[dict[str, Any]]) -> dict[str, Tally]:
    """The tally of each door over all runs and seeds of a record."""
    tallies: dict[str, Tally] = {}
    for chunk in chunks:
        one = tallies.setdefault(chunk["door"], Tally())
        for name in ("trials", "results", "refused", "crashes", "seconds"):
            setattr(one, name, getattr(one, name) + chunk[name])
    return tallies


def source_digest() -> str:
    """Of the code that is tried: which chunks of a record belong to which state of it."""
    digest = hashlib.sha256()
    for folder in (ROOT / "stmine_hf", ROOT / "modeling"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def fuzz(
    names: list[str],
    trials: int,
    seed: int,
    *,
    start: int = 0,
    keep: bool = False,
    log: Any = None,
    record: Path | None = None,
) -> dict:
    """Share `trials` out among the doors.

    Args:
        record: a file of JSON lines, one for each chunk of trials: those that are there are not run again.

    Returns:
        The tally of each door.
    """
    tallies = {name: Tally() for name in names}
    code = source_digest()
    kept: Counter[tuple] = Counter()
    with tempfile.TemporaryDirectory(prefix="stmine-fuzz-") as folder:
        cases = made_cases(names, Path(folder))
        gc.freeze()  # what children do not touch need not be copied
        total = sum(DOORS[name].share for name in names)
        left = {name: range(start, start + max(1, round(trials * DOORS[name].share / total))) for name in names}
        for chunk in recorded(record):
            if chunk["seed"] == seed and chunk["door"] in left:
                left[chunk["door"]] = range(max(left[chunk["door"]].start, chunk["stop"]), left[chunk["door"]].stop)
        while any(left.values()):
            for name in names:
                numbers, left[name] = left[name][:_CHUNK], left[name][_CHUNK:]
                if not numbers:
                    continue
                tally, began = Tally(), time.monotonic()
                _in_child(name, cases[name], seed, numbers, tally)
                tally.seconds = round(time.monotonic() - began, 2)
                chunk = {"door": name, "seed": seed, "start": numbers.start, "stop": numbers.stop, "code": code}
                chunk |= asdict(tally)
                tallies[name] = summed([{**asdict(tallies[name]), "door": name}, chunk])[name]
                if record:
                    record.parent.mkdir(parents=True, exist_ok=True)
                    with open(record, "a") as lines:
                        lines.write(json.dumps(chunk) + "\n")
                for crash in tally.crashes:
                    which, file, content = changed_case(name, cases[name], seed, crash["number"])
                    kind = (name, crash["at"], crash["error"][:40])
                    kept[kind] += 1
                    if keep and kept[kind] <= 2 and len(content) < 50_000:
                        save(name, which, file, content, f"{crash['error']} at {crash['at']}")
                    if log and kept[kind] <= 3:
                        print(f"{name} {which} {file} {crash}", file=log, flush=True)
            if log:
                print(f"-- {sum(tally.trials for tally in tallies.values()):,} trials", file=log, flush=True)
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """A line for each door."""
    lines = [f"{'door':16} {'trials':>8} {'results':>8} {'refused':>8} {'crashes':>8} {'seconds':>8}"]
    for name, one in tallies.items():
        lines.append(
            f"{name:16} {one.trials:8,} {one.results:8,} {one.refused:8,} {len(one.crashes):8,} {one.seconds:8.0f}"
        )
    whole = list(tallies.values())
    lines.append(
        f"{'all':16} {sum(one.trials for one in whole):8,} {sum(one.results for one in whole):8,} "
        f"{sum(one.refused for one in whole):8,} {sum(len(one.crashes) for one in whole):8,} "
        f"{sum(one.seconds for one in whole):8.0f}"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first trial of each door")
    parser.add_argument("--door", action="append", choices=DOORS, help="only this one; may be given again")
    parser.add_argument("--save", action="store_true", help="keep crashes in tests/fixtures/corpus")
    parser.add_argument("--record", type=Path, help="a file of JSON lines for what was tried")
    parser.add_argument("--sum", action="store_true", help="only add up --record")
    options = parser.parse_args()
    if options.sum:
        print(table(summed(recorded(options.record))))
        return 0
    tallies = fuzz(
        options.door or list(DOORS),
        options.trials,
        options.seed,
        start=options.start,
        keep=options.save,
        log=sys.stderr,
        record=options.record,
    )
    print(table(tallies))
    return int(any(tally.crashes for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
