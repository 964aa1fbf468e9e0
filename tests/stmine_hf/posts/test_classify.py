"""A file of posts in, a file of verdicts out: equal to judging one by one, nothing lost, nothing judged twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv
from odd_posts import ODD_TEXTS, bad_images, noise, odd_images

from stmine_hf.errors import StmineError
from stmine_hf.modeling.mttv.pipeline_mttv import MttvPipeline
from stmine_hf.modeling.mttv.processing_mttv import Regions
from stmine_hf.posts import classify as classifying
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


def posts_file(folder: Path, *posts: dict) -> Path:
    file = folder / "some.jsonl"
    file.write_text("\n".join(json.dumps(post) for post in posts), encoding="utf-8")
    return file


@pytest.mark.parametrize("given", [None, detector])
def test_verdicts_equal_those_of_the_pipeline(parts, folder, tmp_path, given):
    model, processor = parts
    report = classify(parts, folder / "posts.jsonl", tmp_path / "new" / "out.jsonl", detector=given)
    rows = read(tmp_path / "new" / "out.jsonl")
    assert [row["id"] for row in rows] == [f"p{number}" for number in range(30)]
    assert (report.judged, report.done_before, report.skipped) == (30, 0, 1)
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
    assert report.verdicts.total() == 30 and set(report.verdicts) <= {"fake", "real"}
    assert read(tmp_path / "new" / "out.skipped.jsonl") == [report.first_skipped[0]._asdict()]
    assert report.first_skipped[0].line == 11 and "not JSON" in report.first_skipped[0].reason


def test_a_second_run_judges_only_what_is_new(parts, folder, tmp_path):
    file, out = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    lines = ['{"id": 1, "text": "fake"}', '{"text": "假"}', "no json", '{"id": "1", "image": "a.png"}']
    file.write_text("\n".join(lines), encoding="utf-8")
    first = classify(parts, file, out)
    assert (first.judged, first.skipped) == (2, 2) and [row["id"] for row in read(out)] == [1, "line 2"]
    assert [(row["line"], row["id"]) for row in read(tmp_path / "out.skipped.jsonl")] == [(3, "line 3"), (4, "1")]
    before = out.read_bytes()
    again = classify(parts, file, out)
    assert (again.judged, again.done_before, again.skipped) == (0, 2, 2) and out.read_bytes() == before

    (tmp_path / "a.png").write_bytes(odd_images()["1x1.png"])
    file.write_text("\n".join([lines[0], lines[1], '{"id": 3, "text": "new"}', lines[3]]), encoding="utf-8")
    mended = classify(parts, file, out)
    assert (mended.judged, mended.done_before, mended.skipped, mended.skipped_file) == (2, 2, 0, None)
    assert [row["id"] for row in read(out)] == [1, "line 2", 3, "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out.jsonl", "posts.jsonl"]

    file.write_text(lines[1], encoding="utf-8")  # the verdicts of posts that are gone stay
    assert classify(parts, file, out).judged == 1 and len(read(out)) == 5


def test_a_killed_run_loses_one_batch_at_most(parts, folder, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    classify(parts, folder / "posts.jsonl", whole)
    judge = classifying.judge
    for batches in range(8):

        def dying(*arguments, batches=batches, **options):
            for number, batch in enumerate(judge(*arguments, **options)):
                if number == batches:
                    raise KeyboardInterrupt
                yield batch

        out.unlink(missing_ok=True)
        monkeypatch.setattr(classifying, "judge", dying)
        with pytest.raises(KeyboardInterrupt):
            classify(parts, folder / "posts.jsonl", out)
        assert len(read(out)) == min(4 * batches, 30)
        with open(out, "ab") as file:  # a line that was being written
            file.write(b'{"id": "p29", "label": "fa'[: 3 * batches])
        monkeypatch.setattr(classifying, "judge", judge)
        report = classify(parts, folder / "posts.jsonl", out)
        assert (report.judged, report.done_before) == (30 - min(4 * batches, 30), min(4 * batches, 30))
        for one, other in zip(read(out), read(whole), strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=2e-6)
            assert {**one, "score": 0, "scores": 0} == {**other, "score": 0, "scores": 0}


def test_the_batch_does_not_matter(parts, folder, tmp_path):
    found = []
    for batch_size in (1, 7, 100):
        out = tmp_path / f"{batch_size}.jsonl"
        classify(parts, folder / "posts.jsonl", out, batch_size=batch_size)
        found.append([row["scores"]["fake"] for row in read(out)])
    assert found[1] == pytest.approx(found[0], abs=2e-6) and found[2] == pytest.approx(found[0], abs=2e-6)


def test_verdicts_of_another_model_are_not_mixed_in(parts, folder, tmp_path):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "out.jsonl"
    classify(parts, file, out)
    with pytest.raises(
        StmineError, match=r"holds verdicts of MttvFor.*@\w{8}, the model is now .*@\w{8}\. Give another"
    ):
        classify(tiny_mttv(seed=2), file, out)
    assert len(read(out)) == 1


@pytest.mark.parametrize("content", ['{"id": 1, "text": "mine"}', '{"id": 1, "text": "mine"}\n', "a letter", "[]\n"])
def test_files_of_the_user_are_not_overwritten(parts, tmp_path, content):
    file, out = posts_file(tmp_path, {"id": 1, "text": "a"}), tmp_path / "letter.jsonl"
    out.write_text(content)
    with pytest.raises(StmineError, match="line 1: no verdict of this command"):
        classify(parts, file, out)
    assert out.read_text() == content
    with pytest.raises(StmineError, match="the posts themselves"):
        classify(parts, file, file)
    with pytest.raises(StmineError, match="found a folder"):
        classify(parts, file, tmp_path)


def test_odd_posts_are_judged_and_bad_ones_skipped(parts, tmp_path):
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
    assert report.judged + report.skipped == len(posts)


def test_images_that_cannot_be_read_can_be_left_out(parts, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    posts = [{"id": 1, "text": "fake", "image": "bad.png"}, {"id": 2, "image": "bad.png"}, {"id": 3, "text": "fake"}]
    report = classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl", without_bad_images=True)
    assert (report.judged, report.images_left_out, report.skipped) == (2, 1, 1)
    first, second = read(tmp_path / "out.jsonl")
    assert first["scores"] == pytest.approx(second["scores"], abs=2e-6)
    assert first["problem"].startswith("bad.png: not an image") and "problem" not in second


def test_a_model_of_texts_skips_posts_with_images(tmp_path):
    (tmp_path / "a.png").write_bytes(odd_images()["1x1.png"])
    file = posts_file(tmp_path, {"id": 1, "text": "a"}, {"id": 2, "text": "a", "image": "a.png"})
    report = classify(tiny_mttv(vision_config=None), file, tmp_path / "out.jsonl")
    assert report.judged == 1 and "no visual encoder" in report.first_skipped[0].reason


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
    assert report.judged == len(odd_images()) - 1


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


def test_nothing_to_judge_is_a_clear_error(parts, tmp_path):
    for posts, message in (([], "it is empty"), ([{"text": ""}], "1 rows skipped; line 1: neither text nor image")):
        with pytest.raises(StmineError, match=f"not one post can be judged \\({message}"):
            classify(parts, posts_file(tmp_path, *posts), tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()


def test_broken_weights_are_told(tmp_path):
    model, processor = tiny_mttv()
    with torch.no_grad():
        model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(StmineError, match="gives NaN"):
        classify((model, processor), posts_file(tmp_path, {"text": "a"}), tmp_path / "out.jsonl")
