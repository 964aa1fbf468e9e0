"""What holds for any input of the resolver, the normaliser and the table reader; tables saved by other programs."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stmine_hf.cli import main
from stmine_hf.data import load_dataset
from stmine_hf.data.cells import flag_of, key_of, list_of, name_of, number_of, opened, text_of, whole_of
from stmine_hf.data.errors import BadRow
from stmine_hf.data.findings import Findings
from stmine_hf.data.names import SEVERAL, ImageFiles, Wanted, canonical, tidy
from stmine_hf.data.tables import read_rows

RELAXED = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
NAME = st.text(
    st.characters(whitelist_categories=["L", "N", "Zs"], whitelist_characters="-_.%é"), min_size=1, max_size=9
)
NAME = NAME.map(str.strip).filter(lambda name: name.strip(". ") and len(name.encode()) < 60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def write(file: Path, rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = io.StringIO(newline="")
    # With these line ends every Python puts a cell that has either of them in quotation marks.
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    file.write_bytes(text.getvalue().encode(encoding))
    return file


@RELAXED
@given(
    st.lists(st.tuples(TEXT, TEXT).filter(lambda row: any(cell.strip() for cell in row)), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
)
def test_a_written_table_reads_back(tmp_path, rows, delimiter, encoding):
    file = write(tmp_path / "t.csv", [["text", "label"], *map(list, rows)], delimiter, encoding)
    read = [row for _, row in read_rows(file, Findings("row"), "gb18030" if encoding == "gb18030" else None)]
    looks_like_rows = any(cell.count("\n") > 2 for row in rows for cell in row)
    assert looks_like_rows or read == [{"text": text, "label": label} for text, label in rows]


@RELAXED
@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx", ".arrow"]))
def test_any_bytes_are_rows_or_a_refusal(tmp_path, content, suffix):
    from stmine_hf.errors import StmineError

    file = tmp_path / f"t{suffix}"
    file.write_bytes(content)
    findings = Findings("row")
    try:
        for place, row in read_rows(file, findings):
            assert isinstance(row, dict) and place.startswith(file.name)
    except StmineError as error:
        assert file.name in str(error)


@RELAXED
@given(st.lists(JSON, max_size=6))
def test_lines_of_json_are_rows_or_counted(tmp_path, values):
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(map(json.dumps, values)))
    findings = Findings("row")
    rows = list(read_rows(file, findings))
    if not isinstance(values[:1] and values[0], list):  # which may be a file of one list
        assert len(rows) + findings.number("skipped") == len(values)


@RELAXED
@given(JSON | st.binary(max_size=20))
def test_cells_are_understood_or_bad(value):
    for read in (text_of, name_of, flag_of, number_of, list_of):
        try:
            found = read(value)
        except BadRow as error:
            assert len(str(error)) < 200
            continue
        if read in (text_of, name_of):
            assert found.encode("utf-8").decode() == found
            assert name_of(name_of(found)) == name_of(found)
        if read is list_of:
            assert isinstance(found, list)
    number = whole_of(value)
    assert number is None or abs(number) < 2**63
    hash(key_of(value))


@RELAXED
@given(st.integers(-(10**15), 10**15))
def test_a_number_is_one_number_however_written(number):
    writings = [number, float(number), str(number), f"{number}.0", f" {number} ", f"{number}.000"]
    assert {name_of(one) for one in writings} == {str(number)} and {key_of(one) for one in writings} == {number}
    assert {whole_of(one) for one in writings} == {number} and {flag_of(one) for one in writings} == {number != 0}


@RELAXED
@given(st.lists(TEXT, max_size=5))
def test_lists_in_a_cell_read_back(values):
    assert list_of(json.dumps(values)) == list_of(json.dumps(values, ensure_ascii=False)) == values
    assert list_of(repr(values)) == values and opened(repr(tuple(values))) in (values, repr(tuple(values)))


@RELAXED
@given(st.lists(NAME, min_size=1, max_size=6, unique_by=lambda name: canonical(f"{name}.jpg")), st.data())
def test_the_resolver_finds_what_is_there_and_guesses_nothing(tmp_path_factory, names, data):
    folder = tmp_path_factory.mktemp("set")
    kept = []
    for name in names:
        inside = folder / data.draw(st.sampled_from(["", "a", "b", "a/c"]))
        inside.mkdir(parents=True, exist_ok=True)
        kept.append(inside / f"{name}.jpg")
        kept[-1].write_bytes(b"")
    exact = [path.relative_to(folder).as_posix() for path in kept]
    files = ImageFiles([folder])
    findings = Findings()
    assert files.find([Wanted(name) for name in exact], findings) == [str(path) for path in kept] and not findings
    other = data.draw(st.sampled_from([str.upper, lambda s: s.replace(" ", "%20"), lambda s: f'"{s}"']))
    written = [f"{name[:-4]}{other('.jpg')}" if other is str.upper else other(name) for name in exact]
    for path, found in zip(kept, ImageFiles([folder]).find([Wanted(name) for name in written], findings), strict=True):
        assert found is None or os.path.samefile(found, path), "never another file"
    bare = [Wanted(path.name) for path in kept]
    found = ImageFiles([folder]).find(bare, findings)
    taken = [path for path in found if path is not None]
    assert len(taken) == len({(path, one.name) for path, one in zip(found, bare, strict=True) if path})
    assert all(Path(path).name == one.name for path, one in zip(found, bare, strict=True) if path)


@RELAXED
@given(st.text(max_size=30))
def test_any_name_is_found_or_not(tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(b"")
    (path,) = ImageFiles([tmp_path]).find([Wanted(name)], Findings())
    assert path is None or path == str(tmp_path / "a.jpg")
    assert canonical(canonical(tidy(name))) == canonical(canonical(canonical(tidy(name)))) or "%" in name
    assert unicodedata.is_normalized("NFC", canonical(unicodedata.normalize("NFD", name))) or name.isascii()


def test_several_are_noted(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(b"")
    findings = Findings()
    assert ImageFiles([tmp_path]).find([Wanted("1.jpg", "line 1")], findings) == [None]
    assert findings.places["noted", SEVERAL] == ["line 1, 1.jpg"]


@pytest.mark.parametrize("program", ["pandas", "pandas feather", "polars", "polars arrow", "datasets"])
@pytest.mark.parametrize("kind", ["captions", "posts", "boxes"])
def test_an_export_that_others_have_saved_again_reads_back(tmp_path, kind, program):
    name = {"captions": "toy_scenes", "posts": "toy_posts", "boxes": "toy_camouflage"}[kind]
    words = ["--option", "count=8", "--option", "size=64", "--out", str(tmp_path / "export")]
    with pytest.raises(SystemExit) as end:
        main(["data", "export", name, *words])
    assert not end.value.code
    (tmp_path / "again").mkdir()
    for file in (tmp_path / "export" / "data").glob("*.parquet"):
        suffix = program.partition(" ")[2] or "parquet"
        save_again(program, file, tmp_path / "again" / f"{file.name.partition('-')[0]}.{suffix}")
    options = {"kind": kind, "cache_dir": tmp_path / "cache"}
    expected = load_dataset(str(tmp_path / "export"), **options)
    names = expected["train"].features
    given_names = {
        "captions": lambda: {"labels": names["label"].names},
        "posts": lambda: {"labels": names["label"].names},
        "boxes": lambda: {"classes": names["objects"]["category"].feature.names},
    }[kind]()
    again = load_dataset(str(tmp_path / "again"), **options, **given_names)
    assert {split: len(rows) for split, rows in again.items()} == {
        split: len(rows) for split, rows in expected.items()
    }
    for split, rows in expected.items():
        for ours, theirs in zip(again[split], rows, strict=True):
            assert ours.pop("image").tobytes() == theirs.pop("image").tobytes()
            ours.get("objects", {}).pop("id", None), theirs.get("objects", {}).pop("id", None)
            assert ours == theirs


def save_again(program: str, source: Path, target: Path) -> None:
    if program.startswith("pandas"):
        frame = pytest.importorskip("pandas").read_parquet(source)
        frame.to_feather(target) if target.suffix == ".feather" else frame.to_parquet(target)
    elif program.startswith("polars"):
        frame = pytest.importorskip("polars").read_parquet(source)
        frame.write_ipc(target) if target.suffix == ".arrow" else frame.write_parquet(target)
    else:
        import datasets

        datasets.Dataset.from_parquet(str(source), cache_dir=str(target.parents[1] / "cache")).to_parquet(str(target))
