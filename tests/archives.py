"""Build the wheel and the source archive so that anybody gets the same bytes from the same commit.

    python -m tests.archives dist       make dist

Built from a copy of the repository's files; times are that of the last commit, or SOURCE_DATE_EPOCH. What setuptools
puts into a source archive keeps the times and the owner of the moment, so it is packed anew.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = ("tests/", "hub_cards/", "examples/", ".")


def build(out: Path) -> dict[str, str]:
    """Write the archives into a folder.

    Returns:
        The SHA-256 of each.
    """
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in filter(None, _git("ls-files", "-z").split("\0")):
            if (ROOT / name).is_file() and not name.startswith(_LEFT_OUT):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        program = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONPATH": ""}
        subprocess.run([sys.executable, "-c", program], cwd=copy, env=environment, check=True, capture_output=True)
        made = sorted((copy / "dist").iterdir())
        for path in made:
            if path.suffix == ".whl":
                shutil.copyfile(path, out / path.name)
            else:
                _repack(path, out / path.name, epoch)
    return {path.name: hashlib.sha256((out / path.name).read_bytes()).hexdigest() for path in made}


def _repack(source: Path, target: Path, epoch: int) -> None:
    packed = io.BytesIO()
    with tarfile.open(source) as before, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as after:
        for member in sorted(before.getmembers(), key=lambda member: member.name):
            content = before.extractfile(member) if member.isfile() else None
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode, member.pax_headers = 0o755 if member.isdir() else 0o644, {}
            after.addfile(member, content)
    with open(target, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as zipped:
        zipped.write(packed.getvalue())


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    for name, digest in build(Path(sys.argv[1])).items():
        print(digest, name)
