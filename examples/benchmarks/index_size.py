"""How search in an index grows with its size: exact, and with every approximate structure that was considered.

    python examples/benchmarks/index_size.py --quick
    python examples/benchmarks/index_size.py --like rsicd.index --sentences val.txt --rows 10000 100000 1000000

Vectors are drawn from a mixture of Gaussians that is fitted to real embeddings: k-means with `PARTS` parts, in each
the `RANK` main directions of its rows with their variances, and the rest of the variance evenly in all directions;
drawn vectors are scaled to length 1. `--like INDEX` is an index (of `stmine index`) to fit; by default drawn images
are embedded. For more dimensions than the model has, the vectors are turned into the larger space, where the rest of
the variance spreads over all dimensions. How near drawn vectors are to their neighbors is kept beside how near real
ones are. Uniformly random directions, which are the worst case for every structure, are measured too. Queries are
held out: vectors drawn with another seed, and sentences (`--sentences`, one a line) that the model embeds.

Each structure is built and measured in a process of its own, with one thread, from files in `--work`; one that is
there is not built again, so that a second run, on a machine at rest, measures only. Takes about 2 minutes with
`--quick`, hours with a million rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from stmine_hf.search.approximate import EXACT_UP_TO, ApproximateLists, list_count
from stmine_hf.search.vectors import nearest, open_flat, write_flat

MODEL = "hub_cards/fisvl-lite-rsicd"
PARTS, RANK = 48, 24
WANTED, COMPARED = 28, 200  # rows that a search for 10 hits asks for, and those compared exactly for them
SHARES = (0.5, 0.2, 0.1, 0.06)  # of the rows that meet a filter

# Settings of a query from fast to thorough: `efSearch` of graphs, probed lists of the others.
KINDS = {
    "exact": [0],
    "lists": [4, 8, 16, 32, 64, 128],
    "ivf-sq8": [4, 8, 16, 32, 64, 128],
    "hnsw": [16, 32, 64, 128, 256],
    "hnsw-sq8": [16, 32, 64, 128, 256],
    "filters": [],  # searches through `lists`, which are built before, among a part of the rows
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["exact", "lists"])
    parser.add_argument("--sources", nargs="+", choices=("fitted", "random"), default=["fitted", "random"])
    parser.add_argument("--queries", type=int, default=200, help="of each sort")
    parser.add_argument("--like", type=Path, help="index whose vectors are fitted; default: of drawn images")
    parser.add_argument("--sentences", type=Path, help="file of sentences, one a line; default: a few")
    parser.add_argument("--work", type=Path, default=Path("outputs/index_size"), help="folder for what is built")
    parser.add_argument("--out", type=Path, help="JSON file for the figures, which are added to those there")
    parser.add_argument("--plot", type=Path, help="image of the growth with the number of rows")
    parser.add_argument(
        "--embedding", action="store_true", help="measure what embedding an image costs, and no search"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--task", help=argparse.SUPPRESS)  # what a process of its own does
    args = parser.parse_args()
    if args.task:
        print(json.dumps(run_task(json.loads(args.task))))
        return
    if args.quick:
        args.rows, args.dims, args.kinds, args.queries = [2000, 60_000], [64], ["exact", "lists", "ivf-sq8"], 50
    args.work.mkdir(parents=True, exist_ok=True)

    figures = json.loads(args.out.read_text()) if args.out and args.out.exists() else {"runs": {}}
    if args.embedding:
        figures["embedding"] = embedding_cost(args.work)
        Console().print(figures["embedding"])
        save(figures, args.out)
        return
    for source in args.sources:
        for dims in args.dims:
            folder = args.work / f"{source}-{dims}"
            facts = make_vectors(folder, source, dims, args)
            figures.setdefault("vectors", {})[f"{source}-{dims}"] = facts
            for rows in args.rows:
                for kind in args.kinds:
                    run = in_a_process(folder, rows, dims, kind, args.queries)
                    figures["runs"][f"{source} {dims} {rows} {kind}"] = run
                    show(run, source, dims, rows, kind)
                    save(figures, args.out)
    if args.plot:
        plot(figures, args.plot)


def save(figures: dict, out: Path | None) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n")


# 1. Vectors to search and queries


def make_vectors(folder: Path, source: str, dims: int, args: argparse.Namespace) -> dict:
    """Write vectors.npy (rows, dims) and the queries, unless they are there; facts about them."""
    rows, facts = max(args.rows), folder / "facts.json"
    if facts.exists() and json.loads(facts.read_text())["rows"] >= rows:
        return json.loads(facts.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    known = {"rows": rows}
    if source == "random":
        draw = random_directions(dims)
        queries = {"images": draw(args.queries, 2)}
    else:
        real, sentences = real_vectors(args)
        held_out = np.arange(len(real)) % 5 == 4
        draw, turn = fitted_mixture(real[~held_out], dims)
        queries = {"images": draw(args.queries, 2), "sentences": unit(sentences @ turn)}
        count = int((~held_out).sum())
        known["nearest_real"] = nearest_similarities(real[~held_out], real[held_out])
        if dims == real.shape[1]:
            known["nearest_drawn"] = nearest_similarities(draw(count, 3), draw(int(held_out.sum()), 4))
        known["fitted_to"] = count
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, dims))
    for number, start in enumerate(range(0, rows, 50_000)):
        vectors[start : start + 50_000] = draw(min(50_000, rows - start), 1000 + number)
    vectors.flush()
    np.savez(folder / "queries.npz", **queries)
    facts.write_text(json.dumps(known))
    return known


def random_directions(dims: int):
    return lambda count, seed: unit(np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32))


def fitted_mixture(real: np.ndarray, dims: int):
    """A function (count, seed) -> (count, dims) of drawn vectors, and the (D, dims) turn into their space."""
    means = faiss.Kmeans(real.shape[1], min(PARTS, len(real) // 8), niter=20, seed=0, min_points_per_centroid=1)
    means.train(real)
    part_of = means.index.search(real, 1)[1][:, 0]
    parts = []
    for part in np.unique(part_of):
        rows = real[part_of == part]
        centre, others = rows.mean(axis=0), max(len(rows) - 1, 1)
        _, spread, directions = np.linalg.svd(rows - centre, full_matrices=False)
        rank = min(RANK, others)
        variances = spread**2 / others
        rest = float(variances[rank:].sum())
        parts.append((len(rows), centre, directions[:rank] * np.sqrt(variances[:rank])[:, None], rest))
    width = real.shape[1]
    turn = np.eye(width, dims, dtype=np.float32)
    if dims != width:
        square = np.random.default_rng(0).standard_normal((max(dims, width),) * 2)
        turn = np.linalg.qr(square)[0][:width, :dims].astype(np.float32)
    weights = np.array([part[0] for part in parts]) / len(real)

    def draw(count: int, seed: int) -> np.ndarray:
        chance = np.random.default_rng(seed)
        which = chance.choice(len(parts), count, p=weights)
        drawn = np.empty((count, dims), np.float32)
        for number, (_, centre, spread, rest) in enumerate(parts):
            rows = np.flatnonzero(which == number)
            main = chance.standard_normal((len(rows), len(spread)), dtype=np.float32) @ spread.astype(np.float32)
            noise = chance.standard_normal((len(rows), dims), dtype=np.float32) * np.float32(np.sqrt(rest / dims))
            drawn[rows] = (centre.astype(np.float32) + main) @ turn + noise
        return unit(drawn)

    return draw, turn


def real_vectors(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) embeddings of images and (Q, D) of sentences, of a model that the mixture is to resemble."""
    from stmine_hf import ImageIndex

    index = args.like or args.work / "drawn.index"
    if args.like is None:
        ImageIndex.build(drawn_images(args.work, 240), index, model=MODEL)
    shards = sorted((index / "shards").glob("*.safetensors"))
    vectors = np.concatenate([load_file(shard)["embeddings"] for shard in shards])
    sentences = ["many planes near a terminal", "a bridge over a wide river", "green trees", "storage tanks"]
    if args.sentences is not None:
        sentences = list(dict.fromkeys(args.sentences.read_text(encoding="utf-8").split("\n")))
    chosen = np.random.default_rng(0).permutation(len(sentences))[: args.queries]
    opened = ImageIndex.open(index)
    return vectors, opened.embed([sentences[number] for number in chosen if sentences[number].strip()])


