"""Approximate search: against brute force, with and without filters; its upkeep; files that are not its own."""

import json

import faiss
import numpy as np
import pytest
from helpers import tiny_fisvl
from PIL import Image
from safetensors.numpy import load_file, save_file
from search_indexes import like_embeddings, unit, write_index

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.outputs import Outputs, sha256_of
from stmine_hf.search import ImageIndex, Where, approximate, store
from stmine_hf.search.approximate import ApproximateLists
from stmine_hf.search.filters import Condition
from stmine_hf.search.vectors import nearest, open_flat, write_flat

ROWS, DIMENSION = 3000, 32


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Sizes in proportion to indexes that a test can make."""
    monkeypatch.setattr(approximate, "EXACT_UP_TO", 400)
    monkeypatch.setattr(approximate, "_PROBED", 32)
    monkeypatch.setattr(approximate, "_LEAST_COMPARED", 60)
    monkeypatch.setattr(approximate, "_LOOKED_AT", 4)


@pytest.fixture(scope="module")
def vectors():
    return like_embeddings(ROWS, DIMENSION)


@pytest.fixture(scope="module")
def queries():
    """Held out, and a few that resemble no vector."""
    return np.concatenate(
        [like_embeddings(12, DIMENSION, 1), unit(np.random.default_rng(2).normal(size=(4, DIMENSION)))]
    )


@pytest.fixture(scope="module")
def folder(vectors, tmp_path_factory):
    """An index with places, times and a column of each row's number."""
    patch = pytest.MonkeyPatch()
    patch.setattr(approximate, "EXACT_UP_TO", 400)
    chance = np.random.default_rng(3)
    places = np.stack([chance.uniform(-180, 180, ROWS), chance.uniform(-90, 90, ROWS)], axis=1)
    columns = {
        "number": [str(number) for number in range(ROWS)],
        "sensor": ["S2" if n % 3 else "L8" for n in range(ROWS)],
    }
    folder = tmp_path_factory.mktemp("large") / "index"
    write_index(folder, vectors, places=places.tolist(), columns=columns)
    patch.undo()
    return folder


def flat_of(vectors):
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(vectors))
    return flat


def rows_of(hits):
    return [int(hit.path.stem) for hit in hits]


def best(index, query, k=10, where=None, exact=False):
    return index.answer("", None, query, k, where, exact).hits


# --- answers ---------------------------------------------------------------------------------------------------------


def test_most_of_the_best_are_found_and_their_scores_are_those_of_exact_search(folder, vectors, queries):
    index, shares = ImageIndex.open(folder), []
    for query in queries:
        assert len(index._lists.search(query[None], 28)) == 4 * 28
        scores = vectors @ query
        exact, found = best(index, query, exact=True), best(index, query)
        assert rows_of(exact) == np.argsort(-scores, kind="stable")[:10].tolist()
        shares.append(len(set(rows_of(exact)) & set(rows_of(found))) / 10)
        known = {hit.path: hit.score for hit in best(index, query, 500, exact=True)}
        assert all(known[hit.path] == hit.score for hit in found if hit.path in known)
        assert [hit.rank for hit in found] == list(range(1, 11))
        assert sorted(-hit.score for hit in found) == [-hit.score for hit in found]
    assert np.mean(shares) > 0.95


def test_the_lists_are_what_is_searched(folder, queries, monkeypatch):
    """Only rows that they propose are compared."""
    index = ImageIndex.open(folder)
    proposed = np.arange(0, ROWS, 7)
    monkeypatch.setattr(ApproximateLists, "search", lambda self, query, wanted, allowed=None: proposed)
    assert all(row % 7 == 0 for row in rows_of(best(index, queries[0])))
    assert not all(row % 7 == 0 for row in rows_of(best(index, queries[0], exact=True)))


@pytest.mark.parametrize("k", [1, 100, 1000, 2 * ROWS])
def test_any_number_of_hits(folder, queries, k):
    index = ImageIndex.open(folder)
    for query in queries[::8]:
        found, exact = rows_of(best(index, query, k)), rows_of(best(index, query, k, exact=True))
        assert len(found) == len(set(found)) == min(k, ROWS)
        assert len(set(found) & set(exact)) / len(exact) > 0.9
        assert k < ROWS or found == exact


