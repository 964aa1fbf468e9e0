"""The command line: exit codes, one-line errors, JSON that stands alone, and each command on a tiny model."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from helpers import save_tiny_fisvl
from PIL import Image

from stmine_hf import load_dataset
from stmine_hf.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_fisvl(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert run("toy", folder, "--count", 12) == 0
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory, model, scenes) -> Path:
    folder = tmp_path_factory.mktemp("data") / "index"
    assert run("index", scenes, "--model", model, "--out", folder) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "line", "query"),
    [
        ("bridge_7.png", "Next:", "a bridge over a river"),
        ("IMG_7.png", "Next, with a sentence of your own in place of this example:", "a road between trees"),
    ],
)
def test_the_first_query_is_for_the_images_or_said_to_be_an_example(name, line, query, model, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / name)
    assert run("index", tmp_path / "images", "--model", model, "--out", tmp_path / "an index") == 0
    *_, before, command = capsys.readouterr().out.splitlines()
    assert before == line and shlex.split(command)[1:] == ["search", str(tmp_path / "an index"), query]


def run(*words) -> int:
    """The exit code of `stmine WORDS`."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def document(capsys):
    """What was printed, which must be one JSON document and nothing else."""
    return json.loads(capsys.readouterr().out)


def assert_one_line_error(capsys, *parts: str) -> None:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
    for part in parts:
        assert part in printed.err


def test_wrong_usage_exits_with_2(capsys):
    for words in (
        ["nosuch"],
        ["index"],
        ["search", "x"],
        ["index", "x", "--out", "y", "--batch-size", "0"],
        ["evaluate"],
    ):
        assert run(*words) == 2, words
    assert "Usage" in capsys.readouterr().err


def test_version(capsys):
    assert run("version", "--json") == 0
    assert {"stmine-hf", "python", "torch", "transformers"} <= set(document(capsys))


