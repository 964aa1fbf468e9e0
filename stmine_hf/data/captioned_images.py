"""Base of the captioned remote-sensing sets: reads three published annotation layouts into one form of row.

Each set has a builder of its own beside this file (`rsicd.py`, `rsitmd.py`, ...): its name, classes, origin and terms.

Layouts, looked for in this order:

* **Karpathy**: `dataset_rsicd.json` or `dataset.json`: `{"images": [{filename, split, imgid, sentences: [{raw}]}]}`,
  with optional `label` and `filepath` (the image's folder, relative to this folder or to its parent). NWPU-Captions'
  file has lists of images by class instead, with captions as `raw`, `raw_1`, ..., and the images in a folder a class.
* **FISVL**: `rsicd_train*.json`, `rsicd_val*.json`, `rsicd_test*.json`: lists of `{image, caption, image_id, label,
  length}`, one caption a record for training, a list of captions for the other splits; `length` is a caption's weight.
* **precomp**: `train_caps.txt` and `train_filename.txt` (also `val_`, `test_`): one caption a line; one name for each
  caption or for each group of captions (usually five).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from ..images import ImageError, read_header
from ..printing import counted
from .cells import is_missing, name_of, number_of, text_of, whole_of
from .errors import BadRow, DataFolderError
from .findings import Findings
from .folder_builder import SPLITS, FolderBuilder, FolderConfig, Row, contents_of, split_named
from .names import ImageFiles, Wanted, tidy
from .tables import read_json, read_lines

PUBLISHED = ("rsicd", "rsitmd", "ucm", "sydney", "nwpu")  # as their files name them
LETTER_OR_DIGIT = re.compile(r"[^\W_]")
IMAGE_FOLDERS = (
    "images", "imgs", "RSICD_images", "RSICD_images/RSICD_images", "UCM_images", "Sydney_images", "NWPU_images", ".",
)  # fmt: skip


def caption_weights(
    captions: Sequence[str], mean_words: float, *, average: float = 0.7, low: float = 0.95, high: float = 1.0
) -> list[float]:
    """Weight of each caption in FISVL's length-weighted loss: `clip(words / (average * mean_words), low, high)`.

    This is a reconstruction. The authors' weights are the field `length` of annotation files that are not published.
    What is known: the files are called `..._train_length_avg_0_7_low_0_95.json`, the number multiplies its caption's
    logit, and the paper wants captions too short to say much to count less. Hence: a caption of at least `average`
    times the mean length of the train split counts fully, and no weight is below `low`. Between the two lies less than
    one word for these sets, so a step instead of this ramp gives nearly the same weights.

    Args:
        captions: the captions; words are what white space separates and holds a letter or a digit.
        mean_words: mean number of words a caption of the train split, > 0.
        average: share of the mean that counts fully.
        low: least weight, for very short captions.
        high: greatest weight.

    Returns:
        One weight in [low, high] for each caption.

    Example:
        >>> caption_weights(["a plane", "many planes are parked near a terminal"], mean_words=10)
        [0.95, 1.0]
    """
    return [min(max(count_words(caption) / (average * mean_words), low), high) for caption in captions]


def count_words(caption: str) -> int:
    """Number of white-space separated words with a letter or a digit: the lone "." of RSICD's captions is none."""
    return sum(LETTER_OR_DIGIT.search(word) is not None for word in caption.split())


def row_features(classes: Sequence[str]) -> datasets.Features:
    """The row that every captioned set yields: one image with all its captions."""
    return datasets.Features(
        {
            "image": datasets.Image(),
            "captions": datasets.Sequence(datasets.Value("string")),
            "caption_weights": datasets.Sequence(datasets.Value("float32")),
            "label": datasets.ClassLabel(names=list(classes)),  # -1 if the layout does not state it
            "image_id": datasets.Value("int64"),
            "filename": datasets.Value("string"),
        }
    )


@dataclass
class CaptionRecord:
    """One image as an annotation file describes it; `place` names the row in messages."""

    place: str
    split: str
    filename: str
    captions: list[str]
    weights: list[float] | None = None
    label: str | int | None = None
    image_id: int | None = None
    folder: str | None = None  # as the annotation has it
    name: str = ""  # of the image with its folders, "" for the file name
    path: str = ""  # where the image was found


@dataclass
class CaptionedImagesConfig(FolderConfig):
    """Options of the captioned sets, besides those of `FolderConfig`.

    Args:
        weight_average, weight_low: see `caption_weights`.
    """

    weight_average: float = 0.7
    weight_low: float = 0.95


