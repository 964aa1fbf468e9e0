"""From a sentence to the scene that answers it, to the objects counted in it, to a GeoJSON.

    stmine toy scenes --kind mosaic --count 36
    python examples/count_in_scenes.py scenes "many planes are parked on the gray ground of an airport" --out counted

Cuts the scenes of a folder into tiles and embeds them (a second run embeds only what is new), takes the scene of the
best hit, finds objects in its slices, and writes `scene.png`, `map.html` and `objects.geojson`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stmine_hf import Detector, ImageIndex
from stmine_hf.demo import count_in_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of scenes, of any size")
    parser.add_argument("sentence", help="what to look for")
    parser.add_argument("--out", type=Path, default=Path("outputs/counted"), help="folder for what is written")
    parser.add_argument("--index", type=Path, help="folder of the index; default: OUT.index beside --out")
    parser.add_argument("--tile", default="256", help="side of the tiles that are searched, in pixels")
    parser.add_argument("--model", default="sat-aircraft", help="what finds objects")
    parser.add_argument("--slice", type=int, default=320, help="side of the slices that it looks at, in pixels")
    parser.add_argument("--threshold", type=float, default=0.4, help="minimum score of an object")
    options = parser.parse_args()

    # 1 the scenes, cut into tiles
    place = options.index or options.out.with_name(f"{options.out.name}.index")
    index = ImageIndex.build(options.scenes, place, tile=options.tile)

    # 2 the scene that answers the sentence, and the objects in it
    detector = Detector(options.model, slice=options.slice, overlap=0.3, threshold=options.threshold)
    counted = count_in_scene(index, detector, options.sentence)
    for hit in counted.hits:
        print(f"{hit.rank:>3} {hit.score:.3f} {hit.path.name} {'' if hit.window is None else tuple(hit.window)}")
    inside = ", ".join(f"{count} in hit {hit.rank}" for hit, count in counted.windows)
    print(f"{counted.path.name}: {len(counted.objects)} objects, {inside}")

    # 3 the drawing, the map, and the coordinates
    for path in counted.save(options.out):
        print(path)


if __name__ == "__main__":
    main()
