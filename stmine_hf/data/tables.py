"""Tables as pandas, polars, Excel and annotation tools write them, row by row: the package's only reader of them.

CSV and TSV (also with semicolons or bars), JSON lines, one JSON list or one of pandas' other forms, Parquet, Arrow and
Feather files, Excel's sheets. A row that cannot be read is reported with its line and does not affect others; a
file of unknown encoding is refused, naming the line and the option to give: a model would learn replaced bytes.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .cells import is_missing, name_of, whole_text
from .errors import BadRow, DataFolderError
from .findings import Findings

_SMALL_ROWS = 2**29  # bytes that the rows of any Parquet, Feather or Arrow file may take
_PIECE = 2**26  # bytes that a batch of them may take, if it has more than a row
_GROWTH = 100  # times its size that they may take beside
TABLES = ("*.jsonl", "*.ndjson", "*.json", "*.csv", "*.tsv", "*.xlsx", "*.parquet", "*.feather", "*.arrow")
MOST_LINES = 1000  # of one quoted cell; an unpaired quotation mark must not absorb the rest of the file
DELIMITERS = ",;\t|"
MOST_BYTES = 2**30  # of an Excel file when it is unpacked
SAMPLE = 2**16  # bytes by which the encoding and the line ends are detected
_FOREIGN = re.compile("[\udc80-\udcff]")  # bytes that are not of the encoding, as Python keeps them
_QUOTED = re.compile(r'"[^"]*"')

Row = dict[str, Any]


class TableRow(NamedTuple):
    """A row of a table: its cells by column, or none and the problem."""

    place: str  # "line 7", "item 3", "row 7"
    cells: Row
    problem: str = ""
    detail: str = ""  # where in the row, for readers of a single one

    @property
    def number(self) -> int:
        """Of the row's first line, from 1; of an item or a row of a table without lines, its own number."""
        return int(self.place.rpartition(" ")[2])


def read_rows(file: Path, findings: Findings, encoding: str | None = None) -> Iterator[tuple[str, Row]]:
    """The rows of a table that can be read, each with its place; the others are counted.

    Args:
        file: the table; its suffix says what it is, and other suffixes mean JSON lines.
        findings: counts the others.
        encoding: of a file of text that is neither UTF-8 nor says what it is, such as "gb18030".

    Raises:
        DataFolderError: the file cannot be read as a whole.
    """
    for row in table_rows(file, findings, encoding):
        if row.problem:
            findings.skip(row.problem, f"{file.name}, {row.place}")
        else:
            yield f"{file.name}, {row.place}", row.cells


def table_rows(file: Path, findings: Findings | None = None, encoding: str | None = None) -> Iterator[TableRow]:
    """All rows of a table, those with a problem too; arguments as of `read_rows`."""
    findings = Findings("row") if findings is None else findings
    suffix = file.suffix.lower()
    try:
        if suffix in (".parquet", ".feather", ".arrow"):
            yield from _arrow_rows(file)
        elif suffix in (".xlsx", ".xlsm"):
            yield from _sheet_rows(file, findings)
        else:
            text = TextFile(file, encoding)
            yield from (_delimited_rows if suffix in (".csv", ".tsv") else _json_rows)(file, text, findings)
            text.require_known()
    except OSError as error:
        raise DataFolderError(f"{file}: cannot be read ({error.strerror or error})") from None


# ---- text ----


