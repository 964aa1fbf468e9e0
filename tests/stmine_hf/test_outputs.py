"""Results of a run: nothing of the user's is replaced, removed or mixed with."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.files import write_problem
from stmine_hf.outputs import MARKER, OutputError, Outputs, require_apart, write_output, write_pretrained


def text(content: str):
    return lambda path: path.write_text(content)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_own_files_are_replaced_and_removed(tmp_path):
    for content in ("one", "two"):
        with Outputs(tmp_path / "out") as outputs:
            outputs.require_free("a/b.txt")
            outputs.write("a/b.txt", text(content))
    assert (tmp_path / "out" / "a" / "b.txt").read_text() == "two"
    with Outputs(tmp_path / "out") as outputs:
        assert outputs.written() == ["a/b.txt"] and outputs.wrote("a/b.txt")
        outputs.remove("a/b.txt")
        outputs.remove("a/b.txt")
        assert outputs.written() == []
    assert visible(tmp_path / "out" / "a") == set()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "changed", "other case of ours"])
def test_a_users_file_stays(tmp_path, kind):
    out = tmp_path / "out"
    out.mkdir()
    target, elsewhere = out / "x.json", tmp_path / "precious"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    elif kind == "link":
        elsewhere.write_text("mine")
        target.symlink_to(elsewhere)
    elif kind == "dangling link":
        target.symlink_to(elsewhere)
    else:
        with Outputs(out) as outputs:
            outputs.write("x.json", text("ours"))
        target.write_text("edited by hand")
    before = (target.lstat().st_mtime_ns, target.is_dir() or not target.exists() or target.read_text())
    with Outputs(out) as outputs:
        for action in (
            lambda: outputs.require_free("x.json"),
            lambda: outputs.write("x.json", text("new")),
            lambda: outputs.remove("x.json"),
            lambda: outputs.open_growing("x.json"),
        ):
            with pytest.raises(OutputError, match=r"x\.json exists and (is not listed|was changed)"):
                action()
    assert before == (target.lstat().st_mtime_ns, target.is_dir() or not target.exists() or target.read_text())
    assert not elsewhere.exists() or elsewhere.read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "."])
def test_names_stay_below_the_folder(tmp_path, name):
    with Outputs(tmp_path / "out") as outputs, pytest.raises(OutputError, match="expected the name of a file"):
        outputs.write(name, text("new"))
    assert visible(tmp_path) == {"out"}


def test_a_link_does_not_lead_out(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    with Outputs(tmp_path / "out") as outputs, pytest.raises(OutputError, match="leads out of"):
        outputs.write("images/a.jpg", text("new"))
    assert visible(tmp_path / "elsewhere") == set()


@pytest.mark.parametrize(
    ("output", "source", "found"),
    [
        ("data", "data", "is the input itself"),
        ("data/a.jpg", "data/a.jpg", "is the input itself"),
        ("data/out", "data", "lies in"),
        ("data/deep/er/out", "data", "lies in"),
        ("data/./x/../out", "data", "lies in"),
        (".", "data", "contains"),
        ("data", "data/a.jpg", "contains"),
        ("link", "data", "is the input itself"),
        ("link/out", "data", "lies in"),
        ("data/out", "link", "lies in"),
        ("hard.jpg", "data/a.jpg", "is the input itself"),
    ],
)
def test_outputs_apart_from_inputs(tmp_path, monkeypatch, output, source, found):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    os.link(tmp_path / "data" / "a.jpg", tmp_path / "hard.jpg")
    monkeypatch.chdir(tmp_path)
    for spelled in (output, tmp_path / output):
        with pytest.raises(OutputError, match=found):
            require_apart(spelled, [source])
    require_apart("out", ["data", "data/a.jpg", "nowhere"])
    require_apart("data/b.jpg", ["data/a.jpg"])
    require_apart("database", ["data"])
    require_apart("data/index", ["data"], inside=True)
    with pytest.raises(OutputError):
        require_apart("data", ["data"], inside=True)


@pytest.mark.parametrize("command", ["detect", "detect into the images", "features", "train", "train by a link"])
def test_a_folder_that_is_read_is_no_output(tmp_path, monkeypatch, capsys, command):
    """Results would lie among the files of a model, or be read as images of the data at the next time."""
    from stmine_hf.cli import main
    from stmine_hf.training.run import _prepare_folder
    from stmine_hf.training.sat.arguments import SatDataArguments, SatTrainingArguments

    monkeypatch.chdir(tmp_path)
    for name in ("model", "images"):
        Path(name).mkdir()
    Path("link").symlink_to("images")
    Image.new("RGB", (8, 8)).save("images/a.png")
    Path("posts.jsonl").write_text('{"id": 1, "text": "a", "image": "images/a.png"}\n')
    if command.startswith("train"):
        data = SatDataArguments(dataset="images" if command == "train" else "link", data_dir=None)
        start, _ = _prepare_folder((None, data, SatTrainingArguments(output_dir="images")), None, False, None)
        said = str(start)
    else:
        words = {
            "detect": ["detect", "images", "--model", "model", "--out", "./model"],
            "detect into the images": ["detect", "link", "--out", "images"],
            "features": ["features", "mttv", "--file", "posts.jsonl", "--model", "model", "--out", "model/"],
        }[command]
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr().err
    assert "is the input itself: choose a place outside of it" in said
    assert os.listdir("model") == [] and os.listdir("images") == ["a.png"]


PLACES = {  # output of a training on ./images: what the message says
    "images": "is the input itself",
    "link": "is the input itself",
    "images/deep/run": "lies in the input",
    "link/run": "lies in the input",
    "elsewhere/../images/run": "lies in the input",
    ".": "contains the input",
    "whole": "contains the input",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("door", ["command", "script", "launched", "folder of images"])
def test_a_training_keeps_out_of_its_data(tmp_path, monkeypatch, capsys, door, place):
    """`stmine train` before it reads a row; the scripts, also under a launcher, before they write a file."""
    from stmine_hf.cli import main
    from stmine_hf.training import SatDataArguments, SatModelArguments, SatTrainingArguments, start_run

    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "elsewhere").mkdir()
    monkeypatch.chdir(mine)
    Path("link").symlink_to("images")
    Path("whole").symlink_to(mine)
    Image.new("RGB", (8, 8)).save("images/a.png")
    before = sorted(os.walk(mine))
    if door == "command":
        with pytest.raises(SystemExit):
            main(["train", "sat", "--data", "images", "--output", place])
        said = capsys.readouterr().err
    else:
        if door == "launched":
            monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        options = {"dataset": "coco_json", "dataset_options": '{"image_dir": "images"}'}
        data = options if door == "folder of images" else {"dataset": "coco_json", "data_dir": "../mine/images"}
        given = {**data, "output_dir": place, "toy_model": "true"}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        with pytest.raises(OutputError) as refused:
            start_run(SatModelArguments, SatDataArguments, SatTrainingArguments, argv=[*words, "--use_cpu", "true"])
        said = str(refused.value)
    assert PLACES[place] in said and "choose a place outside of it" in said
    assert sorted(os.walk(mine)) == before


def test_a_training_keeps_out_of_the_images_of_a_table(tmp_path, monkeypatch, capsys):
    from stmine_hf.cli import main

    monkeypatch.chdir(tmp_path)
    Path("photos/small").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(f"photos/small/{number}.png")
    Path("lists").mkdir()
    lines = [f"../photos/small/{number}.png,a {number} house" for number in range(8)]
    Path("lists/mine.csv").write_text("\n".join(["file,sentence", *lines]))
    for place, words in (("photos", "contains the input"), ("photos/small", "is the input itself")):
        with pytest.raises(SystemExit):
            main(["train", "fisvl", "--data", "lists/mine.csv", "--output", place])
        assert words in capsys.readouterr().err
    assert sorted(os.listdir("photos")) == ["small"] and len(os.listdir("photos/small")) == 8


def test_a_training_does_not_remove_the_model_that_it_starts_from(tmp_path):
    from stmine_hf.training import SatDataArguments, SatModelArguments, SatTrainingArguments, start_run

    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    (best / "config.json").write_text("{}")
    words = ["--output_dir", tmp_path / "run", "--overwrite_output_dir", "true", "--use_cpu", "true"]
    words += ["--model_name_or_path", best]
    with pytest.raises(OutputError, match="contains the input"):
        start_run(SatModelArguments, SatDataArguments, SatTrainingArguments, argv=[*map(str, words)])
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["best", "config.json"]


class Part:
    def __init__(self, **files: str):
        self.files = files

    def save_pretrained(self, folder) -> None:
        for name, content in self.files.items():
            (Path(folder) / "deep").mkdir(parents=True, exist_ok=True)
            (Path(folder) / "deep" / name).write_text(content)


def test_a_saved_model_replaces_no_file_of_yours(tmp_path):
    out = tmp_path / "out"
    for content in ("one", "two"):
        write_pretrained(out, [Part(config=content), Part(processor=content)])
        assert {name: (out / "deep" / name).read_text() for name in ("config", "processor")} == {
            "config": content,
            "processor": content,
        }
    (out / "deep" / "config").write_text("mine")
    with pytest.raises(OutputError, match="changed since: it is not replaced"):
        write_pretrained(out, [Part(config="three", processor="three")])
    assert (out / "deep" / "config").read_text() == "mine" and (out / "deep" / "processor").read_text() == "two"
    assert visible(out) == {"deep"} and not (out / ".stmine-saving").exists()
    (tmp_path / "weights.pth").write_text("mine")
    with pytest.raises(OutputError, match="contains the input"):
        write_pretrained(tmp_path, [Part(config="one")], inputs=[tmp_path / "weights.pth"])


def test_one_file_named_by_a_person(tmp_path):
    page = tmp_path / "hits.html"
    for content in ("one", "two"):
        assert write_output(page, text(content)) == page
    assert page.read_text() == "two"
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError, match="is not listed as written by stmine"):
        write_output(tmp_path / "mine.html", text("new"))
    with pytest.raises(OutputError, match="is the input itself"):
        write_output(page, text("new"), inputs=[page])
    assert visible(tmp_path) == {"hits.html", "mine.html"}
    assert {path.name for path in tmp_path.iterdir()} - visible(tmp_path) == {MARKER}


def test_long_names_and_any_bytes(tmp_path):
    names = ["a" * 251 + ".jpg", "\u98de" * 83 + ".png", os.fsdecode(b"\xff\xfe.jpg")]
    for _ in range(2):
        with Outputs(tmp_path / "out") as outputs:
            for name in names:
                outputs.write(name, text(name.encode("utf-8", "replace").decode()))
            assert all(map(outputs.wrote, names))
    write_output(tmp_path / names[0], text("x"))


@pytest.mark.parametrize("name", [MARKER, ".lock"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_a_list_or_lock_that_is_no_file_is_refused(tmp_path, name, kind):
    out, mine = tmp_path / "out", tmp_path / "mine.txt"
    out.mkdir()
    if kind == "link":
        mine.write_text("mine")
    if kind == "folder":
        (out / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(out / name)
    else:
        (out / name).symlink_to(mine)
    with pytest.raises(StmineError, match="found something else: remove it"), Outputs(out) as outputs:
        outputs.write("a.txt", text("new"))
    assert mine.read_text() == "mine" if kind == "link" else not mine.exists()


def test_one_writer(tmp_path):
    with Outputs(tmp_path / "out"):
        with pytest.raises(StmineError, match="another run is writing"), Outputs(tmp_path / "out"):
            pass
        write_output(tmp_path / "other.txt", text("x"))
    with Outputs(tmp_path, file="a.txt"):
        with pytest.raises(StmineError, match=r"another run is writing .*a\.txt"):
            write_output(tmp_path / "a.txt", text("x"))
        write_output(tmp_path / "b.txt", text("x"))
    write_output(tmp_path / "a.txt", text("x"))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    with Outputs(out) as outputs:
        outputs.write("a.txt", text("one"))

        def fails(path: Path) -> None:
            path.write_text("half")
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            outputs.write("a.txt", fails)
        assert outputs.wrote("a.txt")
    assert (out / "a.txt").read_text() == "one" and {p.name for p in out.iterdir()} == {"a.txt", MARKER, ".lock"}


def test_a_growing_file_is_ours_until_it_is_settled(tmp_path):
    out = tmp_path / "out"
    for line in (b"one\n", b"two\n"):
        with Outputs(out) as outputs, outputs.open_growing("rows.jsonl") as file:
            file.write(line)
    with Outputs(out) as outputs:
        outputs.settle("rows.jsonl")
    with Outputs(out) as outputs:
        outputs.require_free("rows.jsonl")
    (out / "rows.jsonl").write_text("edited by hand")
    with Outputs(out) as outputs, pytest.raises(OutputError, match="changed since"):
        outputs.open_growing("rows.jsonl")


def test_files_of_an_earlier_version_are_adopted(tmp_path):
    (tmp_path / "index.json").write_text("{}")
    with Outputs(tmp_path) as outputs:
        assert not outputs.has_marker
        outputs.adopt(["index.json", "gone"])
        outputs.write("index.json", text("[]"))


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xff\n", b'{"file": "a.txt", "sha256": "0"}\n', b'{"file": "a', b"[]\n1\nnull\n"]
)
def test_a_damaged_list_makes_files_foreign(tmp_path, damage):
    with Outputs(tmp_path) as outputs:
        outputs.write("a.txt", text("one"))
    (tmp_path / MARKER).write_bytes(damage)
    with Outputs(tmp_path) as outputs:
        with pytest.raises(OutputError):
            outputs.write("a.txt", text("two"))
        outputs.write("b.txt", text("two"))
    with Outputs(tmp_path) as outputs:
        assert outputs.wrote("b.txt")


def test_the_list_does_not_grow_without_end(tmp_path):
    for number in range(200):
        with Outputs(tmp_path) as outputs:
            outputs.write("a.txt", text(str(number)))
    assert len((tmp_path / MARKER).read_bytes().splitlines()) < 100
    with Outputs(tmp_path) as outputs:
        assert outputs.wrote("a.txt")


KILLED = """
import os, signal, sys
from pathlib import Path
from stmine_hf.outputs import Outputs
with Outputs(sys.argv[1]) as outputs:
    for number in range(10**6):
        def write(path):
            path.write_text(f"{number}" * 2000)
            print(number, flush=True)
        outputs.write(f"{number % 7}.txt", write)
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_run_leaves_nothing_unaccounted_for(tmp_path, seed):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(3 + 17 * seed):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Outputs(out) as outputs:
        names = {path.name for path in out.iterdir()} - {MARKER, ".lock"}
        assert names <= {f"{number}.txt" for number in range(7)}, "what was half written is removed"
        for name in names:
            outputs.write(name, text("new"))


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(errno.ENOSPC, "x", "out/a.json"),
            "cannot write out/a.json: No space left on device. Free some space",
        ),
        (OSError(errno.EROFS, "x"), "cannot write a file: Read-only file system. Choose a folder"),
        (RuntimeError("Error while serializing: I/O error: No space (os error 28)"), "No space left on device. Free"),
        (OSError("[Errno 27] Error writing bytes to file"), "File too large. Free some space"),
        (OSError(errno.ENOENT, "x"), None),
        (ValueError("error 28"), None),
    ],
)
def test_a_full_disk_is_known_whoever_notices_it(error, said):
    found = write_problem(error)
    assert found is None if said is None else said in found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems store names in UTF-8 alone")
