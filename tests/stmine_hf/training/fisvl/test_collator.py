"""Samples and batches: the row modes, seeds and epochs, word dropping, and images that cannot be read."""

import logging

import pytest
import torch
from helpers import tiny_fisvl, tiny_processor
from toy_rows import toy_rows

from stmine_hf.errors import StmineError
from stmine_hf.training.fisvl.collator import FisvlCollator
from stmine_hf.training.fisvl.samples import CaptionedImages
from stmine_hf.training.fisvl.transforms import build_fisvl_transform


def collator(augmentation: str = "none", deletion_rate: float = 0.0) -> FisvlCollator:
    processor = tiny_processor()
    return FisvlCollator(processor, build_fisvl_transform(augmentation, processor.image_processor), deletion_rate)


def test_all_makes_every_caption_a_sample():
    samples = CaptionedImages(toy_rows(4, captions=3), "all")
    assert len(samples) == 12
    batch = collator()([samples[i] for i in range(12)])
    assert batch["pixel_values"].shape == (12, 3, 32, 32)
    assert batch["image_ids"].tolist() == [i for i in (100, 101, 102, 103) for _ in range(3)]
    assert batch["scene_labels"].tolist() == [i for i in range(4) for _ in range(3)]
    torch.testing.assert_close(batch["caption_weights"], torch.tensor([0.8, 0.85, 0.9] * 4))
    assert "image_index" not in batch
    texts = tiny_processor().tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert texts[:3] == ["a plane", "many green plane", "the large plane"]


def test_one_makes_every_image_a_sample_with_a_caption_that_changes():
    samples = CaptionedImages(toy_rows(4, captions=3), "one")
    assert len(samples) == 4
    seen = set()
    for epoch in range(20):
        samples.set_epoch(epoch)
        seen.add(samples[0]["captions"][0])
    assert seen == {"a plane", "many green plane", "the large plane"}


def test_k_encodes_an_image_once_for_k_captions():
    samples = CaptionedImages(toy_rows(4, captions=3), "2")
    batch = collator()([samples[i] for i in range(4)])
    assert batch["pixel_values"].shape[0] == 4 and batch["input_ids"].shape[0] == 8
    assert batch["image_index"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch["image_ids"].tolist() == [100, 100, 101, 101, 102, 102, 103, 103]
    assert batch["scene_labels"].shape == batch["caption_weights"].shape == (8,)
    assert all(len(set(samples[i]["captions"])) == 2 for i in range(4))


def test_k_captions_once_encoded_have_the_loss_of_k_pairs():
    model, _ = tiny_fisvl(dropout=0.0)
    samples = CaptionedImages(toy_rows(4, captions=2), "2")
    batch = collator()([samples[i] for i in range(4)])
    once = model(**batch, return_loss=True)
    index = batch.pop("image_index")
    pairs = model(**{**batch, "pixel_values": batch["pixel_values"][index]}, return_loss=True)
    torch.testing.assert_close(once.loss, pairs.loss)


def test_fewer_captions_than_k_are_repeated():
    samples = CaptionedImages(toy_rows(2, captions=2), "5")
    assert len(samples[0]["captions"]) == 5 and set(samples[0]["captions"]) <= {"a plane", "many green plane"}


def test_randomness_follows_seed_epoch_and_index_only():
    rows = toy_rows(4, captions=5)
    collate = collator("lite", deletion_rate=0.3)

    def batch(seed: int, epoch: int) -> dict[str, torch.Tensor]:
        samples = CaptionedImages(rows, "one", seed=seed)
        samples.set_epoch(epoch)
        return collate([samples[i] for i in range(4)])

    first = batch(0, 0)
    torch.rand(5)  # whatever else draws
    again = batch(0, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixel_values"], batch(1, 0)["pixel_values"])
    assert not torch.equal(first["pixel_values"], batch(0, 1)["pixel_values"])


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_hear_of_the_epoch(persistent):
    samples = CaptionedImages(toy_rows(4), "one")
    loader = torch.utils.data.DataLoader(
        samples, batch_size=4, num_workers=1, persistent_workers=persistent, collate_fn=collator("lite")
    )
    seen = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        seen.append(next(iter(loader))["pixel_values"])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_words_are_dropped_at_the_rate():
    rows = toy_rows(8, captions=5)
    samples = CaptionedImages(rows, "all")
    items = [samples[i] for i in range(len(samples))]

    def words(rate: float) -> int:
        return int(collator(deletion_rate=rate)(items)["attention_mask"].sum()) - 2 * len(items)

    assert words(0.5) < words(0.1) < words(0.0)


def test_captions_without_a_word_are_left_out(caplog):
    rows = toy_rows(3).map(
        lambda row, i: {"captions": [["."] * 2, [" ! ", "a plane"], ["a ship"] * 2][i]}, with_indices=True
    )
    with caplog.at_level(logging.WARNING):
        samples = CaptionedImages(rows, "all")
    assert [samples[i]["captions"] for i in range(len(samples))] == [["a plane"], ["a ship"], ["a ship"]]
    assert "3 captions without a word" in caplog.text
    assert samples[0]["caption_weights"] == pytest.approx([0.85])  # that of the second caption
    with pytest.raises(StmineError, match="None of the 1 training images has a caption"):
        CaptionedImages(rows.select([0]), "one")


def test_an_unknown_scene_is_a_scene_of_its_own():
    rows = toy_rows(3).map(lambda row: {"label": -1})
    labels = [CaptionedImages(rows, "one")[i]["label"] for i in range(3)]
    assert len(set(labels)) == 3 and max(labels) < 0


def test_an_unreadable_image_is_replaced_counted_and_named_once(caplog):
    samples = CaptionedImages(toy_rows(6, broken=(2, 3)), "one")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            batch = collator()([samples[i] for i in range(6)])
    assert batch["image_ids"].tolist() == [100, 101, 104, 104, 104, 105]  # the caption goes with its image
    assert batch["scene_labels"].tolist() == [0, 1, 4, 4, 4, 5]
    assert samples.unreadable == 2
    assert caplog.text.count("2.jpg") == caplog.text.count("3.jpg") == 1


def test_unreadable_images_are_counted_across_workers():
    samples = CaptionedImages(toy_rows(6, broken=(2,)), "one")
    loader = torch.utils.data.DataLoader(samples, batch_size=3, num_workers=2, collate_fn=collator())
    assert sum(len(batch["image_ids"]) for batch in loader) == 6
    assert samples.unreadable == 1


def test_a_set_without_a_readable_image_stops():
    samples = CaptionedImages(toy_rows(2, broken=(0, 1)), "one")
    with pytest.raises(StmineError, match="None of the training images can be read"):
        samples[0]
