"""`stmine data`: the list, what is in a set, exports that load again with the same rows, and uploads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import datasets
import pytest
import yaml
from data_folders import NAMES, plain_rows, source
from PIL import Image

from stmine_hf import load_dataset
from stmine_hf.cards.files import files_in
from stmine_hf.cli import main
from stmine_hf.data import BUILDERS, KINDS, kind_of
from stmine_hf.data.description import describe
from stmine_hf.hub.dataset_repository import export
from stmine_hf.outputs import Outputs

# Runs `stmine data` commands, then loads what they have sent.
CLIENT = """
import json, sys
from stmine_hf import load_dataset
from stmine_hf.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(["data", *words])
    except SystemExit as end:
        assert not end.code, end.code
rows = load_dataset("stmine-hf/camouflage", kind="boxes", split="val")
print("ROWS", len(rows), rows[0]["image"].size)
"""


def run(*words) -> int:
    """The exit code of `stmine data WORDS`."""
    try:
        main(["data", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_every_builder_is_listed(capsys):
    assert sorted(name for names in KINDS.values() for name in names) == sorted(BUILDERS)
    assert run("list", "--json") == 0
    found = {entry["name"]: entry for entry in document(capsys)["datasets"]}
    assert list(found) == list(BUILDERS)
    for entry in found.values():
        assert entry["about"] and entry["terms"] and entry["kind"] in KINDS
    assert found["weibo"]["source"].startswith("https://") and "labels" in found["posts"]["options"]
    assert run("list") == 0
    assert "toy_camouflage" in capsys.readouterr().out


def test_a_table_of_ones_own_is_described(capsys, tmp_path):
    (tmp_path / "mine.csv").write_text("words,says\none,real\ntwo,fake\n")
    words = ["describe", tmp_path / "mine.csv", "--kind", "posts", "--column", "text=words"]
    assert run(*words, "--column", "label=says", "--json", "--samples", 1) == 0
    found = document(capsys)
    assert found["splits"] == {"train": {"rows": 2, "image_bytes": 0}}
    assert found["columns"]["label"] == "class (2): fake, real" and found["columns"]["image"] == "image"
    (row,) = found["samples"]
    assert row["text"] == "one" and row["label"] == 1
    assert run(*words) == 1
    assert "no column 'label' (label), but words, says" in " ".join(capsys.readouterr().err.split())


def test_of_many_findings_a_few_and_their_number_are_shown(capsys, tmp_path):
    (tmp_path / "images" / "elsewhere").mkdir(parents=True)
    rows = ["image,caption"]
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / "elsewhere" / f"{number}.png")
        rows.append(f"D:/mine/{number}.png,sentence {number}")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert run("describe", tmp_path / "mine.csv") == 0
    said = capsys.readouterr().out
    assert "noted: 12 x image found in another folder than its name says" in said
    assert said.count("elsewhere/") == 5 and "... and 7 more (`stmine data describe --findings FILE`" in said


def test_sizes_are_those_of_the_files(capsys, tmp_path):
    options = source("rsicd", tmp_path / "rsicd")
    assert run("describe", "rsicd", "--data-dir", options["data_dir"]) == 0
    said = capsys.readouterr().out
    assert "caption_weights" in said and "32 x 32" in said and "no license is stated" in said
    splits = load_dataset("rsicd", cache_dir=tmp_path / "cache", **options)
    found = describe("rsicd", splits, "captions")
    files = [path.stat().st_size for path in (tmp_path / "rsicd").rglob("*.*") if path.suffix in (".jpg", ".png")]
    assert sum(numbers["image_bytes"] for numbers in found.splits.values()) == sum(files)


def reloads(name, tmp_path, **options):
    """Whether an export of the set loads through `datasets` alone, with the same features and rows."""
    splits = load_dataset(name, cache_dir=tmp_path / "cache", **options)
    out = tmp_path / f"{name}-parquet"
    folders = [options["data_dir"]] if "data_dir" in options else []
    exported = export(
        name, splits, kind_of(name), out, folders=folders, license="cc0-1.0", shard_bytes=4000, progress=False
    )
    assert {*files_in(out)} == {*exported.files, "README.md"}
    again = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "again"))
    assert list(again) == list(splits)
    for split, rows in splits.items():
        assert list(again[split].features) == list(rows.features)
        assert plain_rows(again[split]) == plain_rows(rows), split
        assert again[split].features.arrow_schema.remove_metadata() == rows.features.arrow_schema.remove_metadata()
    header = yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert {info["name"]: info["num_examples"] for info in header["dataset_info"]["splits"]} == {
        split: len(rows) for split, rows in splits.items()
    }
    return exported, header


def test_an_export_of_files_loads_again(tmp_path, monkeypatch):
    monkeypatch.setattr("stmine_hf.hub.dataset_repository.ROW_GROUP", 5)
    exported, header = reloads("posts", tmp_path, **source("posts", tmp_path / "posts"))
    assert header["license"] == "cc0-1.0" and header["size_categories"] == "n<1K"
    assert len([file for file in exported.files if "train" in file]) > 1  # several shards
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "| `label` | class (2)" in card and str(tmp_path) not in card


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_builder_exports(tmp_path, name):
    options = source(name, tmp_path / name)
    reloads(name, tmp_path, **options)
    splits = load_dataset(name, cache_dir=tmp_path / "cache", **options)
    mine = load_dataset(str(tmp_path / f"{name}-parquet"), kind=kind_of(name), cache_dir=tmp_path / "again")
    for split, rows in splits.items():  # as a data set of one's own it needs no mapping
        assert mine[split].features.keys() == rows.features.keys() and len(mine[split]) == len(rows)


def test_export_and_push(hub, capsys, tmp_path):
    out = tmp_path / "camouflage"
    words = ["export", "toy_camouflage", "--option", "count=6", "--option", "size=64", "--out", out]
    assert run(*words, "--json") == 0
    assert document(capsys)["rows"] == {"train": 4, "val": 1, "test": 1}
    assert run("push", out, "--repo", "stmine-hf/camouflage", "--dry-run") == 1
    assert "states no license" in " ".join(capsys.readouterr().err.split())
    assert run(*words, "--license", "cc0-1.0") == 0  # takes the place of the first
    assert "data push" in capsys.readouterr().out
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    assert run(*words[:-1], tmp_path / "notes") == 1
    assert "mine.txt exists and is not listed as written by stmine" in " ".join(capsys.readouterr().err.split())

    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    push = ["push", str(out), "--repo", "stmine-hf/camouflage", "--json"]
    words = [sys.executable, "-c", CLIENT, json.dumps([[*push, "--dry-run"], push])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"state": "new"') == 8
    size = load_dataset(str(out), kind="boxes", split="val", cache_dir=tmp_path / "cache")[0]["image"].size
    assert done.stdout.splitlines()[-1] == f"ROWS 1 {size}"
    sent = hub.files("stmine-hf/camouflage", kind="dataset")
    assert sent == {name: (out / name).read_bytes() for name in files_in(out)}


def write_table(folder, *images):
    """A table of captions that names images by the given words."""
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), "green").save(folder / "own.png")
    lines = [
        json.dumps({"image": str(image), "captions": [f"a sentence {number}"]}) for number, image in enumerate(images)
    ]
    (folder / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "mine.jsonl"


@pytest.mark.parametrize("way", ["absolute", "up", "link"])
def test_an_export_leaves_out_no_borders_images_of_other_folders(way, tmp_path, capsys):
    """Somebody else's table could name any image of this machine; what is exported is ready to be published."""
    secret = tmp_path / "private" / "secret.png"
    secret.parent.mkdir()
    Image.new("RGB", (9, 9), "red").save(secret)
    names = {"absolute": secret, "up": "../private/secret.png", "link": "link.png"}
    table = write_table(tmp_path / "data", "own.png", names[way])
    if way == "link":
        (tmp_path / "data" / "link.png").symlink_to(secret)
    words = ["export", table, "--kind", "captions", "--out", tmp_path / "out"]
    assert run(*words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert ("1 images lie outside of" in said and "secret.png" in said) or "link.png" in said
    assert not (tmp_path / "out").exists()
    assert run(*words, "--allow-outside", "--json") == 0
    assert document(capsys)["rows"] == {"train": 2}


def test_an_export_again_replaces_its_own_files_and_no_others(tmp_path, capsys):
    table = write_table(tmp_path / "data", "own.png")
    out = tmp_path / "out"
    words = ["export", table, "--kind", "captions", "--out", out]
    assert run(*words) == 0
    (out / ".stmine-building" / "out" / "data").mkdir(parents=True)  # of a run that was killed
    (out / ".stmine-building" / "out" / "data" / ".train-00000.parquet").write_bytes(b"half")
    assert run(*words) == 0
    assert not (out / ".stmine-building").exists() and len([*out.glob("data/*.parquet")]) == 1
    mine = out / "data" / "mine.parquet"
    mine.write_bytes(b"mine")
    assert run(*words) == 1 and mine.read_bytes() == b"mine"
    mine.unlink()
    (out / "README.md").write_text("My own words.")
    assert run(*words) == 1 and (out / "README.md").read_text() == "My own words."
    with Outputs(tmp_path / "other"):
        assert run(*words[:-1], tmp_path / "other") == 1
    assert "another run is writing" in " ".join(capsys.readouterr().err.split())


def test_a_folder_with_a_readme_and_data_of_ones_own_is_no_earlier_export(tmp_path):
    out = tmp_path / "project"
    (out / "data").mkdir(parents=True)
    for name in ("README.md", "data/train-00000-of-00001.parquet", "data/years.parquet"):
        (out / name).write_text("mine")
    assert run("export", write_table(tmp_path / "data", "own.png"), "--kind", "captions", "--out", out) == 1
    assert {path.read_text() for path in out.rglob("*") if path.is_file() and path.name[0] != "."} == {"mine"}


def test_rows_are_shown_short():
    from stmine_hf.commands.data import _short

    assert _short({"bbox": [[1.23456789012345, 2.0, 3.5, 4.0]] * 5, "area": [0.1] * 2}) == (
        "{bbox: [[1.23457, 2, 3.5, 4], [1.23457, 2, 3.5, 4], [1.23457, 2, 3.5, 4], 2 more], area: [0.1, 0.1]}"
    )


@pytest.mark.parametrize(
    ("header", "row", "kind"), [("text,label", "hello,fake", "posts"), ("image,caption", "a.png,a river", "captions")]
)
def test_the_kind_of_rows_follows_from_the_columns(header, row, kind, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text(f"{header}\n{row}\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert run("describe", tmp_path / "mine.csv", "--json") == 0
    assert document(capsys)["kind"] == kind
    assert run("describe", tmp_path / "mine.csv") == 0
    assert f"Read as {kind}" in capsys.readouterr().out


def test_columns_that_say_nothing_need_a_kind(tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    assert run("describe", tmp_path / "mine.csv") == 1
    assert "--kind captions, posts or boxes" in " ".join(capsys.readouterr().err.split())


def describe_json(capsys, *words) -> dict:
    assert run("describe", *words, "--json") == 0
    return document(capsys)


def write_png(path, color: str, size: tuple[int, int] = (40, 30)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path.name


def test_posts_are_counted_and_stumbles_are_said(capsys, tmp_path):
    write_png(tmp_path / "images" / "a.png", "red", (40, 30))
    write_png(tmp_path / "images" / "b.png", "red", (40, 30))  # the same bytes
    write_png(tmp_path / "images" / "c.png", "blue", (100, 50))
    lines = [
        "编号,正文,图片,标签",
        "1,有毒,a.png,谣言",
        "2,有毒,b.png,真实",
        "3,好,c.png,真实",
        "4,无,c.png,",
        "5,,c.png,真实",
    ]
    (tmp_path / "posts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = describe_json(capsys, tmp_path / "posts.csv")
    assert found["counts"]["train"] == {
        "images": 5, "sizes": [[40, 30], [100, 50], [100, 50]], "labels": {"真实": 3, "谣言": 1}, "unlabelled": 1,
        "without_text": 1,
    }  # fmt: skip
    assert found["warnings"][:3] == [
        "Labels with fewer than 10 posts to learn from: 真实 (3), 谣言 (1).",
        "Images that are copies of another one, byte by byte: 1 (train: b.png = train: a.png).",
        "1 texts occur with different labels.",
    ]
    assert "has the labels fake, real, not 真实, 谣言" in found["warnings"][3]
    assert run("describe", tmp_path / "posts.csv") == 0
    said = capsys.readouterr().out
    assert "text: 正文, image: 图片, label: 标签, id: 编号" in said and "Terms" not in said
    assert "train: labels 真实 (3), 谣言 (1); 1 without a label; 1 without a text" in said
    assert "label: -1" not in said and "label: 谣言" in said and "40 x 30" in said


def test_captions_and_boxes_are_counted(capsys, tmp_path):
    for name, color in (("a.png", "red"), ("b.png", "blue")):
        write_png(tmp_path / name, color)
    (tmp_path / "c.csv").write_text("file,caption\na.png,one\na.png,two\nb.png,three\n")
    (tmp_path / "b.csv").write_text("file,class,x1,y1,x2,y2\na.png,deer,1,1,9,9\na.png,person,2,2,9,9\nb.png,,,,,\n")
    counts = describe_json(capsys, tmp_path / "c.csv")["counts"]["train"]
    assert (counts["sentences"], counts["sentences_per_image"]) == (3, [1, 1.5, 2]) and "labels" not in counts
    assert run("describe", tmp_path / "c.csv") == 0
    said = capsys.readouterr().out
    assert "train: 3 sentences (1 to 2, 1.5 in the mean an image)" in said and "caption_weights:" not in said
    found = describe_json(capsys, tmp_path / "b.csv")
    assert found["counts"]["train"]["boxes"] == {"deer": 1, "person": 1}
    assert found["counts"]["train"]["images_without_boxes"] == 1
    assert found["warnings"] == ["Classes with fewer than 10 boxes to learn from: deer (1), person (1)."]
    (tmp_path / "b.csv").write_text("file,class,x1,y1,x2,y2\n" + "a.png,stag,1,1,9,9\n" * 10)
    assert describe_json(capsys, tmp_path / "b.csv")["warnings"] == [
        "The shipped model (sat-coco-small) does not know stag: train it on them first."
    ]
