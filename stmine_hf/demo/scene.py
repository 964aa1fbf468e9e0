"""From a sentence to the scene that answers it, to the objects counted in it, to a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from ..detect import Detection, Detector
from ..detect.drawing import draw_box, draw_label
from ..detect.formats import object_feature
from ..errors import StmineError
from ..geojson import collection
from ..images import PixelOptions, open_scene, place_and_time
from ..outputs import write_output
from ..search import Hit, ImageIndex
from ..search.maps import map_document

_HITS, _OBJECTS = (255, 214, 10), (255, 45, 85)  # colours of frames
_SIDE = 1600  # pixels of the longer side of a drawing, at most


@dataclass(frozen=True)
class CountedScene:
    """The scene that answers a sentence best, and the objects in it.

    Attributes:
        sentence: what was searched for.
        path: of the scene.
        hits: of the sentence, in all scenes, best first.
        objects: in the scene, best first; boxes in its pixels.
        pixels: how the index reads scenes.
    """

    sentence: str
    path: Path
    hits: Sequence[Hit]
    objects: Sequence[Detection]
    pixels: PixelOptions

    @property
    def windows(self) -> list[tuple[Hit, int]]:
        """The hits in this scene, and how many objects have their middle in each."""
        return [(hit, sum(_inside(one, hit) for one in self.objects)) for hit in self.hits if hit.path == self.path]

    def drawn(self, side: int = _SIDE) -> Image.Image:
        """The scene, at most so many pixels along its longer side, with a frame around each hit and each object."""
        with open_scene(self.path, self.pixels) as scene:
            image, scale = scene.reduced(side), min(1.0, side / max(scene.width, scene.height))
        for one in reversed(self.objects):
            draw_box(image, _scaled(one.box, scale), _OBJECTS)
        covered = [_scaled(one.box, scale) for one in self.objects]
        for hit, count in reversed(self.windows):
            if hit.window is not None:
                left, top, width, height = hit.window
                box = _scaled((left, top, left + width, top + height), scale)
                draw_box(image, box, _HITS)
                draw_label(image, box, _HITS, f"{hit.rank}: {count} in it", avoid=covered)
        return image

    def map_page(self) -> str:
        """The hits on a map, as HTML that needs no other file."""
        return map_document(self.hits, title=self.sentence, pixels=self.pixels)

    def geojson(self) -> str:
        """The objects as polygons in longitude and latitude, and in the coordinates of the scene.

        Raises:
            StmineError: the scene does not state its place.
        """
        place = place_and_time(self.path).georeference
        if place is None:
            raise StmineError(
                f"{self.path.name} does not state where on the Earth it is, so its objects have no coordinates: save "
                "it as a GeoTIFF with its coordinate system and transform"
            )
        facts = {"image": self.path.name}
        features = [
            object_feature(place, one.box, {**facts, "category": one.name, "score": round(one.score, 5)})
            for one in self.objects
        ]
        return collection(found for found in features if found is not None)

    def save(self, folder: str | Path) -> list[Path]:
        """Write `scene.png`, `map.html` and `objects.geojson`; the last two for scenes with a place.

        Raises:
            OutputError: a file is there that this package did not write.
        """
        folder, inputs, drawn = Path(folder), [self.path], self.drawn()
        written = [write_output(folder / "scene.png", lambda path: drawn.save(path, format="PNG"), inputs=inputs)]
        if place_and_time(self.path).georeference is None:
            return written
        for name, text in {"map.html": self.map_page(), "objects.geojson": self.geojson()}.items():
            written.append(write_output(folder / name, partial(_write, text.encode()), inputs=inputs))
        return written


def count_in_scene(index: ImageIndex, detector: Detector, sentence: str, k: int = 6) -> CountedScene:
    """Search an index of tiles, and find objects in the scene of the best hit.

    Args:
        index: made with `tile`.
        detector: made with `slice`, so that small objects keep their size.
        sentence: what the scene shows.
        k: number of hits.

    Raises:
        StmineError: nothing to search for.
        BadItemError: the scene can no longer be read.
    """
    hits = index.query(sentence, k, paths=False)
    objects = detector(hits[0].path)
    return CountedScene(sentence, hits[0].path, hits, objects.detections, index.pixels)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _inside(one: Detection, hit: Hit) -> bool:
    if hit.window is None:
        return True
    left, top, width, height = hit.window
    x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
    return left <= x < left + width and top <= y < top + height


def _scaled(box: Sequence[float], scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (side * scale for side in box)
    return left, top, right, bottom
