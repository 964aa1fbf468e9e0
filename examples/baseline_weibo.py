"""Baselines for MTTV on Weibo: the more frequent class, and word statistics.

    python examples/baseline_weibo.py --data_dir data/weibo
    python examples/baseline_weibo.py --data_dir data/weibo --split test --out outputs/baselines.json

The second baseline is a logistic regression on character 1- and 2-grams (TF-IDF); the third is the same with posts
weighted as in the training of the lite model: the more posts about an event, the less each counts. For `val`, whole
events are held out of train and dev (`--seed`: which); for `test`, all of train and dev is trained on. About a minute.
"""

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from stmine_hf import load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.metrics.classification import classification_scores

GROUP_BALANCE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="Weibo folder")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="what to measure on")
    parser.add_argument("--share", type=float, default=0.1, help="share of the posts held out, by whole events")
    parser.add_argument("--seed", type=int, default=0, help="which events are held out")
    parser.add_argument("--extra", help="a file of further rows in the folder, as in the recipe")
    parser.add_argument("--out", type=Path, help="file to write the scores to, as JSON")
    args = parser.parse_args()

    events = {"validation": "events", "validation_share": args.share, "validation_seed": args.seed}
    if args.extra and args.split == "val":  # those of test posts are no test posts
        events["extra"] = args.extra
    splits = load_dataset("weibo", data_dir=args.data_dir, **events)
    if args.split not in splits:
        raise StmineError(f"{args.data_dir} has no split {args.split!r}; it has {', '.join(splits)}.")
    train = [splits[name] for name in (("train",) if args.split == "val" else ("train", "val"))]
    texts = [text for rows in train for text in rows["text"]]
    truth, groups = (np.concatenate([rows[name] for rows in train]) for name in ("label", "group"))
    labels = tuple(splits["train"].features["label"].names)
    rows = splits[args.split]

    grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    seen, unseen = grams.fit_transform(texts), grams.transform(rows["text"])
    most = np.bincount(truth, minlength=len(labels))
    logits = {"majority class": np.tile(np.log(most / most.sum()), (len(rows), 1))}
    for name, weights in {"TF-IDF": None, "TF-IDF, events balanced": balanced(truth, groups)}.items():
        model = LogisticRegression(C=10, max_iter=1000).fit(seen, truth, sample_weight=weights)
        logits[name] = model.predict_log_proba(unseen)

    truth = np.asarray(rows["label"])
    scores = {name: classification_scores(own, truth, labels) for name, own in logits.items()}
    table = Table(title=f"weibo {args.split}: {len(rows)} posts, trained on {len(texts)}")
    for column in ("baseline", "accuracy", "macro F1", *(f"recall {label}" for label in labels), "ECE"):
        table.add_column(column, justify="left" if column == "baseline" else "right")
    keys = ("accuracy", "macro_f1", *(f"recall_{label}" for label in labels), "ece")
    for name, own in scores.items():
        table.add_row(name, *(f"{own[key]:.4f}" for key in keys))
    Console().print(table)
    if args.out:
        command = f"python examples/baseline_weibo.py --data_dir data/weibo --split {args.split}"
        document = {"command": command, "date": date.today().isoformat(), "trained_on": len(texts), "scores": scores}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def balanced(truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights that fall with the size of a post's event; both classes weigh the same in all."""
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weights = sizes[member] ** -GROUP_BALANCE
    totals = np.bincount(truth, weights=weights)
    return weights / totals[truth] * len(truth) / len(totals)


if __name__ == "__main__":
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
