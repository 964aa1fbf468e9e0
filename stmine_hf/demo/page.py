"""Building blocks of the tabs: texts in two languages, safe inputs, errors that a user can read.

It imports Gradio; so only `app` imports it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import logging
from abc import ABCMeta
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, utils
from PIL import Image

from ..errors import StmineError
from ..explain.drawing import STYLE
from . import limits
from . import texts as say
from .texts import Text

logger = logging.getLogger(__name__)

Work = Callable[..., Any]
Job = tuple[Work, list[Any], list[Any], list[Any]]  # work, inputs, outputs, and those of them that show it is busy
_AT_THE_MODELS: dict[str, Any] = {"concurrency_id": "models", "api_visibility": "private"}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

# Fonts of the user's own computer: the page requests nothing from other servers.
THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "Segoe UI", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_text_color_subdued="*neutral_500",
    input_border_width="1px",
    input_border_color="*neutral_200",
    block_title_background_fill="none",
    block_title_padding="0",
    block_title_text_color="*body_text_color",
    block_title_text_weight="500",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_600",
)
# Of the page's frame, which Gradio keeps its `css` from: centred, and on a telephone no wider than the screen.
HEAD = """<style>
.gradio-container { width: 100%; max-width: 1080px !important; margin: 0 auto !important; }
@media (max-width: 640px) {
  .gradio-container .app { padding: 8px !important; }
  .gradio-container .halves { flex-direction: column; }
  .gradio-container .halves > * { min-width: 100% !important; }
}
</style>"""
# The classes are those of the HTML in `answers`. Colors follow Gradio's light and dark themes, or work on both.
CSS = (
    f"{STYLE}.explanation, .prediction, .caution {{ color: var(--body-text-color); }}"
    + """
