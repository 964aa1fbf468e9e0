"""Reading a checkpoint before a model is built from it: sizes that do not fit the weights are refused.

A config of two kilobytes can ask for any number of layers and values. So the files are bounded in size and depth, each
of their numbers is bounded, and while the model is built, its modules and values are counted against what the weights
file holds. Nothing in a folder is run: no code file, no kernel, no pickle.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .documents import parse_json, read_text
from .errors import StmineError

LARGEST_CONFIG = 4 << 20  # bytes: twice what 20,000 labels need
LARGEST_TOKENIZER = 64 << 20  # bytes of one file: the largest in use have half of it
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "chat_template.json", "chat_template.jinja", "vocab.txt", "merges.txt", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
LARGEST_HEADER = 8 << 20  # bytes of a safetensors header: 100 for each tensor
MOST_TENSORS = 20_000  # of a checkpoint; the largest here have 1,100
LARGEST_NUMBER = 1 << 24  # of any field; also, no field exceeds the number of values in the weights file
LARGEST_SMALL_NUMBER = 1 << 16  # that the weights file need not account for
LARGEST_COUNT = 4096  # of layers, heads, steps and the like
LARGEST_SIDE = 8192  # pixels
LARGEST_INPUT = 2048  # pixels of a side that a processor makes: a batch of eight of them has 400 MB before any layer
MOST_LABELS = 100_000
LONGEST_PATTERN = 2000  # characters of a regular expression
REPEATED_GROUP = re.compile(r"\)[*+{]")  # what backtracking without end needs, and no tokenizer in use has
MOST_GROWTH = 100  # times that the steps of a tokenizer may make a text longer
MOST_MODULES = 20_000  # a ResNet-152 and a BERT together have 1,100
_LARGEST_SCALE, _LEAST_SCALE = 1e4, 1e-4  # of means and deviations of pixels, which count to 1 or to 255
_SLACK = 1 << 22  # values that a model may have beyond those of its weights file

_COUNTS = ("layer", "depth", "block", "stage", "step", "head", "group", "repeat", "level", "scale", "region", "token")
_IDS = ("id", "ids", "index", "size")  # last words of names that count nothing
_SIDES = ("height", "width", "shortest_edge", "longest_edge", "image_size", "input_size")


class CheckpointError(StmineError):
    """A checkpoint whose files contradict each other, or describe a model larger than its weights."""


@dataclass(frozen=True)
class StoredWeights:
    """Size of the safetensors files of a checkpoint.

    Attributes:
        tensors: number of tensors.
        values: number of values in all of them.
    """

    tensors: int
    values: int


def checkpoint_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a checkpoint, downloaded if it is on the Hub; None if the checkpoint has no such file.

    Raises:
        OSError: no such folder, or a repository that cannot be reached.
    """
    if Path(name).is_dir():  # needs no library that takes seconds to import
        file_here = Path(name, file)
        return file_here if file_here.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with bounded numbers.

    Raises:
        StmineError: not readable, larger than `LARGEST_CONFIG`, no JSON object, or a number that no model has.
    """
    settings = parse_json(read_text(path, largest=LARGEST_CONFIG), path.name)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path.name}: expected a JSON object, found {type(settings).__name__}")
    check_numbers(settings, path.name)
    return settings


def read_config(name: str, revision: str | None = None) -> dict[str, Any]:
    """The `config.json` of a checkpoint; see `read_settings`.

    Args:
        name: folder or Hub id.
        revision: of a Hub id.

    Raises:
        StmineError: no config there, or one that is refused.
        OSError: no such folder, or a repository that cannot be reached.
    """
    path = checkpoint_file(name, "config.json", revision)
    if path is None:
        raise CheckpointError("it has no config.json")
    return read_settings(path)


def require_processor_bounds(settings: dict[str, Any], where: str) -> None:
    """Check the settings of an image processor: sizes of images that fit into memory, statistics that give numbers.

    Args:
        settings: from its file, or from that of a processor that has one.
        where: the file's name, for the message.

    Raises:
        CheckpointError: the first value that no image processor has.
    """
    for name, part in _parts(settings, where):
        for field in ("size", "crop_size", "pad_size"):
            sides = part.get(field)
            for side, value in sides.items() if isinstance(sides, dict) else [("", sides)]:
                if value is not None and not (type(value) is int and 1 <= value <= LARGEST_INPUT):
                    shown = f"{name}.{field}{side and f'.{side}'}"
                    raise CheckpointError(f"{shown} is {str(value)[:40]}; expected 1 to {LARGEST_INPUT:,} pixels")
        divisor = part.get("size_divisor")
        if divisor is not None and not (type(divisor) is int and 1 <= divisor <= LARGEST_INPUT):
            found = str(divisor)[:40]
            raise CheckpointError(f"{name}.size_divisor is {found}; expected 1 to {LARGEST_INPUT:,} pixels")
        for field, least in (("image_std", _LEAST_SCALE), ("image_mean", -_LARGEST_SCALE), ("rescale_factor", 1e-9)):
            values = part.get(field)
            if isinstance(values, list) and len(values) not in (1, 3):
                raise CheckpointError(f"{name}.{field} has {len(values)} values; expected 3, one for each color")
            for value in values if isinstance(values, list) else [values]:
                if value is None and not isinstance(values, list):
                    continue
                if (
                    isinstance(value, bool)
                    or not isinstance(value, int | float)
                    or not least <= value <= _LARGEST_SCALE
                ):
                    raise CheckpointError(
                        f"{name}.{field} is {str(values)[:60]}; expected numbers from {least:g} to {_LARGEST_SCALE:g}"
                    )


def require_tokenizer_bounds(path: Path) -> None:
    """Check a file of a tokenizer before its readers, which have no bounds, see it.

    Raises:
        StmineError: larger than any tokenizer, nested too deep, or no JSON though it is named so.
    """
    size = path.stat().st_size
    if size > LARGEST_TOKENIZER:
        raise CheckpointError(f"{path.name} has {size:,} bytes; expected {LARGEST_TOKENIZER:,} at most")
    if path.suffix == ".json":
        document = parse_json(read_text(path, largest=LARGEST_TOKENIZER), path.name)
        if path.name == "tokenizer.json" and isinstance(document, dict):
            _require_bounded_steps(document, path.name)


def _require_bounded_steps(tokenizer: dict[str, Any], where: str) -> None:
    """Refuse steps of a tokenizer that a short text keeps busy without end, or that make a long one of it.

    Raises:
        CheckpointError: there is one.
    """
    growth = 1.0
    steps = {name: tokenizer.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    for name, step in _parts(steps, where):
        pattern = step.get("pattern")
        known = pattern if isinstance(pattern, dict) else {}
        regex = str(known.get("Regex", ""))
        if len(regex) > LONGEST_PATTERN or REPEATED_GROUP.search(regex):
            raise CheckpointError(f"{name}: the pattern {regex[:40]!r} is too complex: it may never end")
        if step.get("type") == "Replace":
            growth *= max(1.0, len(str(step.get("content", ""))) / max(1, len(str(known.get("String", "")))))
        elif step.get("type") == "Prepend":
            growth *= max(1, len(str(step.get("prepend", ""))))
        added = max((len(step[field]) for field in ("single", "pair") if isinstance(step.get(field), list)), default=0)
        if growth > MOST_GROWTH or added > MOST_GROWTH:
            raise CheckpointError(f"{name}: makes a text more than {MOST_GROWTH} times as long")


def check_numbers(settings: dict[str, Any], where: str) -> None:
    """Refuse settings with a number that no model has, or that name third-party code.

    Args:
        settings: from a file.
        where: the file's name, for the message.

    Raises:
        CheckpointError: the first such number or name.
    """
    for name, value in _numbers(settings, where):
        largest, field = _largest(name), name.rpartition(".")[2]
        if isinstance(value, bool):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{name} is {value}; expected a finite number")
        if isinstance(value, int) and not -LARGEST_NUMBER <= value <= largest:
            raise CheckpointError(f"{name} is {_shown(value)}; expected {largest:,} at most")
        if isinstance(value, int) and value < 0 and _is_count(field):
            raise CheckpointError(f"{name} is {value}; expected no negative number")
    for name, part in _parts(settings, where):
        if "auto_map" in part and "model_type" in part and part is not settings:
            raise CheckpointError(f"{name} names code files (auto_map), which are never run")
        for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
            if "/" in str(part.get(key, "")):
                raise CheckpointError(f"{name}.{key} names a kernel of a repository, which is never run")
        if len(part) > MOST_LABELS:
            raise CheckpointError(f"{name} has {len(part):,} entries; expected {MOST_LABELS:,} at most")


def stored_weights(name: str, revision: str | None = None, file: str = "model.safetensors") -> StoredWeights:
    """Size of the weights of a checkpoint, from the headers of its safetensors files.

    Args:
        name: folder or Hub id.
        revision: of a Hub id.
        file: the file's name; beside it, `<file>.index.json` may name several.

    Raises:
        CheckpointError: no such file, or one that is damaged.
        OSError: a repository that cannot be reached.
    """
    if single := checkpoint_file(name, file, revision):
        return _read_header(single)
    index = checkpoint_file(name, f"{file}.index.json", revision)
    if index is None:
        raise CheckpointError(f"it has no {file}")
    shards = read_settings(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{index.name} has no weight_map")
    tensors = values = 0
    for shard in sorted(set(shards.values())):
        part = checkpoint_file(name, shard, revision) if Path(shard).name == shard else None
        if part is None:
            raise CheckpointError(f"{index.name} names {shard!r}, which is not there")
        header = _read_header(part)
        tensors, values = tensors + header.tensors, values + header.values
    return StoredWeights(tensors, values)


def require_fitting(settings: Any, stored: StoredWeights, where: str = "config.json") -> None:
    """Refuse settings with a number that exceeds the number of values in the weights.

    Raises:
        CheckpointError: there is one; the message names it.
    """
    largest = max(stored.values, LARGEST_SMALL_NUMBER)
    for name, value in _numbers(settings, where):
        if isinstance(value, int) and value > largest:
            raise CheckpointError(f"{name} is {value:,}, but its weights hold {stored.values:,} values in all")


@contextmanager
def opening(name: str, revision: str | None = None) -> Iterator[None]:
    """Context to open a model in: its config must fit its weights, and the model must not grow beyond them.

    Args:
        name: folder or Hub id.
        revision: of a Hub id.

    Raises:
        StmineError: no checkpoint there, or one that contradicts itself.
        OSError: a repository that cannot be reached.
    """
    config, stored = read_config(name, revision), stored_weights(name, revision)
    require_fitting(config, stored)
    with building_within(stored), _without_bars():
        yield


_loading: Counter[int] = Counter()  # threads that load a model -> how many at once, one in the other
_loading_lock = threading.Lock()
_hook_before: Any = None  # of the user, while `_loading` has threads


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bars of transformers in this thread; those of other threads, and what the user has set, stay.

    Its own switch is of the whole process. Versions without this hook show their bars.
    """
    from transformers.utils import logging

    global _hook_before
    set_hook, thread = getattr(logging, "set_tqdm_hook", None), threading.get_ident()
    if set_hook is None:
        yield
        return

    def hook(factory: Any, args: Any, options: Any) -> Any:
        if threading.get_ident() in _loading:
            return logging.EmptyTqdm(*args, **options)
        return factory(*args, **options) if _hook_before is None else _hook_before(factory, args, options)

    with _loading_lock:
        if not _loading:
            _hook_before = set_hook(hook)
        _loading[thread] += 1
    try:
        yield
    finally:
        with _loading_lock:
            _loading[thread] -= 1
            if not _loading[thread]:
                del _loading[thread]
            if not _loading:
                set_hook(_hook_before)


