"""No name or text of others acts on the terminal, or keeps a command from printing, whatever bytes it has."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from PIL import Image
from rich.table import Table
from rich.text import Text

import stmine_hf.commands
from stmine_hf.cli import main
from stmine_hf.printing import print_table, printable_json, say

ESCAPES = "\x1b]0;owned\x07\x9b31m\u202e\r"
NAME = f"a{ESCAPES}.png"
FOREIGN = os.fsdecode(b"b\xff\xfe.png")
ACTING = set("\x1b\x07\x9b\u202e\r")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("models")
    save = {"fisvl": save_tiny_fisvl, "mttv": save_tiny_mttv, "sat": save_tiny_sat}
    for name, saved in save.items():
        saved(top / name)
    return {name: top / name for name in save}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Images of hostile names, two of which are none, and posts and rows that name them and have hostile texts."""
    folder = tmp_path / f"in{ESCAPES}"
    folder.mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for name in (NAME, FOREIGN, "plain.png"):
        noise.save(folder / "plain.png")
        (folder / name).write_bytes((folder / "plain.png").read_bytes())
    for name in (f"bad{ESCAPES}.png", os.fsdecode(b"bad\xff.png")):
        (folder / name).write_bytes(b"no image")
    posts = [{"id": f"p{number}{ESCAPES}", "text": f"news {ESCAPES}", "image": NAME} for number in range(3)]
    posts.append({"id": f"bad{ESCAPES}", "text": "x", "image": f"none{ESCAPES}.png"})
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    rows = [{"image": NAME, "caption": f"a plane {ESCAPES}", "split": "train"}] * 3
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def printed(monkeypatch, *words: object, code: int = 0) -> str:
    """What a command prints to an output of strict UTF-8, as a terminal's is."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", newline="") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as end:
        main(list(map(str, words)))
        raise SystemExit(0)
    for stream in streams:
        stream.flush()
    text = "".join(stream.buffer.getvalue().decode("utf-8") for stream in streams)  # type: ignore[attr-defined]
    assert int(end.value.code or 0) == code, text
    acting = ACTING - {"\r"} if "Embedding" in text or "it/s" in text else ACTING  # a bar goes back to its begin
    assert not acting & set(text), text
    return text


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_commands_that_print_names(json_too, folder, models, tmp_path, monkeypatch):
    out = tmp_path / f"out{ESCAPES}"
    out.mkdir()
    index = ["index", folder, "--model", models["fisvl"], "--out", out / "index", *json_too]
    assert "skipped" in printed(monkeypatch, *index)
    searched = printed(monkeypatch, "search", out / "index", "planes", "--out", out / "hits", *json_too)
    assert "plain.png" in searched
    printed(monkeypatch, "detect", folder, "--model", models["sat"], "--out", out / "found", *json_too)
    one = ["detect", folder / NAME, "--model", models["sat"], "--out", out / "one", *json_too]
    printed(monkeypatch, *one)
    posts = ["--file", folder / "posts.jsonl", "--model", models["mttv"]]
    printed(monkeypatch, "classify", *posts, "--out", out / "predictions.jsonl", *json_too)
    printed(monkeypatch, "features", "mttv", *posts, "--out", out / "features", *json_too)
    printed(monkeypatch, "classify", "--text", f"a text {ESCAPES}", "--model", models["mttv"], *json_too)
    column = ["--column", "captions=caption"]
    printed(monkeypatch, "data", "describe", folder / "rows.jsonl", "--kind", "captions", *column, *json_too)
    exported = [
        "data",
        "export",
        folder / "rows.jsonl",
        "--kind",
        "captions",
        *column,
        "--out",
        out / "set",
        *json_too,
    ]
    printed(monkeypatch, *exported)
    built = ["publish", "build", models["sat"], "--out", out / "repository", "--license", "mit", *json_too]
    printed(monkeypatch, *built)
    (out / "repository" / f"x{ESCAPES}.py").write_text("import os\n")
    printed(monkeypatch, "publish", "check", out / "repository", *json_too, code=1)


@pytest.mark.parametrize(
    "words",
    [
        ["search", "{}", "planes"],
        ["index", "{}", "--out", "x"],
        ["detect", "{}"],
        ["classify", "--file", "{}", "--out", "x.jsonl"],
        ["features", "mttv", "--file", "{}", "--out", "x"],
        ["evaluate", "sat", "--dataset", "{}"],
        ["data", "describe", "{}"],
        ["publish", "check", "{}"],
        ["merge", "{}", "--out", "x"],
        ["convert", "sat", "{}", "x"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("name", [f"no such {ESCAPES}", os.fsdecode(b"no such \xff")], ids=["escapes", "bytes"])
def test_errors_that_name_a_missing_file(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = printed(monkeypatch, *(word.format(name) for word in words), code=1)
    assert "error: " in said


def test_say_escapes_but_keeps_lines(capsys):
    say(f"one {ESCAPES}\ntwo \udcff 飞机")
    assert capsys.readouterr().out == "one \\x1b]0;owned\\x07\\x9b31m\\u202e\\r\ntwo \\udcff 飞机\n"


def test_json_reads_the_same_and_acts_on_nothing():
    document = {f"key{ESCAPES}": ["\udcff", "飞机", "\x9b", "\U000e0001", "two\nlines"]}
    text = printable_json(document)
    assert json.loads(text) == document and "飞机" in text
    assert text.replace("\n", "").isprintable()


def test_tables_are_escaped_and_keep_their_colors(capsys, monkeypatch):
    table = Table("name", title=f"title {ESCAPES}")
    table.add_row(Text("ok", style="green") + Text(f" {ESCAPES}"))
    table.add_row("[/] :car: [link=file:///etc/passwd]a[/link]")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    print_table(table)
    text = capsys.readouterr().out
    assert "\x1b[32mok" in text and "\x1b]0" not in text and "\\x1b]0;owned" in text
    assert not (ACTING - {"\x1b"}) & set(text)
    assert "[/] :car: [link=file:///etc/passwd]a[/link]" in text


def test_commands_print_through_say():
    """One place decides how things are printed."""
    for file in Path(stmine_hf.commands.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert "printable_json" in ast.unparse(node), f"{file.name}: line {node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "print":
                whole = ast.unparse(node.args[0])
                assert whole.startswith("f'error: "), f"{file.name}: line {node.lineno}"
