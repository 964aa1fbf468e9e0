"""evaluate_detection: the numbers are pycocotools' on one image at a time, bad images cost only themselves."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import datasets
import numpy as np
import pytest
import torch
from helpers_sat import tiny_sat
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from torchvision.ops import box_convert

from stmine_hf.data.boxed_images import row_features
from stmine_hf.data.coco_json import to_coco
from stmine_hf.errors import StmineError
from stmine_hf.evaluation import detection as evaluation_sat
from stmine_hf.evaluation.detection import EvaluationError, evaluate_detection
from stmine_hf.evaluation.worst_misses import MOST, Found, Mark, WorstMisses, _summary, misses_sheet
from stmine_hf.images import PixelOptions
from stmine_hf.outputs import write_output

NAMES = ["deer", "ebike", "person", "target"]  # as in tiny_sat
THRESHOLD = 0.0099  # the tiny model's scores are all near 0.01


def image(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def made_rows(count: int = 9) -> list[dict]:
    """Images of three shapes from two sources with up to four boxes each."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        width, height = ((90, 60), (60, 90), (80, 80))[number % 3]
        boxes = int(random.integers(0, 5)) if number else 2
        xywh = [[*random.uniform(0, 30, 2), *random.uniform(10, 30, 2)] for _ in range(boxes)]
        objects = {
            "id": list(range(10 * number, 10 * number + boxes)),
            "bbox": [[float(value) for value in box] for box in xywh],
            "category": [int(label) for label in random.integers(0, 3, boxes)],
            "area": [float(box[2] * box[3]) for box in xywh],
            "iscrowd": [number == 3 and place == 0 for place in range(boxes)],
        }
        rows.append(
            {
                "image": image(number, width, height),
                "image_id": 100 + number,
                "filename": f"{number}.png",
                "width": width,
                "height": height,
                "objects": objects,
                "source": ("CAMO", "SIRST")[number % 2],
            }
        )
    return rows


def encoded(image: Image.Image) -> dict:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def as_dataset(rows: list[dict], names=NAMES, ids=(1, 13, 18, 90)) -> datasets.Dataset:
    table = [
        {**row, "image": encoded(row["image"]) if isinstance(row["image"], Image.Image) else row["image"]}
        for row in rows
    ]
    return datasets.Dataset.from_list(table, features=row_features(names, ids[: len(names)]), split="val")


@pytest.fixture(scope="module")
def parts():
    return tiny_sat()


@pytest.fixture(scope="module")
def rows():
    return made_rows()


@pytest.fixture(scope="module")
def table(rows):
    return as_dataset(rows)


@pytest.fixture(scope="module")
def report(parts, table):
    return evaluate_detection(*parts, table, batch_size=4, score_threshold=THRESHOLD, progress=False)


@pytest.fixture
def answers(monkeypatch):
    """What the model "finds" from then on: a list for each image in order, of (label, score, xywh box)."""
    given: list[list[tuple]] = []

    def detect_batch(model, processor, images, *, threshold):
        results = []
        for _ in images:
            own = given.pop(0)
            boxes = torch.tensor([box for *_, box in own], dtype=torch.float).reshape(-1, 4)
            results.append(
                {
                    "labels": torch.tensor([label for label, *_ in own], dtype=torch.long),
                    "scores": torch.tensor([score for _, score, _ in own], dtype=torch.float),
                    "boxes": box_convert(boxes, "xywh", "xyxy"),
                }
            )
        return results

    monkeypatch.setattr(evaluation_sat, "detect_batch", detect_batch)
    return given


