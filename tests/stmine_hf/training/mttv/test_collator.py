"""Posts and batches: seeds and epochs, dropping, orders, labels by name, and posts that lack or spoil a part."""

import logging
from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv, tiny_mttv_processor
from PIL import Image
from post_rows import FEATURES, encoded, post, post_rows

from stmine_hf.errors import StmineError
from stmine_hf.modeling.mttv.processing_mttv import Regions
from stmine_hf.training.mttv.collator import MttvCollator, drop_tokens
from stmine_hf.training.mttv.features import kept_features
from stmine_hf.training.mttv.sampler import PostSampler, by_length, sample_weights
from stmine_hf.training.mttv.samples import Posts, keep_modalities
from stmine_hf.training.mttv.transforms import build_mttv_transform

LABELS = {"fake": 0, "real": 1}


def batch_of(samples: Posts, **options) -> dict[str, torch.Tensor]:
    return MttvCollator(tiny_mttv_processor(), **options)([samples[i] for i in range(len(samples))])


def test_a_batch_is_what_the_processor_makes_in_use():
    rows = post_rows(4)
    batch = batch_of(Posts(rows, LABELS))
    used = tiny_mttv_processor()(text=rows["text"][:], images=rows["image"][:])
    assert batch.keys() == {*used.keys(), "labels"}
    assert all(torch.equal(batch[name], used[name]) for name in used)
    assert batch["labels"].tolist() == [1, 0, 0, 1]


def test_labels_are_matched_by_name():
    samples = Posts(post_rows(4), {"real": 0, "fake": 1})
    assert [samples[i]["label"] for i in range(4)] == [0, 1, 1, 0]
    with pytest.raises(StmineError, match="labels are 'fake', 'real', the model's are 'fake', 'true'"):
        Posts(post_rows(4), {"fake": 0, "true": 1})


def test_posts_without_label_or_content_are_left_out_and_counted(caplog):
    rows = [post(0, "a", None, 0), post(1, "b", None, -1), post(2, " \n", None, 1), post(3, None, None, 1)]
    image = encoded(Image.new("RGB", (8, 8)))
    with caplog.at_level(logging.WARNING):
        samples = Posts(datasets.Dataset.from_list([*rows, post(4, "", image, 1)], FEATURES), LABELS)
    assert [samples[i]["text"] for i in range(len(samples))] == ["a", ""]
    assert samples[0]["image"] is None and samples[1]["image"].size == (8, 8)
    assert "1 training posts are skipped: without a label" in caplog.text
    assert "2 training posts are skipped: empty" in caplog.text
    with pytest.raises(StmineError, match="None of the 2 training posts has"):
        Posts(datasets.Dataset.from_list(rows[1:3], FEATURES), LABELS)


def test_an_unreadable_image_leaves_the_text_and_is_counted_and_named_once(caplog):
    samples = Posts(post_rows(6, broken=(2, 3), bare=(4,)), LABELS)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            batch = batch_of(samples)
    assert batch["image_mask"].tolist() == [1, 1, 0, 0, 0, 1]
    assert (batch["pixel_values"].flatten(1).abs().sum(dim=1) > 0).tolist() == [True, True, False, False, False, True]
    assert samples.unreadable == 2
    assert caplog.text.count("Post 2 is used without") == caplog.text.count("Post 3 is used without") == 1


def test_unreadable_images_are_counted_across_workers():
    samples = Posts(post_rows(6, broken=(2,)), LABELS)
    collator = MttvCollator(tiny_mttv_processor())
    loader = torch.utils.data.DataLoader(samples, batch_size=3, num_workers=2, collate_fn=collator)
    assert sum(len(batch["labels"]) for batch in loader) == 6
    assert samples.unreadable == 1


