"""The page of the demo, with Gradio, as the Space runs it: search, post check, detector, all three on one event."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StmineError
from . import limits, temporary
from .connections import end_stalled
from .folder import require_images
from .tools import Background, Models, Tools

if TYPE_CHECKING:
    import gradio as gr

_AT_A_TIME = 2  # users whose requests run
_WAITING = 24  # in the queue; more get a message to come back
_KEEP_UPLOADS = 3600  # seconds
_LOOK_FOR_OLD = 600  # seconds between two looks for what is older


def build_app(tools: Tools | None = None, *, language: str = "en") -> gr.Blocks:
    """Build the page, without serving it.

    Args:
        tools: the models and the folder that users may search; by default those of this release, and none.
        language: "en" or "zh"; users can switch, and browsers that prefer Chinese get it at once.

    Raises:
        StmineError: Gradio is not installed, or an unknown language.
    """
    if language not in ("en", "zh"):
        raise StmineError(f"language: expected en or zh, found {language!r}.")
    gr = _gradio()
    from . import texts as say
    from .page import Page
    from .tabs import event_tab, objects_tab, posts_tab, search_tab

    tools = tools or Tools()
    with gr.Blocks(
        title="stmine-hf", analytics_enabled=False, delete_cache=(_LOOK_FOR_OLD, _KEEP_UPLOADS), fill_width=False
    ) as app:
        page = Page(language)
        with gr.Tabs():
            for label, name, draw in (
                (say.SEARCH_TAB, "search", search_tab),
                (say.POSTS_TAB, "posts", posts_tab),
                (say.OBJECTS_TAB, "objects", objects_tab),
                (say.EVENT_TAB, "event", event_tab),
            ):
                with page.put(gr.Tab, label=label, id=name):
                    draw(page, tools)
        footer = say.Text(*(f"<p>{say.FOOTER(one)}</p>" for one in ("en", "zh")))
        page.put(gr.HTML, value=footer, elem_id="footer")
        page.connect(app)
    app.queue(max_size=_WAITING, default_concurrency_limit=_AT_A_TIME, api_open=False)
    return app


def launch(
    models: Models | None = None,
    *,
    folder: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    language: str = "en",
    device: str | None = None,
    wait: bool = True,
) -> tuple[gr.Blocks, str]:
    """Serve the page.

    Args:
        folder: of images to search, or an index of them; the only one that users may search. None: drawn scenes.
        host: "0.0.0.0" lets other computers connect.
        port: the first free one from 7860 on if None.
        wait: until Ctrl-C; else return as soon as it is served.

    Returns:
        The page and its address.

    Raises:
        StmineError: Gradio is not installed, no such folder or no images in it, the port is taken.
    """
    if folder is not None:
        require_images(Path(folder))
    tools = Tools(models, folder=None if folder is None else Path(folder).resolve(), device=device)
    app = build_app(tools, language=language)
    from .page import CSS, HEAD, THEME

    try:
        _, address, _ = app.launch(
            server_name=host,
            server_port=port,
            theme=THEME,
            css=CSS,
            head=HEAD,
            max_file_size=max(limits.MAX_FILE_BYTES, limits.MAX_VIDEO_BYTES),
            state_session_capacity=200,
            allowed_paths=[],
            show_error=False,
            footer_links=[],
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise StmineError(f"The page cannot be served at {host}, port {port or '7860 to 7959'}: {error}.") from error
    end_stalled(app.server)
    opening = tools.open_in_background()  # not before: the page is to be there first
    atexit.register(opening.stop)
    if wait:
        _wait(app, opening, address)
    return app, address


def _wait(app: gr.Blocks, opening: Background, address: str) -> None:
    """Serve until Ctrl-C or SIGTERM, then close the page and remove uploads."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        print(f"Open {address} in a browser. Ctrl-C ends the demo.", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("The demo ends.", flush=True)
    try:
        app.close(verbose=False)
        opening.stop()
    except KeyboardInterrupt:  # again: no time to wait for a model that is just being loaded
        temporary.remove()
        os._exit(130)
    if main:
        signal.signal(signal.SIGTERM, before)
    temporary.remove()


def _gradio() -> Any:
    """Import Gradio without analytics, and with uploads in the folder of this process."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = str(temporary.root() / "uploads")
    try:
        import gradio
    except ImportError as error:
        raise StmineError('The page of the demo needs Gradio: pip install "stmine-hf[demo]".') from error
    return gradio
