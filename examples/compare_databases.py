r"""Compare vector databases that can hold an index: build, disk, memory, and searches under filters.

    pip install lancedb pymilvus milvus-lite
    python examples/compare_databases.py --rows 100000
    python examples/compare_databases.py --rows 1000000 --only lancedb-hnsw-sq

Rows are drawn: unit vectors around 1,000 centres, with a time, a place, a scene and a sensor each. Recall at 10 is
measured against a comparison with every row that meets the filter. Each database is measured in a process of its own.
At the end a process that adds rows is killed, and the database is opened again. Prints one line of JSON for each
database. 100,000 rows take some ten minutes on two cores.
"""

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

K, QUERIES, BATCH = 10, 100, 10_000
DATABASES = ("lancedb-ivf-pq", "lancedb-hnsw-sq", "lancedb-exact", "milvus-hnsw", "milvus-exact")
FILTERS = {  # share of the rows that meet it
    "none": "",
    "half": "sensor = 'S2'",
    "1 %": "scene < 10",
    "0.1 %": "time >= 500000 AND time < 501000",
    "place, 0.05 %": "lon > 10 AND lon < 16 AND lat > 40 AND lat < 45",
    "a few rows": "lon > 10 AND lon < 20 AND lat > 40 AND lat < 50 AND time >= 500000 AND time < 540000",
}


def columns(rows: int) -> dict[str, np.ndarray]:
    """The metadata of rows: `time` in seconds of a million, degrees, one of 1,000 scenes, one of three sensors."""
    random = np.random.default_rng(1)
    return {
        "time": random.integers(0, 1_000_000, rows),
        "lon": random.uniform(-180, 180, rows),
        "lat": random.uniform(-90, 90, rows),
        "scene": random.integers(0, 1000, rows),
        "sensor": random.choice(["S1", "S2", "aerial"], rows, p=[0.3, 0.5, 0.2]),
    }


def vectors(rows: int, dimension: int, seed: int, spread: float = 0.7) -> np.ndarray:
    """(N, D) unit rows around 1,000 centres."""
    centres = np.random.default_rng(0).standard_normal((1000, dimension), dtype=np.float32)
    random = np.random.default_rng(seed)
    drawn = np.empty((rows, dimension), dtype=np.float32)
    for start in range(0, rows, 100_000):
        part = slice(start, min(start + 100_000, rows))
        count = part.stop - part.start
        drawn[part] = centres[random.integers(0, 1000, count)]
        drawn[part] += spread * random.standard_normal((count, dimension), dtype=np.float32)
        drawn[part] /= np.linalg.norm(drawn[part], axis=1, keepdims=True)
    return drawn


