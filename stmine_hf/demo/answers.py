"""Answers as HTML: explained predictions, warnings and counts. Whatever a user wrote is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..explain.drawing import bars_html, explanation_html, prediction_html
from ..explain.texts import WITHOUT_WORD
from ..inference.scope import Warned
from . import texts as say
from .posts import PostCheck


def prediction(check: PostCheck, language: str) -> str:
    """The label and its probability, and why they may mean little."""
    return prediction_html(check.attribution, language) + "".join(map(warning_html, warnings(check, language)))


def explanation(check: PostCheck, language: str) -> str:
    """The prediction, the text with its words colored, and the score without some of them."""
    return explanation_html(check.attribution, language, warnings(check, language))


def warnings(check: PostCheck, language: str) -> list[str]:
    return [warned(check.warned, language)] if check.warned else []


def warned(warning: Warned, language: str) -> str:
    """A warning in a language."""
    if language != "zh":
        return warning.message
    return say.WARNINGS[warning.kind](language, **warning.values)


def left_out(check: PostCheck, number: int, language: str) -> str:
    """The score without word `number`."""
    word = check.attribution.words[number]
    if word.without is None:
        return ""
    return bars_html(check.attribution, [(WITHOUT_WORD(language, word=word.word), word.without)])


def counts(found: Mapping[str, int], nothing: str, language: str = "en") -> str:
    """The number of objects of each class; or that there is none."""
    if not found:
        return note(nothing)
    said = "".join(
        f"<span>{number} &times; {escape(say.class_name(name, language))}</span>" for name, number in found.items()
    )
    return f'<div class="found">{said}</div>'


def note(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def warning_html(text: str) -> str:
    return f'<p class="caution">{escape(text)}</p>'
