"""Results of a detector run: COCO results, a readable summary, and the settings that a run is resumed with.

Needs no PyTorch, so that results of other settings are refused before a model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..checkpoints import read_settings
from ..errors import StmineError
from ..files import write_entries
from ..images import PixelOptions
from ..loading import stored_digest, whole_model_here
from ..methods import SAT
from ..outputs import Outputs, require_outputs
from .classes import OTHERS, known_labels, parse_thresholds
from .detection import Detection

RESULTS, SUMMARY, JOURNAL = "detections.json", "summary.json", "journal.jsonl"
IOU = 0.6  # of two boxes of one class, above which the one with the lower score is removed
MAX_BOXES = 100  # of an image
# What decides which boxes are found -> its name in messages.
_SETTINGS = {
    "identity": "model",
    "threshold": "threshold",
    "labels": "classes",
    "iou": "iou",
    "slice": "slice",
    "overlap": "overlap",
    "max_boxes": "max_boxes",
    "crops": "save_crops",
    "pixels": "stretch and bands",
}


class OtherResultsError(StmineError):
    """The folder holds results that this run does not continue."""


def settings_of(
    names: Mapping[int, str],
    *,
    threshold: float,
    own_thresholds: Mapping[int, float],
    labels: Sequence[int] | None,
    iou: float,
    max_boxes: int,
    slices: tuple[int, float] | None,
    pixels: PixelOptions,
) -> dict[str, Any]:
    """The settings of a detector beside its model; see `Detector.settings`."""
    given: Any = threshold
    if own_thresholds:
        given = {OTHERS: threshold, **{names[label]: least for label, least in sorted(own_thresholds.items())}}
    settings = {"threshold": given, "labels": None if labels is None else [names[label] for label in labels]}
    settings |= {} if iou == IOU else {"iou": iou}
    settings |= {} if slices is None else {"slice": slices[0], "overlap": slices[1]}
    settings |= {} if max_boxes == MAX_BOXES else {"max_boxes": max_boxes}
    return settings if pixels == PixelOptions() else {**settings, "pixels": pixels.document()}


def identity_parts(setting: Callable[[str], Any], names: Mapping[int, str]) -> bytes:
    """What identifies a detector beside its weights: how its processor places and colors images, and its classes.

    Args:
        setting: a setting of the processor by its name.
        names: of the classes.
    """
    settings = [setting(name) for name in ("fit", "channel_order", "size_divisor", "image_mean", "image_std")]
    settings += [setting("size")["height"], setting("size")["width"], sorted(names.items())]
    return json.dumps(settings).encode()


def stored_identity(model: str | Path | None, names: Mapping[int, str]) -> str | None:
    """The `identity` of a detector, from its files; None where only the loaded model tells."""
    folder = whole_model_here(model, SAT)
    if folder is None:
        return None
    with suppress(OSError, StmineError, KeyError, TypeError):
        processor = read_settings(Path(folder, "preprocessor_config.json"))
        return stored_digest(folder, SAT, size=8, also=identity_parts(processor.__getitem__, names))
    return None


def require_resumable(
    out: Path,
    model: str | Path | None,
    names: Mapping[int, str],
    *,
    threshold: float | Mapping[str, float],
    classes: Sequence[str] | None,
    save_crops: bool,
    of_one: bool,
    **others: Any,
) -> None:
    """Check, before the model is loaded, that a run can write to a folder: it is new, or its results are continued.

    Args:
        out: the folder.
        model: as of [`Detector`].
        names: of its classes.
        threshold: as of [`Detector`].
        classes: as of [`Detector`].
        save_crops: see `detect_images`.
        of_one: the run is of one image or video, which is not recorded.
        others: the other settings of `settings_of`.

    Raises:
        OtherResultsError: results of other settings are there.
        OutputError: files are there that this package did not write.
    """
    journal = out / JOURNAL
    if not journal.is_file():
        require_outputs(out, RESULTS, SUMMARY)
        return
    if of_one:
        raise other_kind(out, "one image or video")
    least, own = parse_thresholds(threshold, names)
    labels = None if classes is None else sorted(known_labels(classes, names))
    settings = settings_of(names, threshold=least, own_thresholds=own, labels=labels, **others)
    try:
        with open(journal, "rb") as file:
            earlier = json.loads(file.readline(2**20))["settings"]
        settings["identity"] = stored_identity(model, names) or earlier["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the run says what is wrong with it
    require_same(out, earlier, {**settings, **({"crops": True} if save_crops else {})})


def require_same(out: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """
    Raises:
        OtherResultsError: the results in a folder were made with other settings.
    """
    differ = [key for key in _SETTINGS if earlier.get(key) != settings.get(key)]
    if differ:
        found = ", ".join(_said(key, earlier) for key in differ)
        raise OtherResultsError(
            f"{out} holds results made with other settings ({found}): choose another folder (--out), or "
            "delete it to start again."
        )


def _said(key: str, settings: Mapping[str, Any]) -> str:
    value = settings.get("model" if key == "identity" else key, {"iou": IOU, "max_boxes": MAX_BOXES}.get(key))
    return f"no {_SETTINGS[key]}" if value is None and key != "labels" else f"{_SETTINGS[key]} {value}"


def other_kind(out: Path, found: str) -> OtherResultsError:
    """The error for a folder with the results of a folder of images, where there is something else to look at."""
    return OtherResultsError(f"{out} holds the results of a folder: choose another folder for those of {found}.")


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