def by_pycocotools(truth: dict, found: list[dict]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_numbers_are_those_of_pycocotools_on_single_images(parts, rows, table, report):
    model, processor = parts
    found = []
    for row in rows:
        with torch.no_grad():
            outputs = model(**processor(row["image"], return_tensors="pt"))
        sizes = [(row["height"], row["width"])]
        (result,) = processor.post_process_object_detection(outputs, threshold=THRESHOLD, target_sizes=sizes)
        for label, score, box in zip(result["labels"], result["scores"], result["boxes"], strict=True):
            xywh = box_convert(box, "xyxy", "xywh").tolist()
            category = (1, 13, 18, 90)[int(label)]
            found.append({"image_id": row["image_id"], "category_id": category, "bbox": xywh, "score": score.item()})
    assert len(found) == len(report.detections) > 100
    for ours, theirs in zip(report.detections, found, strict=True):
        assert (ours["image_id"], ours["category_id"]) == (theirs["image_id"], theirs["category_id"])
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)
    stats = by_pycocotools(to_coco(table), found)
    assert [report.metrics[key] for key in ("ap", "ap50", "ap75", "ap_small", "ar100")] == pytest.approx(
        [*stats[:4], stats[8]], abs=1e-6
    )
    assert report.split == "val" and (report.fit, report.size) == ("pad", (64, 64))


@pytest.mark.parametrize("batch_size", [1, 9])
def test_the_batch_changes_nothing(parts, table, report, batch_size):
    again = evaluate_detection(
        *parts, table, batch_size=batch_size, score_threshold=THRESHOLD, device="cpu", progress=True
    )
    assert again.metrics == pytest.approx(report.metrics, abs=1e-6)
    assert [row["image_id"] for row in again.detections] == [row["image_id"] for row in report.detections]


def test_streams_lists_and_fits(parts, rows, table, report):
    options = {"score_threshold": THRESHOLD, "progress": False}
    assert evaluate_detection(*parts, table.to_iterable_dataset(), **options).metrics == report.metrics
    plain = evaluate_detection(*parts, rows, **options)
    assert plain.metrics == report.metrics and plain.dataset is None
    bare = [{key: row[key] for key in ("image", "objects")} for row in rows]
    for row in bare:
        row["objects"] = {key: row["objects"][key] for key in ("bbox", "category")}
    assert evaluate_detection(*parts, bare, **options).scores.boxes[0] >= report.scores.boxes[0]  # a crowd less
    stretched = evaluate_detection(*parts, table, fit="stretch", **options)
    assert stretched.fit == "stretch" and parts[1].fit == "pad"
    assert stretched.detections != report.detections


def test_perfect_answers_score_one(parts, rows, table, answers):
    answers += [
        [(label, 0.9, box) for label, box in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)]
        for row in rows
    ]
    perfect = evaluate_detection(*parts, table, progress=False)
    assert perfect.metrics["ap"] == pytest.approx(1) and perfect.worst == []
    assert {source: scores.metrics["ap"] for source, scores in perfect.by_source.items()} == pytest.approx(
        {"CAMO": 1, "SIRST": 1}
    )
    nobody = next(row for row in perfect.scores.per_class() if row["name"] == "target")
    assert nobody["boxes"] == 0 and nobody["ap"] is None  # and the mean is 1 all the same


def test_sources_are_scored_by_themselves(parts, rows, answers):
    for row in rows:
        pairs = zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        answers.append([(label, 0.9, box) for label, box in pairs] if row["source"] == "SIRST" else [])
    report = evaluate_detection(*parts, as_dataset(rows), progress=False)
    sources = report.by_source
    assert sources["CAMO"].metrics["ap"] == 0 and sources["SIRST"].metrics["ap"] == pytest.approx(1)
    assert 0 < report.metrics["ap"] < 1
    assert sum(sum(scores.boxes) for scores in sources.values()) == sum(report.scores.boxes)
    answers += [[] for _ in rows]
    alone = [{**row, "source": "CAMO"} for row in rows]
    assert evaluate_detection(*parts, as_dataset(alone), progress=False).by_source == {}


