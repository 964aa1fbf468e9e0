"""Cards: a template, a header and facts become the `README.md` of a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import CardData

TEMPLATES = Path(__file__).with_name("templates")

# Strict: a name without a value stops the rendering. An empty place in a card would read as a statement.
_environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined)


def render(template: str, header: CardData, **facts: Any) -> str:
    """The text of a card, the header that the Hub reads included.

    Args:
        template: its file in `templates/`, such as "fisvl/published.md"; it may include others of that folder.
        header: the metadata.
        facts: what the template names.

    Raises:
        jinja2.UndefinedError: the template names something that is not among them.
    """
    text = _environment.get_template(template).render(**facts)
    return f"---\n{header.to_yaml()}\n---\n\n{text}\n"
