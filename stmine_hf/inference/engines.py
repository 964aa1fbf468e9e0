"""Engines: the programs that run a network, and the choice of the fastest one by a short measurement.

A task describes the networks of its model as `Network`; a `Runner` runs one of them. With `engine="auto"` a job starts
in PyTorch with 32-bit floats. Once what is left of it is worth the time to build other engines, each that is installed
runs a few rows of the present batch, and the fastest whose outputs agree with PyTorch's does the rest. The choice is
kept in the user's cache, for this network, processor, number of threads and versions of the packages.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
import logging
import math
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import StmineError
from ..files import cache_folder, write_json
from .onnx_graph import Network as RuntimeNetwork
from .onnx_graph import OpenvinoNetwork, open_onnx, quiet, write_graph

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "AUTO",
    "ENGINES",
    "TORCH",
    "Network",
    "Runner",
    "cosine_distance",
    "has_bfloat16",
    "on_workers",
    "require_engine",
    "used_by",
]

AUTO, TORCH = "auto", "torch"
_PACKAGES = {
    TORCH: (),
    "torch-bf16": (),
    "torch-compile": (),
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
ENGINES = (AUTO, *_PACKAGES)
_EXTRA = {"onnx": "export", "openvino": "openvino"}

_MEASURED = 0.5  # seconds that PyTorch needs for the rows on which engines are compared, at most
_OPENING = 10.0  # seconds to open and compare engines, before it is known
_RATIO = 2.0  # how many times as fast as PyTorch the fastest one is, before it is known
_SHORT = 1.0  # seconds in PyTorch that are never worth another engine
_MARGIN = 1.5  # how many times the seconds to open an engine it has to save
_LEAST_GAIN = 0.9  # of PyTorch's time, that an engine has to stay below
_SHARE = 0.5  # of the difference that is allowed, in the batch that is compared: others may be further away
_RARER = 10  # the 10th, 100th, 1000th batch of an engine and so on are compared, too
_CACHE = "engines"  # folder of the choices
_MOST_CHOICES = 64  # kept in the cache; those made last
_FORMAT = 1

Run = Callable[..., "tuple[Tensor, ...]"]  # the inputs, in their order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network of a model: what engines need to build it, and how far their outputs may be from PyTorch's.

    Attributes:
        name: such as "image".
        module: in evaluation mode. Takes the inputs in their order; returns a tensor or a tuple of them.
        inputs: their names.
        outputs: their names.
        identity: of its weights; see `weights_digest`.
        difference: of outputs: PyTorch's, another engine's -> a number.
        limit: the greatest such number that is allowed.
        axes: name of an input or output -> the axes of any length and their names, besides the first one of each.
        graph: makes a module that computes the same and can be traced, for inputs of these shapes; None: the module
            itself can.
        low: names of the parts that may compute in 16-bit floats; "" is the whole module.
        low_unasked: whether they do so in any engine that is faster by it; if not, only where "torch-bf16" is asked
            for. For networks that can magnify the rounding of a few rows among many, which no comparison of some
            batches would find.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    identity: str
    difference: Callable[[Sequence[Tensor], Sequence[Tensor]], float]
    limit: float
    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    graph: Callable[[tuple[Tensor, ...]], nn.Module] | None = None
    low: tuple[str, ...] = ("",)
    low_unasked: bool = True

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def is_plain(self) -> bool:
        """Whether its weights are 32-bit floats on the CPU; an exported model has none, and an engine of its own."""
        import torch

        parameters = [one for one in self.module.parameters() if one.is_floating_point()]
        return bool(parameters) and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in parameters)


def cosine_distance(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The greatest 1 - cosine of the outputs of one row of an engine and PyTorch's; a `Network.difference`."""
    import torch
    from torch.nn.functional import cosine_similarity

    apart = [
        1 - cosine_similarity(ours.double().flatten(1), theirs.double().flatten(1)).min()
        for ours, theirs in zip(expected, found, strict=True)
    ]
    return float(torch.stack(apart).max())  # NaN, if there is one


class Engine(Protocol):
    """A program that runs networks.

    Attributes:
        name: one of `ENGINES`.
        precision: of its products of matrices: "float32" or "bfloat16".
    """

    name: str
    precision: str

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        """Build a network.

        Args:
            network: the network.
            graph: writes it as an ONNX file, the first time, and gives the file.
        """


class _Torch:
    name, precision = TORCH, "float32"

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        return _in_torch(network.module)


