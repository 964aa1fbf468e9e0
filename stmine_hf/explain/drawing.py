"""Render explanations as HTML, SVG and on the image, in the same two colors.

Of a model with two labels each has one of the colors, in the prediction, in words, in the image and in its legend: red
the first (fake), blue the second (real). They differ for color-blind readers, too. With more labels, red speaks for
the predicted one and blue against it.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape

import numpy as np
from PIL import Image, ImageDraw

from ..fonts import Font, font_for, wrapped
from . import texts as say
from .attribution import Attribution

_FULL = 0.65  # opacity behind the word with the greatest weight
_SHOWN_WORDS = 3  # that are removed one by one, of those that drive the prediction most
_LEAST_WIDTH = 480  # pixels of an image with its caption
_MOST_LINES = 4  # of a line of the caption, when it is wrapped
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

STYLE = """
.prediction { border-left: 6px solid var(--tone); padding: .5rem .9rem; border-radius: 6px;
  margin: 0 0 .6rem; background: color-mix(in srgb, var(--tone) 12%, transparent); }
.prediction b { font-size: 1.3rem; }
.about { margin: 0 0 .6rem; }
.explanation h3 { font-size: 1rem; font-weight: 600; margin: 1rem 0 .3rem; }
.explanation .quiet { opacity: .7; font-size: .92rem; font-weight: normal; }
.caution { margin: 0 0 .6rem; padding: .5rem .9rem; border-radius: 6px; border-left: 6px solid #d97706;
  background: color-mix(in srgb, #d97706 12%, transparent); }
.words { margin: 0; line-height: 2; font-size: 1.05rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.words span { padding: .12rem .1rem; border-radius: 4px; }
.legend { font-weight: normal; }
.legend span { white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin: 0 .3em 0 .8em; }
.bars { display: grid; grid-template-columns: minmax(6.5rem, auto) 1fr 3.2rem; gap: .35rem .6rem;
  align-items: center; }
.bars .track { background: color-mix(in srgb, currentColor 15%, transparent); border-radius: 999px; height: .6rem;
  overflow: hidden; }
.bars .fill { background: var(--tone); height: 100%; }
"""
"""Style sheet for the HTML of `prediction_html`, `explanation_html` and `bars_html`."""

_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 2rem auto; max-width: 46rem; padding: 0 1rem; font: 1.05rem/1.5 system-ui, "Noto Sans CJK SC",
  sans-serif; }}
img {{ max-width: 100%; border-radius: .3rem; }}
{style}</style>
</head>
<body>
{content}
</body>
</html>
"""


def label_words(label: str, language: str = "en") -> str:
    """A label in words."""
    return say.LABELS[label](language) if label in say.LABELS else say.OTHER_LABEL(language, label=label)


def prediction_html(attribution: Attribution, language: str = "en") -> str:
    """The label and its probability."""
    label, sure = label_words(attribution.label, language), say.SURE(language, share=attribution.score)
    return f'<div class="prediction" {_tone(attribution)}><b>{_escape(label)}</b><br>{sure}</div>'


def explanation_html(attribution: Attribution, language: str = "en", warnings: Iterable[str] = ()) -> str:
    """The prediction, the text with its words colored, and the score without some of its parts; no image.

    Args:
        attribution: what is shown. Everything in it is escaped.
        language: "en" or "zh".
        warnings: shown below the prediction.
    """
    warned = "".join(f'<p class="caution">{_escape(warning)}</p>' for warning in warnings)
    return (
        f'<div class="explanation">{prediction_html(attribution, language)}{warned}'
        f"{_words(attribution, language)}{_what_if(attribution, language)}</div>"
    )


def bars_html(attribution: Attribution, rows: Iterable[tuple[str, float]]) -> str:
    """Named probabilities of the label as bars."""
    bars = "".join(
        f'<div>{_escape(name)}</div><div class="track"><div class="fill" style="width: {share:.1%}"></div></div>'
        f"<div>{share:.1%}</div>"
        for name, share in rows
    )
    return f'<div class="bars" {_tone(attribution)}>{bars}</div>'


def explanation_page(
    attribution: Attribution,
    image: Image.Image | None = None,
    language: str = "en",
    warnings: Iterable[str] = (),
    *,
    about: Sequence[str] = (),
    of_weibo: bool = False,
) -> str:
    """An HTML page that needs no other file: `explanation_html` and the drawn image.

    Args:
        attribution: what is shown.
        image: the (first) image of the post, if any.
        language: "en" or "zh".
        warnings: shown below the prediction.
        about: which post and which model, a line each; shown above the prediction.
        of_weibo: the labels are those of the Weibo set.
    """
    heading = "<br>".join(map(_escape, [*about, say.NOT_PROOF(language)]))
    content = f'<p class="about"><small class="quiet">{heading}</small></p>'
    content += explanation_html(attribution, language, [*warnings])
    if image is not None:
        title = say.IMAGE(language)
        drawn = image_html(draw_cells(image, attribution), title)
        content += (
            f'<div class="explanation"><h3>{title}<small class="legend">{_legend(attribution, language)}</small></h3>'
            f"<p>{drawn}</p></div>"
        )
    how = [say.METHODS[attribution.method](language)] if attribution.method in say.METHODS else []
    notes = [
        labels_note(attribution, language, of_weibo=of_weibo),
        say.STRENGTH(language),
        *how,
    ]
    content += f'<p class="explanation"><small class="quiet">{"<br>".join(map(_escape, notes))}</small></p>'
    title = _escape(label_words(attribution.label, language))
    return _PAGE.format(language=language, title=title, style=STYLE, content=content)


def draw_cells(image: Image.Image, attribution: Attribution) -> Image.Image:
    """The image, upright, with its cells tinted and its regions framed, in the colors of words."""
    from ..modeling.mttv.pipeline_mttv import draw_regions

    sign = attribution.sign
    turned = replace(
        attribution,
        regions=[replace(region, weight=sign * region.weight) for region in attribution.regions],
        cells=[[sign * weight for weight in row] for row in attribution.cells],
    )
    return draw_regions(image, turned.to_dict(), strongest=attribution.strongest)


def draw_captioned(
    image: Image.Image, attribution: Attribution, about: Sequence[str] = (), language: str = "en"
) -> Image.Image:
    """`draw_cells` above a caption: the prediction, what the colors mean, and that it is no proof.

    Args:
        image: the image of the post.
        attribution: what is shown.
        about: which post and which model, a line each.
        language: "en" or "zh".
    """
    drawn = draw_cells(image, attribution)
    width, margin, size = max(drawn.width, _LEAST_WIDTH), 12, 15
    label, sure = label_words(attribution.label, language), say.SURE(language, share=attribution.score)
    said = [(f"{label}. {sure}", _color_of(attribution, attribution.label))]
    said += [(meaning, color) for color, meaning in _meanings(attribution, language)]
    plain = [(line, None) for line in (say.NOT_PROOF(language), *about)]
    placed: list[tuple[str, tuple[int, int, int] | None, Font]] = []
    for text, color in (*said, *plain):
        font = font_for(size, text)
        for number, line in enumerate(wrapped(text, font, width - 2 * margin - 22, most_lines=_MOST_LINES)):
            placed.append((line, color if number == 0 else None, font))
    canvas = Image.new("RGB", (width, drawn.height + 2 * margin + len(placed) * (size + 7)), "white")
    canvas.paste(drawn, (0, 0))
    drawing, y = ImageDraw.Draw(canvas), drawn.height + margin
    for line, swatch, font in placed:
        if swatch is not None:
            drawing.rectangle((margin, y + 2, margin + size - 1, y + size + 1), fill=swatch)
        drawing.text((margin + 22, y), line, fill="black", font=font)
        y += size + 7
    return canvas


def labels_note(attribution: Attribution, language: str = "en", *, of_weibo: bool = False) -> str:
    """What the labels are; see `explanation_page`."""
    joined = (" and " if language == "en" else " 和 ").join(attribution.scores)
    known = say.ABOUT_WEIBO if of_weibo and {*attribution.scores} == {"fake", "real"} else say.ABOUT_LABELS
    return known(language, labels=joined)


def _meanings(attribution: Attribution, language: str) -> list[tuple[tuple[int, int, int], str]]:
    """The two colors, and what they mean."""
    if attribution.poles is not None:
        said = [say.TOWARDS(language, label=label) for label in attribution.poles]
    else:
        said = [one(language, label=attribution.label) for one in (say.TOWARDS, say.AGAINST)]
    return [(_rgb_of(1), said[0]), (_rgb_of(-1), said[1])]


def _color_of(attribution: Attribution, label: str) -> tuple[int, int, int]:
    return _rgb_of(-1 if attribution.poles is not None and label == attribution.poles[1] else 1)


def _legend(attribution: Attribution, language: str) -> str:
    return "".join(
        f'<span><i style="background: rgba({",".join(map(str, color))},{_FULL})"></i>{_escape(said)}</span> '
        for color, said in _meanings(attribution, language)
    )


def image_html(image: Image.Image, alt: str, *, kind: str = "PNG") -> str:
    """An `<img>` that holds the image itself."""
    return f'<img alt="{_escape(alt)}" src="{_data_url(image, kind)}">'


def explanation_svg(attribution: Attribution, image: Image.Image, columns: int = 20) -> str:
    """Prediction, colored words and drawn image as one SVG, which a browser shows in its own fonts.

    Args:
        attribution: what is shown; each character of its text gets a square.
        image: the image of the post.
        columns: characters in a line.
    """
    side, left, top = 26, image.width + 28, 62
    text, strongest = attribution.text, attribution.strongest
    weights = np.zeros(len(text))
    for word in attribution.words:
        weights[word.start : word.end] = attribution.sign * word.weight / strongest
    parts = []
    for place, (character, weight) in enumerate(zip(text, weights, strict=True)):
        x, y = left + place % columns * side, top + place // columns * (side + 6)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="rgb({_rgb(weight)})" '
            f'fill-opacity="{_FULL * abs(weight):.2f}"/>'
            f'<text x="{x + side / 2}" y="{y + 20}">{_escape(character)}</text>'
        )
    width, height = left + columns * side + 14, max(image.height + 28, top + 8 * side)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="18" text-anchor="middle"><rect width="100%" height="100%" fill="white"/>'
        f'<image x="14" y="14" width="{image.width}" height="{image.height}" '
        f'href="{_data_url(draw_cells(image, attribution), "PNG")}"/>'
        f'<text x="{left}" y="40" font-size="22" text-anchor="start">{_escape(attribution.label)} '
        f"({attribution.score:.1%})</text>{''.join(parts)}</svg>\n"
    )


def _words(attribution: Attribution, language: str) -> str:
    if not attribution.words:
        return ""
    text, strongest, parts, end = attribution.text, attribution.strongest, [], 0
    for word in attribution.words:
        color = f"rgba({_rgb(attribution.sign * word.weight)},{_FULL * abs(word.weight) / strongest:.2f})"
        said = _escape(_meanings(attribution, language)[attribution.sign * word.weight < 0][1])
        title = f"{said}: {abs(word.weight):.3f}"
        parts.append(_escape(text[end : word.start]))
        parts.append(f'<span style="background: {color}" title="{title}">{_escape(word.word)}</span>')
        end = word.end
    if attribution.unread:
        parts.append(f'<small class="quiet">{_escape(text[end:])} ({say.UNREAD(language)})</small>')
    legend = _legend(attribution, language)
    return f'<h3>{say.WORDS(language)}<small class="legend">{legend}</small></h3><p class="words">{"".join(parts)}</p>'


def _what_if(attribution: Attribution, language: str) -> str:
    """The label's probability for the post as it is, and without the parts that drive it most."""
    rows = [(say.AS_IT_IS(language), attribution.score)]
    if attribution.without_image is not None:
        rows.append((say.WITHOUT_IMAGE(language), attribution.without_image))
    for word in attribution.strongest_words(_SHOWN_WORDS):
        if word.without is not None:
            rows.append((say.WITHOUT_WORD(language, word=word.word), word.without))
    if len(rows) == 1:
        return ""
    label = _escape(label_words(attribution.label, language))
    return f'<h3>{say.WHAT_IF(language)} <small class="quiet">{label}:</small></h3>{bars_html(attribution, rows)}'


def _tone(attribution: Attribution) -> str:
    return f'style="--tone: rgb({",".join(map(str, _color_of(attribution, attribution.label)))})"'


def _rgb(weight: float) -> str:
    return ",".join(map(str, _rgb_of(weight)))


def _rgb_of(weight: float) -> tuple[int, int, int]:
    from ..modeling.mttv.pipeline_mttv import color_of

    return color_of(weight)


def _escape(text: str) -> str:
    """A text for HTML and SVG; what no XML may hold, such as control characters, becomes U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _data_url(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


__all__ = [
    "STYLE", "bars_html", "draw_captioned", "draw_cells", "explanation_html", "explanation_page", "explanation_svg",
    "image_html", "label_words", "prediction_html",
]  # fmt: skip