@pytest.mark.parametrize("command", ["index", "merge", "export", "build", "train"])
def test_an_output_that_could_not_be_read_again_is_refused_before_any_work(tmp_path, command):
    """Some libraries take paths as text: they failed after the work, or wrote what nothing opens."""
    out = tmp_path / os.fsdecode(b"out\xff")
    with pytest.raises(StmineError, match="not valid UTF-8"):
        if command == "index":
            from helpers import tiny_fisvl

            from stmine_hf import ImageIndex

            Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
            ImageIndex.build(tmp_path, out, model=tiny_fisvl())
        elif command == "merge":
            from search_indexes import write_index

            from stmine_hf.search.merge import merge_indexes

            for name in "ab":
                write_index(tmp_path / name, np.eye(2, 4, dtype=np.float32))
            merge_indexes([tmp_path / "a", tmp_path / "b"], out)
        elif command == "export":
            from helpers_sat import tiny_sat

            from stmine_hf.export.sat import export_sat

            export_sat(*tiny_sat(), out, format="onnx")
        elif command == "build":
            from stmine_hf.hub.build import build

            build("sat", out)
        else:
            from stmine_hf.training.run import _prepare_folder
            from stmine_hf.training.sat.arguments import SatTrainingArguments

            start, _ = _prepare_folder((None, None, SatTrainingArguments(output_dir=str(out))), None, False, None)
            if isinstance(start, StmineError):
                raise start
    assert not out.exists()
