"""A file of posts in, a file of verdicts out: batched, resumable, bad rows told apart.

Verdicts are JSON lines: `id`, `label`, `score` (probability of the label), `scores` (by label), `line` (of the posts'
file), `model`, and `problem` where an image was left out. They are written batch by batch, so a killed run loses one
batch at most, and put into the order of the posts at the end. Rows that cannot be judged stand in the file
`<out>.skipped.jsonl` with `line`, `id` and `reason`; every run tries them again.
"""

from __future__ import annotations

import json
import os
import time
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import StmineError
from ..files import write_atomically
from ..metrics.classification import softmax
from ..model_identity import model_tag
from .judging import Judged, Post, judge, progress_bar
from .reading import count_posts, read_posts

_START = b'{"id": '  # how every line begins: what is left of one that a kill has cut short


class SkippedRow(NamedTuple):
    """A row without verdict, and why."""

    line: int
    id: str | int
    reason: str


@dataclass
class ClassifyReport:
    """What one run did.

    Attributes:
        judged: posts judged by this run.
        done_before: posts whose verdict was there.
        images_left_out: posts that this run judged without an image that cannot be read.
        skipped: how many rows have no verdict.
        first_skipped: ten of them; all are in the file `skipped_file`, None where there are none.
        verdicts: how often each label was given, over all posts.
        model: name and digest of the model.
        seconds: of the whole run, the loading of the model left out.
    """

    judged: int = 0
    done_before: int = 0
    images_left_out: int = 0
    skipped: int = 0
    first_skipped: list[SkippedRow] = field(default_factory=list)
    skipped_file: Path | None = None
    verdicts: Counter[str] = field(default_factory=Counter)
    model: str = ""
    seconds: float = 0.0


def classify_file(
    model: Any,
    processor: Any,
    file: str | Path,
    out: str | Path,
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: Any = None,
    without_bad_images: bool = False,
    progress: bool = True,
) -> ClassifyReport:
    """Judge the posts of a file. Run it again to go on after an interruption, or after mending rows.

    Args:
        model: an `MttvForSequenceClassification`.
        processor: its `MttvProcessor`.
        file: posts; see `read_posts`.
        out: verdicts, as JSON lines; posts whose `id` is there already are passed over.
        batch_size: posts at a time.
        device: where to run; by default where the model is.
        detector: finds regions in the images; see `MttvProcessor`.
        without_bad_images: judge a post with a text by what is left when an image of it cannot be read, and tell so
            as `problem`. Else it is skipped: no post is judged by less than was given.
        progress: show a bar on stderr.

    Raises:
        StmineError: no such file; `out` is something else, or of another model; not one row can be judged.
    """
    start, file, out = time.perf_counter(), Path(file), Path(out)
    tag = model_tag(model) + (f" with {model_tag(detector.model)}" if hasattr(detector, "model") else "")
    total = count_posts(file)
    if out.exists() and out.samefile(file):
        raise StmineError(f"{out}: the posts themselves; give another file for the verdicts.")
    done = _verdicts_in(out, tag)
    out.parent.mkdir(parents=True, exist_ok=True)
    report, skipped_file = ClassifyReport(model=tag), out.with_suffix(".skipped.jsonl")
    labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
    lines: dict[str, int] = {}  # of every post
    with (
        open(out, "ab") as verdicts,
        open(skipped_file, "w", encoding="utf-8", errors="replace") as skips,
        progress_bar(progress) as bar,
    ):
        task = bar.add_task("Judging posts", total=total)

        def skip(line: int, name: str | int, reason: str) -> None:
            row = SkippedRow(line, name, reason)
            skips.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
            report.skipped += 1
            insort(report.first_skipped, row, key=itemgetter(0))
            del report.first_skipped[10:]

        def posts() -> Iterator[Post]:
            for row in read_posts(file):
                if row.post is None:
                    skip(row.line, row.id, row.problem or "")
                    bar.advance(task)
                    continue
                lines[json.dumps(row.id)] = row.line
                if json.dumps(row.id) in done:
                    report.done_before += 1
                    bar.advance(task)
                else:
                    yield row.post

        options = {"batch_size": batch_size, "device": device, "detector": detector}
        for batch in judge(model, processor, posts(), without_bad_images=without_bad_images, **options):
            for one in batch:
                line = lines[json.dumps(one.post.id)]
                if one.logits is None or (one.problem and not one.post.text.strip()):
                    skip(line, one.post.id, one.problem or "")
                else:
                    verdicts.write(_verdict(one, labels, line, tag))
                    report.judged += 1
                    report.images_left_out += one.problem is not None
            verdicts.flush()
            bar.advance(task, len(batch))
    if report.skipped:
        report.skipped_file = skipped_file
    else:
        skipped_file.unlink()
    report.verdicts = _in_order(out, lines)
    report.seconds = time.perf_counter() - start
    if not report.judged and not report.done_before:
        if not out.stat().st_size:
            out.unlink()
        first = report.first_skipped[0] if report.first_skipped else None
        found = f"{report.skipped} rows skipped; line {first.line}: {first.reason}" if first else "it is empty"
        raise StmineError(f"{file}: not one post can be judged ({found}).")
    return report