def drawn_images(work: Path, count: int) -> Path:
    """A folder of drawn images of 256 x 256 pixels."""
    images = work / f"drawn-{count}"
    if not images.exists():
        command = [sys.executable, "-m", "stmine_hf.cli", "toy", str(images), "--count", str(count)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return images


def embedding_cost(work: Path) -> dict:
    """Processor time of an image from its file to its vector, without what does not grow with the images."""
    from stmine_hf import ImageIndex

    used = []
    for count in (32, 32, 240):  # the first one loads libraries
        images = drawn_images(work, count)
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            ImageIndex.build(images, Path(folder) / "index", model=MODEL, engine="torch")
            used.append(time.process_time() - started)
    return {"cpu_ms_an_image": round(1000 * (used[2] - used[1]) / (240 - 32), 1), "model": MODEL}


def nearest_similarities(rows: np.ndarray, queries: np.ndarray) -> dict[str, list[float]]:
    """Quartiles of the similarity to the nearest and to the tenth nearest row."""
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    found = flat.search(np.ascontiguousarray(queries[:500]), 10)[0]
    return {f"{place}": np.percentile(found[:, place - 1], (25, 50, 75)).round(4).tolist() for place in (1, 10)}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# 2. One structure in a process of its own


def in_a_process(folder: Path, rows: int, dims: int, kind: str, queries: int) -> dict:
    """Build a structure, if it is not there yet, and measure it."""
    built = folder / f"{rows}-{kind}.json"
    options = {"folder": str(folder), "rows": rows, "dims": dims, "kind": kind, "queries": queries}
    if not built.exists():
        built.write_text(json.dumps(task({"do": "build", **options})))
    return {**json.loads(built.read_text()), **task({"do": "measure", **options})}


def task(options: dict) -> dict:
    command = [sys.executable, __file__, "--task", json.dumps(options)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def run_task(options: dict) -> dict:
    faiss.omp_set_num_threads(1)
    do = {"build": build, "measure": measure}[options.pop("do")]
    return do(Path(options.pop("folder")), **options)


def build(folder: Path, rows: int, dims: int, kind: str, queries: int) -> dict:
    """Write the file of a structure; seconds and memory that this took."""
    flat_file = folder / f"{rows}.faiss"
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:rows]
    if not flat_file.exists():
        write_flat(flat_file, [vectors], rows, dims)
    if not (folder / f"{rows}-truth.npz").exists():
        flat = open_flat(flat_file, rows, dims, mapped=True)
        found = {name: flat.search(some, 100)[1] for name, some in np.load(folder / "queries.npz").items()}
        np.savez(folder / f"{rows}-truth.npz", **found)
    before, started, cpu = memory(), time.perf_counter(), time.process_time()
    file = folder / f"{rows}-{kind}"
    if kind == "lists":
        flat = open_flat(flat_file, rows, dims, mapped=True)
        ApproximateLists.of(flat).write(file)
    elif kind not in ("exact", "filters"):
        faiss.write_index(built_by_faiss(vectors, kind), str(file))
    return {
        "build_seconds": round(time.perf_counter() - started, 1),
        "build_cpu_seconds": round(time.process_time() - cpu, 1),
        "build_memory_mb": memory()["peak"] - before["peak"],
        "file_mb": round((file if file.exists() else flat_file).stat().st_size / 2**20, 1),
    }


def built_by_faiss(vectors: np.ndarray, kind: str):
    rows, dims = vectors.shape
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dims, 32, product)
    elif kind == "hnsw-sq8":
        index = faiss.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_8bit, 32, product)
    else:
        lists, means = list_count(rows), faiss.IndexFlatIP(dims)
        index = faiss.IndexIVFScalarQuantizer(means, dims, lists, faiss.ScalarQuantizer.QT_8bit, product)
        index.cp.spherical, index.cp.max_points_per_centroid = True, 40
        index.own_fields = True
        means.this.disown()
    if not index.is_trained:
        sample = np.sort(np.random.default_rng(0).choice(rows, min(rows, 40 * list_count(rows)), replace=False))
        index.train(np.ascontiguousarray(vectors[sample]))
    for start in range(0, rows, 20_000):
        index.add(np.ascontiguousarray(vectors[start : start + 20_000]))
    return index


