"""The model of an index: loaded at first use, and recognized by its weights and outputs."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from ..errors import StmineError
from ..inference.engines import AUTO, on_workers, require_engine
from ..inference.scope import Scope, nonsense
from ..methods import FISVL
from ..model_identity import weights_digest
from .text_tower import PROBE_SENTENCE, TextTower, find_tower, model_folder

if TYPE_CHECKING:
    import torch

    from ..inference.exported import Export
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor
    from .embedding import DualEncoder, DualProcessor
    from .engine import EngineEncoder

# Cosine between the embeddings of the probe now and when the index was built. Another device or
# float type stays above this; another processor, config or set of weights does not.
_SAME_PROBE = 0.999

logger = logging.getLogger(__name__)


class Embedder:
    """A model with its processor: loaded at first use, and only once.

    Sentences are embedded without loading the model in PyTorch, if it is an export with a text tower, or the user's
    cache has its text tower.

    Args:
        model: a folder, a Hub id, None for the default FISVL, or a loaded `(model, processor)`.
        engine: runs the model; see `stmine_hf.inference.engines`. Jobs that `expect` no images run in PyTorch.

    Raises:
        StmineError: an unknown engine, or one that is not installed.
    """

    def __init__(
        self,
        model: str | Path | tuple[DualEncoder, DualProcessor] | None = None,
        device: str | torch.device | None = None,
        engine: str = AUTO,
    ):
        require_engine(engine)
        self._given = model
        self._device = device
        self._engine = engine

    @cached_property
    def _loaded(self) -> tuple[DualEncoder, DualProcessor]:
        if isinstance(self._given, tuple):
            model, processor = self._given
        elif self._given == "":
            raise StmineError(
                "the index was made with a model that was never saved: pass it as model=(model, processor)"
            )
        else:
            from ..loading import load_fisvl

            model, processor = load_fisvl(self._given, device=self._device)
        from ..loading import place

        if self._engine != AUTO and hasattr(model, "export"):
            raise StmineError("The model was exported for another runtime, which runs it: omit the engine.")
        place(model, self._device)
        return model, processor

    @property
    def _export(self) -> Export | None:
        """The loaded model as an export for another runtime, which may have one tower alone; None: it is not one."""
        return getattr(self._loaded[0], "export", None)

    @property
    def _runs(self) -> DualEncoder:
        """What embeds: the loaded model in an engine, or an export as it is."""
        return self._encoder if self._export is None else self._loaded[0]

    @cached_property
    def _encoder(self) -> EngineEncoder:
        """The loaded model in an engine."""
        from .engine import EngineEncoder

        encoder = EngineEncoder(self._loaded[0], self._engine, identity=self._weights)
        for runner in (encoder.image, encoder.text):
            runner.expect(0)
        return encoder

    @cached_property
    def _weights(self) -> str:
        return weights_digest(self._loaded[0])

    def expect(self, images: int) -> None:
        """Tell how many images are to be embedded: on it depends whether another engine than PyTorch is looked for."""
        if self._export is None:
            self._encoder.image.expect(images)

    @property
    def engines(self) -> list[str]:
        """The engines that have embedded images so far."""
        if "_loaded" in self.__dict__ and self._export is not None:
            return [self._export.format]
        return list(self._encoder.image.used) if "_encoder" in self.__dict__ else []

    @property
    def remark(self) -> str:
        """The engine that was chosen for images, and why; "" for PyTorch by default."""
        return self._encoder.image.remark if "_encoder" in self.__dict__ else ""

    def place(self, device: str | torch.device | None) -> None:
        """Move the model; None: leave it where it is."""
        from ..loading import place

        place(self._loaded[0], device)

    @property
    def engine_of_workers(self) -> str:
        """The engine of what `portable` returns."""
        return on_workers(self._engine)

    def portable(self) -> Embedder:
        """The same with the model in it, on the CPU, for another process."""
        from ..loading import on_cpu

        model, processor = self._loaded
        return Embedder((on_cpu(model), processor), engine=self.engine_of_workers)

    @property
    def _tower(self) -> TextTower | None:
        """The model's text tower; None: PyTorch embeds sentences, as it does wherever the model has been loaded."""
        return None if "_loaded" in self.__dict__ else self._found_tower

    @cached_property
    def _found_tower(self) -> TextTower | None:
        wanted = self._may_have_tower and self._engine in (AUTO, "onnx")
        return find_tower(self._given) if wanted else None  # type: ignore[arg-type]

    @property
    def _may_have_tower(self) -> bool:
        """Whether the model comes from files, and may run on the CPU."""
        return not isinstance(self._given, tuple) and self._given != "" and self._device in (None, "cpu")

    def keep_tower(self) -> None:
        """Write the model's text tower into the user's cache, if the model has been loaded and the cache has none."""
        if "_loaded" not in self.__dict__ or not self._may_have_tower:
            return
        folder = model_folder(self._given)  # type: ignore[arg-type]
        if folder is not None and find_tower(self._given) is None:  # type: ignore[arg-type]
            from .text_export import keep_tower

            model, processor = cast("tuple[FisvlModel, FisvlProcessor]", self._loaded)
            keep_tower(model, processor, self.identity, self.meaningless, folder)

    @property
    def source(self) -> str | None:
        """What to load next time: a folder (absolute) or Hub id, None for the default model, "" if unknown."""
        if isinstance(self._given, tuple):
            source = getattr(self._given[0].config, "_name_or_path", "")
        elif self._given is None:
            return None
        else:
            source = str(self._given)
        return os.path.abspath(source) if source and os.path.isdir(source) else source

    @property
    def name(self) -> str:
        """Name of the loaded model, without where its folder is; "" if it was never saved."""
        source = str(getattr(self._loaded[0], "name_or_path", "") or "")
        return Path(source).name if os.path.isdir(source) else source

    @property
    def side(self) -> int:
        """Longer side of the model's input in pixels, at most."""
        size = getattr(self._loaded[1].image_processor, "size", None)
        return max(dict(size).values(), default=512) if size else 512

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """(3, H, W)."""
        from .embedding import preprocess

        return preprocess(self._loaded[1], [image])[0]

    def features(self, pixel_values: list[torch.Tensor]) -> np.ndarray:
        """(B, D) unit rows of B images of (3, H, W)."""
        import torch

        from .embedding import image_features

        return image_features(self._runs, torch.stack(pixel_values)).numpy()

    def image(self, image: Image.Image) -> np.ndarray:
        """(1, D)."""
        from .embedding import embed_images

        return embed_images(*self._loaded, [image]).numpy()

    def text(self, text: str) -> np.ndarray:
        """(1, D)."""
        return self.texts([text])

    def texts(self, texts: list[str]) -> np.ndarray:
        """(N, D)."""
        if self._tower is not None:
            return self._tower.texts(texts)
        from .embedding import embed_texts

        if self._export is None:
            self._encoder.text.expect(len(texts))
        return embed_texts(self._runs, self._loaded[1], texts).numpy()

    @cached_property
    def scope(self) -> Scope | None:
        """The scope of the texts that the model was trained on."""
        return self._tower.scope if self._tower is not None else Scope.of(self._loaded[0])

    @cached_property
    def meaningless(self) -> np.ndarray:
        """(D,) the mean of sentences without meaning."""
        return self._tower.meaningless if self._tower is not None else self.texts(nonsense()).mean(axis=0)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity of the model, which the index stores.

        `weights` is a hash of names and values. A hash of the config would change with every transformers version that
        adds a field, so the effect of config, processor and code is stored as `probe`: the embeddings of one fixed
        image and one fixed sentence, as hexadecimal float16.
        """
        from .embedding import embed_texts

        model, export = self._loaded[0], self._export
        embeds = {  # in PyTorch, whatever engine runs the others; or in the runtime of an export
            "image": lambda: self.image(_probe_image()),
            "text": lambda: embed_texts(*self._loaded, [PROBE_SENTENCE]).numpy(),
        }
        probe = {part: embed() for part, embed in embeds.items() if export is None or part in export.parts}
        if not all(np.isfinite(vector).all() for vector in probe.values()):
            raise StmineError("the model gives NaN or infinity for a plain image or sentence: its weights are broken")
        return {
            "source": self.source,
            "class": type(model).__name__,
            # An export whose embeddings may be mixed with those of its model has the model's weights.
            "weights": self._weights if export is None else export.facts["weights"],
            "dimension": next(iter(probe.values())).shape[1],
            "probe": {key: vector[0].astype("<f2").tobytes().hex() for key, vector in probe.items()},
            **({} if export is None else {"export": export.format}),
        }

    def require(self, expected: dict[str, Any], index: object, *, images: bool = True) -> None:
        """
        Args:
            expected: the `identity` in the index.
            index: its place, for the message.
            images: images are to be embedded, not sentences alone.

        Raises:
            StmineError: this is not the model whose `identity` is `expected`.
        """
        if not images and self._tower is not None:
            if difference(expected, self._tower.identity) is None:
                return
            logger.debug("%s: the text tower in the cache is not of its model; PyTorch embeds", index)
            self.__dict__["_found_tower"] = None
        differs = self._stored_difference(expected) or difference(expected, self.identity)
        if differs is None:
            return
        raise StmineError(
            f"{index} was made with another model ({_name(expected['source'])}) than {_name(self.source)}: "
            f"{differs}. Pass the model it was made with, or index the images into a new folder"
        )

    def _stored_difference(self, expected: dict[str, Any]) -> str | None:
        """How the weights in the model's file differ, before it is loaded; None: not at all, or loading tells."""
        if isinstance(self._given, tuple) or self._given == "" or "_loaded" in self.__dict__:
            return None
        from ..loading import is_surely_other

        other = expected["source"] != "" and is_surely_other(
            self._given, expected["source"], expected["weights"], FISVL
        )
        return difference(expected, {**expected, "weights": None}) if other else None


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """How the identities of two models differ; None if they do not.

    Of an export with one tower there is one probe, and of two exports with different towers none that both have: that
    both are of the same weights, and were compared with them when they were made, is enough then.
    """
    if expected["weights"] != found["weights"]:
        if expected.get("export") != found.get("export"):
            made, given = (one.get("export") or "the model itself" for one in (expected, found))
            return f"it has other weights, or is exported too coarsely to be mixed (index: {made}, now: {given})"
        return "it has other weights"
    both = expected["probe"].keys() & found["probe"].keys()
    probes = [(expected["probe"][key], found["probe"][key]) for key in both]
    if all(len(then) == len(now) and np.dot(_unpacked(then), _unpacked(now)) > _SAME_PROBE for then, now in probes):
        return None
    return "it embeds a test image and sentence differently (processor, config or library version)"


def _unpacked(probe: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(probe), "<f2").astype(np.float32)


def _name(source: str | None) -> str:
    return {None: "the default one", "": "one that was never saved"}.get(source, str(source))


def _probe_image() -> Image.Image:
    """Smooth waves of three colours: something to see at every size a processor may ask for."""
    y, x = np.mgrid[0:256, 0:256] / 256
    channels = [np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 2), (5, -3), (-11, 7))]
    return Image.fromarray(np.round(127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8))
