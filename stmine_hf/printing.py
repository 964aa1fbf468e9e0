"""Make file names and third-party text safe to print."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions


def printable(text: object) -> str:
    """Escape every character of a text that a terminal would act on, or could not show.

    These are terminal escape sequences, line breaks, marks that change the direction of writing, and the lone
    surrogates that stand for undecodable bytes in a file name.

    Example:
        >>> printable("caf\\u00e9\\x1b[2J.jpg")
        'café\\\\x1b[2J.jpg'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shell_word(word: str) -> str:
    """A word of a command line to copy: quoted where a shell would take it apart.

    Example:
        >>> shell_word("not real"), shell_word("谣言")
        ("'not real'", '谣言')
    """
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else shlex.quote(word)


def counted(number: int, thing: str) -> str:
    """A number of things; without a thing just the number.

    Example:
        >>> counted(1, "box"), counted(2, "box"), counted(3000, "image"), counted(3000, "")
        ('1 box', '2 boxes', '3,000 images', '3,000')
    """
    return (
        f"{number:,} {thing}{'' if number == 1 else 'es' if thing.endswith('x') else 's'}" if thing else f"{number:,}"
    )


def from_here(path: Path) -> Path:
    """The path relative to the current folder, if it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def shown_path(path: str | Path) -> str:
    """A path as a person reads it: from the current folder, and safe to print."""
    return printable(from_here(Path(path)))


def say(text: object = "", *, to_stderr: bool = False, flush: bool = False) -> None:
    """Print lines for a person; what a terminal would act on is shown as its escape sequence."""
    lines = "\n".join(map(printable, str(text).split("\n")))
    print(lines, file=sys.stderr if to_stderr else sys.stdout, flush=flush)


def printable_json(document: Any) -> str:
    """A document as indented JSON, with escape sequences for what `printable` escapes. Reading it gives the same."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)


class Shown:
    """A table (or anything else) of rich, for its console to print; see `printable`."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.segment import Segment

        for text, style, control in console.render(self._content, options):
            yield Segment("\n".join(map(printable, text.split("\n"))), style, control)


def print_table(table: Any) -> None:
    """Print a table of rich; names in it are shown as they are: brackets are no markup, `:car:` is no emoji."""
    from rich.console import Console

    Console(markup=False, emoji=False).print(Shown(table))