def test_many_equal_images_are_all_found_in_the_order_of_their_paths(tmp_path):
    vectors = like_embeddings(2000, DIMENSION)
    vectors[500:900] = vectors[0]
    write_index(tmp_path / "index", vectors)
    found = rows_of(best(ImageIndex.open(tmp_path / "index"), vectors[0], 50))
    assert found == [0, *range(500, 549)]


@pytest.mark.parametrize(
    "where",
    [
        Where(conditions=(Condition("number", "<", "1"),)),
        Where(conditions=(Condition("number", "<", "60"),)),
        Where(conditions=(Condition("number", ">=", "2701"),)),
        Where(conditions=(Condition("sensor", "=", "L8"),)),
        Where(conditions=(Condition("sensor", "!=", "L8"), Condition("number", ">", "1000"))),
        Where(bbox=(-10, -10, 10, 10)),
        Where(bbox=(100, -80, -100, 80)),
        Where(near=(10, 50, 900)),
        Where(near=(-120, -30, 9000)),
        Where(bbox=(-180, -90, 180, 90)),
    ],
)
def test_filters_equal_brute_force(folder, vectors, queries, where):
    """Narrow ones exactly; of wide ones most of the best are found, and nothing that does not meet them."""
    index, shares = ImageIndex.open(folder), []
    allowed = np.flatnonzero(index._facts.mask(where))
    for query in queries:
        expected = allowed[np.argsort(-(vectors[allowed] @ query), kind="stable")[:10]].tolist()
        found = rows_of(best(index, query, where=where))
        assert rows_of(best(index, query, where=where, exact=True)) == expected
        assert set(found) <= set(allowed.tolist()) and len(found) == len(expected)
        if len(allowed) <= approximate.EXACT_UP_TO:
            assert found == expected
        shares.append(len(set(found) & set(expected)) / len(expected))
    assert np.mean(shares) > 0.95, len(allowed)


def test_a_filter_may_leave_only_rows_that_are_nowhere_near_the_query(vectors, monkeypatch):
    """Those that resemble the query least: the lists next to it hold none of them."""
    monkeypatch.setattr(approximate, "_PROBED", 4)
    monkeypatch.setattr(approximate, "_LOOKED_AT", 3)
    lists, flat, shares = ApproximateLists.of(flat_of(vectors)), flat_of(vectors), []
    for query in vectors[:10]:
        allowed = np.sort(np.argsort(vectors @ query)[:900])
        expected = allowed[np.argsort(-(vectors[allowed] @ query))[:10]]
        proposed = lists.search(query[None], 15, allowed)
        assert set(proposed) <= set(allowed) and len(proposed) == 60
        found = nearest(flat, query[None], 10, proposed)[1]
        shares.append(len(set(found) & set(expected)) / 10)
    assert np.mean(shares) > 0.35  # a fifth of the rows is looked at


# --- the lists -------------------------------------------------------------------------------------------------------