#top { align-items: center; flex-wrap: nowrap; }
#top h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .2rem; }
#top p, .intro p { color: var(--body-text-color-subdued); margin: 0; }
#language { flex: 0 0 190px !important; width: 190px !important; padding: 0; }
#language .wrap { flex-wrap: nowrap; }
.intro h2 { font-size: 1.25rem; margin: .3rem 0 .1rem; }
.heading { margin-bottom: -.6rem; }
.heading h3 { margin: .2rem 0 0; font-weight: 500; }
.chips { gap: .5rem; flex-wrap: wrap; align-items: center; }
.chips button { min-width: fit-content !important; flex: 0 1 auto; border-radius: 999px; font-weight: 500; }
.chips > .html-container, .chips > .block { flex: 0 0 auto; width: auto; min-width: 0 !important; padding: 0; }
.quiet { color: var(--body-text-color-subdued); font-size: .92rem; margin: .25rem 0; font-weight: normal; }
.found span { display: inline-block; padding: .15rem .6rem; margin: 0 .3rem .3rem 0; border-radius: 999px;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
#footer p { text-align: center; font-size: .85rem; color: var(--body-text-color-subdued); }
#sentence textarea { border: 1px solid var(--border-color-primary); }
.grid-wrap { min-height: 0 !important; }
#drawn .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#hits .grid-container, #ground .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
img { max-width: 100%; }
@media (max-width: 640px) {
  #top { flex-direction: column; align-items: flex-start; }
  #top h1 { font-size: 1.3rem; }
  #language { flex-basis: auto !important; }  /* in a column it would be a height */
  .tab-container button { padding: 0 .5rem !important; font-size: .9rem; }
}
"""
)


class Page:
    """Places components on a page and tracks which of their texts change with the language.

    Args:
        language: the initial one.
    """

    def __init__(self, language: str):
        self.first_language = language
        self._spoken: list[Any] = []  # components, and their texts:
        self._texts: list[dict[str, Any]] = []
        self._first: list[Job] = []
        self._translated: list[Job] = []
        with gr.Row(elem_id="top"):
            said = Text(*(f"<h1>{say.TITLE(one)}</h1><p>{say.SUBTITLE(one)}</p>" for one in ("en", "zh")))
            self.put(gr.HTML, value=said)
            self.language = gr.Radio(
                [("English", "en"), ("中文", "zh")],
                value=language,
                show_label=False,
                container=False,
                interactive=True,
                elem_id="language",
            )

    def put(self, kind: Callable[..., Any], **options: Any) -> Any:
        """Place a component of a class; its options may be or contain `Text`s."""
        component = kind(**{name: spoken(value, self.first_language) for name, value in options.items()})
        if texts := {name: value for name, value in options.items() if spoken(value, "en") != value}:
            self._spoken.append(component)
            self._texts.append(texts)
        return component

    def heading(self, text: Text) -> Any:
        """Place a heading above an image, where a label on it would hide a corner."""
        said = Text(*(f"<h3>{escape(text(one))}</h3>" for one in ("en", "zh")))
        return self.put(gr.HTML, value=said, padding=False, elem_classes="heading")

    def intro(self, title: Text, intro: Text) -> None:
        said = Text(*(f"<h2>{escape(title(one))}</h2><p>{escape(intro(one))}</p>" for one in ("en", "zh")))
        self.put(gr.HTML, value=said, padding=False, elem_classes="intro")

    def chips(self, labels: list[Text] | tuple[Text, ...]) -> list[Any]:
        """Place a row of small buttons, one per example."""
        with gr.Row(elem_classes="chips"):
            said = Text(*(f'<span class="quiet">{escape(say.EXAMPLES(one))}:</span>' for one in ("en", "zh")))
            self.put(gr.HTML, value=said)
            return [self.put(gr.Button, value=label, size="sm") for label in labels]

    def on(self, triggers: list[Any], work: Work, inputs: list[Any], outputs: list[Any], *, busy: list[Any]) -> None:
        """Let a click or key start some work. A few users at a time run the models, others wait.

        Args:
            busy: the outputs that show that work is in progress.
        """
        gr.on(triggers, for_users(work), inputs, outputs, show_progress_on=busy, **_AT_THE_MODELS)

    def at_once(self, trigger: Any, work: Work, inputs: list[Any], outputs: list[Any]) -> None:
        """Let a key start quick work that needs no model."""
        trigger(for_users(work), inputs, outputs, **_QUICK)

    def on_stream(self, camera: Any, work: Work, inputs: list[Any], outputs: list[Any]) -> None:
        """Let each image of a camera start some work, for a minute at most. One camera at a time."""
        camera.stream(
            for_users(work),
            inputs,
            outputs,
            stream_every=0.5,
            time_limit=60,
            show_progress="hidden",
            concurrency_limit=1,
            api_visibility="private",
        )

    def on_first_sight(self, work: Work, inputs: list[Any], outputs: list[Any], *, busy: list[Any]) -> None:
        """Add work that fills the page when it opens."""
        self._first.append((work, inputs, outputs, busy))

    def on_new_language(self, work: Work, inputs: list[Any], outputs: list[Any]) -> None:
        """Add quick work that renders an answer again after the language has changed."""
        self._translated.append((work, inputs, outputs, []))

    def connect(self, app: gr.Blocks) -> None:
        """Finish the page: connect the language switch and the work on opening.

        Browsers that prefer Chinese get Chinese.
        """

        def preferred(request: gr.Request) -> str:
            wanted = request.headers.get("accept-language", "").lower()
            return "zh" if wanted.startswith("zh") else self.first_language

        def translated(language: str) -> list[Any]:
            return [
                gr.update(**{name: spoken(value, language) for name, value in texts.items()}) for texts in self._texts
            ]

        self.language.change(for_users(translated), [self.language], self._spoken, **_QUICK)
        for work, inputs, outputs, _ in self._translated:
            self.language.change(for_users(work), inputs, outputs, **_QUICK)
        greeted = app.load(for_users(preferred), None, [self.language], **_QUICK)
        for work, inputs, outputs, busy in self._first:
            greeted.then(for_users(work), inputs, outputs, show_progress_on=busy, **_AT_THE_MODELS)


def spoken(value: Any, language: str) -> Any:
    """The value with each `Text` in it rendered in a language, at any depth of lists and tuples."""
    if isinstance(value, Text):
        return value(language)
    if isinstance(value, (list, tuple)):
        return type(value)(spoken(one, language) for one in value)
    return value


def image_input(**options: Any) -> Any:
    """An image from a user, handed over unopened: `limits` looks at it, where Gradio would decode whatever comes.

    Its value is the path of an uploaded file, or a PIL image of which only the header has been read. Call
    `refuse_unusable` when the outputs beside it are there.
    """
    return _ImageInput(show_label=False, buttons=[], **options)


def refuse_unusable(image: Any, results: list[Any]) -> None:
    """Clear an upload that cannot be used at once, with a message, and the results of the one before."""

    def check(given: Any) -> Any:
        try:
            limits.checked_image(given)
        except StmineError as error:
            show_message(str(error))
            return [None] * (1 + len(results))
        return gr.skip()

    image.upload(for_users(check), [image], [image, *results], show_progress="hidden", **_AT_THE_MODELS)


def _unopened(_: Any, payload: Any) -> Any:
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        return image_in(payload.url)
    return payload.path


# A gr.Image for the browser, too. Made past Gradio's metaclass, which would write a .pyi file beside this one.
_ImageInput: Any = ABCMeta.__new__(
    type(gr.Image),
    "_ImageInput",
    (gr.Image,),
    {"preprocess": _unopened, "is_template": True, "__module__": __name__},
)


def image_in(url: str) -> Image.Image:
    """The image in a data: URL, as webcams send it; not decoded yet.

    Raises:
        gr.Error: too long, or no image.
    """
    try:
        if len(url) > 4 / 3 * limits.MAX_FILE_BYTES:
            raise ValueError
        return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])), formats=["JPEG", "PNG", "WEBP"])
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        raise gr.Error("This is not an image, or it is too large.", print_exception=False) from None


def show_message(message: str) -> None:
    """Show the user a message, with what it quotes escaped; the page stays as it is."""
    gr.Warning(escape(message), duration=8)


def served(path: Path) -> str:
    """Copy a file to the uploads, from where Gradio serves it, under a name made from its content."""
    return processing_utils.save_file_to_cache(path, utils.get_upload_folder())


def for_users(work: Work) -> Work:
    """Show users the errors that they can fix, and for all others a line without details of the machine."""

    @functools.wraps(work)
    def guarded(*inputs: Any) -> Any:
        try:
            return work(*inputs)
        except StmineError as error:
            show_message(str(error))
        except Exception:
            logger.exception("the demo failed in %s", work)
            show_message(say.BROKEN)
        return gr.skip()

    return guarded