def masks(facts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(N,) which rows meet each filter, in NumPy."""
    names = {**facts, "S2": None}
    found = {}
    for name, condition in FILTERS.items():
        mask = np.ones(len(facts["time"]), dtype=bool)
        for part in filter(None, condition.split(" AND ")):
            column, sign, value = part.split(" ")
            compared = value.strip("'") if value.startswith("'") else float(value)
            ufunc = {"=": np.equal, "<": np.less, ">": np.greater, ">=": np.greater_equal}[sign]
            mask &= ufunc(names[column], compared)
        found[name] = mask
    return found


class Lance:
    """LanceDB: a library on files or object storage; `kind` is that of its index."""

    def __init__(self, folder: Path, kind: str):
        import lancedb

        self.database, self.kind = lancedb.connect(str(folder)), kind
        try:
            self.table = self.database.open_table("rows")
        except ValueError:  # there is none yet
            self.table = None

    def add(self, ids: np.ndarray, rows: np.ndarray, facts: dict[str, np.ndarray]) -> None:
        stored = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        table = pa.table(
            {"id": pa.array(ids), **{name: pa.array(one) for name, one in facts.items()}, "vector": stored}
        )
        if self.table is None:
            self.table = self.database.create_table("rows", table)
        else:
            self.table.add(table)

    def finish(self) -> None:
        from lancedb.index import BTree, HnswSq, IvfPq

        self.table.optimize()
        for name in ("time", "lon", "lat", "scene", "sensor"):
            self.table.create_index(name, config=BTree())
        if self.kind == "ivf-pq":
            self.table.create_index("vector", config=IvfPq(distance_type="dot"))
        elif self.kind == "hnsw-sq":
            self.table.create_index("vector", config=HnswSq(distance_type="dot"))

    def search(self, query: np.ndarray, condition: str) -> list[int]:
        asked = self.table.search(query).distance_type("dot").select(["id"]).limit(K)
        if condition:
            asked = asked.where(condition)
        if self.kind == "ivf-pq":
            asked = asked.minimum_nprobes(20).maximum_nprobes(0).refine_factor(10)
        elif self.kind == "hnsw-sq":
            asked = asked.minimum_nprobes(20).maximum_nprobes(0).refine_factor(4)
        return asked.to_arrow().column("id").to_pylist()

    def count(self) -> int:
        return 0 if self.table is None else self.table.count_rows()


class Milvus:
    """Milvus Lite, the library with the interface of a Milvus server."""

    def __init__(self, folder: Path, kind: str):
        from pymilvus import MilvusClient

        folder.mkdir(exist_ok=True)
        self.client, self.kind, self.known = MilvusClient(str(folder / "rows.db")), kind, False
        self.known = self.client.has_collection("rows")
        if self.known:
            self.client.load_collection("rows")

    def add(self, ids: np.ndarray, rows: np.ndarray, facts: dict[str, np.ndarray]) -> None:
        from pymilvus import DataType

        if not self.known:
            schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1])
            for name in ("time", "scene"):
                schema.add_field(name, DataType.INT64)
            for name in ("lon", "lat"):
                schema.add_field(name, DataType.DOUBLE)
            schema.add_field("sensor", DataType.VARCHAR, max_length=100)
            index = self.client.prepare_index_params()
            if self.kind == "hnsw":
                more = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 100}}
            else:
                more = {"index_type": "FLAT"}
            index.add_index("vector", metric_type="IP", **more)
            self.client.create_collection("rows", schema=schema, index_params=index)
            self.known = True
        lists = {name: one.tolist() for name, one in facts.items()}
        entries = [
            {"id": int(number), "vector": row, **{name: one[place] for name, one in lists.items()}}
            for place, (number, row) in enumerate(zip(ids, rows, strict=True))
        ]
        self.client.insert("rows", entries)

    def finish(self) -> None:
        self.client.flush("rows")
        self.client.load_collection("rows")

    def search(self, query: np.ndarray, condition: str) -> list[int]:
        condition = condition.replace(" = ", " == ").replace("AND", "and")
        more = {"search_params": {"params": {"ef": 128}}} if self.kind == "hnsw" else {}
        (found,) = self.client.search("rows", [query], limit=K, filter=condition, output_fields=["id"], **more)
        return [hit["id"] for hit in found]

    def count(self) -> int:
        return int(self.client.query("rows", output_fields=["count(*)"])[0]["count(*)"])


def opened(name: str, folder: Path) -> Lance | Milvus:
    database, _, kind = name.partition("-")
    return (Lance if database == "lancedb" else Milvus)(folder, kind)


def measure(name: str, folder: Path, rows: int, dimension: int) -> dict:
    facts, drawn = columns(rows), vectors(rows, dimension, seed=2)
    queries = vectors(QUERIES, dimension, seed=3)
    meets = masks(facts)
    exact = {}
    for label, mask in meets.items():
        places = np.flatnonzero(mask)
        scores = queries @ (drawn if mask.all() else drawn[places]).T
        exact[label] = [set(places[np.argpartition(-row, min(K, len(row)) - 1)[:K]].tolist()) for row in scores]
    del scores
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    # 1. build
    started, worked = time.perf_counter(), time.process_time()
    database = opened(name, folder)
    for start in range(0, rows, BATCH):
        part = slice(start, min(start + BATCH, rows))
        database.add(np.arange(part.start, part.stop), drawn[part], {key: one[part] for key, one in facts.items()})
    added = time.perf_counter() - started
    database.finish()
    built = time.perf_counter() - started
    row = {
        "database": name,
        "rows": rows,
        "dimension": dimension,
        "add_s": round(added, 1),
        "build_s": round(built, 1),
        "build_cpu_s": round(time.process_time() - worked, 1),
    }
    row["disk_mb"] = round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)
    row["memory_above_data_mb"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    # 2. search
    for label, condition in FILTERS.items():
        times, right, wanted, worked = [], 0, 0, time.process_time()
        for number, query in enumerate(queries):
            started = time.perf_counter()
            found = database.search(query, condition)
            times.append(1000 * (time.perf_counter() - started))
            right += len(exact[label][number] & set(found))
            wanted += len(exact[label][number])
        p50, p99 = np.percentile(times, [50, 99])
        cpu = 1000 * (time.process_time() - worked) / len(queries)
        row[label] = {
            "rows": int(meets[label].sum()), "recall": round(right / wanted, 4) if wanted else None,
            "p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "cpu_ms": round(cpu, 2),
        }  # fmt: skip
    return row


def add_for_ever(name: str, folder: Path, dimension: int) -> None:
    """Add rows and say how many are in, until killed."""
    database, start = opened(name, folder), 0
    while True:
        drawn, facts = vectors(1000, dimension, seed=start), columns(1000)
        database.add(np.arange(start, start + 1000), drawn, facts)
        start += 1000
        print(start, flush=True)


def killed(name: str, folder: Path, dimension: int) -> dict[str, int | str]:
    """Rows that a killed process had added, and those that are there after it."""
    command = [sys.executable, __file__, "--add", name, "--folder", str(folder), "--dimension", str(dimension)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = 0
    for line in process.stdout:
        said = int(line) if line.strip().isdecimal() else said
        if said >= 20_000:
            break
    time.sleep(0.05)  # in the middle of the next ones
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        return {"added": said, "after_kill": opened(name, folder).count()}
    except Exception as error:
        return {"added": said, "after_kill": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--only", action="append", choices=DATABASES)
    parser.add_argument("--add", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.add:
        add_for_ever(arguments.add, arguments.folder, arguments.dimension)
        return
    if arguments.folder:
        (name,) = arguments.only
        print(json.dumps(measure(name, arguments.folder, arguments.rows, arguments.dimension)))
        return
    for name in arguments.only or DATABASES:
        folder = Path(tempfile.mkdtemp(prefix="databases-"))
        try:
            words = ["--only", name, "--rows", str(arguments.rows), "--dimension", str(arguments.dimension)]
            command = [sys.executable, __file__, "--folder", str(folder / "built"), *words]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(json.dumps({"database": name, "failed": done.stderr.strip()[-500:]}), flush=True)
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            print(json.dumps({**row, "killed": killed(name, folder / "killed", arguments.dimension)}), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
