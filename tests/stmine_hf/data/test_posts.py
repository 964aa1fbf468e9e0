"""Posts of one's own, in every form of file, and what becomes of bad rows in any set of posts."""

import json
import shutil
from collections import Counter
from pathlib import Path

import datasets
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.findings import Findings
from stmine_hf.data.post_files import number_groups
from stmine_hf.data.posts import Posts
from stmine_hf.data.tables import MOST_LINES, read_rows
from stmine_hf.errors import StmineError

ROWS = [
    {"id": "p1", "text": "a shark swims in the flooded street", "label": "fake", "image": "shark.jpg"},
    {"id": "p2", "text": "the mayor opened a bridge", "label": "real", "image": "images/bridge.png"},
    {"id": "p3", "text": "no image here", "label": "real", "image": None},
]


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""
    return lambda name="posts", **options: load_dataset(name, cache_dir=tmp_path / "cache", **options)


def paint(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", (8 + index, 8), (40 * index, 90, 30)).save(folder / name)
    return folder


def write(folder: Path, lines: list, name: str = "posts.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    paint(tmp_path / "set/images", "shark.jpg", "bridge.png")
    return write(tmp_path / "set", ROWS)


def plain(rows) -> list[dict]:
    names = rows.features["label"]
    return [{**row, "image": row["image"] and row["image"].size, "label": names.int2str(row["label"])} for row in rows]


SHOWN = [((8, 8), "shark.jpg"), ((9, 8), "bridge.png"), (None, "")]
EXPECTED = [
    {"post_id": row["id"], "text": row["text"], "image": image, "label": row["label"], "filename": name, "group": -1}
    for row, (image, name) in zip(ROWS, SHOWN, strict=True)
]


def as_table(delimiter: str) -> str:
    cells = [["id", "text", "label", "image"], *([row[name] or "" for name in ROWS[0]] for row in ROWS)]
    return "\n".join(delimiter.join(row) for row in cells) + "\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("posts.jsonl", "\n\n".join(json.dumps(row) for row in ROWS)),
        ("posts.json", json.dumps(ROWS, indent=1)),
        ("posts.csv", as_table(",")),
        ("posts.csv", "\ufeff" + as_table(";").replace("\n", "\r\n")),
        ("posts.csv", as_table("\t")),
        ("posts.tsv", as_table("\t")),
    ],
    ids=["jsonl", "json list", "csv", "csv of a spreadsheet", "csv with tabs", "tsv"],
)
def test_forms_of_files(folder, load, name, content):
    (folder / "posts.jsonl").unlink()
    (folder / name).write_bytes(content.encode())
    rows = load(data_dir=folder, split="train")
    assert plain(rows) == EXPECTED
    assert list(rows.features) == ["post_id", "text", "image", "label", "filename", "group"]


def test_a_file_may_be_named_instead_of_its_folder(folder, load):
    write(folder, ROWS[:1], "other.jsonl")
    assert plain(load(data_dir=folder / "posts.jsonl", split="train")) == EXPECTED
    with pytest.raises(DataError, match=r"the names other.jsonl, posts.jsonl .* do not state the split.*files="):
        load(data_dir=folder)
    assert len(load(data_dir=folder, split="val", files={"val": "other.jsonl"})) == 1


def test_splits_by_file_name_and_by_column(tmp_path, load):
    for name in ("my_train.jsonl", "dev.jsonl", "test-2.jsonl", "notes.jsonl"):
        write(tmp_path / "files", ROWS[:2], name)
    images = paint(tmp_path / "elsewhere", "shark.jpg", "bridge.jpg")
    with pytest.warns(UserWarning, match=r"6 posts; noted 4: .*made unique \(dev.jsonl, line 1, p1; "):
        sets = load(data_dir=tmp_path / "files", image_dir=images)
    assert {split: rows["post_id"][:] for split, rows in sets.items()} == {
        "train": ["p1", "p2"],
        "val": ["p1#2", "p2#2"],
        "test": ["p1#3", "p2#3"],
    }
    assert sets["test"][1]["image"].size == (9, 8), "found although its suffix is another"
    rows = [{"text": "x", "label": "a", "split": split} for split in ("train", "validation", "Test", "", "holdout")]
    with pytest.warns(UserWarning, match=r"skipped 1 row: 1 x unknown split 'holdout', expected train, val, test"):
        sets = load(data_dir=write(tmp_path / "column", rows))
    assert {split: rows["post_id"][:] for split, rows in sets.items()} == {
        "train": ["posts.jsonl-1", "posts.jsonl-4"],
        "val": ["posts.jsonl-2"],
        "test": ["posts.jsonl-3"],
    }


