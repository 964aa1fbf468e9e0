"""Visual features on disk: read as the encoder gave them; runs resume, foreign and damaged folders are told."""

from __future__ import annotations

import io
import json
import pickle
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv
from odd_posts import bad_images, noise, odd_images
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.classification import evaluate_posts
from stmine_hf.images import PixelOptions
from stmine_hf.modeling.mttv.processing_mttv import Regions
from stmine_hf.outputs import Outputs
from stmine_hf.posts import FeatureStore
from stmine_hf.posts.features import precompute_features
from stmine_hf.posts.post import Post, PostImage, row_image
from stmine_hf.posts.reading import post_image


def detector(images):
    """As many regions as the image is high, modulo 5: none, fewer and more than the model takes."""
    counts = [image.height % 5 for image in images]
    boxes = [np.array([[n, n, 15 + n, 20] for n in range(count)]).reshape(-1, 4) for count in counts]
    return [Regions(own, np.ones(len(own))) for own in boxes]


@pytest.fixture(scope="module")
def parts():
    return tiny_mttv(seed=1)


@pytest.fixture(scope="module")
def posts() -> list[Post]:
    """Eleven posts, of which number 4 has no image."""
    images = [noise(20 + number, 30) for number in range(11)]
    return [
        Post(f"假 {number}", "news" * number, [] if number == 4 else [lambda image=image: image])
        for number, image in enumerate(images)
    ]


def precompute(parts, posts, folder, **options):
    return precompute_features(*parts, posts, folder, **{"batch_size": 3, "progress": False, **options})


