"""evaluate_retrieval: the numbers are those of a double loop over embeddings, bad images cost only themselves."""

from __future__ import annotations

import io
import json
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.retrieval import EvaluationError, evaluate_retrieval
from stmine_hf.images import PixelOptions
from tests.helpers import save_tiny_fisvl, tiny_fisvl

KEYS = ["txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean"]
WORDS = ["planes", "ships", "trees", "river", "bridge", "cars", "beach", "stadium", "lake", "pond"]


def image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((40, 36))


@pytest.fixture(scope="module")
def rows():
    """Twelve images with three captions each, of which many are shared."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        words = random.choice(WORDS, size=(3, 2))
        captions = [f"many {first} near the {second}" for first, second in words]
        rows.append({"image": image(number), "captions": captions, "filename": f"{number}.png"})
    assert len({text for row in rows for text in row["captions"]}) < 36
    return rows


@pytest.fixture(scope="module")
def parts():
    return tiny_fisvl()


@pytest.fixture(scope="module")
def report(parts, rows):
    return evaluate_retrieval(*parts, rows, batch_size=5, progress=False)


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def loop_recall(model, processor, rows, *, same_text: bool) -> dict[str, float]:
    """The protocol from its definition: one embedding at a time, sorted lists, sets of right answers."""
    with torch.no_grad():
        images = [model.get_image_features(processor(images=row["image"]).pixel_values).pooler_output for row in rows]
        encode = [processor(text=text) for row in rows for text in row["captions"]]
        texts = [model.get_text_features(e.input_ids, e.attention_mask).pooler_output for e in encode]
    pairs = [(image, text) for image, row in enumerate(rows) for text in row["captions"]]  # caption j: owner, text

    def right(image: int, caption: int) -> bool:
        owner, text = pairs[caption]
        return image == owner or (same_text and text in rows[image]["captions"])

    scores = [[float((i * t).sum()) for t in texts] for i in images]
    sides = {"txt": [], "img": []}
    for i in range(len(rows)):
        order = sorted(range(len(pairs)), key=lambda j: (scores[i][j], j), reverse=True)
        sides["txt"].append(next(rank for rank, j in enumerate(order) if right(i, j)))
    for j in range(len(pairs)):
        order = sorted(range(len(rows)), key=lambda i: (scores[i][j], i), reverse=True)
        sides["img"].append(next(rank for rank, i in enumerate(order) if right(i, j)))
    recall = {
        f"{s}_r{k}": 100 * sum(rank < k for rank in ranks) / len(ranks)
        for s, ranks in sides.items()
        for k in (1, 5, 10)
    }
    return recall | {"r_mean": sum(recall.values()) / 6}


def test_numbers_equal_the_protocol_by_hand(parts, rows, report):
    assert list(report.metrics) == KEYS + [f"same_text_{key}" for key in KEYS]
    paper, same_text = (loop_recall(*parts, rows, same_text=same_text) for same_text in (False, True))
    assert {key: report.metrics[key] for key in KEYS} == pytest.approx(paper)
    assert {key: report.metrics[f"same_text_{key}"] for key in KEYS} == pytest.approx(same_text)
    assert all(report.metrics[f"same_text_{key}"] >= report.metrics[key] for key in KEYS)
    assert same_text["r_mean"] > paper["r_mean"]
    assert all(type(value) is float for value in report.metrics.values())


def test_every_image_and_every_different_caption_is_embedded_once(parts, rows, report):
    model, processor = parts
    seen = {"images": 0, "texts": []}

    class Counting:
        config, device, dtype, training = model.config, model.device, model.dtype, False

        def eval(self):
            return self

        def train(self, mode):
            return self

        def get_image_features(self, pixel_values):
            seen["images"] += len(pixel_values)
            return model.get_image_features(pixel_values)

        def get_text_features(self, input_ids, attention_mask, **more):
            seen["texts"] += [
                tuple(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)
            ]
            return model.get_text_features(input_ids, attention_mask, **more)

    again = evaluate_retrieval(Counting(), processor, rows, batch_size=5, progress=False)
    assert again.metrics == report.metrics
    assert seen["images"] == report.images == 12
    assert len(seen["texts"]) == len(set(seen["texts"])) == report.distinct_captions < report.captions == 36


def test_datasets_and_streams_give_the_same(parts, rows, report):
    table = datasets.Dataset.from_list(
        [{**row, "image": {"bytes": encoded(row["image"]), "path": None}} for row in rows], split="val"
    ).cast_column("image", datasets.Image())
    found = evaluate_retrieval(*parts, table, progress=False)
    assert found.metrics == report.metrics and found.split == "val"
    assert evaluate_retrieval(*parts, table.to_iterable_dataset(), progress=True).metrics == report.metrics


def test_unreadable_images_are_skipped_with_their_captions(parts, rows, report):
    broken = {"bytes": encoded(image(99))[:60], "path": None}
    images = [{"bytes": encoded(row["image"]), "path": None} for row in rows]
    table = [{**row, "image": image} for row, image in zip(rows, images, strict=True)]
    table[4:4] = [
        {"image": broken, "captions": ["a lake"], "filename": "cut.png"},
        {"image": {"bytes": b"no image", "path": None}, "captions": ["a lake"], "filename": "text.png"},
        {"image": {"bytes": None, "path": "/nowhere/at/all.png"}, "captions": ["a lake"], "filename": "gone.png"},
        {"image": images[0], "captions": [], "filename": "silent.png"},
    ]
    table = datasets.Dataset.from_list(table).cast_column("image", datasets.Image())
    found = evaluate_retrieval(*parts, table, progress=False)
    assert found.metrics == report.metrics and found.images == 12 and found.captions == 36
    assert [skip.path for skip in found.skipped] == ["cut.png", "text.png", "gone.png", "silent.png"]
    assert "cut short" in found.skipped[0].reason and found.skipped[3].reason == "it has no caption"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found.table())
    assert "skipped 4 images, the first cut.png" in console.export_text()


def test_nothing_to_measure_is_a_clear_error(parts):
    bad = [{"image": {"bytes": b"x", "path": None}, "captions": ["a lake"], "filename": "bad.png"}]
    with pytest.raises(EvaluationError, match=r"found none \(1 skipped; the first: bad.png, not an image"):
        evaluate_retrieval(*parts, bad, progress=False)
    with pytest.raises(EvaluationError, match=r"found none \(0 skipped\)"):
        evaluate_retrieval(*parts, [], progress=False)
    assert issubclass(EvaluationError, StmineError)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(rows, training):
    model, processor = tiny_fisvl()
    model.train(training)
    evaluate_retrieval(model, processor, rows[:2], progress=False)
    assert model.training is training
    with pytest.raises(EvaluationError):
        evaluate_retrieval(model, processor, [], progress=False)
    assert model.training is training


def test_what_is_saved(parts, report, tmp_path):
    report.save(tmp_path / "new" / "folder")
    results = json.loads((tmp_path / "new/folder/results.json").read_text())
    assert results["metrics"] == report.metrics
    assert (results["images"], results["captions"], results["model"]) == (12, 36, "FisvlModel")
    assert results["recall_curve"]["txt"][0] == report.metrics["txt_r1"]
    assert results["same_text_recall_curve"]["img"][9] == report.metrics["same_text_img_r10"]
    assert {"python", "torch", "transformers"} <= results["versions"].keys()
    with Image.open(tmp_path / "new/folder/recall_curve.png") as curve:
        assert curve.format == "PNG" and min(curve.size) > 500


def test_a_local_folder_is_named_without_its_place(rows, tmp_path):
    from stmine_hf import FisvlModel, FisvlProcessor

    folder = save_tiny_fisvl(tmp_path / "my-model")
    parts = FisvlModel.from_pretrained(folder), FisvlProcessor.from_pretrained(folder)
    report = evaluate_retrieval(*parts, rows[:2], progress=False)
    assert report.model == "my-model" and str(tmp_path) not in json.dumps(report.to_dict())
    assert "pixels" not in report.to_dict()
    report = evaluate_retrieval(*parts, rows[:2], pixels=PixelOptions.parse("0,99"), progress=False)
    assert report.to_dict()["pixels"] == {"stretch": "0,99", "bands": None}


def test_table_shows_both_protocols_in_80_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.table())
    lines = console.export_text().splitlines()
    for name, prefix in (("paper", ""), ("same text", "same_text_")):
        line = next(line for line in lines if name in line and "│" in line)
        shown = [cell.strip() for cell in line.strip("│").split("│")]
        assert shown == [name, *(f"{report.metrics[prefix + key]:.2f}" for key in KEYS)]


def test_without_matplotlib_the_numbers_are_still_written(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StmineError, match="pip install 'stmine-hf"):
        report.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == report.metrics
