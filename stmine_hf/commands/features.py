"""`stmine features ...`: the output of a frozen visual encoder, computed once and stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..data import one_of
from ..errors import StmineError
from ..inference.engines import require_engine
from ..methods import MTTV
from ..outputs import require_other, require_own_place
from ..printing import printable, say
from .methods.mttv import ModelOption
from .terminal import (
    POSTS,
    BandsOption,
    BuilderOption,
    ColumnOption,
    DetectorOption,
    DeviceOption,
    EncodingOption,
    EngineOption,
    FindingsOption,
    JsonOption,
    StretchOption,
    StrictOption,
    builder_options,
    column_mapping,
    from_here,
    print_json,
    prints_only_json,
    reading_options,
    require_file,
    require_folder,
)

if TYPE_CHECKING:
    from ..images import PixelOptions
    from ..posts.post import Post

DTYPES = ("float32", "float16")

app = typer.Typer(no_args_is_help=True, help="Compute visual features once and store them for training.")


@app.callback()
def features() -> None:
    """Keep this a group while it has a single command."""


@app.command(
    "mttv",
    epilog="""[bold]Examples[/bold]

  stmine features mttv --dataset weibo --data-dir data/weibo --out weibo.features

  stmine features mttv --file posts.jsonl --model my_model --detector my_detector --out my.features

Run it again after an interruption or with more posts: only new and changed posts are encoded.""",
)
def features_mttv(
    out: Annotated[Path, typer.Option("--out", help="Folder for the features; created, or updated.")],
    dataset: Annotated[str | None, typer.Option(help=f"{one_of('posts')}.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. Default: all of them.")] = None,
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    file: Annotated[Path | None, typer.Option(help="Instead of a data set: posts as for `stmine classify`.")] = None,
    model: ModelOption = None,
    detector: DetectorOption = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or float16: half the size, three significant digits.")
    ] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Posts per batch.")] = 8,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run the images of posts through the model's visual encoder and store the features of image and regions.

    The key of a post is its id. Training (`features: FOLDER`) and `stmine evaluate mttv --features FOLDER` read them.
    With another stretch or other bands all posts are encoded again.
    """
    if (dataset is None) == (file is None):
        raise typer.BadParameter("expected one of --dataset and --file")
    reading = reading_options(encoding, findings, strict)
    columns = column_mapping(column)
    options = {**builder_options(option), "column_mapping": columns, **reading}
    if dtype not in DTYPES:
        raise StmineError(f"--dtype: expected {' or '.join(DTYPES)}, found {dtype!r}.")
    from ..data.paths import require_dataset
    from ..images import PixelOptions
    from ..loading import load_mttv, require_model, require_regions
    from ..posts.reading import check_posts, require_post

    pixels = PixelOptions.parse(stretch, bands)
    require_folder(out)
    require_other(out, [model, detector])
    require_file(file, POSTS)
    if dataset is not None:
        require_dataset(dataset, data_dir)
    require_model(model, method=MTTV)
    require_regions(detector, model)
    require_engine(engine)
    if findings is not None:
        require_own_place("--findings", findings, [out])
    bad: list[Any] = []
    with prints_only_json(as_json):
        if file is not None:
            check_posts(file, **reading, columns=columns)
            require_post(file, encoding, columns)
            posts, total = _of_file(file, bad, encoding, columns, pixels)
        else:
            posts, total = _of_dataset(str(dataset), data_dir, split, options, pixels)
        from ..posts.detectors import load_detector
        from ..posts.features import precompute_features

        network, processor = load_mttv(model, device=device)
        regions = None if detector is None else load_detector(detector, network.device, model=network)
        report = precompute_features(
            network, processor, posts, out, batch_size=batch_size, detector=regions, dtype=dtype, total=total,
            inputs=[source for source in (file, data_dir) if source is not None], progress=not as_json,
            engine=engine,
        )  # fmt: skip
    report.skipped += bad
    if as_json:
        print_json({"out": str(out), **asdict(report), "skipped": [skip._asdict() for skip in report.skipped]})
        return
    say(
        f"Features {from_here(out)}: {report.total} posts ({report.added} added, {report.done_before} there before), "
        f"{report.without_image} posts without image, {len(report.skipped)} skipped"
    )
    for path, reason in report.skipped[:10]:
        say(f"  skipped {printable(path)}: {reason}")
    if len(report.skipped) > 10:
        say(f"  ... and {len(report.skipped) - 10} more (--json lists all)")
    if report.engine:
        say(f"Engine: {report.engine}")
    if report.added:
        say(f"{report.seconds:.1f} s, {report.added / report.seconds:.1f} posts a second")


def _of_file(
    file: Path, bad: list[Any], encoding: str | None, columns: dict[str, Any], pixels: PixelOptions
) -> tuple[Iterator[Post], int]:
    """The posts of a file, and how many rows it has; the other rows are added to `bad`."""
    from ..images import Skip
    from ..posts.reading import count_posts, read_posts

    def posts() -> Iterator[Post]:
        for row in read_posts(file, encoding, columns, pixels=pixels):
            if row.post is None:
                bad.append(Skip(f"{file.name}, line {row.line}", row.problem or ""))
            else:
                yield row.post

    return posts(), count_posts(file, encoding)


def _of_dataset(
    name: str, data_dir: Path | None, split: str | None, options: dict[str, Any], pixels: PixelOptions
) -> tuple[Iterator[Post], int]:
    """The posts of a data set's splits, and how many there are."""
    from .. import load_dataset
    from ..evaluation.reports import undecoded
    from ..posts.post import Post, row_image

    loaded = load_dataset(name, data_dir=data_dir, split=split, kind="posts", **options)
    splits = list(loaded.values()) if isinstance(loaded, dict) else [loaded]

    def posts() -> Iterator[Post]:
        for rows in splits:
            for row in undecoded(rows):
                image = row.get("image")
                yield Post(row["post_id"], "", [] if image is None else [row_image(image, pixels)])

    return posts(), sum(map(len, splits))