def test_classes_are_matched_by_name(parts, rows, answers):
    """The data's order, spelling and number of classes may differ from the model's."""
    names = ["Person", "walrus", "deer"]  # labels 0, 1, 2 of the rows
    model_label = {0: 2, 2: 0}
    for row in rows:
        pairs = zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        found = [(model_label[label], 0.9, box) for label, box in pairs if label in model_label]
        answers.append([*found, (1, 0.8, [0, 0, 9, 9])])  # an ebike, which the data do not know
    report = evaluate_detection(*parts, as_dataset(rows, names), pixels=PixelOptions.parse("0,99"), progress=False)
    assert report.to_dict()["pixels"] == {"stretch": "0,99", "bands": None}
    ap = {row["name"]: row["ap"] for row in report.scores.per_class()}
    assert ap == {"Person": pytest.approx(1), "walrus": 0, "deer": pytest.approx(1)}
    assert [row["highest_score"] for row in report.by_class] == [pytest.approx(0.9), None, pytest.approx(0.9)]
    assert [row["found"] for row in report.by_class] == [1, 0, 1]
    assert report.hints() == []  # the table says that the model does not know walruses
    assert report.to_dict()["by_class"] == report.by_class
    assert report.model_names == {"Person": "person", "deer": "deer"}
    low = {**report.by_class[0], "found": 0.2, "threshold": 0.3, "found_lower": 0.9}
    report.__dict__["by_class"] = [low]  # it is computed once
    assert "--threshold 0.4,person=0.3" in report.hints()[0]  # the name that `stmine detect` knows
    assert report.unknown_classes == ["walrus"]
    assert {row["category_id"] for row in report.detections} == {1, 18}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.table())
    assert "unknown to the model, so all their boxes are missed: walrus" in " ".join(console.export_text().split())


def test_no_class_in_common(rows, parts):
    with pytest.raises(EvaluationError, match=r"model's 4 classes \(deer, ebike, .*data's 3 \(cat.*no name in common"):
        evaluate_detection(*parts, as_dataset(rows, ["cat", "dog", "cow"]), progress=False)
    unnamed = tiny_sat(id2label=None, num_labels=3)
    assert evaluate_detection(*unnamed, as_dataset(rows, ["cat", "dog", "cow"]), progress=False).unknown_classes == []


def test_bad_images_are_skipped_with_their_boxes(parts, rows, report):
    whole = encoded(image(99))["bytes"]
    bad = {**rows[0], "width": 90, "height": 60}
    table = [*rows]
    table[4:4] = [
        {**bad, "image_id": 1, "image": {"bytes": whole[:200], "path": None}, "filename": "cut.png"},
        {**bad, "image_id": 2, "image": {"bytes": b"no image", "path": None}, "filename": "text.png"},
        {**bad, "image_id": 3, "image": {"bytes": None, "path": "/nowhere/at/all.png"}, "filename": "gone.png"},
        {**bad, "image_id": 4, "image": image(5, 45, 30), "filename": "shrunk.png"},
    ]
    found = evaluate_detection(*parts, as_dataset(table), score_threshold=THRESHOLD, progress=False)
    assert found.metrics == report.metrics and len(found.truth["images"]) == len(rows)
    assert [skip.path for skip in found.skipped] == ["cut.png", "text.png", "gone.png", "shrunk.png"]
    assert found.skipped[3].reason == "its boxes are for 90 x 60 px, it has 45 x 30"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found.table())
    assert "skipped 4 images, the first cut.png" in console.export_text()


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "I;16", "1", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (1200, 20)])
def test_images_of_every_kind(parts, mode, size):
    if mode == "I;16":
        pixels = Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint16).reshape(size[1], size[0]))
    else:
        pixels = image(0, *size).convert(mode)
    row = {"image": pixels, "objects": {"bbox": [[0, 0, *size]], "category": [0]}}
    found = evaluate_detection(*parts, [row], score_threshold=THRESHOLD, progress=False)
    assert found.skipped == [] and found.scores.boxes == (1, 0, 0, 0)
    for one in found.detections:
        x, y, w, h = one["bbox"]
        assert min(x, y, w, h) >= 0 and x + w <= size[0] + 1e-3 and y + h <= size[1] + 1e-3


