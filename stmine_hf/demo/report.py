"""The report: everything that the demo shows, as one self-contained HTML page."""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..detect import Detector
from ..errors import StmineError
from ..explain.drawing import STYLE, image_html
from ..explain.texts import LANGUAGES
from ..inference.progress import ProgressBar
from ..loading import published
from ..outputs import write_output
from ..search import ImageIndex
from ..search.places import place_in
from . import answers, samples
from . import texts as say
from .event import EventDemo
from .objects import THRESHOLD, FoundObjects, ObjectFinder
from .posts import PostCheck, PostChecker
from .scene import count_in_scene
from .searching import ImageSearch, index_folder

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor
    from ..modeling.sat.image_processing_sat import SatImageProcessor
    from ..modeling.sat.modeling_sat import SatForObjectDetection

TOP = 3  # images for a sentence
TILE, SLICE = 256, 320  # pixels: parts of a scene for the search, and for the detector
TILES, SURE = 2, 0.5  # hits shown of the scene, and the score of objects that are counted
_SIDE = 480  # pixels of the longer side of an image on the page, at most
_SCENE_SIDE = 900  # of a scene


@dataclass(frozen=True)
class Tour:
    """What the report is made with. Models: folders or Hub ids, loaded ones, or None for those of this release.

    Attributes:
        fisvl: for the search.
        mttv: for the posts.
        sat: for everyday objects.
        hidden: for hidden objects.
        images: a folder or an index of your own, searched in place of drawn images.
        queries: sentences or images of your own to search for.
        language: "en" or "zh".
    """

    fisvl: str | Path | tuple[FisvlModel, FisvlProcessor] | None = None
    mttv: str | Path | tuple[MttvForSequenceClassification, MttvProcessor] | None = None
    sat: str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None = None
    hidden: str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None = None
    images: str | Path | None = None
    queries: Sequence[str] = ()
    language: str = "en"
    device: str | None = None


def write_report(tour: Tour, out: str | Path, *, progress: bool = True) -> Path:
    """Run all parts of the demo once and write the report.

    Args:
        out: folder for `report.html`; made if missing.
        progress: show a bar on stderr.

    Returns:
        The page.

    Raises:
        StmineError: an unknown language, or a model, folder or sentence that cannot be used.
    """
    if tour.language not in LANGUAGES:
        raise StmineError(f"language: expected {' or '.join(LANGUAGES)}, found {tour.language!r}.")
    started, language = time.monotonic(), tour.language
    with ProgressBar("Drawing images", 9, shown=progress) as bar:
        scenes = tour.images or samples.scenes()
        bar.advance(worked=0, doing="Opening the search")
        search = ImageSearch(tour.fisvl, scenes, device=tour.device)
        bar.advance(worked=0, doing="Searching")
        parts = [_search_part(search, tour)]
        bar.advance(worked=0, doing="Checking posts")
        checker, posts = PostChecker(tour.mttv, device=tour.device), samples.posts()
        checks = [checker.check(post.text, post.image) for post in posts]
        parts.append(_posts_part(list(zip(posts, checks, strict=True)), language))
        bar.advance(worked=0, doing="Finding objects")
        everyday = ObjectFinder(tour.sat, device=tour.device)
        hidden = ObjectFinder(tour.hidden or published("sat-indiscernible"), device=tour.device)
        parts.append(_objects_part(everyday, hidden, language))
        bar.advance(worked=0, doing="Reading a video")
        parts.append(_video_part(everyday, language))
        bar.advance(worked=0, doing="Combining all three")
        parts.append(_event_part(EventDemo(search, checker, everyday), posts[1], tour))
        bar.advance(worked=0, doing="Counting in a scene")
        aircraft = published("sat-aircraft")
        counter = Detector(aircraft, slice=SLICE, overlap=0.3, threshold=SURE, device=tour.device)
        parts.append(_scene_part(search, counter, language))
        bar.advance(worked=0, doing="Writing the page")
        names = ", ".join(
            dict.fromkeys(
                [search.model_name, checker.model_name, everyday.model_name, hidden.model_name, counter.name]
            )
        )
        seconds = time.monotonic() - started
        parts.append(f"<footer>{say.REPORT_FOOTER(language, seconds=seconds, models=escape(names))}</footer>")
        page = Path(out) / "report.html"
        document = _page("".join(parts), language, own=tour.images is not None)
        write_output(page, lambda path: path.write_text(document, encoding="utf-8"))
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
                shown.append(
                    _img(search.heat_map(match, sentence), say.REPORT_SIMILARITY(language, score=match.score))
                )
            caption = f"<b>{match.rank}</b> {say.REPORT_SIMILARITY(language, score=match.score)}"
            cards.append(_figure("".join(shown), caption, "pair" if image is None else ""))
        note = (
            ""
            if sentence == heading or image
            else f" <small>{say.REPORT_READ_AS(language, sentence=escape(sentence))}</small>"
        )
        rows.append(f"<h3>“{escape(heading)}”{note}</h3><div class=three>{''.join(cards)}</div>")
    if search.skipped:
        rows.append(f"<p class=note>{say.REPORT_SEARCH_SKIPPED(language, count=len(search.skipped))}</p>")
    return _section(say.REPORT_SEARCH(language), say.REPORT_SEARCH_HOW(language, count=len(search)), *rows)


def _posts_part(checked: Iterable[tuple[samples.SamplePost, PostCheck]], language: str) -> str:
    cards = [
        f"<article class=post><div>{answers.explanation(check, language)}"
        f"<p class=note>{escape(post.meaning)}</p></div>{_img(check.image, '') if check.image else ''}</article>"
        for post, check in checked
    ]
    return _section(
        say.REPORT_POSTS(language),
        say.REPORT_POSTS_HOW(language),
        *cards,
        f"<p class=note>{say.REPORT_NO_PROOF(language)}</p>",
    )


