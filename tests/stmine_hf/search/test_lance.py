"""An index in LanceDB against the one of files: the same hits, filters and updates; kills, lost connections."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import tiny_fisvl
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.search import Condition, ImageIndex, Where, lance
from stmine_hf.search.filters import Cells, PlacesAndTimes
from stmine_hf.search.lance import LanceBuilder, LanceStore
from stmine_hf.search.lance_filters import filter_columns, sql_of

lancedb = pytest.importorskip("lancedb", reason="needs LanceDB: pip install 'stmine-hf[lance]'")

ODD = (
    "S2",
    "it's",
    'say "x"',
    "10",
    "9.5",
    "1e1",
    "-0.0",
    "0",
    "中文",
    "a%b_c",
    "a\\b",
    "`x`",
    "; DROP TABLE x",
    "NaN",
)


@pytest.fixture(scope="module")
def model():
    return tiny_fisvl()


def image(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """24 images, two of the same content, and a table of places, times and odd cells."""
    folder, random = tmp_path_factory.mktemp("lance") / "images", np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)
    rows = [["image", "lon", "lat", "time", "cell", "odd name"]]
    for number in range(24):
        name = f"{'sub/' * (number % 2)}{number:02d}.png"
        image(folder / name, 5 if number == 20 else number)
        place = [f"{random.uniform(-180, 180):.3f}", f"{random.uniform(-90, 90):.3f}"] if number % 5 else ["", ""]
        time = f"2024-01-{1 + number % 28:02d}T{number:02d}:30:00" if number % 7 else ""
        rows.append([name, *place, time, ODD[number % len(ODD)], str(number)])
    quoted = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"' for row in rows[:-2]]
    (folder.parent / "table.csv").write_text("\n".join(quoted), encoding="utf-8")
    return folder


def options(model, **more):
    return {"model": model, "batch_size": 4, "save_every": 8, "progress": False, **more}


def hits(index: ImageIndex, where: Where | None = None, k: int = 100) -> list[tuple]:
    found = index.query("a plane near trees", k, where=where)
    return [(hit.path.name, round(hit.score, 5), hit.place, hit.time) for hit in found]


def random_filters(seed: int, count: int):
    random = np.random.default_rng(seed)
    for _ in range(count):
        bbox = near = start = end = None
        conditions: list[Condition] = []
        kind = random.integers(5)
        if kind in (0, 4):
            south, north = sorted(random.uniform(-90, 90, 2))
            bbox = (random.uniform(-180, 180), south, random.uniform(-180, 180), north)
        if kind in (1, 4):
            near = (random.uniform(-180, 180), random.uniform(-90, 90), random.choice([0, 100, 4000, 15000, 25000]))
        if kind in (2, 4):
            start = datetime(2024, 1, int(random.integers(1, 20)), tzinfo=timezone.utc)
            end = start + timedelta(days=int(random.integers(20)))
        if kind in (3, 4):
            sign = str(random.choice(["=", "!=", "<", "<=", ">", ">="]))
            conditions = [Condition("cell", sign, str(random.choice([*ODD, "5", "b"])))]
        yield Where(bbox, near, start, end, tuple(conditions))


def test_conditions_in_the_database_are_those_of_the_filter(tmp_path):
    random, count = np.random.default_rng(1), 400
    places: list[list[float] | None] = []
    for number in range(count):
        west, north = random.uniform(-180, 180), random.uniform(-80, 80)
        width, height = random.choice([0.01, 5, 100]), random.choice([0.01, 8])
        lons = [(west + turn + 180) % 360 - 180 for turn in (0, width, width, 0)]
        corners = [lons[0], north, lons[1], north, lons[2], north - height, lons[3], north - height]
        places.append(None if number % 9 == 0 else [west, north] if number % 2 else corners)
    places[1], places[3] = [-180.0, 90.0], [180.0, -0.0]
    moments = [datetime(2024, 1, 1 + n % 28, n % 24, tzinfo=timezone.utc) if n % 8 else None for n in range(count)]
    cells = [ODD[n % len(ODD)] if n % 6 else None for n in range(count)]
    time = pa.chunked_array([pa.array(moments, pa.timestamp("ms", tz="UTC"))])
    facts = PlacesAndTimes(pa.chunked_array([pa.array(places, pa.list_(pa.float64()))]), time, {"cell": Cells(cells)})
    rows = pa.table({"id": pa.array(range(count)), **filter_columns(facts)})
    table = lancedb.connect(str(tmp_path)).create_table("rows", rows)
    matched = 0
    for where in [*random_filters(2, 300), Where(near=(-180, 90, 0)), Where(bbox=(-180, -90, 180, 90))]:
        expected = np.flatnonzero(facts.mask(where)).tolist()
        found = table.search().where(sql_of(where, ["cell"])).select(["id"]).limit(count).to_arrow()
        assert sorted(found.column("id").to_pylist()) == expected, (where, sql_of(where, ["cell"]))
        matched += 0 < len(expected) < count
    assert matched > 150


def test_hits_filters_and_updates_are_those_of_the_index_of_files(folder, tmp_path, model):
    more = {"metadata": folder.parent / "table.csv"}
    files = ImageIndex.build(folder, tmp_path / "files", **options(model, **more))
    base = ImageIndex.build(folder, f"lancedb://{tmp_path / 'base'}", **options(model, **more))
    assert (len(base), base.columns) == (24, ["cell", "odd name"])
    assert base.report.added == 24 and base.report.embedded == files.report.embedded
    for where in [None, *random_filters(3, 40)]:
        assert hits(base, where) == hits(files, where), where
        assert hits(base, where, k=3) == hits(files, where, k=3)
    tile, other = files.tiles_of("05.png"), base.tiles_of("05.png")
    assert (other.path, other.places, other.time) == (tile.path, tile.places, tile.time)
    expected = files.scores("a plane", files.tiles_of("20.png").rows)
    assert base.scores("a plane", base.tiles_of("20.png").rows) == pytest.approx(expected, abs=1e-6)
    for wrong in ("none=1", "cell"):
        with pytest.raises(StmineError, match=r"no column 'none'|expected COLUMN"):
            base.query("a plane", where=Where.parse(where=[wrong]))

    # One removed, one changed, one new, one moved; the table of before still counts.
    work = tmp_path / "images"
    work.mkdir()
    for index, place in ((files, tmp_path / "files"), (base, f"lancedb://{tmp_path / 'base'}")):
        gone, changed, new, moved = (folder / name for name in ("02.png", "04.png", "new.png", "moved.png"))
        kept = gone.read_bytes(), changed.read_bytes()
        try:
            gone.unlink()
            image(changed, 300)
            image(new, 301)
            (folder / "06.png").rename(moved)
            index = ImageIndex.build(folder, place, **options(model))
            report = index.report
            assert (report.removed, report.changed, report.added, len(index)) == (2, 1, 2, 24)
            work = [hits(index, where) for where in [None, *random_filters(4, 10)]]
            if index.columns and place == tmp_path / "files":
                expected_hits = work
        finally:
            moved.rename(folder / "06.png")
            new.unlink()
            gone.write_bytes(kept[0])
            changed.write_bytes(kept[1])
    assert work == expected_hits


def test_readers_see_the_finished_index_while_one_is_built_and_a_lost_connection_loses_nothing(
    folder, tmp_path, model, monkeypatch
):
    place, images = f"lancedb://{tmp_path / 'base'}", tmp_path / "images"
    images.mkdir()
    for number in range(4):
        image(images / f"{number}.png", number)
    ImageIndex.build(images, place, **options(model))
    for number in range(4, 16):
        image(images / f"{number}.png", number)
    append, calls = LanceBuilder._append, []

    def gone_at_the_third(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            with self._lance.using():
                raise RuntimeError("lance error: Generic S3 error: Connection refused")
        append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LanceBuilder, "_append", gone_at_the_third)
        with pytest.raises(StmineError, match=r"cannot be used .*Connection refused.*What it has is kept"):
            ImageIndex.build(images, place, **options(model, save_every=4))
    assert len(ImageIndex.open(place, model=model).query("a plane", 100)) == 4, "the finished index is as it was"
    index = ImageIndex.build(images, place, **options(model, save_every=4))
    assert (index.report.embedded, index.report.unchanged, len(index)) == (4, 12, 16)
    assert len(index.query("a plane", 100)) == 16


@pytest.mark.parametrize("tagged", [False, True])
def test_an_index_of_more_than_a_week_is_updated_and_keeps_its_readers(tmp_path, model, monkeypatch, tagged):
    place, images, optimize, kept = tmp_path / "base", tmp_path / "images", lancedb.table.LanceTable.optimize, []

    def noted(self, **options):
        kept.append((self.name, options["cleanup_older_than"]))
        optimize(self, **options)

    monkeypatch.setattr(lance, "_KEPT", timedelta(milliseconds=1))
    monkeypatch.setattr(lancedb.table.LanceTable, "optimize", noted)
    images.mkdir()
    table = tmp_path / "table.csv"
    table.write_text("image,cell\n0.png,5")
    for number in range(3):
        image(images / f"{number}.png", number)
        ImageIndex.build(images, f"lancedb://{place}", **options(model, metadata=table))
        if number == 0:
            reader = ImageIndex.open(f"lancedb://{place}", model=model)
            if tagged:  # as earlier versions did
                base = lancedb.connect(str(place)).open_table("stmine_images")
                base.tags.create("stmine_finished", reader._stored.state.version)
        if number == 1:
            assert len(hits(reader)) == 1, "the version that was the finished one is still there"
    assert len(hits(ImageIndex.open(f"lancedb://{place}", model=model))) == 3
    ages = [age for name, age in kept if name == "stmine_images"]
    assert ages[0] == timedelta(milliseconds=1)
    assert all(timedelta(days=1) < age < timedelta(days=1, hours=1) for age in ages[1:]) and len(ages) == 3
    for name in ("stmine_states", "stmine_metadata"):
        assert len(lancedb.connect(str(place)).open_table(name).list_versions()) <= 2, name


def test_an_update_writes_the_columns_of_new_rows_alone_and_notes_the_engines(folder, tmp_path, model, monkeypatch):
    place, images, table = f"lancedb://{tmp_path / 'base'}", tmp_path / "images", folder.parent / "table.csv"
    shutil.copytree(folder, images)
    ImageIndex.build(images, place, **options(model, metadata=table))
    write, known = LanceBuilder._write_facts, []

    def noted(self, rows, facts, known_to):
        known.append(known_to)
        write(self, rows, facts, known_to)

    monkeypatch.setattr(LanceBuilder, "_write_facts", noted)
    image(images / "new.png", 400)
    index = ImageIndex.build(images, place, **options(model))
    assert known == [24] and len(index) == 25
    assert [name for name, *_ in hits(index, Where.parse(where=["cell=中文"]))] == ["08.png"]
    finished, _ = LanceStore(place).manifests()
    assert finished is not None and finished.engines == ["torch"] == index.report.engines
    (images / "new.png").unlink()  # a run that embeds nothing
    ImageIndex.build(images, place, **options(model))
    finished, _ = LanceStore(place).manifests()
    assert finished is not None and finished.engines == ["torch"] and finished.count == 24


def test_two_runs_do_not_write_at_once(folder, tmp_path, model, monkeypatch):
    place = f"lancedb://{tmp_path / 'base'}"
    with LanceStore(place).writing(folder), pytest.raises(StmineError, match="another run is writing"):
        ImageIndex.build(folder, place, **options(model))
    append = LanceBuilder._append

    def beside_another(self, *arguments):  # from another machine, where no lock is seen
        append(self, *arguments)
        self._lance.open("stmine_images").delete("id = 0")

    monkeypatch.setattr(LanceBuilder, "_append", beside_another)
    with pytest.raises(StmineError, match="another one is writing it"):
        ImageIndex.build(folder, place, **options(model))


def test_bad_places(folder, tmp_path, model, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, message in {
        f"lancedb://{full}": "neither empty nor a database",
        f"lancedb://{tmp_path / 'file'}": "is a file",
        f"lancedb://{folder / 'base'}": "lies in the input",
        "lancedb://": "expected a folder or an address",
        "milvus://localhost:19530": "expected a folder, or lancedb://",
    }.items():
        with pytest.raises(StmineError, match=message):
            ImageIndex.build(folder, place, **options(model))
    assert [file.name for file in full.iterdir()] == ["mine.txt"]
    with pytest.raises(StmineError, match="no index in lancedb://"):
        ImageIndex.open(f"lancedb://{tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()

    foreign = tmp_path / "foreign"
    lancedb.connect(str(foreign)).create_table("stmine_images", pa.table({"mine": [1]}))
    with pytest.raises(StmineError, match="of something else"):
        ImageIndex.build(folder, f"lancedb://{foreign}", **options(model))
    assert lancedb.connect(str(foreign)).open_table("stmine_images").count_rows() == 1

    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(StmineError, match=r"pip install 'stmine-hf\[lance\]'"):
        ImageIndex.build(folder, f"lancedb://{tmp_path / 'base'}", **options(model))


def test_tiles_and_another_model(folder, tmp_path, model, capsys):
    place = f"lancedb://{tmp_path / 'base'}"
    base = ImageIndex.build(folder, place, **options(model, tile=16, overlap=0.5))
    files = ImageIndex.build(folder, tmp_path / "files", **options(model, tile=16, overlap=0.5))
    assert len(base) == len(files) == 24 * 9
    best, expected = base.query("a plane", 30), files.query("a plane", 30)
    assert [(hit.path, hit.window) for hit in best] == [(hit.path, hit.window) for hit in expected]
    base.remove(base.query("a plane", 1)[0].path)
    assert len(base) == 23 * 9 and base.report.removed == 9
    with pytest.raises(StmineError, match="merging is for folders"):
        ImageIndex.merge([tmp_path / "files", place], tmp_path / "all")
    with pytest.raises(SystemExit):
        main(["merge-indexes", str(tmp_path / "files"), str(tmp_path / "files"), "--out", "lancedb://all"])
    assert "merging is for folders" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(StmineError, match=r"lancedb://.* was made with another model"):
        ImageIndex.build(folder, place, **options(tiny_fisvl(seed=1)))


@pytest.mark.slow
def test_an_approximate_index_finds_what_an_exact_one_does(tmp_path, model, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    rows = ["image,lon,lat,part"]
    for number in range(400):
        image(images / f"{number:03d}.png", number)
        rows.append(f"{number:03d}.png,{number % 360 - 180},{number % 180 - 90},{number % 100}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    monkeypatch.setattr(lance, "INDEXED_FROM", 300)
    monkeypatch.setattr(lance, "_FEW", 10)
    more = {"metadata": tmp_path / "table.csv", "batch_size": 32, "save_every": 100}
    base = ImageIndex.build(images, f"lancedb://{tmp_path / 'base'}", **options(model, **more))
    files = ImageIndex.build(images, tmp_path / "files", **options(model, **more))
    assert base._stored._indexed
    for condition in ([], ["part<50"], ["part=7"]):
        where = Where.parse(where=condition)
        expected, found = hits(files, where, k=10), hits(base, where, k=10)
        assert len(found) == len(expected)
        assert len({row[0] for row in found} & {row[0] for row in expected}) >= 0.9 * len(expected), condition


KILLED = """
import os, signal, sys
sys.path.append(sys.argv[4])
from helpers import tiny_fisvl
from stmine_hf.search import ImageIndex, lance
steps = 0
def counted(kind, name):
    step = getattr(kind, name)
    def run(*arguments, **options):
        global steps
        if steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return step(*arguments, **options)
    setattr(kind, name, run)
