"""Files: as listed, without a place to hide code, of sizes that the Hub accepts, without paths of this machine."""

from __future__ import annotations

import os
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from safetensors import SafetensorError, safe_open

from ...cards.files import MANIFEST, files_in, is_leftover
from ...checkpoints import CheckpointError, require_bounded_header
from ...documents import DocumentError, parse_json, read_text, read_yaml
from ..repo_type import RepoType
from ..repository import manifest_of, read_manifest
from .code_kernels import HARMLESS, asks_for_kernels
from .findings import Finding, finding_of

# Formats that run code when they are opened, or may.
_PICKLES = {
    ".bin", ".ckpt", ".dill", ".h5", ".joblib", ".keras", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2", ".pth",
}  # fmt: skip
_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # protocol 2 and later begin so
_CALLS = {"INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"}
_OBJECT = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")  # module and name
_ARCHIVE = re.compile(rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL)
_PROGRAM = re.compile(rb"\x7fELF|MZ|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|\xfe\xed\xfa|\x00asm|#!")
_NUMPY, _HDF5 = b"\x93NUMPY", b"\x89HDF"
# What a repository may hold: suffix -> how such a file begins; None: text in UTF-8.
_IMAGES = {
    ".gif": rb"GIF8", ".jpeg": rb"\xff\xd8\xff", ".jpg": rb"\xff\xd8\xff", ".png": rb"\x89PNG\r\n",
    ".webp": rb"RIFF....WEBP",
}  # fmt: skip
_TEXTS = dict.fromkeys((".csv", ".json", ".jsonl", ".md", ".py", ".svg", ".toml", ".tsv", ".txt", ".yaml", ".yml"))
_SUFFIXES: dict[RepoType, dict[str, bytes | None]] = {
    "model": {**_TEXTS, **_IMAGES, ".safetensors": b""},
    "dataset": {
        **_TEXTS, **_IMAGES, ".parquet": b"PAR1", ".arrow": b"", ".tif": rb"II|MM", ".tiff": rb"II|MM", ".bmp": b"BM",
        ".xml": None, ".zip": b"PK", ".tar": b"", ".gz": rb"\x1f\x8b",
    },
    "space": {**_TEXTS, **_IMAGES, ".css": None, ".html": None, ".js": None, ".typed": None, ".ttf": b""},
}  # fmt: skip
_NAMES = {"LICENSE", "NOTICE", "Dockerfile", ".gitignore", ".gitkeep"}  # text without a suffix
_PART = re.compile(r"\.?[\w][\w.+()@ =,&'~-]*(?<![ .])")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SCRIPT = re.compile(
    r"<script|<foreignobject|\bon\w+\s*=|javascript:|<!entity|href\s*=\s*[\"'](?!data:image/|#)", re.IGNORECASE
)
_LARGEST_TEXT = 10_000_000  # bytes; the Hub wants what is larger in its storage for large files
_LARGEST_VOCABULARY = 200_000_000
_MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:work|root|home|tmp|mnt|opt|Users)/\w[\w./-]*|[A-Z]:\\Users\\\w+")
UNBOUNDED = {"tokenizer.json", "vocab.json"}  # which may have many words, and words that look like folders
_VOCABULARIES = UNBOUNDED | {"vocab.txt", "merges.txt"}
_PLACES = {"_name_or_path", "name_or_path", "base_model_name_or_path", "backbone", "tokenizer_file", "vocab_file"}
_SLASH = re.compile(r"[/\\]")
_PACKAGES = {"torch", "torchvision", "transformers", "timm", "pillow", "numpy", "safetensors"}


def check_entries(folder: Path) -> Finding:
    """Plain files and folders with plain names: no links, devices, pipes, or names that systems read differently."""
    faults, seen = [], dict[str, str]()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root) != folder or not is_leftover(name)]
        for name in (*folders, *files):
            path = Path(root, name)
            shown = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if is_leftover(name):
                continue
            if stat.S_ISLNK(mode):
                faults.append(f"{shown!r} is a link: publish the file itself")
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                faults.append(f"{shown!r} is neither a file nor a folder")
            if not _PART.fullmatch(name) or _RESERVED.fullmatch(name) or len(os.fsencode(name)) > 200:
                faults.append(f"{shown!r}: not a name that every system can store")
            if other := seen.get(shown.casefold()):
                faults.append(f"{shown!r} and {other!r} are one file on some systems")
            seen[shown.casefold()] = shown
    return finding_of("entries", faults, f"{len(seen)} plain files and folders")


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
    return finding_of("manifest", faults, f"{len(found)} files, sizes and SHA-256 as listed")


