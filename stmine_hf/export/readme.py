"""The README of an exported model: how to use it with nothing but its runtime, NumPy and Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

FILE = "README.md"

# Strict, as the cards: a name without a value stops the rendering.
_environment = jinja2.Environment(  # noqa: S701  Markdown, not HTML
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def write_readme(folder: Path, template: str, **facts: Any) -> None:
    """Write `README.md` into a folder.

    Args:
        folder: is there.
        template: its file in `templates/`.
        facts: what the template names.

    Raises:
        jinja2.UndefinedError: the template names something that is not among the facts.
    """
    (folder / FILE).write_text(_environment.get_template(template).render(**facts), encoding="utf-8")


def title(model: object, otherwise: str) -> str:
    """The name of a model: the last part of its folder or repository."""
    return Path(getattr(model, "name_or_path", "") or otherwise).name