counted(lance.LanceStore, "write_states")
for name in ("_append", "_delete", "_enter_facts", "_write_facts", "_index"):
    counted(lance.LanceBuilder, name)
options = {"model": tiny_fisvl(), "batch_size": 2, "save_every": 4, "progress": False, "metadata": sys.argv[5]}
print(len(ImageIndex.build(sys.argv[1], sys.argv[2], **options)), steps)
"""


@pytest.mark.slow
def test_killed_at_any_step_the_next_run_gives_the_same_index(folder, tmp_path, model):
    import stmine_hf

    tests, table = str(Path(__file__).resolve().parents[2]), str(folder.parent / "table.csv")

    def build(place: str, die_at: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", KILLED, str(folder), place, str(die_at), tests, table]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=Path(stmine_hf.__file__).parents[1]
        )

    reference = build(f"lancedb://{tmp_path / 'reference'}", -1)
    count, steps = map(int, reference.stdout.split())
    assert count == 24 and steps >= 10
    expected = hits(ImageIndex.open(f"lancedb://{tmp_path / 'reference'}", model=model))
    for die_at in (0, 1, 2, 5, *range(steps - 5, steps)):
        place = f"lancedb://{tmp_path / str(die_at)}"
        assert build(place, die_at).returncode == -9
        with pytest.raises(StmineError, match=r"never finished|no index"):
            ImageIndex.open(place, model=model)
        again = ImageIndex.build(folder, place, **options(model, batch_size=2, metadata=table))
        assert (hits(again) == expected and again.report.embedded < 24) or die_at < 3
