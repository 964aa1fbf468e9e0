"""What READMEs and cards show: their code blocks, and whether a shown command line exists."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import typer

from stmine_hf.cli import app

ROOT = Path(__file__).resolve().parents[1]


def commands(document: str | Path) -> list[str]:
    """The lines of a document's bash blocks, without comments. A relative path starts at the checkout."""
    return [text for language, text in shown(document) if language == "bash"]


def python_blocks(document: str | Path) -> list[str]:
    return [text for language, text in shown(document) if language == "python"]


def shown(document: str | Path) -> list[tuple[str, str]]:
    """Language and text of each code block, in order; bash blocks of several commands come command by command."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(kind, part) for kind, block in blocks for part in (_lines(block) if kind == "bash" else [block])]


def _lines(block: str) -> list[str]:
    """Commands of a bash block: continued lines joined, comments gone."""
    return [line for line in (re.sub(r"\s+#.*", "", row) for row in block.replace("\\\n", "").splitlines()) if line]


def check_command(line: str) -> None:
    """Parse a shown command line without running it; an unknown command, option, target or file fails."""
    words = shlex.split(line, comments=True)
    if words[0] == "stmine":
        _parse_stmine(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[:2] == ["pip", "install"]:
        for extra in re.findall(r"\[(\w+)\]", line):
            assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    for file in (word for word in words if word.startswith("examples/")):
        assert (ROOT / file).is_file(), file


def _parse_stmine(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


# A few lines that stand for four million values.
YAML_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + before])}]\n" for before, name in pairwise("abcdefgh")
)