def test_images_are_turned_as_their_exif_says(parts, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image(0, 90, 60).save(tmp_path / "turned.jpg", exif=exif)
    row = {**made_rows(1)[0], "image": str(tmp_path / "turned.jpg"), "width": 60, "height": 90}
    found = evaluate_detection(*parts, as_dataset([row]), progress=False)
    assert found.skipped == [] and found.truth["images"][0]["width"] == 60


def test_nothing_to_measure_is_a_clear_error(parts, rows):
    empty = {**rows[0], "objects": {key: [] for key in rows[0]["objects"]}}
    bad = {**rows[0], "image": {"bytes": b"x", "path": None}, "filename": "bad.png"}
    with pytest.raises(EvaluationError, match=r"1 images without any box \(1 skipped; the first: bad.png, not an im"):
        evaluate_detection(*parts, as_dataset([bad, empty]), progress=False)
    with pytest.raises(EvaluationError, match=r"found 0 images without any box \(0 skipped\)"):
        evaluate_detection(*parts, [], progress=False)
    captions = datasets.Dataset.from_list([{"image_id": 1, "captions": ["a lake"]}])
    with pytest.raises(EvaluationError, match=r"expected rows with objects .*, found image_id, captions"):
        evaluate_detection(*parts, captions, progress=False)
    assert issubclass(EvaluationError, StmineError)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode_and_its_norms(rows, training):
    model, processor = tiny_sat()
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate_detection(model, processor, rows[:2], progress=False)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(EvaluationError):
        evaluate_detection(model, processor, [], progress=False)
    assert model.training is training


def test_what_is_saved(report, table, tmp_path):
    folder = tmp_path / "new" / "folder"
    report.save(folder)
    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"] == report.metrics and (results["images"], results["split"]) == (9, "val")
    assert results["by_source"].keys() == {"CAMO", "SIRST"} and len(results["by_class"]) == 4
    assert {"python", "torch", "pycocotools"} <= results["versions"].keys()
    detections = json.loads((folder / "detections.json").read_text())
    stats = by_pycocotools(to_coco(table), detections)
    assert stats[0] == pytest.approx(report.metrics["ap"], abs=0.01)  # boxes are written to 0.01 px
    for name in ("pr_curve.png", "worst_misses.png"):
        with Image.open(folder / name) as image:
            assert image.format == "PNG" and min(image.size) > 300


def test_a_clean_sheet_leaves_no_sheet(parts, rows, answers, tmp_path):
    write_output(tmp_path / "worst_misses.png", lambda path: path.write_bytes(b"of an earlier evaluation"))
    answers += [
        [(label, 0.9, box) for label, box in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)]
        for row in rows
    ]
    evaluate_detection(*parts, rows, progress=False).save(tmp_path)
    assert not (tmp_path / "worst_misses.png").exists()


def test_tables_fit_80_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.table())
    console.print(report.class_table())
    text = console.export_text()
    assert f"{report.metrics['ap']:.4f}" in text and "CAMO" in text and "…" not in text
    assert "classes without boxes: 1" in text and "nan" not in text.lower()


def test_without_matplotlib_the_rest_is_still_written(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StmineError, match="pip install 'stmine-hf"):
        report.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == report.metrics
    assert (tmp_path / "worst_misses.png").is_file()


# ---------------------------------------------------------------------------------------------------------------------
# The worst misses.


def miss_row(name: str, boxes: list[list[float]], crowd: bool = False) -> dict:
    objects = {"bbox": boxes, "category": [0] * len(boxes), "iscrowd": [crowd] * len(boxes)}
    return {"filename": name, "objects": objects}


