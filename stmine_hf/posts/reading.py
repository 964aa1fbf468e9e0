"""Read files of posts, row by row, as in training: a bad row is reported with its line and affects no other.

A row has `text`, `image` (a path, relative to the file or to `images/` beside it; also a list of paths), `id` and
`label`, each of which may be missing or empty, except that there must be a text or an image. Their columns are
recognized by their names, as in training: see `stmine_hf.data.columns`. A row without `id` gets the id "line 7"; the
second row of id 7 is 7#2, as in training, so that every row has a prediction and features are found under the id that
training asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..data.cells import is_missing, name_of, opened, plain, text_of, whole_of
from ..data.cells import whole_text as whole_text
from ..data.columns import SAMPLED, Column, assign_columns, names_of, unused_images, value_of
from ..data.errors import BadRow
from ..data.findings import Findings
from ..data.names import ImageFiles
from ..data.post_cells import SEEN_BEFORE, UniqueIds, image_of
from ..data.tables import TextFile, recased, table_rows
from ..errors import StmineError
from ..images import ImageError, PixelOptions, decode_image, image_errors, open_image
from ..printing import shell_word
from .post import Post, PostImage

_DEFAULT = PixelOptions()
PARTS = ("text", "image", "id", "label")
NO_CONTENT = "neither text nor image"
_LOOKED_AT = 1000  # rows, to learn which columns a file has
_LOOKED_FOR = frozenset({"text", "image", "img", "id", "label"})
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".feather", ".arrow")
# Images are decoded whole, so that predictions are the same as everywhere else: only a JPEG of more than three times
# this many pixels a side may come out smaller (see `open_image`).
SIDE = 4096


class PostRow(NamedTuple):
    """One row of a file. `post` is None where it cannot be classified, and `problem` has the reason."""

    line: int  # the first of the row, from 1
    id: str | int
    post: Post | None
    problem: str | None = None
    given: str | int = ""  # the id as the file has it
    cells: Mapping[str, Any] = {}  # as the file has them
    label: str = ""  # as the file has it


@dataclass(frozen=True)
class PostColumns:
    """What the columns of a file of posts hold.

    Attributes:
        of: part (text, image, id, label) -> column, of images also several.
        found: names of all columns, of JSON lines those of the first 1,000 rows.
        line: in words, for the user.
    """

    of: Mapping[str, Column]
    found: list[str] = field(default_factory=list)
    line: str = ""


def post_columns(
    file: str | Path, encoding: str | None = None, columns: Mapping[str, Column] | None = None
) -> PostColumns:
    """The columns of a file of posts, recognized as in training; arguments as of `read_posts`.

    Raises:
        StmineError: no such file, or one that cannot be read; a column that it does not have; no column that holds a
            text or an image, or several that are equally likely to.
    """
    file = _require_file(file)
    rows = [row.cells for row in islice(table_rows(file, encoding=encoding), _LOOKED_AT) if not row.problem]
    found = list(dict.fromkeys(name for cells in rows for name in names_of(cells)))
    given = _checked_columns(file, found, columns)
    assigned = assign_columns("posts", found, given, rows[:SAMPLED])
    assigned.require_clear(str(file), ("text", "image"))
    # An image column of another name beside columns that are unclear is not enough: one of them may be the text.
    known = {"text"} & set(assigned.of) or "image" in given or assigned.of.get("image") in ("image", "img")
    known = known or ("image" in assigned.of and len(found) == 1)
    if found and not known:
        raise _no_content(file, found, rows[:SAMPLED])
    of = {("id" if part == "post_id" else part): column for part, column in assigned.of.items()}
    note = unused_images(file.parent, assigned, found, rows[:SAMPLED])
    line = assigned.line() + (f"; {note}" if note else "")
    return PostColumns({part: of[part] for part in PARTS if part in of}, found, line)


def read_posts(
    file: str | Path,
    encoding: str | None = None,
    columns: Mapping[str, Column] | None = None,
    pixels: PixelOptions = _DEFAULT,
) -> Iterator[PostRow]:
    """Read the rows of a file of posts; blank lines do not count.

    Args:
        file: a table: CSV, TSV, JSON, Excel, Parquet, ..., or JSON lines under any other name.
        encoding: of a file that is not UTF-8 and does not state its encoding, such as "gb18030".
        columns: which hold `text`, `image`, `id` and `label`, where their names do not say so: `{"text": "c2"}`.
            Several for `image`: `{"image": ["photo_1", "photo_2"]}`.
        pixels: how to read images of more than 8 bits or more than three bands.

    Raises:
        StmineError: no such file, one that cannot be read, or a table without the columns.
    """
    file = Path(file)
    ids = UniqueIds()
    of = post_columns(file, encoding, columns).of
    own_image = "image" not in (columns or {}) and of.get("image", "image") == "image"
    named = {column for column in of.values() if isinstance(column, str) and "." not in column}
    looked_for = _LOOKED_FOR | named
    images = ImageFiles([file.parent, file.parent / "images"])
    for row in table_rows(file, encoding=encoding):
        cells = recased(row.cells, looked_for)
        name = _id(value_of(cells, str(of.get("id", "id"))))
        line = row.number
        shown = f"line {line}" if name in (None, "") else name
        new = PostRow(line, shown, None, f"{row.problem}{row.detail}" if row.problem else None, shown, row.cells)
        if not row.problem:
            image = _image_cell(cells, of.get("image", "image"))
            if own_image and is_missing(image):
                image = cells.get("img")
            text = value_of(cells, str(of.get("text", "text")))
            new = _with_post(images, new, text, image, _label(value_of(cells, str(of.get("label", "label")))), pixels)
        if new.post is not None:
            given = name_of(new.id)
            if (own := ids.take(given)) != given:
                new = new._replace(id=own, post=new.post._replace(id=own))
        yield new


def count_posts(file: str | Path, encoding: str | None = None) -> int:
    """Number of rows that `read_posts` yields; same arguments."""
    file = _require_file(file)
    if file.suffix.lower() not in (*_TABLES, ".json"):
        lines = (line for _, line, _ in TextFile(file, encoding) if not line.isspace())
        first = next(lines, "")
        if not first.lstrip().startswith("["):
            return (1 if first else 0) + sum(1 for _ in lines)
    return sum(1 for _ in table_rows(file, encoding=encoding))


def check_posts(
    file: str | Path,
    encoding: str | None = None,
    findings: str | Path | None = None,
    strict: bool = False,
    columns: Mapping[str, Column] | None = None,
) -> None:
    """Read a file of posts before classifying it, to report the rows without a post.

    Args:
        file: posts; see `read_posts`.
        encoding: see `read_posts`.
        findings: file to write them to, as `load_dataset` does.
        strict: refuse a file that has any.
        columns: see `read_posts`.

    Raises:
        StmineError: with `strict`, there are such rows.
    """
    if findings is None and not strict:
        return
    found = Findings("row")
    found.subject = str(file)
    for row in read_posts(file, encoding, columns):
        if row.problem:
            found.skip(row.problem, f"{Path(file).name}, line {row.line}")
        elif row.given != row.id:
            found.note(SEEN_BEFORE, f"{Path(file).name}, line {row.line}, {row.given}")
    if findings is not None:
        found.save_for(findings, [file])
    if strict and found:
        raise StmineError(f"{file}; {found}. Strict reading refuses such data: omit strict to continue")


def require_post(file: str | Path, encoding: str | None = None, columns: Mapping[str, Column] | None = None) -> None:
    """Check, before a model is loaded, that a file has a post; its rows are read up to the first one.

    Args:
        file: posts; see `read_posts`.
        encoding: see `read_posts`.
        columns: see `read_posts`.

    Raises:
        StmineError: it has none, or cannot be read.
    """
    bad, first = 0, ""
    for row in read_posts(file, encoding, columns):
        if row.post is not None:
            return
        bad, first = bad + 1, first or f"line {row.line}: {row.problem}"
    raise not_one_post(file, bad, first)


def not_one_post(file: str | Path, skipped: int, first: str) -> StmineError:
    """The error for a file without a post.

    Args:
        file: of posts.
        skipped: number of its rows.
        first: line and problem of the first one.
    """
    found = f"{skipped} rows skipped; {first}" if skipped else "it is empty"
    return StmineError(f"{file}: not one post can be classified ({found}).")


def find_row(
    file: str | Path,
    wanted: str,
    encoding: str | None = None,
    columns: Mapping[str, Column] | None = None,
    pixels: PixelOptions = _DEFAULT,
) -> PostRow:
    """One row, with its post.

    Args:
        file: posts; see `read_posts`.
        wanted: its id, or its line as predictions have it ("7" or "line 7"). An id wins over a line.
        encoding: see `read_posts`.
        columns: see `read_posts`.
        pixels: see `read_posts`.

    Raises:
        StmineError: no such row, or none that can be classified.
    """
    found: PostRow | None = None
    ids: list[str] = []
    last = 0
    for row in read_posts(file, encoding, columns, pixels):
        last = row.line
        ids += [str(row.id)] if len(ids) < 3 else []
        if str(row.id) == wanted:
            found = row
            break
        if wanted in (str(row.line), f"line {row.line}"):
            found = row
    if found is None:
        raise StmineError(
            f"{file}: no row {wanted!r}. Expected an id, such as {', '.join(ids) or 'none'}, or a line up to {last}."
        )
    if found.post is None:
        raise StmineError(f"{file}, line {found.line}: this row cannot be classified: {found.problem}.")
    return found


def _checked_columns(file: Path, found: list[str], columns: Mapping[str, Column] | None) -> dict[str, Column]:
    """
    Raises:
        StmineError: a part that posts do not have, or a column that the file does not have.
    """
    mapping = {("id" if part == "post_id" else part): column for part, column in (columns or {}).items()}
    for part, column in mapping.items():
        if part not in PARTS:
            raise StmineError(f"{file}: a post is made of {', '.join(PARTS)}; found a column for {part!r}.")
        if part != "image" and not isinstance(column, str):
            raise StmineError(f"{file}: expected one column for {part}, found {', '.join(column)}.")
    wanted = [one for column in mapping.values() for one in ([column] if isinstance(column, str) else column)]
    if missing := [name for name in wanted if name not in found]:
        raise StmineError(f"{file} has no column {missing[0]!r}, but {', '.join(list(found)[:12]) or 'no rows'}.")
    return mapping


def _image_cell(cells: Mapping[str, Any], column: Column) -> Any:
    """What a row names as its image, of several columns a list."""
    if isinstance(column, str):
        return value_of(cells, column)
    values = [opened(value_of(cells, one)) for one in column]
    return [value for value in values if not is_missing(value)]


def _label(value: Any) -> str:
    """A label as training has it; "" for none."""
    try:
        name = name_of(value)
    except BadRow:
        return ""
    return "" if name == "-1" else name


def post_image(path: str | Path, pixels: PixelOptions = _DEFAULT) -> Any:
    """Open the image of a file, upright and in RGB.

    Raises:
        ImageError: it cannot be read; the message is the reason alone.
    """
    return open_image(path, side=SIDE, options=pixels)


def _id(value: Any) -> Any:
    """An id as training has it, a whole number of 64 bits in JSON or Parquet as such; a missing one as ""."""
    value = plain(value)
    if isinstance(value, (str, float)):
        number = None if isinstance(value, str) else whole_of(value)
        with suppress(BadRow):
            return name_of(value) if number is None else number
    return value


def _with_post(images: ImageFiles, row: PostRow, text: Any, image: Any, label: str, pixels: PixelOptions) -> PostRow:
    """`row` with its post, or with what is wrong with it."""
    if not isinstance(row.id, (str, int)) or isinstance(row.id, bool):
        return row._replace(
            id=f"line {row.line}", problem=f"id: expected a string or a whole number, found {_kind(row.id)}"
        )
    image = opened(image)
    try:
        text = text_of(text)
    except BadRow as error:
        return row._replace(problem=f"text: {error}")
    named = image if isinstance(image, list) else [] if is_missing(image) else [image]
    if not all(isinstance(one, Mapping) or (isinstance(one, (str, bytes)) and one) for one in named):
        return row._replace(problem="image: expected a path or a list of paths")
    named = [one for one in named if not isinstance(one, str) or image_of(one, "")]
    if not named and not text.strip():
        return row._replace(problem=NO_CONTENT)
    post = Post(row.id, text, [_post_image(images, one, pixels) for one in named])
    return PostRow(row.line, row.id, post, row.problem, row.given, row.cells, label)  # quicker than _replace


def _post_image(images: ImageFiles, image: str | bytes | Mapping[str, Any], pixels: PixelOptions) -> PostImage:
    """An image that is opened when needed; a change is noticed by its file."""
    if isinstance(image, Mapping):
        image = image.get("bytes") or str(image.get("path") or "")
    if isinstance(image, bytes):
        return PostImage(partial(_open, images, image, pixels), "", content=image, pixels=pixels)
    opens, found = partial(_open, images, image, pixels), partial(_file_of, images, image)
    return PostImage(opens, image, found, pixels=pixels, open_file=_open_file)


def _file_of(images: ImageFiles, image: str) -> Path:
    """The file that a name means, or where it should be."""
    return Path(images.find_one(image) or Path(images.folders[0], image))


def _open(images: ImageFiles, image: str | bytes, pixels: PixelOptions) -> Any:
    """The image of a path, or of what a Parquet file holds.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(image, Mapping):
        image = image.get("bytes") or str(image.get("path") or "")
    if isinstance(image, bytes):
        with image_errors():
            return decode_image({"bytes": image, "path": None}, pixels)
    try:
        return _open_file(image, _file_of(images, image), pixels)
    except ValueError as error:  # a NUL in the path
        raise ImageError(f"{image!r}: {error}") from None


