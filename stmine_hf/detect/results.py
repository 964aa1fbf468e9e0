"""Results of a detector run: COCO results, and a readable summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..files import write_entries
from ..outputs import Outputs
from .detection import Detection

RESULTS, SUMMARY = "detections.json", "summary.json"


def coco_rows(image_id: int, detections: Sequence[Detection], **more: Any) -> list[dict[str, Any]]:
    """COCO results of one image or frame: `bbox` is [x, y, w, h]; with the name of the class, and `more`.

    `category_id` is the model's own number of the class (as in its `config.id2label`), not the one of COCO's
    annotation files, which has gaps.
    """
    return [
        {
            "image_id": image_id,
            "category_id": found.label,
            "category": found.name,
            "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
            "score": round(found.score, 5),
            **({} if found.track is None else {"track": found.track}),
            **more,
        }
        for found in detections
        for left, top, right, bottom in [found.box]
    ]


def write_summary(outputs: Outputs, summary: Mapping[str, Any]) -> None:
    """Write a summary, one line per entry, so that a long list of images does not hide the rest."""
    outputs.write(SUMMARY, lambda path: write_entries(path, summary))
