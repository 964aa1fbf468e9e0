"""`stmine classify`: one post with its reasons, files of posts, and every mistake in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from odd_posts import ODD_TEXTS, bad_images, noise, odd_images
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.inference.scope import Scope
from stmine_hf.posts.results import require_continued


def run(*words) -> int:
    """The exit code of `stmine classify WORDS`."""
    try:
        main(["classify", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def document(capsys):
    return json.loads(capsys.readouterr().out)


def error_line(capsys) -> str:
    printed = capsys.readouterr()
    assert printed.out == "" or (printed.out.startswith("Columns: ") and printed.out.count("\n") == 1)
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed
    return printed.err


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_mttv(tmp_path_factory.mktemp("model") / "tiny", seed=1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return save_tiny_sat(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("image") / "a.png"
    noise(60, 80).save(file)
    return file


def test_one_post(capsys, model, image):
    assert run("--text", "fake news 假!", "--image", image, "--model", model) == 0
    printed = capsys.readouterr().out
    assert printed.split()[0] in ("fake", "real") and "%" in printed and printed.count("\n") == 1
    assert run("--text", "fake news 假!", "--image", image, "--model", model, "--json") == 0
    found = document(capsys)
    assert found["label"] == printed.split()[0] and sum(found["scores"].values()) == pytest.approx(1)
    assert f"{found['score']:.1%}" in printed and "words" not in found
    for words in (["--text", "假"], ["--image", image], ["--image", image, "--image", image, "--text", "a"]):
        assert run(*words, "--model", model, "--json") == 0
        assert document(capsys)["score"] >= 0.5


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_one_post_with_its_reasons(capsys, tmp_path, model, image, detector, suffix):
    out = tmp_path / "new" / f"why.{suffix}"
    words = ["--text", "fake <news> 假", "--image", image, "--model", model, "--detector", detector, "--explain", out]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert "news" in printed and "parts of the image" in printed and "not proof" in printed and "Results:" in printed
    if suffix == "png":
        with Image.open(out) as drawn:
            assert drawn.width == 480 and drawn.height > 60  # the image, and a caption below it
    else:
        page = out.read_text(encoding="utf-8")
        assert "data:image/png" in page and "<news>" not in page and "假" in page
    assert run(*words, "--json") == 0
    found = document(capsys)
    assert [word["word"] for word in found["words"]] == ["fake", "<", "news", ">", "假"]
    assert found["explanation"] == str(out) and len(found["regions"]) <= 3


def test_reasons_of_a_text_alone(capsys, tmp_path, model):
    assert run("--text", "fake news", "--model", model, "--explain", tmp_path / "why.html") == 0
    assert "<img" not in (tmp_path / "why.html").read_text()


def test_a_text_unlike_the_training_is_warned_of(capsys, tmp_path, model):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    Scope("CJK", 0.77, 5, needs_text=True).save(folder)
    page = tmp_path / "why.html"
    assert run("--text", "Forward this before it is deleted!", "--model", folder, "--explain", page) == 0
    printed = capsys.readouterr()
    assert "Warning: 0% of the letters are Chinese" in printed.err and "Chinese" in page.read_text()
    assert run("--text", "Forward this before it is deleted!", "--model", folder, "--json") == 0
    assert "Chinese" in document(capsys)["warning"]
    assert run("--text", "港口上空出现红色圆形", "--model", folder, "--json") == 0
    assert "warning" not in document(capsys)
    posts = tmp_path / "posts.jsonl"
    texts = ("港口上空出现红色圆形", "Forward this!", "Срочно перешлите")
    posts.write_text("".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts)))
    for suffix in ("jsonl", "csv"):
        assert run("--file", posts, "--out", tmp_path / f"out.{suffix}", "--model", folder) == 0
        assert "Warning: 2 posts differ from the training data" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert ["warning" in row for row in rows] == [False, True, True]
    assert (tmp_path / "out.csv").read_text().count("of the letters are Chinese") == 2
    posts.write_text('{"text": "Forward this!", "warning": "mine"}\n')
    assert run("--file", posts, "--out", tmp_path / "own.csv", "--model", folder) == 0
    assert "1 posts differ from the training data: see the `predicted_warning` column" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, text in ODD_TEXTS.items() if text.strip()])
def test_odd_texts(capsys, model, name):
    assert run("--text", ODD_TEXTS[name], "--model", model) == 0
    printed = capsys.readouterr().out
    assert ("do not count" in printed) == (name == "very long")


def test_a_text_of_broken_bytes(capsys, model):
    assert run("--text", os.fsdecode(b"fake \xff news"), "--model", model, "--json") == 0
    assert document(capsys)["characters"] == 11


def test_odd_images(capsys, tmp_path, model):
    for name, content in odd_images().items():
        (tmp_path / name).write_bytes(content)
        why = tmp_path / f"{name}.html"
        assert run("--image", tmp_path / name, "--model", model, "--explain", why, "--json") == 0
        assert document(capsys)["score"] >= 0.5 and why.exists()


def test_bad_images_are_told(capsys, tmp_path, model):
    for name, content in bad_images().items():
        (tmp_path / name).write_bytes(content)
        assert run("--text", "a", "--image", tmp_path / name, "--model", model) == 1
        assert f"{name}: " in error_line(capsys)
    assert run("--image", tmp_path / "gone.png", "--model", model) == 1
    assert "gone.png: no such file" in error_line(capsys)


def test_nothing_to_judge_is_told(capsys, model):
    assert run("--text", " \n", "--model", model) == 1
    assert "the text is empty, and there is no image" in error_line(capsys)


def test_a_model_of_texts_refuses_images(capsys, tmp_path, image):
    blind = save_tiny_mttv(tmp_path / "blind", vision_config=None)
    assert run("--text", "fake", "--model", blind) == 0
    capsys.readouterr()
    assert run("--text", "fake", "--image", image, "--model", blind) == 1
    assert "classifies text alone: omit --image" in error_line(capsys)


def test_wrong_usage(capsys, tmp_path, model):
    for words, message in (
        ([], "expected --text, --image or both"),
        (["--file", "a.jsonl"], "--file and --out go together"),
        (["--text", "a", "--out", "b"], "--file and --out go together"),
        (["--file", "a.jsonl", "--out", "b", "--text", "a"], "these are for one post"),
        (["--text", "a", "--explain", "why.txt"], "writes .html or .png"),
        (["--text", "a", "--explain", "why.png"], "ends in .html"),
    ):
        assert run(*words, "--model", model) == 2
        assert message.split()[0] in " ".join(capsys.readouterr().err.split())


def test_models_that_are_none_are_told(capsys, tmp_path, model, detector):
    assert run("--text", "a", "--model", tmp_path) == 1
    assert "no model found" in error_line(capsys)
    assert run("--text", "a", "--model", detector) == 1
    assert "MTTV model, found one of type 'sat'" in error_line(capsys)
    assert run("--text", "a", "--model", model, "--detector", model) == 1
    assert "no detector found" in error_line(capsys)
    narrow = save_tiny_mttv(tmp_path / "narrow", num_region_tokens=0)
    assert run("--text", "a", "--model", narrow, "--detector", detector) == 1
    assert "takes no regions" in error_line(capsys)


def write_posts(folder: Path, count: int = 10) -> Path:
    """Posts of which each other one has an image; the third is broken, and so is the image of the fifth."""
    lines = []
    for number in range(count):
        post = {"id": f"p{number}", "text": "fake news " * (number + 1), "image": None}
        if number % 2 == 0:
            noise(20 + number, 30).save(folder / f"{number}.png")
            post["image"] = f"{number}.png"
        lines.append(json.dumps(post))
    (folder / "4.png").write_bytes(b"no image")
    lines[2] = lines[2][:20]
    file = folder / "posts.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_file_of_posts(capsys, tmp_path, model, detector):
    file, out = write_posts(tmp_path), tmp_path / "out" / "verdicts.jsonl"
    words = ["--file", file, "--out", out, "--model", model, "--batch-size", 3]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert "8 posts classified (0 already done, 2 skipped)" in printed and "skipped line 3: not JSON" in printed
    assert "skipped line 5 (p4): 4.png: not an image" in printed and "Written:" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["p0", "p1", "p3", "p5", "p6", "p7", "p8", "p9"]
    assert rows[0]["model"].startswith("tiny@")

    noise(24, 30).save(tmp_path / "4.png")
    (tmp_path / "stopped.csv.journal.jsonl").touch()  # before its first batch
    require_continued(tmp_path / "stopped.csv", "another")

    assert run(*words, "--json") == 0
    found = document(capsys)
    assert (found["judged"], found["done_before"], found["skipped"]) == (1, 8, 1)
    assert found["first_skipped"][0]["line"] == 3 and sum(found["verdicts"].values()) == 9
    assert run("--text", "fake news", "--model", model, "--json") == 0
    assert document(capsys)["score"] > 0

    assert run("--file", file, "--out", out, "--model", model, "--detector", detector) == 1
    assert "holds predictions of tiny@" in error_line(capsys)
    assert run("--file", file, "--out", tmp_path / "regions.jsonl", "--model", model, "--detector", detector) == 0


def test_one_post_and_a_file_agree(capsys, tmp_path, model):
    file, out = write_posts(tmp_path), tmp_path / "verdicts.jsonl"
    assert run("--file", file, "--out", out, "--model", model, "--json") == 0
    capsys.readouterr()
    row = json.loads(out.read_text().splitlines()[4])  # p6, with an image
    assert run("--text", "fake news " * 7, "--image", tmp_path / "6.png", "--model", model, "--json") == 0
    assert document(capsys)["scores"] == pytest.approx(row["scores"], abs=2e-6)


def test_files_that_are_none_are_told(capsys, tmp_path, model):
    for name, content, message in (
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "not one post can be classified (it is empty)"),
        ("table.csv", b"a;b\n1;2\n", "names the columns text, image and id"),
        ("words.jsonl", b"hello\nworld\n", "2 rows skipped; line 1: not JSON at column 1"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert run("--file", tmp_path / name, "--out", tmp_path / "out.jsonl", "--model", model) == 1
        assert message in error_line(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.slow
def test_a_command_that_is_killed_is_gone_on_with(capsys, tmp_path, model):
    lines = [json.dumps({"id": number, "text": "fake news " * (number % 30)}) for number in range(1, 1500)]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal.jsonl"
    words = ["--file", tmp_path / "posts.jsonl", "--out", out, "--model", model, "--batch-size", 2]
    command = [sys.executable, "-m", "stmine_hf.cli", "classify", *map(str, words)]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = journal.stat().st_size if journal.exists() else 0
        deadline = time.monotonic() + 600
        while not (journal.exists() and journal.stat().st_size > before + 8_000) and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = journal.read_bytes().count(b"\n")
    assert 50 < done < 1450
    assert run(*words[:-2], "--json") == 0
    found = document(capsys)
    assert found["done_before"] in (done, done - 1) and found["judged"] + found["done_before"] == 1499 - 49
    assert [json.loads(line)["line"] for line in out.read_text().splitlines()] == sorted(
        number for number in range(1, 1500) if number % 30
    )


def test_the_model_of_a_moved_folder_is_the_same(capsys, tmp_path, model):
    file, out = write_posts(tmp_path), tmp_path / "verdicts.jsonl"
    assert run("--file", file, "--out", out, "--model", model) == 0
    shutil.copytree(model, tmp_path / "elsewhere" / "tiny")
    capsys.readouterr()
    assert run("--file", file, "--out", out, "--model", tmp_path / "elsewhere" / "tiny", "--json") == 0
    assert document(capsys)["judged"] == 0


@pytest.mark.parametrize("name", ["why.html", "why.png"])
def test_an_explanation_replaces_nothing_of_the_users(capsys, model, image, tmp_path, name):
    out = tmp_path / name
    words = ("--text", "a test", "--image", str(image), "--explain", str(out), "--model", str(model))
    assert run(*words) == 0 and run(*words) == 0, "its own explanation is replaced"
    out.write_bytes(b"mine")
    assert run(*words) == 1 and out.read_bytes() == b"mine"
    assert "was changed since" in capsys.readouterr().err
    before = image.read_bytes()
    copy = tmp_path / "mine.png"
    copy.write_bytes(before)
    assert run("--text", "a test", "--image", copy, "--explain", copy, "--model", model) == 1
    assert copy.read_bytes() == before and "is the input itself" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.jsonl", "out.skipped.jsonl", "out.removed.jsonl", "link.jsonl"])
def test_findings_and_results_do_not_replace_each_other(name, tmp_path, model, capsys):
    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"id": 1, "text": "news"}\n{"id": 2}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    words = ["--file", posts, "--model", model, "--out", tmp_path / "out.jsonl"]
    assert run(*words, "--findings", tmp_path / name) == 1
    assert "this command writes its results to" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert run(*words, "--findings", tmp_path / "findings.json") == 0


def table_of_posts(folder: Path) -> Path:
    file = folder / "posts.csv"
    file.write_text("key,content,photo\na1,fake news 假,\n3,real news,\nb,,\n", encoding="utf-8")
    return file


def test_columns_of_other_names(capsys, tmp_path, model):
    file, out = table_of_posts(tmp_path), tmp_path / "out.csv"
    words = ["--file", file, "--out", out, "--model", model]
    odd = tmp_path / "odd.csv"
    odd.write_text("key,c2,photo\na1,fake news 假 and more,\n", encoding="utf-8")
    assert run("--file", odd, *words[2:]) == 1
    assert "Say which it is: --column text=c2 (it has the longest texts, 20 characters)" in error_line(capsys)
    odd.write_text("key,my c2,photo\na1,fake news 假 and more,\n", encoding="utf-8")
    assert run("--file", odd, *words[2:]) == 1
    assert "Say which it is: --column text='my c2' (it has the longest" in error_line(capsys)
    assert run(*words, "--column", "text=content", "--column", "id=key", "--column", "image=photo", "--json") == 0
    assert document(capsys)["judged"] == 2
    assert run(*words) == 0  # the same columns, by their names
    printed = capsys.readouterr().out
    assert "Columns: text: content, image: photo, id: key\n" in printed and "0 posts classified (2 already" in printed
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("key,content,photo,line,label,score") and lines[1].startswith("a1,fake news 假,,2,")
    assert run(*words[:2], "--out", tmp_path / "other.csv", *words[4:], "--column", "text=contents") == 1
    assert "has no column 'contents', but key, content, photo" in error_line(capsys)
    assert run(*words, "--column", "caption=content") == 1
    assert "made of text, image, id, label" in error_line(capsys)


def test_the_reasons_of_a_row_of_a_file(capsys, tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = table_of_posts(tmp_path)
    words = ["--file", file, "--model", model, "--column", "text=content", "--column", "id=key"]
    assert run(*words, "--explain", "a1", "--out", tmp_path / "why.html") == 0
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert "fake" in capsys.readouterr().out and "news" in page
    assert "Row a1, line 2 of posts.csv<br>Model: tiny@" in page and "not proof" in page
    assert not list(tmp_path.glob("[!.]*.jsonl"))
    assert run(*words, "--explain", "2", "--json") == 0  # line 2
    assert document(capsys)["id"] == "a1" and (tmp_path / "outputs/classify/explain-2.html").is_file()
    assert run(*words, "--explain", "3", "--json") == 0  # an id wins over a line
    assert document(capsys)["id"] in ("3", 3)
    assert run(*words, "--explain", "line 3", "--out", tmp_path / "all.csv", "--json") == 0
    found = document(capsys)
    assert found["judged"] == 2 and Path(found["explained"]["explanation"]).name == "all.explain-line_3.html"
    for row, part in (
        ("zz", "no row 'zz'. Expected an id, such as a1, 3, b, or a line up to 4"),
        ("b", "neither text"),
    ):
        assert run(*words, "--explain", row) == 1
        assert part in error_line(capsys)
    assert run(*words, "--explain", "why.html") == 2


def test_the_agreement_with_labels_is_printed(capsys, tmp_path, model):
    file, out = tmp_path / "posts.csv", tmp_path / "out.csv"
    lines = [f"假新闻 {n},{('谣言', 'real', '不明', '')[n % 4]}" for n in range(8)]
    file.write_text("正文,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    words = ["--file", file, "--out", out, "--model", model]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert "Columns: text: 正文, label: label\n" in printed
    assert "ours has another: label is predicted_label\n" in printed
    assert "Compared with the column label (2 posts): accuracy " in printed
    assert (
        "谣言 (2 x), 不明 (2 x) are not the model's labels, fake or real" in printed
        and "2 posts have no label" in printed
    )
    assert run(*words, "--label", "谣言=fake", "--json") == 0
    found = document(capsys)
    assert found["agreement"]["rows"] == 4 and found["agreement"]["unknown_labels"] == {"不明": 2}
    assert found["renamed_columns"] == {"label": "predicted_label"}
    assert sum(map(sum, found["agreement"]["confusion_matrix"])) == 4
    assert run(*words, "--label", "谣言=hoax") == 1
    assert "the model's labels are fake, real" in error_line(capsys)
    assert run("--text", "a", "--label", "谣言=fake", "--model", model) == 2


def test_words_to_copy_into_a_shell_are_quoted(capsys, tmp_path, model):
    file = tmp_path / "posts.csv"
    file.write_text("text,label\nfake news,not real\n")
    assert run("--file", file, "--out", tmp_path / "out.csv", "--model", model) == 0
    assert "If they mean these, say so: --label 'not real'=LABEL" in capsys.readouterr().out
    file.write_text("text,label\n" + "".join(f"fake news,word {number}\n" for number in range(60)))
    assert run("--file", file, "--out", tmp_path / "out.csv", "--model", model) == 0
    assert "and 54 more are not the model's labels" in capsys.readouterr().out