@pytest.mark.parametrize(
    "image",
    [
        encoded(Image.new("RGB", (1, 1), "red")),
        encoded(Image.new("CMYK", (30, 20), (9, 9, 9, 9)), "JPEG"),
        encoded(Image.new("P", (20, 20)), "GIF", save_all=True, append_images=[Image.new("P", (20, 20), 1)]),
        encoded(Image.new("I;16", (20, 20), 900), "PNG"),
        encoded(Image.new("RGBA", (600, 2), (9, 9, 9, 0)), "PNG"),
        {"bytes": encoded(Image.effect_noise((64, 64), 50), "JPEG")["bytes"][:300], "path": "cut.jpg"},
        {"bytes": b"", "path": "empty.jpg"},
        {"bytes": None, "path": "not-there.jpg"},
    ],
    ids=["1x1", "cmyk", "animated", "16 bits", "transparent stripe", "cut short", "empty file", "no file"],
)
def test_odd_posts_make_a_batch_that_trains(image):
    texts = ["", "😂👍🏻 http://t.cn/x", "x" * 10_000, "真" * 10_000, "שלום مرحبا 你好 hello"]
    rows = [post(i, text, image, i % 2) for i, text in enumerate(texts)]
    samples = Posts(datasets.Dataset.from_list([*rows, post(9, "fake news", None, 1)], FEATURES), LABELS)
    model, _ = tiny_mttv(train_vision=True)
    batch = batch_of(samples, transform=build_mttv_transform("colour"), token_dropping=0.3)
    assert batch["input_ids"].shape[1] <= 40
    loss = model.train()(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_a_batch_without_images_carries_none_and_means_the_same():
    samples = Posts(post_rows(4, bare=(0, 1, 2, 3)), LABELS)
    batch = batch_of(samples)
    assert "pixel_values" not in batch
    model, processor = tiny_mttv()
    shown = processor(text=samples.texts, images=[None] * 4)
    labels = batch.pop("labels")
    torch.testing.assert_close(model(**batch, labels=labels).logits, model(**shown).logits)


def test_randomness_follows_seed_epoch_and_index_only():
    options = {"transform": build_mttv_transform("colour"), "token_dropping": 0.5}

    def batch(seed: int, epoch: int) -> dict[str, torch.Tensor]:
        samples = Posts(post_rows(6), LABELS, seed, image_dropping=0.3)
        samples.set_epoch(epoch)
        return batch_of(samples, **options)

    first = batch(0, 0)
    torch.rand(5)  # whatever else draws
    again = batch(0, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (batch(1, 0), batch(0, 1)):
        assert not torch.equal(first["pixel_values"], other["pixel_values"])


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_hear_of_the_epoch(persistent):
    samples = Posts(post_rows(4), LABELS)
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=4,
        num_workers=1,
        persistent_workers=persistent,
        collate_fn=MttvCollator(tiny_mttv_processor(), build_mttv_transform("crop")),
    )
    seen = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        seen.append(next(iter(loader))["pixel_values"])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_images_are_dropped_at_the_rate_but_never_from_a_post_without_text():
    rows = post_rows(8).map(lambda row, i: {"text": "" if i == 0 else row["text"]}, with_indices=True)
    samples = Posts(rows, LABELS, image_dropping=0.5)
    shown = Counter()
    for epoch in range(100):
        samples.set_epoch(epoch)
        shown.update(i for i in range(8) if samples[i]["image"] is not None)
    assert shown[0] == 100
    assert all(30 < shown[i] < 70 for i in range(1, 8))


def test_tokens_are_dropped_in_their_order_at_the_rate():
    ids = torch.arange(1, 401).repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[1, 100:] = 0
    dropped = drop_tokens({"input_ids": ids, "attention_mask": mask}, 0.25, seeds=[1, 2], padding=9999)
    kept = dropped["attention_mask"].sum(dim=1).tolist()
    assert 260 < kept[0] < 340 and 60 < kept[1] < 90 and dropped["input_ids"].shape == (2, kept[0])
    for row, count in enumerate(kept):
        own = dropped["input_ids"][row]
        assert (own[:count].diff() > 0).all() and (own[count:] == 9999).all()
    assert dropped["input_ids"][1][: kept[1]].max() <= 100


def test_one_token_always_stays_and_no_text_stays_none():
    ids, mask = torch.tensor([[7, 8, 9], [5, 0, 0], [0, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    dropped = drop_tokens({"input_ids": ids, "attention_mask": mask}, 1.0, seeds=[0, 1, 2])
    assert dropped["attention_mask"].tolist() == [[1], [1], [0]]
    assert dropped["input_ids"][0, 0] in (7, 8, 9) and dropped["input_ids"][1:].tolist() == [[5], [0]]


def test_features_found_beforehand_stand_for_images():
    def features(value: float, regions: int) -> dict[str, torch.Tensor]:
        return {"global_features": torch.full((32, 7, 7), value), "region_features": torch.full((regions, 32), value)}

    store = {"0": features(1.0, 3), "2": features(2.0, 1)}
    samples = Posts(post_rows(3), LABELS, features=store)
    batch = batch_of(samples)
    assert "pixel_values" not in batch
    assert batch["global_features"].shape == (3, 32, 7, 7) and batch["region_features"].shape == (3, 3, 32)
    assert batch["global_features"].mean(dim=(1, 2, 3)).tolist() == [1.0, 0.0, 2.0]
    assert batch["region_features"].mean(dim=2).tolist() == [[1, 1, 1], [0, 0, 0], [2, 0, 0]]
    model, _ = tiny_mttv()
    assert torch.isfinite(model(**batch).loss)
    assert "global_features" not in batch_of(Posts(post_rows(2), LABELS, features={}))


def test_features_are_found_once_and_say_what_the_images_say(tmp_path, caplog):
    rows, (model, processor) = post_rows(6, broken=(3,), bare=(4,)), tiny_mttv()
    splits = [rows.select(range(4)), rows.select(range(4, 6))]
    with caplog.at_level(logging.INFO):
        store = kept_features(tmp_path, model, processor, splits, progress=False)
        kept_features(tmp_path, model, processor, splits, progress=False)
    assert caplog.text.count("4 posts, 4 of them new") == caplog.text.count("4 posts, 0 of them new") == 1
    assert "Post 3 is used without its image" in caplog.text
    from_features = model(**batch_of(Posts(rows, LABELS, features=store)))
    from_images = model(**batch_of(Posts(rows, LABELS)))
    torch.testing.assert_close(from_features.logits, from_images.logits)
    blind, _ = tiny_mttv(vision_config=None)
    assert len(kept_features(tmp_path, blind, processor, splits)) == 4
    with pytest.raises(StmineError, match="train_vision: true; omit one"):
        kept_features(tmp_path, tiny_mttv(train_vision=True)[0], processor, splits)


def test_a_detector_sees_the_images_as_augmented():
    seen = []

    def detector(images):
        seen.extend(image.size for image in images)
        return [Regions(np.array([[0, 0, 9, 9], [2, 2, 8, 8]], np.float32), np.array([0.9, 0.8])) for _ in images]

    samples = Posts(post_rows(3, bare=(1,)), LABELS)
    batch = batch_of(samples, transform=build_mttv_transform("crop"), detector=detector)
    assert len(seen) == 2 and (40, 40) not in seen
    assert batch["region_mask"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 0]]
    model, _ = tiny_mttv()
    assert torch.isfinite(model(**batch).loss)


def test_modalities_can_be_taken_away():
    rows = post_rows(4)
    text, image = keep_modalities(rows, "text"), keep_modalities(rows, "image")
    assert text["text"][:] == rows["text"][:] and text["image"][:] == [None] * 4
    assert image["text"][:] == [""] * 4 and image[0]["image"].size == (40, 40)
    assert set(text.features) == set(image.features) == set(rows.features)
    assert keep_modalities(rows, "both") is rows
    with pytest.raises(StmineError, match="modalities must be one of both, text, image"):
        keep_modalities(rows, "sound")


def order(samples: Posts, epoch: int = 0, **options) -> list[int]:
    samples.set_epoch(epoch)
    return list(PostSampler(samples, **options))


def test_an_epoch_shows_each_post_once_in_an_order_of_its_own():
    samples = Posts(post_rows(16), LABELS)
    first, second = order(samples, 0), order(samples, 1)
    assert sorted(first) == sorted(second) == list(range(16)) and first != second
    assert order(samples, 0) == first != order(samples, 0, seed=1)


def test_batches_of_like_length_waste_little():
    lengths = torch.randint(1, 200, (403,), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randperm(403, generator=generator)
    alike = by_length(mixed, lengths, 8, generator)
    assert sorted(alike.tolist()) == list(range(403)) and len(alike) % 8 == 3

    def padding(order: torch.Tensor) -> int:
        return sum(int((lengths[part].max() - lengths[part]).sum()) for part in order.split(8))

    assert padding(alike) < 0.2 * padding(mixed)
    firsts = [int(lengths[part[0]]) for part in alike.split(8)]
    assert firsts != sorted(firsts)


def test_classes_and_groups_are_balanced_by_weight():
    labels = torch.tensor([0] * 90 + [1] * 10)
    groups = torch.tensor([7] * 80 + [-1] * 20)
    assert sample_weights(labels, groups, 0.0, 0.0) is None
    by_class = sample_weights(labels, groups, 1.0, 0.0)
    assert by_class[:90].sum() == pytest.approx(by_class[90:].sum())
    by_group = sample_weights(labels, groups, 0.0, 1.0)
    assert by_group[:80].sum() == pytest.approx(1.0) and by_group[80:].tolist() == [1.0] * 20
    half = sample_weights(labels, groups, 0.5, 0.0)
    assert half[0] / half[-1] == pytest.approx((10 / 90) ** 0.5)
    both = sample_weights(labels, groups, 1.0, 1.0)  # of the large class, all but 10 posts are of one group
    assert both[:90].sum() == pytest.approx(both[90:].sum())
    torch.testing.assert_close(both[:90] / both[0], by_group[:90] / by_group[0])


def test_weights_decide_how_often_a_post_is_drawn():
    samples = Posts(post_rows(16), LABELS)
    weights = torch.tensor([1.0] * 8 + [0.0] * 7 + [8.0])
    drawn = Counter(i for epoch in range(60) for i in order(samples, epoch, weights=weights, batch_size=4))
    assert sum(drawn.values()) == 960 and not any(drawn[i] for i in range(8, 15))
    assert 420 < drawn[15] < 540 and all(30 < drawn[i] < 90 for i in range(8))
