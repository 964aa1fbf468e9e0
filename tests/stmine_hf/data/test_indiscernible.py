"""The set of hard-to-see objects: as many as its description says, by origin too."""

import pytest

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.boxed_images import category_label
from stmine_hf.data.coco_json import to_coco


@pytest.fixture
def load(tmp_path, shared_data):
    """`load_dataset` of the real set with a cache of the test's own."""
    folder = shared_data / "detection/indiscernible"
    return lambda **options: load_dataset("indiscernible", data_dir=folder, cache_dir=tmp_path, **options)


def test_real_numbers(load, recwarn):
    sets = load()
    assert not recwarn, "nothing to mend in it"
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 998, "val": 270}
    names = ["camouflaged_object", "ebike", "person", "infrared_small_target"]
    for rows, counts in ((sets["train"], [877, 21, 16, 202]), (sets["val"], [215, 9, 8, 81])):
        assert category_label(rows.features).names == names
        coco = to_coco(rows)
        found = [annotation["category_id"] for annotation in coco["annotations"]]
        assert [found.count(number) for number in (1, 2, 3, 4)] == counts
    row = sets["val"][0]
    assert row["image"].size == (row["width"], row["height"]) == (416, 276)
    assert (row["image_id"], row["filename"], row["source"]) == (8, "camo_00012.jpg", "CAMO")
    assert row["objects"] == {
        "id": [8],
        "bbox": [[35.54, 46.66, 334.38, 197.8]],
        "category": [0],
        "area": [66140.36],
        "iscrowd": [False],
    }


@pytest.mark.parametrize(
    ("sources", "sizes"),
    [
        ("CAMO", {"train": 750, "val": 198}),
        (["SIRST", "EBIKE"], {"train": 187, "val": 72}),
        (["COD10K"], {"train": 61}),
    ],
)
def test_real_sources(load, sources, sizes):
    sets = load(sources=sources)
    assert {split: len(rows) for split, rows in sets.items()} == sizes
    assert set(sets["train"]["source"]) == ({sources} if isinstance(sources, str) else set(sources))
    assert len(category_label(sets["train"].features).names) == 4, "labels do not depend on the sources"


@pytest.mark.parametrize("sources", ["NC4K", []])
def test_unknown_sources(tmp_path, sources):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}'
    )
    with pytest.raises(DataError, match="sources has to name some of CAMO, COD10K, EBIKE, SIRST; got"):
        load_dataset("indiscernible", data_dir=tmp_path, cache_dir=tmp_path, sources=sources)
