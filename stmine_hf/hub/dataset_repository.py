"""`stmine data export`: any data set as a repository of the Hub, Parquet files that hold the images, and a card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.dataset import export_card
from ..cards.files import CARD
from ..data.description import Description, describe
from ..data.inspection import encoded_images
from ..errors import StmineError
from ..inference.progress import ProgressBar
from .assembly import assembled

if TYPE_CHECKING:
    import datasets

SHARD_BYTES = 500_000_000  # of images and text in one Parquet file
ROW_GROUP = 100  # few rows: the Hub's viewer reads a whole group to show a page


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
    folders: Sequence[str | Path] = (),
    allow_outside: bool = False,
    license: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> Exported:
    """Write a data set as a folder that `datasets.load_dataset` and the Hub's viewer read.

    Args:
        name: of the data set, for the card.
        splits: as `stmine_hf.load_dataset` yields them.
        kind: captions, posts or boxes.
        out: folder to write; files of an earlier export in it are replaced, all others stay.
        folders: of the data set, in which its images lie; none for rows that hold their images.
        allow_outside: write images that lie outside of `folders`, too.
        license: of the repository, by the Hub's id; None: the card says whose terms hold.
        shard_bytes: start another file after this many bytes.
        progress: show a bar on stderr.

    Raises:
        StmineError: an image outside of `folders`, or whose file is missing; a file in the way that no export has
            written; another export is writing there.
    """
    sources = [Path(folder).expanduser() for folder in folders]
    if not allow_outside:
        require_inside(splits, sources)
    out = out.absolute()
    with assembled(out, sources, refuse=lambda file: True) as folder:
        (folder / "data").mkdir()
        description = describe(name, splits, kind)
        for split, rows in splits.items():
            with ProgressBar(f"Writing {split}", len(rows), shown=progress) as bar:
                _write_split(rows, folder / "data", split, shard_bytes, bar)
        files = {f"data/{file.name}": file.stat().st_size for file in sorted((folder / "data").glob("*.parquet"))}
        export_card(name, splits, files, description, license).write(folder)
    return Exported(out, files, description)


def require_inside(splits: datasets.DatasetDict, folders: Sequence[Path]) -> None:
    """Check that images which are to be read from files lie in the data set's folders, links resolved.

    Args:
        splits: as `stmine_hf.load_dataset` yields them.
        folders: of the data set.

    Raises:
        StmineError: some lie elsewhere. A table by somebody else could name any file of this machine.
    """
    inside = [Path(os.path.realpath(folder)) for folder in folders]
    outside: list[str] = []
    for rows in splits.values():
        for image in encoded_images(rows):
            path = image["path"] if image["bytes"] is None else None
            if path and not any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in inside):
                outside.append(path)
    if outside:
        places, first = ", ".join(map(str, folders)) or "the data set", ", ".join(map(repr, outside[:3]))
        raise StmineError(
            f"{len(outside):,} images lie outside of {places}, such as {first}: they are not written into an export "
            "that may be published. If they belong to it, add --allow-outside (in Python: allow_outside=True) or name "
            "their folder: --option image_dir=FOLDER."
        )


def _write_split(rows: datasets.Dataset, folder: Path, split: str, shard_bytes: int, bar: ProgressBar) -> None:
    """Parquet files of about `shard_bytes`, named once their number is known."""
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
            bar.advance(len(table))
    finally:
        if writer is not None:
            writer.close()
    for number, part in enumerate(parts):
        part.rename(folder / f"{split}-{number:05d}-of-{len(parts):05d}.parquet")


def require_terms(folder: Path, header: dict[str, Any]) -> None:
    """
    Raises:
        StmineError: the card of a data set states no license, so its terms are unknown.
    """
    if not header.get("license"):
        raise StmineError(
            f"{folder / CARD} states no license. If you may share this data set, export it with --license ID, such "
            "as cc-by-4.0; else push it with --private."
        )