def measure(folder: Path, rows: int, dims: int, kind: str, queries: int) -> dict:
    """Time, memory and recall of a structure at each of its settings."""
    before = memory()
    flat = open_flat(folder / f"{rows}.faiss", rows, dims, mapped=kind != "exact")
    truth, asked = np.load(folder / f"{rows}-truth.npz"), np.load(folder / "queries.npz")
    lists = index = None
    if kind in ("lists", "filters"):
        lists = ApproximateLists.read(folder / f"{rows}-lists", rows, dims)
        index = lists.faiss_index
    elif kind != "exact":
        index = faiss.read_index(str(folder / f"{rows}-{kind}"))
    if kind == "filters":
        return {"settings": {}, "filters": filtered(lists, flat, asked, folder, rows), "memory_mb": {}}
    settings = {}
    for setting in KINDS[kind]:
        if kind.startswith("hnsw"):
            options = faiss.SearchParametersHNSW(efSearch=max(setting, 1))
        elif kind != "exact":
            options = faiss.IVFSearchParameters(nprobe=setting)
        if kind == "exact":
            search = lambda query: nearest(flat, query, WANTED)[1]  # noqa: E731
        elif kind == "hnsw":
            search = lambda query: index.search(query, WANTED, params=options)[1][0]  # noqa: E731, B023
        else:
            search = lambda query: reranked(index, flat, query, options)  # noqa: E731, B023
        settings[str(setting)] = {
            name: timed(search, some[: 40 if kind == "exact" and rows > 200_000 else queries], truth[name])
            for name, some in asked.items()
        }
    found = {"settings": settings}
    if lists is not None:
        chosen = lambda query: through_lists(lists, flat, query)  # noqa: E731
        found["library"] = {name: timed(chosen, some[:queries], truth[name]) for name, some in asked.items()}
    after = memory()
    found["memory_mb"] = {name: after[name] - before[name] for name in after}
    return found


