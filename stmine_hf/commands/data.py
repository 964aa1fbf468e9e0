"""`stmine data ...`: list data sets, describe one, and make it a repository of the Hub."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import StmineError
from ..outputs import require_own_place
from ..printing import print_table, say
from .publish import push_repository
from .terminal import (
    BuilderOption,
    ColumnOption,
    EncodingOption,
    FindingsOption,
    JsonOption,
    StrictOption,
    builder_options,
    column_mapping,
    from_here,
    print_json,
    prints_only_json,
    reading_options,
    stmine_command,
)

MOST_NAMES = 12  # labels or classes listed with their numbers
PLACES = 5  # shown of each kind of findings; --findings lists more

app = typer.Typer(no_args_is_help=True, help="List, describe, export and upload data sets.")

DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A name of `stmine data list`, a table (CSV, JSONL, Excel, Parquet), a folder or a Hub id.",
    ),
]
DirOption = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the files of a named data set.")]
KindOption = Annotated[
    str | None,
    typer.Option("--kind", help="For your own data: captions, posts or boxes. Default: as its columns or files say."),
]


@app.command(
    "list",
    epilog="""[bold]Examples[/bold]

  stmine data list

  stmine data list --json""",
)
def list_datasets(as_json: JsonOption = False) -> None:
    """List the data sets that can be loaded by name, and where their files come from."""
    from rich.table import Table

    from ..data.description import entries

    found = entries()
    if as_json:
        print_json({"datasets": [asdict(entry) for entry in found]})
        return
    table = Table("name", "rows of", "what it is", "files from")
    for entry in found:
        table.add_row(entry.name, entry.kind, entry.about, entry.source or "-")
    print_table(table)
    say(f"What is in one: {stmine_command()} data describe NAME --data-dir FOLDER")


@app.command(
    "describe",
    epilog="""[bold]Examples[/bold]

  stmine data describe rsicd --data-dir data/rsicd

  stmine data describe toy_posts --option count=40

  stmine data describe mine.csv --kind captions --column image=file --column captions=sentence""",
)
def describe_dataset(
    dataset: DatasetArgument,
    data_dir: DirOption = None,
    kind: KindOption = None,
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    samples: Annotated[int, typer.Option(min=0, help="Rows to show.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show splits, sizes, columns, first rows and terms of a data set."""
    from ..data.paths import require_dataset

    require_dataset(dataset, data_dir)
    from datasets import disable_progress_bars

    from ..data.description import describe, finding_lines, plain_sample

    options = {**builder_options(option), **reading_options(encoding, findings, strict)}
    mapping = column_mapping(column)
    with prints_only_json(as_json), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is among the findings below
        disable_progress_bars()
        splits, rows_of, found = _load(dataset, data_dir, kind, options, mapping)
        description = describe(dataset, splits, rows_of, samples=samples, findings=found, inspect_rows=True)
    if as_json:
        print_json(asdict(description))
        return
    from rich.table import Table

    sizes = ("smallest", "median", "largest")
    table = Table("split", "rows", "images", "bytes of images", *sizes, title=f"{dataset}: {rows_of}")
    for split, numbers in description.splits.items():
        counts = description.counts[split]
        shown = [f"{width} x {height}" for width, height in counts.get("sizes", [])] or ["-"] * 3
        table.add_row(split, f"{numbers['rows']:,}", f"{counts['images']:,}", f"{numbers['image_bytes']:,}", *shown)
    print_table(table)
    for split, counts in description.counts.items():
        say(f"{split}: {_counted(counts)}")
    columns = Table("column", "holds")
    for name, holds in description.columns.items():
        columns.add_row(name, holds)
    print_table(columns)
    for row in description.samples:
        cells = plain_sample(row, description)
        say("  " + "; ".join(f"{name}: {_short(value)}" for name, value in cells.items()))
    for line in finding_lines(description.findings, PLACES):
        say(line)
    for warning in description.warnings:
        say(f"Note: {warning}")
    if not Path(dataset).expanduser().exists():
        say(f"Terms: {description.terms}")


