"""A reader who types what a document shows, in order: `python reader.py STEPS.json` in the reader's folder.

Steps are `[kind, text]`: "python" runs a block and "stmine" a command line in this one process, which imports heavy
libraries once; "script" runs a command line with `examples/x.py`; "options" lets such a script read its command line
and stops it there. The first that fails ends the process, which then names it.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shlex
import sys
import time
from pathlib import Path


class OptionsRead(Exception):
    """A script understood its command line."""


def run_stmine(line: str) -> None:
    from stmine_hf.cli import main

    try:
        main(shlex.split(line)[1:])
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"exit code {end.code}") from end


def run_script(line: str) -> None:
    """`python examples/x.py WORDS`, or the same behind `accelerate launch`."""
    words = shlex.split(line)
    place = next(number for number, word in enumerate(words) if word.endswith(".py"))
    before, sys.argv = sys.argv, words[place:]
    sys.path.insert(0, str(Path(words[place]).parent.absolute()))  # as Python does for a script
    try:
        runpy.run_path(words[place], run_name="__main__")
    finally:
        sys.argv = before
        sys.path.pop(0)


def read_options(line: str) -> None:
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(parser, args=None, namespace=None):
        _, unknown = parse(parser, args, namespace)
        raise ValueError(f"unknown: {unknown}") if unknown else OptionsRead

    argparse.ArgumentParser.parse_known_args = parse_and_stop  # type: ignore[method-assign]
    try:
        run_script(line)
        raise RuntimeError("the script read no options")
    except OptionsRead:
        pass
    finally:
        argparse.ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]


def run_python(block: str) -> None:
    exec(compile(block, "block", "exec"), {"__name__": "__main__"})


KINDS = {"python": run_python, "stmine": run_stmine, "script": run_script, "options": read_options}

if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # where `python` finds modules; tests/stmine_hf must not shadow the package
    for kind, text in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        start = time.perf_counter()
        try:
            KINDS[kind](text)
        except (Exception, SystemExit) as error:
            print(f"\nFAILED: {text}", file=sys.stderr)
            raise RuntimeError(f"FAILED: {text}") from error
        print(f"-- {time.perf_counter() - start:.1f} s: {text.splitlines()[0]}", file=sys.stderr)
