"""Recall of image-text retrieval in both directions, with several right texts an image: `stmine_hf.metrics.retrieval`."""

import datasets
import evaluate

try:
    from stmine_hf.metrics.retrieval import retrieval_recall
except ImportError as error:
    raise ImportError('retrieval_recall needs stmine-hf: pip install "stmine-hf[train]"') from error


_DESCRIPTION = """R@k in both directions and their mean (mR), in percent, as papers on image-text retrieval report them."""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each image its scores with all texts (the same texts for every image), higher = more alike.
    references: for each image the numbers of its right texts, one or more; no text belongs to nobody.
    ks: cut-offs, (1, 5, 10) unless told.
Returns:
    txt_r1, txt_r5, txt_r10 (an image is the query), img_r1, img_r5, img_r10 (a text is the query), r_mean.
Example:
    >>> metric = evaluate.load("retrieval_recall")
    >>> metric.compute(predictions=[[0.9, 0.1, 0.5], [0.2, 0.3, 0.6]], references=[[0, 2], [1]], ks=[1])
    {'txt_r1': 50.0, 'img_r1': 66.66666666666667, 'r_mean': 58.333333333333336}
"""


class RetrievalRecall(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("int64")),
                }
            ),
        )

    def _compute(self, predictions, references, ks=(1, 5, 10)):
        return retrieval_recall(predictions, references, ks=ks)