def test_toy_writes_the_same_captioned_scenes_for_a_seed(capsys, tmp_path, scenes):
    assert run("toy", tmp_path / "again", "--count", 12, "--json") == 0
    assert document(capsys)["count"] == 12
    rows = json.loads((scenes / "dataset.json").read_text(encoding="utf-8"))["images"]
    assert len(rows) == 12 and all(row["sentences"][0]["raw"] for row in rows)
    files = [path for path in scenes.rglob("*") if path.is_file() and not path.name.startswith(".")]
    images = sorted(path.relative_to(scenes) for path in files)
    assert len(images) == 13
    assert all((scenes / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in images)


def test_toy_replaces_no_file_of_others(tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "posts.jsonl").write_text("mine")
    assert run("toy", tmp_path / "toy", "--kind", "posts", "--count", 12) == 1
    assert (tmp_path / "toy" / "posts.jsonl").read_text() == "mine" and "posts.jsonl" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    (tmp_path / "toy" / "posts.jsonl").unlink()
    for _ in range(2):  # its own files are replaced
        assert run("toy", tmp_path / "toy", "--kind", "posts", "--count", 12) == 0


@pytest.mark.parametrize(("kind", "dataset"), [("posts", "posts"), ("camouflage", "coco_json")])
def test_toy_writes_what_the_other_methods_read(kind, dataset, tmp_path):
    assert run("toy", tmp_path / "toy", "--kind", kind, "--count", 12) == 0
    rows = load_dataset(dataset, data_dir=tmp_path / "toy", cache_dir=tmp_path / "cache")
    assert sum(map(len, rows.values())) == 12
    assert rows["train"][0]["image"].size


def test_toy_refuses_other_kinds_and_counts(capsys, tmp_path):
    assert run("toy", tmp_path / "toy", "--kind", "poems") == 2
    assert "scenes, posts, camouflage" in capsys.readouterr().err
    assert run("toy", tmp_path / "toy", "--kind", "posts", "--count", 10) == 1
    assert_one_line_error(capsys, "posts come in fours", "found 10")


def test_index_reports_what_it_did_and_lists_bad_files(capsys, tmp_path, model, scenes):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for source in sorted(scenes.rglob("*"))[-3:]:
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    words = ["index", folder, "--model", model, "--out", tmp_path / "index"]

    assert run(*words, "--json") == 0
    first = document(capsys)
    assert first["added"] == first["images"] == len(list(folder.iterdir())) - 1
    assert [Path(row["path"]).name for row in first["skipped"]] == ["broken.jpg"] and first["skipped"][0]["reason"]

    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert f"(0 added, 0 changed, {first['added']} unchanged, 0 removed, 1 skipped)" in printed
    assert "broken.jpg" in printed and "stmine search" in printed


def test_search_by_sentence_writes_sheet_and_page(capsys, tmp_path, index):
    assert run("search", index, "many planes [near] a terminal", "--k", 5, "--out", tmp_path / "hits") == 0
    printed = capsys.readouterr().out
    assert "many planes [near] a terminal" in printed and printed.count(".png") + printed.count(".jpg") >= 5
    assert (tmp_path / "hits" / "hits.png").read_bytes().startswith(b"\x89PNG")
    page = tmp_path / "hits" / "hits.html"
    assert "many planes [near] a terminal" in page.read_text(encoding="utf-8")
    page.write_text("edited")
    before = (tmp_path / "hits" / "hits.png").read_bytes()
    assert run("search", index, "a forest", "--k", 5, "--out", tmp_path / "hits") == 1
    assert (tmp_path / "hits" / "hits.png").read_bytes() == before  # else two answers would lie side by side


def test_search_says_that_images_are_gone(capsys, tmp_path, index, scenes):
    moved = scenes.rename(scenes.with_name("moved"))
    try:
        assert run("search", index, "many planes", "--k", 5, "--out", tmp_path / "hits") == 0
    finally:
        moved.rename(scenes)
    assert "5 of these images are gone. Bring the index up to date: " in capsys.readouterr().out
    assert run("search", index, "many planes", "--k", 5, "--out", tmp_path / "hits") == 0
    assert "gone" not in capsys.readouterr().out


def test_search_by_image_finds_the_image_itself(capsys, index, scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = sorted(path for path in scenes.rglob("*") if path.suffix in {".png", ".jpg"})[0]
    assert run("search", index, image, "--k", 3, "--json") == 0
    found = document(capsys)
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert Path(found["hits"][0]["path"]).name == image.name and found["hits"][0]["score"] > 0.999
    assert list(tmp_path.iterdir()) == []  # --json without --out writes nothing


def test_a_very_long_sentence_is_a_sentence(capsys, index):
    assert run("search", index, "plane " * 10_000, "--k", 1, "--json") == 0
    assert len(document(capsys)["hits"]) == 1


def test_evaluate_prints_saves_and_speaks_json(capsys, tmp_path, model, scenes):
    words = ["evaluate", "fisvl", "--model", model, "--dataset", "rsicd", "--data-dir", scenes, "--split", "train"]
    assert run(*words, "--limit", 6, "--out", tmp_path / "results") == 0
    printed = capsys.readouterr().out
    assert "6 images, 30 captions" in printed and "same text" in printed
    assert {path.name for path in (tmp_path / "results").iterdir()} >= {"results.json", "recall_curve.png"}
    assert run(*words, "--json") == 0
    scored = document(capsys)
    assert scored["split"] == "train" and scored["images"] > 6
    assert {"r_mean", "same_text_r_mean"} <= set(scored["metrics"])


def test_convert_hands_over_what_it_was_given(capsys, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "stmine_hf.conversion.fisvl.convert_checkpoint", lambda *args, **options: given.update(options, args=args)
    )
    for name in ("best.pth", "vocab.txt"):
        (tmp_path / name).write_bytes(b"x")
    words = ["convert", "fisvl", tmp_path / "best.pth", tmp_path / "out", "--vocab", tmp_path / "vocab.txt", "--json"]
    assert run(*words) == 0
    assert given == {"args": (tmp_path / "best.pth", tmp_path / "out"), "vocab": tmp_path / "vocab.txt"}
    assert document(capsys)["out"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["index", "{tmp}/nosuch", "--model", "{model}", "--out", "{tmp}/i"], ["nosuch"]),
        (["index", "{scenes}", "--model", "{tmp}/nosuch", "--out", "{tmp}/i"], ["nosuch"]),
        (["search", "{tmp}/nosuch", "many planes"], ["nosuch"]),
        (["evaluate", "fisvl", "--model", "{model}", "--dataset", "coco"], ["coco", "rsicd"]),
        (
            ["evaluate", "fisvl", "--model", "{model}", "--dataset", "rsicd", "--data-dir", "{tmp}"],
            ["dataset_rsicd.json"],
        ),
        (["convert", "fisvl", "{scenes}/dataset.json", "{tmp}/o"], ["dataset.json"]),
        (["search", "{tmp}", "many planes", "--out", "{scenes}/dataset.json"], ["dataset.json", "found a file"]),
        (
            ["evaluate", "fisvl", "--dataset", "toy_scenes", "--out", "{scenes}/dataset.json"],
            ["dataset.json", "found a file"],
        ),
        (["toy", "{scenes}/dataset.json"], ["dataset.json", "found a file"]),
    ],
    ids=lambda value: "-".join(value[:2]) if value[0] in {"index", "search", "evaluate", "convert", "toy"} else "",
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_what_the_user_can_mend_is_one_line(capsys, tmp_path, model, scenes, words, parts, as_json):
    words = [word.format(tmp=tmp_path, model=model, scenes=scenes) for word in words]
    assert run(*words, *(["--json"] if as_json else [])) == 1
    assert_one_line_error(capsys, *parts)


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path):
    for words in (["--debug", "search", tmp_path / "nosuch", "x"], ["search", tmp_path / "nosuch", "x", "--debug"]):
        with pytest.raises(Exception, match="nosuch"):
            main([str(word) for word in words])


def test_an_unexpected_failure_names_its_type(capsys, monkeypatch):
    monkeypatch.setattr("stmine_hf.commands.version.version", lambda package: [][0])
    assert run("version") == 1
    assert_one_line_error(capsys, "IndexError", "--debug")


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "stmine_hf.cli", "nosuch"], capture_output=True, text=True)
    assert done.returncode == 2 and "nosuch" in done.stderr


def test_an_interrupted_run_says_how_it_goes_on(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    (tmp_path / "images").mkdir()
    monkeypatch.setattr("stmine_hf.search.index.ImageIndex.build", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["index", str(tmp_path / "images"), "--out", str(tmp_path / "index")])
    assert end.value.code == 130 and "Run the same command again to resume it." in capsys.readouterr().err


def test_the_version_by_itself(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"stmine-hf {version('stmine-hf')}\n"


def test_completion_for_shells_is_offered():
    from stmine_hf.cli import app

    assert any(option.name == "install_completion" for option in typer.main.get_command(app).params)


def test_bars_of_libraries_are_off_where_the_hub_client_was_first(tmp_path):
    """What writes cards imports it; transformers shows a bar for weights unless it is told before."""
    code = (
        "import sys; import stmine_hf.hub.build, huggingface_hub.utils; assert 'transformers' not in sys.modules\n"
        "from stmine_hf.commands.terminal import hush_libraries; hush_libraries()\n"
        "from transformers.utils import logging; assert not logging.is_progress_bar_enabled()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
