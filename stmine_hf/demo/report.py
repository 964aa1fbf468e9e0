"""The tour: all that the demo shows, once, as one HTML page that needs no other file and no server."""

from __future__ import annotations

import base64
import io
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..errors import StmineError
from ..files import write_atomically
from ..loading import published
from . import samples
from . import texts as say
from .event import EventDesk
from .objects import FoundObjects, ObjectFinder
from .places import place_in
from .posts import PostCheck, PostChecker
from .searching import ImageSearch

TOP = 3  # images for a sentence
THRESHOLD = 0.25  # of boxes: drawn images, in which models trained on photographs are less sure
_SIDE = 480  # pixels of the longer side of an image on the page, at most
_SHOWN_WORDS = 3  # what-ifs of single words


@dataclass(frozen=True)
class Tour:
    """What the tour is made with: folders or Hub ids of models, loaded ones, or None for those of this release.

    Attributes:
        fisvl: for the search.
        mttv: for the posts.
        sat: for everyday things.
        hidden: for what hides.
        images: a folder or an index of one's own, searched in the place of drawn images.
        queries: sentences or images of one's own to search for.
        language: "en" or "zh".
    """

    fisvl: Any = None
    mttv: Any = None
    sat: Any = None
    hidden: Any = None
    images: str | Path | None = None
    queries: Sequence[str] = ()
    language: str = "en"
    device: str | None = None


def write_report(tour: Tour, out: str | Path, *, progress: bool = True) -> Path:
    """Run the tour and write its page.

    Args:
        out: folder for `report.html`; made if missing.
        progress: show a bar on stderr.

    Returns:
        The page.

    Raises:
        StmineError: an unknown language, or a model, folder or sentence that cannot be used.
    """
    if tour.language not in say.LANGUAGES:
        raise StmineError(f"language: expected {' or '.join(say.LANGUAGES)}, found {tour.language!r}.")
    started, language = time.monotonic(), tour.language
    with _Steps(8, shown=progress) as step:
        step("drawing images")
        scenes = tour.images or samples.scenes()
        step("opening the search")
        search = ImageSearch(tour.fisvl, scenes, device=tour.device)
        step("searching")
        parts = [_search_part(search, tour)]
        step("checking posts")
        checker, posts = PostChecker(tour.mttv, device=tour.device), samples.posts()
        checks = [checker.check(post.text, post.image) for post in posts]
        parts.append(_posts_part(list(zip(posts, checks, strict=True)), language))
        step("finding objects")
        everyday = ObjectFinder(tour.sat, device=tour.device)
        hidden = ObjectFinder(tour.hidden or published("sat-indiscernible"), device=tour.device)
        parts.append(_objects_part(everyday, hidden, language))
        step("looking at a video")
        parts.append(_video_part(everyday, language))
        step("putting all three together")
        parts.append(_event_part(EventDesk(search, checker, everyday), posts[1], tour))
        step("writing the page")
        names = ", ".join(
            dict.fromkeys([search.model_name, checker.model_name, everyday.model_name, hidden.model_name])
        )
        seconds = time.monotonic() - started
        parts.append(f"<footer>{say.FOOTER(language, seconds=seconds, models=escape(names))}</footer>")
        page = Path(out) / "report.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        document = _page("".join(parts), language, own=tour.images is not None)
        write_atomically(page, lambda temporary: temporary.write_text(document, encoding="utf-8"))
    return page


def _search_part(search: ImageSearch, tour: Tour) -> str:
    language, rows = tour.language, []
    for number, query in enumerate(tour.queries or samples.SENTENCES["en"]):
        image = Path(query) if Path(query).is_file() else None
        sentence = query if image else place_in(query) or query
        heading = query
        if language == "zh" and not tour.queries:
            heading, sentence = samples.SENTENCES["zh"][number], query
        found = search.search(Image.open(image) if image else sentence, TOP)
        cards = []
        for match in found:
            shown = [_img(match.image, match.name)]
            if image is None:
                shown.append(_img(search.heat_map(match, sentence), say.SIMILARITY(language, score=match.score)))
            caption = f"<b>{match.rank}</b> {say.SIMILARITY(language, score=match.score)}"
            cards.append(_figure("".join(shown), caption, "pair" if image is None else ""))
        note = (
            ""
            if sentence == heading or image
            else f" <small>{say.READ_AS(language, sentence=escape(sentence))}</small>"
        )
        rows.append(f"<h3>“{escape(heading)}”{note}</h3><div class=three>{''.join(cards)}</div>")
    if search.skipped:
        rows.append(f"<p class=note>{say.SEARCH_SKIPPED(language, count=len(search.skipped))}</p>")
    return _section(say.SEARCH(language), say.SEARCH_HOW(language, count=len(search)), *rows)


