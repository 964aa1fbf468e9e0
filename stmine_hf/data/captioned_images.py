"""What the captioned remote-sensing sets share: three published annotation layouts in, one kind of row out.

Each set has a builder of its own beside this file (`rsicd.py`, `rsitmd.py`, ...): its name, classes, origin and terms.

Layouts, looked for in this order:

* **Karpathy**: `dataset_rsicd.json` or `dataset.json`: `{"images": [{filename, split, imgid, sentences: [{raw}]}]}`,
  with optional `label` and `filepath` (the image's folder, relative to this folder or to its parent).
* **FISVL**: `rsicd_train*.json`, `rsicd_val*.json`, `rsicd_test*.json`: lists of `{image, caption, image_id, label,
  length}`, one caption a record for training, a list of captions for the other splits; `length` is a caption's weight.
* **precomp**: `train_caps.txt` and `train_filename.txt` (also `val_`, `test_`): one caption a line; one name for each
  caption or for each group of captions (usually five).
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import PIL.Image

from .errors import DataFolderError
from .findings import Findings, count

SPLITS = ("train", "val", "test")
PUBLISHED = ("rsicd", "rsitmd", "ucm", "sydney")  # as their files name them
SPLIT_ALIASES = {"restval": "train", "valid": "val", "validation": "val", "dev": "val"}
LETTER_OR_DIGIT = re.compile(r"[^\W_]")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def caption_weights(
    captions: Sequence[str], mean_words: float, *, average: float = 0.7, low: float = 0.95, high: float = 1.0
) -> list[float]:
    """Weight of each caption in FISVL's length-weighted loss: `clip(words / (average * mean_words), low, high)`.

    This is a reconstruction. The authors' weights are the field `length` of annotation files that are not published.
    What is known: the files are called `..._train_length_avg_0_7_low_0_95.json`, the number multiplies its caption's
    logit, and the paper wants captions too short to say much to count less. Hence: a caption of at least `average`
    times the mean length of the train split counts fully, and no weight is below `low`. Between the two lies less than
    one word for the sets at hand, so a step instead of this ramp gives nearly the same weights.

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
            "label": datasets.ClassLabel(names=list(classes)),  # -1 where the layout does not tell
            "image_id": datasets.Value("int64"),
            "filename": datasets.Value("string"),
        }
    )


@dataclass
class Record:
    """One image as an annotation file describes it; `place` names the row in messages."""

    place: str
    split: str
    filename: str
    captions: list[str]
    weights: list[float] | None = None
    label: str | int | None = None
    image_id: int | None = None
    folder: str | None = None  # as the annotation has it
    path: str = ""  # where the image was found


@dataclass
class CaptionedImagesConfig(datasets.BuilderConfig):
    """Options of the captioned sets.

    Args:
        data_dir: the folder with the annotations (and, unless `image_dir` is given, the images).
        image_dir: the folder with the images, where it is not in `data_dir`.
        weight_average, weight_low: see `caption_weights`.
        contents: hash of the rows found in the folder, so that the cache follows the folder; set by the builder.
    """

    image_dir: str | None = None
    weight_average: float = 0.7
    weight_low: float = 0.95
    contents: str = ""


