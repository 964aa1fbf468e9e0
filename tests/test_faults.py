"""Kills, signals, a full disk, lost inputs, missing rights and two writers: see faults.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
from faults import COMMANDS
from trainers import ROOT, environment


def run(*words: object) -> None:
    command = [sys.executable, "-m", "faults", *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=ROOT, timeout=7200)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_disturbed_run_ends_as_if_undisturbed():
    run("classify", "--moments", 2)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_disturbed_at_random_moments_ends_as_if_undisturbed(command):
    run(command, "--moments", 20)