def test_the_same_vectors_give_the_same_lists_and_a_file_gives_them_back(vectors, tmp_path):
    lists = ApproximateLists.of(flat_of(vectors))
    assert sorted(lists.rows.tolist()) == list(range(ROWS)) and lists.sizes.sum() == ROWS
    for name in ("one", "two"):
        ApproximateLists.of(flat_of(vectors)).write(tmp_path / name)
    one, two = (load_file(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    read = ApproximateLists.read(tmp_path / "one", ROWS, DIMENSION)
    for query in vectors[:5]:
        np.testing.assert_array_equal(read.search(query[None], 28), lists.search(query[None], 28))


def test_lists_without_some_rows_and_with_others_are_those_of_the_rows_that_are_there(vectors):
    """The centroids stay; everything else is as if the rows had been entered at once."""
    first, mask = ApproximateLists.of(flat_of(vectors[:2000])), np.arange(2000) % 5 != 0
    now = np.concatenate([vectors[:2000][mask], vectors[2000:]])
    kept = first.kept(mask).extended(flat_of(now))
    nothing = np.zeros(2000, dtype=bool)
    at_once = first.kept(nothing).extended(flat_of(now))
    for name in ("centroids", "codebook", "sizes", "rows", "codes"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(at_once, name))
    assert kept.trained == 2000 and not kept.is_outgrown(4000) and kept.is_outgrown(4001)


@pytest.mark.parametrize("dimension", [6, 7])
def test_dimensions_that_no_four_divide(dimension):
    vectors = like_embeddings(1000, dimension)
    lists = ApproximateLists.of(flat_of(vectors))
    assert lists.search(vectors[:1], 10) is not None


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_vectors_stay_in_their_file_which_is_the_one_that_faiss_writes(vectors, tmp_path):
    write_flat(tmp_path / "ours", [vectors[:100], vectors[100:]], ROWS, DIMENSION)
    faiss.write_index(flat_of(vectors), str(tmp_path / "faiss"))
    assert (tmp_path / "ours").read_bytes()[45:] == (tmp_path / "faiss").read_bytes()[45:]
    query = vectors[:1]
    for name in ("ours", "faiss"):
        for mapped in (False, True):
            flat = open_flat(tmp_path / name, ROWS, DIMENSION, mapped=mapped)
            np.testing.assert_array_equal(nearest(flat, query, 20)[0], flat_of(vectors).search(query, 20)[0][0])
    with pytest.raises(ValueError, match="expected 3,000 vectors"):
        write_flat(tmp_path / "short", [vectors[:100]], ROWS, DIMENSION)


@pytest.mark.parametrize("kind", ["cut", "longer", "false count"])
def test_a_large_file_of_another_size_is_not_mapped(folder, vectors, tmp_path, kind, monkeypatch):
    write_index(tmp_path / "index", vectors[:1000])
    (file,) = (tmp_path / "index").glob("*.faiss")
    content = file.read_bytes()
    changed = {"cut": content[:-4], "longer": content + b"more", "false count": content[:8] + bytes(8) + content[16:]}
    file.write_bytes(changed[kind])
    monkeypatch.setattr(faiss, "read_index", lambda *given: pytest.fail("it was read"))
    with pytest.raises(StmineError, match="expected 1,000 vectors of 32 numbers"):
        ImageIndex.open(tmp_path / "index", verify=False)


def hostile(arrays, kind):
    """Arrays of a file as somebody may write it."""
    changes = {
        "a row beyond": {"rows": np.where(arrays["rows"] == 5, 10**12, arrays["rows"])},
        "a row below": {"rows": np.where(arrays["rows"] == 5, -1, arrays["rows"])},
        "a row twice": {"rows": np.where(arrays["rows"] == 5, 6, arrays["rows"])},
        "fewer rows": {"rows": arrays["rows"][1:]},
        "other numbers": {"rows": arrays["rows"].astype(np.int32)},
        "a list too long": {"sizes": arrays["sizes"] + 1},
        "a list below 0": {"sizes": arrays["sizes"] + np.eye(1, len(arrays["sizes"]), dtype=np.int64)[0] * -(10**6)},
        "no list": {"sizes": arrays["sizes"][:0], "centroids": arrays["centroids"][:0]},
        "fewer lists": {"centroids": arrays["centroids"][1:]},
        "shorter codes": {"codes": np.ascontiguousarray(arrays["codes"][:, 1:])},
        "no codes": {"codes": arrays["codes"][:, :0], "codebook": arrays["codebook"][:0]},
        "a small codebook": {"codebook": np.ascontiguousarray(arrays["codebook"][:, :100])},
        "not a number": {"centroids": arrays["centroids"] * np.nan},
        "no array": {"codes": None},
    }
    return {name: value for name, value in {**arrays, **changes[kind]}.items() if value is not None}


@pytest.mark.parametrize(
    "kind",
    [
        "a row beyond", "a row below", "a row twice", "fewer rows", "other numbers", "a list too long",
        "a list below 0", "no list", "fewer lists", "shorter codes", "no codes", "a small codebook", "not a number",
        "no array", "another version", "no version", "cut", "nothing", "lost",
    ],
)  # fmt: skip
def test_lists_that_do_not_fit_their_index_are_not_searched(vectors, tmp_path, kind):
    folder = tmp_path / "index"
    write_index(folder, vectors[:1000])
    manifest = store.read_manifest(folder / store.FINISHED)
    file = folder / manifest.lists
    facts = {"version": "1", "trained": "1000"}
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif kind == "nothing":
        file.write_bytes(b"")
    elif kind == "lost":
        file.unlink()
    elif kind.endswith("version"):
        save_file(load_file(file), file, {**facts, "version": "2"} if kind == "another version" else None)
    else:
        save_file(hostile(load_file(file), kind), file, facts)
    if kind != "lost":
        manifest.checksums[manifest.lists] = sha256_of(file)
        with Outputs(folder) as outputs:
            store.write_manifest(outputs, store.FINISHED, manifest)
    with pytest.raises(StmineError, match=r"lists of approximate search .* are damaged .*run `stmine index`"):
        ImageIndex.open(folder)


# --- upkeep ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return tiny_fisvl()


@pytest.fixture
def images(tmp_path, monkeypatch):
    """30 images; from 24 on, an index is large."""
    monkeypatch.setattr(approximate, "EXACT_UP_TO", 24)
    folder = tmp_path / "images"
    draw(folder, range(30))
    return folder


def draw(folder, numbers):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


def build(images, out, model):
    return ImageIndex.build(images, out, model=model, batch_size=16, progress=False)


def lists_file(folder):
    files = [file.name for file in folder.glob("lists-*")]
    manifest = store.read_manifest(folder / store.FINISHED)
    assert files == ([manifest.lists] if manifest.lists else [])
    assert set(manifest.checksums) == store.named(manifest)
    return manifest.lists


def require_whole(index, folder):
    """Its lists hold every row, in the list and with the code that its vector gives."""
    manifest = store.read_manifest(folder / store.FINISHED)
    lists, vectors = store.read_lists(folder, manifest), store.open_vectors(folder, manifest)
    nothing = np.zeros(len(lists), dtype=bool)
    afresh = lists.kept(nothing).extended(vectors)
    assert len(lists) == len(index)
    for name in ("sizes", "rows", "codes"):
        np.testing.assert_array_equal(getattr(lists, name), getattr(afresh, name))


def test_lists_follow_the_images(images, tmp_path, model):
    folder = tmp_path / "index"
    index = build(images, folder, model)
    first = lists_file(folder)
    trained = store.read_lists(folder, store.read_manifest(folder / store.FINISHED)).trained
    assert first and trained == 30
    require_whole(index, folder)
    assert build(images, folder, model).report.unchanged == 30 and lists_file(folder) == first

    draw(images, range(40, 50))  # ten more, two fewer, one other
    for number in (3, 11):
        (images / f"{number:03d}.png").unlink()
    Image.new("RGB", (8, 8), "red").save(images / "005.png")
    index = build(images, folder, model)
    assert len(index) == 38 and lists_file(folder) != first
    require_whole(index, folder)
    assert store.read_lists(folder, store.read_manifest(folder / store.FINISHED)).trained == 30

    draw(images, range(60, 90))  # more than twice as many as the centroids were made of
    index = build(images, folder, model)
    require_whole(index, folder)
    assert store.read_lists(folder, store.read_manifest(folder / store.FINISHED)).trained == len(index) == 68

    report = index.remove([images / "060.png", "061.png"], progress=False)
    assert (report.removed, report.unchanged, len(index)) == (2, 66, 66)
    require_whole(index, folder)
    gone = {f"{number:03d}.png" for number in (60, 61)}
    assert not gone & {hit.path.name for hit in index.query("planes", k=100)} and (images / "060.png").exists()

    index.remove([f"{number:03d}.png" for number in range(62, 90)], progress=False)
    index.remove([f"{number:03d}.png" for number in range(12, 30)], progress=False)
    assert len(index) == 20 and lists_file(folder) == ""
    assert len(index.query("planes", k=100)) == 20


def test_what_cannot_be_removed(images, tmp_path, model):
    index = build(images, tmp_path / "index", model)
    with pytest.raises(StmineError, match="expected an image of the index, but it is not in it"):
        index.remove("999.png", progress=False)
    with pytest.raises(StmineError, match="delete the folder"):
        index.remove(sorted(images.iterdir()), progress=False)
    assert len(index) == 30


@pytest.mark.parametrize("damage", ["changed", "lost", "never made"])
def test_the_next_run_repairs_the_lists_without_embedding(images, tmp_path, model, damage, monkeypatch):
    folder = tmp_path / "index"
    if damage == "never made":  # by a version without approximate search
        monkeypatch.setattr(approximate, "EXACT_UP_TO", 10**6)
    build(images, folder, model)
    monkeypatch.setattr(approximate, "EXACT_UP_TO", 24)
    if damage == "never made":
        assert len(ImageIndex.open(folder, model=model).query("planes", k=100)) == 30
    else:
        file = folder / lists_file(folder)
        content = file.read_bytes()
        file.unlink()
        if damage == "changed":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StmineError, match="lists of approximate search"):
            ImageIndex.open(folder, model=model)
    index = build(images, folder, model)
    assert (index.report.unchanged, index.report.embedded) == (30, 0)
    if damage == "changed":  # it may be somebody's own by now
        assert file.read_bytes() != content
        file.unlink()
    assert lists_file(folder)
    require_whole(index, folder)


def test_a_run_stopped_while_it_makes_lists_leaves_the_index_before_it(images, tmp_path, model, monkeypatch):
    folder = tmp_path / "index"
    build(images, folder, model)
    draw(images, range(40, 60))

    def stop(*given, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ApproximateLists, "extended", stop)
        with pytest.raises(KeyboardInterrupt):
            build(images, folder, model)
    assert len(ImageIndex.open(folder, model=model)) == 30
    index = build(images, folder, model)
    assert (len(index), index.report.embedded) == (50, 0)
    lists_file(folder)
    require_whole(index, folder)


def test_lists_of_other_rows_are_not_carried_on(images, tmp_path, model):
    """Killed between its last two steps, a run leaves an unfinished index whose rows come in another order."""
    folder = tmp_path / "index"
    build(images, folder, model)
    before = store.read_manifest(folder / store.FINISHED)
    kept = {file: file.read_bytes() for file in folder.rglob("[!.]*.*") if "shards" in file.parts}
    (images / "002.png").unlink()
    build(images, folder, model)
    for file, content in kept.items():
        file.write_bytes(content)
    draw(images, [2, 70])
    with Outputs(folder) as outputs:
        before.faiss = before.lists = ""
        before.count = 0
        before.checksums = {file: value for file, value in before.checksums.items() if file.startswith("shards")}
        store.write_manifest(outputs, store.UNFINISHED, before)
    index = build(images, folder, model)
    assert len(index) == 31
    require_whole(index, folder)


# --- merging ---------------------------------------------------------------------------------------------------------


def test_merged_indexes_find_the_images_of_all(tmp_path, vectors, queries):
    columns = {"sensor": ["S2"] * 900}
    write_index(tmp_path / "a", vectors[:900], columns=columns, images=str(tmp_path / "images"))
    paths = [f"{number:06d}.png" for number in range(800, 2000)]
    more = {"cloud": [str(number) for number in range(1200)]}
    write_index(tmp_path / "b", vectors[1000:2200], paths=paths, columns=more, images=str(tmp_path / "images"))
    write_index(tmp_path / "c", vectors[2200:2600], images=str(tmp_path / "images" / "north"))
    write_index(tmp_path / "d", vectors[2600:2900], images=str(tmp_path / "elsewhere"))
    before = {file: file.read_bytes() for name in "abcd" for file in (tmp_path / name).rglob("*") if file.is_file()}
    index = ImageIndex.merge([tmp_path / name for name in "abcd"], tmp_path / "all", progress=False)
    assert {file: file.read_bytes() for file in before} == before
    assert len(index) == 900 + 1100 + 400 + 300 and lists_file(tmp_path / "all")
    require_whole(index, tmp_path / "all")
    expected = [(vectors[n], tmp_path / "images" / f"{n:06d}.png") for n in range(900)]
    expected += [(vectors[1100 + n], tmp_path / "images" / f"{900 + n:06d}.png") for n in range(1100)]
    expected += [(vectors[2200 + n], tmp_path / "images" / "north" / f"{n:06d}.png") for n in range(400)]
    expected += [(vectors[2600 + n], tmp_path / "elsewhere" / f"{n:06d}.png") for n in range(300)]
    every, names = np.stack([vector for vector, _ in expected]), [path for _, path in expected]
    for query in queries[::4]:
        order = np.argsort(-(every @ query), kind="stable")[:10]
        assert [hit.path for hit in best(index, query, exact=True)] == [names[row] for row in order]
    assert index.columns == ["sensor", "cloud"]
    assert len(best(index, queries[0], 5000, Where(conditions=(Condition("sensor", "=", "S2"),)))) == 900
    found = best(index, queries[0], 5000, Where(conditions=(Condition("cloud", ">=", "0"),)))
    assert {int(hit.path.stem) for hit in found} == set(range(900, 2000))  # of those in both, the first index counts


def test_a_merged_index_is_kept_up_as_any_other(images, tmp_path, model):
    other = tmp_path / "other"
    draw(other, range(100, 110))
    build(images, tmp_path / "a", model)
    build(other, tmp_path / "b", model)
    index = ImageIndex.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", model=model, progress=False)
    scores = {hit.path: hit.score for hit in index.query("planes", k=100)}
    assert len(scores) == 40 and all(path.exists() for path in scores)
    (other / "100.png").unlink()
    draw(images, [200])
    index = build(images, tmp_path / "all", model)
    assert (index.report.added, index.report.removed, index.report.unchanged) == (1, 1, 39)
    require_whole(index, tmp_path / "all")


def test_indexes_that_cannot_be_merged(tmp_path, vectors):
    write_index(tmp_path / "a", vectors[:50])
    write_index(tmp_path / "b", vectors[:50], weights="other")
    write_index(tmp_path / "half", vectors[50:80])
    (tmp_path / "half" / "index.json").rename(tmp_path / "half" / "unfinished.json")
    before = sorted((tmp_path / "half").rglob("*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("x")
    for sources, out, message in [
        (["a"], "out", "at least two indexes"),
        (["a", "b"], "out", "made with another model"),
        (["a", "nowhere"], "out", "no finished index in .*nowhere"),
        (["a", "a"], "a", "is a finished index: choose a new folder|is the input itself"),
        (["a", "a"], "mine", "neither empty nor an index"),
        (["a", "a"], "half", "half is an index that was never finished: finish it with `stmine index"),
    ]:
        with pytest.raises(StmineError, match=message):
            ImageIndex.merge([tmp_path / name for name in sources], tmp_path / out, progress=False)
    manifest = json.loads((tmp_path / "a" / "index.json").read_text())
    assert manifest["count"] == 50
    assert sorted((tmp_path / "half").rglob("*")) == before


def test_a_merge_that_was_stopped_is_done_again(tmp_path, vectors, monkeypatch):
    for name, part in (("a", vectors[:500]), ("b", vectors[500:1000])):
        write_index(tmp_path / name, part, images=str(tmp_path / name))
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_vectors", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ImageIndex.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", progress=False)
    index = ImageIndex.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all", progress=False)
    assert len(index) == 1000 and len(list((tmp_path / "all" / "shards").iterdir())) == 4


def test_the_command_merges(tmp_path, vectors, capsys):
    for name, part in (("a", vectors[:20]), ("b", vectors[20:50])):
        write_index(tmp_path / name, part, images=str(tmp_path / f"images {name}"))
    with pytest.raises(SystemExit, match="0"):
        main(["merge-indexes", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "all"), "--json"])
    assert json.loads(capsys.readouterr().out)["images"] == 50
    assert len(ImageIndex.open(tmp_path / "all")) == 50
    with pytest.raises(SystemExit, match="1"):
        main(["merge-indexes", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "all")])
    assert "choose a new folder" in capsys.readouterr().err
