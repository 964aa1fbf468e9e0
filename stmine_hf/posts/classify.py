"""Classify a file of posts: in batches, resumed after an interruption, with bad rows listed separately.

The output has a row for each post of the file that can be classified, in their order: the user's own columns as they
are, and then `label`, `score` (probability of the label), `scores` (by label), `line` (in the file of posts), `model`,
`key` (digest of the post's text and images), `problem` where an image was skipped, `warning` where the post differs
from those that the model was trained on, and `id` where the file has none; see `results`. Its suffix gives the format.
Where the file has labels, the report says how far predictions and labels agree.

A prediction belongs to a text and images, not to an id or a line: it is reused where the key is the same, and a post
whose content has changed is classified again. Predictions are on disk batch by batch, so a killed run loses one batch
at most.

    OUT.journal.jsonl   all predictions, those of posts that are no longer in the file too; reused when they come back
    OUT.skipped.jsonl   rows that cannot be classified: `line`, `id` and `reason`; every run tries them again

Version 0.2 wrote JSON lines without the user's columns into the output itself, and `OUT.removed.jsonl` beside it: the
predictions in them are reused, and the files replaced.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..data.cells import whole_text
from ..data.columns import Column
from ..errors import StmineError
from ..images import PixelOptions
from ..inference.engines import AUTO, TORCH, on_workers
from ..inference.journal import Journal, json_line, json_rows, whole_lines
from ..inference.progress import ProgressBar
from ..inference.scope import Scope
from ..loading import place
from ..metrics.classification import accuracy, class_scores
from ..model_identity import model_tag
from ..outputs import OutputError, Outputs, require_apart
from .answer import label_scores
from .engine import EngineClassifier
from .post import Post, content_key
from .prediction import Prediction, RegionDetector, predict
from .reading import count_posts, not_one_post, post_columns, read_posts
from .results import (
    BEFORE,
    COLUMNS,
    JSON_LINES,
    ResultColumns,
    UserColumns,
    format_of,
    is_table,
    names_of_files,
    require_labels,
    require_tag,
    stored_cells,
    write_results,
)

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

MOST_WORDS = 50  # that are no labels of the model, in a report
_DEFAULT = PixelOptions()


class SkippedRow(NamedTuple):
    """A row without prediction, and why."""

    line: int
    id: str | int
    reason: str


@dataclass(frozen=True)
class Agreement:
    """How far predictions agree with the labels that the file has.

    Attributes:
        column: with the labels.
        labels: L labels of the model.
        confusion: (L, L) posts; row: the label in the file, column: the prediction.
        unknown: words that are none of the model's labels -> how many posts have them, the most frequent first; 50
            at most.
        without: posts without a label.
        more_unknown: number of such words beyond those.
    """

    column: str
    labels: Sequence[str]
    confusion: np.ndarray
    unknown: Mapping[str, int]
    without: int
    more_unknown: int = 0

    @property
    def compared(self) -> int:
        """Number of posts whose label is one of the model's."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """As of `stmine evaluate mttv`."""
        return accuracy(self.confusion)

    @property
    def macro_f1(self) -> float:
        """As of `stmine evaluate mttv`."""
        return float(class_scores(self.confusion).f1.mean())

    def to_dict(self) -> dict[str, Any]:
        """The agreement as JSON has it."""
        scores = {"accuracy": self.accuracy, "macro_f1": self.macro_f1} if self.compared else {}
        return {
            "column": self.column,
            "rows": self.compared,
            "labels": list(self.labels),
            **scores,
            "confusion_matrix": self.confusion.tolist(),
            "unknown_labels": dict(self.unknown),
            "more_unknown_labels": self.more_unknown,
            "without_label": self.without,
        }


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
        agreement: with the labels that the file has; None where it has no column for them.
        renamed_columns: our columns whose names the file has -> what they are called in the output.
        columns_left_out: how many of the user's columns a table has no room for.
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
    agreement: Agreement | None = None
    renamed_columns: dict[str, str] = field(default_factory=dict)
    columns_left_out: int = 0
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
    label: str = ""  # that the file has
    offset: int | None = None
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
    label_names: Mapping[str, str] | None = None,
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
        columns: that hold text, image, id and label; see `read_posts`.
        label_names: which labels of the model the words in the column of labels mean: `{"谣言": "fake"}`.
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
    truths = _Truths(labels, label_names)
    total, scope = count_posts(file, encoding), Scope.of(model)
    of = post_columns(file, encoding, columns).of
    report = ClassifyReport(model=tag)
    place(model, device)
    in_engine = EngineClassifier(model, engine)
    with (
        Outputs(out.parent, inputs=[file], file=out.name) as outputs,
        tempfile.TemporaryFile(dir=outputs.folder) as kept,  # the user's cells, as they were when they were classified
    ):
        user_columns = UserColumns(labels)
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
                    place = _Place(row.line, row.id, content_key(row.post), sys.intern(row.label))
                    places.append(place)
                    cells = stored_cells(row.cells)
                    user_columns.add(cells)
                    kept.write(json.dumps(cells).encode() + b"\n")
                    report.renamed += row.given != row.id
                    report.warned += bool(scope and scope.check_text(row.post.text))
                    # Of posts of the same content the first is classified first, so that it is the first here as well.
                    if unused.get(place.key):
                        place.offset = unused[place.key].popleft()
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
                report.outdated += sum(one.post.id.id in known.outdated for one in done)
                bar.advance(len(batch))

        skipped += [SkippedRow(place.line, place.id, place.failure) for place in places if place.failure is not None]
        skipped.sort()
        report.skipped, report.first_skipped = len(skipped), skipped[:10]
        report.skipped_file = files.write_skipped(skipped)
        if all(place.failure is not None for place in places):
            files.discard_empty()
            first = f"line {skipped[0].line}: {skipped[0].reason}" if skipped else ""
            raise not_one_post(file, len(skipped), first)
        report.removed = files.count_removed(places)
        result_columns = ResultColumns(user_columns, labels, None if "id" not in of else whole_text(str(of["id"])))
        kept.seek(0)
        report.labels, pairs = files.write(places, kept, result_columns)
        report.renamed_columns = result_columns.renamed
        report.columns_left_out = len(user_columns.left_out) if is_table(out) else 0
        if "label" in of:
            report.agreement = truths.agreement(str(of["label"]), pairs)
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
        self.outdated: set[str | int] = set()

    def accept(self, row: Mapping[str, Any], offset: int) -> None:
        """Record an existing prediction.

        Raises:
            KeyError, TypeError: it is not a prediction.
            StmineError: it is of another model.
        """
        _require_prediction(row)
        self.require_model(row)
        key = row.get("key")
        if key is None:
            self.outdated.add(row["id"])
        elif "problem" not in row or self._without_bad_images:
            self.offsets.setdefault(key, []).append(offset)

    def require_model(self, row: Mapping[str, Any]) -> None:
        """
        Raises:
            StmineError: a prediction is of another model.
        """
        require_tag(self._out, row["model"], self._tag)


