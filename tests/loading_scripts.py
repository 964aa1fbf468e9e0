"""Run by the Python of an older `datasets`: load data sets by their scripts and write down the rows.

python loading_scripts.py SCRIPTS SOURCES.json ROWS.json
"""

import hashlib
import json
import sys

import datasets


def told(rows: datasets.Dataset) -> list[dict]:
    """Rows as JSON, images as mode, size and a digest of their pixels."""
    plain = []
    for row in rows:
        image = row.pop("image")
        pixels = image and [image.mode, *image.size, hashlib.sha256(image.tobytes()).hexdigest()]
        plain.append({**row, "image": pixels})
    return plain


if __name__ == "__main__":
    scripts, sources, out = sys.argv[1:]
    with open(sources, encoding="utf-8") as file:
        wanted = json.load(file)
    found = {"datasets": datasets.__version__}
    for name, options in wanted.items():
        splits = datasets.load_dataset(f"{scripts}/{name}.py", trust_remote_code=True, **options)
        found[name] = {split: told(rows) for split, rows in splits.items()}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)
