"""A file of posts in, a file of predictions out: equal to the pipeline's, nothing lost, nothing computed twice."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers_mttv import tiny_mttv
from odd_posts import ODD_TEXTS, bad_images, noise, odd_images
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.classification import evaluate_posts
from stmine_hf.images import PixelOptions
from stmine_hf.modeling.mttv.pipeline_mttv import MttvPipeline
from stmine_hf.modeling.mttv.processing_mttv import Regions
from stmine_hf.outputs import Outputs
from stmine_hf.posts import classify as classify_module
from stmine_hf.posts.classifier import PostClassifier
from stmine_hf.posts.classify import classify_file


@pytest.fixture(scope="module")
def parts():
    return tiny_mttv(seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Thirty posts of mixed lengths, each third with an image, and one bad row in the middle."""
    folder = tmp_path_factory.mktemp("posts")
    random = np.random.default_rng(0)
    lines = []
    for number in range(30):
        text = " ".join(random.choice(["fake", "news", "假", "图片"], size=random.integers(1, 25)))
        post = {"id": f"p{number}", "text": text}
        if number % 3 == 0:
            noise(20 + number, 30).save(folder / f"{number}.png")
            post["image"] = f"{number}.png"
        lines.append(json.dumps(post, ensure_ascii=False))
    lines.insert(10, '{"id": "bad"')
    (folder / "posts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def detector(images):
    return [Regions(np.array([[0, 0, image.width / 2, image.height]]), np.array([0.9])) for image in images]


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def classify(parts, file, out, **options):
    return classify_file(*parts, file, out, **{"batch_size": 4, "progress": False, **options})


def test_another_stretch_makes_predictions_again(parts, tmp_path):
    """An image of 16 bits that fills little of its range."""
    values = np.linspace(500, 3000, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "deep.png")
    file, out = posts_file(tmp_path, {"id": "a", "text": "fake", "image": "deep.png"}), tmp_path / "out.jsonl"
    default, dark = classify(parts, file, out), PixelOptions(stretch="0,65535")
    (before,) = read(out)
    again = classify(parts, file, out, pixels=dark)
    (after,) = read(out)
    assert (default.predicted, again.predicted, again.removed) == (1, 1, 1) and after["key"] != before["key"]
    shown = Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    expected = MttvPipeline(model=parts[0], processor=parts[1])({"text": "fake", "image": shown})
    assert after["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert classify(parts, file, out, pixels=dark).done_before == 1
    (row,) = PostClassifier(parts, pixels=dark)([{"text": "fake", "image": tmp_path / "deep.png"}])
    assert row.scores == pytest.approx(after["scores"], abs=1e-5)
    assert abs(before["score"] - after["score"]) > 1e-6


def posts_file(folder: Path, *posts: dict) -> Path:
    file = folder / "some.jsonl"
    file.write_text("\n".join(json.dumps(post) for post in posts), encoding="utf-8")
    return file


@pytest.mark.parametrize("given", [None, detector])
def test_predictions_equal_those_of_the_pipeline(parts, folder, tmp_path, given):
    model, processor = parts
    report = classify(parts, folder / "posts.jsonl", tmp_path / "new" / "out.jsonl", detector=given)
    rows = read(tmp_path / "new" / "out.jsonl")
    assert [row["id"] for row in rows] == [f"p{number}" for number in range(30)]
    assert (report.predicted, report.done_before, report.skipped) == (30, 0, 1)
    assert [row["line"] for row in rows] == [line for line in range(1, 32) if line != 11]
    pipeline = MttvPipeline(model=model, processor=processor, detector=given, device="cpu")
    for row, line in zip(
        rows, (folder / "posts.jsonl").read_text().replace('{"id": "bad"\n', "").splitlines(), strict=True
    ):
        post = json.loads(line)
        post = {"text": post["text"], "image": str(folder / post["image"]) if "image" in post else None}
        expected = pipeline(post)
        assert row["label"] == expected["label"]
        assert row["scores"] == pytest.approx(expected["scores"], abs=2e-6)
        assert row["score"] == row["scores"][row["label"]] == max(row["scores"].values())
    assert report.labels.total() == 30 and set(report.labels) <= {"fake", "real"}
    assert read(tmp_path / "new" / "out.skipped.jsonl") == [report.first_skipped[0]._asdict()]
    assert report.first_skipped[0].line == 11 and "not JSON" in report.first_skipped[0].reason


def test_a_second_run_classifies_only_what_is_new(parts, folder, tmp_path):
    file, out = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    lines = ['{"id": 1, "text": "fake"}', '{"text": "假"}', "no json", '{"id": "1", "image": "a.png"}']
    file.write_text("\n".join(lines), encoding="utf-8")
    first = classify(parts, file, out)
    assert (first.predicted, first.skipped) == (2, 2)
    assert [row["id"] for row in read(out)] == [1, "line 2"]
    assert [(row["line"], row["id"]) for row in read(tmp_path / "out.skipped.jsonl")] == [(3, "line 3"), (4, "1#2")]
    before = out.read_bytes()
    again = classify(parts, file, out)
    assert (again.predicted, again.done_before, again.skipped) == (0, 2, 2) and out.read_bytes() == before

    (tmp_path / "a.png").write_bytes(odd_images()["1x1.png"])
    file.write_text("\n".join([lines[0], lines[1], '{"id": 3, "text": "new"}', lines[3]]), encoding="utf-8")
    mended = classify(parts, file, out)
    assert (mended.predicted, mended.done_before, mended.skipped, mended.skipped_file) == (2, 2, 0, None)
    assert [(row["id"], row["line"]) for row in read(out)] == [(1, 1), ("line 2", 2), (3, 3), ("1", 4)]
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == [
        "a.png", "out.jsonl", "out.jsonl.journal.jsonl", "posts.jsonl",
    ]  # fmt: skip

    before = read(out)
    file.write_text(lines[1], encoding="utf-8")  # predictions of posts that are gone are kept, and come back
    only = classify(parts, file, out)
    assert (only.predicted, only.done_before, only.removed) == (0, 1, 3)
    assert read(out) == [{**before[1], "id": "line 1", "line": 1}]
    file.write_text("\n".join([lines[0], lines[1], '{"id": 3, "text": "new"}', lines[3]]), encoding="utf-8")
    again = classify(parts, file, out)
    assert (again.predicted, again.done_before, again.removed) == (0, 4, 0) and read(out) == before


def test_a_killed_run_loses_one_batch_at_most(parts, folder, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    classify(parts, folder / "posts.jsonl", whole)
    predict = classify_module.predict
    for batches in range(8):

        def dying(*arguments, batches=batches, **options):
            for number, batch in enumerate(predict(*arguments, **options)):
                if number == batches:
                    raise KeyboardInterrupt
                yield batch

        journal = tmp_path / "out.jsonl.journal.jsonl"
        out.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        monkeypatch.setattr(classify_module, "predict", dying)
        with pytest.raises(KeyboardInterrupt):
            classify(parts, folder / "posts.jsonl", out)
        assert len(read(journal)) == min(4 * batches, 30) and not out.exists()
        with open(journal, "ab") as file:  # a line that was being written
            file.write(b'{"id": "p29", "label": "fa'[: 3 * batches])
        monkeypatch.setattr(classify_module, "predict", predict)
        report = classify(parts, folder / "posts.jsonl", out)
        assert (report.predicted, report.done_before) == (30 - min(4 * batches, 30), min(4 * batches, 30))
        assert out.read_bytes() == whole.read_bytes()


def test_the_batch_does_not_matter(parts, folder, tmp_path):
    found = []
    for batch_size in (1, 7, 100):
        out = tmp_path / f"{batch_size}.jsonl"
        classify(parts, folder / "posts.jsonl", out, batch_size=batch_size)
        found.append([row["scores"]["fake"] for row in read(out)])
    assert found[1] == pytest.approx(found[0], abs=2e-6) and found[2] == pytest.approx(found[0], abs=2e-6)


def test_predictions_of_another_model_are_not_mixed_in(parts, folder, tmp_path):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    with pytest.raises(
        StmineError, match=r"holds predictions of MttvFor.*@\w{8}, the model is now .*@\w{8}\. Give another"
    ):
        classify(tiny_mttv(seed=2), file, out)
    assert len(read(out)) == 1


PREDICTED = {"id": 1, "label": "fake", "scores": {"fake": 0.6, "real": 0.4}, "model": "m"}


@pytest.mark.parametrize(
    "content",
    [
        '{"id": 1, "text": "mine"}',
        '{"id": 1, "text": "mine"}\n',
        "a letter",
        "[]\n",
        json.dumps(PREDICTED | {"label": ["fake"]}) + "\n",
        json.dumps(PREDICTED | {"scores": 0.6}) + "\n",
    ],
)
def test_files_of_the_user_are_not_overwritten(parts, tmp_path, content):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "letter.jsonl"
    out.write_text(content)
    with pytest.raises(StmineError, match="line 1: expected a result of this command"):
        classify(parts, file, out)
    assert out.read_text() == content
    with pytest.raises(StmineError, match="is the input itself"):
        classify(parts, file, file)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(StmineError, match="found a folder"):
        classify(parts, file, tmp_path / "folder.jsonl")


def test_odd_posts_are_classified_and_bad_ones_skipped(parts, tmp_path):
    for name, content in {**odd_images(), **bad_images()}.items():
        (tmp_path / name).write_bytes(content)
    texts = [{"id": name, "text": text} for name, text in ODD_TEXTS.items()]
    images = [{"id": name, "image": name} for name in [*odd_images(), *bad_images()]]
    posts = [*texts, *images, {"id": "two", "image": ["1x1.png", "cut.png"], "text": "a"}]
    report = classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl", batch_size=5)
    skipped = {row["id"]: row["reason"] for row in read(tmp_path / "out.skipped.jsonl")}
    assert set(skipped) == {"empty", "blank", *bad_images(), "two"}
    assert skipped["empty"] == "neither text nor image" and "cut.png: corrupt" in skipped["two"]
    rows = {row["id"]: row["score"] for row in read(tmp_path / "out.jsonl")}
    assert set(rows) == {row["id"] for row in posts} - set(skipped) and np.isfinite(list(rows.values())).all()
    assert report.predicted + report.skipped == len(posts)


def test_images_that_cannot_be_read_can_be_left_out(parts, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    posts = [{"id": 1, "text": "fake", "image": "bad.png"}, {"id": 2, "image": "bad.png"}, {"id": 3, "text": "fake"}]
    report = classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl", without_bad_images=True)
    assert (report.predicted, report.images_left_out, report.skipped) == (2, 1, 1)
    first, second = read(tmp_path / "out.jsonl")
    assert first["scores"] == pytest.approx(second["scores"], abs=2e-6)
    assert first["problem"].startswith("bad.png: not an image") and "problem" not in second


def test_a_model_of_texts_skips_posts_with_images(tmp_path):
    (tmp_path / "a.png").write_bytes(odd_images()["1x1.png"])
    file = posts_file(tmp_path, {"id": 1, "text": "a"}, {"id": 2, "text": "a", "image": "a.png"})
    report = classify(tiny_mttv(vision_config=None), file, tmp_path / "out.jsonl")
    assert report.predicted == 1 and "no visual encoder" in report.first_skipped[0].reason


def test_a_detector_that_fails_costs_only_the_posts_it_fails_on(parts, tmp_path):
    def failing(images):
        if any(image.width == 1 for image in images):
            raise IndexError("no room for a box")
        return detector(images)

    for name, content in odd_images().items():
        (tmp_path / name).write_bytes(content)
    file = posts_file(tmp_path, *({"id": name, "image": name, "text": "a"} for name in odd_images()))
    report = classify(parts, file, tmp_path / "out.jsonl", detector=failing)
    assert [(row.id, row.reason) for row in report.first_skipped] == [("1x1.png", "IndexError: no room for a box")]
    assert report.predicted == len(odd_images()) - 1


def test_boxes_outside_and_of_no_area_are_looked_at_as_black(parts, tmp_path):
    odd = {"outside.png": [500, 500, 600, 600], "empty.png": [5, 5, 5, 9], "swapped.png": [9, 0, 1, 5]}
    odd["infinite.png"] = [0, 0, float("inf"), 5]
    for number, name in enumerate(odd):
        noise(30 + number, 40).save(tmp_path / name)

    def finding(images):
        return [Regions(np.array([list(odd.values())[image.height - 30]]), np.ones(1)) for image in images]

    file = posts_file(tmp_path, *({"id": name, "image": name} for name in odd))
    report = classify(parts, file, tmp_path / "out.jsonl", detector=finding)
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["outside.png", "empty.png"]
    reasons = {row.id: row.reason for row in report.first_skipped}
    assert "corners are swapped" in reasons["swapped.png"] and "four finite numbers" in reasons["infinite.png"]


def test_nothing_to_classify_is_a_clear_error(parts, tmp_path):
    for posts, message in (([], "it is empty"), ([{"text": ""}], "1 rows skipped; line 1: neither text nor image")):
        with pytest.raises(StmineError, match=f"not one post can be classified \\({message}"):
            classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()


def test_broken_weights_are_reported(tmp_path):
    model, processor = tiny_mttv()
    with torch.no_grad():
        model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(StmineError, match="gives NaN"):
        classify((model, processor), posts_file(tmp_path, {"text": "a"}), tmp_path / "out.jsonl")


def by_text(out: Path, file: Path) -> list[tuple[str, float]]:
    """Text and score of each post, in the order of the output."""
    texts = dict(enumerate((json.loads(line)["text"] for line in file.read_text().splitlines()), start=1))
    return [(texts[row["line"]], row["scores"]["fake"]) for row in read(out)]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("change", ["insert", "delete", "swap", "edit", "duplicate", "edit two, insert one"])
def test_predictions_stay_with_their_posts(parts, tmp_path, named, change):
    posts = [
        {"text": f"fake news {'假' * number} {number}"} | ({"id": number} if named else {}) for number in range(12)
    ]
    out, fresh = tmp_path / "out.jsonl", tmp_path / "fresh.jsonl"
    classify(parts, posts_file(tmp_path, *posts), out)
    before = len(read(out))
    other = {"text": "another one"} | ({"id": "new"} if named else {})
    expected = {"insert": 1, "delete": 0, "swap": 0, "edit": 1, "duplicate": 1, "edit two, insert one": 3}[change]
    if "insert" in change:
        posts.insert(3, other)
    if "edit" in change:
        posts[5] = posts[5] | {"text": "edited"}
    if "two" in change:
        posts[0] = posts[0] | {"text": "edited, too"}
    if change == "delete":
        del posts[2]
    if change == "swap":
        posts[0]["text"], posts[7]["text"] = posts[7]["text"], posts[0]["text"]
    if change == "duplicate":
        posts.insert(1, posts[4] | ({"id": "again"} if named else {}))
    file = posts_file(tmp_path, *posts)
    report = classify(parts, file, out)
    assert (report.predicted, report.done_before) == (expected, len(posts) - expected)
    classify(parts, file, fresh)
    rows, others = read(out), read(fresh)
    assert [(row["id"], row["line"], row["key"]) for row in rows] == [
        (row["id"], row["line"], row["key"]) for row in others
    ]
    assert [score for _, score in by_text(out, file)] == pytest.approx(
        [score for _, score in by_text(fresh, file)], abs=2e-6
    )
    assert len(rows) == len(posts) == report.labels.total() and report.removed == before - report.done_before


def test_an_image_changed_under_its_name_is_classified_again(parts, tmp_path):
    noise(20, 30).save(tmp_path / "a.png")
    file, out = posts_file(tmp_path, {"id": 1, "image": "a.png"}, {"id": 2, "text": "a"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    stat = (tmp_path / "a.png").stat()
    content = (tmp_path / "a.png").read_bytes()
    noise(20, 31).save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert classify(parts, file, out).predicted == 1
    (tmp_path / "a.png").write_bytes(content)
    assert classify(parts, file, out).predicted == 0  # set aside in between


def test_a_post_once_classified_without_its_image_is_not_taken_for_a_whole_one(parts, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    file, out = posts_file(tmp_path, {"id": 1, "text": "a", "image": "a.png"}, {"text": "b"}), tmp_path / "out.jsonl"
    assert classify(parts, file, out, without_bad_images=True).images_left_out == 1
    whole = out.read_bytes()
    strict = classify(parts, file, out)
    assert (strict.predicted, strict.done_before, strict.skipped) == (0, 1, 1) and len(read(out)) == 1
    assert classify(parts, file, out, without_bad_images=True).done_before == 2 and out.read_bytes() == whole
    noise(20, 30).save(tmp_path / "a.png")
    assert classify(parts, file, out, without_bad_images=True).predicted == 1 and "problem" not in read(out)[0]


def test_predictions_of_version_0_1_are_made_again(parts, tmp_path):
    """They do not say of which text they are."""
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}, {"text": "b"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    rows, whole = read(out), out.read_bytes()
    for row in rows:
        del row["key"]
        row["scores"] = {"fake": 0.0, "real": 1.0}
    gone = {**rows[0], "id": "gone"}
    (tmp_path / ".stmine-outputs.jsonl").unlink()
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    out.write_text("".join(json.dumps(row) + "\n" for row in (*rows, gone)) + '{"id": "cut')
    (tmp_path / "out.skipped.jsonl").write_text('{"line": 9, "id": "line 9", "reason": "not JSON"}\n')
    report = classify(parts, file, out)
    assert (report.predicted, report.done_before, report.outdated, report.removed) == (2, 0, 2, 1)
    assert out.read_bytes() == whole and not (tmp_path / "out.skipped.jsonl").exists()
    del gone["text"]
    assert gone in read(tmp_path / "out.jsonl.journal.jsonl")


@pytest.mark.parametrize("name", ["out.skipped.jsonl", "out.removed.jsonl", "out.jsonl"])
def test_posts_at_a_derived_name_are_never_written_over(parts, tmp_path, name):
    content = '{"id": 1, "text": "a"}\n{"id": 2}\n'
    (tmp_path / name).write_text(content)
    with pytest.raises(StmineError, match="is the input itself"):
        classify(parts, tmp_path / name, tmp_path / "out.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / name)
    with pytest.raises(StmineError, match="is the input itself"):
        classify(parts, tmp_path / "link.jsonl", tmp_path / "out.jsonl")
    (tmp_path / "posts.jsonl").write_text(content)
    with pytest.raises(StmineError, match=name.replace(".", r"\.")):
        classify(parts, tmp_path / "posts.jsonl", tmp_path / "out.jsonl")
    assert (tmp_path / name).read_text() == content and (tmp_path / "posts.jsonl").read_text() == content


def test_an_output_that_was_edited_is_not_replaced(parts, tmp_path):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    edited = out.read_text().replace("fake", "FAKE")
    out.write_text(edited)
    with pytest.raises(StmineError, match="was changed since"):
        classify(parts, file, out)
    assert out.read_text() == edited


def test_a_second_writer_is_refused(parts, folder, tmp_path, monkeypatch):
    out, predict, refused = tmp_path / "out.jsonl", classify_module.predict, []

    def beside(*arguments, **options):
        for batch in predict(*arguments, **options):
            yield batch
            if not refused:
                monkeypatch.setattr(classify_module, "predict", predict)
                with pytest.raises(StmineError, match="another run is writing"):
                    classify(parts, folder / "posts.jsonl", out)
                refused.append(True)

    monkeypatch.setattr(classify_module, "predict", beside)
    report = classify(parts, folder / "posts.jsonl", out)
    assert refused and len(read(out)) == report.predicted == report.labels.total() == 30


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "parquet"])
def test_the_format_follows_from_the_name(parts, folder, tmp_path, suffix, monkeypatch):
    out, predict = tmp_path / f"out.{suffix}", classify_module.predict
    classify(parts, folder / "posts.jsonl", tmp_path / "lines.jsonl")
    expected = read(tmp_path / "lines.jsonl")

    def dying(*arguments, **options):
        yield next(predict(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(classify_module, "predict", dying)
    with pytest.raises(KeyboardInterrupt):
        classify(parts, folder / "posts.jsonl", out)
    assert not out.exists()
    monkeypatch.setattr(classify_module, "predict", predict)
    report = classify(parts, folder / "posts.jsonl", out)
    assert (report.done_before, report.predicted, report.skipped_file) == (
        4,
        26,
        tmp_path / f"out.{suffix}.skipped.jsonl",
    )
    if suffix == "json":
        assert json.loads(out.read_text()) == expected
    else:
        if suffix == "parquet":
            rows = pq.read_table(out).to_pylist()
        else:
            with open(out, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, delimiter="," if suffix == "csv" else "\t"))
        assert [(row["id"], int(row["line"]), row["label"], float(row["score_fake"]), row["key"]) for row in rows] == [
            (row["id"], row["line"], row["label"], row["scores"]["fake"], row["key"]) for row in expected
        ]
    content = out.read_bytes()
    assert classify(parts, folder / "posts.jsonl", out).done_before == 30 and out.read_bytes() == content
    out.write_bytes(content + b" ")
    with pytest.raises(StmineError, match="was changed since"):
        classify(parts, folder / "posts.jsonl", out)


@pytest.mark.parametrize("name", ["out.txt", "out", "out.xlsx"])
def test_an_unknown_format_is_refused(parts, folder, tmp_path, name):
    with pytest.raises(StmineError, match=r"expected a file name that ends with \.jsonl"):
        classify(parts, folder / "posts.jsonl", tmp_path / name)


def test_ids_that_were_made_unique_are_counted(parts, tmp_path):
    posts = [{"id": 7, "text": "fake"}, {"id": "7", "text": "true"}, {"id": 8, "text": "fake"}]
    report = classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl")
    assert report.renamed == 1 and [row["id"] for row in read(tmp_path / "out.jsonl")] == [7, "7", 8]
    assert [row["line"] for row in read(tmp_path / "out.jsonl")] == [1, 2, 3]
    assert [row["id"] for row in read(tmp_path / "out.jsonl.journal.jsonl")] == [7, "7#2", 8]


def own_csv(folder: Path, name: str = "own.csv") -> Path:
    """Twelve posts with the user's own columns, of which two have names of ours and one row cannot be classified."""
    rows = [
        [f"n{n}", f"fake news 假 {n}", n * 1.5, ("fake", "Real", "谣言", "")[n % 4], f"mine {n}"] for n in range(12)
    ]
    rows[5][1] = ""
    file = folder / name
    with open(file, "w", encoding="gb18030", newline="") as opened:
        csv.writer(opened).writerows([["编号", "正文", "热度", "label", "score"], *rows])
    return file


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_predictions_keep_the_users_rows(parts, tmp_path, suffix):
    file, out = own_csv(tmp_path), tmp_path / f"out.{suffix}"
    report = classify(parts, file, out, encoding="gb18030")
    assert report.renamed_columns == ({"label": "predicted_label", "score": "predicted_score"}) and (
        report.predicted,
        report.skipped,
    ) == (11, 1)
    with open(file, encoding="gb18030", newline="") as opened:
        given = [row for row in csv.DictReader(opened) if row["正文"]]
    if suffix == "csv":
        with open(out, encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    elif suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = read(out) if suffix == "jsonl" else json.loads(out.read_text(encoding="utf-8"))
    own = ["编号", "正文", "热度", "label", "score"]
    assert [{name: row[name] for name in own} for row in rows] == given
    ours = "predicted_label" if suffix in ("jsonl", "json") else "line"
    assert [*rows[0]][:6] == [*own, ours]
    assert [int(row["line"]) for row in rows] == [line for line in range(2, 14) if line != 7]
    again = PostClassifier(parts)([row["正文"] for row in given])
    assert [row["predicted_label"] for row in rows] == [answer.label for answer in again]
    assert [float(row["predicted_score"]) for row in rows] == pytest.approx([a.score for a in again], abs=2e-6)
    assert "id" not in rows[0] and "text" not in rows[0]
    content = out.read_bytes()
    assert classify(parts, file, out, encoding="gb18030").done_before == 11 and out.read_bytes() == content


def test_cells_changed_later_are_those_of_the_output(parts, tmp_path):
    """A prediction belongs to the content: a row whose other cells changed keeps it, and shows the new cells."""
    file, out, fresh = tmp_path / "own.csv", tmp_path / "out.csv", tmp_path / "fresh.csv"
    file.write_text("text,note\nfake news,old\nreal news,old\n")
    classify(parts, file, out)
    file.write_text("text,topic,note\nreal news,a,new\nfake news,b,new\n")
    assert classify(parts, file, out).predicted == 0 and classify(parts, file, fresh).predicted == 2
    assert out.read_bytes() == fresh.read_bytes() and "real news,a,new,line 2,2," in out.read_text()


def test_cells_of_every_type_are_kept(parts, tmp_path):
    posts = [
        {"text": "fake", "n": 1, "x": 1.5, "ok": True, "tags": ["a", "b"], "more": {"k": None}, "mixed": 1},
        {"text": "real", "n": None, "mixed": "one", "late": 2**70},
    ]
    file = posts_file(tmp_path, *posts)
    classify(parts, file, tmp_path / "out.jsonl")
    assert [
        {name: row[name] for name in post} for row, post in zip(read(tmp_path / "out.jsonl"), posts, strict=True)
    ] == posts
    classify(parts, file, tmp_path / "out.parquet")
    first, second = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (first["n"], first["x"], first["ok"], first["tags"]) == (1, 1.5, True, '["a", "b"]')
    assert (second["n"], first["mixed"], second["mixed"], second["late"]) == (None, "1", "one", str(2**70))
    classify(parts, file, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as opened:
        assert next(csv.DictReader(opened))["tags"] == '["a", "b"]'


def test_agreement_with_the_labels_of_the_file(parts, tmp_path):
    """With the figures of `stmine evaluate`; words that are not the model's labels are counted, not guessed."""
    file, out = own_csv(tmp_path), tmp_path / "out.csv"
    found = classify(parts, file, out, encoding="gb18030").agreement
    assert (found.column, found.compared, found.unknown, found.without) == ("label", 5, {"谣言": 3}, 3)
    meant = classify(parts, file, out, encoding="gb18030", label_names={"谣言": "fake"}).agreement
    assert (meant.compared, meant.unknown) == (8, {})
    with open(file, encoding="gb18030", newline="") as opened:
        given = [row for row in csv.DictReader(opened) if row["正文"] and row["label"]]
    truth = {"Real": "real", "谣言": "fake", "fake": "fake"}
    rows = [{"post_id": row["编号"], "text": row["正文"], "label": truth[row["label"]]} for row in given]
    measured = evaluate_posts(*parts, rows, progress=False)
    assert meant.accuracy == measured.metrics["accuracy"] and meant.macro_f1 == measured.metrics["macro_f1"]
    assert meant.confusion.tolist() == measured.confusion.tolist()
    with pytest.raises(StmineError, match="label 'hoax': the model's labels are fake, real"):
        classify(parts, file, out, encoding="gb18030", label_names={"谣言": "hoax"})


def test_an_output_of_version_0_2_is_resumed(parts, folder, tmp_path):
    """Its JSON lines are the journal, without the user's columns; removed predictions are in a file of their own."""
    new, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    posts = [{"id": n, "text": f"fake news {n}", "note": "mine"} for n in range(6)]
    file = posts_file(tmp_path, *posts)
    classify(parts, file, new)
    journal = read(tmp_path / "new.jsonl.journal.jsonl")
    former = [{"id": row["id"], "text": posts[row["id"]]["text"], **row} for row in journal]
    lines = [json.dumps(row) + "\n" for row in former]
    with Outputs(tmp_path, file=out.name) as outputs:
        with outputs.open_growing(out.name) as opened:
            opened.write("".join(lines[:3]).encode() + b'{"id": 9, "te')  # killed while it wrote a line
        outputs.write("out.removed.jsonl", lambda path: path.write_text(lines[4]))
    report = classify(parts, file, out)
    assert (report.done_before, report.predicted, report.removed) == (4, 2, 0)
    assert read(out) == read(new) and not (tmp_path / "out.removed.jsonl").exists()
    assert classify(parts, file, out).done_before == 6


def test_an_output_whose_journal_is_gone_is_not_misread(parts, tmp_path):
    """The user's `label` is not taken for a prediction."""
    file, out = (
        posts_file(tmp_path, {"text": "fake news", "label": "real"}, {"text": "假", "label": "fake"}),
        tmp_path / "out.jsonl",
    )
    classify(parts, file, out)
    whole = out.read_bytes()
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    report = classify(parts, file, out)
    assert (report.predicted, report.done_before) == (2, 0) and out.read_bytes() == whole


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.mark.parametrize("moved", [True, False])
def test_another_model_or_a_kill_costs_no_prediction_of_an_earlier_version(parts, tmp_path, monkeypatch, moved):
    file, out = posts_file(tmp_path, *({"id": n, "text": f"fake news {n}"} for n in range(6))), tmp_path / "out.jsonl"
    classify(parts, file, out)
    whole = out.read_bytes()
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    if moved:
        (tmp_path / ".stmine-outputs.jsonl").unlink()
    before = files_of(tmp_path)
    with pytest.raises(StmineError, match="holds predictions of"):
        classify(tiny_mttv(seed=2), file, out)
    assert files_of(tmp_path) == before

    accept, times = classify_module._Known.accept, []

    def killed(*arguments):
        times.append(1)
        if len(times) == 3:
            raise KeyboardInterrupt
        return accept(*arguments)

    monkeypatch.setattr(classify_module._Known, "accept", killed)
    with pytest.raises(KeyboardInterrupt):
        classify(parts, file, out)
    monkeypatch.undo()
    report = classify(parts, file, out)
    assert (report.predicted, report.done_before, report.removed) == (0, 6, 0) and out.read_bytes() == whole


def test_another_model_leaves_the_list_of_files_as_it_is(parts, tmp_path):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    before = files_of(tmp_path)
    with pytest.raises(StmineError, match="holds predictions of"):
        classify(tiny_mttv(seed=2), file, out)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "posts",
    [
        [{"编号": "x1", "正文": "fake"}, {"编号": "x2", "正文": "news"}],
        [{"id": 1, "text": "fake", "problem": "mine"}, {"id": 2, "text": "news", "warning": "w", "engine": "diesel"}],
        [{"text": "fake", "id": 1}, {"text": "news", "id": 2}],
    ],
)
def test_columns_of_the_user_in_an_output_without_journal_are_not_taken_for_ours(parts, tmp_path, posts):
    file, out = posts_file(tmp_path, *posts), tmp_path / "out.jsonl"
    classify(parts, file, out)
    whole = out.read_bytes()
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    report = classify(parts, file, out)  # the list of outputs knows it
    assert (report.predicted, report.done_before, report.removed) == (2, 0, 0) and out.read_bytes() == whole

    for name in (".stmine-outputs.jsonl", "out.jsonl.journal.jsonl"):
        (tmp_path / name).unlink()
    with pytest.raises(StmineError, match=r"its journal out\.jsonl\.journal\.jsonl is gone: it is not replaced"):
        classify(parts, file, out)
    assert out.read_bytes() == whole


def test_an_output_without_journal_that_was_edited_is_not_replaced(parts, tmp_path):
    file, out = posts_file(tmp_path, {"id": 1, "text": "fake"}, {"id": 2, "text": "news"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    (tmp_path / "out.jsonl.journal.jsonl").unlink()
    edited = out.read_text() + '{"mine": 1}\n'
    out.write_text(edited)
    with pytest.raises(StmineError, match="was changed since"):
        classify(parts, file, out)
    (tmp_path / ".stmine-outputs.jsonl").unlink()
    with pytest.raises(StmineError, match="line 3: expected a result of this command"):
        classify(parts, file, out)
    with Outputs(tmp_path, file=out.name) as outputs:  # as version 0.2 left it when it was killed
        outputs.adopt([out.name])
        outputs.open_growing(out.name).close()
    with pytest.raises(StmineError, match="line 3: expected a result of this command"):
        classify(parts, file, out)
    assert out.read_text() == edited


def test_rows_without_id_have_none_in_a_table(parts, tmp_path):
    """The user's column keeps its type; `line` tells the rows apart."""
    file, out = posts_file(tmp_path, {"id": 1, "text": "fake"}, {"text": "news"}), tmp_path / "out.parquet"
    classify(parts, file, out)
    assert [(row["id"], row["line"]) for row in pq.read_table(out).to_pylist()] == [(1, 1), (None, 2)]
    classify(parts, file, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as opened:
        assert [row["id"] for row in csv.DictReader(opened)] == ["1", ""]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_half_a_surrogate_pair_in_any_cell_or_key(parts, tmp_path, suffix):
    file, out = tmp_path / "posts.jsonl", tmp_path / f"out.{suffix}"
    rows = [r'{"text": "fake \ud83d", "k\ud83d": "x\ud83d", "more": [{"\ud83d": "y\ud83d"}]}', '{"text": "news"}']
    file.write_text("\n".join(rows))
    assert classify(parts, file, out).predicted == 2
    if suffix == "parquet":
        row = pq.read_table(out).to_pylist()[0]
    elif suffix in ("csv", "tsv"):
        with open(out, encoding="utf-8", newline="") as opened:
            row = next(csv.DictReader(opened, delimiter="," if suffix == "csv" else "\t"))
    else:
        row = (read(out) if suffix == "jsonl" else json.loads(out.read_text(encoding="utf-8")))[0]
    more = [{"\ufffd": "y\ufffd"}]
    assert (row["text"], row["k\ufffd"]) == ("fake \ufffd", "x\ufffd")
    assert row["more"] == (more if suffix in ("jsonl", "json") else json.dumps(more, ensure_ascii=False))


def test_numbers_keep_their_values_in_a_table(parts, tmp_path):
    posts = [
        {"text": "fake", "whole": 2**60, "mixed": 1, "infinite": 1.5, "long": 2**70, "exact": 2**60 + 1, "b": True},
        {"text": "news", "whole": 3, "mixed": 2.5, "infinite": float("inf"), "long": 3, "exact": 0.5, "b": 1},
    ]
    file, out = posts_file(tmp_path, *posts), tmp_path / "out.parquet"
    classify(parts, file, out)
    table = pq.read_table(out)
    kinds = {name: str(table.schema.field(name).type) for name in posts[0]}
    assert kinds == {
        "text": "string", "whole": "int64", "mixed": "double", "infinite": "double", "long": "string",
        "exact": "string", "b": "string",
    }  # fmt: skip
    first, second = table.to_pylist()
    assert (first["whole"], first["mixed"], second["mixed"], second["infinite"]) == (2**60, 1.0, 2.5, float("inf"))
    assert (first["long"], second["long"], first["exact"], second["exact"]) == (str(2**70), "3", str(2**60 + 1), "0.5")
    classify(parts, file, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[1]["infinite"] == "inf"  # JSON has no such number


def test_a_table_with_two_columns_of_one_name_is_refused(parts, tmp_path):
    columns = [pa.array(["fake"]), pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "note", "note"]), tmp_path / "posts.parquet")
    with pytest.raises(StmineError, match=r"posts\.parquet: column 'note' occurs twice"):
        classify(parts, tmp_path / "posts.parquet", tmp_path / "out.jsonl")


def test_of_any_number_of_keys_the_users_label_is_kept(parts, tmp_path):
    many = {f"k{number}": number for number in range(2100)}
    file = posts_file(tmp_path, {"text": "fake", **many}, {"text": "news", "label": "mine", "score_fake": 7})
    report = classify(parts, file, tmp_path / "out.jsonl")
    first, second = read(tmp_path / "out.jsonl")
    assert first["k2099"] == 2099 and second["label"] == "mine" and second["predicted_label"] in ("fake", "real")
    assert report.columns_left_out == 0 and report.renamed_columns["score_fake"] == "predicted_score_fake"
    assert classify(parts, file, tmp_path / "out.csv").columns_left_out >= 1000


def test_a_cell_of_great_depth(parts, tmp_path):
    deep = "[" * 900 + '{"a": 1, "b": ["x", null]}, 2' + "]" * 900
    file, out = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    file.write_text(f'{{"text": "fake", "cell": {deep}}}\n')
    assert classify(parts, file, out).predicted == 1
    (row,) = read(out)
    cell, depth = row["cell"], 0
    while isinstance(cell, list):
        (cell,), depth = cell, depth + 1
    assert depth == 100 and "[" * depth + cell + "]" * depth == deep
    assert classify(parts, file, tmp_path / "out.parquet").predicted == 1


def test_a_score_beside_two_of_the_users_keeps_its_type(parts, tmp_path):
    file, out = posts_file(tmp_path, {"text": "a", "score": "x", "predicted_score": "y"}), tmp_path / "out.parquet"
    classify(parts, file, out)
    schema = pq.read_schema(out)
    assert [str(schema.field(f"{before}score").type) for before in ("", "predicted_", "predicted_predicted_")] == [
        "string", "string", "double",
    ]  # fmt: skip


def test_words_that_are_no_labels_are_bounded(parts, tmp_path):
    posts = [{"text": "fake", "label": f"word {number}"} for number in range(60)]
    found = classify(parts, posts_file(tmp_path, *posts, posts[7]), tmp_path / "out.csv").agreement
    assert (len(found.unknown), found.more_unknown, found.unknown["word 7"]) == (50, 10, 2)
    assert found.to_dict()["more_unknown_labels"] == 10
