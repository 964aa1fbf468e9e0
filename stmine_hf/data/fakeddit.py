"""Fakeddit: Reddit posts with an image, labelled by their subreddit in 2, 3 or 6 ways (Nakamura et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .about import ASK, About
from .cells import flag_of, is_missing, name_of
from .errors import BadRow, DataFolderError
from .folder_builder import Row
from .names import Wanted
from .post_files import Columns, Post, PostFiles, PostFilesConfig
from .tables import pick

# Label i of the files is the i-th name.
LABELS = {
    "2_way": ("fake", "true"),
    "3_way": ("true", "fake with true text", "fake with false text"),
    "6_way": (
        "true",
        "satire",
        "false connection",
        "imposter content",
        "manipulated content",
        "misleading content",
    ),
}


@dataclass
class FakedditConfig(PostFilesConfig):
    """Options besides those of `PostFilesConfig`.

    Args:
        labels: which of the labels: "2_way", "3_way" or "6_way".
    """

    labels: str = "2_way"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in LABELS:
            raise DataFolderError(f"fakeddit: labels has to be {' or '.join(LABELS)}, got {self.labels!r}")


class Fakeddit(PostFiles):
    """Folder: `multimodal_train.tsv`, `multimodal_validate.tsv`, `multimodal_test_public.tsv` and the images.

    Also `all_*.tsv` and any other TSV or JSONL files with the columns `id`, `clean_title` and the labels. An image is
    named by its post's id, in `images/`, `public_image_set/` or `image_dir`, unless a column `img` names it.
    """

    BUILDER_CONFIG_CLASS = FakedditConfig

    TITLE = "fakeddit"
    ABOUT = About(
        terms=f"Posts and images of Reddit's users; {ASK}",
        mind=(
            "A label is the habit of a subreddit, not a check of facts, and some of them are jokes. "
            "Images were not sifted: expect disturbing ones"
        ),
        chinese="Reddit 帖子，附图片，按版块标为 2、3 或 6 类；标签来自版块习惯，不是事实核查",
    )
    PATTERNS = ("multimodal_*.tsv", "all_*.tsv", "*.tsv", "*.jsonl")
    EXPECTED = (
        "multimodal_train.tsv, multimodal_validate.tsv, multimodal_test_public.tsv and the images in images/ or "
        "public_image_set/"
    )
    IMAGE_FOLDERS = ("images", "public_image_set", ".")
    SOURCE = "https://github.com/entitize/Fakeddit"
    CITATION = """@inproceedings{nakamura2020fakeddit,
  title={Fakeddit: A New Multimodal Benchmark Dataset for Fine-grained Fake News Detection},
  author={Nakamura, Kai and Levy, Sharon and Wang, William Yang},
  booktitle={Language Resources and Evaluation Conference},
  year={2020}
}"""

    def _columns(self) -> Columns:
        return Columns(text=("clean_title", "text"), label=(f"{self._settings.labels}_label",), image=("img",))

    def _labels(self) -> tuple[str, ...]:
        return LABELS[self._settings.labels]

    def _label(self, value: Any) -> str:
        number = name_of(value)
        numbers = [str(index) for index in range(len(self._labels()))]
        if number not in numbers:
            raise BadRow(f"unknown label {number!r}, expected {' or '.join(numbers)}" if number else "no label")
        return self._labels()[int(number)]

    def _image(self, row: Row, post: Post) -> Wanted | None:
        if not is_missing(pick(row, self._names_of_columns.image)):
            return super()._image(row, post)
        claimed = row.get("hasImage")
        if not is_missing(claimed) and not flag_of(claimed):
            return None
        return Wanted(post.post_id, post.place, stem=True, hint="" if is_missing(claimed) else f"{post.post_id}.jpg")

    def _place(self, post: Post, image: Wanted, path: str | None) -> None:
        if not image.stem:
            super()._place(post, image, path)
        elif path is not None:
            super()._place(post, replace(image, name=Path(path).name), path)
        elif image.hint:  # the post has one, as the file says
            super()._place(post, replace(image, name=image.hint), None)
