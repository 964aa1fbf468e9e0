"""A folder that `stmine export` wrote: its manifest, its checksums and its networks, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import StmineError
from ..outputs import sha256_of
from .onnx_graph import Network, OpenvinoNetwork, import_onnxruntime, open_onnx

MANIFEST = "export.json"
ALIKE = ("onnx", "openvino", "fp16")  # formats whose embeddings may be mixed with those of the model
_NETWORKS = (".onnx", ".xml")  # suffixes of files that `open_network` opens


@dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
        folder: of the files.
        format: such as "onnx".
        settings: of images and texts, see the README in the folder.
        parts: the names of its networks, such as "image" and "text".
        facts: the other entries of the manifest.
    """

    folder: Path
    format: str
    settings: dict[str, Any]
    parts: tuple[str, ...]
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path, method: str) -> Export:
        """Read a folder, and check its files against their checksums.

        Args:
            folder: of an export.
            method: that the model has to be of.

        Raises:
            StmineError: no export of this method, a damaged one, or one that this version does not know.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.get("method") != method or not isinstance(manifest.get("settings"), dict):
            raise StmineError(
                f"{folder / MANIFEST}: expected an export of a {method} model, found {manifest.get('method')!r}. "
                f"Write it again: stmine export {method}"
            )
        require_undamaged(folder, manifest)
        parts = tuple(Path(name).stem for name in manifest["files"] if Path(name).suffix in _NETWORKS)
        facts = {name: value for name, value in manifest.items() if name not in ("settings", "files", "format")}
        return cls(folder, str(manifest.get("format")), manifest["settings"], parts, facts)

    def network(self, part: str, threads: int | None = None, *, quick: bool = False) -> Network:
        """Open a network of it; see `open_network`.

        Raises:
            StmineError: it has none of this name, or the runtime is missing or cannot open it.
        """
        for suffix in _NETWORKS:
            if part in self.parts and (file := self.folder / f"{part}{suffix}").is_file():
                return open_network(file, threads, quick=quick)
        raise StmineError(
            f"{self.folder}: expected the network {part!r}, found {', '.join(self.parts)} alone. Export the model "
            "again with it, or use the model itself."
        )


def is_export(folder: str | Path, method: str) -> bool:
    """Whether a folder says that it is an export of a method's model.

    Raises:
        StmineError: its manifest is damaged.
    """
    return (Path(folder) / MANIFEST).is_file() and read_manifest(folder).get("method") == method


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """
    Raises:
        StmineError: no manifest, or not a JSON object.
    """
    return read_json(Path(folder) / MANIFEST)


def require_undamaged(folder: Path, manifest: Mapping[str, Any]) -> None:
    """
    Raises:
        StmineError: a file is missing or differs from its checksum.
    """
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(name == Path(name).name for name in files):
        raise StmineError(f"{folder / MANIFEST}: expected the names of files with their checksums: export again.")
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise StmineError(f"{folder / name} is damaged or was changed: export the model again.")


def open_network(file: Path, threads: int | None = None, *, quick: bool = False) -> Network:
    """Open a network on the CPU.

    Args:
        file: of ONNX (.onnx) or OpenVINO (.xml).
        threads: None: as OMP_NUM_THREADS says, else as the runtime does by default.
        quick: start sooner instead of running faster.

    Raises:
        StmineError: the runtime is missing, or cannot open it.
    """
    if threads is None and (asked := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]).isdigit():
        threads = int(asked)
    is_onnx = file.suffix == ".onnx"
    require(*(("onnxruntime",) if is_onnx else ("openvino", "openvino")))
    try:
        return open_onnx(file, threads, quick=quick) if is_onnx else OpenvinoNetwork(file, threads)
    except Exception as error:  # of the runtimes, which have types of their own
        reason = " ".join(str(error).split())[:300]
        raise StmineError(f"{file}: the exported model cannot be opened ({reason}). Export it again.") from error


def require(package: str, extra: str = "export") -> Any:
    """Import an optional package.

    Raises:
        StmineError: it is not installed.
    """
    try:
        return import_onnxruntime() if package == "onnxruntime" else import_module(package)
    except ImportError:
        raise StmineError(f"This needs the package {package}: pip install 'stmine-hf[{extra}]'") from None
