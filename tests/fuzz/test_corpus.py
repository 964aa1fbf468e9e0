"""Every file that once crashed a door is refused or read now; a few hundred new ones, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache

import pytest
from fuzz.doors import DOORS, cases_in
from fuzz.mutate import CORPUS, attempt
from fuzz.mutations import Case
from trainers import ROOT, environment

LINES = CORPUS / "corpus.jsonl"
ENTRIES = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The cases of a door, made once."""

    @lru_cache
    def made(door: str) -> list[Case]:
        folder = tmp_path_factory.mktemp(door)
        DOORS[door].seeds(folder)
        return cases_in(folder)

    return made


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["content"].removesuffix(".bin"))
def test_what_once_crashed_no_longer_does(tmp_path, cases, entry):
    content = (CORPUS / entry["content"]).read_bytes()
    case = {**cases(entry["door"])[entry["case"]], entry["file"]: content}
    assert attempt(DOORS[entry["door"]], case, tmp_path / "case") in ("result", "refused")


def run_fuzzer(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fuzz.mutate", *map(str, words)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=ROOT, timeout=40_000)


def test_some_changed_files_of_cheap_doors_crash_nothing():
    done = run_fuzzer("--trials", 120, "--seed", 7, "--door", "image", "--door", "table", "--door", "yaml")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.slow
def test_changed_files_crash_no_door():
    """200,000 of them take some hours; STMINE_FUZZ_TRIALS asks for another number."""
    trials = int(os.environ.get("STMINE_FUZZ_TRIALS", "200000"))
    done = run_fuzzer("--trials", trials, "--seed", os.environ.get("STMINE_FUZZ_SEED", "1"))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]


def test_the_fuzzer_notices_a_process_that_dies(tmp_path):
    """By a signal, by memory and by time: each is one crash, and the trials go on behind it."""
    program = tmp_path / "dies.py"
    program.write_text(
        "import os, signal\n"
        "from fuzz import mutate\n"
        "from fuzz.doors import DOORS, Door, _one\n"
        "def opens(folder):\n"
        "    (file,) = folder.iterdir()\n"
        "    kind = len(file.read_bytes()) % 5\n"
        "    if kind == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if kind == 1: bytearray(1 << 40)\n"
        "    while kind == 2: pass\n"
        "mutate.SECONDS = 0.2\n"
        "DOORS['dies'] = Door(lambda folder: _one(folder, 'a.txt', 'a text'), opens)\n"
        "tally = mutate.fuzz(['dies'], 40, 1)['dies']\n"
        "kinds = {crash['error'].partition('(')[0] for crash in tally.crashes}\n"
        "assert kinds == {'the process ended with -9', 'MemoryError', 'TooSlow'}, kinds\n"
        "assert tally.trials == 40 == len(tally.crashes) + tally.results, tally\n"
    )
    done = subprocess.run([sys.executable, program], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
