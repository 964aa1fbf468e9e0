"""Classify a file of posts: in batches, resumed after an interruption, with bad rows listed separately.

A prediction has `id`, `text`, `label`, `score` (probability of the label), `scores` (by label), `line` (in the file of
posts), `model`, `key` (digest of the post's text and images), `problem` where an image was skipped,
and `warning` where the post differs from those that the model was trained on. The
output has one for each post of the file that can be classified, in their order. Its suffix gives the format.

A prediction belongs to a text and images, not to an id or a line: it is reused where the key is the same, and a post
whose content has changed is classified again. Predictions are on disk batch by batch, so a killed run loses one batch
at most: in the output itself if that has JSON lines, else in `OUT.journal.jsonl`, which stays.

    OUT.skipped.jsonl   rows that cannot be classified: `line`, `id` and `reason`; every run tries them again
    OUT.removed.jsonl   predictions of posts that are no longer in the file; reused when they come back
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..data.columns import Column
from ..errors import StmineError
from ..images import PixelOptions
from ..inference.engines import AUTO, TORCH, on_workers
from ..inference.journal import Journal, json_line, json_rows
from ..inference.progress import ProgressBar
from ..inference.scope import Scope
from ..loading import place
from ..model_identity import model_tag
from ..outputs import Outputs, require_apart
from .answer import label_scores
from .engine import EngineClassifier
from .post import Post, content_key
from .prediction import Prediction, RegionDetector, predict
from .reading import count_posts, not_one_post, read_posts
from .results import JSON_LINES, format_of, names_of_files, write_results

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

_DEFAULT = PixelOptions()


class SkippedRow(NamedTuple):
    """A row without prediction, and why."""

    line: int
    id: str | int
    reason: str


@dataclass
class ClassifyReport:
    """Report of one run, and of the output after it.

    Attributes:
        predicted: posts classified by this run.
        done_before: posts whose prediction was there.
        outdated: predictions of an earlier version without `key`, which this run made again.
        removed: predictions of posts that are no longer in the file.
        images_left_out: posts that this run classified without an image that cannot be read.
        renamed: posts whose id another one has, made unique as in training: the second one of id 7 is 7#2.
        warned: posts that differ from those that the model was trained on; see `stmine_hf.inference.scope`.
        skipped: how many rows have no prediction.
        first_skipped: ten of them; all are in the file `skipped_file`, None where there are none.
        labels: how often each label was predicted, over all posts of the file.
        model: name and digest of the model.
        engines: that ran it; see `stmine_hf.inference.engines`.
        engine: those that were chosen, and how fast they are; "": PyTorch.
        seconds: duration of the run, without loading the model.
    """

    predicted: int = 0
    done_before: int = 0
    outdated: int = 0
    removed: int = 0
    images_left_out: int = 0
    renamed: int = 0
    warned: int = 0
    skipped: int = 0
    first_skipped: list[SkippedRow] = field(default_factory=list)
    skipped_file: Path | None = None
    labels: Counter[str] = field(default_factory=Counter)
    model: str = ""
    engines: list[str] = field(default_factory=list)
    engine: str = ""
    seconds: float = 0.0


@dataclass
class _Place:
    """A post of the file, and the location of its prediction in the journal."""

    line: int
    id: str | int
    key: str
    offset: int | None = None
    text: str | None = None  # of a prediction that an earlier version wrote without it
    failure: str | None = None


def classify_file(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    file: str | Path,
    out: str | Path,
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: RegionDetector | None = None,
    without_bad_images: bool = False,
    encoding: str | None = None,
    columns: Mapping[str, Column] | None = None,
    pixels: PixelOptions = _DEFAULT,
    progress: bool = True,
    engine: str = AUTO,
    ray: str | None = None,
) -> ClassifyReport:
    """Classify the posts of a file. Run it again to resume after an interruption, or after changing rows.

    Args:
        model: an `MttvForSequenceClassification`.
        processor: its `MttvProcessor`.
        file: posts; see `read_posts`.
        out: predictions; its suffix is the format: .jsonl, .json, .csv, .tsv or .parquet.
        batch_size: posts per batch.
        device: where to run; default: the device of the model.
        detector: finds regions in the images; see `MttvProcessor`.
        without_bad_images: if an image of a post with text cannot be read, classify the post by the rest, and name the
            image as `problem`. Else the post is skipped.
        encoding: of the posts; see `read_posts`.
        columns: that hold text, image and id; see `read_posts`.
        pixels: how to read images of more than 8 bits or more than three bands. Predictions made with others are
            made again.
        progress: show a bar on stderr.
        engine: see [`PostClassifier`].
        ray: classify on the workers of a Ray cluster: "local", or the address of one that runs; see
            `stmine_hf.inference.cluster`. They read the images under the same paths.

    Raises:
        StmineError: no such file; `out` is something else, or of another model, or another run is writing it; not one
            row can be classified.
    """
    start, file, out = time.perf_counter(), Path(file), Path(out)
    tag = model_tag(model) + (
        f" with {model_tag(detector.model)}" if detector is not None and hasattr(detector, "model") else ""
    )
    labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
    total, scope = count_posts(file, encoding), Scope.of(model)
    report = ClassifyReport(model=tag)
    place(model, device)
    in_engine = EngineClassifier(model, engine)
    with Outputs(out.parent, inputs=[file], file=out.name) as outputs:
        files = _Files(outputs, file, out)
        known = _Known(out, tag, without_bad_images)
        places: list[_Place] = []
        skipped: list[SkippedRow] = []
        with (
            files.open_journal(known) as journal,
            ProgressBar("Classifying posts", total, shown=progress) as bar,
        ):
            unused = {key: deque(offsets) for key, offsets in known.offsets.items()}
            in_engine.expect(max(0, total - sum(map(len, unused.values()))))

            def posts() -> Iterator[Post]:
                for row in read_posts(file, encoding, columns, pixels):
                    if row.post is None:
                        skipped.append(SkippedRow(row.line, row.id, row.problem or ""))
                        bar.advance(worked=0)
                        continue
                    place = _Place(row.line, row.id, content_key(row.post))
                    places.append(place)
                    report.renamed += row.given != row.id
                    report.warned += bool(scope and scope.check_text(row.post.text))
                    # Of posts of the same content the first is classified first, so that it is the first here as well.
                    if unused.get(place.key):
                        place.offset = unused[place.key].popleft()
                        place.text = row.post.text if place.offset in known.without_text else None
                        report.done_before += 1
                        bar.advance(worked=0)
                    yield row.post._replace(id=place)

            batches = predict(
                model if ray is not None else in_engine.model, processor, posts(), batch_size=batch_size,
                detector=detector, without_bad_images=without_bad_images,
                is_wanted=lambda post: post.id.offset is None, ray=ray, engine=engine,
            )  # fmt: skip

            def of_engine() -> dict[str, str]:
                """What a row says of the engines, unless PyTorch runs the model alone."""
                current = in_engine.current if ray is None else on_workers(engine)
                return {} if current == TORCH else {"engine": current}

            for batch in batches:
                done = []
                for one in batch:
                    if one.logits is None or (one.problem and not one.post.text.strip()):
                        one.post.id.failure = one.problem or ""
                    else:
                        done.append(one)
                        report.images_left_out += one.problem is not None
                for one, offset in zip(
                    done, journal.append(*(_row(one, labels, tag, scope) | of_engine() for one in done)), strict=True
                ):
                    one.post.id.offset = offset
                report.predicted += len(done)
                bar.advance(len(batch))

        skipped += [SkippedRow(place.line, place.id, place.failure) for place in places if place.failure is not None]
        places = [place for place in places if place.failure is None]
        report.outdated = sum(place.id in known.outdated for place in places)
        skipped.sort()
        report.skipped, report.first_skipped = len(skipped), skipped[:10]
        report.skipped_file = files.write_skipped(skipped)
        if not places:
            files.discard_empty()
            first = f"line {skipped[0].line}: {skipped[0].reason}" if skipped else ""
            raise not_one_post(file, len(skipped), first)
        report.removed = files.write_removed(places)
        report.labels = files.write(places, labels)
    report.engines, report.engine = in_engine.engines, in_engine.remark
    if ray is not None and report.predicted:
        report.engines = [on_workers(engine)]
    report.seconds = time.perf_counter() - start
    return report


def _row(one: Prediction, labels: list[str], tag: str, scope: Scope | None) -> dict[str, Any]:
    assert one.logits is not None
    warned = scope.check_text(one.post.text) if scope else None
    label, score, scores = label_scores(one.logits, labels)
    row: dict[str, Any] = {
        "id": one.post.id.id,
        "text": one.post.text,
        "label": label,
        "score": score,
        "scores": scores,
        "line": one.post.id.line,
        "model": tag,
        "key": one.post.id.key,
    }
    row |= {"problem": one.problem} if one.problem else {}
    return row | ({"warning": warned.message} if warned else {})


class _Known:
    """The existing predictions.

    Attributes:
        offsets: those of each key, in the journal.
        outdated: ids of those without a key, as version 0.1 wrote them: their content is unknown.
    """

    def __init__(self, out: Path, tag: str, without_bad_images: bool):
        self._out, self._tag, self._without_bad_images = out, tag, without_bad_images
        self.offsets: dict[str, list[int]] = {}
        self.without_text: set[int] = set()
        self.outdated: set[str | int] = set()

    def accept(self, row: Mapping[str, Any], offset: int) -> None:
        """Record an existing prediction.

        Raises:
            KeyError, TypeError: it is not a prediction.
            StmineError: it is of another model.
        """
        _require_prediction(row)
        if row["model"] != self._tag:
            raise StmineError(
                f"{self._out} holds predictions of {row['model']}, the model is now {self._tag}. Give another output, "
                "or delete this one."
            )
        key = row.get("key")
        if key is None:
            self.outdated.add(row["id"])
        elif "problem" not in row or self._without_bad_images:
            self.offsets.setdefault(key, []).append(offset)
            if "text" not in row:
                self.without_text.add(offset)


def _require_prediction(row: Mapping[str, Any], offset: int = 0) -> None:
    """
    Raises:
        KeyError, TypeError: the row is something else.
    """
    row["id"], row["model"]
    if not isinstance(row["label"], str) or not isinstance(row["scores"], Mapping):
        raise TypeError(f"expected a label and scores by label, found {row['label']!r} and {row['scores']!r}")


class _Files:
    """The files of one output.

    Raises:
        StmineError: a file of the user has one of their names.
    """

    def __init__(self, outputs: Outputs, posts: Path, out: Path):
        self._outputs, self._out = outputs, out
        self._is_journal = format_of(out) == JSON_LINES
        self._journal, self._skipped, self._removed = names_of_files(out)
        for name in (self._journal, self._skipped, self._removed):
            require_apart(outputs.folder / name, [posts])

    def open_journal(self, known: _Known) -> Journal:
        """Open the existing predictions to append to; `known` gets them all."""
        path, outputs = self._outputs.folder / self._journal, self._outputs
        if self._is_journal and path.exists() and path.name not in outputs.written():  # of version 0.1, or moved here
            with Journal(path, ["id"], _require_prediction):
                outputs.adopt([path.name])
            outputs.adopt(name for name in [self._skipped] if _is_skip_list(outputs.folder / name))
        outputs.require_free(self._out.name, self._skipped, self._removed)
        outputs.open_growing(self._journal).close()
        journal = Journal(path, ["id"], known.accept)
        if outputs.wrote(self._removed):
            for _, row in json_rows(outputs.folder / self._removed):
                known.accept(row, *journal.append(row))
        return journal

    def write_skipped(self, skipped: list[SkippedRow]) -> Path | None:
        """Write the rows without prediction; None if there are none."""
        if not skipped:
            self._outputs.remove(self._skipped)
            return None
        lines = [json_line(row._asdict()) for row in skipped]
        return self._outputs.write(self._skipped, lambda path: path.write_bytes(b"".join(lines)))

    def discard_empty(self) -> None:
        """Remove a journal without rows."""
        path = self._outputs.folder / self._journal
        if path.stat().st_size == 0:
            self._outputs.remove(self._journal)
        else:
            self._outputs.settle(self._journal)

    def write_removed(self, places: list[_Place]) -> int:
        """Write the predictions of posts that are no longer in the file to OUT.removed.jsonl; their number."""
        used, ids = {place.offset for place in places}, {place.id for place in places}

        def removed() -> Iterator[dict[str, Any]]:
            seen: set[bytes] = set()  # a run killed between two writes leaves some in both files
            for offset, row in json_rows(self._outputs.folder / self._journal):
                digest = blake2b(json_line(row), digest_size=16).digest()
                if offset not in used and digest not in seen and ("key" in row or row["id"] not in ids):
                    seen.add(digest)
                    yield row

        count = sum(1 for _ in removed())
        if self._is_journal and count:
            self._outputs.write(self._removed, lambda path: path.write_bytes(b"".join(map(json_line, removed()))))
        elif self._is_journal:
            self._outputs.remove(self._removed)
        return count

    def write(self, places: list[_Place], labels: list[str]) -> Counter[str]:
        """Write the prediction of every post, in their order; how often each label was predicted."""
        counts: Counter[str] = Counter()

        def rows() -> Iterator[dict[str, Any]]:
            with open(self._outputs.folder / self._journal, "rb") as journal:
                for place in places:
                    assert place.offset is not None
                    journal.seek(place.offset)
                    row = json.loads(journal.readline())
                    counts[row["label"]] += 1
                    text = {} if place.text is None else {"text": place.text}
                    yield {"id": place.id, **text, **row} | {"id": place.id, "line": place.line}

        self._outputs.write(self._out.name, lambda path: write_results(path, rows(), labels))
        self._outputs.settle(self._journal)
        return counts


def _is_skip_list(path: Path) -> bool:
    """Whether a file is the list of skipped rows that version 0.1 wrote."""
    try:
        return all(set(row) == set(SkippedRow._fields) for _, row in json_rows(path))
    except (OSError, ValueError, TypeError, RecursionError):
        return False
