"""`stmine index` and `stmine search`: find images by a sentence or by another image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..outputs import require_apart
from ..printing import printable, say
from .methods.fisvl import ModelOption
from .terminal import (
    BandsOption,
    DeviceOption,
    JsonOption,
    StretchOption,
    from_here,
    print_json,
    prints_only_json,
    require_folder,
    stmine_command,
)

if TYPE_CHECKING:
    from ..search import BuildReport, Hit, ImageIndex

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine index images --out my.index

  stmine index images --model hub_cards/fisvl-lite-rsicd --out my.index --batch-size 64

Run it again after adding images or after an interruption: only images that are new are embedded."""
)
def index(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of images; its subfolders are searched too.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the index; created, or updated.")],
    model: ModelOption = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images per batch. Small batches are fastest on a CPU; try 64 on a GPU.",
        ),
    ] = 8,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a folder of images once, to search it from then on.

    Images that cannot be read are skipped and listed; nothing is written beside the images.
    """
    from ..images import PixelOptions
    from ..loading import require_model
    from ..search import ImageIndex

    require_model(model)
    pixels = PixelOptions.parse(stretch, bands) if stretch or bands else None
    with prints_only_json(as_json):
        built = ImageIndex.build(
            images, out, model=model, batch_size=batch_size, device=device, progress=not as_json, pixels=pixels
        )
    if as_json:
        print_json(_index_summary(built, out))
    else:
        _show_report(built, out)
        say(f'Next: {stmine_command()} search {out} "many planes near a terminal"')


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine search my.index "many planes near a terminal"

  stmine search my.index images/harbour_12.jpg --k 20 --out similar

  stmine search my.index "a bridge over a wide river" --json"""
)
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder made by `stmine index`.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A sentence, or the path of an image.")],
    k: Annotated[int, typer.Option("--k", min=1, help="Number of hits.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for hits.png and hits.html. Default: outputs/search (with --json: none are written)."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Path of the index's model, if it has been moved.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the images of an index by how well they answer a sentence or resemble an image.

    Scores are cosine similarities, between -1 and 1: they rank the images of one query and are not probabilities.
    """
    from ..loading import require_model
    from ..search import ImageIndex

    require_model(model)
    if out is None and not as_json:
        out = Path("outputs/search")
    require_folder(out)
    if out:
        require_apart(out, [index])
    with prints_only_json(as_json):
        opened = ImageIndex.open(index, model=model, device=device)
        hits = opened.query(query, k=k)
        if out:
            require_apart(out, [opened.images_folder, *([query] if opened.is_image(query) else [])])
        said = _remarks(opened, query, hits)
        written = _write_hits(hits, out, "hits", title=query) if out else {}
    for name, text in said.items():
        say(
            f"Warning: {text}" if name == "warning" else f"The model understands English only; searched for: {text}",
            to_stderr=True,
        )
    if as_json:
        print_json({"query": query, **said, "hits": [_hit_row(hit) for hit in hits], **written})
    else:
        _show_hits(hits, query)
        _show_files(written)
        if gone := sum(not hit.path.exists() for hit in hits):
            update = f"{stmine_command()} index IMAGES --out {index}"
            say(f"{gone} of these images are gone. Bring the index up to date: {update}")


def _remarks(index: ImageIndex, query: str, hits: list[Hit]) -> dict[str, str]:
    """Remarks on a sentence: what was searched for instead, and why the hits may mean little."""
    if index.is_image(query):
        return {}
    said = {} if (read := index.reads(query)) == query else {"read_as": read}
    warned = index.check(query, hits)
    return {**said, "warning": warned.message} if warned else said


def _hit_row(hit: Hit) -> dict[str, Any]:
    return {"rank": hit.rank, "score": float(hit.score), "path": str(hit.path)}


def _write_hits(hits: list[Hit], folder: Path, stem: str, *, title: str) -> dict[str, str]:
    from ..search.present import contact_sheet, html_page

    sheet, page = folder / f"{stem}.png", folder / f"{stem}.html"
    contact_sheet(hits, sheet, title=title)
    html_page(hits, page, title=title)
    return {"contact_sheet": str(sheet), "html_page": str(page)}


def _show_hits(hits: list[Hit], query: str) -> None:
    say(f"{query}\nrank   score  image")
    for hit in hits:
        say(f"{hit.rank:>4}  {hit.score:>6.3f}  {from_here(hit.path)}")


def _show_files(written: dict[str, str]) -> None:
    say(f"Results: {written['contact_sheet']}   {written['html_page']}")


def _index_summary(built: ImageIndex, out: Path) -> dict[str, Any]:
    report = _report(built)
    skipped = [skip._asdict() for skip in report.skipped]
    return {"index": str(out), "images": len(built), **asdict(report), "skipped": skipped}


def _show_report(built: ImageIndex, out: Path, *, most_skipped: int = 10) -> None:
    report = _report(built)
    say(
        f"Index {out}: {len(built)} images ({report.added} added, {report.changed} changed, "
        f"{report.unchanged} unchanged, {report.removed} removed, {len(report.skipped)} skipped)"
    )
    memory = f", peak memory {report.peak_memory_mb:.0f} MB" if report.peak_memory_mb else ""
    say(f"{report.embedded} embedded in {report.seconds:.1f} s, {report.images_per_second:.1f} a second{memory}")
    for path, reason in report.skipped[:most_skipped]:
        say(f"  skipped {printable(path)}: {reason}")
    if len(report.skipped) > most_skipped:
        say(f"  ... and {len(report.skipped) - most_skipped} more (--json lists all)")


def _report(built: ImageIndex) -> BuildReport:
    assert built.report is not None  # `build` sets it
    return built.report
