"""`stmine train`: what is wrong is one line before anything is trained; a run is planned, scored, kept and resumed."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel
from documents import check_command
from helpers import save_tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import save_tiny_sat
from PIL import Image
from trainers import TWO_PROCESSES, environment

from stmine_hf.cli import main
from stmine_hf.commands.train import _print_next, _shared_command, _words_again
from stmine_hf.errors import StmineError, placeholder_hint, require_own_id
from stmine_hf.evaluation.classification import known_label_names
from stmine_hf.methods import METHODS
from stmine_hf.training.own_set import Trained, in_words_of_command, plan_training

WORDS = "harbour bridge forest river field plane ship road beach desert lake storm market tower island valley".split()  # noqa: SIM905


def run(*words) -> int:
    """The exit code of `stmine train WORDS`."""
    try:
        main(["train", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0) if not isinstance(end.code, str) else 1
    return 0


def do(*words) -> None:
    """Run `stmine WORDS`, which has to succeed."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 0, words


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def image(path: Path, seed: int, size: int = 64) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path.name


def captions(folder: Path, count: int = 16) -> Path:
    rows = [
        [image(folder / f"{n}.png", n), f"a {WORDS[n % 16]} near the {WORDS[(n * 7 + 3) % 16]}"] for n in range(count)
    ]
    return table(folder / "mine.csv", ["file", "sentence"], rows)


def posts(folder: Path, count: int = 16, labels=("fake", "real")) -> Path:
    rows = [
        [f"{WORDS[n % 16]} {WORDS[(5 * n + 1) % 16]} {chr(97 + n) * 9} {n * 77}", labels[n % len(labels)]]
        for n in range(count)
    ]
    return table(folder / "mine.csv", ["content", "verdict"], rows)


def boxes(folder: Path, count: int = 16) -> Path:
    rows = [[image(folder / f"{n}.png", n), ("cat", "dog")[n % 2], 8, 8, 40, 44] for n in range(count)]
    return table(folder / "mine.csv", ["filename", "class", "xmin", "ymin", "xmax", "ymax"], rows)


def table(path: Path, header: list, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


MAKE = {"fisvl": captions, "mttv": posts, "sat": boxes}


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "nowhere.csv", "nowhere.csv: no such file or folder"),
        (lambda: table(Path("d/mine.csv"), ["content", "verdict"], []), "no row"),
        (lambda: posts(Path("d"), 3), "3 posts and no validation split: expected 4 rows at least"),
        (
            lambda: posts(Path("d"), labels=("fake",)),
            "expected posts of two labels at least, but all labelled posts are",
        ),
        (lambda: table(Path("d/mine.csv"), ["words", "verdict"], [["a", "b"]]), "has no column 'text'"),
    ],
)
def test_data_that_cannot_be_trained_on_is_one_line_and_code_2(capsys, make, message):
    assert run("mttv", "--data", make()) == 2
    assert message in error_line(capsys)
    assert not Path("outputs").exists()


def test_rows_none_of_which_can_be_read_are_one_line(capsys):
    file = captions(Path("d"))
    for path in Path("d").glob("*.png"):
        path.write_text("no image")
    assert run("fisvl", "--data", file) == 2
    assert "Nothing is left to load" in error_line(capsys)


def test_images_without_boxes_and_with_one_caption_are_one_line(capsys):
    Path("d").mkdir()
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    for n in range(6):
        coco["images"].append({"id": n, "file_name": image(Path(f"d/{n}.png"), n), "width": 64, "height": 64})
    Path("d/boxes.json").write_text(json.dumps(coco))
    assert run("sat", "--data", "d/boxes.json") == 2
    assert "none of the 6 images has a box" in error_line(capsys)
    rows = [[image(Path(f"e/{n}.png"), n), "a farm"] for n in range(6)]
    assert run("fisvl", "--data", table(Path("e/mine.csv"), ["file", "caption"], rows)) == 2
    assert "expected images with different captions" in error_line(capsys)


