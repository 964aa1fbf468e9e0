"""`stmine demo`: try the three models, on a page in the browser or as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..methods import FISVL, MTTV, SAT
from ..printing import say
from .methods.fisvl import ModelOption
from .terminal import DeviceOption, from_here, hush_libraries, require_folder

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine demo

  stmine demo --images my_images --language zh

  stmine demo --once

  stmine demo --once --images my_images --query "many planes" --query "a bridge over a river" """
)
def demo(
    once: Annotated[
        bool,
        typer.Option("--once", help="Run all parts of the demo once and write a report; serve no page."),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of your own images, or an index of them, to search. Default: drawn scenes."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(help="With --once: a sentence or an image to search for; may be given several times."),
    ] = None,
    model: ModelOption = None,
    mttv: Annotated[
        str | None, typer.Option(help="The model that classifies posts. Default: mttv-lite-weibo of this release.")
    ] = None,
    sat: Annotated[
        str | None, typer.Option(help="The model that finds objects. Default: sat-coco-small of this release.")
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(help="The model that finds hidden objects. Default: sat-indiscernible of this release."),
    ] = None,
    language: Annotated[str, typer.Option(help="Language of the page or the report: en or zh.")] = "en",
    out: Annotated[Path, typer.Option(help="With --once: folder for report.html.")] = Path("outputs/demo"),
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 lets other computers connect.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860 on.")] = None,
    device: DeviceOption = None,
) -> None:
    """Try all three methods: search images, classify posts, detect objects, and apply all three to one event.

    Prints the address of a page for the browser and serves it until Ctrl-C. With --once it writes a report instead.
    """
    if query and not once:
        raise typer.BadParameter("--query needs --once; on the page, type the query instead")
    if language not in ("en", "zh"):
        raise typer.BadParameter(f"--language: expected en or zh, found {language!r}")
    from ..demo.folder import require_images
    from ..loading import require_model

    require_model(model, method=FISVL)
    require_model(mttv, method=MTTV)
    require_model(sat, hidden, method=SAT)
    if images is not None:
        require_images(images)
    hush_libraries()
    if not once:
        from ..demo.app import launch
        from ..demo.tools import Models

        models = Models(fisvl=model, mttv=mttv, sat=sat, hidden=hidden)
        launch(models, folder=images, host=host, port=port, language=language, device=device)
        return
    require_folder(out)
    from ..demo.report import Tour, write_report

    tour = Tour(
        fisvl=model, mttv=mttv, sat=sat, hidden=hidden, images=images, queries=query or (), language=language,
        device=device,
    )  # fmt: skip
    say(f"Results: {from_here(write_report(tour, out).resolve())}")