def _require_prediction(row: Mapping[str, Any], offset: int = 0) -> None:
    """
    Raises:
        KeyError, TypeError: the row is something else.
    """
    row["id"], row["model"]
    if not isinstance(row["label"], str) or not isinstance(row["scores"], Mapping):
        raise TypeError(f"expected a label and scores by label, found {row['label']!r} and {row['scores']!r}")


# Of a row that version 0.1 or 0.2 wrote, in order: other columns, or another order, are the user's.
_FORMER_KEYS = (COLUMNS[0], "text", *COLUMNS[1:])


class _Files:
    """The files of one output.

    Raises:
        StmineError: a file of the user has one of their names.
    """

    def __init__(self, outputs: Outputs, posts: Path, out: Path):
        self._outputs, self._out = outputs, out
        self._is_lines = format_of(out) == JSON_LINES
        self._journal, self._skipped, self._removed = names_of_files(out)
        for name in (self._journal, self._skipped, self._removed):
            require_apart(outputs.folder / name, [posts])

    def open_journal(self, known: _Known) -> Journal:
        """Open the existing predictions to append to; `known` gets them all.

        An error, such as another model, leaves all files as they are: what version 0.1 or 0.2 wrote is checked first,
        and taken over in one step.
        """
        outputs, name = self._outputs, self._out.name
        path = outputs.folder / self._journal
        former: list[str] = []
        if not path.exists() or (path.is_file() and path.stat().st_size == 0):
            former = [name] * self._is_former_output() + [self._removed] * outputs.wrote(self._removed)
        for one in former:
            whole_lines(outputs.folder / one, ["id"], lambda row, _: known.require_model(row))
        if name in former and name not in outputs.written():  # of version 0.1, or moved here
            outputs.adopt([name, *(one for one in [self._skipped] if _is_skip_list(outputs.folder / one))])
        outputs.require_free(name, self._skipped, self._removed, self._journal)
        if former:
            outputs.write(self._journal, lambda part: self._take_over(former, part))
        elif not path.exists():
            outputs.open_growing(self._journal).close()
        journal = Journal(path, ["id"], known.accept)
        outputs.open_growing(self._journal).close()
        return journal

    def _is_former_output(self) -> bool:
        """Whether the output holds predictions as version 0.1 or 0.2 wrote them.

        Raises:
            StmineError: it is something else, and not listed as written by this command.
        """
        outputs, name = self._outputs, self._out.name
        listed = name in outputs.written()
        if not self._is_lines or not (outputs.folder / name).exists() or (listed and not outputs.wrote(name)):
            return False
        try:
            whole_lines(outputs.folder / name, ["id"], self._require_former)
        except StmineError:
            if listed and not outputs.is_growing(name):
                return False  # with the user's columns: it can be replaced, and its journal is gone
            raise
        return True

    def _require_former(self, row: Mapping[str, Any], offset: int) -> None:
        """
        Raises:
            KeyError, TypeError: a row is none of version 0.1 or 0.2.
            StmineError: it is one of a later version, with the user's columns.
        """
        if [*row] != [key for key in _FORMER_KEYS if key in row]:
            if all(key in row or f"{BEFORE}{key}" in row for key in ("scores", "line", "model", "key")):
                raise StmineError(
                    f"{self._out} has predictions beside columns of yours, and its journal {self._journal} is gone: "
                    "it is not replaced. Choose another output, or move it away."
                )
            raise TypeError(f"expected a prediction, found {[*row][:12]}")
        _require_prediction(row)

    def _take_over(self, names: Sequence[str], part: Path) -> None:
        """Copy the predictions that version 0.1 or 0.2 wrote to files into a new journal."""
        with open(part, "wb") as journal:
            for name in names:
                whole_lines(
                    self._outputs.folder / name,
                    ["id"],
                    lambda row, _: journal.write(json_line({key: row[key] for key in row if key != "text"})),
                )

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

    def count_removed(self, places: list[_Place]) -> int:
        """Number of predictions of posts that are no longer in the file; those of version 0.2 are in the journal."""
        used, ids = {place.offset for place in places}, {place.id for place in places}
        seen: set[bytes] = set()  # what was taken over may be there twice
        for offset, row in json_rows(self._outputs.folder / self._journal):
            if offset not in used and ("key" in row or row["id"] not in ids):
                seen.add(blake2b(json_line(row), digest_size=16).digest())
        with suppress(OutputError):  # one that was changed is no longer ours, and stays
            self._outputs.remove(self._removed)
        return len(seen)

    def write(
        self, places: list[_Place], kept: IO[bytes], columns: ResultColumns
    ) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """Write the prediction of every post, in their order.

        Args:
            places: of all posts, also of those that cannot be classified.
            kept: the user's cells of each, a line of JSON.
            columns: of the output.

        Returns:
            How often each label was predicted, and how often for each label of the file.
        """
        counts: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()

        def rows() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
            with open(self._outputs.folder / self._journal, "rb") as journal:
                for place, cells in zip(places, kept, strict=True):
                    if place.failure is not None:
                        continue
                    assert place.offset is not None
                    journal.seek(place.offset)
                    row = json.loads(journal.readline())
                    counts[row["label"]] += 1
                    pairs[place.label, row["label"]] += 1
                    yield json.loads(cells), row | {"id": place.id, "line": place.line}

        self._outputs.write(self._out.name, lambda path: write_results(path, rows(), columns))
        self._outputs.settle(self._journal)
        return counts, pairs