class CaptionedImages(datasets.GeneratorBasedBuilder):
    """Base of the builders; a subclass says which set it is.

    Attributes:
        findings: what was amiss in the folder, once it was prepared or a stream of it was made.

    Raises:
        DataFolderError: at construction, when the folder does not hold the set.
    """

    VERSION = datasets.Version("1.0.0")  # part of the cache's path: raise it whenever the rows made of a folder change
    BUILDER_CONFIG_CLASS = CaptionedImagesConfig

    findings: Findings

    TITLE: str  # as the paper writes it
    SHORT: str  # as the file names have it: dataset_<SHORT>.json, <SHORT>_train.json
    CLASSES: tuple[str, ...]
    OFFICIAL_SIZES: tuple[int, int, int]  # images in train, val, test
    FILES: str  # what to get ...
    SOURCE: str  # ... and where
    CITATION: str

    def __init__(self, *args: Any, **options: Any) -> None:
        self._findings = Findings()
        self._records = self._read_folder(options.get("data_dir"), options.get("image_dir"))
        rows = repr([self._records, str(self._findings)]).encode()
        super().__init__(*args, **{**options, "contents": sha256(rows).hexdigest()[:16]})

    def _info(self) -> datasets.DatasetInfo:
        sizes = ", ".join(f"{size} {split}" for split, size in zip(SPLITS, self.OFFICIAL_SIZES, strict=True))
        return datasets.DatasetInfo(
            description=f"{self.TITLE}: remote-sensing images with captions (official splits: {sizes}).",
            features=row_features(self.CLASSES),
            homepage=self.SOURCE,
            citation=self.CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        self.findings = findings = self._findings.copy()
        records = [record for record in self._records if is_image(record, findings)]
        if findings:
            message = f"{self.TITLE}: {count(len(records), 'image')}; {findings}"
            if not records:
                raise DataFolderError(f"{message}. Nothing is left to load. {self._how_to_get()}")
            warnings.warn(message, stacklevel=2)

        reference = [r for r in records if r.split == "train"] or records
        words = [count_words(caption) for record in reference for caption in record.captions]
        mean_words = max(sum(words) / len(words), 1.0)
        generators = []
        for split in SPLITS:
            rows = list(self._rows((r for r in records if r.split == split), mean_words))
            if rows:
                # A list is a list of shards to `datasets`: a stream can then be shuffled and shared out row by row.
                kwargs = {"rows": rows if dl_manager.is_streaming else tuple(rows)}
                generators.append(datasets.SplitGenerator(name=split, gen_kwargs=kwargs))
        return generators

    def _generate_examples(self, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(rows)

    def _rows(self, records: Iterable[Record], mean_words: float) -> Iterator[dict[str, Any]]:
        records = list(records)
        ids = [record.image_id for record in records]
        if not all(isinstance(i, int) for i in ids) or len(set(ids)) < len(ids):
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

    def _label(self, record: Record) -> int:
        """Index in `CLASSES`: the annotation's own label, else what the file name tells, else -1.

        A number (FISVL layout) is kept as it is. It groups the images rightly, all that the losses need; the
        name it gets from `CLASSES` is a guess, since the authors' list of classes is not published.
        """
        if isinstance(record.label, int):
            return record.label if 0 <= record.label < len(self.CLASSES) else -1
        name = self._class_name(record)
        return self.CLASSES.index(name) if name in self.CLASSES else -1

    def _class_name(self, record: Record) -> str:
        return re.sub(r"[^a-z]", "", str(record.label or self.class_of(record.filename)).lower())

    def _note_foreign_classes(self, records: Sequence[Record]) -> None:
        """Say so when half of the classes are none of this set's: the folder is then hardly this set."""
        named = [name for r in records if not isinstance(r.label, int) and (name := self._class_name(r))]
        foreign = Counter(name for name in named if name not in self.CLASSES)
        if foreign and foreign.total() >= len(named) / 2:
            shown = ", ".join(name for name, _ in foreign.most_common(3))
            self._findings.note(
                f"classes that {self.TITLE} does not have: labels unknown (is it this set?)",
                f"{foreign.total():,} of {len(named):,} images: {shown}",
            )

    def class_of(self, filename: str) -> str:
        """The class that a file name tells: `airport` for `airport_12.jpg`; empty when it tells none."""
        return re.split(r"_?\d", Path(filename).stem)[0]

    def _read_folder(self, data_dir: str | None, image_dir: str | None) -> list[Record]:
        """Rows of the annotation files whose image exists and that have a caption."""
        if data_dir is None:
            raise DataFolderError(
                f"{self.TITLE} does not download itself: give its folder as data_dir. {self._how_to_get()}"
            )
        folder = Path(data_dir).expanduser().absolute()
        if not folder.is_dir():
            raise DataFolderError(f"{self.TITLE}: no folder {folder}. {self._how_to_get()}")
        read = list(self._read_annotations(folder))
        self._note_foreign_classes(read)
        images = Images(folder, Path(image_dir).expanduser().absolute() if image_dir else None)
        records = []
        for record in read:
            path = images.find(record)
            if path is None:
                self._findings.leave_out("no such image", f"{record.place}, {record.filename}")
            elif not record.captions:
                self._findings.leave_out("no caption", f"{record.place}, {record.filename}")
            else:
                record.path = str(path)
                records.append(record)
        if not records:
            reasons = self._findings if self._findings else "the annotations are empty"
            raise DataFolderError(
                f"{self.TITLE}: no usable row in {folder} ({reasons}). Images were looked for in "
                f"{images.looked_in()}; give image_dir if they are elsewhere. {self._how_to_get()}"
            )
        return records

    def _read_annotations(self, folder: Path) -> Iterator[Record]:
        for stem in (f"dataset_{self.SHORT}", f"dataset_{self.SHORT.upper()}", "dataset"):
            if (file := folder / f"{stem}.json").is_file():
                return read_karpathy(file, self.SHORT, self._findings)
        places = [folder, folder / "finetune", folder / f"{self.SHORT}_precomp"]
        fisvl = {split: find_fisvl_file(places, self.SHORT, split) for split in SPLITS}
        if any(fisvl.values()):
            return (r for split, file in fisvl.items() if file for r in read_fisvl(file, split, self._findings))
        precomp = [(place, split) for place in places for split in SPLITS if (place / f"{split}_caps.txt").is_file()]
        if precomp:
            return (r for place, split in precomp for r in read_precomp(place, split))
        raise DataFolderError(
            f"{self.TITLE}: expected dataset_{self.SHORT}.json, {self.SHORT}_train.json or train_caps.txt "
            f"in {folder}, found {contents_of(folder)}. {self._how_to_get()}"
        )

    def _how_to_get(self) -> str:
        return f"Get {self.FILES} from {self.SOURCE}"


class Images:
    """Finds the images of an annotation file in the folders where the published archives have them."""

    FOLDERS = ("images", "imgs", "RSICD_images", "RSICD_images/RSICD_images", "UCM_images", "Sydney_images", ".")

    def __init__(self, data_dir: Path, image_dir: Path | None = None) -> None:
        self.roots = [image_dir] if image_dir else [data_dir.parent, data_dir]  # what an annotated folder starts from
        self.folders = [image_dir] if image_dir else [data_dir / name for name in self.FOLDERS]
        self._candidates: dict[str | None, list[dict[str, Path]]] = {}
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, record: Record) -> Path | None:
        """The image's path; a name whose suffix alone differs (.tif made into .jpg) is found too."""
        if record.folder not in self._candidates:
            annotated = [root / record.folder for root in self.roots] if record.folder else []
            self._candidates[record.folder] = [self._listing(folder) for folder in (*annotated, *self.folders)]
        for name in (record.filename, record.filename.rpartition(".")[0]):
            for listing in self._candidates[record.folder]:
                if name in listing:
                    return listing[name]
        return None

    def looked_in(self) -> str:
        return ", ".join(str(folder) for folder in self._listings)

    def _listing(self, folder: Path) -> dict[str, Path]:
        """Paths by file name and by stem: one look into a folder instead of one for each image."""
        if folder not in self._listings:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
            paths = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
            self._listings[folder] = {path.stem: path for path in paths} | {path.name: path for path in paths}
        return self._listings[folder]


def is_image(record: Record, findings: Findings) -> bool:
    """Whether the file's header (all that is read here) is that of an image."""
    try:
        with PIL.Image.open(record.path):
            return True
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        findings.leave_out("unreadable", f"{record.place}, {record.path} ({type(error).__name__}: {error})")
        return False


def read_karpathy(file: Path, short: str, findings: Findings) -> Iterator[Record]:
    """Rows of `{"images": [...]}`; says so when the file calls itself by the name of another published set."""
    content = read_json(file)
    items = content.get("images") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise DataFolderError(f'{file}: expected {{"images": [...]}}, the layout of dataset_rsicd.json')
    called = str(content.get("dataset") or "").lower()
    if short not in called and any(name in called for name in PUBLISHED):
        findings.note(f"a file of another set than {short} (take the data set of its name)", f"{file.name}, {called}")
    for index, item in enumerate(items):
        place = f"{file.name}, images[{index}]"
        try:
            yield Record(
                place,
                split=split_name(item["split"]),
                filename=str(item["filename"]),
                captions=clean([sentence["raw"] for sentence in item["sentences"]]),
                label=item.get("label"),
                image_id=item.get("imgid"),
                folder=str(item["filepath"]) if item.get("filepath") else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            findings.leave_out("malformed", f"{place} ({type(error).__name__}: {error})")


def find_fisvl_file(places: Sequence[Path], short: str, split: str) -> Path | None:
    """`rsicd_train*.json`; of several the one with caption weights (`rsicd_train_length_...json`)."""
    files = [file for place in places for file in sorted(place.glob(f"{short}_{split}*.json"))]
    return max(files, key=lambda file: "length" in file.name, default=None)


def read_fisvl(file: Path, split: str, findings: Findings) -> Iterator[Record]:
    """Rows of a list of `{image, caption, image_id, label, length}`, records of one image joined."""
    items = read_json(file)
    if not isinstance(items, list):
        raise DataFolderError(f"{file}: expected a list of {{image, caption, image_id, label, length}}")
    records: dict[str, Record] = {}
    for index, item in enumerate(items):
        place = f"{file.name}[{index}]"
        try:
            filename = str(item["image"]).replace("\\", "/").split("/")[-1]  # the authors, too, use the last part only
            captions = item["caption"] if isinstance(item["caption"], list) else [item["caption"]]
            weights = item.get("length")
            weights = weights if isinstance(weights, list) else [weights] * len(captions)
            pairs = [(c.strip(), w) for c, w in zip(captions, weights, strict=True) if c.strip()]
            new = Record(place, split, filename, [], [], label=item.get("label"), image_id=item.get("image_id"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            findings.leave_out("malformed", f"{place} ({type(error).__name__}: {error})")
            continue
        record = records.setdefault(filename, new)
        record.captions += [caption for caption, _ in pairs]
        if record.weights is not None and all(isinstance(w, (int, float)) for _, w in pairs):
            record.weights += [float(weight) for _, weight in pairs]
        else:
            record.weights = None
    yield from records.values()


def read_precomp(folder: Path, split: str) -> Iterator[Record]:
    """Rows of `<split>_caps.txt` and `<split>_filename.txt`."""
    captions_file, names_file = folder / f"{split}_caps.txt", folder / f"{split}_filename.txt"
    if not names_file.is_file():
        raise DataFolderError(f"{captions_file} needs {names_file.name} beside it: the image of each caption")
    captions = read_text(captions_file).splitlines()
    names = read_text(names_file).split()
    if not names or len(captions) % len(names):
        raise DataFolderError(
            f"{captions_file.name} has {len(captions)} lines and {names_file.name} {len(names)} names in {folder}: "
            "expected the same number of captions for each name. Was a file cut short?"
        )
    per_name = len(captions) // len(names)
    records: dict[str, Record] = {}
    for index, name in enumerate(names):
        lines = captions[index * per_name : (index + 1) * per_name]
        place = f"{captions_file.name}, line {index * per_name + 1}"
        records.setdefault(name, Record(place, split, name, [])).captions += clean(lines)
    yield from records.values()


def clean(captions: Iterable[str]) -> list[str]:
    """The captions that hold anything but white space; "." stays, since the processor copes with it."""
    return [caption.strip() for caption in captions if caption.strip()]


def file_of_each_split(
    title: str, folder: Path, matching: Iterable[Path], split_of: Callable[[Path], str | None]
) -> dict[str, Path]:
    """Files by the split that their names tell; a lone file whose name tells none is train.

    Raises:
        DataFolderError: two files for one split, or several files of unknown split.
    """
    files = list(matching)
    if len(files) == 1:
        return {split_of(files[0]) or "train": files[0]}
    chosen: dict[str, Path] = {}
    for split, file in ((split, file) for file in files if (split := split_of(file))):
        if split in chosen:
            raise DataFolderError(
                f"{title}: {chosen[split].name} and {file.name} in {file.parent} are both for {split}: say which with "
                f'the option files={{"{split}": ...}}'
            )
        chosen[split] = file
    if files and not chosen:
        raise DataFolderError(
            f"{title}: the names {', '.join(file.name for file in files[:4])} in {folder} do not tell the split: say "
            'it with the option files={"train": ...}'
        )
    return {split: chosen[split] for split in SPLITS if split in chosen}


def named_files(title: str, folder: Path, files: Any, example: str) -> dict[str, Path]:
    """The files that the option `files` names, by split.

    Raises:
        DataFolderError: it is no mapping of splits to files, or a file is not there.
    """
    if not isinstance(files, Mapping) or not files or set(files) - set(SPLITS):
        raise DataFolderError(
            f"{title}: files has to say the file of each split ({', '.join(SPLITS)}), such as "
            f'{{"train": "{example}"}}; got {files!r}'
        )
    named = {split: folder / str(files[split]) for split in SPLITS if split in files}
    if missing := [str(file) for file in named.values() if not file.is_file()]:
        raise DataFolderError(f"{title}: no file {', '.join(missing)} (option files)")
    return named


def contents_of(folder: Path, most: int = 8) -> str:
    """The first entries of a folder, for messages."""
    found = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return f"[{', '.join(found[:most])}" + (f", and {len(found) - most} more]" if len(found) > most else "]")


def split_name(name: str) -> str:
    split = SPLIT_ALIASES.get(name, name)
    if split not in SPLITS:
        raise ValueError(f"unknown split {name!r}")
    return split


def read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="replace")


def read_json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise DataFolderError(f"{file} is not JSON ({error}). Was it cut short? Get it again.") from None
