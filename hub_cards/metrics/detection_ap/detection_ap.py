"""COCO's average precision of detectors: `stmine_hf.metrics.detection`, which has pycocotools compute it."""

import datasets
import evaluate

try:
    from stmine_hf.metrics.detection import detection_scores
except ImportError as error:
    raise ImportError('detection_ap needs stmine-hf: pip install "stmine-hf[train]"') from error


_DESCRIPTION = """AP as COCO measures it, in all its parts, from boxes as x, y, width, height in pixels."""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each image {"bbox": boxes, "category": their classes from 0, "score": their scores}.
    references: for each image {"bbox": boxes, "category": their classes, "area": in pixels, "iscrowd": true or false}.
    labels: names of the classes; "0", "1", ... unless told.
Returns:
    ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large, from 0 to 1; what
    cannot be measured (AP of small objects where there are none) has no key.
Example:
    >>> metric = evaluate.load("detection_ap")
    >>> found = [{"bbox": [[0, 0, 10, 7]], "category": [0], "score": [0.9]}]
    >>> truth = [{"bbox": [[0, 0, 10, 10]], "category": [0], "area": [100], "iscrowd": [False]}]
    >>> metric.compute(predictions=found, references=truth)["ap50"]
    1.0
"""

_BOXES = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))


class DetectionAp(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": {
                        "bbox": _BOXES,
                        "category": datasets.Sequence(datasets.Value("int64")),
                        "score": datasets.Sequence(datasets.Value("float64")),
                    },
                    "references": {
                        "bbox": _BOXES,
                        "category": datasets.Sequence(datasets.Value("int64")),
                        "area": datasets.Sequence(datasets.Value("float64")),
                        "iscrowd": datasets.Sequence(datasets.Value("bool")),
                    },
                }
            ),
        )

    def _compute(self, predictions, references, labels=None):
        highest = max((c for row in [*references, *predictions] for c in row["category"]), default=-1)
        names = labels or [str(number) for number in range(highest + 1)]
        truth = {
            "images": [{"id": image} for image in range(len(references))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": [box for image, row in enumerate(references) for box in _boxes(image, row)],
        }
        found = [box for image, row in enumerate(predictions) for box in _boxes(image, row)]
        return detection_scores(truth, found).metrics


def _boxes(image, row):
    """The boxes of an image as COCO lists them."""
    for name, values in row.items():
        if len(values) != len(row["bbox"]):
            raise ValueError(f"image {image}: {len(row['bbox'])} boxes, but {len(values)} of {name}")
    for values in zip(*row.values()):
        box = dict(zip(row, values))
        yield {"image_id": image, "category_id": box.pop("category"), **box}