@app.command(
    "export",
    epilog="""[bold]Examples[/bold]

  stmine data export rsicd --data-dir data/rsicd --out rsicd-parquet

  stmine data export toy_camouflage --option count=96 --out toy-camouflage --license cc0-1.0

Then: datasets.load_dataset("toy-camouflage").""",
)
def export_dataset(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    data_dir: DirOption = None,
    kind: KindOption = None,
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    license: Annotated[
        str | None, typer.Option(help="License under which you may share the data set, as a Hub identifier.")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Include images outside the data set's folder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set as Parquet files, images included, with a card, as the Hub and `datasets` read it."""
    from ..data.paths import require_dataset

    require_dataset(dataset, data_dir)
    from ..hub.dataset_repository import export

    if findings is not None:
        require_own_place("--findings", findings, [out])
    options = {**builder_options(option), **reading_options(encoding, findings, strict)}
    mapping = column_mapping(column)
    with prints_only_json(as_json):
        splits, rows_of, _ = _load(dataset, data_dir, kind, options, mapping)
        exported = export(
            dataset,
            splits,
            rows_of,
            out,
            folders=_folders(dataset, data_dir, options),
            allow_outside=allow_outside,
            license=license,
            progress=not as_json,
        )
    counts = {split: numbers["rows"] for split, numbers in exported.description.splits.items()}
    if as_json:
        print_json({"out": str(out), "files": exported.files, "rows": counts})
        return
    rows = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    say(f"Written: {from_here(out.absolute())} ({rows} rows; {sum(exported.files.values()):,} bytes of Parquet)")
    push = f"{stmine_command()} data push {shlex.quote(str(from_here(out.absolute())))}"
    say(f"Read its README.md. Next, with your name on the Hub: {push} --repo jane-doe/{out.absolute().name} --dry-run")


@app.command(
    "push",
    epilog="""[bold]Examples[/bold]

  stmine data push toy-camouflage --repo my-name/toy-camouflage --dry-run

  stmine data push toy-camouflage --repo my-name/toy-camouflage --private""",
)
def push_dataset(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder written by `stmine data export`.")],
    repo: Annotated[str, typer.Option(help="Id on the Hub: ORGANISATION/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, to load this version by.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload an exported data set to the Hub in one commit; its card must state a license unless it is private."""
    from ..hub.dataset_repository import require_terms
    from ..hub.repo_type import header_of

    header = header_of(folder)
    if not private:
        require_terms(folder, header)
    push_repository(folder, repo, private=private, tag=tag, dry_run=dry_run, as_json=as_json)


def _load(
    dataset: str, data_dir: Path | None, kind: str | None, options: dict[str, Any], mapping: dict[str, Any]
) -> tuple[Any, str, Any]:
    from ..data import BUILDERS
    from ..data.columns import kind_of_parts
    from ..data.description import load_all
    from ..data.recognition import columns_in, likely_kind, read_recognized

    if dataset in BUILDERS or data_dir is not None or not Path(dataset).expanduser().exists():
        return load_all(dataset, kind, data_dir=data_dir, column_mapping=mapping, **options)
    found = kind or kind_of_parts(mapping) or likely_kind(dataset, options.get("encoding"))
    if found is None:
        header, _ = columns_in(Path(dataset).expanduser(), options.get("encoding"))
        if header:
            raise StmineError(
                f"{dataset}: found the columns {', '.join(header[:MOST_NAMES])}: say what the rows are by --kind "
                "captions, posts or boxes, or by what they hold, such as --column captions=NAME"
            )
        return load_all(dataset, kind, column_mapping=mapping, **options)
    splits, findings, taken = read_recognized(dataset, found, column_mapping=mapping, **options)
    say(f"Read as {found}: {'; '.join(taken.taken)}. If that is wrong, say --kind and --column.")
    return splits, found, findings


def _counted(counts: dict[str, Any]) -> str:
    """The numbers of a split in words: labels or classes, sentences, and what lacks one."""

    def listed(of: dict[str, int]) -> str:
        named = [f"{name} ({count:,})" for name, count in of.items()]
        return ", ".join(named[:MOST_NAMES]) + (f" and {len(named) - MOST_NAMES} more" if named[MOST_NAMES:] else "")

    said = []
    if counts.get("labels"):
        said.append(f"labels {listed(counts['labels'])}")
    if "sentences" in counts:
        least, mean, most = counts["sentences_per_image"]
        each = f"{most}" if least == most else f"{least} to {most}, {mean} in the mean"
        said.append(f"{counts['sentences']:,} sentences ({each} an image)")
    if "boxes" in counts:
        said.append(f"{sum(counts['boxes'].values()):,} boxes: {listed(counts['boxes'])}")
    lacks = {
        "unlabelled": "without a label",
        "without_text": "without a text",
        "images_without_boxes": "images without a box",
    }
    said += [f"{counts[name]:,} {words}" for name, words in lacks.items() if counts.get(name)]
    return "; ".join(said)


def _folders(dataset: str, data_dir: Path | None, options: dict[str, Any]) -> list[Path]:
    """Folders that may hold the images of a data set: its own, that of `image_dir`, and for the Hub's the cache."""
    from datasets.config import HF_CACHE_HOME

    own = data_dir or Path(dataset).expanduser()
    named = [Path(options["image_dir"]).expanduser()] if options.get("image_dir") else []
    if data_dir is None and not own.exists():
        return [*named, Path(HF_CACHE_HOME)]
    return [own if own.is_dir() else own.parent, *named]


def _short(value: Any, most: int = 3) -> str:
    """A value of a row as a person reads it: numbers of six digits, of long lists the first entries."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(part)}" for name, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        shown = [_short(part, most=4) for part in value[:most]]
        return "[" + ", ".join([*shown, *([f"{len(value) - most} more"] if len(value) > most else [])]) + "]"
    return str(value)
