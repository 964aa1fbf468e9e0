"""Samples and batches with boxes: crowds, classes by name, seeds and epochs, images that cannot be read."""

import logging

import pytest
import torch
from boxed_rows import NAMES, boxed_rows
from helpers_sat import tiny_sat
from torchvision.ops import box_convert

from stmine_hf.errors import StmineError
from stmine_hf.training.sat.collator import SatCollator
from stmine_hf.training.sat.samples import BoxedImages
from stmine_hf.training.sat.transforms import SatTransform, build_augmentation

LABEL2ID = {name: i for i, name in enumerate(NAMES)}


def collator(augmentation: str = "none") -> SatCollator:
    return SatCollator(SatTransform(build_augmentation(augmentation), tiny_sat()[1]))


def test_an_item_is_an_image_with_its_boxes_without_crowds():
    rows = boxed_rows(4)
    samples = BoxedImages(rows, NAMES, LABEL2ID)
    assert len(samples) == 4
    x, y, width, height = rows[1]["objects"]["bbox"][0]
    assert samples[1]["boxes"].tolist() == [[x, y, x + width, y + height]]
    assert samples[1]["class_labels"].tolist() == [1] and samples[1]["image_id"] == 101
    assert samples[1]["image"].size == (64, 48)


def test_classes_go_by_name():
    model_labels = {"person": 0, "cat": 1, "target": 2, "ebike": 3, "deer": 4}
    samples = BoxedImages(boxed_rows(4), NAMES, model_labels)
    assert [int(samples[i]["class_labels"][0]) for i in range(4)] == [4, 3, 0, 2]
    with pytest.raises(StmineError, match=r"does not have: 'deer', 'target'; the model's are 'ebike', 'person'"):
        BoxedImages(boxed_rows(4), NAMES, {"ebike": 0, "person": 1})


def test_a_batch_is_what_the_model_takes():
    samples = BoxedImages(boxed_rows(4, empty=(2,)), NAMES, LABEL2ID)
    batch = collator()([samples[i] for i in range(4)])
    assert batch["pixel_values"].shape == (4, 3, 64, 64) and batch["pixel_values"].dtype == torch.float32
    assert [len(row["boxes"]) for row in batch["labels"]] == [1, 1, 0, 1]
    shown = box_convert(batch["labels"][0]["boxes"], "cxcywh", "xyxy")[0] * 64
    torch.testing.assert_close(shown, samples[0]["boxes"][0] + torch.tensor([0.0, 8.0, 0.0, 8.0]))  # letterbox
    model, _ = tiny_sat()
    assert torch.isfinite(model(**batch).loss)


def test_a_batch_without_any_box_teaches_that_there_is_nothing():
    samples = BoxedImages(boxed_rows(3, empty=(1, 2)), NAMES, LABEL2ID)
    batch = collator("mild")([samples[1], samples[2]])
    model, _ = tiny_sat()
    outputs = model.train()(**batch)
    outputs.loss.backward()
    assert outputs.loss > 0 and outputs.loss_dict["giou"] == 0
    grads = [model.head[0].predictor.bias.grad[:4], model.sat.backbone.stem.convolution.weight.grad]
    assert all(grad.isfinite().all() and grad.abs().sum() > 0 for grad in grads)


def test_randomness_follows_seed_epoch_and_index_only():
    collate = collator("nanodet_m")

    def batch(seed: int, epoch: int) -> torch.Tensor:
        samples = BoxedImages(boxed_rows(4), NAMES, LABEL2ID, seed)
        samples.set_epoch(epoch)
        return collate([samples[i] for i in range(4)])["pixel_values"]

    first = batch(0, 0)
    torch.rand(5)  # whatever else draws
    assert torch.equal(first, batch(0, 0))
    assert not torch.equal(first, batch(1, 0)) and not torch.equal(first, batch(0, 1))


def test_workers_hear_of_the_epoch():
    samples = BoxedImages(boxed_rows(4), NAMES, LABEL2ID)
    loader = torch.utils.data.DataLoader(
        samples, batch_size=4, num_workers=1, persistent_workers=True, collate_fn=collator("nanodet_m")
    )
    seen = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        seen.append(next(iter(loader))["pixel_values"])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_an_unreadable_image_is_replaced_with_its_boxes_counted_and_named_once(caplog):
    samples = BoxedImages(boxed_rows(6, broken=(2, 3)), NAMES, LABEL2ID)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            items = [samples[i] for i in range(6)]
    assert [item["image_id"] for item in items] == [100, 101, 104, 104, 104, 105]
    assert items[2]["class_labels"].tolist() == [0] and torch.equal(items[2]["boxes"], items[4]["boxes"])
    assert samples.unreadable == 2
    assert caplog.text.count("2.jpg") == caplog.text.count("3.jpg") == 1


def test_a_set_without_a_box_or_a_readable_image_stops():
    with pytest.raises(StmineError, match="None of the 2 training images has a box"):
        BoxedImages(boxed_rows(2, empty=(0, 1)), NAMES, LABEL2ID)
    samples = BoxedImages(boxed_rows(2, broken=(0, 1)), NAMES, LABEL2ID)
    with pytest.raises(StmineError, match="None of the training images can be read"):
        samples[0]