def _objects_part(everyday: ObjectFinder, hidden: ObjectFinder, language: str) -> str:
    street = everyday.find(samples.street(), THRESHOLD)
    pairs = []
    for image in samples.hidden():
        found = hidden.find(image, THRESHOLD)
        pairs.append(_figure(_img(image, "") + _img(found.drawn(language), ""), _found(found, language), "pair"))
    return _section(
        say.REPORT_OBJECTS(language),
        say.REPORT_OBJECTS_HOW(language),
        f"<h3>{say.REPORT_STREET(language)}</h3>{_figure(_img(street.drawn(language), ''), _found(street, language))}",
        f"<h3>{say.REPORT_HIDDEN(language)}</h3><div class=two>{''.join(pairs)}</div>",
    )


def _video_part(everyday: ObjectFinder, language: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        found = everyday.find_in_video(samples.clip(), THRESHOLD, out=folder)
        data = base64.b64encode(found.video.read_bytes()).decode()
    title = say.REPORT_VIDEO(language, frames=found.frames, boxes=sum(found.counts.values()))
    return (
        f"<section><h3>{title}</h3><video controls loop muted autoplay playsinline "
        f'src="data:video/mp4;base64,{data}"></video></section>'
    )


def _event_part(demo: EventDemo, post: samples.SamplePost, tour: Tour) -> str:
    language = tour.language
    event = demo.look(post.text, post.image, place=post.place, threshold=THRESHOLD, top=TOP)
    objects = (
        f"{_img(event.objects.drawn(language), '')}<p>{_found(event.objects, language)}</p>" if event.objects else ""
    )
    ground = "".join(
        _figure(_img(match.image, match.name) + _img(heat, ""), "", "pair")
        for match, heat in zip(event.matches, event.heat_maps, strict=True)
    )
    return _section(
        say.REPORT_EVENT(language),
        say.REPORT_EVENT_HOW(language),
        f"<article><div class=post><div><h3>{say.REPORT_EVENT_PREDICTION(language)}</h3>"
        f"{answers.explanation(event.check, language)}<p class=note>{escape(post.meaning)}</p></div>"
        f"<div><h3>{say.REPORT_EVENT_OBJECTS(language)}</h3>{objects}</div></div></article>",
        f"<h3>{say.REPORT_EVENT_GROUND(language, sentence=escape(event.sentence))}</h3>",
        f"<div class=three>{ground}</div>",
    )


def _scene_part(search: ImageSearch, detector: Detector, language: str) -> str:
    """A drawn scene with a place: its parts that answer a sentence on a map, and the aircraft counted in it."""
    folder, sentence = samples.mosaic(), samples.SENTENCES["en"][0]
    place = index_folder(folder, search.loaded)
    index = ImageIndex.build(folder, place, model=search.loaded, tile=TILE, progress=False)
    counted = count_in_scene(index, detector, sentence, TILES)
    page, heading = escape(counted.map_page()), samples.SENTENCES[language][0]
    inside = sum(count for _, count in counted.windows)
    name = say.class_name(next(iter(detector.names.values())), language)
    caption = say.REPORT_SCENE_COUNT(language, name=escape(name), count=len(counted.objects), inside=inside)
    download = base64.b64encode(counted.geojson().encode()).decode()
    link = f'<a download="objects.geojson" href="data:application/geo+json;base64,{download}">objects.geojson</a>'
    drawn = _img(counted.drawn(), counted.path.name, side=_SCENE_SIDE)
    places = f'<iframe sandbox="allow-scripts" srcdoc="{page}"></iframe>'
    return _section(
        say.REPORT_SCENE(language),
        say.REPORT_SCENE_HOW(language, tiles=len(index)),
        f"<h3>“{escape(heading)}”</h3>",
        f"<div class=two>{_figure(drawn, f'{caption} {link}')}{_figure(places, say.REPORT_SCENE_MAP(language))}</div>",
    )


def _found(found: FoundObjects, language: str) -> str:
    what = ", ".join(f"{escape(say.class_name(name, language))} ({count})" for name, count in found.counts.items())
    return say.REPORT_FOUND(language, what=what) if what else say.REPORT_NOTHING(language)


def _img(image: Image.Image, alt: str, *, side: int = _SIDE) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image_html(small, alt, kind="JPEG")


def _figure(content: str, caption: str, kind: str = "") -> str:
    return f"<figure class='{kind}'><div>{content}</div><figcaption>{caption}</figcaption></figure>"


def _section(title: str, how: str, *content: str) -> str:
    return f"<section><h2>{title}</h2><p class=how>{how}</p>{''.join(content)}</section>"


def _page(content: str, language: str, *, own: bool) -> str:
    subtitle = say.REPORT_SUBTITLE(language, except_own=say.REPORT_EXCEPT_OWN(language) if own else "")
    return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>stmine-hf</title>
<style>{_STYLE}{STYLE}</style>
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
iframe { display: block; width: 100%; aspect-ratio: 1; border: 0; border-radius: .3rem; }
img, video { display: block; width: 100%; border-radius: .3rem; }
.pair img { aspect-ratio: 1; object-fit: contain; background: var(--line); }
section > figure, section > video { max-width: 40rem; }
article { margin: 1rem 0; padding: 1rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); }
.post { display: grid; grid-template-columns: 1fr minmax(12rem, 18rem); gap: 1.2rem; align-items: start; }
.post h3 { margin-top: 0; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .9rem; }
@media (max-width: 40rem) { body { padding: 1rem; } h1 { font-size: 1.6rem; } .post { grid-template-columns: 1fr; } }
"""