@torch.no_grad()
def expected(parts, post: Post, regions: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    model, processor = parts
    inputs = processor(text=[""], images=[post.images[0]()], detector=detector if regions else None)
    inputs = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    maps, found = model.mttv.get_visual_features(**inputs)
    return maps[0], found[0, : int(inputs["region_mask"].sum())] if regions else maps.new_zeros(0, maps.shape[1])


def test_what_is_read_is_what_the_encoder_gives(parts, posts, tmp_path):
    report = precompute(parts, posts, tmp_path / "new" / "one", detector=detector, save_every=4)
    assert (report.added, report.without_image, report.total, report.skipped) == (10, 1, 10, [])
    assert sorted(path.name for path in (tmp_path / "new/one/shards").iterdir()) == [
        f"{number:06d}.{suffix}" for number in range(2) for suffix in ("parquet", "safetensors")
    ]
    store = FeatureStore.open(tmp_path / "new" / "one")
    assert len(store) == 10 and posts[4].id not in store and "nobody" not in store
    store = pickle.loads(pickle.dumps(store))  # as the workers of a data loader get it
    counts = set()
    for post in posts:
        if post.images:
            assert post.id in store
            found, (maps, regions) = store.get(post.id), expected(parts, post)
            assert torch.allclose(found["global_features"], maps, atol=1e-5)
            assert found["region_features"].shape == regions.shape
            assert torch.allclose(found["region_features"], regions, atol=1e-5)
            counts.add(len(regions))
    assert counts == {0, 1, 2, 3}
    with pytest.raises(KeyError):
        store.get("nobody")


def test_half_the_space(parts, posts, tmp_path):
    precompute(parts, posts, tmp_path, dtype="float16")
    store = FeatureStore.open(tmp_path)
    found = store.get(posts[0].id)["global_features"]
    assert found.dtype == torch.float32 and torch.allclose(found, expected(parts, posts[0], False)[0], rtol=2e-3)
    assert not torch.equal(found, expected(parts, posts[0], False)[0])
    with pytest.raises(StmineError, match="expected float32 or float16, found 'int8'"):
        precompute(parts, posts, tmp_path, dtype="int8")


def test_a_second_run_does_only_what_is_new(parts, posts, tmp_path):
    first = precompute(parts, posts[:6], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("0*")}
    again = precompute(parts, posts, tmp_path)
    assert (first.added, again.added, again.done_before, again.total) == (5, 5, 5, 10)
    assert all(path.read_bytes() == content for path, content in before.items())
    once = tmp_path / "once"
    precompute(parts, posts, once)
    for post in posts:
        if post.images:
            one, other = (FeatureStore.open(folder).get(post.id) for folder in (tmp_path, once))
            assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def stored(folder) -> dict[str, tuple[bytes, bytes]]:
    """Every post's features, as bytes."""
    store = FeatureStore.open(folder)
    found = {key: store.get(key) for key in sorted(store._rows)}
    return {
        key: tuple(one[name].numpy().tobytes() for name in ("global_features", "region_features"))
        for key, one in found.items()
    }


def test_a_killed_run_is_resumed(parts, posts, tmp_path, monkeypatch):
    """Stopped at every point at which something is written: the same bytes as of a run that was never stopped."""
    write, steps = Outputs.write, 999

    def dying(self, name, writer):
        nonlocal steps
        steps -= 1

        def half(path):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

        return write(self, name, half if steps < 0 else writer)

    posts = [*posts[:2], Post("bad", "", [lambda: Image.open(io.BytesIO(b"bad"))]), *posts[2:]]
    precompute(parts, posts, tmp_path / "whole", save_every=4, detector=detector)
    monkeypatch.setattr(Outputs, "write", dying)
    for die_at in range(6):  # two shards of two files, and the manifest after each
        folder, steps = tmp_path / str(die_at), die_at
        with pytest.raises(KeyboardInterrupt):
            precompute(parts, posts, folder, save_every=4, detector=detector)
        done = len(FeatureStore.open(folder)) if (folder / "features.json").exists() else 0
        assert done == [0, 0, 0, 5, 5, 5][die_at]
        steps = 99
        report = precompute(parts, posts, folder, save_every=4, detector=detector)
        assert (report.added, report.done_before, report.total) == (10 - done, done, 10)
        assert stored(folder) == stored(tmp_path / "whole")
        named = {*FeatureStore.open(folder).manifest["checksums"], "features.json"}
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*.*")} == named


def test_bad_posts_are_skipped_and_tried_again(parts, tmp_path):
    for name, content in {**odd_images(), **bad_images()}.items():
        (tmp_path / name).write_bytes(content)
    names = [*bad_images(), *odd_images(), "gone.png"]
    posts = [Post(name, "", [partial(post_image, tmp_path / name)]) for name in names]
    report = precompute(parts, [*posts, posts[6]], tmp_path / "features", batch_size=4)
    assert report.added == report.total == len(odd_images())
    reasons = dict(report.skipped)
    assert reasons["gone.png"] == "file not found" and reasons[names[6]] == "an id that an earlier post has"
    assert set(reasons) == {*bad_images(), "gone.png", names[6]}
    (tmp_path / "gone.png").write_bytes(odd_images()["1x1.png"])
    assert precompute(parts, posts, tmp_path / "features").added == 1


def test_features_of_another_encoder_are_not_mixed_in(parts, posts, tmp_path):
    precompute(parts, posts[:3], tmp_path)
    other = tiny_mttv(seed=2)
    with pytest.raises(StmineError, match=r"other settings \(weights .*\)\. Give another folder"):
        precompute(other, posts, tmp_path)
    with pytest.raises(StmineError, match="regions 0, now 3"):
        precompute(parts, posts, tmp_path, detector=detector)
    with pytest.raises(StmineError, match="no visual encoder"):
        precompute(tiny_mttv(vision_config=None), posts, tmp_path)
    store = FeatureStore.open(tmp_path)
    store.require(parts[0].config)
    with pytest.raises(StmineError, match=r"features of width 32.*expects 16"):
        store.require(tiny_mttv(vision_config=None, vision_width=16)[0].config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("features.json", b"{", "are damaged .*: delete the folder"),
        ("features.json", b'{"format_version": 1}', "are damaged"),
        ("features.json", b'{"format_version": 7}', "of format 7, this stmine-hf reads format 1"),
        ("shards/000000.parquet", b"PAR1", "are damaged"),
    ],
)
def test_damage_is_told(parts, posts, tmp_path, name, content, message):
    precompute(parts, posts[:2], tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StmineError, match=message):
        FeatureStore.open(tmp_path)


def test_a_damaged_shard_is_told_when_it_is_read(parts, posts, tmp_path):
    precompute(parts, posts[:2], tmp_path)
    shard = tmp_path / "shards" / "000000.safetensors"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(StmineError, match="are damaged"):
        FeatureStore.open(tmp_path).get(posts[0].id)