def yolo(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    image(folder / "images" / "1.png", 1)
    return folder


def test_images_that_are_in_train_and_val_are_warned_of(tmp_path):
    """As in many a data.yaml: both name the same folder."""
    folder = yolo(tmp_path / "y")
    (folder / "labels").mkdir()
    for number in (1, 2):
        image(folder / "images" / f"{number}.png", number)
        (folder / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    lines = plan_training("sat", str(folder), output=tmp_path / "out").lines
    assert any("Warning: 2 images both in the split train and in another" in line for line in lines)


def captioned_folder(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text('{"images": []}')
    return folder


@pytest.mark.parametrize(
    ("method", "make", "found", "command"),
    [
        ("fisvl", yolo, "holds images with boxes (the layout yolo_txt), and FISVL is trained on images with", "sat"),
        (
            "sat",
            captioned_folder,
            "holds images with captions (the layout rsicd), and SAT is trained on images",
            "fisvl",
        ),
        ("sat", captions, "holds images with captions (the columns 'file', 'sentence')", "fisvl"),
        ("fisvl", posts, "holds posts with labels (the columns 'content', 'verdict')", "mttv"),
        (
            "mttv",
            boxes,
            "holds images with boxes (the columns 'filename', 'xmin', 'ymin', 'xmax', 'ymax', 'class')",
            "sat",
        ),
    ],
)
def test_data_of_another_method_name_the_command_that_trains_on_them(capsys, method, make, found, command):
    data = make(Path("d"))
    assert run(method, "--data", data) == 2
    line = error_line(capsys)
    assert found in line and f"stmine train {command} --data {data}" in line


def test_a_training_that_did_not_help_says_what_to_try(capsys):
    results = {"start": {"eval_r_mean": 30.5}, "best": {"eval_r_mean": 29.25}}
    _print_next(Trained(METHODS["fisvl"], Path("out/best"), results, True, "r_mean"))
    said = capsys.readouterr().out
    assert "did not help: Mean recall on the held-out rows was 30.5 before and 29.25 after" in said
    assert "--full" in said and "--learning-rate" in said and "r_mean" not in said
    here = Trained(METHODS["fisvl"], Path("best"), {**results, "best": {"eval_r_mean": 31.0}}, True, "r_mean")
    _print_next(here)  # a run in the current folder
    assert f"hub/{Path.cwd().name}" in " ".join(capsys.readouterr().out.split())
    helped = Trained(METHODS["fisvl"], Path("out/best"), {**results, "best": {"eval_r_mean": 31.0}}, True, "r_mean")
    _print_next(helped)
    assert "did not help" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "metric", "start", "best", "reason"),
    [
        ("sat", "ap", {"eval_ap": 0.0}, {"eval_ap": 0.0}, "AP on the held-out rows is 0 after 0.5 epochs"),
        ("sat", "ap", {"eval_ap": 0.0}, {"eval_ap": 0.01}, None),
        ("sat", "ap", {"eval_ap": 0.2}, {"eval_ap": 0.0}, None),  # it was of use before: training did not help
        ("mttv", "macro_f1", {"eval_accuracy": 0.4}, {"eval_accuracy": 0.75}, "one label for all of them gives 0.75"),
        ("mttv", "macro_f1", {"eval_accuracy": 0.4}, {"eval_accuracy": 0.8}, None),
        ("mttv", "macro_f1", {"eval_accuracy": 0.8}, {"eval_accuracy": 0.7}, None),
        ("mttv", "macro_f1", {"eval_accuracy": 0.4}, {"eval_accuracy": 0.7, "eval_macro_f1": 0.6}, None),
        ("fisvl", "r_mean", {"eval_r_mean": 0.0}, {"eval_r_mean": 0.0}, "is 0 after 0.5 epochs"),
    ],
)
def test_a_training_that_taught_nothing_is_first_to_be_longer(method, metric, start, best, reason, capsys):
    by_class = [{"name": "real", "held_out": 3}, {"name": "fake", "held_out": 1}]
    start, best = ({f"eval_{metric}": 0.2, **scores} for scores in (start, best))
    results = {"start": start, "best": best, "by_class": by_class, "rows": {"train": 40, "val": 4}}
    results["training"] = {"epoch": 0.5}
    trained = Trained(METHODS[method], Path("outputs/mine/best"), results, False, metric, Path("my data.csv"))
    words = ["train", method, "--data", "my data.csv", "--column", "image=a b", "--max-steps", "2", "--full"]
    _print_next(trained, words)
    said = capsys.readouterr().out
    first, *others = next_commands(said)
    usual = METHODS[method].training.own_sets.for_size(40)["num_train_epochs"]
    longer = ["train", method, "--data", "my data.csv", "--column", "image=a b", "--full", "--epochs", str(usual)]
    longer += ["--output", "outputs/mine-longer"]
    assert (first == longer) is (reason is not None) and longer not in others
    assert ("learned nothing of use yet" in said) is (reason is not None) and (reason or "") in said
    if reason:
        assert "did not help:" not in said
        results["training"]["epoch"] = 4 * usual
        Path("outputs/mine-longer").mkdir(parents=True)
        results["command"] = f"stmine train {method} --data data.csv --epochs {4 * usual}"
        _print_next(trained, _words_again(trained))  # of a run that was resumed
        first, *_ = next_commands(capsys.readouterr().out)
        longer = ["train", method, "--data", "my data.csv", "--epochs", str(12 * usual)]
        assert first == [*longer, "--output", "outputs/mine-longer-2"]
        results["command"] += " --model elsewhere"
        assert _words_again(trained) is None


def next_commands(said: str) -> list[list[str]]:
    """The commands that were printed to go on with, checked by the parser of the command line; without `stmine`."""
    found = [shlex.split(line) for line in said.splitlines() if re.match(r"  \S*stmine ", line)]
    for words in found:
        check_command(shlex.join(["stmine", *words[1:]]))
        assert placeholder_hint(words) == ""
    return [words[1:] for words in found]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_next_is_a_command_that_runs_as_it_stands(method, capsys):
    results = {"start": {"eval_x": 1.0}, "best": {"eval_x": 2.0}}
    row = {"image": {"path": "my images/1.png", "bytes": None}, "text": "a  post\nof mine", "captions": ["a farm"]}
    image(Path("my images/1.png"), 1)
    examples = METHODS[method].training.examples(row, Path("outputs/my run/best"))
    trained = Trained(METHODS[method], Path("outputs/my run/best"), results, False, "x", Path("d/mine.csv"), examples)
    _print_next(trained)
    said = capsys.readouterr().out
    *used, export, build = next_commands(said)
    assert used == examples
    assert {
        "fisvl": [
            ["index", "my images", "--model", "outputs/my run/best", "--out", "my run.index"],
            ["search", "my run.index", "a farm"],
        ],
        "mttv": [
            ["classify", "--text", "a post of mine", "--image", "my images/1.png", "--model", "outputs/my run/best"]
        ],
        "sat": [["detect", "my images/1.png", "--model", "outputs/my run/best"]],
    }[method] == used
    assert export == ["export", method, "--model", "outputs/my run/best", "--out", "my run-onnx"]
    assert build[:5] == ["publish", "build", "outputs/my run", "--data-dir", "d/mine.csv"]
    assert build[5:] == ["--out", "hub/my run", "--license", "unknown"] and "jane-doe/my run" in said
    Path("hub/my run").mkdir(parents=True)
    without = {"image": None, "text": "", "captions": ["a farm"]}
    assert METHODS[method].training.examples(without, Path("best")) == []
    _print_next(Trained(METHODS[method], Path("outputs/my run/best"), results, False, "x"))
    said = capsys.readouterr().out
    _, build = next_commands(said)
    assert "--data-dir" not in build and "hub/my run-2" in build
    assert f"The model is used by stmine {METHODS[method].commands[0]}" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "sat", "--data", "DATA"], "DATA"),
        (["train", "fisvl", "--data", "ORG/POSTS", "--model", "MODEL"], "ORG/POSTS and MODEL"),
        (["detect", "IMAGES", "--model", "sat-coco-small"], "IMAGES"),
        (["index", "IMAGES", "--out", "my.index"], "IMAGES"),
        (["classify", "--text", "x", "--model", "ADAPTER"], "ADAPTER"),
        (["merge", "ADAPTER", "--out", "merged"], "ADAPTER"),
        (["publish", "build", "RUN", "--out", "hub"], "RUN"),
    ],
)
def test_a_placeholder_of_the_documents_is_named(words, named, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert re.search(
        f" {named} (is a placeholder|are placeholders): put the names? of your own in", error_line(capsys)
    )


@pytest.mark.parametrize("given", ["..", ".", "~", "~/posts.csv", "../posts.csv", "posts.csv"])
def test_the_command_on_the_card_names_no_folder_of_the_machine(given, tmp_path, monkeypatch):
    (tmp_path / "client" / "work").mkdir(parents=True)
    for folder in ("client", "client/work"):
        (tmp_path / folder / "posts.csv").write_text("a")
    monkeypatch.setenv("HOME", str(tmp_path / "client"))
    monkeypatch.chdir(tmp_path / "client" / "work")
    name = {"..": "client", ".": "work", "~": "client"}.get(given, "posts.csv")
    options = {"--data": given, "--option": ["image_dir=~/a=b/images"], "--model": "~/runs/best"}
    words = shlex.split(_shared_command("mttv", options, None))
    assert words[3:] == ["--data", name, "--option", "image_dir=images", "--model", "best"]


def test_the_command_on_the_card_has_the_values_that_were_given():
    label = "x" * 5000 + "=fake"
    options = {"--data": "org/posts.v2", "--label": [label], "--seed": 20261201, "--learning-rate": 1.23456789e-05}
    words = shlex.split(_shared_command("mttv", {**options, "--epochs": 5.0, "--option": ["split=a=b"]}, True))
    assert words[3:7] == ["--data", "org/posts.v2", "--label", label]
    assert words[7:] == [
        *("--seed", "20261201", "--learning-rate", "1.23456789e-05"),
        *("--epochs", "5", "--option", "split=a=b", "--lora"),
    ]


def test_a_model_may_have_the_name_of_a_placeholder():
    for repo in ("jane/MODEL", "jane/DATA", "jane-doe/my-model", None):
        require_own_id(repo)
    for repo in ("NAME/MODEL", "OWNER/mine", "MODEL"):
        with pytest.raises(StmineError, match="of yours"):
            require_own_id(repo)


def test_an_id_of_the_documents_is_refused(capsys):
    for words in (
        ["publish", "build", "sat-coco-small", "--out", "hub/mine", "--repo", "NAME/MODEL"],
        ["publish", "push", "hub/mine", "--repo", "OWNER/mine", "--dry-run"],
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert "of yours. Expected your name on the Hub and the repository's, such as jane-doe/my-model" in error_line(
            capsys
        )
    assert not Path("hub").exists()


def test_wrong_usage(capsys):
    assert run("yolo", "--data", "x") == 2 and run("sat") == 2
    assert run("sat", "--data", "x", "--epochs", "1", "--max-steps", "1") == 2
    assert run("sat", "--output", "x", "--resume", "--epochs", "3") == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_says_what_was_taken_for_what(method):
    plan = plan_training(method, str(MAKE[method](Path("d"))))
    text = " ".join(plan.lines)
    assert "image: file" in text or "text: content, label: verdict" in text
    assert f"{plan.rows} to train on, {16 - plan.rows} held out to measure on (no validation split" in text
    assert plan.output_dir == Path("outputs/mine-" + method) and plan.rows in (12, 13, 14)
    assert Path(plan.settings["model_name_or_path"]).name == METHODS[method].default_checkpoint


def test_labels_that_the_start_does_not_have_are_said(tmp_path):
    rows = [[f"words {n} " * n, ("谣言", "真实")[n % 2]] for n in range(1, 17)]
    path = str(table(tmp_path / "mine.csv", ["text", "标签"], rows))
    said = next(line for line in plan_training("mttv", path).lines if line.startswith("Labels: "))
    assert "真实, 谣言. Those of the start are fake, real" in said and "--label 真实=LABEL" in said
    meant = plan_training("mttv", path, options={"label_names": {"谣言": "fake", "真实": "real"}})
    assert not any(line.startswith("Labels: ") for line in meant.lines)
    assert meant.settings["dataset_options"] == {"label_names": {"谣言": "fake", "真实": "real"}}


def test_texts_in_a_script_that_the_start_does_not_know_are_noted():
    english = plan_training("mttv", str(posts(Path("d"))))
    assert any("texts are in another script" in line and "(CJK)" in line for line in english.lines)
    words = "鲨桥洪市漠星琴壶冰隧雪月河舞校飞"
    rows = [[f"{word * 9}请转发给所有家人", ("fake", "real")[n % 2]] for n, word in enumerate(words)]
    chinese = plan_training("mttv", str(table(Path("c/mine.csv"), ["text", "label"], rows)))
    assert not any("another script" in line for line in chinese.lines)
    things = "河海山林田路桥港湖城机场学校公园"
    rows = [[image(Path(f"e/{n}.png"), n), f"{thing}边有许多房屋和树木"] for n, thing in enumerate(things)]
    captioned = plan_training("fisvl", str(table(Path("e/mine.csv"), ["file", "caption"], rows)))
    assert any("another script" in line for line in captioned.lines)


def test_images_may_lie_elsewhere():
    file = captions(Path("d"))
    Path("d").rename("images-of-mine")
    Path("images-of-mine/mine.csv").rename(file.name)
    plan = plan_training("fisvl", file.name, options={"image_dir": "images-of-mine"})
    assert plan.rows > 8 and plan.settings["dataset_options"] == {"image_dir": "images-of-mine"}


def test_a_folder_with_a_run_is_not_overwritten(capsys):
    (Path("runs") / "best").mkdir(parents=True)
    (Path("runs") / "run.json").write_text("{}")
    assert run("mttv", "--data", posts(Path("d")), "--output", "runs") == 2
    assert "runs holds a run (best), which is not overwritten. Continue it with --resume" in error_line(capsys)


def test_an_adapter_is_no_start():
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text("{}")
    with pytest.raises(StmineError, match=r"is an adapter. Make a whole model of it first: stmine merge adapter"):
        plan_training("mttv", str(posts(Path("d"))), model="adapter")


def test_messages_of_a_run_name_the_options_of_the_command():
    said = in_words_of_command("Resume with --resume_from_checkpoint auto or choose another --output_dir.")
    assert said == "Resume with --resume or choose another --output."
    loss = "Lower learning_rate (now 0.1) or max_grad_norm (now 35), and resume with --resume_from_checkpoint auto."
    assert in_words_of_command(loss) == "Lower --learning-rate (now 0.1), and resume with --resume."
    ended = (
        "To continue training, raise num_train_epochs or max_steps; to start a new run, choose another --output_dir."
    )
    assert "num_train" not in in_words_of_command(ended) and "another --output." in in_words_of_command(ended)
    assert in_words_of_command("Start from: --model_name_or_path a_model_name") == "Start from: --model a_model_name"


@pytest.mark.parametrize("column", ["my words", "it's"])
def test_options_in_messages_are_those_of_the_command_and_can_be_copied(column, capsys):
    Path("odd.csv").write_text(f"{column},other\n" + "\n".join(f"text {n},{n % 2}" for n in range(8)))
    assert run("mttv", "--data", "odd.csv", "--column", "text=wordz", "--column", "label=other") == 2
    said = error_line(capsys)
    option = said.partition("Say which it is: ")[2].partition(" (column_mapping")[0]
    if column == "my words":  # the nearest one
        assert shlex.split(option) == ["--column", "text=my words"]
    assert "--column_mapping" not in said
    assert run("mttv", "--data", "odd.csv", "--column", "words=other") == 2
    assert "--column" in error_line(capsys)
    with pytest.raises(StmineError) as error:
        known_label_names(SimpleNamespace(features={"label": ClassLabel(names=[column])}), ["fake", "real"])
    assert f"--label {shlex.quote(f'{column}=LABEL')}" in str(error.value)


def save_tiny(method: str, folder: Path) -> Path:
    if method == "mttv":
        for part in tiny_mttv():
            part.save_pretrained(folder)
        return folder
    return {"fisvl": save_tiny_fisvl, "sat": save_tiny_sat}[method](folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_scored_before_and_after_and_shows_what_is_next(method, capsys):
    model = save_tiny(method, Path("tiny"))
    data = MAKE[method](Path("d"), 20)
    start = [method, "--data", data, "--model", model, "--batch-size", 4]
    assert run(*start, "--max-steps", 4, "--lora", "--output", "out") == 0
    said = capsys.readouterr().out
    results = json.loads(Path("out/results.json").read_text())
    assert results["start"]["step"] == 0 and results["best"]["step"] > 0
    classes = {"fisvl": [], "mttv": ["fake", "real"], "sat": ["cat", "dog"]}[method]
    assert sorted(row["name"] for row in results.get("by_class", [])) == classes
    assert all(row["train"] + row["held_out"] == 10 and row["before"].keys() for row in results.get("by_class", []))
    assert ("By class, on validation" in said) == bool(classes)
    assert "by_class" not in results["start"] and "by_class" not in results["best"]
    for words in (
        "before training",
        "a LoRA adapter, 4 steps",
        "Scores on validation",
    ):
        assert words in said, said
    assert Path("out/curves.png").is_file() and Path("out/best/adapter_config.json").is_file()
    if method == "mttv" or "worst misses" in said:
        assert Path("out/best/worst_misses.png").is_file()
    command = f"stmine train {method} --data mine.csv --model tiny --max-steps 4 --batch-size 4 --lora"
    assert results["command"] == command and command in Path("out/best/README.md").read_text()
    assert results["rows"]["train"] + results["rows"]["val"] == 20
    commands, done = next_commands(said), []
    if "learned nothing of use yet" in said:
        assert commands.pop(0)[:2] == ["train", method]
    assert len(commands) == (4 if method == "fisvl" else 3)
    while commands:
        done.append(commands.pop(0))
        do(*done[-1])
        commands += next_commands(capsys.readouterr().out)
    assert done[-1][:2] == ["publish", "check"] and Path("hub/out/README.md").is_file()
    do("merge", "out/best", "--out", "merged")
    (build,) = next_commands(capsys.readouterr().out)
    do(*build, "--repo", "jane/merged")
    (check,) = next_commands(capsys.readouterr().out)
    do(*check)
    (push,) = next_commands(capsys.readouterr().out)
    assert push == ["publish", "push", "hub/merged", "--repo", "jane/merged", "--private", "--dry-run"]
    do(*push, "--no-check")
    assert "Warning" not in capsys.readouterr().err
    do(*push[:4], "john/merged", "--dry-run", "--no-check")
    assert "Warning: the code on the card loads jane/merged, not john/merged" in capsys.readouterr().err
    assert run(*start, "--output", "out") == 2
    capsys.readouterr()
    assert run(method, "--output", "out", "--resume") == 0
    assert "is finished: step 4 of 4" in capsys.readouterr().out
    assert run(*start, "--max-steps", 2, "--full", "--output", "whole") == 0
    assert Path("whole/best/model.safetensors").is_file() and "merge" not in capsys.readouterr().out


@pytest.mark.slow
def test_labels_of_ones_own_give_a_new_classifier(capsys):
    model = save_tiny("mttv", Path("tiny"))
    data = posts(Path("d"), 24, labels=("ad", "news", "spam"))
    assert run("mttv", "--data", data, "--model", model, "--max-steps", 2, "--output", "out", "--full") == 0
    config = json.loads(Path("out/best/config.json").read_text())
    assert sorted(config["label2id"]) == ["ad", "news", "spam"]


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    model, data = save_tiny("sat", tmp_path / "tiny"), boxes(tmp_path / "d")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)]
    command += ["-m", "stmine_hf.cli", "train", "sat", "--data", str(data), "--model", str(model), "--output", "out"]
    options = {"env": environment(), "capture_output": True, "text": True, "cwd": tmp_path, "timeout": 900}
    done = subprocess.run([*command, "--max-steps", "2", "--batch-size", "2"], **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Start: ") == 1 and "in batches of 4" in done.stdout
    assert (tmp_path / "out" / "best" / "adapter_config.json").is_file()
    again = subprocess.run(command, **options)
    assert again.returncode != 0
    assert again.stderr.splitlines()[-1].startswith("error: out holds a run"), again.stderr[-2000:]