def test_the_worst_misses_come_first():
    worst, image = WorstMisses(), Image.new("RGB", (100, 100))
    nothing = Found([], [], [])
    right = Found([0], [0.9], [[0, 0, 50, 50]])
    worst.add(miss_row("found", [[0, 0, 50, 50]]), image, right, NAMES)
    worst.add(miss_row("small missed", [[0, 0, 10, 10]]), image, nothing, NAMES)
    worst.add(miss_row("large missed", [[0, 0, 60, 60]]), image, nothing, NAMES)
    worst.add(miss_row("nothing there", []), image, Found([1], [0.6], [[0, 0, 50, 50]]), NAMES)
    worst.add(miss_row("unsure", []), image, Found([1], [0.3], [[0, 0, 50, 50]]), NAMES)
    worst.add(miss_row("crowd", [[0, 0, 90, 90]], crowd=True), image, right, NAMES)
    misses = worst.sorted()
    assert [miss.filename for miss in misses] == ["large missed", "nothing there", "small missed"]
    assert [miss.badness for miss in misses] == pytest.approx([0.36, 0.6 * 0.25, 0.01])
    (mark,) = misses[1].found
    assert (mark.text, mark.right) == ("ebike 0.60", False) and mark.box == pytest.approx((0, 0, 150, 150))
    assert misses_sheet(misses, title="worst").width > 600
    for truth, found, said in (
        ([False], [], "missed 1 of 1 object, no detection"),
        ([True, False], [False], "missed 1 of 2 objects, 1 of 1 detection wrong"),
        ([], [True, False], "no object, 1 of 2 detections wrong"),
    ):
        marks = [[Mark((0, 0, 1, 1), "", right) for right in rights] for rights in (truth, found)]
        assert _summary(misses[0]._replace(truth=marks[0], found=marks[1])) == said


def test_only_the_worst_are_kept():
    worst, image = WorstMisses(), Image.new("L", (100, 50))
    for number in range(30):
        worst.add(miss_row(f"{number}", [[0, 0, 1 + number % 20, 10]]), image, Found([], [], []), NAMES)
    kept = [int(miss.filename) for miss in worst.sorted()]
    assert len(kept) == MOST and kept[:4] == [19, 18, 17, 16] and all(number % 20 >= 20 - MOST for number in kept)
    assert {miss.image.size for miss in worst.sorted()} == {(300, 150)}


def test_each_source_has_its_place_among_the_worst():
    worst, image = WorstMisses(), Image.new("RGB", (100, 100))
    for number in range(20):
        worst.add({**miss_row(f"camo {number}", [[0, 0, 90, 90]]), "source": "CAMO"}, image, Found([], [], []), NAMES)
    for number in range(3):
        row = {**miss_row(f"target {number}", [[0, 0, 3 - number, 3]]), "source": "SIRST"}
        worst.add(row, image, Found([], [], []), NAMES)
    names = [miss.filename for miss in worst.sorted()]
    assert names[:6] == ["camo 0", "target 0", "camo 1", "target 1", "camo 2", "target 2"] and len(names) == MOST


# ---------------------------------------------------------------------------------------------------------------------
# Real images, real weights.


@pytest.mark.slow
@pytest.mark.parametrize(("fit", "official"), [("pad", 0.2395), ("stretch", 0.2240)])
def test_converted_nanodet_reaches_the_official_programs_ap(shared_data, tmp_path, parity, fit, official):
    from stmine_hf import load_dataset
    from stmine_hf.conversion.sat import convert_checkpoint
    from stmine_hf.loading import load_sat

    weights = shared_data.parent / "weights" / "nanodet_m_coco" / "model.safetensors"
    folder = shared_data / "detection" / "coco_small"
    for needed in (weights, folder):
        if not needed.exists():
            pytest.skip(f"needs real data: no {needed}")
    convert_checkpoint(weights, tmp_path / "nanodet")
    rows = load_dataset("coco_json", data_dir=folder, split="val", cache_dir=tmp_path / "cache")
    report = evaluate_detection(*load_sat(tmp_path / "nanodet"), rows, fit=fit, progress=False)
    assert len(report.truth["images"]) == 242 and report.skipped == []
    parity(f"AP on coco_small val, {fit}, against the official program's", abs(report.metrics["ap"] - official), 3e-3)