class _TorchBfloat16:
    """PyTorch with products of matrices and convolutions in 16 bits."""

    name, precision = "torch-bf16", "bfloat16"

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        return _in_torch(_in_bfloat16(network.module, network.low))


class _TorchCompiled:
    name, precision = "torch-compile", "float32"

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        import torch

        return _in_torch(torch.compile(network.module, dynamic=True))


class _Onnx:
    name, precision = "onnx", "float32"

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        import torch

        return _in_runtime(network, open_onnx(graph(), torch.get_num_threads()))


class _Openvino:
    name = "openvino"

    def __init__(self, precision: str):
        self.precision = precision

    def open(self, network: Network, graph: Callable[[], Path]) -> Run:
        import torch

        precision = {"bfloat16": "bf16"}.get(self.precision, "f32")
        file = graph()
        with quiet():
            opened = OpenvinoNetwork(
                file, torch.get_num_threads(), precision=precision,
                ENABLE_CPU_PINNING=False,  # other threads read and decode
            )  # fmt: skip
        return _in_runtime(network, opened)


def on_workers(engine: str) -> str:
    """The engine on the workers of a cluster: PyTorch for "auto", as each of them has a part of the job alone."""
    return TORCH if engine == AUTO else engine


def require_engine(name: str) -> None:
    """Check the name of an engine, and that its packages are installed.

    Raises:
        StmineError: an unknown name, or a package is missing.
    """
    if name not in ENGINES:
        raise StmineError(f"engine: expected one of {', '.join(ENGINES)}, found {name!r}.")
    if missing := _missing(name):
        raise StmineError(f"The engine {name} needs the package {missing[0]}: pip install 'stmine-hf[{_EXTRA[name]}]'")


def _missing(name: str) -> list[str]:
    """The packages of an engine that are not installed."""
    return [package for package in _PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]


def _engines(name: str, network: Network) -> list[Engine]:
    """The engines of a name in the order in which they are tried; of "auto" all that are installed but PyTorch."""
    may = network.low_unasked or name == "torch-bf16"
    low = "bfloat16" if may and has_bfloat16(network.device.type) else None
    found: dict[str, list[Engine]] = {
        TORCH: [_Torch()],
        "torch-bf16": [_TorchBfloat16() if low else _Torch()],
        "torch-compile": [_TorchCompiled()],
        "onnx": [_Onnx()],
        "openvino": [*([_Openvino(low)] if low else []), _Openvino("float32")],
    }
    if name != AUTO:
        return found[name]
    del found[TORCH], found["torch-compile"]  # which compiles for a minute
    return [engine for one, engines in found.items() if not _missing(one) for engine in engines if engine.name == one]


@lru_cache
def has_bfloat16(device: str = "cpu") -> bool:
    """Whether a device multiplies matrices of 16-bit floats (bfloat16)."""
    import torch

    if device != "cpu":
        return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    with suppress(Exception):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _names_bfloat16()
    return False


def _names_bfloat16() -> bool:
    """PyTorch supports bfloat16 on processors that compute it in 32 bits, too; there it is slow."""
    flags = ("avx512_bf16", "amx_bf16", "bf16")
    with suppress(OSError):
        words = Path("/proc/cpuinfo").read_text(errors="replace").split()
        return any(flag in words for flag in flags)
    return False


