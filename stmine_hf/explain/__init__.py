"""What moved a prediction on a post, or a match of an image and a sentence, and how it is shown."""

from __future__ import annotations

from .attribution import Attribution, Region, Word
from .drawing import draw_cells, explanation_html, explanation_page, explanation_svg

__all__ = [
    "Attribution",
    "Region",
    "Word",
    "draw_cells",
    "explanation_html",
    "explanation_page",
    "explanation_svg",
]
