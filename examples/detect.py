"""Find objects in images, the Python way.

    python examples/detect.py street.jpg garden.png

prints what is in each image and where, and writes annotated copies to outputs/detect. Folders, videos and cameras:
`stmine detect`, or `detect_images` and `detect_video` of the same package.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

from stmine_hf.detect import Detector, draw_detections

out = Path("outputs/detect")
out.mkdir(parents=True, exist_ok=True)
detector = Detector.load("hub_cards/sat-coco-small", threshold=0.4)  # or your own folder, or a Hub id
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path))
    (found,) = detector([image])  # several images at a time are fine, of any size and kind
    for one in found:
        print(f"{path}: {one.name} {one.score:.2f} at {', '.join(f'{value:.0f}' for value in one.box)}")
    draw_detections(image, found).save(out / f"{Path(path).stem}.png")
