"""The `evaluate` modules of hub_cards/metrics: opened offline, they give what the functions give."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from stmine_hf.hub.check import check
from stmine_hf.metrics.classification import classification_scores
from stmine_hf.metrics.detection import detection_scores
from stmine_hf.metrics.retrieval import retrieval_recall

MODULES = sorted(path for path in (Path(__file__).parents[3] / "hub_cards" / "metrics").iterdir() if path.is_dir())
random = np.random.default_rng(0)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    evaluate, cache = pytest.importorskip("evaluate"), tmp_path_factory.mktemp("evaluate")

    def load(name):
        (folder,) = (path for path in MODULES if path.name == name)
        return evaluate.load(str(folder), cache_dir=str(cache), experiment_id=name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(cache / "modules"))
        yield load


def computed(metric, predictions, references, batch, **options):
    """At once and in batches, which have to agree."""
    whole = metric.compute(predictions=predictions, references=references, **options)
    for start in range(0, len(predictions), batch):
        end = start + batch
        metric.add_batch(predictions=predictions[start:end], references=references[start:end])
    assert metric.compute(**options) == whole
    return whole


def test_retrieval_recall(load):
    scores = random.random((6, 13)).tolist()
    right = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9, 12], [10, 11]]
    metric = load("retrieval_recall")
    assert computed(metric, scores, right, 4) == retrieval_recall(scores, right)
    assert computed(metric, scores, right, 4, ks=[2]) == retrieval_recall(scores, right, ks=[2])


def test_classification_calibration(load):
    logits, truth = random.normal(size=(20, 3)).tolist(), random.integers(0, 3, 20).tolist()
    metric = load("classification_calibration")
    names = ["fake", "half true", "real"]
    expected = classification_scores(logits, truth, names, bins=5)
    assert computed(metric, logits, truth, 7, labels=names, bins=5) == pytest.approx(expected)
    assert set(metric.compute(predictions=logits, references=truth)) >= {"accuracy", "f1_0", "f1_2", "ece"}


def test_detection_ap(load):
    truth = [
        {
            "bbox": [[0, 0, 10, 10], [20, 20, 8, 8]],
            "category": [0, 1],
            "area": [100.0, 64.0],
            "iscrowd": [False, True],
        },
        {"bbox": [], "category": [], "area": [], "iscrowd": []},
        {"bbox": [[5, 5, 40, 40]], "category": [1], "area": [1600.0], "iscrowd": [False]},
    ]
    found = [
        {"bbox": [[0, 0, 10, 7], [21, 21, 5, 5]], "category": [0, 1], "score": [0.9, 0.8]},
        {"bbox": [[1, 1, 5, 5]], "category": [0], "score": [0.95]},
        {"bbox": [[5, 5, 40, 36]], "category": [1], "score": [0.5]},
    ]
    document = {
        "images": [{"id": image} for image in range(3)],
        "categories": [{"id": 0, "name": "deer"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": image, "bbox": box, "category_id": category, "area": area, "iscrowd": crowd}
            for image, row in enumerate(truth)
            for box, category, area, crowd in zip(*row.values(), strict=True)
        ],
    }
    results = [
        {"image_id": image, "bbox": box, "category_id": category, "score": score}
        for image, row in enumerate(found)
        for box, category, score in zip(*row.values(), strict=True)
    ]
    metric, expected = load("detection_ap"), detection_scores(document, results).metrics
    assert 0 < expected["ap"] < 1
    assert computed(metric, found, truth, 2, labels=["deer", "person"]) == pytest.approx(expected)
    assert computed(metric, found, truth, 2) == pytest.approx(expected)
    single = [{**row, "iscrowd": [False] * len(row["bbox"])} for row in truth]
    assert metric.compute(predictions=found, references=single)["ap"] < expected["ap"]
    torn = [{**found[0], "score": [0.9]}, *found[1:]]
    with pytest.raises(ValueError, match="image 0: 2 boxes, but 1 of score"):
        metric.compute(predictions=torn, references=truth)


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_each_is_a_space_with_a_true_example(folder, load):
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["sdk"] == "gradio" and header["tags"] == ["evaluate", "metric"]
    report = check(folder)
    assert report.passed, report.findings
    metric = load(folder.name)
    lines = re.findall(r">>> (.*)", metric.inputs_description)
    (shown,) = re.findall(r">>> .*\n +([^> ].*)\n", metric.inputs_description)
    known = {"metric": metric}
    for line in lines[1:-1]:
        exec(line, known)
    value, expected = eval(lines[-1], known), eval(shown)
    assert value == pytest.approx(expected)


def test_without_the_package_it_says_what_to_install(tmp_path):
    (tmp_path / "stmine_hf.py").write_text("raise ImportError('no such package')")
    script = f"import evaluate, json; evaluate.load({json.dumps(str(MODULES[0]))}, cache_dir='cache')"
    environment = {"PYTHONPATH": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode and f'{MODULES[0].name} needs stmine-hf: pip install "stmine-hf[train]"' in done.stderr