class _Truths:
    """The labels of a file in terms of the model's.

    Args:
        labels: of the model.
        names: what words mean, as the user says.

    Raises:
        StmineError: `names` has a label that the model does not have.
    """

    def __init__(self, labels: list[str], names: Mapping[str, str] | None) -> None:
        require_labels(names or {}, labels)
        self._labels = labels
        self._of = {_folded(label): label for label in labels} if len({*map(_folded, labels)}) == len(labels) else {}
        self._of |= {label: label for label in labels} | dict(names or {})

    def agreement(self, column: str, pairs: Mapping[tuple[str, str], int]) -> Agreement:
        """The agreement, from how often each label of the model was predicted for each word of the column."""
        confusion = np.zeros((len(self._labels), len(self._labels)), dtype=np.int64)
        unknown: Counter[str] = Counter()
        for (word, predicted), count in pairs.items():
            label = self._of.get(word, self._of.get(_folded(word)))
            if label is not None:
                confusion[self._labels.index(label), self._labels.index(predicted)] += count
            elif word:
                unknown[word] += count
        without = sum(count for (word, _), count in pairs.items() if not word)
        shown = dict(unknown.most_common(MOST_WORDS))
        return Agreement(column, self._labels, confusion, shown, without, len(unknown) - len(shown))


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold().strip()


def _is_skip_list(path: Path) -> bool:
    """Whether a file is the list of skipped rows that version 0.1 wrote."""
    try:
        return all(set(row) == set(SkippedRow._fields) for _, row in json_rows(path))
    except (OSError, ValueError, TypeError, RecursionError):
        return False
