"""What the classifier gives back for a post."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import document_bytes
from ..inference.answers import BadItemError, data_frame
from ..metrics.classification import softmax
from ..outputs import write_output
from .post import Post

if TYPE_CHECKING:
    import pandas

    from .classifier import PostClassifier

COLUMNS = ("id", "text", "label", "score")
_MOST_TEXT = 40  # characters of a post that are shown


@dataclass(frozen=True, repr=False)
class PostAnswer:
    """The prediction for a post.

    Attributes:
        id: of the post as it was given, or its place among those given, from 1.
        text: of the post; "" without one.
        label: the more probable one; None where there is no prediction.
        score: its probability.
        scores: that of each label.
        warning: why the prediction means little; None if there is no such reason.
        problem: what is wrong with an image that was left out; None if nothing is.
        error: why there is no prediction; None if there is one.
    """

    id: str | int
    text: str
    label: str | None = None
    score: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    warning: str | None = None
    problem: str | None = None
    error: str | None = None
    _post: Post | None = field(default=None, repr=False, compare=False)
    _classifier: PostClassifier | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _MOST_TEXT else self.text[: _MOST_TEXT - 1] + "…"
        said = {"warning": self.warning, "problem": self.problem, "error": self.error}
        more = "".join(f", {name}={value!r}" for name, value in said.items() if value is not None)
        found = "" if self.label is None else f"{self.label!r}, {self.score:.3f}, "
        return f"PostAnswer({found}id={self.id!r}, text={text!r}{more})"

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON has it, with the keys of `stmine classify`."""
        document: dict[str, Any] = {"id": self.id, "text": self.text}
        if self.label is not None:
            document |= {"label": self.label, "score": self.score, "scores": dict(self.scores)}
        said = {"warning": self.warning, "problem": self.problem, "error": self.error}
        return document | {name: value for name, value in said.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """One row of a table, with a column for the score of each label."""
        row = self.to_dict()
        scores = {f"score_{label}": score for label, score in row.pop("scores", {}).items()}
        kept = ("id", "text", "label", "score")
        rest = {name: value for name, value in row.items() if name not in kept}
        return [{name: row[name] for name in kept if name in row} | scores | rest]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with this one row."""
        return data_frame(self.rows(), COLUMNS)

    def plot(self, method: str | None = None) -> str:
        """An HTML page with the prediction and what drove it.

        Args:
            method: of explaining, "occlusion" (default) or "integrated_gradients".

        Raises:
            BadItemError: there is no prediction.
        """
        return self._explained(method).page()

    def show(self) -> None:
        """Open the page in a browser."""
        page = self.plot()
        with NamedTemporaryFile("w", suffix=".html", prefix="stmine-", encoding="utf-8", delete=False) as file:
            file.write(page)
        webbrowser.open(Path(file.name).as_uri())

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), the image with its marks (.png), or the answer itself (.json).

        Returns:
            The file.

        Raises:
            OutputError: a file is there that this package did not write.
            BadItemError: another suffix, or there is no prediction.
        """
        path = Path(path)
        if path.suffix.lower() == ".json":
            return write_output(path, lambda file: file.write_bytes(document_bytes(self.to_dict())))
        if path.suffix.lower() not in (".html", ".png"):
            raise BadItemError(f"{path}: expected a name that ends with .html, .png or .json")
        return self._explained(None).save(path)

    def _explained(self, method: str | None) -> Any:
        if self.error is not None or self._classifier is None or self._post is None:
            raise BadItemError(f"{self.id}: there is no prediction to explain ({self.error or 'no model'})")
        return self._classifier.explain_post(self._post, method)


def label_scores(logits: np.ndarray, labels: Sequence[str]) -> tuple[str, float, dict[str, float]]:
    """The more probable label, its probability, and that of each label.

    Args:
        logits: (L,).
        labels: L names.
    """
    probabilities = softmax(logits[None])[0]
    scores = {label: round(float(value), 6) for label, value in zip(labels, probabilities, strict=True)}
    best = labels[int(np.argmax(probabilities))]
    return best, scores[best], scores