def _open_file(name: str, file: Path, pixels: PixelOptions) -> Any:
    """The image of a file, as a post names it.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        if name.startswith(("http://", "https://")):
            raise ImageError("an address, not a file: download the image and give its path")
        return post_image(file, pixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None


def _require_file(file: str | Path) -> Path:
    """
    Raises:
        StmineError: there is no such file.
    """
    file = Path(file)
    if file.is_dir():
        raise StmineError(f"{file}: a folder. Expected a file of posts: JSON lines, CSV, TSV, Excel or Parquet.")
    if not file.exists():
        raise StmineError(f"{file}: no such file. Expected posts as JSON lines, CSV, TSV, Excel or Parquet.")
    if file.suffix.lower() in (".csv", ".tsv") and not file.stat().st_size:
        raise _no_content(file, [], [])
    return file


def _no_content(file: Path, found: list[str], rows: list[dict[str, Any]]) -> StmineError:
    """The error for a table without a column that a post is made of."""
    shown = ", ".join(map(repr, found[:8])) or "an empty file"
    lengths = {name: sum(len(str(value_of(row, name) or "")) for row in rows) / len(rows) for name in found if rows}
    longest = max(lengths, key=lambda name: lengths[name], default="THE_COLUMN")
    why = f" (it has the longest texts, {lengths[longest]:.0f} characters)" if lengths.get(longest, 0) >= 8 else ""
    return StmineError(
        f"{file}: expected a first line that names the columns text, image and id, found {shown}, none of which is "
        f"a usual name for a text. Say which it is: --column text={shell_word(longest)}{why}; or, of images alone, "
        "--column image=THE_COLUMN."
    )


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
