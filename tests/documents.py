"""What READMEs and cards show: their code blocks, and whether a shown command line exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer

from stmine_hf.cli import app

ROOT = Path(__file__).resolve().parents[1]


def commands(document: str | Path) -> list[str]:
    """The lines of a document's bash blocks, without comments. A relative path starts at the checkout."""
    return [re.sub(r"\s+#.*", "", line) for line in "".join(_blocks(document, "bash")).splitlines()]


def python_blocks(document: str | Path) -> list[str]:
    return _blocks(document, "python")


def check_command(line: str) -> None:
    """Parse a shown command line without running it; an unknown command, option, target or file fails."""
    words = shlex.split(line, comments=True)
    if words[0] == "stmine":
        _parse_stmine(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for file in (word for word in words if word.startswith("examples/")):
        assert (ROOT / file).is_file(), file


def _parse_stmine(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


def _blocks(document: str | Path, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
