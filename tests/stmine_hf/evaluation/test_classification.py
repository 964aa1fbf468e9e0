"""evaluate_posts: figures are those of judging post by post, whatever the batch; bad posts cost only themselves."""

from __future__ import annotations

import io
import json
import sys

import datasets
import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv
from odd_posts import ODD_TEXTS, bad_images, noise, odd_images
from PIL import Image
from rich.console import Console

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.classification import EvaluationError, evaluate_posts
from stmine_hf.images import PixelOptions
from stmine_hf.modeling.mttv.processing_mttv import Regions

WORDS = ["fake", "news", "harbour", "假", "新", "闻", "真", "图"]


def post_table(rows: list[dict], labels: tuple[str, ...] = ("fake", "real")) -> datasets.Dataset:
    features = datasets.Features(
        {
            "post_id": datasets.Value("string"),
            "text": datasets.Value("string"),
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(labels)),
        }
    )
    return datasets.Dataset.from_list(rows, features, split="val")


def posts(count: int = 21) -> list[dict]:
    """Texts of all lengths, every third without an image."""
    random = np.random.default_rng(0)
    return [
        {
            "post_id": f"p{number}",
            "text": " ".join(random.choice(WORDS, size=random.integers(1, 20))),
            "image": None if number % 3 == 0 else noise(20 + number, 30),
            "label": "fake" if random.random() < 0.6 else "real",
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def rows():
    return posts()


@pytest.fixture(scope="module")
def parts():
    return tiny_mttv(seed=1)


@pytest.fixture(scope="module")
def report(parts, rows):
    return evaluate_posts(*parts, rows, batch_size=4, progress=False)


def detector(images: list[Image.Image]) -> list[Regions]:
    return [Regions(np.array([[0, 0, image.width / 2, image.height]]), np.array([0.9])) for image in images]


@torch.no_grad()
def one_by_one(model, processor, rows, **options) -> np.ndarray:
    """(N, L) logits, each of a post that was alone."""
    return np.concatenate(
        [model(**processor(text=[row["text"]], images=[row["image"]], **options)).logits.numpy() for row in rows]
    )


def test_figures_equal_those_of_single_posts(parts, rows, report):
    logits = one_by_one(*parts, rows)
    assert report.logits == pytest.approx(logits, abs=1e-5)
    assert report.post_ids == [row["post_id"] for row in rows] and report.images == 14
    said, right = logits.argmax(axis=1), np.array([row["label"] != "fake" for row in rows])
    assert 0 < (said == right).mean() < 1
    assert report.metrics["accuracy"] == pytest.approx((said == right).mean())
    assert report.metrics["recall_fake"] == pytest.approx((said[~right] == 0).mean())
    assert report.metrics["precision_real"] == pytest.approx(right[said == 1].mean())
    assert report.recalls == [report.metrics["recall_fake"], report.metrics["recall_real"]]
    assert {"macro_f1", "f1_fake", "f1_real", "ece", "brier", "loss"} <= report.metrics.keys()
    assert report.by_class == report.to_dict()["by_class"]
    for row, posts in zip(report.by_class, ((~right).sum(), right.sum()), strict=True):
        scores = {name: report.metrics[f"{name}_{row['name']}"] for name in ("precision", "recall", "f1")}
        assert row == {"name": row["name"], "posts": posts, **scores}


@pytest.mark.parametrize("batch_size", [1, 5, 21, 1000])
@pytest.mark.parametrize("attend_missing", [True, False])
def test_figures_do_not_depend_on_the_batch(rows, batch_size, attend_missing):
    parts = tiny_mttv(seed=1, attend_missing=attend_missing)
    expected = one_by_one(*parts, rows, detector=detector)
    found = evaluate_posts(*parts, rows, batch_size=batch_size, detector=detector, progress=False)
    assert found.logits == pytest.approx(expected, abs=1e-5)
    assert found.post_ids == [row["post_id"] for row in rows]


def test_labels_are_matched_by_name(parts, rows, report):
    for names in (("fake", "real"), ("real", "fake")):
        table = post_table(rows, names)
        found = evaluate_posts(*parts, table, pixels=PixelOptions.parse("0,99"), progress=False)
        assert found.to_dict()["pixels"] == {"stretch": "0,99", "bands": None}
        assert found.metrics == pytest.approx(report.metrics) and found.split == "val"
        assert evaluate_posts(*parts, table.to_iterable_dataset(), progress=True).metrics == found.metrics
    with pytest.raises(EvaluationError, match=r"labels are 'fake', 'true', the model's are 'fake', 'real'"):
        evaluate_posts(*parts, post_table([{**rows[0], "label": "fake"}], ("fake", "true")), progress=False)


def test_rows_need_not_have_all_labels_of_the_model(parts, rows):
    fake = [row for row in rows if row["label"] == "fake"]
    found = evaluate_posts(*parts, post_table(fake, ("fake",)), progress=False)
    assert found.metrics == evaluate_posts(*parts, post_table(fake), progress=False).metrics
    assert np.isfinite([*found.metrics.values()]).all() and found.to_dict()["support"] == {
        "fake": len(fake),
        "real": 0,
    }
    assert "No post has the label real: macro F1 counts its F1 as 0" in found.table().caption
    with pytest.raises(EvaluationError, match=r"labels are 'fake', 'hoax', the model's .* --label hoax=LABEL"):
        evaluate_posts(*parts, post_table(fake, ("fake", "hoax")), progress=False)


def test_rows_without_a_known_label_are_skipped(parts, rows, report):
    odd = [{**rows[0], "post_id": "u", "label": None}, {**rows[0], "post_id": "x", "label": "rumour"}]
    found = evaluate_posts(*parts, [*odd, *rows, {"label": None}], progress=False)
    assert found.metrics == pytest.approx(report.metrics) and len(found.truth) == 21
    expected = [("u", "no label"), ("x", "label 'rumour', expected fake or real"), ("row 23", "no label")]
    assert [tuple(skip) for skip in found.skipped] == expected
    table = post_table([{**rows[0], "label": -1}, *rows])
    assert [tuple(skip) for skip in evaluate_posts(*parts, table, progress=False).skipped] == [("p0", "no label")]


def test_a_post_with_an_unreadable_image_is_judged_by_its_text(parts, rows):
    bad = bad_images()
    broken = [{**rows[0], "post_id": name, "image": {"bytes": content, "path": None}} for name, content in bad.items()]
    broken.append({**rows[0], "post_id": "gone", "image": {"bytes": None, "path": "/nowhere/at/all.jpg"}})
    for given in (broken, post_table(broken)):
        found = evaluate_posts(*parts, given, batch_size=3, progress=False)
        assert found.logits == pytest.approx(one_by_one(*parts, [{**rows[0], "image": None}] * 5), abs=1e-5)
        assert found.images == 0 and found.skipped == []
        reasons = {skip.path: skip.reason for skip in found.images_unreadable}
        assert list(reasons) == [row["post_id"] for row in broken]
        assert "cut short" in reasons["cut.png"] and "over the limit" in reasons["huge.png"]
        assert reasons["gone"] == "file not found" and "not an image" in reasons["words.jpg"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found.table())
    assert "5 unreadable images, the first cut.png" in console.export_text()


def test_odd_posts_are_judged(parts):
    texts = [{"post_id": name, "text": text, "image": None, "label": "fake"} for name, text in ODD_TEXTS.items()]
    images = [
        {"post_id": name, "text": "news", "image": {"bytes": content, "path": None}, "label": "real"}
        for name, content in odd_images().items()
    ]
    together = evaluate_posts(*parts, texts + images, progress=False)
    alone = evaluate_posts(*parts, texts + images, batch_size=1, progress=False)
    assert together.skipped == together.images_unreadable == []
    assert together.logits == pytest.approx(alone.logits, abs=1e-5) and np.isfinite(together.logits).all()
    assert together.images == len(images)


def test_a_model_of_texts_sees_no_images(rows):
    model, processor = tiny_mttv(vision_config=None)
    found = evaluate_posts(model, processor, rows, progress=False)
    blank = [{**row, "image": None} for row in rows]
    assert found.metrics == evaluate_posts(model, processor, blank, progress=False).metrics
    assert found.images == 0 and found.images_unreadable == []


def test_features_take_the_place_of_images(parts, rows, report):
    model, processor = parts
    store = {}
    for row in rows:
        if row["image"] is not None:
            pixels = processor(text=[""], images=[row["image"]])["pixel_values"]
            maps = model.mttv.get_visual_features(pixels)[0][0]
            store[row["post_id"]] = {"global_features": maps, "region_features": maps.new_zeros(0, len(maps))}
    unseen = [{**row, "image": None} for row in rows]
    found = evaluate_posts(model, processor, unseen, features=store, batch_size=4, progress=False)
    assert found.logits == pytest.approx(report.logits, abs=1e-5) and found.images == 14


def test_one_post_that_breaks_the_tokenizer_costs_only_itself(parts, rows, report):
    bad = [{**rows[0], "post_id": "bad", "text": "half an emoji \ud83d"}, {**rows[0], "post_id": "no", "text": 3.5}]
    found = evaluate_posts(*parts, rows[:5] + bad + rows[5:], batch_size=9, progress=False)
    assert found.logits == pytest.approx(report.logits, abs=1e-5)
    assert [skip.path for skip in found.skipped] == ["bad", "no"]


def test_nothing_to_measure_is_a_clear_error(parts, rows):
    with pytest.raises(EvaluationError, match=r"found none to classify \(0 skipped\)"):
        evaluate_posts(*parts, [], progress=False)
    with pytest.raises(EvaluationError, match=r"found none to classify \(1 skipped; the first: p0, no label\)"):
        evaluate_posts(*parts, [{**rows[0], "label": None}], progress=False)


def test_broken_weights_are_told(rows):
    model, processor = tiny_mttv()
    with torch.no_grad():
        model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(StmineError, match="gives NaN"):
        evaluate_posts(model, processor, rows, progress=False)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(rows, training):
    model, processor = tiny_mttv()
    model.train(training)
    evaluate_posts(model, processor, rows[:2], progress=False)
    assert model.training is training and model.classifier.training is training
    with pytest.raises(EvaluationError):
        evaluate_posts(model, processor, [], progress=False)
    assert model.training is training


def test_what_is_saved(report, tmp_path):
    folder = tmp_path / "new" / "folder"
    report.save(folder, predictions=True)
    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"] == report.metrics
    assert (results["rows"], results["images"], results["model"]) == (21, 14, "MttvForSequenceClassification")
    assert np.sum(results["confusion_matrix"]) == 21 and sum(results["support"].values()) == 21
    assert sum(results["reliability"]["count"]) == 21 and len(results["reliability"]["count"]) == 15
    assert {"python", "torch", "transformers"} <= results["versions"].keys()
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["post_id"] for row in predictions] == report.post_ids
    assert np.mean([row["label"] == row["prediction"] for row in predictions]) == report.metrics["accuracy"]
    assert all(row["probabilities"][row["prediction"]] >= 0.5 for row in predictions)
    for name in ("confusion_matrix.png", "reliability.png"):
        with Image.open(folder / name) as image:
            assert image.format == "PNG" and min(image.size) > 400
    report.save(tmp_path / "plain")
    assert not (tmp_path / "plain" / "predictions.jsonl").exists()


def test_table_shows_every_label_in_80_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.table())
    lines = [line for line in console.export_text().splitlines() if "│" in line]
    for label in ("fake", "real"):
        shown = [cell.strip() for cell in next(line for line in lines if label in line).strip("│").split("│")]
        scores = [f"{report.metrics[f'{name}_{label}']:.4f}" for name in ("precision", "recall", "f1")]
        assert shown[:4] == [label, *scores]
    assert any("accuracy" in line and f"{report.metrics['accuracy']:.4f}" in line for line in lines)


def test_without_matplotlib_the_numbers_are_still_written(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StmineError, match="pip install 'stmine-hf"):
        report.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == report.metrics
