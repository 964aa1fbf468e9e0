"""What evaluations share: files that read back, names without places, rows that fail by themselves."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import datasets
import pytest
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.reports import (
    dataset_names,
    model_name,
    save_report,
    undecoded,
    versions,
    with_present_names,
)
from stmine_hf.images import decode_image
from stmine_hf.outputs import Outputs


def test_a_failed_image_does_not_cost_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def draw():
        from matplotlib.figure import Figure

        return Figure()

    message = r"pip install 'stmine-hf\[train\]'"
    with Outputs(tmp_path / "new" / "one") as outputs, pytest.raises(StmineError, match=message):
        save_report(outputs, {"a": 1}, {"a.png": draw})
    assert json.loads((tmp_path / "new/one/results.json").read_text()) == {"a": 1}


def test_a_model_is_named_without_its_place(tmp_path):
    (tmp_path / "mine").mkdir()
    assert model_name(SimpleNamespace(name_or_path=str(tmp_path / "mine"))) == "mine"
    assert model_name(SimpleNamespace(name_or_path="somebody/a-model")) == "somebody/a-model"
    assert model_name(SimpleNamespace(name_or_path="")) == "SimpleNamespace"


def test_names_of_rows_that_have_none():
    assert dataset_names([]) == (None, None)
    rows = datasets.Dataset.from_list([{"a": 1}], split="val")
    assert dataset_names(rows)[1] == "val"


def test_a_broken_image_is_an_error_of_its_row():
    good = io.BytesIO()
    Image.new("RGB", (3, 2)).save(good, "PNG")
    table = datasets.Dataset.from_list([{"image": {"bytes": b, "path": None}} for b in (good.getvalue(), b"no")])
    table = table.cast_column("image", datasets.Image())
    first, second = undecoded(table)
    assert decode_image(first["image"]).size == (3, 2)
    with pytest.raises(OSError):
        decode_image(second["image"])
    assert undecoded([1, 2]) == [1, 2]


def test_versions_of_what_is_installed_only():
    found = versions("typer", "no-such-package")
    assert {"python", "torch", "typer"} <= found.keys() and "no-such-package" not in found


def test_results_of_version_0_1_under_present_names():
    former = {
        "pictures": 3,
        "metrics": {"r_mean": 1.5, "honest_r_mean": 2.5},
        "best": {"eval_honest_img_r1": 1.0},
        "honest_recall_curve": {"k": [1]},
        "pictures_unreadable": [],
    }
    assert with_present_names(former) == {
        "images": 3,
        "metrics": {"r_mean": 1.5, "same_text_r_mean": 2.5},
        "best": {"eval_same_text_img_r1": 1.0},
        "same_text_recall_curve": {"k": [1]},
        "images_unreadable": [],
    }
