"""Files: as listed, without a place to hide code in, of sizes that the Hub takes, without paths of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...cards.files import MANIFEST, files_in
from ..repo_type import RepoType
from ..repository import manifest_of, read_manifest
from .findings import Finding, judged

# Formats that run code when they are opened, or may.
_PICKLES = {
    ".bin", ".ckpt", ".dill", ".h5", ".joblib", ".keras", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2", ".pth",
}  # fmt: skip
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # protocol 2 and later begin so
_ARCHIVE = re.compile(rb"PK\x03\x04|\x1f\x8b|.{257}ustar", re.DOTALL)
_LARGEST_TEXT = 10_000_000  # bytes; the Hub wants what is larger in its storage for large files
_MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:work|root|home|tmp|mnt|opt|Users)/\w[\w./-]*|[A-Z]:\\Users\\\w+")
_VOCABULARIES = {"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"}  # their words are nobody's folders


def check_manifest(folder: Path, required: bool) -> Finding:
    """Every file is listed with its size and hash, and every listed file is there."""
    if not (folder / MANIFEST).is_file():
        if required:
            return Finding("manifest", "failed", f"no {MANIFEST}: build the folder with `stmine publish build`")
        return Finding("manifest", "ok", f"none, and none needed ({len(files_in(folder))} files)")
    listed, found = read_manifest(folder), manifest_of(folder)
    faults = [f"{name} is missing" for name in sorted(listed.keys() - found.keys())]
    faults += [f"{name} is not listed" for name in sorted(found.keys() - listed.keys())]
    faults += [f"{name} has changed" for name in sorted(listed.keys() & found.keys()) if listed[name] != found[name]]
    return judged("manifest", faults, f"{len(found)} files, sizes and SHA-256 as listed")


def check_pickles(folder: Path, repo_type: RepoType) -> Finding:
    """No file that runs code when it is opened, whatever its name says; weights are safetensors that open."""
    faults, tensors = [], 0
    for name in files_in(folder):
        file = folder / name
        with file.open("rb") as opened:
            start = opened.read(4096)
        if file.suffix.lower() in _PICKLES or _PICKLE.match(start):
            faults.append(f"{name} is, or may be, a pickle: publish safetensors")
        elif repo_type != "dataset" and _ARCHIVE.match(start):
            faults.append(f"{name} is an archive, which may hold pickles (PyTorch's files are such)")
        elif file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as weights:
                    tensors += len(weights.keys())
            except SafetensorError as error:
                faults.append(f"{name} is no safetensors file, or cut short ({error})")
    return judged("no pickles", faults, f"{tensors} tensors in safetensors" if tensors else "none")


def check_sizes(folder: Path) -> Finding:
    """No empty files, no giant texts."""
    faults, total = [], 0
    for name in files_in(folder):
        size = (folder / name).stat().st_size
        total += size
        if size == 0 and Path(name).name not in {"__init__.py", ".gitkeep"}:
            faults.append(f"{name} is empty")
        if size > _LARGEST_TEXT and _text(folder / name) is not None:
            faults.append(f"{name} is a text of {size:,} bytes, more than {_LARGEST_TEXT:,}")
    return judged("sizes", faults, f"{total:,} bytes in all")


def check_paths(folder: Path) -> Finding:
    """No text names a folder of the machine it was written on."""
    faults = []
    for name in files_in(folder):
        known = name in _VOCABULARIES or (folder / name).stat().st_size > _LARGEST_TEXT
        if not known and (text := _text(folder / name)) is not None:
            faults += [f"{name}: {hit[0]}" for hit in _MACHINE_PATH.finditer(text)]
    return judged("no paths of a machine", faults, "none")


def check_license(folder: Path) -> Finding:
    there = (folder / "LICENSE").is_file()
    return judged("license file", [] if there else ["no LICENSE: the terms of the code"], "LICENSE")


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