class TextFile:
    """A file of text, line by line. Lines end with a line feed (also behind a carriage return), or with carriage
    returns where the file has no line feed; U+2028, U+0085 and others are characters like any.

    Attributes:
        encoding: by the option, a byte order mark, the bytes of a UTF-16 that says nothing, or UTF-8.
        foreign: numbers of the lines that are not of that encoding.

    Raises:
        DataFolderError: an unknown encoding.
    """

    def __init__(self, file: Path, encoding: str | None = None) -> None:
        self.file, self.lines, self._given = file, 0, encoding
        self.foreign: list[int] = []
        with file.open("rb") as opened:
            self.head = opened.read(SAMPLE)
        self.encoding = encoding_of(self.head, encoding)
        try:
            self._codec = codecs.lookup(self.encoding)
            if self._codec.name in (
                "gb2312",
                "gbk",
            ):  # what programs write by these names has characters of the larger
                self.encoding, self._codec = "gb18030", codecs.lookup("gb18030")
        except LookupError:
            raise DataFolderError(
                f"{file}: cannot be read as {self.encoding}: no encoding of that name. Examples are utf-8, gb18030, "
                "big5, euc_kr, shift_jis, cp1252"
            ) from None

    def __iter__(self) -> Iterator[tuple[int, str, bool]]:
        """Number, text and whether it is of the encoding, of each line with its end."""
        wide = self._codec.name.startswith(("utf-16", "utf-32"))
        errors = "replace" if wide else "surrogateescape"
        with self.file.open("r", encoding=self.encoding, errors=errors, newline="\n") as opened:
            lines: Iterator[str] = opened
            first, second = next(lines, ""), next(lines, "")
            start = [line for line in (first, second) if line]
            if not second and "\r" in first.rstrip("\r\n"):  # no line feed, but at the end
                start = re.findall(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", first)
            for line in chain(start, lines):
                self.lines += 1
                if self.lines == 1:
                    line = line.removeprefix("\ufeff")
                known = line.isascii() or not ("\ufffd" in line if wide else _FOREIGN.search(line))
                if not known:
                    self.foreign.append(self.lines)
                yield self.lines, line, known

    def problem(self) -> str:
        """What is wrong with a line of another encoding."""
        if self._given:
            return f"not {self.name}, the encoding that was given: try another, such as {self._likely}"
        return f"not {self.name}: say the encoding with --encoding (option encoding), such as {self._likely}"

    def require_known(self) -> None:
        """
        Raises:
            DataFolderError: most lines are not of the encoding.
        """
        if len(self.foreign) > max(self.lines / 2, 3):
            raise DataFolderError(self.refusal())

    def refusal(self) -> str:
        return (
            f"{self.file}, line {self.foreign[0]}: not {self.name} ({len(self.foreign):,} of {self.lines:,} lines are "
            f'not). Save the file as UTF-8, or say its encoding: --encoding {self._likely} (option encoding="'
            f'{self._likely}"), or another: big5, euc_kr, shift_jis, cp1252'
        )

    @property
    def name(self) -> str:
        return {"utf-8": "UTF-8", "utf-8-sig": "UTF-8"}.get(self.encoding.lower(), self.encoding)

    @cached_property
    def _likely(self) -> str:
        """An encoding to try: a suggestion, never used by itself."""
        for name in ("gb18030", "big5", "euc_kr", "shift_jis"):
            with suppress(UnicodeDecodeError):
                codecs.getincrementaldecoder(name)().decode(self.head)
                return name
        return "cp1252"


def encoding_of(head: bytes, given: str | None = None) -> str:
    """The encoding of a text by its first bytes.

    A byte order mark decides, then the option; then UTF-16 without a mark, where every other byte of the first line is
    zero, as of no other text; else UTF-8.
    """
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if given is not None and given.lower().replace("_", "-") != "utf-8":
        return given
    some = head[: len(head) // 2 * 2][:400]
    for name, zeros, letters in (("utf-16-le", some[1::2], some[::2]), ("utf-16-be", some[::2], some[1::2])):
        if len(some) >= 4 and zeros[:2] == b"\0\0" and zeros.count(0) > 0.3 * len(zeros) and 0 not in letters:
            return name
    return "utf-8"


def read_text(file: Path, encoding: str | None = None) -> str:
    """The whole text of a file.

    Raises:
        DataFolderError: there is no such file, or a byte of it is not of the encoding.
    """
    try:
        text = TextFile(file, encoding)
        content = "".join(line for _, line, _ in text)
    except OSError as error:
        raise DataFolderError(f"{file}: cannot be read ({error.strerror or error})") from None
    if text.foreign:
        raise DataFolderError(text.refusal())
    return content


def read_lines(file: Path, encoding: str | None = None) -> list[str]:
    """The lines of a file without their ends; an empty one behind the last line feed is none."""
    text = read_text(file, encoding).replace("\r\n", "\n")
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_json(file: Path, encoding: str | None = None) -> Any:
    """The content of a JSON file.

    What lies deeper than 64 lists and objects in each other is read as null, and a number of hundreds of digits as a
    text: only the row with them is affected, not the file.

    Raises:
        DataFolderError: it is no JSON.
    """
    text = read_text(file, encoding)
    try:
        return _loads(text)
    except ValueError as error:
        raise DataFolderError(f"{file} is not JSON ({error}). Was it cut short? Get it again.") from None


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        text = _without_depths(text, 64)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python converts
        pass
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 400 else digits)


def _without_depths(text: str, most: int) -> str:
    """JSON with null for what lies deeper than so many lists and objects."""
    depth = start = 0
    parts = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        bracket = token[0]
        if bracket in ("[", "{"):
            depth += 1
            if depth == most + 1:
                parts.append(text[start : token.start()])
        elif bracket in ("]", "}"):
            if depth == most + 1:
                parts.append("null")
                start = token.end()
            depth -= 1
    return "".join([*parts, text[start:]])


# ---- JSON ----


def _json_rows(file: Path, text: TextFile, findings: Findings) -> Iterator[TableRow]:
    lines = iter(text)
    for number, line, known in lines:
        if line.isspace():
            continue
        start = line.lstrip()[:1]
        if start == "[" or (start == "{" and number == 1 and file.suffix.lower() == ".json"):
            yield from _json_file(file, text, line, lines, number)
            return
        yield _json_row(f"line {number}", line, "" if known else text.problem())
        break
    for number, line, known in lines:
        if not line.isspace():
            yield _json_row(f"line {number}", line, "" if known else text.problem())


def _json_row(place: str, line: str, problem: str) -> TableRow:
    if problem:
        return TableRow(place, {}, problem)
    try:
        row = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        return TableRow(place, {}, "not JSON", f" at column {error.colno}: {error.msg.removesuffix(' at')}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
        return TableRow(place, {}, "not JSON", f" that can be read: {error}")
    return TableRow(place, row) if isinstance(row, dict) else TableRow(place, {}, "not a JSON object")


def _json_file(
    file: Path, text: TextFile, line: str, lines: Iterator[tuple[int, str, bool]], number: int
) -> Iterator[TableRow]:
    """Rows of a file that is one list, or one of the forms in which pandas writes a frame; of JSON lines otherwise."""
    lists = line.lstrip().startswith("[")
    following = list(lines)
    if not lists:  # an object: a whole row in its line, or the beginning of one that spans the file
        try:
            content = json.loads(line)
            items = _frame_rows(content) if not any(not one.isspace() for _, one, _ in following) else None
        except (ValueError, RecursionError):
            items = None
            with suppress(ValueError, RecursionError):
                items = _frame_rows(_loads(line + "".join(one for _, one, _ in following)))
        if items is None:
            for place, one, known in [(number, line, number not in text.foreign), *following]:
                if not one.isspace():
                    yield _json_row(f"line {place}", one, "" if known else text.problem())
            return
    else:
        if text.foreign:
            raise DataFolderError(text.refusal())
        try:
            items = _loads(line + "".join(one for _, one, _ in following))
        except (ValueError, RecursionError) as error:
            if following and _is_json(line):  # lines of JSON, of which the first is a list
                items = None
                for place, one, known in [(number, line, True), *following]:
                    if not one.isspace():
                        yield _json_row(f"line {place}", one, "" if known else text.problem())
                return
            raise DataFolderError(f"{file} is not JSON ({error}). Was it cut short? Get it again.") from None
    if text.foreign:
        raise DataFolderError(text.refusal())
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield TableRow(f"item {index}", item)
        else:
            yield TableRow(f"item {index}", {}, "not a JSON object")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _frame_rows(content: Any) -> list | None:
    """The rows of a frame as `pandas.DataFrame.to_json` writes it by columns, by index, split or as a table."""
    if not isinstance(content, dict) or not content:
        return None
    columns, data = content.get("columns"), content.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    if isinstance(content.get("schema"), dict) and isinstance(data, list):
        return data
    values = list(content.values())
    if not all(isinstance(value, dict) for value in values):
        return None
    if all(key.isdecimal() for key in content) and not all(key.isdecimal() for value in values for key in value):
        return values
    if values[0] and all(value.keys() == values[0].keys() and all(map(str.isdecimal, value)) for value in values):
        return [{name: column[key] for name, column in content.items()} for key in values[0]]
    return None


# ---- CSV and TSV ----


def _delimited_rows(file: Path, text: TextFile, findings: Findings) -> Iterator[TableRow]:
    records = _records(text, file, findings)
    _, names, _ = next(records, (0, [], ""))
    columns = _Columns(file, names)
    for number, cells, problem in records:
        if problem:
            yield TableRow(f"line {number}", {}, problem)
        elif any(cells):
            yield columns.row(f"line {number}", cells)


class _Columns:
    """The columns of a table whose first line names them.

    Columns without a name in which every cell is empty are ignored (Excel leaves such columns on the right); the first
    one may have values, as it is the index that pandas writes.

    Raises:
        DataFolderError: a name that occurs twice.
    """

    def __init__(self, file: Path, names: list[str]) -> None:
        self.file = file
        self.names = [name.strip() for name in names]
        self._stated = len(names)
        while len(self.names) > 1 and not self.names[-1]:
            self.names.pop()
        named = [name for name in self.names if name]
        if twice := next((name for name, times in Counter(named).items() if times > 1), None):
            raise DataFolderError(f"{file}, line 1: column {twice!r} occurs twice")
        self._places = [(place, name) for place, name in enumerate(self.names) if name]
        self._unnamed = [place for place, name in enumerate(self.names) if not name and place]
        self._whole = len(self._places) == len(self.names)

    def row(self, place: str, cells: list) -> TableRow:
        width = len(self.names)
        if len(cells) != width:
            extra = next((column for column in range(width, len(cells)) if not is_missing(cells[column])), None)
            if len(cells) > width and extra is None:
                cells = cells[:width]
            elif extra is not None and len(cells) <= self._stated:
                raise self._nameless(place, extra)
            else:
                return TableRow(place, {}, f"{len(cells)} cells instead of {width}")
        if self._whole:
            return TableRow(place, dict(zip(self.names, cells, strict=True)))
        if filled := next((column for column in self._unnamed if not is_missing(cells[column])), None):
            raise self._nameless(place, filled)
        return TableRow(place, {name: cells[column] for column, name in self._places})

    def _nameless(self, place: str, column: int) -> DataFolderError:
        return DataFolderError(
            f"{self.file}, {place}: a value in column {column + 1}, which has no name in the first line. Name the "
            "column, or remove it"
        )


def _records(text: TextFile, file: Path, findings: Findings) -> Iterator[tuple[int, list[str], str]]:
    """Number of its first line, cells and problem of each record, the header first.

    A quoted cell may hold line breaks. A record that cannot be read so (a lone quotation mark, as in files written
    without quoting) is split at its delimiters as it stands; so is one whose lines, four or more, are each a whole
    record: otherwise two lone quotation marks would absorb the text between them.
    """
    lines = iter(text)
    waiting: list[tuple[int, str, bool]] = []
    delimiter, width = "", 0
    limit = csv.field_size_limit(2**31 - 1)
    try:
        while (first := waiting.pop() if waiting else next(lines, None)) is not None:
            number, record, known = first
            if not record.strip("\r\n"):
                continue
            if not delimiter:
                if number == 1 and (said := re.fullmatch(r'"?sep=(.)"?\s*', record.strip("\r\n"))):  # Excel's
                    delimiter = said[1]
                    continue
                if not known:
                    for _ in lines:  # to count them
                        pass
                    raise DataFolderError(text.refusal())
                delimiter = _delimiter_of(record, file)
            if '"' not in record:
                cells: list[str] | None = record.rstrip("\r\n").split(delimiter)
                taken: list[tuple[int, str, bool]] = []
            else:
                taken = []
                cells = _parsed(record, delimiter)
                quotes, parts = record.count('"'), [record]
                while cells is None and len(taken) < MOST_LINES:
                    following = waiting.pop() if waiting else next(lines, None)
                    if following is None:
                        break
                    taken.append(following)
                    parts.append(following[1])
                    quotes += following[1].count('"')
                    if quotes % 2 == 0:
                        cells = _parsed("".join(parts), delimiter)
                if taken and cells and len(cells) == width and _are_rows(parts, delimiter, width):
                    place = f"{file.name}, line {number}"
                    if len(parts) > 3:
                        findings.note("lone quotation marks: lines read without quoting", place)
                        cells = []
                    else:
                        findings.note("a quoted cell whose lines look like rows: read as one cell", place)
                if not cells or (taken and len(cells) != width):
                    waiting += reversed(taken)
                    taken = []
                    cells = record.rstrip("\r\n").split(delimiter)
            assert cells is not None
            width = width or len(cells)
            foreign = not known or any(not one for _, _, one in taken)
            yield number, cells, text.problem() if foreign else ""
    finally:
        csv.field_size_limit(limit)


def _delimiter_of(header: str, file: Path) -> str:
    """The delimiter by the line that names the columns; of a TSV a tab, if it has any."""
    bare = _QUOTED.sub("", header)
    if file.suffix.lower() == ".tsv" and "\t" in bare:
        return "\t"
    best = max(DELIMITERS, key=bare.count)
    return best if best in bare else "\t" if file.suffix.lower() == ".tsv" else ","


def _are_rows(lines: list[str], delimiter: str, width: int) -> bool:
    return width > 1 and all(line.count(delimiter) == width - 1 for line in lines)


def _parsed(record: str, delimiter: str) -> list[str] | None:
    """Cells of a record; [] where it is malformed; None if a quoted cell continues beyond its end."""
    try:
        rows = list(csv.reader([record], delimiter=delimiter, strict=True))
    except (csv.Error, ValueError) as error:
        if "unexpected end" in str(error):
            return None
        if '\\"' in record:  # as Spark and MySQL quote
            try:
                rows = list(csv.reader([record], delimiter=delimiter, doublequote=False, escapechar="\\", strict=True))
                return rows[0] if len(rows) == 1 else []
            except (csv.Error, ValueError) as again:
                return None if "unexpected end" in str(again) else []
        return []
    return rows[0] if len(rows) == 1 else []


# ---- Arrow and Excel ----


def _arrow_rows(file: Path) -> Iterator[TableRow]:
    number = 0
    for batch in arrow_batches(file):
        if twice := next((name for name, times in Counter(batch.schema.names).items() if times > 1), None):
            raise DataFolderError(f"{file}: column {twice!r} occurs twice")
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError):
            rows = [_arrow_row(batch, place) for place in range(batch.num_rows)]
        for row in rows:
            number += 1
            yield TableRow(f"row {number}", row or {}, "a cell that cannot be read" if row is None else "")


def _arrow_row(batch: Any, place: int) -> Row | None:
    """A row of a batch; None where a text is not UTF-8, or a time is beyond what Python has."""
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except (ValueError, OverflowError):
        return None


def arrow_batches(file: Path, size: int = 256) -> Iterator[Any]:
    """The rows of a Parquet, Feather or Arrow file as batches of Arrow.

    Raises:
        DataFolderError: it is no such file, or its rows take far more memory than a table of its size does.
    """
    left = _SMALL_ROWS + _GROWTH * file.stat().st_size
    schema = arrow_schema(file)
    for batch in _batches_of(file, size, left):
        taken = sum(map(_whole_bytes, batch.columns))
        left -= taken
        if left < 0:
            raise DataFolderError(_too_much(file))
        step = max(1, min(size, _PIECE * batch.num_rows // max(1, taken)))
        for start in range(0, batch.num_rows, step):
            yield _as_stored(batch.slice(start, step), schema)


def _whole_bytes(column: Any) -> int:
    """What the values of a column take when those of a dictionary are written out for each row."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_struct(column.type):
        return sum(map(_whole_bytes, column.flatten()))
    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        return 8 * len(column) + _whole_bytes(column.flatten())
    if not pyarrow.types.is_dictionary(column.type):
        return column.nbytes
    values, places = column.dictionary, column.indices
    if not any(values.type.equals(kind) for kind in _texts()):
        return places.nbytes + len(places) * (values.nbytes // max(1, len(values)) + 1)
    lengths = pyarrow.compute.binary_length(values).cast("int64").take(places)
    return places.nbytes + (pyarrow.compute.sum(lengths).as_py() or 0)


def _texts() -> tuple[Any, ...]:
    import pyarrow

    return pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary()


def _as_stored(batch: Any, schema: Any) -> Any:
    """A batch whose texts were read as a dictionary, with the types of the file's schema but for those of views."""
    import pyarrow

    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if pyarrow.types.is_dictionary(column.type) and not pyarrow.types.is_dictionary(field.type):
            column = column.dictionary_decode()
        is_same = column.type.equals(field.type) or str(field.type).endswith("_view")
        columns.append(column if is_same else column.cast(field.type))
    return pyarrow.RecordBatch.from_arrays(columns, names=schema.names)


def _batches_of(file: Path, size: int, most: int) -> Iterator[Any]:
    import pyarrow

    try:
        if file.suffix.lower() == ".parquet":
            import pyarrow.parquet

            with pyarrow.parquet.ParquetFile(file) as parquet:
                chunks = [
                    parquet.metadata.row_group(group).column(column)
                    for group in range(parquet.metadata.num_row_groups)
                    for column in range(parquet.metadata.num_columns)
                ]
                # What the file states: its values, which are objects of Python in the end, and its pages, unpacked.
                if sum(max(8 * one.num_values, one.total_uncompressed_size) for one in chunks) > most:
                    raise DataFolderError(_too_much(file))
            # One text of a dictionary may be as long as its column, and be that of every row: it is kept once.
            places = map(parquet.schema.column, range(parquet.metadata.num_columns))
            views = {field.name for field in parquet.schema_arrow if "_view>" in str(field.type)}  # in lists: no cast
            texts = [
                one.path
                for one in places
                if one.physical_type == "BYTE_ARRAY" and one.path.partition(".")[0] not in views
            ]
            with pyarrow.parquet.ParquetFile(file, read_dictionary=texts) as parquet:
                yield from parquet.iter_batches(batch_size=size)
            return
        with pyarrow.memory_map(str(file)) as source:
            try:
                opened: Any = pyarrow.ipc.open_file(source)
                batches = (opened.get_batch(place) for place in range(opened.num_record_batches))
            except pyarrow.ArrowInvalid:
                source.seek(0)
                batches = iter(pyarrow.ipc.open_stream(source))
            for batch in batches:
                batch.validate(full=True)  # Arrow trusts its offsets
                yield batch
    except (pyarrow.ArrowException, ValueError) as error:  # ValueError: a name that is not UTF-8
        raise DataFolderError(f"{file} cannot be read ({' '.join(str(error).split())}). Was it cut short?") from None


def _too_much(file: Path) -> str:
    return (
        f"{file}: its rows take more than {_GROWTH} times the file's {file.stat().st_size:,} bytes in memory, which "
        "those of a usual table do not. If it is sound, save it as CSV or in parts"
    )


def arrow_schema(file: Path) -> Any:
    """The schema of a Parquet, Feather or Arrow file.

    Raises:
        DataFolderError: it is no such file.
    """
    import pyarrow

    try:
        if file.suffix.lower() == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_schema(file)
        with pyarrow.memory_map(str(file)) as source:
            try:
                return pyarrow.ipc.open_file(source).schema
            except pyarrow.ArrowInvalid:
                source.seek(0)
                return pyarrow.ipc.open_stream(source).schema
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataFolderError(f"{file} cannot be read ({' '.join(str(error).split())}). Was it cut short?") from None


def _sheet_rows(file: Path, findings: Findings) -> Iterator[TableRow]:
    """Rows of an Excel file's first sheet."""
    try:
        import openpyxl
    except ImportError:
        raise DataFolderError(
            f'{file}: needs openpyxl to be read: pip install "stmine-hf[excel]", or save the sheet as CSV UTF-8'
        ) from None
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(part.file_size for part in packed.infolist()) > MOST_BYTES:
                raise DataFolderError(
                    f"{file}: unpacks to more than {MOST_BYTES:,} bytes. Save the sheet as CSV UTF-8"
                )
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            yield from _rows_of_book(book, file, findings)
        finally:
            book.close()
    except DataFolderError:
        raise
    except Exception as error:  # damaged files make its readers raise about anything
        raise DataFolderError(f"{file} is no Excel file that can be read ({type(error).__name__}: {error})") from None


def _rows_of_book(book: Any, file: Path, findings: Findings) -> Iterator[TableRow]:
    sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
    for other in sheets[1:]:
        findings.note("sheet that is not read: only the first one is", f"{file.name}, {other.title}")
    columns = None
    rows = sheets[0].iter_rows(values_only=True) if sheets else iter(())
    for number, cells in enumerate(rows, start=1):
        if all(is_missing(cell) for cell in cells):
            continue
        if columns is None:
            columns = _Columns(file, ["" if cell is None else str(cell) for cell in cells])
        else:
            lacking = len(columns.names) - len(cells)
            yield columns.row(f"row {number}", [*cells, *[None] * lacking])


def recased(row: Row, names: frozenset[str]) -> Row:
    """The row with columns under the names that are looked for, where they are written in other letters (`Text`).

    Only a column that no other one resembles is renamed, and none whose name is there as it stands.
    """
    if renamed := _renamed(tuple(row), names):
        return {renamed.get(column, column): value for column, value in row.items()}
    return row


@lru_cache(maxsize=64)
def _renamed(columns: tuple[str, ...], names: frozenset[str]) -> dict[str, str]:
    """Names for those of the columns that are written in other letters."""
    own: dict[str, list[str]] = {}
    for column in columns:
        own.setdefault(same_column(column), []).append(column)
    wanted = {name: own.get(same_column(name), []) for name in names.difference(columns)}
    return {same[0]: name for name, same in wanted.items() if len(same) == 1 and same[0] not in names}


def same_column(name: Any) -> str:
    """One spelling for all that a column's name is written in."""
    return re.sub(r"[\s-]+", "_", unicodedata.normalize("NFKC", str(name)).strip("\ufeff \t\xa0").casefold())


def pick(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The row's value under the first of the names that it has; None where it has none of them."""
    for name in names:
        if name in row:
            return row[name]
    return None


def split_of_cell(value: Any) -> str:
    """What a cell says of a row's split; "" for nothing."""
    try:
        return name_of(value)
    except BadRow:
        return whole_text(str(value))