@contextmanager
def building_within(stored: StoredWeights) -> Iterator[None]:
    """Stop building a model in this thread as soon as it is larger than its weights file.

    Args:
        stored: what the weights file holds.

    Raises:
        CheckpointError: in the code that builds the model.
    """
    from torch import Tensor
    from torch.nn.modules import module as hooks

    thread, modules, values = threading.get_ident(), 0, 0
    # Each value is registered twice: as the model is built without storage, and when its weights are put there.
    largest = 4 * stored.values + _SLACK

    def count_module(*_: Any) -> None:
        nonlocal modules
        modules += threading.get_ident() == thread
        if modules > MOST_MODULES:
            raise CheckpointError(
                f"config.json describes a model of more than {MOST_MODULES:,} modules; its weights file holds "
                f"{stored.tensors:,} tensors"
            )

    def count_values(module: Any, name: str, tensor: Any) -> None:
        nonlocal values
        if threading.get_ident() == thread and isinstance(tensor, Tensor):
            values += tensor.numel()
        if values > largest:
            raise CheckpointError(
                f"config.json describes a larger model than its weights file holds ({stored.values:,} values)"
            )

    handles = [
        hooks.register_module_module_registration_hook(count_module),
        hooks.register_module_parameter_registration_hook(count_values),
        hooks.register_module_buffer_registration_hook(count_values),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def require_bounded_header(path: Path) -> None:
    """Check how long the header of a safetensors file is, before its reader makes objects of it.

    Raises:
        CheckpointError: longer than the file, or than that of any model.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise CheckpointError(f"{path.name} is damaged: its header is given as {length:,} of {size:,} bytes")
    if length > LARGEST_HEADER:
        raise CheckpointError(f"{path.name}: its header has {length:,} bytes; expected {LARGEST_HEADER:,} at most")


def _read_header(path: Path) -> StoredWeights:
    from safetensors import SafetensorError, safe_open

    require_bounded_header(path)
    try:
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
            if len(names) > MOST_TENSORS:
                raise CheckpointError(f"{path.name} holds {len(names):,} tensors; expected {MOST_TENSORS:,} at most")
            return StoredWeights(len(names), sum(math.prod(weights.get_slice(name).get_shape()) for name in names))
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is damaged ({error})") from error


def _largest(name: str) -> int:
    parts = name.split(".")
    field = parts[-1].partition("[")[0]
    if "label2id" in parts[:-1] or field in ("num_labels", "num_classes"):
        return MOST_LABELS
    if field in _SIDES or "size" in parts[:-1]:
        return LARGEST_SIDE
    return LARGEST_COUNT if _is_count(field) else LARGEST_NUMBER


def _is_count(field: str) -> bool:
    words = field.partition("[")[0].split("_")
    counted = any(word.removesuffix("s") in _COUNTS for word in words)
    return (words[0] in ("num", "n") or counted) and words[-1] not in _IDS


def _numbers(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    for where, part in _parts(value, name):
        for key, item in part.items():
            yield from _own_numbers(item, f"{where}.{key}")


def _own_numbers(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, list):
        if len(value) > LARGEST_COUNT:
            raise CheckpointError(f"{name} has {len(value):,} entries; expected {LARGEST_COUNT:,} at most")
        for index, item in enumerate(value):
            yield from _own_numbers(item, f"{name}[{index}]")


def _parts(value: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A JSON object and all objects in it, with a name for each."""
    if isinstance(value, dict):
        yield name, value
        for key, item in value.items():
            yield from _parts(item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _parts(item, f"{name}[{index}]")


def _shown(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**15 else "a number of more than 15 digits"
