"""What every test shares: no network, caches of its own, and the way to the real data."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Before transformers, datasets or torch are imported: they read these once.
_CACHE = tempfile.mkdtemp(prefix="stmine-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_MODULES_CACHE"] = os.path.join(_CACHE, "modules")
os.environ["HF_ASSETS_CACHE"] = os.path.join(_CACHE, "assets")
os.environ["XDG_CACHE_HOME"] = os.path.join(_CACHE, "user")
os.environ["HF_DATASETS_CACHE"] = os.path.join(_CACHE, "datasets")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker: the workers already share out the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    "parity",  # the fixture and the table of comparisons with the authors' programs
    "hub_server",  # the fixture `hub`: a Hub on this machine
]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder that holds `remote_sensing/` (real captioned images); tests that need it are skipped without it."""
    folder = Path(os.environ.get("STMINE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "remote_sensing").is_dir():
        pytest.skip(f"needs real data: no remote_sensing/ in {folder} (point STMINE_DATA at the folder that has it)")
    return folder
