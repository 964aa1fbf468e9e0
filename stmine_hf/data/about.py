"""What the files of a published set do not state: its terms and caveats, for its card and `stmine data describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ASK = "no license is stated. Use it for research, and do not pass it on without asking"
ASK_ZH = "没有写明许可，请仅用于研究，未经询问请勿转发"


@dataclass(frozen=True)
class About:
    """
    Attributes:
        terms: under which the set may be used; a sentence without its full stop, as all texts here.
        mind: what to keep in mind when the set is used.
        chinese: what it is, in Chinese.
        terms_zh: the terms in Chinese.
        sizes: images or posts of each split; empty if there are no official ones.
        language: of the texts, as the Hub names it; None where the set has none.
    """

    terms: str
    mind: str
    chinese: str
    terms_zh: str = ASK_ZH
    sizes: Mapping[str, int] = field(default_factory=dict)
    language: str | Sequence[str] | None = "en"


def drawn(mind: str, chinese: str, language: str | Sequence[str] | None = "en") -> About:
    """The entry of a set that this package generates."""
    return About(
        terms="Drawn by the package, under its license (Apache-2.0): nobody's images, texts or rights",
        terms_zh="由本库绘制，采用本库的许可（Apache-2.0），不涉及他人的图片、文字或权利",
        mind=mind,
        chinese=chinese,
        language=language,
    )
