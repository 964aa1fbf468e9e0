"""A classifier's accuracy, scores of each class and calibration: `stmine_hf.metrics.classification`."""

import datasets
import evaluate

try:
    from stmine_hf.metrics.classification import BINS, classification_scores
except ImportError as error:
    raise ImportError('classification_calibration needs stmine-hf: pip install "stmine-hf[train]"') from error


_DESCRIPTION = """Accuracy, macro F1, precision, recall and F1 of each class, and how far probabilities can be trusted (ECE)."""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each row the logits of all classes.
    references: the right class of each row, from 0.
    labels: names of the classes; "0", "1", ... unless told.
    bins: of the calibration error, 15 unless told.
Returns:
    accuracy, macro_f1, precision_LABEL, recall_LABEL and f1_LABEL of each class, ece, brier, loss (cross-entropy).
Example:
    >>> metric = evaluate.load("classification_calibration")
    >>> metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 0], labels=["fake", "real"])["accuracy"]
    0.5
"""


class ClassificationCalibration(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, labels=None, bins=BINS):
        names = labels or [str(number) for number in range(len(predictions[0]))]
        return classification_scores(predictions, references, names, bins=bins)
