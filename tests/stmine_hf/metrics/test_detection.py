"""COCO's average precision: equal to pycocotools run by hand and to the definition written out; odd cases."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stmine_hf.errors import StmineError
from stmine_hf.metrics import detection
from stmine_hf.metrics.detection import IOUS, RECALLS, box_ious, detection_scores, match_detections

STATS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
STATS += ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]


def made_up(seed: int, *, images: int = 12, classes: int = 3, crowds: bool = False) -> tuple[dict, list[dict]]:
    """Boxes of all sizes, detections near them and elsewhere, a score for several of them (ties)."""
    random = np.random.default_rng(seed)
    annotations, found = [], []
    for image in range(images):
        for _ in range(random.integers(0, 6)):
            x, y, w, h = (*random.uniform(0, 300, 2), *random.choice([12, 50, 150], 2) * random.uniform(0.8, 1.2, 2))
            row = {"image_id": image, "category_id": int(random.integers(classes)) * 5, "bbox": [x, y, w, h]}
            crowd = int(crowds and random.random() < 0.3)
            annotations.append({**row, "id": len(annotations) + 1, "area": w * h * 0.9, "iscrowd": crowd})
            for _ in range(random.integers(0, 3)):
                shift = random.normal(0, 0.1, 4) * [w, h, w, h]
                box = [float(value) for value in np.array([x, y, w, h]) + shift]
                found.append({**row, "bbox": box, "score": round(float(random.random()), 1)})
        box = [*random.uniform(0, 300, 2), 40.0, 40.0]
        found.append({"image_id": image, "category_id": 0, "bbox": box, "score": float(random.random())})
    categories = [{"id": 5 * k, "name": f"class {k}"} for k in range(classes)]
    images = [{"id": image, "width": 500, "height": 500} for image in range(images)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def by_pycocotools(truth: dict, found: list[dict], images: list[int] | None = None) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(found))), "bbox")
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def by_definition(truth: dict, found: list[dict], category: int, iou: float) -> float | None:
    """AP of one class from its definition: greedy matching by falling score, 101 interpolated precisions."""
    boxes = {image["id"]: [] for image in truth["images"]}
    for row in truth["annotations"]:
        if row["category_id"] == category:
            x, y, w, h = row["bbox"]
            boxes[row["image_id"]].append({"box": (x, y, x + w, y + h), "crowd": row["iscrowd"], "taken": False})
    to_find = sum(not box["crowd"] for own in boxes.values() for box in own)
    if not to_find:
        return None
    verdicts = []
    own = [row for row in found if row["category_id"] == category]
    for row in sorted(own, key=lambda row: -row["score"]):
        x, y, w, h = row["bbox"]
        best, overlap_of_best, excused = None, iou, False
        for box in boxes[row["image_id"]]:
            left, top, right, bottom = box["box"]
            shared = max(0, min(x + w, right) - max(x, left)) * max(0, min(y + h, bottom) - max(y, top))
            overlap = shared / (w * h if box["crowd"] else w * h + (right - left) * (bottom - top) - shared)
            if box["crowd"]:
                excused |= overlap >= iou
            elif not box["taken"] and overlap >= overlap_of_best:
                best, overlap_of_best = box, overlap
        if best is not None:
            best["taken"] = True
        if best is not None or not excused:
            verdicts.append(best is not None)
    right = np.cumsum(verdicts)
    precision = right / np.arange(1, len(verdicts) + 1)
    recall = right / to_find
    return float(np.mean([max(precision[recall >= level], default=0.0) for level in RECALLS]))


@pytest.mark.parametrize("crowds", [False, True], ids=["plain", "crowds"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed, crowds):
    truth, found = made_up(seed, crowds=crowds)
    metrics = detection_scores(truth, found).metrics
    for name, value in zip(STATS, by_pycocotools(truth, found), strict=True):
        assert metrics.get(name, -1.0) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("crowds", [False, True], ids=["plain", "crowds"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_definition(seed, crowds):
    truth, found = made_up(seed, images=5, classes=2, crowds=crowds)
    for number, row in enumerate(found):
        row["score"] += number * 1e-6  # of equal scores the order is pycocotools' own affair
    scores = detection_scores(truth, found)
    per_iou = np.array([[by_definition(truth, found, c["id"], iou) for c in truth["categories"]] for iou in IOUS])
    for k, row in enumerate(scores.per_class()):
        assert row["ap"] == pytest.approx(per_iou[:, k].mean(), abs=1e-9)
        assert row["ap50"] == pytest.approx(per_iou[0, k], abs=1e-9)
    assert scores.metrics["ap"] == pytest.approx(per_iou.mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_threshold_finds_equals_the_matches_of_each_image(seed):
    truth, found = made_up(seed, images=5, classes=2, crowds=True)
    for number, row in enumerate(found):
        row["score"] += number * 1e-6
    scores = detection_scores(truth, found)
    for k, category in enumerate(truth["categories"]):
        for threshold in (0.05, 0.4, 0.9):
            right = 0
            for image in truth["images"]:
                boxes, sure = (
                    [row for row in rows if (row["image_id"], row["category_id"]) == (image["id"], category["id"])]
                    for rows in (truth["annotations"], sorted(found, key=lambda row: -row["score"]))
                )
                sure = [row["bbox"] for row in sure if row["score"] > threshold]
                crowd = [bool(row.get("iscrowd", 0)) for row in boxes]
                labels = ([1] * len(boxes), [1] * len(sure))
                right += sum(match_detections([row["bbox"] for row in boxes], labels[0], crowd, sure, labels[1])[0])
            assert scores.found(k, threshold) == pytest.approx(right / scores.boxes[k])


def test_the_best_threshold_has_the_best_f1():
    boxes = [[20 * n, 0, 10, 10] for n in range(4)]
    truth = {"images": [{"id": 1}], "categories": [{"id": n, "name": str(n)} for n in (1, 2, 3)]}
    truth["annotations"] = [{"image_id": 1, "category_id": label, "bbox": box} for label in (1, 2) for box in boxes]
    right = [{"bbox": box, "score": score} for box, score in zip(boxes, (0.5, 0.22, 0.21, 0.18), strict=True)]
    wrong = [{"bbox": [0, 500 + n, 9, 9], "score": score} for n, score in enumerate((0.3, 0.17, 0.12))]
    found = [{**row, "image_id": 1, "category_id": 1} for row in right + wrong]
    found += [{**row, "image_id": 1, "category_id": label} for row in wrong for label in (2, 3)]
    scores = detection_scores(truth, found)
    # 2 of 3 right above 0.3; above 0.15: 4 right of 6, F1 0.8; above 0.2: 3 right of 4, F1 0.75
    assert scores.best_threshold(0) == 0.15 and scores.found(0, 0.15) == 1 and scores.found(0, 0.4) == 0.25
    assert scores.best_threshold(1) is None and scores.found(1, 0.05) == 0  # nothing is right
    assert scores.best_threshold(2) is None and scores.found(2, 0.05) is None  # nothing is there


def test_perfect_is_one():
    truth, _ = made_up(0)
    found = [{**row, "score": 0.5} for row in truth["annotations"]]
    metrics = detection_scores(truth, found).metrics
    assert {name: metrics[name] for name in STATS if name not in ("ar1", "ar10")} == pytest.approx(
        dict.fromkeys(set(STATS) - {"ar1", "ar10"}, 1.0)
    )


def test_without_detections_everything_is_zero():
    truth, _ = made_up(0)
    metrics = detection_scores(truth, []).metrics
    assert set(metrics) == set(STATS) and set(metrics.values()) == {0.0}


def test_a_class_without_boxes_takes_no_part():
    truth, found = made_up(1, classes=2)
    before = detection_scores(truth, found)
    truth["categories"].append({"id": 99, "name": "never seen"})
    more = [*found, {"image_id": 0, "category_id": 99, "bbox": [0, 0, 9, 9], "score": 0.9}]
    after = detection_scores(truth, more)
    assert after.metrics == before.metrics
    nobody = {"name": "never seen", "boxes": 0, "ap": None, "ap50": None, "ar100": None}
    assert after.per_class() == [*before.per_class(), nobody]
    assert np.isnan(after.pr_curve(name="never seen")).all() and after.pr_curve() == pytest.approx(before.pr_curve())


def test_sizes_without_boxes_have_no_key():
    truth = {"images": [{"id": "a"}], "categories": [{"id": 1, "name": "deer"}]}
    truth["annotations"] = [{"image_id": "a", "category_id": 1, "bbox": [0, 0, 200, 200]}]
    found = [{"image_id": "a", "category_id": 1, "bbox": [0, 0, 200, 200], "score": 1}]
    metrics = detection_scores(truth, found).metrics
    names = ["ap", "ap50", "ap75", "ap_large", "ar1", "ar10", "ar100", "ar_large"]
    assert metrics == pytest.approx(dict.fromkeys(names, 1.0))
    assert json.loads(json.dumps(metrics)) == metrics


def test_nothing_to_find_at_all():
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "deer"}]}
    wrong = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]
    for scores in (detection_scores(truth, wrong), detection_scores({**truth, "images": []}, [])):
        assert scores.metrics == {} and np.isnan(scores.pr_curve()).all() and scores.per_class()[0]["ap"] is None


def test_detections_in_crowds_are_excused_and_crowds_need_not_be_found():
    box = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 50, 50]}
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "person"}]}
    truth["annotations"] = [box, {**box, "iscrowd": 1, "bbox": [100, 100, 200, 100]}]
    right = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
    in_crowd = [{**right, "bbox": [100 + 20 * i, 110, 20, 40], "score": 0.9} for i in range(5)]
    scores = detection_scores(truth, [right, *in_crowd])
    assert scores.metrics["ap"] == pytest.approx(1) and scores.boxes == (1,)
    elsewhere = {**right, "bbox": [300, 300, 20, 40], "score": 0.9}
    assert detection_scores(truth, [right, elsewhere]).metrics["ap"] == pytest.approx(0.5)


@pytest.mark.parametrize("ids", [[0, 1, 2], [7, 7, 7], None], ids=["from 0", "repeated", "none"])
def test_ids_of_annotations_do_not_matter(ids):
    """pycocotools takes a match with id 0 for no match."""
    boxes = [[0, 0, 40, 40], [100, 0, 40, 40], [0, 100, 40, 40]]
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "deer"}]}
    truth["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes]
    for row, number in zip(truth["annotations"], ids or [], strict=False):
        row["id"] = number
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5} for box in boxes]
    assert detection_scores(truth, found).metrics["ap"] == pytest.approx(1)


def test_some_of_the_images_are_scored_by_themselves():
    truth, found = made_up(2)
    half = [image["id"] for image in truth["images"]][::2]
    scores = detection_scores(truth, found, images=half)
    expected = by_pycocotools(truth, found, half)
    assert [scores.metrics.get(name, -1.0) for name in STATS] == pytest.approx(list(expected), abs=1e-12)
    assert sum(scores.boxes) == sum(row["image_id"] in half for row in truth["annotations"])


def test_curve_of_precision_over_recall():
    truth, found = made_up(3)
    scores = detection_scores(truth, found)
    for iou in (0.5, 0.75):
        curve = scores.pr_curve(iou)
        assert curve.shape == (101,) and (np.diff(curve) <= 1e-12).all()
        assert curve.mean() == pytest.approx(scores.metrics[f"ap{round(100 * iou)}"])
    assert scores.pr_curve(name="class 1").mean() == pytest.approx(scores.per_class()[1]["ap50"])
    with pytest.raises(ValueError, match=r"iou: expected one of \[0.5, 0.55.*found 0.3"):
        scores.pr_curve(0.3)
    with pytest.raises(ValueError, match="no class 'deer' among class 0"):
        scores.pr_curve(name="deer")


def test_what_is_given_stays_as_it_was_and_nothing_is_printed(capsys):
    truth, found = made_up(0)
    before = json.dumps([truth, found])
    detection_scores(truth, found)
    assert json.dumps([truth, found]) == before and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "detection 1: there is no image 77 in the truth"),
        ({"category_id": 1}, "detection 1: there is no category 1 in the truth"),
        ({"bbox": [0, 0, float("nan"), 1]}, "detection 1: expected four finite numbers"),
        ({"bbox": [0, 0, 1]}, "detection 1: expected four finite numbers"),
        ({"score": float("inf")}, "detection 1: expected four finite numbers and a finite score"),
    ],
)
def test_detections_that_do_not_fit_are_named(change, message):
    truth, found = made_up(0)
    with pytest.raises(ValueError, match=message):
        detection_scores(truth, [{**found[0], **change}])
    with pytest.raises(ValueError, match="images: 77 is not an image of the truth"):
        detection_scores(truth, found, images=[0, 77])


def test_overlaps():
    random = np.random.default_rng(0)
    boxes, others = (np.hstack([random.uniform(0, 9, (n, 2)), random.uniform(0, 5, (n, 2))]) for n in (5, 7))
    from pycocotools.mask import iou

    crowd = [True, False, True, False, False, True, False]
    for flags in (None, crowd):
        assert box_ious(boxes, others, flags) == pytest.approx(iou(boxes, others, flags or [0] * 7))
    assert box_ious([], others).shape == (0, 7)
    assert box_ious([[1, 1, 0, 0]], [[1, 1, 0, 0]]).tolist() == [[0.0]]  # no area, no overlap


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_those_of_pycocotools(seed):
    truth, found = made_up(seed, images=6, crowds=True)
    for number, row in enumerate(found):
        row["score"] += number * 1e-6
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
    for image in truth["images"]:
        there = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        own = sorted((row for row in found if row["image_id"] == image["id"]), key=lambda row: -row["score"])
        seen, verdicts = match_detections(
            *([row[key] for row in there] for key in ("bbox", "category_id", "iscrowd")),
            *([row[key] for row in own] for key in ("bbox", "category_id")),
        )
        expected_seen, expected = {}, {}
        for result in evaluation.evalImgs:
            if result and result["image_id"] == image["id"] and result["aRng"] == [0, 1e10]:
                expected_seen |= zip(result["gtIds"], result["gtMatches"][0] > 0, strict=True)
                for number, match, excused in zip(
                    result["dtIds"], result["dtMatches"][0], result["dtIgnore"][0], strict=True
                ):
                    expected[number] = None if excused else bool(match)
        assert verdicts == [expected[row["id"]] for row in own]
        crowds = [row["iscrowd"] for row in there]
        assert [hit for hit, crowd in zip(seen, crowds, strict=True) if not crowd] == [
            expected_seen[row["id"]] for row in there if not row["iscrowd"]
        ]


def test_without_pycocotools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(StmineError, match=r"pip install 'stmine-hf\[train\]'"):
        detection_scores(*made_up(0))


def test_examples_in_docstrings():
    results = doctest.testmod(detection)
    assert results.attempted >= 3 and results.failed == 0
