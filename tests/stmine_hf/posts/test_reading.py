"""Files of posts: every row is either a post or a problem with its line; nothing is lost on the way."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from odd_posts import ODD_TEXTS, bad_images, odd_images

from stmine_hf.data import load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.images import ImageError
from stmine_hf.posts.reading import check_posts, count_posts, post_image, read_posts, whole_text


def written(folder: Path, content: str | bytes, name: str = "posts.jsonl") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def problems(file: Path) -> dict[int, str]:
    rows = list(read_posts(file))
    assert len(rows) == count_posts(file)
    assert all((row.post is None) == (row.problem is not None) for row in rows)
    return {row.line: row.problem for row in rows if row.problem}


@pytest.fixture
def image(tmp_path) -> str:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(odd_images()["palette.png"])
    return "images/a.png"


def test_json_lines(tmp_path, image):
    lines = [
        {"id": "x", "text": "假", "image": image, "label": "fake", "more": [1]},
        {"id": 7, "text": "two", "image": [image, str(tmp_path / image)]},
        {"text": "no id", "image": None},
        {"id": "", "img": image},
        {"id": "7", "text": "another post", "image": ""},
    ]
    rows = list(read_posts(written(tmp_path, "\ufeff" + "\n\n".join(map(json.dumps, lines)))))
    assert [row.line for row in rows] == [1, 3, 5, 7, 9]
    assert [row.id for row in rows] == [row.post.id for row in rows] == ["x", 7, "line 5", "line 7", "7#2"]
    assert [row.post.text for row in rows] == ["假", "two", "no id", "", "another post"]
    assert [len(row.post.images) for row in rows] == [1, 2, 0, 1, 0]
    assert all(image().size == (40, 30) for row in rows for image in row.post.images)


def test_tables(tmp_path, image):
    cells = [["id", "text", "image", "note"], ["a", 'two\nlines, "quoted"', image, ""], ["", "假", "", "x"]]
    with open(tmp_path / "posts.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(cells)
    (tmp_path / "posts.tsv").write_text('id\ttext\timage\na\tan "open quote\t\n', encoding="utf-8")
    rows = list(read_posts(tmp_path / "posts.csv"))
    assert [(row.line, row.id, row.post.text) for row in rows] == [
        (2, "a", 'two\nlines, "quoted"'),
        (4, "line 4", "假"),
    ]
    assert rows[0].post.images[0]().mode == "RGB" and len(rows[1].post.images) == 0
    assert count_posts(tmp_path / "posts.csv") == 2
    assert [row.post.text for row in read_posts(tmp_path / "posts.tsv")] == ['an "open quote']


def test_odd_texts_come_through_unchanged(tmp_path):
    lines = [json.dumps({"id": name, "text": text}) for name, text in ODD_TEXTS.items()]
    found = {row.id: row.post.text for row in read_posts(written(tmp_path, "\n".join(lines))) if row.post}
    assert found == {name: text for name, text in ODD_TEXTS.items() if text.strip()}
    (half,) = read_posts(written(tmp_path, '{"id": "\\ud83d", "text": "a \\ud83d\\ude00 b \\ud83d"}'))
    assert half.post.text == "a 😀 b \ufffd" and half.id == "\ufffd"
    assert whole_text("plain 假") == "plain 假"


def test_bad_json_lines_are_told_by_line(tmp_path):
    lines = [
        b'{"id": 1, "text": "good"}',
        b'{"id": 2, "text": "cut sho',
        b"[1, 2]",
        b'{"id": 4, "text": "\xff\xfe"}',
        b'{"id": 5, "text": 12}',
        b'{"id": [6], "text": "x"}',
        b'{"id": 7, "text": " ", "image": ""}',
        b'{"id": 8, "text": "x", "image": 3}',
        b'{"id": 1, "text": "again"}',
        b'{"id": 10, "text": ' + b"[" * 100_000,
        b'{"id": 11, "text": ' + b"9" * 5000 + b"}",
        b'{"id": 12, "text": "x", "image": ["", "a.png"]}',
        b"null",
        b'{"id": 14, "text": "good"}',
    ]
    found = problems(written(tmp_path, b"\n".join(lines)))
    assert set(found) == set(range(2, 14)) - {5, 9}, "a number is a text, and an id made unique, as training reads it"
    assert found[2] == "not JSON at column 19: Unterminated string starting"
    assert found[3] == "not a JSON object" and found[4].startswith("not UTF-8: say the encoding")
    assert found[6] == "id: expected a string or a whole number, found a list"
    assert found[7] == "neither text nor image"
    assert found[8] == found[12] == "image: expected a path or a list of paths"
    assert found[10].startswith("not JSON") and found[11].startswith("not JSON") and found[13] == "not a JSON object"


def test_bad_rows_of_tables_are_told_by_line(tmp_path):
    rows = [b"id,text", b"1,good", b"2,too,many", b"3", b"", b"5,\xb0\xa1", b'6,"a"b', b"1,again", b"8,", b"9,good"]
    found = problems(written(tmp_path, b"\r\n".join(rows), "posts.csv"))
    assert set(found) == {3, 4, 6, 9}, "line 7 is read as it stands and line 8 kept, as training reads them"
    assert found[3] == "3 cells instead of 2" and found[4] == "1 cells instead of 2"
    assert found[6].startswith("not UTF-8")
    assert found[9] == "neither text nor image"
    file = written(tmp_path, b'id,text\n1,good\n2,"never closed\n3,kept', "open.csv")
    assert [row.post.text for row in read_posts(file)] == ["good", '"never closed', "kept"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"id;words;picture\n1;a;b", "the columns text, image and id, found 'id', 'words', 'picture'"),
        ("a.csv", "编号,text\n1,好".encode("gb18030"), "line 1: not UTF-8 .*--encoding"),
        ("a.jsonl", '{"text": "今天天气很好"}\n'.encode("gb18030") * 4, "line 1: not UTF-8 .*--encoding gb18030"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.xlsx", b"no sheet", "no Excel file"),
    ],
)
def test_files_of_another_kind_are_told(tmp_path, name, content, message):
    with pytest.raises(StmineError, match=message):
        list(read_posts(written(tmp_path, content, name)))


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.csv", b"id;text;image\n1;one;\n", None),
        ("a.tsv", b"id,text\n1,one\n", None),
        ("a.csv", "id,text\n1,one\n".encode("utf-16"), None),
        ("a.jsonl", '{"id": 1, "text": "one"}'.encode("utf-16"), None),
        ("a.json", b'[{"id": 1, "text": "one"}]', None),
        ("a.csv", "id,text,其他\n1,one,二\n".encode("gb18030"), "gb18030"),
    ],
)
def test_other_delimiters_and_encodings(tmp_path, name, content, encoding):
    (row,) = read_posts(written(tmp_path, content, name), encoding)
    assert str(row.id) == "1" and row.post.text == "one"
    assert count_posts(tmp_path / name, encoding) == 1


def test_missing_files_are_told(tmp_path):
    with pytest.raises(StmineError, match="no such file"):
        list(read_posts(tmp_path / "none.jsonl"))
    with pytest.raises(StmineError, match="a folder"):
        count_posts(tmp_path)
    assert list(read_posts(written(tmp_path, ""))) == []


def test_images_that_cannot_be_read_say_which_and_why(tmp_path):
    for name, content in bad_images().items():
        (tmp_path / name).write_bytes(content)
    os.symlink(tmp_path, tmp_path / "folder")
    names = [*bad_images(), "gone.png", "folder", "nul\0.png", "half\ud83d.png", "https://t.cn/a.jpg"]
    lines = [json.dumps({"id": number, "image": name}) for number, name in enumerate(names)]
    reasons = {}
    for row in read_posts(written(tmp_path, "\n".join(lines))):
        with pytest.raises(ImageError) as error:
            row.post.images[0]()
        reasons[names[row.id]] = str(error.value)
    assert reasons["cut.png"].startswith("cut.png: corrupt or cut short") and "empty file" in reasons["empty.jpg"]
    assert "over the limit" in reasons["huge.png"]
    assert reasons["gone.png"] == "gone.png: file not found" and "a folder" in reasons["folder"]
    assert "download the image" in reasons["https://t.cn/a.jpg"] and "nul" in reasons["nul\0.png"]


def test_images_keep_their_size_and_stand_upright(tmp_path):
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (3000, 2000), "green").save(tmp_path / "a.jpg", exif=turned)
    assert post_image(tmp_path / "a.jpg").size == (2000, 3000)


def test_ids_that_occur_twice_are_those_of_training(tmp_path):
    ids = [7, "7", 7.0, "7#2", "a", "a", None]
    lines = [json.dumps({"id": one, "text": f"post {n}", "label": "real"}) for n, one in enumerate(ids)]
    file = written(tmp_path, "\n".join([*lines, "{not json"]))
    found = [row.id for row in read_posts(file) if row.post]
    with pytest.warns(UserWarning, match="4 x id seen before, made unique"):
        rows = load_dataset("posts", data_dir=file, split="train", cache_dir=tmp_path / "cache")
    assert list(map(str, found[:6])) == rows["post_id"][:6] == ["7", "7#2", "7#3", "7#2#2", "a", "a#2"]
    check_posts(file, findings=tmp_path / "found.json")
    counted = {one["reason"]: one["count"] for one in json.loads((tmp_path / "found.json").read_text())["findings"]}
    assert counted.pop("id seen before, made unique") == 4 and list(counted.values()) == [1]
