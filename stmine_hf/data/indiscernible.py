"""Hard-to-see objects: camouflaged animals and people, e-bikes at elevators, small targets in infrared, in one set.

Put together from CAMO (Le et al., 2019), a sample of COD10K (Fan et al., 2020), images of electric bicycles and
SIRST (Dai et al., 2021), in the layout of COCO, with the origin of each image in its entry's field `source`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .about import About
from .coco_json import CocoJson, CocoJsonConfig
from .errors import DataFolderError

SOURCES = ("CAMO", "COD10K", "EBIKE", "SIRST")


@dataclass
class IndiscernibleConfig(CocoJsonConfig):
    """Options.

    Args:
        sources: origins to keep, of CAMO, COD10K, EBIKE and SIRST; None keeps all. The labels stay the same.
    """

    sources: Sequence[str] | str | None = None


class Indiscernible(CocoJson):
    """Folder: `images/`, `annotations/instances_train.json` and `annotations/instances_val.json`."""

    BUILDER_CONFIG_CLASS = IndiscernibleConfig

    TITLE = "indiscernible"
    ABOUT = About(
        terms=(
            "Those of its sources: CAMO and SIRST state no license and ask for a citation, COD10K is for "
            "non-commercial use, EBIKE's images state no terms and show real people. Use it for research,"
            " and do not pass it on"
        ),
        terms_zh="CAMO 与 SIRST 没有写明许可，COD10K 限非商业用途，EBIKE 没有写明条款；请仅用于研究，请勿转发",
        mind=(
            "E-bikes and persons rest on a handful of images: their scores are anecdotes. Animals that "
            "touch share one box. People and animals in hiding: do not train tools that hunt them"
        ),
        chinese="难以辨认的目标：伪装的动物和人、电梯口的电动自行车、红外小目标",
        sizes={"train": 998, "val": 270},
        language=None,
    )
    LAYOUT = "images/, annotations/instances_train.json and annotations/instances_val.json"

    def _wanted(self, settings: Any) -> frozenset[str] | None:
        if settings.sources is None:
            return None
        wanted = [settings.sources] if isinstance(settings.sources, str) else list(settings.sources)
        if not wanted or set(wanted) - set(SOURCES):
            raise DataFolderError(f"{self.TITLE}: sources has to name some of {', '.join(SOURCES)}; got {wanted}")
        return frozenset(wanted)
