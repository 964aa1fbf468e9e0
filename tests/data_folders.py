"""A tiny folder for every data set builder, drawn by the toy sets: what each has to read, in its own layout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from stmine_hf.data import BUILDERS, builder_class, kind_of
from stmine_hf.data.toy.toy_camouflage import write_camouflage
from stmine_hf.data.toy.toy_posts import write_posts
from stmine_hf.data.toy.toy_scenes import write_scenes

COUNT = 24  # posts come in fours, and a sixth of the fours is val
DRAWN = {"toy_scenes": {"size": 32}, "toy_posts": {"size": 32}, "toy_camouflage": {"size": 64}}
NAMES = BUILDERS


def source(name: str, folder: Path) -> dict[str, Any]:
    """Options of `stmine_hf.load_dataset` for a set of a dozen rows; writes what it reads into `folder`."""
    if name in DRAWN:
        return {"count": COUNT, **DRAWN[name]}
    if name == "nwpu_captions":
        write_scenes(folder, count=COUNT, size=32)
        _to_nwpu(folder)
    elif kind_of(name) == "captions":
        write_scenes(folder, count=COUNT, size=32)
        content = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").unlink()
        short = builder_class(name).SHORT  # type: ignore[attr-defined]
        content["dataset"] = short.upper() if name == "rsitmd" else short  # its published file is dataset_RSITMD.json
        (folder / f"dataset_{content['dataset']}.json").write_text(json.dumps(content))
    elif name in ("weibo", "fakeddit", "posts"):
        write_posts(folder, count=COUNT, size=32)
        if name != "posts":
            _rewrite_posts(name, folder)
    else:
        write_camouflage(folder, count=COUNT, size=64, difficulty=0.0)
        if name != "coco_json":
            _rewrite_boxes(name, folder)
    return {"data_dir": str(folder)}


def _to_nwpu(folder: Path) -> None:
    """Lists of images by class, captions as `raw`, `raw_1`, ..., images in a folder a class."""
    file = folder / "dataset.json"
    items = json.loads(file.read_text())["images"]
    file.unlink()
    classes = ("airplane", "sea_ice")
    content: dict[str, list] = {name: [] for name in classes}
    for number, item in enumerate(items):
        label = classes[number % 2]
        path = next((folder / "images").rglob(item["filename"]))
        (folder / "NWPU_images" / label).mkdir(parents=True, exist_ok=True)
        path.rename(folder / "NWPU_images" / label / f"{label}_{number:03}.png")
        own = {"filename": f"{label}_{number:03}.png", "imgid": number, "split": item["split"]}
        for place, sentence in enumerate(item["sentences"]):
            own["raw" + f"_{place}" * bool(place)] = sentence["raw"]
        content[label].append(own)
    (folder / "dataset_nwpu.json").write_text(json.dumps(content))


def _rewrite_posts(name: str, folder: Path) -> None:
    file = folder / "posts.jsonl"
    posts = [json.loads(line) for line in file.read_text().splitlines()]
    posts[0]["image"] = ""  # a post without an image
    file.unlink()
    for split, weibo, fakeddit in (("train", "train", "train"), ("val", "dev", "validate"), ("test", "test", "test")):
        own = [post for post in posts if post["split"] == split]
        if name == "weibo":
            lines = [
                json.dumps({"id": p["id"], "label": p["label"], "text": p["text"], "img": p["image"]}) for p in own
            ]
            (folder / f"{weibo}.jsonl").write_text("\n".join(lines) + "\n")
        else:
            lines = ["id\tclean_title\thasImage\t2_way_label"]
            for post in own:
                if post["image"]:
                    (folder / f"images/{post['id']}.png").write_bytes((folder / post["image"]).read_bytes())
                label = int(post["label"] == "real")
                lines.append(f"{post['id']}\t{post['text']}\t{bool(post['image'])}\t{label}")
            (folder / f"multimodal_{fakeddit}.tsv").write_text("\n".join(lines) + "\n")


def _rewrite_boxes(name: str, folder: Path) -> None:
    for file in sorted((folder / "annotations").glob("*.json")):
        split, content = file.stem.removeprefix("instances_"), json.loads(file.read_text())
        if name == "indiscernible":
            for number, image in enumerate(content["images"]):
                image["source"] = ("CAMO", "SIRST")[number % 2]
            file.write_text(json.dumps(content))
            continue
        names = {category["id"]: category["name"] for category in content["categories"]}
        (folder / "classes.txt").write_text("\n".join(names.values()) + "\n")
        for image in content["images"]:
            boxes = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            path = folder / "images" / image["file_name"]
            WRITERS[name](folder, split, path, boxes, names)
        file.unlink()


def _to_voc(folder: Path, split: str, path: Path, boxes: list, names: dict[int, str]) -> None:
    with Image.open(path) as image:
        width, height = image.size
    tags = [f"<filename>{path.name}</filename><size><width>{width}</width><height>{height}</height></size>"]
    for x, y, w, h, category in ((*box["bbox"], box["category_id"]) for box in boxes):
        corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
        tags.append(f"<object><name>{names[category]}</name><bndbox>")
        tags += [f"<{corner}>{value}</{corner}>" for corner, value in corners.items()]
        tags.append("</bndbox></object>")
    for place in ("Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / f"Annotations/{path.stem}.xml").write_text(f"<annotation>{''.join(tags)}</annotation>")
    with (folder / f"ImageSets/Main/{split}.txt").open("a") as names_of_split:
        names_of_split.write(path.stem + "\n")


def _to_yolo(folder: Path, split: str, path: Path, boxes: list, names: dict[int, str]) -> None:
    with Image.open(path) as image:
        width, height = image.size
    place = {category: number for number, category in enumerate(names)}
    lines = []
    for x, y, w, h, category in ((*box["bbox"], box["category_id"]) for box in boxes):
        numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        lines.append(" ".join(map(str, (place[category], *numbers))))
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    path.rename(folder / "images" / split / path.name)
    (folder / f"labels/{split}/{path.stem}.txt").write_text("\n".join(lines))


def _to_labelme(folder: Path, split: str, path: Path, boxes: list, names: dict[int, str]) -> None:
    with Image.open(path) as image:
        width, height = image.size
    shapes = [
        {"label": names[box["category_id"]], "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
        for box in boxes
        for x, y, w, h in [box["bbox"]]
    ]
    content = {"shapes": shapes, "imagePath": path.name, "imageWidth": width, "imageHeight": height}
    (folder / split).mkdir(exist_ok=True)
    path.rename(folder / split / path.name)
    (folder / split / f"{path.stem}.json").write_text(json.dumps(content))


def _to_cvat(folder: Path, split: str, path: Path, boxes: list, names: dict[int, str]) -> None:
    file = folder / split / "annotations.xml"
    (folder / split / "images").mkdir(parents=True, exist_ok=True)
    end = "</annotations>"
    labels = "".join(f"<label><name>{name}</name></label>" for name in names.values())
    head = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    text = file.read_text().removesuffix(end) if file.exists() else head
    with Image.open(path) as image:
        text += (
            f'<image id="{text.count("<image ")}" name="{path.name}" width="{image.width}" height="{image.height}">'
        )
    for box in boxes:
        x, y, w, h = box["bbox"]
        label = names[box["category_id"]]
        text += f'<box label="{label}" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"></box>'
    path.rename(folder / split / "images" / path.name)
    file.write_text(f"{text}</image>{end}")


def _to_label_studio(folder: Path, split: str, path: Path, boxes: list, names: dict[int, str]) -> None:
    file = folder / f"{split}.json"
    tasks = json.loads(file.read_text()) if file.exists() else []
    with Image.open(path) as image:
        width, height = image.size
    results = []
    for box in boxes:
        x, y, w, h = box["bbox"]
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
        value = {**value, "rotation": 0, "rectanglelabels": [names[box["category_id"]]]}
        size = {"original_width": width, "original_height": height, "image_rotation": 0}
        results.append({"id": str(len(results)), "type": "rectanglelabels", "value": value, **size})
    data = {"image": f"/data/upload/1/0123abcd-{path.name}"}
    tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"id": 1, "result": results}]})
    file.write_text(json.dumps(tasks))


WRITERS = {
    "voc_xml": _to_voc,
    "yolo_txt": _to_yolo,
    "labelme_json": _to_labelme,
    "cvat_xml": _to_cvat,
    "label_studio": _to_label_studio,
}


def plain_rows(rows: datasets.Dataset) -> list[dict]:
    """Rows as JSON, images as mode, size and a digest of their pixels."""
    plain = []
    for row in rows:
        image = row.pop("image")
        pixels = image and [image.mode, *image.size, hashlib.sha256(image.tobytes()).hexdigest()]
        plain.append({**row, "image": pixels})
    return plain