def test_columns_of_other_names(tmp_path, load):
    rows = [
        {"nr": 7, "body": "one", "verdict": 1, "pic": "a.jpg", "story": "flood"},
        {"nr": 8, "body": "two", "verdict": 10, "pic": "b.jpg", "story": "bridge"},
        {"nr": 9, "body": "three", "verdict": 2, "pic": ["a.jpg", "b.jpg"], "story": "flood"},
    ]
    paint(tmp_path, "a.jpg", "b.jpg")
    names = {"text_column": "body", "label_column": "verdict", "image_column": "pic", "id_column": "nr"}
    loaded = load(data_dir=write(tmp_path, rows), split="train", group_column="story", **names)
    assert loaded.features["label"].names == ["1", "2", "10"], "numbers are sorted as such"
    assert [(row["post_id"], row["text"], row["group"], row["filename"]) for row in loaded] == [
        ("7", "one", 0, "a.jpg"),
        ("8", "two", 1, "b.jpg"),
        ("9", "three", 0, "a.jpg"),
    ]
    for option, wrong in (("text_column", "text"), ("label_column", "label"), ("image_column", "image")):
        with pytest.raises(DataError, match=rf"posts.jsonl has no column {wrong}, but nr, body, verdict, pic, story"):
            load(data_dir=tmp_path, **{**names, option: wrong})


def test_labels_follow_names_not_rows(tmp_path, load):
    rows = [{"text": "x", "label": label} for label in ("rumour", "false", "true", "", None, " false ")]
    loaded = load(data_dir=write(tmp_path, rows), split="train")
    assert loaded.features["label"].names == ["false", "rumour", "true"]
    assert loaded["label"][:] == [1, 0, 2, -1, -1, 0]
    with pytest.warns(UserWarning, match=r"5 posts; .*1 x unknown label 'rumour', expected true or false \(.*line 1"):
        loaded = load(data_dir=tmp_path, split="train", labels=["true", "false"])
    assert loaded["label"][:] == [1, 0, -1, -1, 1]
    with pytest.raises(DataError, match=r"no usable row in posts.jsonl of .*unknown label 'rumour'"):
        load(data_dir=write(tmp_path, rows[:1]), labels=["true", "false"])
    with pytest.raises(DataError, match="no row has a label in the column 'label'"):
        load(data_dir=write(tmp_path, rows[3:5]))
    assert load(data_dir=tmp_path, split="train", labels=["true", "false"])["label"][:] == [-1, -1]
    for labels in ("fake", [], ["a", "a"], ["1", 1]):
        with pytest.raises(DataError, match="labels has to be a list"):
            load(data_dir=tmp_path, labels=labels)


def test_texts_stay_as_they_are(tmp_path, load):
    texts = [
        "",
        "  spaces  and\nlines\u2028here\x85 and \r\n there ",
        "😀🔥👨‍👩‍👧",
        "http://t.cn/abc https://example.org/?q=1",
        "长" * 10_000,
        "مرحبا بالعالم שלום",
        "mixed العربية 中文 и кириллица e\u0301",
        "\x00 nul",
        "\ufeffmark",
        '"quoted" and \\ back',
    ]
    paint(tmp_path, "a.jpg")
    rows = [{"text": text, "label": "x", "img": "a.jpg"} for text in texts]
    assert load(data_dir=write(tmp_path, rows), split="train")["text"][:] == texts
    odd = [{"text": text, "label": "x", "img": "a.jpg"} for text in (None, 12.5, "half \ud83d pair")]
    odd += [{"label": "x", "img": "a.jpg"}]
    loaded = load(data_dir=write(tmp_path, [json.dumps(row) for row in odd]), split="train")
    assert loaded["text"][:] == ["", "12.5", "half \ufffd pair", ""]


