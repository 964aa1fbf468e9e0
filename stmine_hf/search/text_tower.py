"""The text tower of a model in another runtime, from an export or the user's cache: no sentence needs PyTorch.

A tower is kept in a folder of the cache that is named after the content of the model's files, so a changed model has
another one. `tower.json`, which is written last, holds the checksums of the others and the model's identity. Whatever
does not fit together is not used, and PyTorch embeds instead.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import TOKENIZER_FILES
from ..errors import StmineError
from ..files import cache_folder
from ..inference.batching import in_batches_by_length
from ..inference.exported import Export, is_export, open_network
from ..inference.onnx_graph import Network
from ..inference.scope import FILE as SCOPE
from ..inference.scope import Scope
from ..loading import published, resolve
from ..methods import FISVL
from ..modeling.fisvl.inputs_fisvl import clean_sentence
from ..outputs import sha256_of

GRAPH, TOKENIZER, MANIFEST = "text.onnx", "tokenizer.json", "tower.json"
PROBE_SENTENCE = "an airport with many planes"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "text_embeds"
MOST_TOWERS = 4  # kept in the cache; those used last
_FORMAT = 1
_ROUNDING = 1e-3  # of a probe, which is kept as float16

logger = logging.getLogger(__name__)


class TextTower:
    """A text tower with its tokenizer.

    Args:
        folder: has `tokenizer.json` and, without `network`, `text.onnx`.
        settings: `identity` and `meaningless` (as hexadecimal float32) of the model's `Embedder`; `clean_captions` and
            `max_words` of its processor.
        model: folder of the model.
        network: `input_ids` and `attention_mask` -> (B, D).
    """

    def __init__(self, folder: Path, settings: dict[str, Any], model: Path, network: Network | None = None):
        from tokenizers import Tokenizer

        # One sentence costs less than the search for a faster graph.
        self._network = network or open_network(folder / GRAPH, quick=True)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._clean, self._max_words = bool(settings["clean_captions"]), int(settings["max_words"])
        self._model = model
        self.identity: dict[str, Any] = settings["identity"]
        self.meaningless = np.frombuffer(bytes.fromhex(settings["meaningless"]), "<f4")

    def ids(self, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and attention mask, (B, T) each, as the model's processor gives them."""
        if self._clean:
            sentences = [clean_sentence(sentence, self._max_words) for sentence in sentences]
        encoded = self._tokenizer.encode_batch(list(sentences))
        return np.array([one.ids for one in encoded]), np.array([one.attention_mask for one in encoded])

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(N, D) unit rows."""
        return in_batches_by_length(self._embed, sentences)

    def _embed(self, sentences: list[str]) -> np.ndarray:
        (rows,) = self._network(dict(zip(INPUTS, self.ids(sentences), strict=True)))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)

    @cached_property
    def probe(self) -> np.ndarray:
        """(D,) the embedding of `PROBE_SENTENCE`."""
        return self.texts([PROBE_SENTENCE])[0]

    @property
    def scope(self) -> Scope | None:
        """See `Scope.of`."""
        file = self._model / SCOPE
        return Scope.read(file) if file.is_file() else None


def find_tower(source: str | Path | None) -> TextTower | None:
    """The text tower of an export, or of a model if the cache has one that fits its files; None if not.

    Args:
        source: folder, Hub id or short name of the model; None: the default one.
    """
    try:
        if source is not None and is_export(source, FISVL.name):
            return _require_same(_of_export(Path(os.path.abspath(source))))
        model = model_folder(source)
        if model is None or not (folder := tower_folder(model)).is_dir():
            return None
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        settings, files = manifest["settings"], {name: sha256_of(folder / name) for name in (GRAPH, TOKENIZER)}
        if manifest != sealed(settings, files):
            raise ValueError("a checksum differs")
        tower = _require_same(TextTower(folder, settings, model))
        with suppress(OSError):
            os.utime(folder)
        return tower
    except Exception as error:  # ONNX Runtime and tokenizers raise errors of their own, and PyTorch can do it all
        logger.debug("the text tower is not used, PyTorch embeds: %s", error)
        return None


def _of_export(folder: Path) -> TextTower:
    export = Export.open(folder, FISVL.name)
    identity = {**export.facts["identity"], "source": str(folder)}
    settings = {**export.settings, "identity": identity, "meaningless": export.facts["meaningless"]}
    return TextTower(folder, settings, folder, export.network("text", quick=True))


def _require_same(tower: TextTower) -> TextTower:
    """
    Raises:
        ValueError: the tower embeds the sentence of its identity differently.
    """
    known = np.frombuffer(bytes.fromhex(tower.identity["probe"]["text"]), "<f2").astype(np.float32)
    if not np.abs(known - tower.probe).max() < _ROUNDING:
        raise ValueError("it embeds a test sentence differently")
    return tower


def sealed(settings: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    """The content of `tower.json`.

    Args:
        settings: of the tower.
        files: name -> SHA-256.
    """
    digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {"settings": settings, "files": files, "sha256": digest}


def model_folder(source: str | Path | None) -> Path | None:
    """Folder of a model whose files are all on this machine and in one place; None if they are not."""
    try:
        name = published(FISVL.default_checkpoint) if source is None else resolve(source)
    except StmineError:
        return None
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    complete = (folder / "config.json").is_file() and not (folder / "adapter_config.json").exists()
    return folder if complete and any(folder.glob("*.safetensors")) else None


def tower_folder(model: Path) -> Path:
    """Where the text tower of a model is kept: its name is derived from the content of the model's files.

    Args:
        model: its folder.

    Raises:
        OSError: one cannot be read, or the user has no home.
    """
    digest = sha256(f"{_FORMAT} {importlib.metadata.version('stmine-hf')}".encode())
    names = ["config.json", "processor_config.json", "preprocessor_config.json", *TOKENIZER_FILES]
    for file in sorted({*(model / name for name in names), *model.glob("*.safetensors*")}):
        if file.is_file():
            digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return cache_folder("text-towers") / digest.hexdigest()[:32]
