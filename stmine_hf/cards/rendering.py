"""Cards: a template, a header and facts become the `README.md` of a repository. All cards are written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import CardData

from .files import CARD

_TEMPLATES = Path(__file__).with_name("templates")

# Strict: a name without a value stops the rendering. An empty place in a card could be read as a statement.
_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined)  # noqa: S701  Markdown, not HTML


def where_from() -> str:
    """How the readers of a card of one's own run get this package: by the address in its metadata, or a wheel."""
    from .. import __version__

    try:
        addresses = metadata.metadata("stmine-hf").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from a folder
        addresses = []
    if addresses:
        return f"stmine-hf {__version__} is at <{addresses[0].rpartition(', ')[2]}>."
    return (
        f"stmine-hf {__version__} is on no package index yet: ask whoever publishes this model for a checkout "
        f'(`pip install -e ".[train]"` in it) or its wheel (`pip install stmine_hf-{__version__}-py3-none-any.whl`).'
    )


_environment.globals["where_from"] = where_from


@dataclass(frozen=True)
class Card:
    """A card, ready to be written.

    Attributes:
        template: its file in `templates/`, such as "fisvl/published.md"; it may include others of that folder.
        header: the metadata that the Hub reads.
        facts: what the template names.
    """

    template: str
    header: CardData
    facts: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The card, header included.

        Raises:
            jinja2.UndefinedError: the template names something that is not among the facts.
        """
        text = _environment.get_template(self.template).render(**self.facts)
        return f"---\n{self.header.to_yaml()}\n---\n\n{text}\n"

    def write(self, folder: Path) -> None:
        """Write `README.md` into a folder, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).write_text(self.text(), encoding="utf-8")


def size_category(rows: int) -> str:
    """The Hub's name for the size of a data set.

    Example:
        >>> size_category(500), size_category(10_921)
        ('n<1K', '10K<n<100K')
    """
    bounds = {10**3: "1K", 10**4: "10K", 10**5: "100K", 10**6: "1M", 10**7: "10M"}
    above = [word for bound, word in bounds.items() if rows >= bound]
    below = [word for bound, word in bounds.items() if rows < bound]
    return "<".join([*above[-1:], "n", *below[:1]]) if below else "n>10M"
