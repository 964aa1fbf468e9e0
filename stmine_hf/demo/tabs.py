"""The four tabs of the demo's page."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..errors import StmineError
from ..explain.texts import IMAGE
from ..search.places import place_in
from . import answers, limits, samples
from . import texts as say
from .event import Event
from .objects import THRESHOLD, FoundObjects
from .page import Page, image_input, refuse_unusable, served, show_message
from .posts import PostCheck
from .searching import ImageSearch, Match
from .tools import EVERYDAY, HIDDEN, Tools

TOP = 6  # images found
FIRST_POST = 1  # of the drawn ones, with which the page opens: its prediction depends on its words
_KEPT = 3600  # seconds that a user's own images stay searchable
_VIDEO_SECONDS = limits.MAX_VIDEO_FRAMES // 25


def search_tab(page: Page, tools: Tools) -> None:
    """A sentence or an image in, ranked images and a map of where the words match out."""
    page.intro(say.SEARCH_TITLE, say.SEARCH_INTRO)
    with gr.Row():
        sentence = page.put(
            gr.Textbox,
            label=say.SEARCH_SENTENCE,
            show_label=False,
            container=False,
            placeholder=say.SEARCH_HINT,
            value=samples.SENTENCES[page.first_language][0],
            max_length=limits.MAX_SENTENCE,
            scale=5,
            min_width=200,
            elem_id="sentence",
        )
        go = page.put(gr.Button, value=say.SEARCH_GO, variant="primary", scale=1, min_width=90, elem_id="search")
    chips = page.chips(say.SEARCH_SAMPLES)
    with gr.Row(elem_classes="halves"):
        with gr.Column(scale=3, min_width=320):
            page.heading(say.SEARCH_HITS)
            hits = page.put(
                gr.Gallery,
                label=say.SEARCH_HITS,
                show_label=False,
                columns=3,
                height="auto",
                object_fit="cover",
                allow_preview=False,
                buttons=[],
                elem_id="hits",
            )
        with gr.Column(scale=2, min_width=300):
            page.heading(say.SEARCH_HEAT)
            heat = gr.Image(interactive=False, show_label=False, buttons=[], elem_id="heat")
            legend = gr.HTML(padding=False, elem_id="heat-legend")
    with page.put(gr.Accordion, label=say.SEARCH_MORE, open=False, elem_id="search-more"):
        where = gr.HTML(padding=False)
        with gr.Row(elem_classes="halves"):
            with gr.Column(min_width=280):
                page.heading(say.SEARCH_IMAGE)
                image = image_input(sources=["upload", "clipboard"], height=220, elem_id="like")
                alike = page.put(gr.Button, value=say.SEARCH_LIKE, elem_id="find-like")
            with gr.Column(min_width=280):
                label = say.Text(*(say.SEARCH_UPLOAD(one, most=limits.MAX_IMAGES) for one in ("en", "zh")))
                page.heading(label)
                uploads = gr.File(
                    file_count="multiple", file_types=["image"], show_label=False, height=220, elem_id="own"
                )
                if tools.subfolders:
                    inside = say.Text(*(say.SEARCH_FOLDER(one, root=tools.subfolders.name) for one in ("en", "zh")))
                    folder = page.put(gr.Textbox, label=inside, value=".", max_length=500, elem_id="folder")
                    open_folder = page.put(gr.Button, value=say.SEARCH_OPEN, elem_id="open-folder")

    found: Any = gr.State([])  # list[Match]
    asked: Any = gr.State("")  # the sentence as it was written, or "" after a search by an image
    seen: Any = gr.State(None)  # Match that is looked at closer
    own: Any = gr.State(None, time_to_live=_KEPT)  # ImageSearch

    def explained(match: Match, sentence: str, language: str) -> tuple[Any, ...]:
        image = tools.search.heat_map(match, place_in(sentence)) if sentence else match.image
        return match, image, told(match, sentence, language)

    def told(match: Match, sentence: str, language: str) -> str:
        legend, read = say.SEARCH_LEGEND if sentence else say.SEARCH_LIKE_LEGEND, place_in(sentence)
        text = answers.note(legend(language, name=match.name, score=match.score))
        if match.warned:
            text = answers.warning_html(answers.warned(match.warned, language)) + text
        return text if read == sentence else text + answers.note(say.SEARCH_READ(language, sentence=read))

    def shown(matches: list[Match], sentence: str, language: str) -> tuple[Any, ...]:
        if not matches:
            return [], matches, sentence, None, None, ""
        images = [(match.image, f"{match.rank} · {match.score:.2f}") for match in matches]
        gallery = gr.Gallery(images, selected_index=0)
        return gallery, matches, sentence, *explained(matches[0], sentence, language)

    def find(sentence: str, search: ImageSearch | None, language: str) -> tuple[Any, ...]:
        sentence = limits.checked_text(sentence, limits.MAX_SENTENCE)
        if not sentence:
            raise StmineError(say.SEARCH_EMPTY(language))
        if not (read := place_in(sentence)):
            raise StmineError(say.SEARCH_UNREAD(language))
        return shown((search or tools.search).search(read, TOP), sentence, language)

    def find_sample(number: int, search: ImageSearch | None, language: str) -> tuple[Any, ...]:
        sentence = samples.SENTENCES[language][number]
        return sentence, *find(sentence, search, language)

    def find_like(image: Any, search: ImageSearch | None, language: str) -> tuple[Any, ...]:
        if image is None:
            raise StmineError(say.SEARCH_NO_IMAGE(language))
        return shown((search or tools.search).search(limits.checked_image(image), TOP), "", language)

    def explain(matches: list[Match], sentence: str, language: str, choice: gr.SelectData) -> tuple[Any, ...]:
        return explained(matches[choice.index], sentence, language)

    def say_again(
        match: Match | None, sentence: str, typed: str, search: ImageSearch | None, language: str
    ) -> tuple[Any, ...]:
        """Show an example sentence in the new language; keep what a user wrote."""
        for examples in samples.SENTENCES.values():
            if typed in examples:
                typed = samples.SENTENCES[language][examples.index(typed)]
        if match is None:
            return gr.skip(), gr.skip(), typed
        return told(match, sentence, language), whereabouts(search, language), typed

    def search_uploads(files: list[str] | None, sentence: str, language: str) -> tuple[Any, ...]:
        if not files:
            return None, whereabouts(None, language), *found_in(None, sentence, language)
        try:
            search = ImageSearch(tools.search.loaded, files)
        except StmineError as error:  # no answer of the images before beside those that were refused
            show_message(str(error))
            return None, whereabouts(None, language), *shown([], "", language)
        return search, whereabouts(search, language), *found_in(search, sentence, language)

    def search_folder(path: str, sentence: str, language: str) -> tuple[Any, ...]:
        search = ImageSearch(tools.search.loaded, path.strip() or ".", within=tools.folder)
        return search, whereabouts(search, language), *found_in(search, sentence, language)

    def found_in(search: ImageSearch | None, sentence: str, language: str) -> tuple[Any, ...]:
        """Search for the sentence again in other images; do nothing if there is none."""
        return find(sentence, search, language) if place_in(sentence.strip()) else shown([], "", language)

    def whereabouts(search: ImageSearch | None, language: str) -> str:
        if search is not None:
            skipped = answers.note(say.SEARCH_SKIPPED(language, count=len(search.skipped))) if search.skipped else ""
            return answers.note(say.SEARCH_IN(language, count=len(search))) + skipped
        if tools.folder is not None:
            return answers.note(say.SEARCH_IN_FOLDER(language, count=len(tools.search), folder=tools.folder.name))
        return answers.note(say.SEARCH_IN_SAMPLES(language, count=len(tools.search)))

    def first(language: str) -> tuple[Any, ...]:
        asked = samples.SENTENCES[language][0]
        return *shown(tools.found_first(language), asked, language), whereabouts(None, language), asked

    results = [hits, found, asked, seen, heat, legend]
    page.on([go.click, sentence.submit], find, [sentence, own, page.language], results, busy=[hits])
    for number, chip in enumerate(chips):
        page.on([chip.click], partial(find_sample, number), [own, page.language], [sentence, *results], busy=[hits])
    page.on([alike.click], find_like, [image, own, page.language], results, busy=[hits])
    page.on([hits.select], explain, [found, asked, page.language], [seen, heat, legend], busy=[heat])
    moved = [own, where, *results]
    page.on([uploads.change], search_uploads, [uploads, sentence, page.language], moved, busy=[hits])
    if tools.subfolders:
        page.on([open_folder.click], search_folder, [folder, sentence, page.language], moved, busy=[hits])
    refuse_unusable(image, results)
    page.on_new_language(say_again, [seen, asked, sentence, own, page.language], [legend, where, sentence])
    page.on_first_sight(first, [page.language], [*results, where, sentence], busy=[hits])


def posts_tab(page: Page, tools: Tools) -> None:
    """A post in; its prediction and what drove it out."""
    page.intro(say.POSTS_TITLE, say.POSTS_INTRO)
    with gr.Row(elem_classes="halves"):
        with gr.Column(min_width=300):
            text, image, meaning, chips = post_form(page, tools, "post")
            go = page.put(gr.Button, value=say.POSTS_GO, variant="primary", elem_id="post-go")
        with gr.Column(min_width=300):
            answer = gr.HTML(padding=False, elem_id="prediction")
            above_regions = page.heading(IMAGE)
            regions = gr.Image(interactive=False, show_label=False, height=260, buttons=[], elem_id="regions")
            word = page.put(gr.Dropdown, label=say.POSTS_LEAVE_OUT, choices=[], elem_id="leave-out")
            without = gr.HTML(padding=False, elem_id="without")

    checked: Any = gr.State(None)  # PostCheck

    def shown(check: PostCheck, language: str) -> tuple[Any, ...]:
        words = [(one.word, number) for number, one in enumerate(check.attribution.words) if one.without is not None]
        return (
            check,
            answers.explanation(check, language),
            gr.HTML(visible=check.image is not None),
            gr.Image(check.image, visible=check.image is not None),
            gr.Dropdown(choices=words, value=None, visible=bool(words)),
            "",
        )

    def check(text: str, image: Any, language: str) -> tuple[Any, ...]:
        if not text.strip() and image is None:
            raise StmineError(say.POSTS_EMPTY(language))
        return shown(tools.posts.check(text, image), language)

    def check_sample(number: int, language: str) -> tuple[Any, ...]:
        return *filled(tools, number, language), *shown(tools.checked(number), language)

    def leave_out(check: PostCheck | None, number: int | None, language: str) -> str:
        if check is None or number is None or not 0 <= number < len(check.attribution.words):
            return ""
        return answers.left_out(check, number, language)

    def say_again(check: PostCheck | None, number: int | None, language: str) -> tuple[Any, ...]:
        if check is None:
            return gr.skip(), gr.skip()
        return answers.explanation(check, language), leave_out(check, number, language)

    form, results = [text, image, meaning], [checked, answer, above_regions, regions, word, without]
    page.on([go.click], check, [text, image, page.language], results, busy=[answer])
    for number, chip in enumerate(chips):
        page.on([chip.click], partial(check_sample, number), [page.language], [*form, *results], busy=[answer])
    refuse_unusable(image, results)
    page.on([word.input], leave_out, [checked, word, page.language], [without], busy=[without])
    page.on_new_language(say_again, [checked, word, page.language], [answer, without])
    page.on_first_sight(partial(check_sample, FIRST_POST), [page.language], [*form, *results], busy=[answer])


def objects_tab(page: Page, tools: Tools) -> None:
    """An image, a video or a camera in, boxes out."""
    page.intro(say.OBJECTS_TITLE, say.OBJECTS_INTRO)
    with gr.Row(elem_classes="halves"):
        kind = page.put(
            gr.Radio,
            label=say.OBJECTS_MODEL,
            choices=[(say.OBJECTS_EVERYDAY, EVERYDAY), (say.OBJECTS_HIDDEN, HIDDEN)],
            value=EVERYDAY,
            min_width=280,
            elem_id="kind",
        )
        threshold = page.put(
            gr.Slider,
            label=say.OBJECTS_THRESHOLD,
            minimum=0.05,
            maximum=0.95,
            step=0.05,
            value=THRESHOLD,
            min_width=280,
            buttons=[],
            elem_id="threshold",
        )
    given = [threshold, kind, page.language]
    with gr.Tabs():
        with page.put(gr.Tab, label=say.OBJECTS_IN_IMAGE):
            objects_in_image(page, tools, given)
        with page.put(gr.Tab, label=say.OBJECTS_IN_VIDEO):
            objects_in_video(page, tools, given)
        with page.put(gr.Tab, label=say.OBJECTS_IN_CAMERA):
            objects_in_camera(page, tools, given)


def objects_in_image(page: Page, tools: Tools, given: list[Any]) -> None:
    """Boxes in an image; they follow the slider."""
    with gr.Row(elem_classes="halves"):
        with gr.Column(min_width=300):
            page.heading(say.OBJECTS_GIVE)
            image = image_input(sources=["upload", "clipboard"], height=300, elem_id="image")
            gallery = gr.Gallery(
                columns=4, height=120, object_fit="cover", allow_preview=False, show_label=False, buttons=[],
                elem_id="drawn",
            )  # fmt: skip
            go = page.put(gr.Button, value=say.OBJECTS_GO, variant="primary", elem_id="detect")
        with gr.Column(min_width=300):
            page.heading(say.OBJECTS_FOUND)
            boxes = gr.Image(interactive=False, show_label=False, buttons=[], elem_id="boxes")
            counts = gr.HTML(padding=False, elem_id="counts")

    seen: Any = gr.State(None)  # FoundObjects

    def shown(found: FoundObjects, language: str) -> tuple[Any, ...]:
        said = answers.counts(found.counts, say.OBJECTS_NOTHING(language), language)
        return found.drawn(language), found, said

    def say_again(found: FoundObjects | None, language: str) -> tuple[Any, ...]:
        return (gr.skip(),) * 3 if found is None else shown(found, language)

    def detect(image: Any, threshold: float, kind: str, language: str) -> tuple[Any, ...]:
        if image is None:
            raise StmineError(say.OBJECTS_NO_IMAGE(language))
        return shown(tools.objects(kind).find(image, threshold), language)

    def detect_again(image: Any, threshold: float, kind: str, language: str) -> tuple[Any, ...]:
        """Detect again, if there is an image."""
        return (gr.skip(),) * 3 if image is None else detect(image, threshold, kind, language)

    def detect_upload(image: Any, threshold: float, kind: str, language: str) -> tuple[Any, ...]:
        """Detect in an upload; one that cannot be used also clears the earlier results."""
        try:
            return gr.skip(), *detect(image, threshold, kind, language)
        except StmineError as error:
            show_message(str(error))
            return None, None, None, ""

    def detect_sample(threshold: float, language: str, choice: gr.SelectData) -> tuple[Any, ...]:
        drawn, kind = tools.sample_images()[choice.index]
        return drawn, kind, *shown(tools.spotted(choice.index, threshold), language)

    def first(threshold: float, kind: str, language: str) -> tuple[Any, ...]:
        images = [drawn for drawn, _ in tools.sample_images()]
        return images, images[0], *shown(tools.spotted(0, THRESHOLD), language)

    threshold, kind, language = given
    results = [boxes, seen, counts]
    page.on_new_language(say_again, [seen, language], results)
    page.on([go.click], detect, [image, *given], results, busy=[boxes])
    page.on([threshold.release, kind.input], detect_again, [image, *given], results, busy=[boxes])
    page.on([image.upload], detect_upload, [image, *given], [image, *results], busy=[boxes])
    page.on([gallery.select], detect_sample, [threshold, language], [image, kind, *results], busy=[boxes])
    page.on_first_sight(first, given, [gallery, image, *results], busy=[boxes])


def objects_in_video(page: Page, tools: Tools, given: list[Any]) -> None:
    """Boxes in each frame of a video."""
    with gr.Row(elem_classes="halves"):
        with gr.Column(min_width=300):
            label = say.Text(*(say.OBJECTS_GIVE_VIDEO(one, seconds=_VIDEO_SECONDS) for one in ("en", "zh")))
            page.heading(label)
            video = gr.Video(
                sources=["upload"], include_audio=True, show_label=False, height=300, buttons=[], elem_id="video"
            )
            sample = page.put(gr.Button, value=say.OBJECTS_VIDEO_SAMPLE, size="sm", elem_id="clip")
            go = page.put(gr.Button, value=say.OBJECTS_GO, variant="primary", elem_id="detect-video")
        with gr.Column(min_width=300):
            page.heading(say.OBJECTS_FOUND)
            boxes = gr.Video(
                interactive=False, autoplay=True, loop=True, show_label=False, height=300, buttons=[],
                elem_id="video-boxes",
            )  # fmt: skip
            counts = gr.HTML(padding=False, elem_id="video-counts")

    def detect(path: str | None, threshold: float, kind: str, language: str) -> tuple[Any, str]:
        if path is None:
            raise StmineError(say.OBJECTS_NO_VIDEO(language))
        try:
            found = tools.objects(kind).find_in_video(path, threshold)
        except StmineError as error:  # by its name alone, without the folder of the uploads
            show_message(str(error).replace(path, Path(path).name))
            return None, ""  # no old result beside it
        try:
            shown = served(found.video)
        finally:
            shutil.rmtree(found.video.parent, ignore_errors=True)
        said = answers.note(say.OBJECTS_FRAMES(language, frames=found.frames)) if found.counts else ""
        said += answers.counts(found.counts, say.OBJECTS_NOTHING(language), language)
        return shown, said + (answers.note(say.OBJECTS_CUT(language)) if found.cut else "")

    def detect_sample(threshold: float, language: str) -> tuple[Any, ...]:
        path = served(samples.clip())
        return path, EVERYDAY, *detect(path, threshold, EVERYDAY, language)

    threshold, kind, language = given
    page.on([go.click], detect, [video, *given], [boxes, counts], busy=[boxes])
    page.on([sample.click], detect_sample, [threshold, language], [video, kind, boxes, counts], busy=[boxes])


def objects_in_camera(page: Page, tools: Tools, given: list[Any]) -> None:
    """Boxes in the images of a camera, twice a second."""
    page.put(gr.HTML, value=say.Text(*(answers.note(say.OBJECTS_CAMERA_HINT(one)) for one in ("en", "zh"))))
    with gr.Row(elem_classes="halves"):
        camera = image_input(sources=["webcam"], streaming=True, height=320, min_width=280, elem_id="camera")
        boxes = gr.Image(
            interactive=False, show_label=False, height=320, min_width=280, buttons=[], elem_id="camera-boxes"
        )

    def detect(image: Any, threshold: float, kind: str, language: str) -> Any:
        return gr.skip() if image is None else tools.objects(kind).find(image, threshold).drawn(language)

    page.on_stream(camera, detect, [camera, *given], [boxes])


def event_tab(page: Page, tools: Tools) -> None:
    """A post in; its prediction, objects in its image, and such places from above out."""
    page.intro(say.EVENT_TITLE, say.EVENT_INTRO)
    with gr.Row(elem_classes="halves"):
        with gr.Column(min_width=300):
            text, image, meaning, chips = post_form(page, tools, "event")
            place = page.put(gr.Textbox, label=say.EVENT_PLACE, max_length=limits.MAX_SENTENCE, elem_id="place")
            go = page.put(gr.Button, value=say.EVENT_GO, variant="primary", elem_id="event-go")
        with gr.Column(min_width=300):
            page.heading(say.EVENT_FIRST)
            prediction = gr.HTML(padding=False, elem_id="event-prediction")
            page.heading(say.EVENT_SECOND)
            boxes = gr.Image(interactive=False, show_label=False, height=240, buttons=[], elem_id="event-boxes")
            counts = gr.HTML(padding=False)
    page.heading(say.EVENT_THIRD)
    ground = gr.Gallery(
        columns=3, height="auto", object_fit="cover", show_label=False, allow_preview=False, buttons=[],
        elem_id="ground",
    )  # fmt: skip
    legend = gr.HTML(padding=False)

    looked: Any = gr.State(None)  # Event

    def shown(event: Event, language: str) -> tuple[Any, ...]:
        drawn = event.objects.drawn(language) if event.objects else None
        boxed = gr.Image(drawn, visible=drawn is not None)
        images = [
            (heat, f"{match.rank} · {match.score:.2f}")
            for match, heat in zip(event.matches, event.heat_maps, strict=True)
        ]
        return event, images, boxed, *told(event, language)

    def told(event: Event, language: str) -> tuple[str, str, str]:
        nothing = say.OBJECTS_NOTHING(language) if event.objects else say.EVENT_NO_IMAGE(language)
        return (
            answers.prediction(event.check, language),
            answers.counts(event.objects.counts if event.objects else {}, nothing, language),
            answers.note(say.EVENT_HEAT(language, sentence=event.sentence)),
        )

    def say_again(event: Event | None, language: str) -> tuple[Any, ...]:
        if event is None:
            return (gr.skip(),) * 4
        return event.objects.drawn(language) if event.objects else None, *told(event, language)

    def look(text: str, image: Any, place: str, language: str) -> tuple[Any, ...]:
        if not text.strip():
            raise StmineError(say.EVENT_NO_TEXT(language))
        return shown(tools.event.look(text, image, place=place), language)

    def look_at_sample(number: int, language: str) -> tuple[Any, ...]:
        return (
            *filled(tools, number, language),
            tools.sample_posts()[number].place,
            *shown(tools.looked_into(number), language),
        )

    words = [boxes, prediction, counts, legend]
    form, results = [text, image, meaning, place], [looked, ground, *words]
    refuse_unusable(image, results)
    page.on_new_language(say_again, [looked, page.language], words)
    page.on([go.click], look, [text, image, place, page.language], results, busy=[prediction, ground])
    for number, chip in enumerate(chips):
        page.on(
            [chip.click],
            partial(look_at_sample, number),
            [page.language],
            [*form, *results],
            busy=[prediction, ground],
        )
    page.on_first_sight(
        partial(look_at_sample, FIRST_POST), [page.language], [*form, *results], busy=[prediction, ground]
    )


def post_form(page: Page, tools: Tools, name: str) -> tuple[Any, ...]:
    """The form of a post: its text, image and meaning in English, and the buttons of examples."""
    chips = page.chips(say.POSTS_SAMPLES)
    text = page.put(
        gr.Textbox, label=say.POSTS_TEXT, lines=4, max_lines=8, max_length=limits.MAX_POST, elem_id=f"{name}-text"
    )
    meaning = gr.HTML(padding=False)
    page.heading(say.POSTS_IMAGE)
    image = image_input(sources=["upload", "clipboard"], height=220, elem_id=f"{name}-image")
    inputs = [text, page.language]
    page.at_once(text.change, partial(meaning_of, tools), inputs, [meaning])
    page.on_new_language(partial(meaning_of, tools), inputs, [meaning])
    return text, image, meaning, chips


def filled(tools: Tools, number: int, language: str) -> tuple[str, Image.Image, str]:
    """Text, image and meaning of a drawn post."""
    post = tools.sample_posts()[number]
    return post.text, post.image, meaning_of(tools, post.text, language)


def meaning_of(tools: Tools, text: str, language: str) -> str:
    """A drawn post in English; "" for any other text, and for Chinese users."""
    meanings = {} if language == "zh" else {post.text: post.meaning for post in tools.sample_posts()}
    return answers.note(say.POSTS_MEANING(language, meaning=meanings[text])) if text in meanings else ""