class CaptionedImages(FolderBuilder):
    """Base of the builders; a subclass says which set it is."""

    BUILDER_CONFIG_CLASS = CaptionedImagesConfig

    TITLE: str  # as the paper writes it
    SHORT: str  # as the file names have it: dataset_<SHORT>.json, <SHORT>_train.json
    CLASSES: tuple[str, ...]
    OFFICIAL_SIZES: tuple[int, int, int]  # images in train, val, test
    FILES: str  # what to get ...
    SOURCE: str  # ... and where
    CITATION: str

    def _info(self) -> datasets.DatasetInfo:
        sizes = ", ".join(f"{size} {split}" for split, size in zip(SPLITS, self.OFFICIAL_SIZES, strict=True))
        return datasets.DatasetInfo(
            description=f"{self.TITLE}: remote-sensing images with captions (official splits: {sizes}).",
            features=row_features(self.CLASSES),
            homepage=self.SOURCE,
            citation=self.CITATION,
        )

    def _split_rows(self, findings: Findings) -> tuple[str, dict[str, list[Row]]]:
        records = [record for record in self._records if is_image(record, findings)]
        subject = f"{self.TITLE}: {counted(len(records), 'image')}"
        if not records:
            raise DataFolderError(f"{subject}; {findings}. Nothing is left to load. {self._how_to_get()}")
        reference = [r for r in records if r.split == "train"] or records
        words = [count_words(caption) for record in reference for caption in record.captions]
        mean_words = max(sum(words) / len(words), 1.0)
        return subject, {
            split: list(self._rows((r for r in records if r.split == split), mean_words)) for split in SPLITS
        }

    def _rows(self, records: Iterable[CaptionRecord], mean_words: float) -> Iterator[dict[str, Any]]:
        records = list(records)
        ids = [record.image_id for record in records]
        if None in ids or len(set(ids)) < len(ids):
            ids = list(range(len(records)))  # equal ids must mean one image
        options = {"average": self.config.weight_average, "low": self.config.weight_low}
        for image_id, record in zip(ids, records, strict=True):
            yield {
                "image": record.path,
                "captions": record.captions,
                "caption_weights": record.weights or caption_weights(record.captions, mean_words, **options),
                "label": self._label(record),
                "image_id": image_id,
                "filename": record.filename,
            }

    def _label(self, record: CaptionRecord) -> int:
        """Index in `CLASSES`: the annotation's own label, else the one in the file name, else -1.

        A number (FISVL layout) is kept as it is. It groups the images correctly, which is all that the losses need;
        the name that it gets from `CLASSES` is a guess, since the authors' list of classes is not published.
        """
        if isinstance(record.label, int):
            return record.label if 0 <= record.label < len(self.CLASSES) else -1
        name = self._class_name(record)
        return self.CLASSES.index(name) if name in self.CLASSES else -1

    def _class_name(self, record: CaptionRecord) -> str:
        folder = tidy(record.name).rpartition("/")[0].rpartition("/")[2]  # that of the scene, in some archives
        for name in (record.label, self.class_of(record.filename), folder):
            letters = re.sub(r"[^a-z]", "", str(name or "").lower())
            if letters and (name != folder or letters in self.CLASSES):
                return letters
        return ""

    def _note_foreign_classes(self, records: Sequence[CaptionRecord]) -> None:
        """Note it if half of the classes are not in this set: the folder is then probably another set."""
        named = [name for r in records if not isinstance(r.label, int) and (name := self._class_name(r))]
        foreign = Counter(name for name in named if name not in self.CLASSES)
        if foreign and foreign.total() >= len(named) / 2:
            shown = ", ".join(name for name, _ in foreign.most_common(3))
            self._findings.note(
                f"classes that {self.TITLE} does not have: labels unknown (is it this set?)",
                f"{foreign.total():,} of {len(named):,} images: {shown}",
            )

    def class_of(self, filename: str) -> str:
        """The class in a file name: `airport` for `airport_12.jpg`; empty if there is none."""
        return re.split(r"_?\d", Path(filename).stem)[0]

    def _read_folder(self) -> list[CaptionRecord]:
        """Rows of the annotation files whose image exists and that have a caption."""
        data_dir, image_dir = self._settings.data_dir, self._settings.image_dir
        if data_dir is None:
            raise DataFolderError(
                f"{self.TITLE} does not download itself: give its folder as data_dir. {self._how_to_get()}"
            )
        folder = Path(data_dir).expanduser().absolute()
        if not folder.is_dir():
            raise DataFolderError(f"{self.TITLE}: no folder {folder}. {self._how_to_get()}")
        read = list(self._read_annotations(folder))
        self._note_foreign_classes(read)
        roots = [Path(image_dir).expanduser().absolute()] if image_dir else [folder / name for name in IMAGE_FOLDERS]
        starts = roots if image_dir else [folder.parent, folder, *roots]  # what an annotated folder starts from
        images = ImageFiles(roots, searched=roots if image_dir else [folder])
        wanted = [
            Wanted(
                record.name or record.filename,
                record.place,
                tuple(str(start / record.folder) for start in starts) if record.folder else (),
            )
            for record in read
        ]
        records = []
        for record, path in zip(read, images.find(wanted, self._findings), strict=True):
            if path is None:
                self._findings.skip("no such image", f"{record.place}, {record.name or record.filename}")
            elif not record.captions:
                self._findings.skip("no caption", f"{record.place}, {record.filename}")
            else:
                record.path = path
                records.append(record)
        if not records:
            reasons = self._findings if self._findings else "the annotations are empty"
            raise DataFolderError(
                f"{self.TITLE}: no usable row in {folder} ({reasons}). Images were looked for in "
                f"{images.looked_in()}; give image_dir if they are elsewhere. {self._how_to_get()}"
            )
        return records

    def _read_annotations(self, folder: Path) -> Iterator[CaptionRecord]:
        encoding = self._settings.encoding
        for stem in (f"dataset_{self.SHORT}", f"dataset_{self.SHORT.upper()}", "dataset"):
            if (file := folder / f"{stem}.json").is_file():
                return read_karpathy(file, self.SHORT, self._findings, encoding)
        places = [folder, folder / "finetune", folder / f"{self.SHORT}_precomp"]
        fisvl = {split: find_fisvl_file(places, self.SHORT, split) for split in SPLITS}
        if any(fisvl.values()):
            return (
                r for split, file in fisvl.items() if file for r in read_fisvl(file, split, self._findings, encoding)
            )
        precomp = [(place, split) for place in places for split in SPLITS if (place / f"{split}_caps.txt").is_file()]
        if precomp:
            return (r for place, split in precomp for r in read_precomp(place, split, encoding))
        raise DataFolderError(
            f"{self.TITLE}: expected dataset_{self.SHORT}.json, {self.SHORT}_train.json or train_caps.txt "
            f"in {folder}, found {contents_of(folder)}. {self._how_to_get()}"
        )

    def _how_to_get(self) -> str:
        return f"Get {self.FILES} from {self.SOURCE}"


