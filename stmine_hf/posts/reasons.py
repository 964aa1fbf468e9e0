"""Why a post was classified as it was: the pipeline's answer with its explanation, and the files that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import StmineError
from ..explain import Attribution, draw_captioned, explanation_page, texts
from ..inference.scope import Scope
from ..model_identity import model_tag
from ..modeling.mttv.pipeline_mttv import MttvPipeline
from ..modeling.mttv.processing_mttv import MttvProcessor, as_released
from ..outputs import write_output
from .prediction import RegionDetector

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification

SUFFIXES = (".html", ".png")


@dataclass(frozen=True)
class ExplainedPost:
    """A prediction and what drove it.

    Attributes:
        text: of the post.
        images: of the post, upright and in RGB.
        found: the answer of the pipeline, with `characters`, `unread_characters`, `model` and `warning`.
        files: of the images, which a drawing must not replace.
        row: which post it is: the id and line in a file; "" for one by itself.
    """

    text: str
    images: Sequence[Image.Image]
    found: dict[str, Any]
    files: Sequence[str | Path] = ()
    row: str = ""
    of_weibo: bool = False  # the labels are those of the Weibo set

    @property
    def about(self) -> list[str]:
        """Which post and which model, a line each."""
        model = self.found.get("model_tag") or Path(str(self.found.get("model", ""))).name
        return [*([self.row] if self.row else []), *([texts.MODEL("en", model=model)] if model else [])]

    def page(self) -> str:
        """An HTML page that needs no other file."""
        warnings = [self.found["warning"]] if "warning" in self.found else []
        return explanation_page(
            self._attribution(), self.images[0] if self.images else None, warnings=warnings, about=self.about,
            of_weibo=self.of_weibo,
        )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), or the first image with its marks (.png).

        Raises:
            StmineError: another suffix, no image to draw on, or a file that this package did not write.
        """
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise StmineError(f"{path}: expected a name that ends with .html or .png")
        if path.suffix.lower() == ".png":
            if not self.images:
                raise StmineError(f"{path}: the post has no image to draw on; name a file that ends with .html")
            return write_output(
                path, draw_captioned(self.images[0], self._attribution(), self.about).save, inputs=self.files
            )
        page = self.page()
        return write_output(path, lambda file: file.write_text(page, encoding="utf-8"), inputs=self.files)

    def _attribution(self) -> Attribution:
        return Attribution.from_pipeline(self.text, self.found)


def classified(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    text: str,
    images: Sequence[Image.Image],
    *,
    detector: RegionDetector | None = None,
    method: str | None = None,
    files: Sequence[str | Path] = (),
    row: str = "",
) -> ExplainedPost:
    """Classify one post.

    Args:
        model: an `MttvForSequenceClassification`.
        processor: its processor.
        text: of the post.
        images: of the post.
        detector: finds regions in the images; see `MttvProcessor`.
        method: of explaining, "occlusion" or "integrated_gradients"; None: no explanation.
        files: of the images.
        row: see `ExplainedPost`.

    Raises:
        StmineError: neither text nor image, or an image for a model that has no visual encoder.
    """
    if not text.strip() and not images:
        raise StmineError("Nothing to classify: the text is empty, and there is no image.")
    if images and model.config.vision_config is None:
        raise StmineError(
            "This model has no visual encoder, it classifies text alone: omit --image, or give a text only."
        )
    pipeline = MttvPipeline(model=model, processor=processor, detector=detector, device=model.device)
    found = pipeline({"text": text, "image": list(images) or None}, explain=method or False)
    scope = Scope.of(model)
    found |= {**remarks(processor, scope, text), "model": model.name_or_path, "model_tag": model_tag(model)}
    return ExplainedPost(text, list(images), found, files, row, scope is not None and "weibo" in scope.measured)


def remarks(processor: MttvProcessor, scope: Scope | None, text: str) -> dict[str, Any]:
    """Remarks on a text: its `characters`, `unread_characters`, which the model does not read, and a `warning`.

    Args:
        processor: of the model.
        scope: of the model.
        text: of a post.
    """
    pieces = processor.tokenizer(
        as_released(text), add_special_tokens=False, truncation=True, max_length=processor.max_tokens,
        return_offsets_mapping=True,
    )["offset_mapping"]  # fmt: skip
    unread = text[pieces[-1][1] if pieces else 0 :].strip()
    said = {"characters": len(text), "unread_characters": len(unread)}
    warned = scope.check_text(text) if scope else None
    return {**said, "warning": warned.message} if warned else said
