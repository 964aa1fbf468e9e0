"""Place words of Chinese posts in English, which is all that the search reads."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Types of places that overhead images show, as their captions name them. Longer words first: 停车场 is no 车.
_ENGLISH = {
    "飞机场": "an airport with planes", "机场": "an airport with planes", "航班": "an airport with planes",
    "飞机": "planes", "港口": "a port with ships", "码头": "a port with ships", "码头上": "a port with ships",
    "轮船": "ships", "渔船": "boats", "船": "ships", "大桥": "a bridge over a river", "桥": "a bridge over a river",
    "河流": "a river", "河边": "a river", "江": "a river", "河": "a river", "湖": "a pond", "池塘": "a pond",
    "水库": "a pond", "海滩": "a beach", "沙滩": "a beach", "海边": "a beach", "森林": "a forest with green trees",
    "树林": "green trees", "树": "green trees", "农田": "farmland", "田": "farmland", "沙漠": "a desert",
    "停车场": "a parking lot with cars", "体育场": "a stadium", "体育馆": "a stadium", "球场": "a playground",
    "棒球场": "a baseball field", "操场": "a playground", "学校": "a school", "火车站": "a railway station",
    "高铁站": "a railway station", "车站": "a railway station", "铁路": "a railway station",
    "油罐": "storage tanks", "储罐": "storage tanks", "化工厂": "storage tanks in a factory",
    "工厂": "an industrial area with buildings", "居民区": "many buildings in a residential area",
    "小区": "many buildings in a residential area", "住宅": "many buildings in a residential area",
    "教堂": "a church", "广场": "a square", "山": "mountains", "立交桥": "a viaduct", "高架": "a viaduct",
}  # fmt: skip
_WORD = re.compile("|".join(sorted(map(re.escape, _ENGLISH), key=len, reverse=True)))
_CHINESE = re.compile("[\u3400-\u9fff]")


_NO_PLACE = frozenset(("a", "an", "with", "over", "in", "many", "green", "area"))
# Words of those descriptions -> the shortest that has the word: "river" is "a river", not "a bridge over a river".
_DESCRIBED = {
    word: place
    for place in sorted({*_ENGLISH.values()}, key=len, reverse=True)
    for word in place.split()
    if word not in _NO_PLACE
}


def place_of_names(names: Iterable[str]) -> str | None:
    """A sentence to search for, by the first name of an image that tells a place; None if none does.

    Example:
        >>> place_of_names(["IMG_1.jpg", "farm/bridge_12.jpg"]), place_of_names(["港口3.png"])
        ('a bridge over a river', 'a port with ships')
    """
    for name in names:
        if _CHINESE.search(name) and (place := place_in(name)):
            return place
        if words := [word for word in re.findall("[a-z]+", name.lower()) if word in _DESCRIBED]:
            return _DESCRIBED[words[-1]]
    return None


def place_in(text: str) -> str:
    """What to search for, in English: the place words of a Chinese text in their order, any other text as it is.

    Returns:
        "" for a Chinese text that names no place known here.

    Example:
        >>> place_in("【港口今日恢复通航】")
        'a port with ships'
        >>> place_in("a river between green trees")
        'a river between green trees'
    """
    if not _CHINESE.search(text):
        return text
    return ", ".join(dict.fromkeys(_ENGLISH[word] for word in _WORD.findall(text)))