def test_bad_rows_are_skipped_and_counted(tmp_path, load):
    good = {"text": "fine", "label": "a"}
    lines = ['{"text": "cut', good, "[1]", "nonsense", good, '{"text": ["a"], "label": "a"}', '{"label": "a"}']
    lines += ["[" * 100_000, "", "9" * 5000, good]
    with pytest.warns(UserWarning) as caught:
        rows = load(data_dir=write(tmp_path, lines), split="train")
    assert rows["post_id"][:] == ["posts.jsonl-2", "posts.jsonl-5", "posts.jsonl-11"]
    (message,) = [str(one.message) for one in caught]
    assert message.startswith("posts: 3 posts; skipped 7 rows: ")
    assert "x not JSON (posts.jsonl, line 1; posts.jsonl, line 4; " in message
    assert "1 x a list where a text was expected (posts.jsonl, line 6)" in message
    assert "1 x no text (there is: label) (posts.jsonl, line 7)" in message
    with pytest.raises(
        DataError, match=r"no usable row in posts.jsonl of .*skipped 2 rows: 2 x not JSON \(.*line 3\)"
    ):
        load(data_dir=write(tmp_path, ["{", "", "}"]))
    with pytest.raises(DataError, match="the files are empty"):
        load(data_dir=write(tmp_path, []))


def test_a_long_file_outlives_its_bad_lines(tmp_path, load):
    lines = [{"text": f"post {i}", "label": "ab"[i % 2]} if i % 100 else "{broken" for i in range(10_000)]
    with pytest.warns(UserWarning, match=r"9,900 posts; skipped 100 rows: 100 x not JSON \(.*line 1; .*; \.\.\.\)"):
        rows = load(data_dir=write(tmp_path, lines), split="train")
    assert len(rows) == 9900 and rows[-1]["text"] == "post 9999"


def test_missing_and_broken_images_leave_the_post(folder, load):
    Image.new("RGB", (300, 300)).save(folder / "images/cut.png")
    (folder / "images/cut.png").write_bytes((folder / "images/cut.png").read_bytes()[:200])
    (folder / "images/empty.jpg").write_bytes(b"")
    (folder / "images/text.jpg").write_text("no image")
    (folder / "images/folder.jpg").mkdir()
    names = [
        "gone.jpg",
        "empty.jpg",
        "text.jpg",
        "folder.jpg",
        "a/../b\0.jpg",
        "http://example.org/x.jpg",
        "/",
        "cut.png",
    ]
    write(folder, [{"text": "x", "label": "a", "image": name} for name in names])
    with pytest.warns(UserWarning, match=r"^posts: 8 posts; (?!skipped)") as caught:
        rows = load(data_dir=folder, split="train")
    message = str(caught[0].message)
    assert "5 x image not found (image_dir says where to look) (posts.jsonl, line 1, gone.jpg; " in message
    assert f"1 x image unreadable (empty file) (posts.jsonl, line 2, {folder}/images/empty.jpg)" in message
    assert "1 x image unreadable (not an image, or of a kind that cannot be read) (posts.jsonl, line 3" in message
    undecoded = rows.cast_column("image", datasets.Image(decode=False))
    assert [row["image"] is None for row in undecoded] == [True] * 7 + [False], "a cut file is only found out later"
    assert rows["filename"][0] == "gone.jpg", "the name is kept"
    with pytest.raises(OSError, match="truncated"):
        rows[7]
    Image.new("RGB", (5, 5)).save(folder / "images/text.jpg")
    with pytest.warns(UserWarning, match="1 x image unreadable"):
        assert load(data_dir=folder, split="train")[2]["image"].size == (5, 5), "mended images are seen"


def test_images_of_all_kinds(tmp_path, load):
    Image.new("RGB", (1, 1)).save(paint(tmp_path) / "one.png")
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    frames = [Image.new("P", (8, 8), i) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("L", (20_000, 4)).save(tmp_path / "wide.webp.png")
    Image.new("RGB", (6, 6)).save(tmp_path / "UPPER.JPG")
    names = ["one.png", "cmyk.jpg", "moving.gif", "wide.webp.png", ".\\UPPER.JPG"]
    rows = load(data_dir=write(tmp_path, [{"text": "", "label": "a", "img": name} for name in names]), split="train")
    assert [row["image"].size for row in rows] == [(1, 1), (9, 9), (8, 8), (20_000, 4), (6, 6)]


def test_images_stay_where_they_are(folder, load):
    rows = load(data_dir=folder, split="train").with_format("arrow")
    assert rows[0]["image"].to_pylist()[0] == {"bytes": None, "path": str(folder / "images/shark.jpg")}


def test_streaming_yields_the_same_rows(folder, load):
    stream = load(data_dir=folder, split="train", streaming=True)
    assert stream.num_shards == 3
    assert plain(stream) == EXPECTED


def test_parquet_for_the_hub_holds_the_images(folder, tmp_path):
    builder = Posts(data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare(str(tmp_path / "hub"), file_format="parquet")
    shutil.rmtree(folder)
    (file,) = (tmp_path / "hub").glob("*train*.parquet")
    assert plain(datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))) == EXPECTED


