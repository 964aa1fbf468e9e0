"""Results of a detector run: COCO results, and a readable summary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..outputs import Outputs
from .detector import Detection

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
            **more,
        }
        for found in detections
        for left, top, right, bottom in [found.box]
    ]


class RowWriter:
    """Writer of a JSON list row by row, which need not fit in memory."""

    def __init__(self, path: Path):
        self._path = path
        self._separator = "\n"

    def __enter__(self) -> RowWriter:
        self._file = open(self._path, "w", encoding="utf-8")
        self._file.write("[")
        return self

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._file.write(self._separator + json.dumps(row, ensure_ascii=False))
            self._separator = ",\n"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write("\n]\n")
        self._file.close()


def write_summary(outputs: Outputs, summary: Mapping[str, Any]) -> None:
    """Write a summary, one line per entry, so that a long list of images does not hide the rest."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in summary.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    outputs.write(SUMMARY, lambda path: path.write_text(text, encoding="utf-8"))
