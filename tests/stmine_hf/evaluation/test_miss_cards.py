"""The worst misses of retrieval and of posts: the worst come first, and are drawn with images and texts."""

from __future__ import annotations

import pytest
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from PIL import Image
from post_rows import post_rows
from toy_rows import toy_rows

from stmine_hf.evaluation.classification import evaluate_posts
from stmine_hf.evaluation.miss_cards import MOST, MissCard, cards_sheet
from stmine_hf.evaluation.retrieval import evaluate_retrieval


def test_captions_whose_image_came_last(tmp_path):
    rows = toy_rows(8)
    report = evaluate_retrieval(*tiny_fisvl(), rows, progress=False)
    worst, ranks = report.worst, report.same_text_ranks.text_to_image
    assert 0 < len(worst) <= min(MOST, 8) and len({card.truth for card in worst}) == len(worst)
    assert worst[0].said.endswith(f"the right image {ranks.max() + 1} of 8")
    row = next(row for row in rows if row["filename"] == worst[0].truth)
    assert worst[0].text in row["captions"] and all(image is not None for image in worst[0].images)
    report.save(tmp_path)
    with Image.open(tmp_path / "worst_misses.png") as sheet:
        assert sheet.width > 600
    assert evaluate_retrieval(*tiny_fisvl(), list(rows), progress=False).worst == []  # of a list no row is read again


def test_wrong_predictions_the_surest_first(tmp_path):
    rows = post_rows(16)
    report = evaluate_posts(*tiny_mttv(), rows, progress=False)
    wrong = [place for place, label in enumerate(report.truth) if report.predicted[place] != label]
    assert len(report.worst) == min(len(wrong), MOST) > 0
    surest = max(wrong, key=lambda place: report.probabilities[place].max())
    label, said = report.labels[report.truth[surest]], report.labels[report.predicted[surest]]
    assert report.worst[0].truth == f"{report.post_ids[surest]}: {label}"
    assert report.worst[0].said == f"predicted {said}, {report.probabilities[surest].max():.0%}"
    report.save(tmp_path)
    assert (tmp_path / "worst_misses.png").is_file()


@pytest.mark.parametrize("count", [1, 3])
def test_long_texts_and_missing_images_are_drawn(count):
    long = MissCard([None, Image.new("RGB", (20, 180))], "a" * 300, "b c " * 100, "紧急扩散 " * 200)
    sheet = cards_sheet([long] * count, title="title " * 40)
    assert sheet.height > 180 * -(-count // 2)
