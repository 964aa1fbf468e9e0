"""Explain a prediction for a post, or a match of an image and a sentence, and render the explanation."""

from __future__ import annotations

from .attribution import Attribution, Region, Word
from .drawing import draw_captioned, draw_cells, explanation_html, explanation_page, explanation_svg

__all__ = [
    "Attribution",
    "Region",
    "Word",
    "draw_captioned",
    "draw_cells",
    "explanation_html",
    "explanation_page",
    "explanation_svg",
]
