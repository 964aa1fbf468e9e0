"""Recall equals the release's `itm_eval` on its stored matrices and a double loop elsewhere, ties included."""

from __future__ import annotations

import doctest
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stmine_hf.metrics import retrieval
from stmine_hf.metrics.retrieval import (
    recall_curve,
    recall_of_ranks,
    retrieval_ranks,
    retrieval_recall,
    same_text_answers,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "fisvl"
CASES = json.loads((FIXTURES / "metrics.json").read_text())["cases"]
MATRICES = load_file(FIXTURES / "metrics.safetensors")


def loop_ranks(scores, answers) -> list[int]:
    """Rank of the best right answer to each query: sort, then walk down the list."""
    ranks = []
    for row, right in zip(scores, answers, strict=True):
        order = sorted(range(len(row)), key=lambda j: (row[j], j), reverse=True)
        ranks.append(next(rank for rank, j in enumerate(order) if j in right))
    return ranks


@pytest.mark.parametrize("name", CASES)
def test_recall_parity(name, parity):
    case, scores = CASES[name], MATRICES[name]
    ours = retrieval_recall(scores, texts_per_image=case["texts_per_image"])
    assert list(ours) == list(case["official"])
    # the reference is rounded to two digits; with ties its own sort depends on the machine, so a stable one stands in
    reference = case["stable_sort"] if case["quantised"] else case["official"]
    parity(f"recall {name}", max(abs(ours[key] - reference[key]) for key in ours), 0.005 + 1e-9)
    for key, value in ours.items():
        assert case["ties_counted_against"][key] - 0.005 <= value <= case["ties_counted_for"][key] + 0.005
    ranks = retrieval_ranks(scores, texts_per_image=case["texts_per_image"])
    assert ranks.image_to_text.tolist() == case["ranks_i2t_stable"]
    assert ranks.text_to_image.tolist() == case["ranks_t2i_stable"]


@pytest.mark.parametrize("chunk", [1, 40, 1 << 22])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_equals_double_loops_with_ties_and_ragged_answers(levels, chunk, monkeypatch):
    monkeypatch.setattr(retrieval, "CACHED", chunk)
    random = np.random.default_rng(levels)
    for _ in range(10):
        scores = random.integers(0, levels, size=(7, 20)).astype(np.float32)
        owner = np.concatenate([np.arange(7), random.integers(0, 7, size=13)])
        random.shuffle(owner)
        image_to_texts = [np.flatnonzero(owner == image).tolist() for image in range(7)]
        ranks = retrieval_ranks(scores, image_to_texts, owner)
        assert ranks.image_to_text.tolist() == loop_ranks(scores, image_to_texts)
        assert ranks.text_to_image.tolist() == loop_ranks(scores.T, [[image] for image in owner])
        for one_mapping in ({"image_to_texts": image_to_texts}, {"text_to_image": owner}):
            again = retrieval_ranks(scores, **one_mapping)
            assert all((a == b).all() for a, b in zip(again, ranks, strict=True))
        for k in (1, 5, 10):
            recall = recall_of_ranks(ranks, (k,))
            first = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k].tolist()
            found = [bool(set(first[image]) & set(image_to_texts[image])) for image in range(7)]
            assert recall[f"txt_r{k}"] == pytest.approx(100 * sum(found) / 7)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("columns", [1, 9, 600])
def test_blocks_of_many_rows_equal_double_loops(columns, kind):
    """More rows than an 8-bit sum holds, more columns than two of its lanes, ties in each block and across blocks."""
    random = np.random.default_rng(columns)
    scores = random.integers(-3, 3, size=(600, columns)).astype(kind)
    grouped = np.sort(random.integers(0, 600, size=columns))
    right = random.integers(0, columns, size=600)
    for owner in (grouped, random.permutation(grouped)):
        ranks = retrieval_ranks(scores, right[:, None].tolist(), owner)
        for found, of, places in ((ranks[0], scores, right), (ranks[1], scores.T, owner)):
            for query in range(0, len(of), 7):
                row, place = of[query], int(places[query])
                assert found[query] == (row > row[place]).sum() + (row[place + 1 :] == row[place]).sum()
    transposed = retrieval_ranks(scores.T, owner[:, None].tolist(), right)
    assert transposed.image_to_text.tolist() == ranks.text_to_image.tolist()
    assert transposed.text_to_image.tolist() == ranks.image_to_text.tolist()


@pytest.mark.filterwarnings("error")
def test_infinite_and_huge_scores_are_scores():
    scores = np.array([[np.inf, -np.inf, 3e38, -3e38], [-np.inf, np.inf, -np.inf, -np.inf]], np.float32)
    ranks = retrieval_ranks(scores, [[2], [0]], [0, 1, 1, 1])
    assert ranks.image_to_text.tolist() == [1, 3] and ranks.text_to_image.tolist() == [0, 0, 1, 1]
    scores[1, 3] = np.nan
    with pytest.raises(ValueError, match="scores hold NaN"):
        retrieval_ranks(scores, [[2], [0]], [0, 1, 1, 1])