class Runner:
    """Runs a network in an engine.

    Args:
        network: the network.
        engine: one of `ENGINES`.

    Attributes:
        label: the engine that runs what comes next, with its precision.
        used: the engines that have run rows.

    Raises:
        StmineError: an unknown engine, or one that is not installed or does not fit the network's device.
    """

    def __init__(self, network: Network, engine: str = AUTO):
        require_engine(engine)
        self.network, self._asked = network, engine
        if engine != AUTO and not engine.startswith(TORCH) and not network.is_plain:
            raise StmineError(
                f"The engine {engine} runs 32-bit floats on the CPU, and the model has none there (another device or "
                "precision, or it was exported for another runtime): use device cpu, or omit the engine."
            )
        self._expected: int | None = None
        self.used: list[str] = []
        self.remark = ""
        self._run, self.label = _in_torch(network.module), TORCH
        self._decided = engine == TORCH or (engine == AUTO and not network.is_plain)
        self._rows, self._batches = 0, 0  # in PyTorch, before the choice
        self._seconds = math.inf  # of a row, in the fastest batch
        self._ran, self._comparing = 0, _RARER  # batches in another engine; the next one that is compared
        self._left: set[str] = set()  # engines that were too far from PyTorch
        self._lock = threading.RLock()  # of all that changes

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run a batch. Axis 0 of all inputs counts rows.

        Raises:
            StmineError: the engine asked for cannot run the network, or its outputs are too far from PyTorch's.
        """
        if not self._decided:
            with self._lock:
                if not self._decided:
                    return self._first(inputs)
        return self._with(inputs)

    def expect(self, rows: int | None) -> None:
        """Tell how many rows are to come, on which it depends whether building an engine is worth while.

        Args:
            rows: None: unknown, as it is before this is called. As many are expected then as have come.
        """
        with self._lock:
            self._expected = None if rows is None else self._rows + rows

    def back_to_torch(self) -> None:
        """Run what is to come in PyTorch."""
        with self._lock:
            self._run, self.label, self._decided, self.remark = _in_torch(self.network.module), TORCH, True, ""

    def _with(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with self._lock:
            run, label = self._run, self.label
        try:
            found = run(*inputs)
        except Exception as error:  # of runtimes, which have types of their own
            if self._asked != AUTO or label == TORCH:
                raise
            logger.warning("%s stopped (%s); PyTorch continues", label, _first_line(error))
            with self._lock:
                if self._run is run:  # and no other thread has changed it since
                    self.back_to_torch()
            label = TORCH
            found = _in_torch(self.network.module)(*inputs)
        with self._lock:
            self._note(label)
            self._ran += label != TORCH
            if self._ran >= self._comparing and self._run is run and label != TORCH:
                self._comparing *= _RARER
                return self._compared(inputs, found)
        return found

    def _compared(self, inputs: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A batch of an engine, or PyTorch's where it is too far away: the next best engine does the rest then.

        The lock is held: the other threads wait.
        """
        expected = _in_torch(self.network.module)(*inputs)
        difference = self.network.difference(expected, found)
        if difference <= self.network.limit:
            return found
        logger.warning(
            "%s differs from PyTorch by %.2g where %g is allowed: it is not used further",
            self.label, difference, self.network.limit,
        )  # fmt: skip
        self._left.add(self.label)
        self.back_to_torch()
        self._choose(inputs, expected, self._key(inputs), None)
        return expected

    def _note(self, label: str) -> None:
        if label not in self.used:
            self.used.append(label)

    def _first(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run a batch in PyTorch, and look whether another engine is worth while, or open the one asked for."""
        start = time.perf_counter()
        found = _in_torch(self.network.module)(*inputs)
        seconds, rows = time.perf_counter() - start, len(inputs[0])
        if self._asked != AUTO:
            self._open_asked(inputs, found)
            return self._with(inputs)
        self._note(TORCH)
        self._rows, self._batches = self._rows + rows, self._batches + 1
        self._seconds = min(self._seconds, seconds / rows)
        if self._batches < 2:  # the first one is slower than the others
            return found
        # Of a job of unknown length as much is expected to come as has been.
        left = self._rows if self._expected is None else self._expected - self._rows
        remaining = left * self._seconds
        if remaining < _SHORT:
            return found
        key = self._key(inputs)
        known = _Choice.read(key, self.network)
        ratio, opening = (known.ratio, known.seconds) if known else (_RATIO, _OPENING)
        if known is not None and known.engine == TORCH:
            self._decided = True
        elif remaining * (1 - 1 / ratio) > _MARGIN * opening:
            self._choose(inputs, found, key, known)
        return found

    def _choose(self, inputs: tuple[Tensor, ...], found: Sequence[Tensor], key: str, known: _Choice | None) -> None:
        """Open the engine that is known to be the fastest, or find it."""
        rows = _few(inputs, 1 / max(self._seconds, 1e-9))
        ratio = 1.0
        failures: list[Exception] = []
        base = _seconds(_in_torch(self.network.module), rows)
        best: _Trial | None = None
        # One by one: a slower one leaves the memory at once.
        for trial in self._trials(inputs, rows, found, known, failures):
            if trial.seconds < (_LEAST_GAIN * base if best is None else best.seconds):
                best = trial
        self._decided = True
        if best is not None:
            self._run, self.label = best.run, _label(best.engine)
            ratio = base / best.seconds
            self.remark = f"{self.label}, {ratio:.1f} times as fast as PyTorch here ({self.network.name})"
        # Without one because of a failure, which can pass: a full disk, too little memory.
        if known is None and self._asked == AUTO and (best is not None or not failures):
            name, precision = (TORCH, "float32") if best is None else (best.engine.name, best.engine.precision)
            _Choice(name, precision, ratio, 0.0 if best is None else best.opening).write(key)

    def _trials(
        self,
        inputs: tuple[Tensor, ...],
        rows: tuple[Tensor, ...],
        found: Sequence[Tensor],
        known: _Choice | None,
        failures: list[Exception],
    ) -> Iterator[_Trial]:
        """The engines that agree with PyTorch, opened and measured; only the known one, if it is.

        Args:
            failures: gets what kept others from being measured.
        """
        done: set[str] = set()
        with _as_onnx(self.network, inputs) as graph:
            for engine in _engines(self._asked, self.network):
                if _label(engine) in self._left or engine.name == TORCH:
                    continue
                if known is not None and (engine.name, engine.precision) != (known.engine, known.precision):
                    continue
                if engine.name in done:  # a higher precision is tried only where the lower one does not agree
                    continue
                start = time.perf_counter()
                try:
                    run = engine.open(self.network, graph)
                    self._require_agreement(engine, found, run(*inputs))
                    opening = time.perf_counter() - start
                    seconds = _seconds(run, rows)
                except Exception as error:  # of exporters and runtimes
                    logger.debug("%s is not used: %s", _label(engine), _first_line(error))
                    if not isinstance(error, _DisagreementError):
                        failures.append(error)
                    continue
                done.add(engine.name)
                logger.debug("%s: %.3f s, opened in %.1f s", _label(engine), seconds, opening)
                yield _Trial(engine, run, seconds, opening)

    def _open_asked(self, inputs: tuple[Tensor, ...], expected: Sequence[Tensor]) -> None:
        """
        Raises:
            StmineError: it cannot run the network, or its outputs are too far from PyTorch's.
        """
        problem: Exception | None = None
        with _as_onnx(self.network, inputs) as graph:
            for engine in _engines(self._asked, self.network):
                try:
                    run = engine.open(self.network, graph)
                    self._require_agreement(engine, expected, run(*inputs))
                except Exception as error:  # of exporters and runtimes
                    problem = problem or error
                    continue
                self._run, self.label, self._decided = run, _label(engine), True
                self.remark = f"{self.label} ({self.network.name})"
                return
        assert problem is not None
        raise StmineError(
            f"The engine {self._asked} cannot be used for this model ({_first_line(problem)}): use --engine auto."
        ) from problem

    def _require_agreement(self, engine: Engine, expected: Sequence[Tensor], found: Sequence[Tensor]) -> None:
        difference, allowed = self.network.difference(expected, found), _SHARE * self.network.limit
        if not difference <= allowed:  # NaN is too far
            raise _DisagreementError(
                f"{_label(engine)} differs from PyTorch by {difference:.2g} where {allowed:g} is allowed"
            )

    def _key(self, inputs: tuple[Tensor, ...]) -> str:
        """Name of the choice: what it depends on."""
        import torch

        long = [{*self.network.axes.get(name, ())} for name in self.network.inputs]
        shapes = [
            [size for axis, size in enumerate(one.shape) if axis and axis not in any_length]
            for one, any_length in zip(inputs, long, strict=True)
        ]
        facts = [_FORMAT, self.network.name, self.network.identity, shapes, _processor(), torch.get_num_threads()]
        packages = ("stmine-hf", "torch", "transformers", "onnx", "onnxruntime", "openvino")
        return sha256(json.dumps([*facts, *map(_version, packages)]).encode()).hexdigest()[:32]


def _label(engine: Engine) -> str:
    """An engine with its precision, as reports and indexes name it."""
    return engine.name if engine.precision == "float32" or "bf16" in engine.name else f"{engine.name}-bf16"


def used_by(runners: Sequence[Runner]) -> list[str]:
    """The engines that have run rows; each once."""
    return list(dict.fromkeys(one for runner in runners for one in runner.used))


class _DisagreementError(ValueError):
    """The outputs of an engine are too far from PyTorch's."""


class _Trial(NamedTuple):
    """An engine that agrees with PyTorch, the seconds that it took for a few rows, and those to open it."""

    engine: Engine
    run: Run
    seconds: float
    opening: float


@dataclass(frozen=True)
class _Choice:
    """The fastest engine of a network.

    Attributes:
        engine: its name.
        precision: of it.
        ratio: how many times as fast as PyTorch it is.
        seconds: that it took to open.
    """

    engine: str
    precision: str
    ratio: float
    seconds: float

    @classmethod
    def read(cls, key: str, network: Network) -> _Choice | None:
        """None if the cache has none that can be used."""
        try:
            content = json.loads((cache_folder(_CACHE) / f"{key}.json").read_text(encoding="utf-8"))
            choice = cls(content["engine"], content["precision"], float(content["ratio"]), float(content["seconds"]))
            if not (0 <= choice.seconds < math.inf and 1 <= choice.ratio < math.inf):
                raise ValueError("numbers out of range")
            if choice.engine != TORCH and not any(
                (one.name, one.precision) == (choice.engine, choice.precision) for one in _engines(AUTO, network)
            ):
                raise ValueError("an engine that is not installed")
        except Exception as error:  # a damaged or unreadable file: it is measured again
            logger.debug("no choice of an engine in the cache: %s", error)
            return None
        return choice

    def write(self, key: str) -> None:
        """Keep it, if the cache can be written."""
        try:
            folder = cache_folder(_CACHE)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / f"{key}.json", vars(self))
            old = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-_MOST_CHOICES]
            for file in old:
                file.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("the choice of an engine is not kept: %s", error)