def check_pickles(folder: Path, repo_type: RepoType) -> Finding:
    """Only files of known types whose content matches their names, and none that runs code when it is opened."""
    faults, tensors = [], 0
    for name in files_in(folder):
        if fault := _type_fault(folder / name, repo_type):
            faults.append(f"{name} {fault}")
        elif name.endswith(".safetensors"):
            try:
                require_bounded_header(folder / name)
                with safe_open(folder / name, framework="pt") as weights:
                    tensors += len(weights.keys())
            except (CheckpointError, SafetensorError, OSError, ValueError) as error:
                faults.append(f"{name} is no safetensors file, or cut short ({error})")
    return finding_of("no pickles", faults, f"{tensors} tensors in safetensors" if tensors else "none")


def _type_fault(file: Path, repo_type: RepoType) -> str | None:
    """Why a file may not be published, if so."""
    suffix = file.suffix.lower()
    with file.open("rb") as opened:
        start = opened.read(4096)
    if suffix in _PICKLES or _PICKLE.match(start) or start.startswith((_NUMPY, _HDF5)) or _calls_something(file):
        return "is, or may be, a pickle: publish safetensors"
    if repo_type != "dataset" and (_ARCHIVE.match(start) or (suffix != ".safetensors" and zipfile.is_zipfile(file))):
        return "is an archive, which may hold pickles (PyTorch's files are such)"
    if _PROGRAM.match(start) and suffix != ".py":
        return "is a program"
    allowed = _SUFFIXES[repo_type] | dict.fromkeys(_NAMES)
    kind = file.name if file.name in _NAMES else suffix
    if kind not in allowed:
        return f"is of no type that a {repo_type}'s repository needs"
    begins = allowed[kind]
    if begins is None:
        return _text_fault(file, suffix)
    return None if re.match(begins, start, re.DOTALL) else f"does not hold what its suffix {suffix} says"


def _text_fault(file: Path, suffix: str) -> str | None:
    if file.stat().st_size > _LARGEST_VOCABULARY:
        return f"has more than {_LARGEST_VOCABULARY:,} bytes"
    text = _text(file)
    if text is None or "\0" in text:
        return "is no text in UTF-8"
    if suffix == ".svg" and _SCRIPT.search(text):
        return "is an SVG with scripts, links or entities"
    return None


def _calls_something(file: Path) -> bool:
    """Whether `pickle` would call something if it read a file, for any protocol and for truncated files too."""
    stack: list[str] = []
    try:
        with file.open("rb") as opened:
            for operation, argument, _ in pickletools.genops(cast("IO[bytes]", _Bounded(opened))):
                _apply(operation, stack)
                if operation.name in ("GLOBAL", "INST") and not _OBJECT.fullmatch(str(argument)):
                    return False
                if operation.name in _CALLS:
                    return True
    except Exception:  # not a pickle up to here
        return False
    return False


def _apply(operation: pickletools.OpcodeInfo, stack: list[str]) -> None:
    """Apply an operation to a stack of marks and objects; raises IndexError where it cannot be done."""
    taken = [kind.name for kind in operation.stack_before]
    if "mark" in taken:
        while stack.pop() != "mark":
            pass
        taken = taken[: taken.index("mark")]
    for _ in taken:
        stack.pop()
    stack += [kind.name for kind in operation.stack_after]