def _verdict(one: Judged, labels: list[str], line: int, tag: str) -> bytes:
    assert one.logits is not None
    probabilities = softmax(one.logits[None])[0]
    best = int(np.argmax(probabilities))
    row: dict[str, Any] = {
        "id": one.post.id,
        "label": labels[best],
        "score": round(float(probabilities[best]), 6),
        "scores": {label: round(float(value), 6) for label, value in zip(labels, probabilities, strict=True)},
        "line": line,
        "model": tag,
    }
    if one.problem:
        row["problem"] = one.problem
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _verdicts_in(out: Path, tag: str) -> set[str]:
    """Ids whose verdicts an earlier run has written; a last line that was cut short is removed.

    Raises:
        StmineError: the file is something else, or of another model.
    """
    if not out.exists():
        return set()
    if not out.is_file():
        raise StmineError(f"{out}: expected a file to write verdicts to, found a folder.")
    done: set[str] = set()
    end = 0
    with open(out, "rb") as file:
        for number, line in enumerate(file, start=1):
            whole = line.endswith(b"\n")
            try:
                row = json.loads(line)
                name, made_with = row["id"], row["model"]
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, ValueError) and not whole and line[: len(_START)] == _START[: len(line)]:
                    break
                raise StmineError(
                    f"{out}, line {number}: no verdict of this command. Give another file for the verdicts, or delete "
                    "this one."
                ) from None
            if made_with != tag:
                raise StmineError(
                    f"{out} holds verdicts of {made_with}, the model is now {tag}. Give another file for the "
                    "verdicts, or delete this one."
                )
            if whole:
                done.add(json.dumps(name))
                end += len(line)
    if end < out.stat().st_size:
        os.truncate(out, end)
    return done


def _in_order(out: Path, lines: dict[str, int]) -> Counter[str]:
    """Put the verdicts into the order of the posts, in one step; those of posts that are gone come last.

    Returns:
        How often each label was given.
    """
    counts: Counter[str] = Counter()
    places: list[tuple[int, int]] = []  # line of the post, start of the verdict
    start = 0
    with open(out, "rb") as file:
        for line in file:
            row = json.loads(line)
            counts[row["label"]] += 1
            places.append((lines.get(json.dumps(row["id"]), 2**63), start))
            start += len(line)
    if places != sorted(places):

        def write(temporary: Path) -> None:
            with open(out, "rb") as file, open(temporary, "wb") as ordered:
                for _, place in sorted(places):
                    file.seek(place)
                    ordered.write(file.readline())

        write_atomically(out, write)
    return counts
