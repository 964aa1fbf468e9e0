"""Post checker: the prediction for a post, and what drove it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import StmineError
from ..explain import Attribution, draw_cells
from ..inference.scope import Scope, Warned
from ..loading import load_mttv
from . import limits

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor


@dataclass(frozen=True)
class PostCheck:
    """A prediction for a post.

    Attributes:
        attribution: the prediction and what drove it.
        image: the image of the post, drawn on by `draw_cells`; None without one.
        warned: why the prediction means little; None if there is no such reason.
    """

    attribution: Attribution
    image: Image.Image | None
    warned: Warned | None = None


class PostChecker:
    """Checks posts.

    Args:
        model: folder or Hub id of an MTTV model, a loaded `(model, processor)`, or None for the small one.
        method: of explaining, "occlusion" (default) or "integrated_gradients".
    """

    def __init__(
        self,
        model: str | Path | tuple[MttvForSequenceClassification, MttvProcessor] | None = None,
        *,
        device: str | None = None,
        method: str | None = None,
    ):
        from ..modeling.mttv.pipeline_mttv import DEFAULT_METHOD, MttvPipeline

        self.model, self.processor = model if isinstance(model, tuple) else load_mttv(model, device=device)
        self.scope, self.method = Scope.of(self.model), method or DEFAULT_METHOD
        self._classify = MttvPipeline(model=self.model, processor=self.processor, device=self.model.device)

    @property
    def model_name(self) -> str:
        return Path(self.model.name_or_path).name

    def check(self, text: str, image: limits.ImageInput | None = None) -> PostCheck:
        """Classify a post and explain the prediction.

        Raises:
            StmineError: nothing to classify, too long a text, or an image that cannot be used.
        """
        text = limits.checked_text(text, limits.MAX_POST)
        checked = None if image is None else limits.checked_image(image)
        if not text and checked is None:
            raise StmineError("Nothing to classify: write a text, add an image, or both.")
        if checked is not None and self.model.config.vision_config is None:
            raise StmineError("This model has no visual encoder, it classifies text alone: remove the image.")
        result = self._classify({"text": text, "image": checked}, explain=self.method)
        attribution = Attribution.from_pipeline(text, result)
        drawn = None if checked is None else draw_cells(checked, attribution)
        return PostCheck(attribution, drawn, self.scope.check_text(text) if self.scope else None)
