"""Files of posts (JSON lines, CSV, TSV), row by row: a bad row is told with its line and costs nothing but itself.

A row has `text`, `image` (a path, relative to the file; in JSON also a list of paths) and `id`, each of which may be
missing or empty, but for a text or an image to judge. `img` stands for `image`, as in the authors' files. A row
without `id` is known as "line 7".
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import StmineError
from ..images import ImageError, open_image
from .prediction import Post, PostImage

_COLUMNS = {"text", "image", "img"}
# Images are decoded whole, so that they are judged as everywhere else: only a JPEG of more than three times this
# many pixels a side may come out smaller (see `open_image`).
_SIDE = 4096


class Row(NamedTuple):
    """One row of a file. `post` is None where it cannot be judged, and `problem` says why."""

    line: int  # the first of the row, from 1
    id: str | int
    post: Post | None
    problem: str | None = None


def read_posts(file: str | Path) -> Iterator[Row]:
    """The rows of a file of posts; blank lines are none.

    Args:
        file: `.csv` (with commas), `.tsv` (with tabs, no quoting), or JSON lines under any other name.

    Raises:
        StmineError: no such file, or a table without the columns.
    """
    file = Path(file)
    read = _read_table if file.suffix.lower() in (".csv", ".tsv") else _read_json_lines
    first_line: dict[str, int] = {}
    for line, content, problem in read(file):
        name = content.get("id")
        name = whole_text(name) if isinstance(name, str) else name
        row = Row(line, f"line {line}" if name in (None, "") else name, None, problem)
        if problem is None:
            row = _row(file.parent, row, content)
        if row.post is not None:
            earlier = first_line.setdefault(json.dumps(row.id), line)
            if earlier != line:
                row = row._replace(post=None, problem=f"the id of line {earlier} again")
        yield row


def count_posts(file: str | Path) -> int:
    """How many rows `read_posts` will give."""
    file = Path(file)
    read = _read_table if file.suffix.lower() in (".csv", ".tsv") else _lines
    return sum(1 for _ in read(file))


def post_image(path: str | Path) -> Any:
    """The image of a file, upright and in RGB.

    Raises:
        ImageError: it cannot be read; the message is the reason alone.
    """
    return open_image(path, side=_SIDE)


def whole_text(text: str) -> str:
    """A text with replacement characters for halves of surrogate pairs, which JSON can hold and no tokenizer reads.

    (Programs that cut a text by UTF-16 units leave half an emoji at its end.)
    """
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _row(folder: Path, row: Row, content: Mapping[str, Any]) -> Row:
    """`row` with its post, or with what is wrong with it."""
    text, image = content.get("text"), content.get("image")
    image = content.get("img") if image is None else image
    images = [] if image in (None, "") else image if isinstance(image, list) else [image]
    if not isinstance(row.id, (str, int)) or isinstance(row.id, bool):
        return row._replace(
            id=f"line {row.line}", problem=f"id: expected a string or a whole number, found {_kind(row.id)}"
        )
    if text is not None and not isinstance(text, str):
        return row._replace(problem=f"text: expected a string, found {_kind(text)}")
    if not all(isinstance(one, str) and one for one in images):
        return row._replace(problem="image: expected a path or a list of paths")
    if not images and not (text and text.strip()):
        return row._replace(problem="neither text nor image")
    opened = [PostImage(partial(_open, folder, one), one, folder / one) for one in images]
    return row._replace(post=Post(row.id, whole_text(text or ""), opened))


def _open(folder: Path, path: str) -> Any:
    try:
        if path.startswith(("http://", "https://")):
            raise ImageError("an address, not a file: download the image and give its path")
        return post_image(folder / path)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except ValueError as error:  # a NUL in the path
        raise ImageError(f"{path!r}: {error}") from None


def _read_json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    """Line, content and problem of each row."""
    for number, line in _lines(file):
        try:
            content = json.loads(line.rstrip().decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield number, {}, f"not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
        except json.JSONDecodeError as error:
            yield number, {}, f"not JSON at column {error.colno}: {error.msg.removesuffix(' at')}"
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
            yield number, {}, f"not JSON that can be read: {error}"
        else:
            if isinstance(content, dict):
                yield number, content, None
            else:
                yield number, {}, f"expected an object with text and image, found {_kind(content)}"


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _read_table(file: Path) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    """The same for a table with a header."""
    csv.field_size_limit(2**31 - 1)
    with _opened(file) as lines:
        decoded = (line.decode("utf-8-sig" if n == 0 else "utf-8", "surrogateescape") for n, line in enumerate(lines))
        if file.suffix.lower() == ".tsv":
            reader = csv.reader(decoded, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        else:
            reader = csv.reader(decoded, strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not _COLUMNS & set(header):
            shown = ", ".join(map(repr, header[:8])) or "an empty file"
            raise StmineError(
                f"{file}: expected a first line that names the columns text, image and id, separated by "
                f"{'tabs' if file.suffix.lower() == '.tsv' else 'commas'}, found {shown}."
            )
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # e.g. a NUL
                yield line, {}, f"not a row of a table: {error}"
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield line, {}, f"expected {len(header)} columns, found {len(cells)}"
            elif any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
                yield line, {}, "not UTF-8: save the file as UTF-8"
            else:
                yield line, dict(zip(header, cells, strict=True)), None


def _opened(file: Path) -> Any:
    """
    Raises:
        StmineError: there is no such file, or it is no text.
    """
    try:
        opened = open(file, "rb")  # noqa: SIM115  the caller closes it
    except FileNotFoundError:
        raise StmineError(f"{file}: no such file. Expected posts as JSON lines, CSV or TSV.") from None
    except IsADirectoryError:
        raise StmineError(f"{file}: a folder. Expected a file of posts: JSON lines, CSV or TSV.") from None
    if opened.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        opened.close()
        raise StmineError(f"{file}: this is UTF-16. Save it as UTF-8.")
    return opened


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
