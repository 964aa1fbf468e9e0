"""Small Parquet and Arrow files whose rows fill memory and disk: refused, by the doors that read them."""

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from stmine_hf import load_dataset
from stmine_hf.data import tables
from stmine_hf.data.tables import arrow_batches
from stmine_hf.errors import StmineError
from stmine_hf.posts.reading import read_posts

LABELS = pa.array(["fake", "real"])
ROWS = 4000


def labels(rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.arange(rows, dtype=np.int32) % 2), LABELS)


def same_text(path, rows: int = ROWS, length: int = 20_000) -> None:
    places = pa.array(np.zeros(rows, np.int32))
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * length]))
    pq.write_table(pa.table({"text": texts, "label": labels(rows)}), path, compression="zstd", store_schema=False)


def long_lists(path) -> None:
    values = pa.array(np.zeros(60_000_000, np.int8))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 61_000_000, 15_000_000), pa.int32()), values)
    texts = pa.array([f"a {row}" for row in range(4)])
    pq.write_table(pa.table({"text": texts, "label": labels(4), "x": lists}), path, compression="zstd")


def packed_feather(path) -> None:
    table = pa.table({"text": pa.array(["y" * 1_000_000] * 100), "label": ["fake", "real"] * 50})
    feather.write_feather(table, path, compression="zstd")


def packed_arrow(path) -> None:
    packed_feather(path)


BOMBS = {"parquet": same_text, "feather": packed_feather, "arrow": packed_arrow}


@pytest.mark.parametrize("kind", [*BOMBS, "lists.parquet"])
def test_rows_beyond_all_measure_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tables, "_SMALL_ROWS", 2**25)
    file = tmp_path / f"mine.{kind}"
    (BOMBS.get(kind) or long_lists)(file)
    assert file.stat().st_size < 100_000
    with pytest.raises(StmineError, match="100 times the file's"):
        load_dataset(str(file), kind="posts", cache_dir=tmp_path / "cache")
    with pytest.raises(StmineError, match="100 times the file's"):
        sum(1 for _ in read_posts(file))
    assert sum(one.stat().st_size for one in (tmp_path / "cache").rglob("*") if one.is_file()) < 2**26


def lists_of_texts(path) -> None:
    places = pa.array(np.zeros(4000, np.int32))
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 100_000]))
    lists = pa.ListArray.from_arrays(pa.array(range(0, 4001, 1000), pa.int32()), texts)
    table = pa.table({"text": ["a", "b", "c", "d"], "label": labels(4), "more": lists})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def large_texts(path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(["x" * 20_000]))
    pq.write_table(pa.table({"text": texts.cast(pa.large_string()), "label": labels(ROWS)}), path, compression="zstd")


@pytest.mark.parametrize("write", [lists_of_texts, large_texts])
def test_texts_in_lists_and_long_ones_are_measured_too(tmp_path, monkeypatch, write):
    monkeypatch.setattr(tables, "_SMALL_ROWS", 2**25)
    write(tmp_path / "mine.parquet")
    with pytest.raises(StmineError, match="100 times the file's"):
        sum(1 for _ in arrow_batches(tmp_path / "mine.parquet"))


def test_long_texts_come_a_few_at_a_time(tmp_path, monkeypatch):
    """An entry of a dictionary may be that of every row."""
    monkeypatch.setattr(tables, "_PIECE", 2**22)
    same_text(tmp_path / "mine.parquet", rows=20, length=1_000_000)
    sizes = [batch.num_rows for batch in arrow_batches(tmp_path / "mine.parquet")]
    assert sum(sizes) == 20 and max(sizes) <= 4


def test_usual_tables_of_few_different_values_pass(tmp_path):
    same_text(tmp_path / "mine.parquet", rows=100_000, length=100)
    assert sum(batch.num_rows for batch in arrow_batches(tmp_path / "mine.parquet")) == 100_000


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_categories_of_many_values_count_once(tmp_path, monkeypatch, suffix):
    """Each batch has the whole dictionary beside it."""
    monkeypatch.setattr(tables, "_SMALL_ROWS", 2**22)
    words = pa.array([f"word {number:06d}" for number in range(50_000)])
    column = pa.DictionaryArray.from_arrays(pa.array(np.arange(200_000, dtype=np.int32) % 50_000), words)
    table = pa.table({"text": column, "label": labels(200_000), "note": pa.array(["a note"] * 200_000)})
    file = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=500)
    batches = list(arrow_batches(file))
    assert sum(batch.num_rows for batch in batches) == 200_000 and {batch.num_rows for batch in batches} <= {
        *range(257)
    }
    assert {str(batch.schema) for batch in batches} == {str(tables.arrow_schema(file))}
    assert batches[0].to_pylist()[7] == {"text": "word 000007", "label": "real", "note": "a note"}


def test_batches_of_long_columns_are_of_the_usual_size(tmp_path):
    texts = [f"{number} " + "text " * 20_000 for number in range(300)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "mine.parquet")
    sizes = [batch.num_rows for batch in arrow_batches(tmp_path / "mine.parquet")]
    assert sum(sizes) == 300 and max(sizes) > 200