def test_any_changed_byte_is_reported(parts, posts, tmp_path):
    precompute(parts, posts, tmp_path, save_every=4)
    draw, files = random.Random(0), [tmp_path / "features.json", *sorted((tmp_path / "shards").iterdir())]
    for file in files:
        content = file.read_bytes()
        places = [0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(12))]
        for place in places:
            changed = bytearray(content)
            changed[place] ^= draw.randrange(1, 256)
            file.write_bytes(changed)
            with pytest.raises(StmineError, match=file.name):
                stored(tmp_path)
        file.write_bytes(content[:-1])
        with pytest.raises(StmineError, match=file.name):
            stored(tmp_path)
        file.write_bytes(content)
    assert len(stored(tmp_path)) == 10


def image_posts(folder: Path, *names: str) -> list[Post]:
    return [
        Post(name, "", [PostImage(partial(post_image, folder / name), name, folder / name)] if name != "none" else [])
        for name in names
    ]


def test_features_of_a_changed_image_are_computed_again(parts, tmp_path):
    for number, name in enumerate("abcd"):
        noise(20 + number, 30).save(tmp_path / f"{name}.png")
    posts, folder = image_posts(tmp_path, "a.png", "b.png", "c.png", "d.png"), tmp_path / "features"
    precompute(parts, posts, folder)
    before = stored(folder)
    (tmp_path / "b.png").touch()  # the same image
    assert precompute(parts, posts, folder).done_before == 4 and stored(folder) == before

    noise(40, 30).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    posts[3] = posts[3]._replace(images=[])
    report = precompute(parts, posts, folder)
    assert (report.added, report.changed, report.done_before, report.without_image) == (1, 1, 1, 1)
    assert [skip.path for skip in report.skipped] == ["c.png"] and report.total == 2
    precompute(parts, posts[:2], tmp_path / "fresh")
    now, fresh = FeatureStore.open(folder), FeatureStore.open(tmp_path / "fresh")
    assert "c.png" not in now and "d.png" not in now and len(now) == 2
    for name in ("a.png", "b.png"):
        assert torch.allclose(now.get(name)["global_features"], fresh.get(name)["global_features"], atol=1e-5)

    noise(22, 30).save(tmp_path / "c.png")
    assert precompute(parts, posts, folder).added == 1 and "c.png" in FeatureStore.open(folder)


def test_rows_of_a_data_set_are_recognized_by_their_bytes():
    encoded = io.BytesIO()
    noise(4, 4).save(encoded, "png")
    image, other = ({"bytes": encoded.getvalue() + end, "path": None} for end in (b"", b" "))
    assert row_image(image).digest() == row_image(dict(image)).digest() != row_image(other).digest()
    other_bands = row_image(image, PixelOptions(bands=(3, 2, 1)))
    assert other_bands.digest() != row_image(image).digest(), "features of other pixels"
    assert row_image(noise(4, 4)).digest() is None and row_image({"bytes": None, "path": "no"}).digest() is None


def test_a_run_beside_another_is_refused_and_files_of_the_user_stay(parts, posts, tmp_path):
    with Outputs(tmp_path / "one"), pytest.raises(StmineError, match="another run is writing"):
        precompute(parts, posts, tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "features.json").write_text("[]")
    with pytest.raises(StmineError, match=r"features\.json"):
        precompute(parts, posts, tmp_path / "two")
    assert (tmp_path / "two" / "features.json").read_text() == "[]"


def test_a_folder_without_features_is_told(tmp_path):
    with pytest.raises(StmineError, match="stmine features mttv"):
        FeatureStore.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StmineError, match="found a file"):
        FeatureStore.open(tmp_path / "file")


def test_evaluation_on_features_equals_evaluation_on_images(parts, posts, tmp_path):
    rows = [
        {"post_id": post.id, "text": post.text, "image": post.images[0]() if post.images else None, "label": "fake"}
        for post in posts
    ]
    precompute(parts, posts, tmp_path, detector=detector)
    store = FeatureStore.open(tmp_path)
    seen = evaluate_posts(*parts, rows, detector=detector, batch_size=4, progress=False)
    read = evaluate_posts(*parts, rows, features=store, batch_size=5, progress=False)
    assert read.logits == pytest.approx(seen.logits, abs=1e-5) and read.images == seen.images == 10
    assert json.loads((tmp_path / "features.json").read_text())["shape"] == [32, 4, 4]
