"""A Space laid out: complete without this package being installed, and the Spaces of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from documents import ROOT
from hub_cache import lay_into_cache

from stmine_hf.cards.files import files_in
from stmine_hf.errors import StmineError
from stmine_hf.hub.build import build
from stmine_hf.hub.check import check
from stmine_hf.hub.repository import read_manifest

SPACES = [ROOT / "hub_cards" / "space", *sorted((ROOT / "hub_cards" / "metrics").iterdir())]
MODELS = ("fisvl-lite-rsicd", "mttv-lite-weibo", "sat-coco-small", "sat-indiscernible")
# Of a machine that knows nothing of this package but what lies beside the app.
VISIT = """
import runpy, sys
from importlib import metadata

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
known = metadata.distribution
metadata.distribution = lambda name: known("no-such-package" if name == "stmine-hf" else name)
runpy.run_path("app.py")
import stmine_hf
from stmine_hf.demo.tools import HIDDEN, Tools

assert stmine_hf.__path__[0].startswith(sys.argv[1]), stmine_hf.__path__
tools = Tools()
print(tools.found_first()[0].name, tools.checked(0).attribution.label, len(tools.spotted(0, 0.4).boxes))
assert tools.objects(HIDDEN)
"""


@pytest.mark.parametrize("space", SPACES, ids=lambda folder: folder.name)
def test_spaces_of_this_checkout_are_fit_as_they_are_and_laid_out(space, tmp_path):
    assert check(space).passed
    out = tmp_path / "my-space"
    build(space, out)
    report = check(out)
    assert report.passed, report.findings
    lines = (out / "requirements.txt").read_text().split()
    assert {"torch>=2.6", "safetensors>=0.8"} <= {*lines} and not [line for line in lines if "stmine" in line]
    assert {"app.py", "LICENSE", "stmine_hf/cli.py", "stmine_hf/modeling/sat/modeling_sat.py"} <= {*files_in(out)}


def test_laid_out_again_it_is_the_same_and_never_in_its_own_place(tmp_path):
    out = tmp_path / "my-space"
    for _ in range(2):
        build(SPACES[0], out)
    build(out, tmp_path / "copy")
    assert read_manifest(tmp_path / "copy") == read_manifest(out)
    with pytest.raises(StmineError, match="into another folder"):
        build(out, out)


@pytest.mark.slow
def test_laid_out_space_works_where_the_package_is_not_installed(tmp_path):
    if not all((ROOT / "hub_cards" / name / "model.safetensors").is_file() for name in MODELS):
        pytest.skip("needs the shipped checkpoints")
    space, home = tmp_path / "my-space", tmp_path / "home"
    build(SPACES[0], space)
    for name in MODELS:
        lay_into_cache(home, f"stmine-hf/{name}", ROOT / "hub_cards" / name)
    (tmp_path / "visit.py").write_text(VISIT, encoding="utf-8")
    places = {"HF_HOME": str(home), "HF_ASSETS_CACHE": str(tmp_path / "assets"), "PYTHONPATH": str(space)}
    done = subprocess.run(
        [sys.executable, tmp_path / "visit.py", space],
        cwd=space,
        env=os.environ | places | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name, label, boxes = done.stdout.split()
    assert name.startswith("airport") and label == "fake" and int(boxes) > 0
