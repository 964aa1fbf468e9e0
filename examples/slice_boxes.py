"""Cut large images with boxes into slices to train on: small objects keep their size.

    python examples/slice_boxes.py --dataset coco_json --data_dir data/aircraft --out data/aircraft_slices
    accelerate launch examples/train_sat.py --config examples/configs/sat_aircraft.yaml

Writes a COCO data set (`images/`, `annotations/instances_*.json`). A box stays in a slice if enough of its area does,
clipped to it; slices without boxes are thinned out. `stmine evaluate sat --slice` and `stmine detect --slice` then
work on the images as they are.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from stmine_hf import load_dataset
from stmine_hf.images import decode_image, tile_windows
from stmine_hf.outputs import Outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="coco_json", help="name of the set with boxes (default: %(default)s)")
    parser.add_argument("--data_dir", required=True, help="its folder")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], help="which splits (default: %(default)s)")
    parser.add_argument("--side", type=int, default=320, help="of a slice in pixels (default: %(default)s)")
    parser.add_argument("--overlap", type=float, default=0.2, help="of two slices (default: %(default)s)")
    parser.add_argument("--least_area", type=float, default=0.4, help="of a box to keep it (default: %(default)s)")
    parser.add_argument("--empty_every", type=int, default=4, help="keep one of so many slices without boxes")
    args = parser.parse_args()

    with Outputs(args.out, inputs=[args.data_dir]) as outputs:
        for split in args.splits:
            rows = load_dataset(args.dataset, split=split, data_dir=args.data_dir)
            document = slice_split(rows, outputs, split, args)
            outputs.write(f"annotations/instances_{split}.json", partial(write_document, document))
            print(f"{split}: {len(document['images'])} slices with {len(document['annotations'])} boxes")


def write_document(document: dict, path: Path) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def slice_split(rows, outputs: Outputs, split: str, args: argparse.Namespace) -> dict:
    """Write the slices of a split; the COCO document that describes them."""
    categories = rows.features["objects"]["category"].feature
    document: dict = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": number, "name": name} for number, name in enumerate(categories.names, start=1)]
    empty = 0
    for number, row in enumerate(rows):
        image = decode_image(row["image"])
        for left, top, width, height in tile_windows(image.width, image.height, args.side, args.overlap):
            boxes = list(boxes_in(row["objects"], (left, top, width, height), args.least_area))
            empty += not boxes
            if not boxes and empty % args.empty_every:
                continue
            name = f"{split}/{number:05d}_{left}_{top}.jpg"
            piece = image.crop((left, top, left + width, top + height))
            outputs.write(f"images/{name}", partial(piece.save, format="JPEG", quality=95))
            image_id = len(document["images"]) + 1
            document["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
            for category, (x, y, wide, high) in boxes:
                box = {"bbox": [x, y, wide, high], "area": wide * high, "iscrowd": 0, "category_id": category + 1}
                document["annotations"].append({"id": len(document["annotations"]) + 1, "image_id": image_id, **box})
    return document


def boxes_in(objects: dict, window: tuple[int, int, int, int], least_area: float):
    """Category and box [x, y, w, h] in pixels of a window, of each object of which enough lies in it."""
    left, top, width, height = window
    for (x, y, wide, high), category in zip(objects["bbox"], objects["category"], strict=True):
        x1, y1 = max(x, left), max(y, top)
        x2, y2 = min(x + wide, left + width), min(y + high, top + height)
        if x2 > x1 and y2 > y1 and (x2 - x1) * (y2 - y1) >= least_area * wide * high:
            yield category, (round(x1 - left, 2), round(y1 - top, 2), round(x2 - x1, 2), round(y2 - y1, 2))


if __name__ == "__main__":
    main()
