"""`PostClassifier`: posts in every form, with the numbers of `stmine classify`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_mttv import tiny_mttv
from odd_posts import noise
from PIL import Image

import stmine_hf
from stmine_hf.errors import StmineError
from stmine_hf.inference.scope import Scope
from stmine_hf.outputs import OutputError
from stmine_hf.posts import PostClassifier
from stmine_hf.posts.classify import classify_file


@pytest.fixture(scope="module")
def parts():
    return tiny_mttv(seed=1)


@pytest.fixture(scope="module")
def classify(parts) -> PostClassifier:
    return stmine_hf.PostClassifier(parts, batch_size=4)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("image") / "a.png"
    noise(60, 80).save(file)
    return file


def test_every_form_of_a_post_gives_one_answer(classify, image):
    answer = classify("fake news 假")
    assert answer.label in ("fake", "real") and answer.score == max(answer.scores.values()) >= 0.5
    assert classify({"text": "fake news 假"}) == answer
    both = classify({"text": "假", "image": str(image), "id": "x"})
    assert both.id == "x" and both.scores != classify("假").scores
    assert classify({"text": "假", "image": [image], "id": "x"}) == both
    pixels = np.asarray(Image.open(image))
    alone = classify(image)
    for form in (pixels, image.read_bytes(), Image.open(image), {"image": pixels}):
        assert classify(form).scores == pytest.approx(alone.scores, abs=1e-5)


def test_a_file_gives_what_the_command_writes(parts, classify, image, tmp_path):
    texts = ["fake news", "假", "", "图片 news fake", "a"]
    posts = [{"id": f"p{number}", "text": text} for number, text in enumerate(texts)]
    posts[3]["image"] = str(image)
    file = tmp_path / "posts.jsonl"
    file.write_text("\n".join(map(json.dumps, posts)) + "\n{broken")
    answers = classify(file)
    classify_file(*parts, file, tmp_path / "out.jsonl", batch_size=4, progress=False)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [answer.id for answer in answers if answer.error is None] == [row["id"] for row in rows]
    for answer, row in zip([one for one in answers if one.error is None], rows, strict=True):
        assert (answer.label, answer.text) == (row["label"], row["text"])
        assert answer.scores == pytest.approx(row["scores"], abs=2e-6)
    assert [answer.error.split(" ")[0] for answer in answers.failed] == ["neither", "not"] and len(answers) == 6
    table = answers.to_pandas()
    assert list(table.columns)[:6] == ["id", "text", "label", "score", "score_fake", "score_real"]
    assert len(table) == 6 and table.error.notna().sum() == 2


def test_a_file_of_another_encoding_and_rows_of_a_data_set(classify, tmp_path):
    file = tmp_path / "posts.csv"
    file.write_bytes("编号,内容,标签\n7,假的,fake\n8,图片,real\n".encode("gbk"))
    answers = classify(file, encoding="gbk", columns={"text": "内容", "id": "编号"})
    assert [(answer.id, answer.text, answer.error) for answer in answers] == [("7", "假的", None), ("8", "图片", None)]
    columns = {"text": "内容", "label": "标签", "post_id": "编号"}
    rows = stmine_hf.load_dataset(str(file), kind="posts", encoding="gbk", column_mapping=columns, split="train")
    assert [(answer.id, answer.scores) for answer in classify(rows)] == [(one.id, one.scores) for one in answers]
    with pytest.raises(StmineError, match="encoding and columns are of a file of posts"):
        classify("假的", encoding="gbk")


def test_a_bad_one_of_many_is_an_answer_and_a_single_one_an_error(classify, image, tmp_path):
    bad = [{"text": "a", "image": "nosuch.jpg"}, "", {"text": 7}, {"txt": "a"}, {"image": "https://a/b.jpg"}, 7]
    answers = classify(["fake", *bad, {"text": "real", "image": image}])
    assert [answer.error is None for answer in answers] == [True, *[False] * 6, True]
    parts = [
        "nosuch.jpg: file not found",
        "neither text",
        "found int",
        "found 'txt'",
        "download the image",
        "found int",
    ]
    for one, answer, part in zip(bad, answers[1:], parts, strict=False):
        assert part in answer.error
        if one != 7:
            with pytest.raises(ValueError):
                classify(one)
    assert [answer.id for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(StmineError, match=r"nosuch\.csv: no such file"):
        classify(tmp_path / "nosuch.csv")
    with pytest.raises(StmineError, match="found int"):
        classify(7)


def test_a_folder_of_images_and_bad_images(parts, image, tmp_path):
    (tmp_path / "a.png").write_bytes(image.read_bytes())
    (tmp_path / "b.jpg").write_text("no image")
    answers = PostClassifier(parts)(tmp_path)
    assert [Path(answer.id).name for answer in answers] == ["a.png", "b.jpg"] and len(answers.failed) == 1
    lenient = PostClassifier(parts, without_bad_images=True)({"text": "fake", "image": tmp_path / "b.jpg"})
    assert lenient.error is None and "not an image" in lenient.problem


def test_the_warnings_of_the_command(tmp_path):
    from helpers_mttv import save_tiny_mttv

    folder = save_tiny_mttv(tmp_path / "model")
    Scope("CJK", 0.77, 5, needs_text=True).save(folder)
    answers = PostClassifier(model=folder)(["港口上空出现红色圆形", "Forward this before it is deleted!"])
    assert answers[0].warning is None and "0% of the letters are Chinese" in answers[1].warning
    assert answers.to_pandas().warning.isna().tolist() == [True, False]


def test_an_answer_as_dictionary_page_and_image(classify, image, tmp_path):
    answer = classify({"text": "fake <news> 假", "image": image})
    assert json.loads(json.dumps(answer.to_dict())) == answer.to_dict() and len(answer.to_pandas()) == 1
    page = answer.plot()
    assert "<html" in page and "data:image/png" in page and "<news>" not in page
    assert answer.save(tmp_path / "why.html").read_text(encoding="utf-8") == page
    drawn = Image.open(answer.save(tmp_path / "why.png"))
    assert drawn.width == 480 and drawn.height > 60  # the image, and a caption below it
    assert json.loads(answer.save(tmp_path / "why.json").read_text()) == answer.to_dict()
    (tmp_path / "mine.html").write_text("mine")
    for taken in (tmp_path / "mine.html", image):
        with pytest.raises(OutputError):
            answer.save(taken)
    with pytest.raises(ValueError, match=r"ends with \.html, \.png or \.json"):
        answer.save(tmp_path / "why.txt")
    with pytest.raises(ValueError, match="no prediction to explain"):
        classify(["fake", ""])[1].plot()