@contextmanager
def _as_onnx(network: Network, inputs: tuple[Tensor, ...]) -> Iterator[Callable[[], Path]]:
    """What writes a network as an ONNX file into a temporary folder, when it is first called."""
    with ExitStack() as stack:

        @lru_cache
        def file() -> Path:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "network.onnx"
            two = [one[:1].repeat(2, *[1] * (one.ndim - 1)) if len(one) < 2 else one[:2] for one in inputs]
            graph = copy.deepcopy(network.module) if network.graph is None else network.graph(inputs)
            write_graph(graph, dict(zip(network.inputs, two, strict=True)), network.outputs, path, axes=network.axes)
            return path

        yield file


def _in_runtime(network: Network, opened: RuntimeNetwork) -> Run:
    import torch

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = {name: value.contiguous().numpy() for name, value in zip(network.inputs, inputs, strict=True)}
        return tuple(map(torch.from_numpy, opened(given)))

    return run


def _in_torch(module: Any) -> Run:
    import torch

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            found = module(*inputs)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    return run


def standing_in(module: nn.Module, forward: Callable[..., Any]) -> Any:
    """A copy of a module with the same weights, another `forward`, and its own list of parts."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    other.forward = forward
    return other


def _in_bfloat16(module: nn.Module, parts: Sequence[str]) -> nn.Module:
    """A copy of a module with the same weights, whose named parts compute in 16-bit floats."""
    if "" in parts:
        return standing_in(module, _autocast(module.forward))
    other = copy.copy(module)
    other._modules = dict(module._modules)
    heads = {part.partition(".")[0] for part in parts}
    for head in heads:
        inner = [part.partition(".")[2] for part in parts if part.partition(".")[0] == head]
        own = other._modules.get(head)
        if own is not None:
            other._modules[head] = _in_bfloat16(own, inner)
    return other


def _autocast(forward: Callable[..., Any]) -> Callable[..., Any]:
    def in_bfloat16(*given: Any, **options: Any) -> Any:
        import torch

        first = next((one for one in (*given, *options.values()) if isinstance(one, torch.Tensor)), None)
        with torch.autocast("cpu" if first is None else first.device.type, torch.bfloat16):
            return _as_float32(forward(*given, **options))

    return in_bfloat16


def _as_float32(found: Any) -> Any:
    """Outputs with 16-bit floats as 32-bit floats."""
    import torch

    if isinstance(found, torch.Tensor):
        return found.float() if found.dtype == torch.bfloat16 else found
    if isinstance(found, MutableMapping):  # an output of transformers
        for name, value in list(found.items()):
            found[name] = _as_float32(value)
        return found
    return type(found)(map(_as_float32, found)) if isinstance(found, (tuple, list)) else found


def _few(inputs: tuple[Tensor, ...], rows_per_second: float) -> tuple[Tensor, ...]:
    """The first rows of a batch, as many as a short measurement takes."""
    count = max(1, min(len(inputs[0]), int(_MEASURED * rows_per_second)))
    return tuple(one[:count] for one in inputs)


def _seconds(run: Run, inputs: tuple[Tensor, ...]) -> float:
    """Shortest of a few runs, after one that does not count."""
    run(*inputs)
    times: list[float] = []
    while len(times) < 2 or (len(times) < 5 and sum(times) < _MEASURED / 2):
        start = time.perf_counter()
        run(*inputs)
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-6)


@lru_cache
def _processor() -> str:
    """The processor's name and what it can do."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        wanted = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        if wanted:
            return " ".join(dict.fromkeys(wanted))
    return f"{platform.machine()} {platform.processor()}"


@lru_cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
