"""The builders' files as loading scripts of datasets 3.6, the last that runs such: the same rows as through ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import loading_scripts
import pytest
from data_folders import NAMES, source

import stmine_hf.data

SCRIPTS = Path(stmine_hf.data.__file__).parent


@pytest.mark.slow
def test_the_files_load_as_scripts_of_datasets_3_6(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "datasets==3.6.*", "pillow", "pyyaml"]
    if subprocess.run(pip, capture_output=True).returncode:
        pytest.skip("needs a package index: pip found no datasets 3.6")

    sources = {name: source(name, tmp_path / name) for name in NAMES}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    command = [str(python), loading_scripts.__file__, str(SCRIPTS), str(tmp_path / "sources.json")]
    caches = {"HF_HOME": str(tmp_path / "hf")}
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and name != "PYTHONPATH"}
    subprocess.run([*command, str(tmp_path / "rows.json")], check=True, env={**own, **caches}, cwd=tmp_path)

    found = json.loads((tmp_path / "rows.json").read_text())
    assert found.pop("datasets").startswith("3.6.") and list(found) == list(NAMES)
    for name, options in sources.items():
        splits = stmine_hf.load_dataset(name, cache_dir=tmp_path / "cache", **options)
        ours = {split: loading_scripts.told(rows) for split, rows in splits.items()}
        assert len(ours) == 3 and json.loads(json.dumps(ours)) == found[name], name