def _posts_part(checked: Iterable[tuple[samples.SamplePost, PostCheck]], language: str) -> str:
    cards = [
        f"<article>{_verdict(check, language)}<div class=post><div>{_shaded(check)}"
        f"<p class=note>{escape(post.meaning)}</p>{_what_ifs(check, language)}</div>"
        f"{_img(check.image, '') if check.image else ''}</div></article>"
        for post, check in checked
    ]
    return _section(
        say.POSTS(language), say.POSTS_HOW(language), *cards, f"<p class=note>{say.NO_PROOF(language)}</p>"
    )


def _objects_part(everyday: ObjectFinder, hidden: ObjectFinder, language: str) -> str:
    street = everyday.find(samples.street(), THRESHOLD)
    pairs = []
    for image in samples.hidden():
        found = hidden.find(image, THRESHOLD)
        pairs.append(_figure(_img(image, "") + _img(found.image, ""), _found(found, language), "pair"))
    return _section(
        say.OBJECTS(language),
        say.OBJECTS_HOW(language),
        f"<h3>{say.STREET(language)}</h3>{_figure(_img(street.image, ''), _found(street, language))}",
        f"<h3>{say.HIDDEN(language)}</h3><div class=two>{''.join(pairs)}</div>",
    )


def _video_part(everyday: ObjectFinder, language: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        found = everyday.find_in_video(samples.clip(), THRESHOLD, out=folder)
        data = base64.b64encode(found.video.read_bytes()).decode()
    title = say.VIDEO(language, frames=found.frames, boxes=sum(found.counts.values()))
    return (
        f"<section><h3>{title}</h3><video controls loop muted autoplay playsinline "
        f'src="data:video/mp4;base64,{data}"></video></section>'
    )


def _event_part(desk: EventDesk, post: samples.SamplePost, tour: Tour) -> str:
    language = tour.language
    event = desk.look(post.text, post.image, place=post.place, threshold=THRESHOLD, top=TOP)
    objects = f"{_img(event.objects.image, '')}<p>{_found(event.objects, language)}</p>" if event.objects else ""
    ground = "".join(
        _figure(_img(match.image, match.name) + _img(heat, ""), "", "pair")
        for match, heat in zip(event.matches, event.heat_maps, strict=True)
    )
    return _section(
        say.EVENT(language),
        say.EVENT_HOW(language),
        f"<article><div class=post><div><h3>{say.EVENT_VERDICT(language)}</h3>{_verdict(event.check, language)}"
        f"{_shaded(event.check)}<p class=note>{escape(post.meaning)}</p></div>"
        f"<div><h3>{say.EVENT_OBJECTS(language)}</h3>{objects}</div></div></article>",
        f"<h3>{say.EVENT_GROUND(language, sentence=escape(event.sentence))}</h3><div class=three>{ground}</div>",
    )


def verdict_words(label: str, language: str) -> str:
    """A label as a person would say it."""
    known = {"fake": say.FAKE, "real": say.REAL}
    return known[label](language) if label in known else say.OTHER(language, label=escape(label))


def _verdict(check: PostCheck, language: str) -> str:
    kind = check.label if check.label in ("fake", "real") else "other"
    return (
        f"<p class='verdict {kind}'><b>{verdict_words(check.label, language)}</b> "
        f"{say.SURE(language, share=check.confidence)}</p>"
    )


def _shaded(check: PostCheck) -> str:
    weights = [word.weight for word in check.words] + [region.weight for region in check.regions]
    strongest = max(map(abs, weights), default=0.0) or 1.0
    parts, place = [], 0
    for word in check.words:
        colour = "214,39,40" if word.weight > 0 else "31,119,180"
        shade = f"rgba({colour},{0.65 * abs(word.weight) / strongest:.2f})"
        parts.append(escape(check.text[place : word.start]))
        parts.append(f"<span style='background:{shade}'>{escape(word.word)}</span>")
        place = word.end
    return f"<p class=text>{''.join(parts)}{escape(check.text[place:])}</p>"


def _what_ifs(check: PostCheck, language: str) -> str:
    """The post as it is, and with the most telling parts taken away: how likely the verdict stays."""
    rows = [(say.AS_IT_IS(language), check.confidence)]
    for part, title in ((check.without_image, say.WITHOUT_IMAGE), (check.without_text, say.WITHOUT_TEXT)):
        if part is not None:
            rows.append((title(language), part.probabilities[check.label]))
    telling: dict[str, float] = {}  # of a word that occurs twice, the place that tells more
    for word in sorted(check.words, key=lambda word: -abs(word.weight)):
        telling.setdefault(word.word, word.without)
    most = list(telling.items())[:_SHOWN_WORDS]
    rows += [(say.WITHOUT_WORD(language, word=escape(word)), without) for word, without in most]
    cells = "".join(
        f"<tr><td>{name}</td><td class=bar><i style='width:{100 * share:.0f}%'></i></td><td>{share:.1%}</td></tr>"
        for name, share in rows
    )
    return f"<table><caption>{say.WHAT_IF(language)} {verdict_words(check.label, language)}?</caption>{cells}</table>"


def _found(found: FoundObjects, language: str) -> str:
    what = ", ".join(f"{escape(name)} ({count})" for name, count in found.counts.items())
    return say.FOUND(language, what=what) if what else say.NOTHING(language)


def _img(image: Image.Image, alt: str) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.convert("RGB").save(file, "JPEG", quality=85)
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _figure(content: str, caption: str, kind: str = "") -> str:
    return f"<figure class='{kind}'><div>{content}</div><figcaption>{caption}</figcaption></figure>"


def _section(title: str, how: str, *content: str) -> str:
    return f"<section><h2>{title}</h2><p class=how>{how}</p>{''.join(content)}</section>"


def _page(content: str, language: str, *, own: bool) -> str:
    subtitle = say.SUBTITLE(language, except_own=say.EXCEPT_OWN(language) if own else "")
    return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>stmine-hf</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{say.TITLE(language)}</h1><p>{subtitle}</p></header>
{content}
</body>
</html>
"""


_STYLE = """
:root { color-scheme: light dark; --paper: #f4f5f7; --card: #fff; --ink: #181c24; --faint: #667080; --line: #e2e5ea;
  --for: #d62728; --against: #1f77b4; --real: #2a8a4a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1e232b; --ink: #e8ebf0; --faint: #99a2b1;
  --line: #303743; --for: #ff6b66; --against: #6db6f2; --real: #63c787; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1.05rem/1.5 system-ui, "Noto Sans CJK SC", sans-serif; }
h1 { margin: 0; font-size: 2.2rem; line-height: 1.2; }
h2 { margin: 0; font-size: 1.5rem; }
h3 { margin: 1.4rem 0 .5rem; font-size: 1.1rem; }
h3 small, .note, figcaption, footer, header p { color: var(--faint); font-weight: normal; }
.note, figcaption, small { font-size: .9rem; }
section { margin: 2.5rem 0 0; }
.how { margin: .2rem 0 0; }
.for { color: var(--for); } .against { color: var(--against); }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem;
  align-items: start; }
.two .pair > div { align-items: center; }
.two .pair img { aspect-ratio: auto; }
figure { margin: 0; padding: .5rem; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); }
figure > div { display: grid; gap: .4rem; }
.pair > div { grid-template-columns: 1fr 1fr; }
figcaption { padding: .3rem .2rem 0; }
img, video { display: block; width: 100%; border-radius: .3rem; }
.pair img { aspect-ratio: 1; object-fit: contain; background: var(--line); }
section > figure, section > video { max-width: 40rem; }
article { margin: 1rem 0; padding: 1rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); }
.post { display: grid; grid-template-columns: 1fr minmax(12rem, 18rem); gap: 1.2rem; align-items: start; }
.post h3 { margin-top: 0; }
.text { margin: .3rem 0; font-size: 1.2rem; line-height: 1.9; }
.text span { padding: .1em 0; border-radius: .15em; }
.verdict { margin: 0 0 .4rem; }
.verdict b { padding: .15em .6em; border-radius: 1em; color: #fff; background: var(--faint); }
.verdict.fake b { background: #b45309; } .verdict.real b { background: #0f766e; }
table { border-collapse: collapse; width: 100%; max-width: 34rem; font-size: .95rem; }
caption { text-align: left; font-weight: 600; padding: .4rem 0 .2rem; }
td { padding: .1rem .6rem .1rem 0; white-space: nowrap; } td:last-child { text-align: right; padding: 0; }
.bar { width: 60%; } .bar i { display: block; height: .6rem; border-radius: .3rem; background: var(--faint); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .9rem; }
@media (max-width: 40rem) { body { padding: 1rem; } h1 { font-size: 1.6rem; } .post { grid-template-columns: 1fr; } }
"""


class _Steps:
    """A bar on stderr that names what is being done."""

    def __init__(self, total: int, *, shown: bool):
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            console=console, transient=True, disable=not (shown and console.is_terminal),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._begun = False

    def __enter__(self) -> _Steps:
        self._bar.start()
        return self

    def __call__(self, doing: str) -> None:
        self._bar.update(self._task, description=doing, advance=int(self._begun))
        self._begun = True

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
