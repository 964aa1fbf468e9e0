# ruff: noqa: RUF001 (full-width signs are the case)
"""Groups of texts against a slow transcription of their definition, and splits that keep groups whole."""

import json
from collections import Counter
from math import log

import numpy as np
import pytest

from stmine_hf.data.event_clusters import event_clusters, hold_out

STORY = "【台风来袭】今晨台风在福建登陆，沿海居民已经转移，请互相转告注意安全"


def slow_clusters(texts: list[str], copy: float, event: float) -> list[int]:
    """Single linkage at `copy`, then average linkage at `event`, one pair at a time; texts of letters only."""
    padded = [f"\0{text}\0" for text in texts]
    grams = [{text[i : i + 3] for i in range(len(text) - 2)} for text in padded]
    different = {text: own for text, own in zip(texts, grams, strict=True)}
    frequency = Counter(gram for own in different.values() for gram in own)
    weigh = {gram: log((1 + len(different)) / count) for gram, count in frequency.items()}

    def cosine(a: set, b: set) -> float:
        norm = np.prod([sum(weigh[gram] ** 2 for gram in own) ** 0.5 for own in (a, b)])
        return sum(weigh[gram] ** 2 for gram in a & b) / norm

    similarity = np.array([[cosine(a, b) for b in grams] for a in grams])
    groups = [[row] for row in range(len(texts))]
    for linkage, least in ((np.max, copy), (np.mean, event)):
        while len(groups) > 1:
            pairs = [(i, j) for j in range(len(groups)) for i in range(j)]
            nearest = max(pairs, key=lambda p: linkage(similarity[np.ix_(groups[p[0]], groups[p[1]])]))
            if linkage(similarity[np.ix_(groups[nearest[0]], groups[nearest[1]])]) < least - 1e-9:
                break
            groups[nearest[0]] += groups.pop(nearest[1])
    groups.sort(key=min)
    return [next(number for number, rows in enumerate(groups) if row in rows) for row in range(len(texts))]


@pytest.mark.parametrize("seed", range(4))
def test_groups_equal_the_definition(seed):
    draw = np.random.default_rng(seed)
    events = ["".join(draw.choice(list("abcdefghijkl"), 30)) for _ in range(5)]
    texts = []
    for _ in range(24):  # pieces of an event, some letters changed
        start, length = draw.integers(0, 15), draw.integers(6, 30)
        text = list(events[draw.integers(5)][start : start + length])
        text[draw.integers(len(text))] = str(draw.choice(list("xyz")))
        texts.append("".join(text))
    texts += texts[:3]
    for copy, event in ((0.5, 0.2), (0.7, 0.3), (0.4, 1.0), (0.3, 0.1)):
        found = event_clusters(texts, copy=copy, event=event)
        assert found == slow_clusters(texts, copy, event)
        assert 1 < len(set(found)) < len(texts) - 3


def test_case_width_links_users_and_punctuation_do_not_part_copies():
    texts = [
        STORY,
        f"转发微博！{STORY}。http://t.cn/zY12ab @新闻 &nbsp;",
        "cake FOR tea",
        "ＣＡＫＥ for tea!",
        "something else",
    ]
    assert event_clusters(texts) == [0, 0, 1, 1, 2]


def test_common_phrases_do_not_chain_events_together():
    """Posts A-B and B-C share half their words each, A-C none: single linkage would make one group."""
    words = [f"w{i}orde{i * i}" for i in range(60)]
    chain = [" ".join(words[start : start + 12]) for start in range(0, 48, 6)]
    assert len(set(event_clusters(chain, copy=0.9, event=0.3))) > 2
    assert len(set(event_clusters(chain, copy=0.3, event=0.3))) == 1


def test_texts_without_words_are_grouped_only_where_equal():
    texts = [
        "",
        "  ",
        "😀😀",
        "😀😀",
        "http://t.cn/a",
        "http://t.cn/b",
        "。",
        "a",
        "a",
        "مرحبا بالعالم",
        "x" * 10_000,
        "\ud800",
    ]
    assert event_clusters(texts) == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9]
    assert event_clusters([]) == []
    assert event_clusters(["", ""]) == [0, 1]


@pytest.mark.parametrize(("copy", "event"), [(0, 0.1), (0.5, 1.1)])
def test_thresholds_outside_their_range(copy, event):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        event_clusters(["a"], copy=copy, event=event)


def test_held_out_rows_share_no_cluster_and_keep_the_labels_shares():
    draw = np.random.default_rng(0)
    clusters = np.repeat(np.arange(600), draw.geometric(0.3, 600)).tolist()
    labels = [("fake", "real")[cluster % 3 == 0] for cluster in clusters]
    rows = hold_out(clusters, labels, share=0.2, seed=1)
    rest = sorted(set(range(len(clusters))) - set(rows))
    assert rows == sorted(set(rows))
    assert not {clusters[row] for row in rows} & {clusters[row] for row in rest}
    whole, held = Counter(labels), Counter(labels[row] for row in rows)
    assert all(held[label] == round(0.2 * whole[label]) for label in whole), "single posts fill the split exactly"
    assert rows == hold_out(clusters, labels, share=0.2, seed=1)
    assert rows != hold_out(clusters, labels, share=0.2, seed=2)


def test_big_clusters_stay_in_training_where_others_suffice():
    clusters = [0] * 30 + list(range(1, 271))
    assert all(0 not in {clusters[row] for row in hold_out(clusters, ["x"] * 300, 0.1, seed)} for seed in range(20))
    few = [0] * 10 + [1] * 10 + [2] * 80
    assert len(hold_out(few, ["x"] * 100, 0.1)) == 10, "nothing else to take"


@pytest.mark.parametrize(("clusters", "share", "message"), [([0, 1], 1.0, "share"), ([0], 0.1, "1 clusters for 2")])
def test_impossible_splits(clusters, share, message):
    with pytest.raises(ValueError, match=message):
        hold_out(clusters, ["fake", "real"], share)


def test_weibo_validation_by_event_is_harder_than_the_released_one(shared_data):
    """Released dev rows mostly have a relative in train, rows held out by event have none; no group swallows all."""
    folder = shared_data / "fake_news" / "weibo_text"
    posts = {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").open(encoding="utf-8")]
        for split in ("train", "dev")
    }
    rows = posts["train"] + posts["dev"]
    labels = [row["label"] for row in rows]
    clusters = event_clusters([row["text"] for row in rows])
    sizes = Counter(clusters)
    assert max(sizes.values()) < 0.06 * len(rows)
    train = set(clusters[: len(posts["train"])])
    related = np.mean([cluster in train for cluster in clusters[len(posts["train"]) :]])
    assert related > 0.6
    held = hold_out(clusters, labels, 0.1)
    assert len(held) == pytest.approx(0.1 * len(rows), abs=2)
    minority = [
        min(
            Counter(label for label, own in zip(labels, clusters, strict=True) if own == big)[name]
            for name in ("fake", "real")
        )
        for big, _ in sizes.most_common(50)
    ]
    assert sum(minority) < 10, "what is grouped is of one event, so nearly always of one label"
