"""The worker of the remote-code test: judges posts in a process that cannot import `stmine_hf`.

python remote_code.py REPORT.json FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from bare_process import draw, leave_own_package, own_modules, photograph, refusals

BOXES = [[5, 5, 40, 45], [10, 0, 60, 85]]


def posts() -> list[Any]:
    """With and without text, image and regions."""
    return [
        {"text": "假新闻 fake news!", "image": draw(60, 90), "boxes": BOXES},
        {"text": "看"},
        {"image": [draw(33, 90).convert("L"), draw(9, 9).convert("CMYK")]},
        "news " * 60,
    ]


def main(report: str, folder: str) -> None:
    leave_own_package()
    from transformers import pipeline

    judge = pipeline("fake-news-detection", model=folder, trust_remote_code=True)
    unnamed = pipeline(model=folder, trust_remote_code=True)
    lying, upright = photograph(".")
    post = {"text": "看", "boxes": BOXES}
    damaged = Path("damaged.jpg")
    damaged.write_bytes(Path(lying).read_bytes()[:700])
    bad = [
        {"txt": "a"},
        3,
        {"image": "nowhere.jpg"},
        {"image": __file__},
        {"image": str(damaged)},
        {"image": upright, "boxes": [[1, 2, 3]]},
    ]
    found = {
        "home": [type(judge).__module__.partition(".")[0], type(judge.model).__module__.partition(".")[0]],
        "classes": [type(judge).__name__, type(unnamed).__name__, type(judge.model).__name__],
        "alone": [judge(one) for one in posts()],
        "together": judge(posts(), batch_size=3),
        "unnamed": unnamed(posts()),
        "explained": judge(posts()[0], explain=True, steps=4),
        "photograph": [judge({**post, "image": path}, explain=True, steps=2) for path in (lying, upright)],
        "refusals": refusals(judge, bad),
        "own modules": own_modules(),
    }
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