def reranked(index, flat, query: np.ndarray, options) -> np.ndarray:
    rows = index.search(query, COMPARED, params=options)[1][0]
    return nearest(flat, query, min(WANTED, len(rows)), rows[rows >= 0])[1]


def through_lists(lists: ApproximateLists, flat, query: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
    """As `ImageIndex` does."""
    rows = allowed
    if allowed is None or len(allowed) > EXACT_UP_TO:
        chosen = lists.search(query, WANTED, allowed)
        rows = rows if chosen is None else chosen
    return nearest(flat, query, WANTED, rows)[1]


def timed(search, queries: np.ndarray, truth: np.ndarray) -> dict:
    clock, cpu, hits = [], [], []
    search(queries[:1])
    for query, best in zip(queries, truth, strict=False):
        started, started_cpu = time.perf_counter(), time.thread_time()
        rows = search(query[None])
        cpu.append(time.thread_time() - started_cpu)
        clock.append(time.perf_counter() - started)
        hits.append(len(set(rows[:10].tolist()) & set(best[:10].tolist())) / 10)
    p50, p99 = (1000 * np.percentile(clock, share) for share in (50, 99))
    cpu50, cpu99 = (1000 * np.percentile(cpu, share) for share in (50, 99))
    figures = {"p50_ms": p50, "p99_ms": p99, "p50_cpu_ms": cpu50, "p99_cpu_ms": cpu99}
    return {"recall": round(float(np.mean(hits)), 4), **{name: round(float(ms), 3) for name, ms in figures.items()}}


def filtered(lists: ApproximateLists, flat, asked, folder: Path, rows: int) -> dict:
    """Searches among rows of a filter: any rows, and rows that lie on one side, as those of a country may."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:rows]
    chance = np.random.default_rng(5)
    side = np.asarray(vectors @ np.asarray(vectors[chance.integers(rows)]))
    any_of = chance.random(rows)
    found = {}
    for share in SHARES:
        for sort, order in {"any": any_of, "alike": side}.items():
            allowed = np.flatnonzero(order >= np.quantile(order, 1 - share))
            for name, some in asked.items():
                some = some[:20]
                truth = np.stack([nearest(flat, query[None], 10, allowed)[1] for query in some])
                search = lambda query: through_lists(lists, flat, query, allowed)  # noqa: E731, B023
                found[f"{share:g} {sort} {name}"] = {"rows": len(allowed), **timed(search, some, truth)}
    return found


def memory() -> dict[str, int]:
    """MB of this process: its own, of files mapped into it, and the most of both so far. On Linux only."""
    status = Path("/proc/self/status")
    if not status.exists():
        return dict.fromkeys(("private", "mapped", "peak"), 0)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    names = {"private": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}
    return {name: int(lines[key].split()[0]) // 1024 for name, key in names.items()}


# 3. What was found


def show(run: dict, source: str, dims: int, rows: int, kind: str) -> None:
    console = Console()
    table = Table(title=f"{source}, {rows:,} x {dims}, {kind}: built in {run['build_cpu_seconds']} s of one core")
    for column in ("setting", "queries", "recall@10", "p50 ms", "p99 ms", "p50 ms cpu", "p99 ms cpu"):
        table.add_column(column, justify="right")
    groups = {**run["settings"], "as the library": run.get("library", {})}
    for setting, sorts in groups.items():
        for name, one in sorts.items():
            numbers = (one["p50_ms"], one["p99_ms"], one["p50_cpu_ms"], one["p99_cpu_ms"])
            table.add_row(setting, name, f"{one['recall']:.3f}", *(f"{ms:.2f}" for ms in numbers))
    for name, one in run.get("filters", {}).items():
        numbers = (one["p50_ms"], one["p99_ms"], one["p50_cpu_ms"], one["p99_cpu_ms"])
        table.add_row("filter", name, f"{one['recall']:.3f}", *(f"{ms:.2f}" for ms in numbers))
    console.print(table)
    console.print({name: run[name] for name in ("build_memory_mb", "file_mb", "memory_mb")})


def plot(figures: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    lines: dict[tuple[str, str], list] = {}
    for key, run in figures["runs"].items():
        source, dims, rows, kind = key.split()
        if source == "fitted" and kind in ("exact", "lists"):
            lines.setdefault((dims, kind), []).append((int(rows), run))
    for (dims, kind), runs in sorted(lines.items()):
        runs.sort(key=lambda one: one[0])
        sizes = [rows for rows, _ in runs]
        of = [run["settings"]["0"] if kind == "exact" else run["library"] for _, run in runs]
        style = {"label": f"{kind}, {dims} numbers", "marker": "o", "linestyle": "--" if kind == "exact" else "-"}
        axes[0].plot(sizes, [one["images"]["p50_cpu_ms"] for one in of], **style)
        if kind == "lists":
            axes[1].plot(sizes, [one["images"]["recall"] for one in of], **style | {"label": f"images, {dims}"})
            sentences = [one["sentences"]["recall"] for one in of]
            axes[1].plot(sizes, sentences, **style | {"label": f"sentences, {dims}", "linestyle": ":"})
            axes[2].plot(sizes, [run["build_cpu_seconds"] for _, run in runs], **style)
    axes[0].axhline(5, color="grey", linewidth=0.8)
    axes[1].axhline(0.95, color="grey", linewidth=0.8)
    titles = ("processor time a query (median), ms", "recall@10 of lists", "seconds to build the lists, one core")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xscale="log", xlabel="vectors")
        axis.legend(fontsize=8)
    axes[0].set_yscale("log")
    axes[2].set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
