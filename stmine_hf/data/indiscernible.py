"""Hard-to-see objects: camouflaged animals and people, e-bikes at elevators, small targets in infrared, in one set.

Put together from CAMO (Le et al., 2019), a sample of COD10K (Fan et al., 2020), images of electric bicycles and
SIRST (Dai et al., 2021), in the layout of COCO, with the origin of each image in its entry's field `source`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# for coco_json: of a script, datasets 3.x finds only the files that the script itself imports
from .boxed_images import BoxedImages as BoxedImages
from .captioned_images import DataFolderError
from .coco_json import CocoJson, CocoJsonConfig

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
    LAYOUT = "images/, annotations/instances_train.json and annotations/instances_val.json"

    def _wanted(self, settings: Any) -> frozenset[str] | None:
        if settings.sources is None:
            return None
        wanted = [settings.sources] if isinstance(settings.sources, str) else list(settings.sources)
        if not wanted or set(wanted) - set(SOURCES):
            raise DataFolderError(f"{self.TITLE}: sources has to name some of {', '.join(SOURCES)}; got {wanted}")
        return frozenset(wanted)
