"""Every code block of the READMEs, the guides and the cards in hub_cards/ runs, offline, in a reader's folder.

The ids that they name open from a Hub cache laid by hand; images, posts and data sets are drawn. The commands that
nobody can run here are in `UNTRIED`, with the reason; these are at least parsed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_folders import DRAWN, NAMES, source
from data_table import GUIDE, render
from documents import ROOT, check_command, python_blocks, shown
from hub_cache import lay_into_cache
from videos import write_video

from stmine_hf.cards.street_drawing import draw_street
from stmine_hf.data.toy.toy_posts import write_posts
from stmine_hf.data.toy.toy_scenes import draw_scene, write_scenes

CARDS = sorted(path.relative_to(ROOT) for path in (ROOT / "hub_cards").rglob("README.md"))
GUIDES = sorted(path.relative_to(ROOT) for path in (ROOT / "examples" / "guides").glob("*.md"))
DOCUMENTS = [Path("README.md"), *GUIDES, *CARDS]
TIMEOUT = 1800  # seconds for all blocks of a document; a machine with nothing else to do takes a minute or two

# What is parsed but not run, and why. Commands of scripts are parsed by the scripts themselves.
UNTRIED = {
    r"^pip install": "asks a package index",
    r"^hf download": "asks the Hub; the folder is there already",
    r"^make ": "makes an environment from a package index",
    r" -m pytest ": "is a part of these tests",
    r"^stmine detect camera": "needs a camera",
    r"^stmine serve": "serves until it is stopped; tests of the service start one",
    r" --server ": "needs a running service; tests of the client have one",
    r"examples/compare_databases\.py": "measures for minutes, and needs two databases",
    r" --ray 10\.0\.0\.1": "needs a cluster; tests of it start one on this machine",
    r" --ray local": "starts a cluster; tests of it do so",
    r"lancedb://s3://": "needs object storage",
    r"^stmine convert": "needs the authors' checkpoint; tests of the conversion write such files",
    r"^stmine merge": "needs an adapter from hours of training; tests of adapters train small ones",
    r"^stmine (publish|data) push": "needs the Hub; tests of the push have one on this machine",
    r"^stmine train (fisvl|mttv|sat --data my_)": "trains for minutes; tests of the command train tiny models",
    r"--data-dir data/aircraft": "needs satellite scenes that may not be passed on",
    r"^stmine train .* --resume": "goes on in another process; tests of training do so",
    r"^accelerate launch": "trains for minutes to hours; tests of the scripts run them on tiny models",
    r"examples/distill_sat\.py": "trains for hours; its tests run a few steps",
    r"examples/build_\w+_lite\.py": "needs packages with weights, from a package index",
    r"examples/(benchmark_sat|benchmarks/engines)\.py": "measures for minutes",
    r"examples/benchmarks/index_size\.py": "measures for hours; a test runs it on small sizes",
}


def untried(command: str) -> str | None:
    return next((reason for pattern, reason in UNTRIED.items() if re.search(pattern, command)), None)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """HF_HOME of a reader who has downloaded the models."""
    folder = tmp_path_factory.mktemp("home")
    for weights in (ROOT / "hub_cards").glob("*/model.safetensors"):
        lay_into_cache(folder, f"stmine-hf/{weights.parent.name}", weights.parent)
    lay_into_cache(folder, "my-name/my-detector", ROOT / "hub_cards" / "sat-coco-small")
    return folder


def fill_reader_folder(folder: Path) -> None:
    """What the documents take for granted: a checkout, some images, posts and a video, data sets, results."""
    for name in ("hub_cards", "examples"):
        (folder / name).symlink_to(ROOT / name)
    write_scenes(folder / "my_images", count=6, size=192)
    draw_scene("bridge", 3)[0].save(folder / "my_images" / "bridge_3.jpg")
    for name in ("image.jpg", "photo.jpg", "pictures/street.jpg", "more/street.jpg", "my_scenes/scene.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        draw_street().save(folder / name)
    write_video(folder / "street.mp4", [draw_street().resize((320, 240))] * 3)
    write_posts(folder, count=4)
    for name in NAMES:
        if name not in DRAWN:
            source(name, folder / "data" / name)
    for name in ("coco", "coco_small"):
        source("coco_json", folder / "data" / name)
    for file in (folder / "data").glob("*/annotations/*.json"):  # classes that the shipped detectors know
        content = json.loads(file.read_text(encoding="utf-8"))
        for category, name in zip(content["categories"], ("person", "camouflaged_object"), strict=False):
            category["name"] = name
        file.write_text(json.dumps(content), encoding="utf-8")
    (folder / "boxes.csv").write_text("file,xmin,ymin,xmax,ymax,name\npictures/street.jpg,9,9,90,90,person\n")
    images = sorted(file.name for file in (folder / "my_images").glob("*.jpg"))
    captions = [f"my_images/{name},a {name.partition('_')[0]} beside a road\n" for name in images]
    (folder / "captions.csv").write_text("image,sentence\n" + "".join(captions), encoding="utf-8")
    for name, header, labels in (
        ("posts.csv", "text,label", ("fake", "real")), ("weibo.csv", "正文,标签", ("谣言", "真实"))
    ):  # fmt: skip
        texts = [f"{'鲨桥洪市漠星琴壶冰隧雪月'[n] * 9}请转发给所有家人,{labels[n % 2]}\n" for n in range(12)]
        (folder / name).write_text(f"{header}\n{''.join(texts)}", encoding="utf-8")
    shutil.copytree(folder / "data" / "coco", folder / "my_boxes")
    for run, data, model in (
        ("my_boxes-sat", "my_boxes", "sat-coco-small"),
        ("posts-mttv", "posts.csv", "mttv-lite-weibo"),
    ):
        shutil.copytree(ROOT / "hub_cards" / model, folder / "outputs" / run / "best")
        settings = f"dataset: {folder.resolve() / data}\n"
        (folder / "outputs" / run / "config.yaml").write_text(settings, encoding="utf-8")
    for name in ("fisvl-lite-rsicd", "mttv-lite-weibo", "sat-coco-small", "sat-aircraft"):  # by `hf download`
        (folder / name).symlink_to(ROOT / "hub_cards" / name)
    (folder / "my_model").symlink_to(ROOT / "hub_cards" / "mttv-lite-weibo")
    for converted, stand_in in (
        ("fisvl-rsicd", "fisvl-lite-rsicd"), ("mttv-weibo", "mttv-lite-weibo"), ("nanodet-m-coco", "sat-coco-small")
    ):  # fmt: skip
        (folder / converted).symlink_to(ROOT / "hub_cards" / stand_in)
    (folder / "stmine-hf").mkdir()
    for metric in (ROOT / "hub_cards" / "metrics").iterdir():  # evaluate keeps no cache that could be laid by hand
        (folder / "stmine-hf" / metric.name).symlink_to(metric)
    best = folder / "outputs" / "my-run" / "best"
    best.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(ROOT / "hub_cards" / "sat-coco-small" / name, best)
    (best.parent / "config.yaml").write_text("dataset: coco_json\ndata_dir: data/coco\n", encoding="utf-8")


def step(language: str, text: str) -> tuple[str, str] | None:
    """How `reader.py` runs a block; None for one that is not run at all."""
    if language != "bash":
        return ("python", text) if language == "python" and not untried(text) else None
    script = "examples/" in text and ".py" in text
    if untried(text):
        return ("options", text) if script else None
    return ("script" if script else "stmine"), text


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_block_runs(document, home, tmp_path):
    steps = [
        made for language, text in shown(document) if language in ("python", "bash") if (made := step(language, text))
    ]
    if not steps:
        pytest.skip("shows nothing to run")
    fill_reader_folder(tmp_path)
    (tmp_path / "steps.json").write_text(json.dumps(steps), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "reader.py", "steps.json"],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_blocks_are_of_known_languages_and_commands_parse(document):
    for language, text in shown(document):
        assert language in ("python", "bash", "text", "bibtex", "yaml"), language
        if language == "python":
            compile(text, str(document), "exec")
        elif language == "bash":
            assert text.startswith("stmine ") or "examples/" in text or untried(text), (
                f"neither run nor excused: {text}"
            )
            for part in text.split(" && "):
                check_command(part)


def test_excuses_are_needed():
    lines = [text for document in DOCUMENTS for language, text in shown(document) if language in ("bash", "python")]
    for pattern in UNTRIED:
        assert any(re.search(pattern, line) for line in lines), f"no document shows {pattern}"


def test_python_of_both_readmes_is_the_same():
    english, chinese = (
        [ast.dump(ast.parse(block)) for block in python_blocks(name)] for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese


def test_the_guide_lists_the_data_sets_of_the_registry():
    table = GUIDE.read_text(encoding="utf-8").split("<!-- data sets -->\n")[1].split("\n<!-- end of data sets -->")[0]
    assert table == render(), "python -m tests.data_table brings it up to date"
