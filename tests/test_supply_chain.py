"""The wheel and the source archive: built twice they are equal, and a fresh environment runs the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from archives import build
from audit import summary
from documents import ROOT
from helpers import save_tiny_fisvl
from toy_rows import toy_rows


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, list[dict[str, str]]]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs the repository's list of files")
    places = [tmp_path_factory.mktemp(name) for name in ("one", "another")]
    return places[0], [build(place) for place in places]


@pytest.mark.slow
def test_archives_are_built_reproducibly(built):
    first, second = built[1]
    assert len(first) == 2 and {name.rpartition(".")[2] for name in first} == {"whl", "gz"}
    assert first == second


@pytest.mark.slow
def test_the_wheel_runs_outside_of_the_checkout(built, tmp_path):
    """Only its libraries come from this environment: the package itself is the installed one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (wheel,) = built[0].glob("*.whl")
    shutil.unpack_archive(wheel, site, "zip")  # of pure Python: that is all an installer does, scripts aside
    (site / "zz_libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    images = tmp_path / "images"
    images.mkdir()
    for number, row in enumerate(toy_rows(3)):
        row["image"].save(images / f"{number}.png")
    model = save_tiny_fisvl(tmp_path / "model")

    def stmine(*words: object) -> str:
        program = f"import stmine_hf.cli as c; assert {str(site)!r} in c.__file__, c.__file__; c.main()"
        command = [tmp_path / "venv" / "bin" / "python", "-c", program, *map(str, words)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    report = json.loads(stmine("index", images, "--out", "index", "--model", model, "--json"))
    assert report["images"] == 3
    assert len(json.loads(stmine("search", "index", "a plane", "--json"))["hits"]) == 3
    assert {"rsicd", "posts"} <= {one["name"] for one in json.loads(stmine("data", "list", "--json"))["datasets"]}
    stmine("data", "export", "toy_scenes", "--option", "count=6", "--out", "export")  # templates of cards
    assert "toy" in (tmp_path / "export" / "README.md").read_text().lower()


def _package(name: str, *vulnerabilities: str) -> dict:
    return {"name": name, "version": "1.0", "vulns": [{"id": one, "fix_versions": ["2.0"]} for one in vulnerabilities]}


def test_an_audit_that_looked_nothing_up_says_so():
    """pip-audit ends with 0 then, and with "No known vulnerabilities found"."""
    left_out = [{"name": name, "skip_reason": "Dependency not found on PyPI"} for name in ("torch", "numpy")]
    assert summary({"dependencies": left_out}) == (
        "not audited: none of 2 packages could be looked up in the database", 2,
    )  # fmt: skip
    said, status = summary({"dependencies": [*left_out, _package("rich")]})
    assert status == 0 and "1 packages looked up, 0 known" in said and "2 could not be looked up: torch, numpy" in said


def test_an_audit_names_what_is_known():
    said, status = summary({"dependencies": [_package("rich"), _package("pillow", "PYSEC-1", "PYSEC-2")]})
    assert status == 1 and "pillow 1.0: PYSEC-2, fixed in 2.0" in said and "2 known" in said
