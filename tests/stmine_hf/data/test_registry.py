"""A new set is one builder file and its name in the registry: all else follows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT

from stmine_hf.data.toy.toy_scenes import write_scenes

BUILDER = '''"""Harbours: 24 drawn images of harbours."""

from .about import ASK, About
from .captioned_images import CaptionedImages


class Harbours(CaptionedImages):
    """Folder: `dataset.json` and `images/`."""

    TITLE = "Harbours"
    ABOUT = About(terms=f"For the images {ASK}", mind=("They are drawn",), chinese="绘制的港口图片")
    SHORT = "harbours"
    OFFICIAL_SIZES = (16, 4, 4)
    FILES = "dataset_harbours.json and the folder images/"
    SOURCE = "https://example.org/harbours"
    CLASSES = ("harbour",)
    CITATION = "@misc{harbours}"
'''
TRIAL = """
import io, json, sys
from contextlib import redirect_stdout
from stmine_hf import load_dataset
from stmine_hf.cli import main
from stmine_hf.training import FisvlDataArguments

def stmine(*words):
    printed = io.StringIO()
    with redirect_stdout(printed):
        try:
            main(words)
        except SystemExit as end:
            assert not end.code, end.code
    return printed.getvalue()

folder, out = sys.argv[1:]
rows = load_dataset("harbours", data_dir=folder, split="train", cache_dir=f"{out}/cache")
stmine("data", "export", "harbours", "--data-dir", folder, "--out", f"{out}/export")
stmine("publish", "build", "harbours", "--out", f"{out}/card")
fields = FisvlDataArguments.__dataclass_fields__
print("FOUND", json.dumps({
    "rows": len(rows),
    "columns": rows.column_names,
    "list": [entry["name"] for entry in json.loads(stmine("data", "list", "--json"))["datasets"]],
    "help": [
        "harbours" in stmine("evaluate", "fisvl", "--help"),
        "harbours" in fields["dataset"].metadata["help"],
        "harbours" not in stmine("evaluate", "sat", "--help"),
    ],
}))
"""


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the package with a made-up set: one more file, one more name."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "stmine_hf", copy / "stmine_hf", ignore=shutil.ignore_patterns("__pycache__"))
    if not (copy / "stmine_hf" / "modeling").exists():
        (copy / "stmine_hf" / "modeling").symlink_to(ROOT / "modeling")
    data = copy / "stmine_hf" / "data"
    (data / "harbours.py").write_text(BUILDER, encoding="utf-8")
    registry = (data / "__init__.py").read_text(encoding="utf-8")
    assert registry.count('"captions": ("rsicd", ') == 1
    (data / "__init__.py").write_text(
        registry.replace('"captions": ("rsicd", ', '"captions": ("harbours", "rsicd", '), encoding="utf-8"
    )
    return copy


def test_a_builder_and_its_name_are_all_that_a_new_set_needs(source, tmp_path):
    folder = tmp_path / "harbours"
    write_scenes(folder, count=24, size=32)
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").unlink()
    (folder / "dataset_harbours.json").write_text(json.dumps(content | {"dataset": "harbours"}))
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, str(folder), str(tmp_path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    assert found["rows"] > 0 and "captions" in found["columns"]
    assert found["list"][:2] == ["harbours", "rsicd"] and all(found["help"])
    for card in ("export", "card"):
        assert "Harbours" in (tmp_path / card / "README.md").read_text(encoding="utf-8")