def test_the_cache_follows_files_and_options(folder, load):
    assert len(load(data_dir=folder, split="train")) == 3
    write(folder, [*ROWS, {"text": "new", "label": "other"}])
    assert load(data_dir=folder, split="train").features["label"].names == ["fake", "other", "real"]
    assert load(data_dir=folder, split="train", labels=["real", "fake", "other"])["label"][:] == [1, 0, 0, 2]


def test_twins_keep_their_rows_under_new_ids(tmp_path, load):
    rows = [{"id": i, "text": f"text {n}", "label": "a"} for n, i in enumerate((1, 1, "1", "1#4", 1))]
    with pytest.warns(UserWarning, match=r"5 posts; noted 3: .*made unique \(posts.jsonl, line 2, 1; "):
        loaded = load(data_dir=write(tmp_path, rows), split="train")
    assert loaded["post_id"][:] == ["1", "1#2", "1#3", "1#4", "1#5"]


def test_validation_by_group(tmp_path, load):
    rows = [{"text": f"text {i} of {'abcdefgh'[i % 8] * 9}", "label": "ab"[i % 2], "group": i // 2} for i in range(80)]
    write(tmp_path, rows[:60], "train.jsonl")
    write(tmp_path, rows[60:], "dev.jsonl")
    write(tmp_path, rows[:4], "test.jsonl")
    released = load(data_dir=tmp_path)
    assert released["val"]["group"][:] == [i // 2 for i in range(60, 80)]
    sets = load(data_dir=tmp_path, validation="events", validation_share=0.2, validation_seed=3)
    assert [len(sets[split]) for split in ("train", "val", "test")] == [64, 16, 4]
    assert not set(sets["train"]["group"]) & set(sets["val"]["group"])
    assert Counter(sets["val"]["label"]) == {0: 8, 1: 8}
    assert sets["test"]["text"][:] == released["test"]["text"][:]
    other = load(data_dir=tmp_path, validation="events", validation_share=0.2, validation_seed=4)
    assert set(other["val"]["group"]) != set(sets["val"]["group"])
    with pytest.raises(DataError, match="validation has to be released or events, got 'random'"):
        load(data_dir=tmp_path, validation="random")
    with pytest.raises(DataError, match="validation_share"):
        load(data_dir=tmp_path, validation="events", validation_share=1.5)


def test_posts_without_a_group_are_grouped_by_text(tmp_path, load):
    story = "a shark swims through the flooded streets of the harbour"
    rows = [{"text": f"{story} !{'!' * i}", "label": "a"} for i in range(3)]
    rows += [{"text": "cake", "label": "a", "group": 4}, {"text": "quite another matter", "label": "a"}]
    folder = write(tmp_path, rows)
    assert load(data_dir=folder, split="train")["group"][:] == [-1, -1, -1, 4, -1]
    sets = load(data_dir=folder, validation="events", validation_share=0.4)
    groups = {row["text"]: row["group"] for split in sets.values() for row in split}
    assert list(groups.values()).count(5) == 3 and groups["cake"] == 4 and groups["quite another matter"] == 6


def test_missing_folder_and_files_tell_what_to_do(tmp_path, load):
    with pytest.raises(StmineError, match=r"give its folder as data_dir. Expected there: posts.jsonl"):
        load()
    with pytest.raises(DataError, match=r"no folder .*absent"):
        load(data_dir=tmp_path / "absent")
    paint(tmp_path / "images")
    with pytest.raises(DataError, match=r"expected posts.jsonl, .* found \[images/\]"):
        load(data_dir=tmp_path)
    write(tmp_path, ROWS, "train.jsonl")
    write(tmp_path, ROWS, "more_train.jsonl")
    with pytest.raises(DataError, match=r"more_train.jsonl and train.jsonl in .* are both for train: .*files="):
        load(data_dir=tmp_path)
    for files in ({}, {"dev": "train.jsonl"}, "train.jsonl"):
        with pytest.raises(DataError, match="files has to say the file of each split"):
            load(data_dir=tmp_path, files=files)
    with pytest.raises(DataError, match=r"no file .*gone.jsonl \(option files\)"):
        load(data_dir=tmp_path, files={"train": "gone.jsonl"})
    with pytest.raises(DataError, match=r"no folder .*nowhere \(image_dir\)"):
        load(data_dir=tmp_path, files={"train": "train.jsonl"}, image_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no option colour; its options are: image_dir, files, validation, "):
        load(data_dir=tmp_path, colour="red")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("posts.json", '[{"text": "a", ', r"posts.json is not JSON.*cut short"),
        ("posts.csv", "text,verdict\na,b\n", r"posts.csv has no column label, but text, verdict"),
        ("posts.csv", "text,label,text\na,b,c\n", r"posts.csv, line 1: column 'text' occurs twice"),
        ("posts.tsv", "text\tlabel\nalone\n", r"1 x 1 cells instead of 2 \(posts.tsv, line 2"),
    ],
)
def test_broken_files(tmp_path, load, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load(data_dir=tmp_path)


def test_other_encodings(tmp_path, load):
    rows = "text,label\n" + "".join(f"今天天气很好{i},真\n" for i in range(9))
    (tmp_path / "posts.csv").write_bytes(rows.encode("gb18030"))
    with pytest.raises(DataError, match=r"posts.csv, line 2: not UTF-8 \(9 of 10 lines are not.*encoding=.gb18030"):
        load(data_dir=tmp_path)
    assert load(data_dir=tmp_path, split="train", encoding="gb18030")["text"][3] == "今天天气很好3"
    with pytest.raises(DataError, match=r"posts.csv: cannot be read as latin-99"):
        load(data_dir=tmp_path, encoding="latin-99")
    (tmp_path / "posts.csv").write_bytes(rows.encode() + "déjà vu,x\n".encode("latin-1"))
    with pytest.warns(UserWarning, match=r"9 posts; skipped 1 row: 1 x not UTF-8.*encoding.* \(posts.csv, line 11"):
        assert len(load(data_dir=tmp_path, split="train")) == 9


def test_quoted_cells_and_lone_quotation_marks(tmp_path):
    """Cells with line breaks are read as quoted; a quote without its other half costs no other row."""
    table = tmp_path / "posts.tsv"
    broken = [f"row {i}\tb" for i in range(2 * MOST_LINES)]
    lines = [
        "text\tlabel",
        '"two\nlines and a ""word"""\ta',
        '"an open quote\ta',
        *broken,
        '"x" and y\tc',
        'mid "q" dle\td',
    ]
    table.write_text("\n".join(lines) + "\n")
    findings = Findings("row")
    rows = [row for _, row in read_rows(table, findings)]
    assert not findings
    assert rows[0] == {"text": 'two\nlines and a "word"', "label": "a"}
    assert rows[1] == {"text": '"an open quote', "label": "a"}
    assert [row["text"] for row in rows[2:-2]] == [f"row {i}" for i in range(2 * MOST_LINES)]
    assert rows[-2:] == [{"text": '"x" and y', "label": "c"}, {"text": 'mid "q" dle', "label": "d"}]
    places = [place for place, _ in read_rows(table, findings)]
    assert places[:3] == ["posts.tsv, line 2", "posts.tsv, line 4", "posts.tsv, line 5"]
    table.write_text("text\tlabel\n" + "w" * 300_000 + "\ta\n")
    assert len(next(read_rows(table, findings))[1]["text"]) == 300_000


def test_group_numbers():
    assert number_groups(["7", "", "3", "7"]) == [7, -1, 3, 7]
    assert number_groups(["b", "", "3", "b", "a"]) == [0, -1, 1, 0, 2]
    assert number_groups([]) == []


def test_findings_stay_short():
    findings = Findings("row")
    for i in range(20):
        for j in range(i + 1):
            findings.skip(f"reason {i}", f"line {j}")
    assert str(findings).startswith("skipped 210 rows: 20 x reason 19 (line 0; line 1; line 2; ...), 19 x reason 18 (")
    assert str(findings).endswith("), and 14 more reasons")


def test_real_tweets_on_images(shared_data, load):
    sets = load(data_dir=shared_data / "fake_news/twitter_india")
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 1151, "val": 155, "test": 155}
    train = sets["train"]
    assert train.features["label"].names == ["fake", "real"]
    assert Counter(train["label"]) == {0: 543, 1: 608}
    assert (len(set(train["group"])), len(set(train["filename"]))) == (111, 135)
    assert min(train["group"]) >= 0
    assert train[0]["image"].width <= 256
    events = load(data_dir=shared_data / "fake_news/twitter_india", validation="events")
    assert not set(events["train"]["group"]) & set(events["val"]["group"])
    assert len(events["val"]) == pytest.approx(131, abs=8) and len(events["test"]) == 155