class _Bounded:
    """The beginning of a file, as `pickletools` reads it: in small parts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 100_000:
            raise ValueError("longer than any name")
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline(100_000)


def check_configs(folder: Path) -> Finding:
    """JSON and YAML files have each key once, keep within bounds, and make a loader fetch or run nothing else."""
    faults = []
    for name in files_in(folder):
        file = folder / name
        try:
            if file.suffix == ".json":
                largest = _LARGEST_VOCABULARY if name in UNBOUNDED else _LARGEST_TEXT
                document = parse_json(read_text(file, largest=largest), name)
                if "/" not in name and name not in UNBOUNDED | {MANIFEST}:
                    faults += [f"{name}: {fault}" for fault in dict.fromkeys(_loader_faults(document))]
                if name == "modules.json":
                    faults += [f"{name}: {fault}" for fault in _module_faults(document)]
            elif file.suffix in (".yaml", ".yml"):
                read_yaml(file)
        except DocumentError as error:
            faults.append(str(error))
        if name.startswith("chat_template") or file.suffix == ".jinja":
            faults.append(f"{name}: a template that runs; these models have no chat")
    if (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        faults.append("adapter_config.json: beside a whole model it makes transformers fetch another base")
    if (folder / "requirements.txt").is_file():
        faults += _requirement_faults(folder, own=(folder / "config.json").is_file())
    return finding_of("configs", faults, "each key once, nothing fetched from elsewhere")


def _loader_faults(value: Any, key: str = "") -> Iterator[str]:
    """Entries of a config that make transformers fetch or run something that is not in the repository."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _loader_faults(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _loader_faults(one, key)
    if key == "chat_template" and value:
        yield "chat_template: a template that runs; these models have no chat"
    elif asks_for_kernels(key) and value not in HARMLESS:
        yield f"{key} {value!r} may fetch a kernel from the Hub"
    elif key in ("trust_remote_code", "use_pretrained_backbone", "quantization_config", "auto_mapping") and value:
        yield f"{key} makes a loader fetch or import something else"
    elif key in _PLACES and isinstance(value, str) and _SLASH.search(value):
        yield f"{key} {value!r} names something outside of the repository"
    elif key == "weight_map" and isinstance(value, dict):
        strange = [one for one in value.values() if not isinstance(one, str) or _SLASH.search(one)]
        yield from (f"weight_map names {one!r} outside of the repository" for one in strange[:1])


def _module_faults(document: Any) -> Iterator[str]:
    """Entries of sentence-transformers' list of modules that are not its own classes."""
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        yield "expected a list of modules"
        return
    for entry in document:
        if not str(entry.get("type")).startswith("sentence_transformers.") or entry.get("path") not in ("", None):
            yield f"module {entry.get('type')!r} at {entry.get('path')!r}: expected one of sentence_transformers, here"


def _requirement_faults(folder: Path, own: bool) -> Iterator[str]:
    """Lines that make pip read elsewhere; of a model's requirements also packages that its code may not import."""
    for line in (_text(folder / "requirements.txt") or "").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-") or "@" in line or "://" in line or line.startswith((".", "/")):
            yield f"requirements.txt: {line!r} makes pip read from elsewhere"
        elif own and line and (name := re.match(r"[\w.-]*", line)) and name[0].lower() not in _PACKAGES:
            yield f"requirements.txt: {name[0]!r} is no package that a published model needs"


def check_sizes(folder: Path) -> Finding:
    """No empty files, no very large texts."""
    faults, total = [], 0
    for name in files_in(folder):
        size = (folder / name).stat().st_size
        total += size
        if size == 0 and Path(name).name not in {"__init__.py", ".gitkeep"}:
            faults.append(f"{name} is empty")
        if size > _LARGEST_TEXT and _text(folder / name) is not None:
            faults.append(f"{name} is a text of {size:,} bytes, more than {_LARGEST_TEXT:,}")
    return finding_of("sizes", faults, f"{total:,} bytes in all")


def check_paths(folder: Path) -> Finding:
    """No text names a folder of the machine it was written on."""
    faults = []
    for name in files_in(folder):
        known = name in _VOCABULARIES or (folder / name).stat().st_size > _LARGEST_TEXT
        if not known and (text := _text(folder / name)) is not None:
            faults += [f"{name}: {hit[0]}" for hit in _MACHINE_PATH.finditer(text)]
    return finding_of("no local paths", faults, "none")


def check_license(folder: Path) -> Finding:
    there = (folder / "LICENSE").is_file()
    return finding_of("license file", [] if there else ["no LICENSE: the terms of the code"], "LICENSE")


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