def test_the_variant_of_same_texts_equals_double_loops():
    random = np.random.default_rng(0)
    for _ in range(10):
        captions = [[f"caption {random.integers(0, 8)}" for _ in range(random.integers(1, 4))] for _ in range(6)]
        texts = [text for own in captions for text in own]
        scores = random.integers(0, 4, size=(6, len(texts)))
        image_to_texts, text_to_image = same_text_answers(captions)
        assert image_to_texts == [[j for j, text in enumerate(texts) if text in own] for own in captions]
        assert text_to_image == [[i for i, own in enumerate(captions) if text in own] for text in texts]
        ranks = retrieval_ranks(scores, image_to_texts, text_to_image)
        assert ranks.image_to_text.tolist() == loop_ranks(scores, image_to_texts)
        assert ranks.text_to_image.tolist() == loop_ranks(scores.T, text_to_image)


def test_the_variant_of_same_texts_is_the_paper_protocol_when_no_text_repeats():
    scores = np.random.default_rng(0).normal(size=(9, 18))
    captions = [[f"{image} {n}" for n in range(2)] for image in range(9)]
    assert retrieval_recall(scores, *same_text_answers(captions)) == retrieval_recall(scores, texts_per_image=2)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_takes_tensors_of_any_float_type(kind):
    scores = torch.linspace(-1, 1, 12).roll(5).reshape(3, 4).to(kind).requires_grad_()
    expected = retrieval_recall(scores.detach().double().numpy(), text_to_image=[0, 1, 2, 0])
    assert retrieval_recall(scores, text_to_image=[0, 1, 2, 0]) == expected


def test_values_are_plain_unrounded_percents():
    recall = retrieval_recall(np.eye(3), texts_per_image=1, ks=(1, 2))
    assert recall == {"txt_r1": 100.0, "txt_r2": 100.0, "img_r1": 100.0, "img_r2": 100.0, "r_mean": 100.0}
    third = retrieval_recall([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], texts_per_image=1, ks=(1,))
    assert third["txt_r1"] == 100 / 3 and type(third["txt_r1"]) is float
    json.dumps(third)


def test_constant_scores_are_ranked_by_falling_index():
    ranks = retrieval_ranks(np.zeros((3, 6)), texts_per_image=2)
    assert ranks.image_to_text.tolist() == [4, 2, 0]
    assert ranks.text_to_image.tolist() == [2, 2, 1, 1, 0, 0]


def test_curve_ends_at_all_found():
    ranks = retrieval_ranks(MATRICES["20x100"], texts_per_image=5)
    curve = recall_curve(ranks, ks=range(1, 101))
    assert curve["k"] == list(range(1, 101)) and curve["txt"][-1] == curve["img"][-1] == 100
    assert curve["txt"] == sorted(curve["txt"])
    assert [curve["img"][k - 1] for k in (1, 5, 10)] == [42.0, 78.0, 93.0]


@pytest.mark.parametrize(
    ("scores", "arguments", "message"),
    [
        (np.zeros((2, 4)), {}, "no right answers given"),
        (np.zeros((2, 4)), {"texts_per_image": 3}, "2 images x texts_per_image=3, but scores have 4 texts"),
        (np.zeros((2, 4)), {"texts_per_image": 2, "text_to_image": [0, 0, 1, 1]}, "not both"),
        (np.zeros((2, 4)), {"text_to_image": [0, 1]}, "text_to_image: expected 4 entries, as in scores, found 2"),
        (np.zeros((2, 4)), {"text_to_image": [0, 0, 1, 2]}, "from 0 to 2, allowed are 0 to 1"),
        (np.zeros((2, 4)), {"text_to_image": [0, 0, 0, 0]}, "1 queries have no right answer, the first is image 1"),
        (np.zeros((2, 4)), {"image_to_texts": [[0], [1, 2]]}, "the first is text 3"),
        (np.zeros((2, 4)), {"image_to_texts": [[], [0, 1, 2, 3]]}, "the first is image 0"),
        (np.full((2, 4), np.nan), {"texts_per_image": 2}, "scores hold NaN"),
        (np.zeros(4), {"texts_per_image": 2}, r"expected \(n_images, n_texts\)"),
        (np.zeros((0, 4)), {"texts_per_image": 2}, r"found shape \(0, 4\)"),
    ],
)
def test_contradictions_are_named(scores, arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_recall(scores, **arguments)


def test_memory_beside_the_matrix_is_bounded():
    scores = np.random.default_rng(0).random((1000, 5000), dtype=np.float32)  # 20 MB
    tracemalloc.start()
    retrieval_recall(scores, texts_per_image=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6


def test_docstring_examples():
    results = doctest.testmod(retrieval)
    assert results.attempted >= 5 and results.failed == 0
