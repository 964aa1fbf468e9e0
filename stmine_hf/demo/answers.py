"""Answers as HTML: verdicts, coloured words, bars and counts. Whatever a visitor wrote is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from . import app_texts as say
from .posts import PostCheck

# For and against the verdict: as the tints on the image, told apart by those who confuse red and green, too.
_FOR, _AGAINST = "214, 39, 40", "31, 119, 180"
_TONES = {"fake": "#d97706", "real": "#0d9488"}  # amber and teal
_MOST_WORDS = 3  # in "what if", of those that move the verdict most


def verdict(check: PostCheck, language: str) -> str:
    """The label and how sure the model is."""
    tone, label = _tone(check.label), _label(check.label, language)
    sure = say.POSTS_SURE(language, share=check.confidence)
    return f'<div class="verdict" style="--tone: {tone}"><b>{label}</b>{sure}</div>'


def explanation(check: PostCheck, language: str) -> str:
    """The verdict, the text with its words coloured, and the verdict on what is left without a part."""
    return f'<div class="answer">{verdict(check, language)}{_words(check, language)}{_what_if(check, language)}</div>'


def left_out(check: PostCheck, number: int, language: str) -> str:
    """What becomes of the verdict without word `number`."""
    word = check.words[number]
    row = _bar(say.POSTS_WITHOUT_WORD(language, word=word.word), word.without)
    return f'<div class="bars" style="--tone: {_tone(check.label)}">{row}</div>'


def counts(found: Mapping[str, int], nothing: str) -> str:
    """How many of each kind; or that there is nothing."""
    if not found:
        return f'<p class="quiet">{escape(nothing)}</p>'
    said = "".join(f"<span>{number} × {escape(name)}</span>" for name, number in found.items())  # noqa: RUF001
    return f'<div class="found">{said}</div>'


def note(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _words(check: PostCheck, language: str) -> str:
    if not check.words:
        return ""
    strongest = max(abs(word.weight) for word in check.words) or 1.0
    parts, end = [], 0
    for word in check.words:
        colour = _FOR if word.weight > 0 else _AGAINST
        amount = 0.6 * abs(word.weight) / strongest
        parts.append(escape(check.text[end : word.start]))
        parts.append(f'<span style="background: rgba({colour}, {amount:.2f})">{escape(word.word)}</span>')
        end = word.end
    if check.unread:
        parts.append(f' <span class="quiet">{escape(check.unread)} ({say.POSTS_UNREAD(language)})</span>')
    legend = (
        f'<span><i style="background: rgba({_FOR}, .6)"></i>{say.POSTS_LEGEND(language)}</span> '
        f'<span><i style="background: rgba({_AGAINST}, .6)"></i>{say.POSTS_AGAINST(language)}</span>'
    )
    return (
        f"<h3>{say.POSTS_WORDS(language)}<small class='legend'>{legend}</small></h3>"
        f'<div class="words">{"".join(parts)}</div>'
    )


def _what_if(check: PostCheck, language: str) -> str:
    rows = [_bar(say.POSTS_AS_IS(language), check.confidence)]
    for what, changed in (
        (say.POSTS_WITHOUT_IMAGE, check.without_image),
        (say.POSTS_WITHOUT_TEXT, check.without_text),
    ):
        if changed:
            rows.append(_bar(what(language), changed.probabilities[check.label]))
    for word in sorted(check.words, key=lambda word: word.without)[:_MOST_WORDS]:
        rows.append(_bar(say.POSTS_WITHOUT_WORD(language, word=word.word), word.without))
    title = f"{say.POSTS_WHAT_IF(language)} <small class='quiet'>{_label(check.label, language)}:</small>"
    return f'<h3>{title}</h3><div class="bars" style="--tone: {_tone(check.label)}">{"".join(rows)}</div>'


def _bar(name: str, share: float) -> str:
    fill = f'<div class="fill" style="width: {share:.1%}"></div>'
    return f'<div>{escape(name)}</div><div class="track">{fill}</div><div>{share:.1%}</div>'


def _tone(label: str) -> str:
    return _TONES.get(label, "#64748b")


def _label(label: str, language: str) -> str:
    return escape(say.POSTS_LABELS[label](language) if label in say.POSTS_LABELS else label)
