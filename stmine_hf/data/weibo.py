"""Weibo: Chinese posts with an image, rumours and confirmed news (Jin et al., 2017), as MTTV splits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .about import ASK, About
from .errors import DataFolderError
from .event_clusters import split_by_event
from .post_files import Columns, EventSplitConfig, Post, PostFiles


@dataclass
class WeiboConfig(EventSplitConfig):
    """Options besides those of `EventSplitConfig`.

    Args:
        extra: a file of further rows, such as "extra_same_post.jsonl" (more images of the same posts), in `data_dir`
            or as a whole path. Each goes to the split that it names.
    """

    extra: str | None = None


class Weibo(PostFiles):
    """Folder: `train.jsonl`, `dev.jsonl`, `test.jsonl` (`id`, `label`, `text`, `img`) and the images in `images/`.

    `group` is the event of a train or validation row, found from its text by `event_clusters`; -1 for test rows. The
    released dev.jsonl shares events and even near-copies with train.jsonl, while test.jsonl does not: scores on it say
    little about new events. For choosing a model take `validation="events"`.
    """

    BUILDER_CONFIG_CLASS = WeiboConfig

    TITLE = "weibo"
    ABOUT = About(
        terms=f"Posts and images of Weibo's users; {ASK}",
        mind=(
            "A label is what Weibo's rumour reports (fake) or news agencies (real) said then: it is not "
            "the truth. Rows may name real people; show none as fact. The released dev split shares "
            'events with train: take `validation="events"`'
        ),
        chinese="中文微博帖子，附图片，标为谣言或真实；标签只是当时的判定，不等于真相",
        sizes={"train": 6464, "val": 719, "test": 1840},
        language="zh",
    )
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

    def _find_files(self) -> tuple[Path, list[tuple[str, Path]]]:
        folder, found = super()._find_files()
        if self._settings.extra is not None:
            extra = folder / self._settings.extra
            if not extra.is_file():
                raise DataFolderError(f"{self.TITLE}: no file {extra} (option extra)")
            found.append(("train", extra))
        return folder, found

    def _arrange(self, posts: list[Post]) -> list[Post]:
        settings = self._settings
        return split_by_event(posts, settings.validation, settings.validation_share, settings.validation_seed)
