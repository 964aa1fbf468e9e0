"""`stmine index` and `stmine search`: find images by a sentence or by another image."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import StmineError
from ..inference.engines import require_engine
from ..methods import FISVL
from ..outputs import Outputs, require_apart, require_output, write_output
from ..printing import printable, say
from .methods.fisvl import ModelOption
from .terminal import (
    BandsOption,
    DeviceOption,
    EncodingOption,
    EngineOption,
    JsonOption,
    RayOption,
    ServerOption,
    StretchOption,
    column_mapping,
    device_of,
    from_here,
    hush_libraries,
    print_json,
    prints_only_json,
    require_default,
    require_folder,
    say_next,
    stmine_command,
)

if TYPE_CHECKING:
    from ..images import PixelOptions
    from ..search import BuildReport, Hit, ImageIndex
    from ..search.change import Change
    from ..search.filters import Where

QUERIES_AT_A_TIME = 256
NAMES_LOOKED_AT = 1000  # of images, for a first query

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine index images --out my.index

  stmine index images --model hub_cards/fisvl-lite-rsicd --out my.index --batch-size 64

  stmine index scenes --out scenes.index --tile 256

  stmine index scenes --out scenes.index --metadata scenes.csv --column image=scene --column time=acquired_on

  stmine index archive --out lancedb://s3://bucket/archive --ray auto   # on a cluster, into object storage

Run it again after adding images or after an interruption: only images that are new are embedded."""
)
def index(
    context: typer.Context,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of images; its subfolders are searched too.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="Folder for the index; created, or updated. Or lancedb:// with a folder or an address of object "
            "storage, such as s3://BUCKET/KEY: a search then loads none of it.",
        ),
    ],
    model: ModelOption = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images per batch. Small batches are fastest on a CPU; try 64 on a GPU.",
        ),
    ] = 8,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE",
            help="Cut images into tiles of this side in pixels, each found by itself: for scenes of any size. Several "
            "sides, such as 256,512, for objects of several sizes.",
        ),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Fraction of a tile that its neighbor also covers.")] = 0.25,
    metadata: Annotated[
        Path | None,
        typer.Option(
            help="Table with a column of image names, and any of longitude and latitude, time, and others to filter."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="PART=COLUMN",
            help="The column of the table that holds image, longitude, latitude or time, such as image=scene; repeat "
            "it for several.",
        ),
    ] = None,
    encoding: EncodingOption = None,
    time_pattern: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="How file names hold the time, such as %Y%m%d.")
    ] = None,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a folder of images once, to search it from then on.

    Images that cannot be read are skipped and listed; nothing is written beside the images. The place and time of an
    image come from its GeoTIFF tags or EXIF block, from its name, or from a table.
    """
    from ..images import PixelOptions
    from ..loading import require_model
    from ..search import ImageIndex, Metadata

    if metadata is None and (column or encoding):
        raise typer.BadParameter("--column and --encoding are about the table of --metadata")
    facts = Metadata(metadata, time_pattern, encoding, column_mapping(column)) if metadata or time_pattern else None
    require_model(*filter(None, [model]), method=FISVL)
    require_engine(engine)
    pixels = PixelOptions.parse(stretch, bands) if stretch or bands else None
    with prints_only_json(as_json):
        built = ImageIndex.build(
            images,
            out,
            model=model,
            batch_size=batch_size,
            device=device_of(context, device, ray),
            progress=not as_json,
            pixels=pixels,
            tile=tile,
            overlap=overlap,
            metadata=facts,
            engine=engine,
            ray=ray,
        )
        built.start_faster()
    if as_json:
        print_json(_index_summary(built, out))
    else:
        _show_report(built, out)
        _say_next(images, out)


def _say_next(images: Path, out: str) -> None:
    """A search to type next: for a place that names of the images tell, or an example that is said to be one."""
    from ..images import find_images
    from ..search.places import place_of_names

    found = itertools.islice(find_images(images), NAMES_LOOKED_AT) if images.is_dir() else ()
    place = place_of_names(file.path for file in found)
    after = "Next:" if place else "Next, with a sentence of your own in place of this example:"
    say_next(["search", out, place or "a road between trees"], after=after)


@app.command(
    "merge-indexes",
    epilog="""[bold]Examples[/bold]

  stmine merge-indexes north.index south.index --out all.index""",
)
def merge_indexes(
    indexes: Annotated[
        list[str], typer.Argument(metavar="INDEX...", help="Two or more index folders made by `stmine index`.")
    ],
    out: Annotated[
        str,
        typer.Option("--out", help="Folder for the merged index; created. Indexes in LanceDB cannot be merged."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Merge indexes that were made apart, such as by several machines, into a new one.

    No image is read or embedded. An image that several indexes have is taken from the first.
    """
    from ..search import ImageIndex

    with prints_only_json(as_json):
        merged = ImageIndex.merge(indexes, out, progress=not as_json)
    if as_json:
        print_json({"index": out, "images": len(merged), "merged": indexes})
        return
    say(f"Index {out}: {len(merged)} {'tiles' if merged.tiles else 'images'} of {len(indexes)} indexes")


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine search my.index "many planes near a terminal"

  stmine search my.index images/harbour_12.jpg --k 20 --out similar

  stmine search my.index "a bridge over a wide river" --json

  stmine search scenes.index "storage tanks" --near 8.55,47.37,25 --from 2023-01-01 --heatmap

  stmine search "a bridge over a wide river" --server http://127.0.0.1:8000   # of a running `stmine serve`

  stmine search my.index --queries sentences.txt --k 5 --out hits.jsonl   # or a table; - is standard input"""
)
def search(
    context: typer.Context,
    place: Annotated[
        str,
        typer.Argument(
            metavar="INDEX",
            help="Index made by `stmine index`: its folder, or lancedb://... With --server: the QUERY alone.",
        ),
    ],
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="A sentence, or the path of an image.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Many queries: one a line, or the column `query` of a table (CSV, JSON lines, ...); - is standard "
            "input. Prints JSON lines, one a hit.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="query=COLUMN", help="With --queries: the column of the table that holds the queries."),
    ] = None,
    encoding: EncodingOption = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for hits.png and hits.html, and for hits.geojson and map.html of images with places. "
            "Default: outputs/search (with --json: none are written). With --queries: a file that ends with .jsonl."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="The index's model if it has been moved, or an export of it, such as a text tower."
        ),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="Only images that touch this box of longitudes and latitudes."),
    ] = None,
    near: Annotated[
        str | None, typer.Option(metavar="LON,LAT,KM", help="Only images that come this near to a point.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only images taken then or later, such as 2024-05-31.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only images taken then or earlier; a date: all of it.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only images of which the table given to `stmine index --metadata` says so; also with < <= > >= !=. "
            "Repeat it for several.",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Compare every image, also in an index of more than 50,000, which takes longer."),
    ] = False,
    heatmap: Annotated[
        bool,
        typer.Option(
            "--heatmap", help="Write how well each part of the best hit's scene answers, as GeoTIFF and PNG."
        ),
    ] = False,
    before: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="With --after: rank tiles by how much their score has risen.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="IMAGE", help="The later image of the same place.")] = None,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the images of an index by how well they answer a sentence or resemble an image.

    Scores are cosine similarities, between -1 and 1: they rank the images of one query and are not probabilities. In
    an index of tiles, each hit is a part of an image; of tiles that overlap, only the best is shown.
    """
    if server is not None:
        if query is not None:
            raise typer.BadParameter("with --server, expected the QUERY alone: the service has its index")
        names = (
            "queries",
            "column",
            "encoding",
            "out",
            "model",
            "exact",
            "heatmap",
            "before",
            "after",
            "device",
            "engine",
        )
        require_default(context, *names, why="it needs the index here")
        filters = {"bbox": bbox, "near": near, "start": start, "end": end, "where": where}
        _search_server(server, place, k, filters, as_json)
        return
    from ..loading import require_model
    from ..search import ImageIndex
    from ..search.change import changes
    from ..search.databases import folder_or_uri
    from ..search.filters import Where

    index = folder_or_uri(place)
    if (before is None) != (after is None):
        raise typer.BadParameter("--before and --after: expected both images, found one")
    wanted = Where.parse(bbox=bbox, near=near, start=start, end=end, where=where or [])
    if before is not None and wanted is not None:
        raise typer.BadParameter("--before and --after compare two images whole: omit the other conditions")

    if (query is None) == (queries is None):
        raise typer.BadParameter("expected a QUERY, or --queries with a file of them")
    if queries is not None and (before is not None or heatmap):
        raise typer.BadParameter("--queries: --before, --after and --heatmap are for one query")
    require_model(*filter(None, [model]), method=FISVL)
    if query is None:
        _search_all(index, str(queries), column, encoding, k, out, model, device, wanted, exact, engine)
        return
    if out is None and not as_json:
        out = Path("outputs/search")
    require_folder(out)
    if out:
        require_apart(out, [index])
    with prints_only_json(as_json):
        opened = ImageIndex.open(index, model=model, device=device, engine=engine)
        if wanted is not None:
            opened.require_known(wanted)  # before the model is loaded
        found: list[Change] = []
        if before is not None and after is not None:
            found = changes(opened, query, before, after, k)
            hits = [change.hit for change in found]
        else:
            hits = opened.query(query, k=k, where=wanted, exact=exact)
        if out:
            require_apart(out, [opened.images_folder, *([query] if opened.is_image(query) else [])])
        said = _remarks(opened, query, hits)
        written = _write_hits(hits, out, query, said.get("warning"), pixels=opened.pixels) if out else {}
        if heatmap and hits:
            written |= _write_heat(opened, query, hits[0], out or Path("outputs/search"))
    _show_remarks(said)
    if as_json:
        risen = {"changes": [{"change": change.change, "before": change.before} for change in found]} if found else {}
        print_json({"query": query, **said, "hits": [hit.document() for hit in hits], **risen, **written})
    else:
        _show_hits(hits, query, found)
        _show_files(written)
        if gone := sum(not hit.path.exists() for hit in hits):
            update = f"{stmine_command()} index IMAGES --out {index}"
            say(f"{gone} of these images are gone. Bring the index up to date: {update}")
    sys.stdout.flush()
    opened.start_faster()


def _search_server(server: str, query: str, k: int, filters: dict[str, Any], as_json: bool) -> None:
    """Search the index of a service."""
    from ..search.hits import Hit
    from ..search.named_images import is_image
    from ..serve.client import Client

    asked = Path(query).read_bytes() if is_image(query) else query
    found = Client(server).search(asked, k, **filters)
    _show_remarks({name: found[name] for name in ("read_as", "warning") if name in found})
    if as_json:
        print_json({**found, "query": query})
        return
    _show_hits([Hit.from_document(row) for row in found["hits"]], query, [])


def _show_remarks(said: dict[str, str]) -> None:
    for name, text in said.items():
        say(
            f"Warning: {text}" if name == "warning" else f"The model understands English only; searched for: {text}",
            to_stderr=True,
        )


def _search_all(
    index: Path | str,
    queries: str,
    column: list[str] | None,
    encoding: str | None,
    k: int,
    out: Path | None,
    model: str | None,
    device: str | None,
    where: Where | None,
    exact: bool,
    engine: str,
) -> None:
    """Search for each query of a file, and write a line of JSON for each hit."""
    if out is not None and out.suffix.lower() != ".jsonl":
        raise typer.BadParameter(f"--out: with --queries expected a file that ends with .jsonl, found {out.name!r}")
    named = column_mapping(column)
    if unknown := [part for part in named if part != "query"]:
        raise typer.BadParameter(f"--column: expected query=COLUMN, found {unknown[0]!r}")
    if out is not None:
        require_output(out, inputs=[index, *([] if queries == "-" else [queries])])
    from ..inference.batching import batched
    from ..inference.journal import json_line
    from ..search import ImageIndex
    from ..search.queries import read_queries

    counts = {"queries": 0, "without a good match": 0, "refused": 0}

    def lines() -> Iterator[bytes]:
        for batch in batched(read_queries(queries, named.get("query"), encoding), QUERIES_AT_A_TIME):
            for answer in opened.search(batch, k, where=where, exact=exact):
                counts["queries"] += 1
                counts["without a good match"] += answer.warning is not None
                counts["refused"] += answer.error is not None
                yield from map(json_line, answer.rows())

    hush_libraries()
    opened = ImageIndex.open(index, model=model, device=device, engine=engine)
    if where is not None:
        opened.require_known(where)
    if out is None:
        for line in lines():
            say(line.decode().rstrip("\n"), flush=True)
    else:
        write_output(out, partial(_write_lines, lines()), inputs=[index])
    say(", ".join(f"{count} {name}" for name, count in counts.items()), to_stderr=True)
    opened.start_faster()
    if not counts["queries"]:
        raise StmineError(f"{queries}: there is no query in it.")


def _write_lines(lines: Iterable[bytes], path: Path) -> None:
    with open(path, "wb") as file:
        file.writelines(lines)


def _remarks(index: ImageIndex, query: str, hits: list[Hit]) -> dict[str, str]:
    """Remarks on a sentence: what was searched for instead, and why the hits may mean little."""
    if index.is_image(query):
        return {}
    said = {} if (read := index.reads(query)) == query else {"read_as": read}
    warned = index.check(query, hits)
    return {**said, "warning": warned.message} if warned else said


_MAPS = ("hits.geojson", "map.html")


def _write_hits(
    hits: list[Hit], folder: Path, query: str, warning: str | None, *, pixels: PixelOptions
) -> dict[str, str]:
    from ..search.present import contact_sheet, html_page, title_of

    with Outputs(folder) as outputs:  # all of them before the first is written: they belong together
        outputs.require_free("hits.png", "hits.html", *(_MAPS if any(hit.place for hit in hits) else ()))
    sheet, page, title = folder / "hits.png", folder / "hits.html", title_of(query, warning)
    contact_sheet(hits, sheet, title=title, pixels=pixels)
    html_page(hits, page, title=title, pixels=pixels)
    written = {"contact_sheet": str(sheet), "html_page": str(page)}
    if any(hit.place for hit in hits):
        from ..search.maps import map_page, write_geojson

        places, map_html = folder / "hits.geojson", folder / "map.html"
        write_geojson(hits, places)
        map_page(hits, map_html, title=title, pixels=pixels)
        return written | {"geojson": str(places), "map": str(map_html)}
    with Outputs(folder) as outputs:  # those of an earlier search would be taken for this one's
        for name in _MAPS:
            if outputs.wrote(name):
                outputs.remove(name)
    return written


def _write_heat(index: ImageIndex, query: str, hit: Hit, folder: Path) -> dict[str, str]:
    from ..search.heat import write_heat

    tiff, png = folder / "heat.tif", folder / "heat.png"
    write_heat(index, query, hit.path, tiff, png)
    return {"heat_tiff": str(tiff), "heat_png": str(png)}


def _show_hits(hits: list[Hit], query: str, found: list[Change]) -> None:
    if not hits:
        say("No image meets the conditions.")
        return
    say(f"{query}\nrank   score{'  change' if found else ''}  image")
    for number, hit in enumerate(hits):
        change = f"  {found[number].change:>+6.3f}" if found else ""
        say(f"{hit.rank:>4}  {hit.score:>6.3f}{change}  {from_here(hit.path)}{_where(hit)}")


def _where(hit: Hit) -> str:
    """The tile, middle and time of a hit as a person reads them."""
    from ..search.boxes import centre

    parts = []
    if hit.window is not None:
        parts.append("at {},{} of {} x {} px".format(*hit.window))
    if hit.place:
        lon, lat = centre(hit.place)
        parts.append(f"{abs(lat):.4f}{'NS'[lat < 0]} {abs(lon):.4f}{'EW'[lon < 0]}")
    if hit.time is not None:
        parts.append(f"{hit.time:%Y-%m-%d %H:%M}")
    return "".join(f"  {part}" for part in parts)


def _show_files(written: dict[str, str]) -> None:
    say("Results: " + "   ".join(written.values()))


def _index_summary(built: ImageIndex, out: str) -> dict[str, Any]:
    report = _report(built)
    skipped = [skip._asdict() for skip in report.skipped]
    document = {"index": out, "images": len(built), **asdict(report), "skipped": skipped}
    return {**document, "findings": report.findings.listed()}


def _show_report(built: ImageIndex, out: str, *, most_skipped: int = 10) -> None:
    report = _report(built)
    things = "tiles" if built.tiles else "images"
    empty = f", {report.empty} without data" if report.empty else ""
    say(
        f"Index {out}: {len(built)} {things} ({report.added} added, {report.changed} changed, "
        f"{report.unchanged} unchanged, {report.removed} removed, {len(report.skipped)} skipped{empty})"
    )
    if built.columns:
        say(f"Columns to filter by (--where): {', '.join(built.columns)}")
    if report.findings:
        say(f"Metadata: {report.findings.brief()}")
    memory = f", peak memory {report.peak_memory_mb:.0f} MB" if report.peak_memory_mb else ""
    say(f"{report.embedded} embedded in {report.seconds:.1f} s, {report.images_per_second:.1f} a second{memory}")
    if report.engine:
        say(f"Engine: {report.engine}")
    for path, reason in report.skipped[:most_skipped]:
        say(f"  skipped {printable(path)}: {reason}")
    if len(report.skipped) > most_skipped:
        say(f"  ... and {len(report.skipped) - most_skipped} more (--json lists all)")


def _report(built: ImageIndex) -> BuildReport:
    assert built.report is not None  # `build` sets it
    return built.report
