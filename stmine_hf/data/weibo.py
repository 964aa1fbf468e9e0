"""Weibo: Chinese posts with an image, rumours and confirmed news (Jin et al., 2017), as MTTV splits them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .about import ASK, About
from .errors import DataFolderError
from .event_clusters import split_by_event
from .findings import Findings
from .folder_builder import Row, split_of, visible
from .names import Wanted
from .post_files import Columns, EventSplitConfig, Post, PostFiles
from .tables import read_lines


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

    Also as Jin et al. publish it: `tweets/train_rumor.txt`, `train_nonrumor.txt`, `test_rumor.txt`,
    `test_nonrumor.txt`, three lines a post (facts with its id, addresses of images, text), and the images in
    `rumor_images/` and `nonrumor_images/`.

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
        folder = Path(self._settings.data_dir or "").expanduser().absolute()
        if self._settings.data_dir and self._settings.files is None and (tweets := tweet_files(folder)):
            found = [(split_of(file.name) or "train", file) for file in tweets]
        else:
            folder, found = super()._find_files()
        if self._settings.extra is not None:
            extra = folder / self._settings.extra
            if not extra.is_file():
                raise DataFolderError(f"{self.TITLE}: no file {extra} (option extra)")
            found.append(("train", extra))
        return folder, found

    def _read_rows(self, file: Path) -> Iterator[tuple[str, Row]]:
        if file.suffix == ".txt":
            return read_tweets(file, self._findings, self._settings.encoding)
        return super()._read_rows(file)

    def _image(self, row: Row, post: Post) -> Wanted | None:
        wanted = super()._image(row, post)
        return wanted and replace(wanted, name=wanted.name.rpartition("/")[2] if "tweet" in row else wanted.name)

    def _arrange(self, posts: list[Post]) -> list[Post]:
        settings = self._settings
        return split_by_event(posts, settings.validation, settings.validation_share, settings.validation_seed)


def tweet_files(folder: Path) -> list[Path]:
    """The files of three lines a post; none where a folder has none, or has JSON lines."""
    if not folder.is_dir() or visible(folder.glob("*.jsonl")):
        return []
    return [
        file
        for place in (folder, folder / "tweets")
        for file in sorted(place.glob("*_*rumor.txt"), key=lambda file: (split_of(file.name) != "train", file.name))
    ]


def read_tweets(file: Path, findings: Findings, encoding: str | None = None) -> Iterator[tuple[str, Row]]:
    """The posts of a file of three lines each.

    Raises:
        DataFolderError: the lines do not come in threes.
    """
    lines = read_lines(file, encoding)
    while lines and len(lines) % 3 and not lines[-1].strip():
        lines.pop()
    if len(lines) % 3:
        raise DataFolderError(f"{file}: {len(lines)} lines, expected three a post. Was it cut short? Get it again.")
    label = "real" if "nonrumor" in file.name else "fake"
    for start in range(0, len(lines), 3):
        facts, images, text = lines[start : start + 3]
        place = f"{file.name}, line {start + 1}"
        addresses = [address for address in images.strip().split("|") if address not in ("", "null")]
        if "|" not in facts or not all(re.match(r"https?://|[^|\s]+\.\w+$", address) for address in addresses):
            findings.skip("not facts, addresses of images and a text in three lines", place)
            continue
        yield place, {"id": facts.partition("|")[0], "img": addresses, "text": text, "label": label, "tweet": True}
