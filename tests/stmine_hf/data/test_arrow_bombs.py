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


def test_long_texts_come_a_few_at_a_time(tmp_path, monkeypatch):
    """One entry of a dictionary is as long as its column states, and may be that of every row."""
    monkeypatch.setattr(tables, "_SMALL_ROWS", 2**22)
    same_text(tmp_path / "mine.parquet", rows=20, length=1_000_000)
    sizes = []
    with pytest.raises(StmineError, match="100 times the file's"):
        for batch in arrow_batches(tmp_path / "mine.parquet"):
            sizes.append(batch.num_rows)
    assert sizes and max(sizes) <= 4


def test_usual_tables_of_few_different_values_pass(tmp_path):
    same_text(tmp_path / "mine.parquet", rows=100_000, length=100)
    assert sum(batch.num_rows for batch in arrow_batches(tmp_path / "mine.parquet")) == 100_000