def is_image(record: CaptionRecord, findings: Findings) -> bool:
    """Whether the file's header (all that is read here) is that of an image."""
    try:
        header = read_header(record.path)
    except ImageError as error:
        findings.skip("unreadable", f"{record.place}, {record.path} ({error})")
        return False
    if header.pages:
        findings.note("image of several pages or frames: the first one is used", f"{record.place}, {record.filename}")
    return True


def read_karpathy(file: Path, short: str, findings: Findings, encoding: str | None = None) -> Iterator[CaptionRecord]:
    """Rows of `{"images": [...]}`, or of `{"airport": [...], ...}` as NWPU-Captions has them; notes a file that calls
    itself by the name of another published set."""
    content = read_json(file, encoding)
    items = content.get("images") if isinstance(content, dict) else None
    if isinstance(items, list):
        called = str(content.get("dataset") or "").lower()
        if short not in called and any(name in called for name in PUBLISHED):
            findings.note(
                f"a file of another set than {short} (take the data set of its name)", f"{file.name}, {called}"
            )
        numbered = [(f"{file.name}, images[{index}]", None, item) for index, item in enumerate(items)]
    elif isinstance(content, dict) and content and all(isinstance(part, list) for part in content.values()):
        numbered = [
            (f"{file.name}, {label}[{index}]", label, item)
            for label, part in content.items()
            for index, item in enumerate(part)
        ]
    else:
        raise DataFolderError(
            f'{file}: expected {{"images": [...]}}, the layout of dataset_rsicd.json, or lists of images by class'
        )
    for place, label, item in numbered:
        try:
            name, folder = image_name(item)
            yield CaptionRecord(
                place,
                split=split_name(item["split"]),
                filename=tidy(name).rpartition("/")[2],
                captions=sentences_of(item),
                label=_label_of(item.get("label", label)),
                image_id=whole_of(item.get("imgid")),
                folder=folder or label,  # images of a class are in a folder of its name
                name=name,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            findings.skip("malformed", f"{place} ({type(error).__name__}: {error})")


def image_name(item: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name of an item's image, and the folder that `filepath` says; some files have the whole path there."""
    folder = text_of(item.get("filepath")).replace("\\", "/")
    if is_missing(item.get("filename")) and folder:
        return folder, None
    name = text_of(item["filename"])
    if not name.strip():
        raise BadRow("no filename")
    return name, folder.removesuffix(f"/{name}") if folder and folder != name else None


def sentences_of(item: Mapping[str, Any]) -> list[str]:
    """The captions of an item: texts, or objects with the text as `raw`; also as `raw`, `raw_1`, ... of the item."""
    sentences = item.get("sentences", item.get("captions"))
    if sentences is None and (raw := sorted(key for key in item if re.fullmatch(r"raw(_[0-9]+)?", key))):
        sentences = [item[key] for key in raw]
    if isinstance(sentences, (str, dict)):
        sentences = [sentences]
    if not isinstance(sentences, list):
        raise BadRow('expected `sentences`, a list of texts or of objects such as {"raw": "a river"}')
    return clean(text_of(one["raw"] if isinstance(one, dict) else one) for one in sentences)


def _label_of(value: Any) -> str | int | None:
    """A class: a number as such, a text as it is."""
    number = whole_of(value) if not isinstance(value, str) else None
    return number if number is not None else name_of(value) or None


def find_fisvl_file(places: Sequence[Path], short: str, split: str) -> Path | None:
    """`rsicd_train*.json`; of several the one with caption weights (`rsicd_train_length_...json`)."""
    files = [file for place in places for file in sorted(place.glob(f"{short}_{split}*.json"))]
    return max(files, key=lambda file: "length" in file.name, default=None)


def read_fisvl(file: Path, split: str, findings: Findings, encoding: str | None = None) -> Iterator[CaptionRecord]:
    """Rows of a list of `{image, caption, image_id, label, length}`, records of one image joined."""
    items = read_json(file, encoding)
    if not isinstance(items, list):
        raise DataFolderError(f"{file}: expected a list of {{image, caption, image_id, label, length}}")
    records: dict[str, CaptionRecord] = {}
    for index, item in enumerate(items):
        place = f"{file.name}[{index}]"
        try:
            name = text_of(item["image"]).replace("\\", "/")
            captions = item["caption"] if isinstance(item["caption"], list) else [item["caption"]]
            weights = item.get("length")
            weights = weights if isinstance(weights, list) else [weights] * len(captions)
            texts = [text_of(caption).strip() for caption in captions]
            pairs = [(text, weight) for text, weight in zip(texts, weights, strict=True) if text]
            own = (
                None if any(is_missing(weight) for _, weight in pairs) else [number_of(weight) for _, weight in pairs]
            )
            label, image_id = _label_of(item.get("label")), whole_of(item.get("image_id"))
            new = CaptionRecord(
                place, split, name.rpartition("/")[2], [], [], label=label, image_id=image_id, name=name
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            findings.skip("malformed", f"{place} ({type(error).__name__}: {error})")
            continue
        record = records.setdefault(name, new)
        record.captions += [text for text, _ in pairs]
        if record.weights is not None and own is not None:
            record.weights += own
        else:
            record.weights = None
    if len({record.filename for record in records.values()}) == len(records):
        for record in records.values():
            record.name = record.filename  # the authors, too, use the last part only
    yield from records.values()


def read_precomp(folder: Path, split: str, encoding: str | None = None) -> Iterator[CaptionRecord]:
    """Rows of `<split>_caps.txt` and `<split>_filename.txt`."""
    captions_file, names_file = folder / f"{split}_caps.txt", folder / f"{split}_filename.txt"
    if not names_file.is_file():
        raise DataFolderError(f"{captions_file} needs {names_file.name} beside it: the image of each caption")
    captions = read_lines(captions_file, encoding)
    names = [name for line in read_lines(names_file, encoding) if (name := line.strip())]
    while names and captions and len(captions) % len(names) and not captions[-1].strip():
        captions.pop()
    if not names or len(captions) % len(names):
        raise DataFolderError(
            f"{captions_file.name} has {len(captions)} lines and {names_file.name} {len(names)} names in {folder}: "
            "expected the same number of captions for each name. Was a file cut short?"
        )
    per_name = len(captions) // len(names)
    records: dict[str, CaptionRecord] = {}
    for index, name in enumerate(names):
        lines = captions[index * per_name : (index + 1) * per_name]
        place = f"{captions_file.name}, line {index * per_name + 1}"
        new = CaptionRecord(place, split, tidy(name).rpartition("/")[2], [], name=name)
        records.setdefault(name, new).captions += clean(lines)
    yield from records.values()


def clean(captions: Iterable[str]) -> list[str]:
    """The captions with other characters than white space; "." stays, since the processor handles it."""
    return [caption.strip() for caption in captions if caption.strip()]


def split_name(name: Any) -> str:
    split = split_named(name_of(name))
    if split is None:
        raise BadRow(f"unknown split {name!r}")
    return split
