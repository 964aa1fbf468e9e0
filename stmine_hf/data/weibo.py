"""Weibo: Chinese posts with a picture, rumours and confirmed news (Jin et al., 2017), as MTTV splits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .captioned_images import DataFolderError
from .event_clusters import VALIDATIONS, split_by_event
from .post_files import Columns, Post, PostFiles, PostFilesConfig


@dataclass
class WeiboConfig(PostFilesConfig):
    """Options.

    Args:
        validation: "released" takes dev.jsonl. "events" pools train.jsonl and dev.jsonl and holds out whole events,
            since the released dev shares events and even near-copies with train and the test split does not: scores on
            it say little about new events. The test split is never touched.
        validation_share: share of the pool that "events" holds out.
        validation_seed: which events it holds out.
        extra: a file of further rows, such as "extra_same_post.jsonl" (more pictures of the same posts), in `data_dir`
            or as a whole path. Each goes to the split that it names.
    """

    validation: str = "released"
    validation_share: float = 0.1
    validation_seed: int = 0
    extra: str | None = None


class Weibo(PostFiles):
    """Folder: `train.jsonl`, `dev.jsonl`, `test.jsonl` (`id`, `label`, `text`, `img`) and the pictures in `images/`.

    `group` is the event of a train or validation row, found from its text by `event_clusters`; -1 for test rows.
    """

    BUILDER_CONFIG_CLASS = WeiboConfig

    TITLE = "weibo"
    LABELS = ("fake", "real")
    PATTERNS = ("*.jsonl",)
    EXPECTED = "train.jsonl, dev.jsonl, test.jsonl and the folder images/"
    IMAGE_FOLDERS = ("images", "rumor_images", "nonrumor_images", ".")
    SOURCE = "https://github.com/cqu-wb/MTTV"
    CITATION = """@inproceedings{jin2017multimodal,
  title={Multimodal Fusion with Recurrent Neural Networks for Rumor Detection on Microblogs},
  author={Jin, Zhiwei and Cao, Juan and Guo, Han and Zhang, Yongdong and Luo, Jiebo},
  booktitle={ACM International Conference on Multimedia},
  year={2017}, doi={10.1145/3123266.3123454}
}"""

    def _columns(self) -> Columns:
        return Columns(image=("img",))

    def _find_files(self) -> tuple[Path, list[tuple[Path, str]]]:
        folder, found = super()._find_files()
        if self._settings.validation not in VALIDATIONS:
            raise DataFolderError(
                f"{self.TITLE}: validation has to be {' or '.join(VALIDATIONS)}, got {self._settings.validation!r}"
            )
        if self._settings.extra is not None:
            extra = folder / self._settings.extra
            if not extra.is_file():
                raise DataFolderError(f"{self.TITLE}: no file {extra} (option extra)")
            found.append((extra, "train"))
        return folder, found

    def _arrange(self, posts: list[Post]) -> list[Post]:
        settings = self._settings
        return split_by_event(posts, settings.validation, settings.validation_share, settings.validation_seed)
