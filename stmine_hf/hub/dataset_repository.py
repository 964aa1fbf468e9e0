"""`stmine data export`: any data set as a repository of the Hub, Parquet files that hold the images, and a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID

from ..cards.rendering import render
from ..data import BUILDERS, TASKS
from ..data.description import Description, describe, entry
from ..errors import StmineError
from .repository import CARD

if TYPE_CHECKING:
    import datasets

SHARD_BYTES = 500_000_000  # of images and text in one Parquet file
ROW_GROUP = 100  # few rows: the Hub's viewer reads a whole group to show a page
ROWS = {
    "captions": "A row is an image with its captions.",
    "posts": "A row is a post: text, an image or none, and a label.",
    "boxes": "A row is an image with its boxes, x, y, width, height in pixels.",
}


@dataclass
class Exported:
    """What was written.

    Attributes:
        folder: with `README.md` and `data/`.
        files: Parquet files, as paths in the folder, with their bytes.
        description: of the rows.
    """

    folder: Path
    files: dict[str, int]
    description: Description


def export(
    name: str,
    splits: datasets.DatasetDict,
    kind: str,
    out: Path,
    *,
    license: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> Exported:
    """Write a data set as a folder that `datasets.load_dataset` and the Hub's viewer read.

    Args:
        name: of the data set, for the card.
        splits: as `stmine_hf.load_dataset` yields them.
        kind: captions, posts or boxes.
        out: folder to write; parts of an earlier export in it are replaced.
        license: of the repository, by the Hub's id; None: the card says whose terms hold.
        shard_bytes: begin another file after so many bytes.
        progress: show a bar on stderr.

    Raises:
        StmineError: the folder has files that are no export, or an image's file has gone.
    """
    data = out / "data"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (data.is_dir() and (out / CARD).is_file()))):
        raise StmineError(f"{out}: expected a folder that is not there, is empty or holds an earlier export.")
    data.mkdir(parents=True, exist_ok=True)
    for old in data.glob("*.parquet"):
        old.unlink()
    description = describe(name, splits, kind)
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        for split, rows in splits.items():
            task = bar.add_task(f"Writing {split}", total=len(rows))
            _write_split(rows, data, split, shard_bytes, bar, task)
    files = {f"data/{file.name}": file.stat().st_size for file in sorted(data.glob("*.parquet"))}
    card = _card(name, splits, files, description, license)
    (out / CARD).write_text(card, encoding="utf-8")
    return Exported(out, files, description)


def _write_split(
    rows: datasets.Dataset, folder: Path, split: str, shard_bytes: int, bar: Progress, task: TaskID
) -> None:
    """Parquet files of about `shard_bytes`, named when it is known how many there are."""
    import pyarrow.parquet
    from datasets.table import embed_table_storage

    schema, writer, written = rows.features.arrow_schema, None, 0
    parts: list[Path] = []
    try:
        for table in rows.with_format("arrow").iter(ROW_GROUP):
            try:
                table = embed_table_storage(table.cast(schema))
            except OSError as error:
                raise StmineError(f"{split}: an image of the data set has gone ({error}).") from error
            if writer is None or written >= shard_bytes:
                if writer is not None:
                    writer.close()
                parts.append(folder / f".{split}-{len(parts):05d}.parquet")
                writer, written = pyarrow.parquet.ParquetWriter(parts[-1], schema), 0
            writer.write_table(table)
            written += table.nbytes
            bar.advance(task, len(table))
    finally:
        if writer is not None:
            writer.close()
    for number, part in enumerate(parts):
        part.rename(folder / f"{split}-{number:05d}-of-{len(parts):05d}.parquet")


def _card(
    name: str, splits: datasets.DatasetDict, files: dict[str, int], description: Description, license: str | None
) -> str:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    known = entry(name) if name in BUILDERS else None
    first = next(iter(splits.values()))
    sizes = {
        split: SplitInfo(
            split, sum(size for file, size in files.items() if file.startswith(f"data/{split}-")), len(rows)
        )
        for split, rows in splits.items()
    }
    total = sum(files.values())
    info = DatasetInfo(features=first.features, splits=SplitDict(sizes), download_size=total, dataset_size=total)
    title = Path(name).name if Path(name).exists() else name
    header = DatasetCardData(
        pretty_name=title,
        license=license,
        task_categories=list(TASKS[description.kind]),
        size_categories=_size(sum(numbers["rows"] for numbers in description.splits.values())),
        tags=["stmine-hf"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in splits],
            }
        ],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(header)
    return render(
        "dataset.md",
        header,
        name=title,
        about=known.about if known else "A data set.",
        form=ROWS[description.kind],
        splits=description.splits,
        columns=description.columns,
        source=known.source if known else "",
        terms=description.terms,
        license=license,
        citation=first.info.citation,
    )


def _size(rows: int) -> str:
    """The Hub's word for it.

    Example:
        >>> _size(500), _size(10_921)
        ('n<1K', '10K<n<100K')
    """
    bounds = {10**3: "1K", 10**4: "10K", 10**5: "100K", 10**6: "1M", 10**7: "10M"}
    above = [word for bound, word in bounds.items() if rows >= bound]
    below = [word for bound, word in bounds.items() if rows < bound]
    return "<".join([*above[-1:], "n", *below[:1]]) if below else "n>10M"


def require_terms(folder: Path, header: dict[str, Any]) -> None:
    """
    Raises:
        StmineError: the card of a data set states no license, so nobody knows who may have it.
    """
    if not header.get("license"):
        raise StmineError(
            f"{folder / CARD} states no license. If you may pass this data set on, export it with --license ID, such "
            "as cc-by-4.0; else push it with --private."
        )
