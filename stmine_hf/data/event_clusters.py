"""Which posts are about the same event, and a validation split that shares no event with training.

Rumours are copied: of one text there are hundreds of near-copies, and many more posts about the same event in other
words. A split by row puts them on both sides, so that validation measures memory. Here posts are grouped by their
texts first, and groups go to one side as a whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

COPY = 0.5  # similarity from which two texts are copies of each other
EVENT = 0.08  # mean similarity from which two groups of texts are of one event

_LINKS = re.compile(r"https?://[!-~]+|@[\w-]+|&[a-z]+;")
_NOT_WORDS = re.compile(r"[\W_]+")
_BITS = 21  # a Unicode character fits in 21 bits, hence three in an integer of 64


def event_clusters(texts: Sequence[str], *, copy: float = COPY, event: float = EVENT) -> list[int]:
    """Group texts that are near-copies of each other or, in other words, about the same event.

    Two texts are as similar as the cosine of their character trigrams, each counted once and weighted by its
    rarity (log of the inverse document frequency); letters and digits alone count, without case, links, names of
    users. First, texts of similarity `copy` or more are one group, and so are copies of copies (single linkage).
    Then the two groups nearest each other are merged as long as the mean similarity of their texts is `event` or more
    (average linkage, which does not chain through common phrases as single linkage would). Texts without letters or
    digits are one group where they are equal.

    Time grows with the square of the number of texts: about a second for 7,000 posts of 130 characters.

    Args:
        texts: any texts, empty ones too.
        copy: least similarity of copies, in (0, 1].
        event: least mean similarity of two groups of one event; 1 leaves the groups of copies as they are.

    Returns:
        A number for each text, 0, 1, ... by first appearance; equal numbers for texts of one group.

    Example:
        >>> event_clusters(["Shark swims in flooded street", "Nice cake", "RT: shark swims in flooded street!!"])
        [0, 1, 0]
    """
    if not (0 < copy <= 1 and 0 < event <= 1):
        raise ValueError(f"event_clusters: copy and event must lie in (0, 1], found {copy} and {event}")
    plain = [_plain(text) for text in texts]
    first: dict[Hashable, int] = {}
    keys = [p or ("raw", text.strip() or row) for row, (p, text) in enumerate(zip(plain, texts, strict=True))]
    unique = [first.setdefault(key, row) for row, key in enumerate(keys)]
    rows = [row for row in sorted(set(unique)) if plain[row]]
    group = np.arange(len(texts))
    if rows:
        sizes = np.bincount(unique, minlength=len(texts))[rows]
        group[rows] = np.asarray(rows)[_cluster([plain[row] for row in rows], sizes, copy, event)]
    return _by_first_appearance(group[unique])


def hold_out(clusters: Sequence[int], labels: Sequence[Hashable], share: float = 0.1, seed: int = 0) -> list[int]:
    """Rows of a validation split that takes whole clusters and keeps the share of each label.

    Clusters are drawn at random; one is taken if no label then exceeds `share` of its rows. Clusters that alone would
    make more than a quarter of that are left for training, since a validation split of a few events says little; they
    are drawn only where the others do not suffice.

    Args:
        clusters: number of each row's cluster, as of `event_clusters`.
        labels: label of each row, anything hashable.
        share: share of the rows to hold out, in (0, 1).
        seed: equal seeds draw equal rows.

    Returns:
        Row numbers, rising. The label counts are at most `share` of each label's rows, less where no cluster fits.

    Example:
        >>> hold_out([0, 0, 1, 2, 3, 3], ["fake", "fake", "real", "real", "fake", "fake"], share=0.5)
        [0, 1, 3]
    """
    if not 0 < share < 1:
        raise ValueError(f"hold_out: share must lie in (0, 1), found {share}")
    if len(clusters) != len(labels):
        raise ValueError(f"hold_out: {len(clusters)} clusters for {len(labels)} labels")
    names = {label: number for number, label in enumerate(sorted(set(labels), key=str))}
    label_of = np.array([names[label] for label in labels], dtype=np.int64)
    _, cluster_of = np.unique(np.asarray(clusters, dtype=np.int64), return_inverse=True)
    counts = np.zeros((cluster_of.max(initial=-1) + 1, len(names)), dtype=np.int64)  # (clusters, labels)
    np.add.at(counts, (cluster_of, label_of), 1)
    wanted = np.round(share * counts.sum(0))
    order = np.random.default_rng(seed).permutation(len(counts))
    small = (counts <= np.maximum(wanted / 4, 1)).all(1)
    taken, held = np.zeros(len(names), dtype=np.int64), set()
    for number in (*order[small[order]], *order[~small[order]]):
        if (taken + counts[number] <= wanted).all():
            taken += counts[number]
            held.add(int(number))
    return [row for row, number in enumerate(cluster_of.tolist()) if number in held]


def split_by_event(posts: Sequence[Any], validation: str, share: float, seed: int) -> list[Any]:
    """Posts of train and val grouped by event and, on request, split again by it. Posts of test stay as they are.

    Args:
        posts: dataclasses with `text`, `label`, `split` and `group`. Groups that are given (not -1) stay.
        validation: "released" keeps the splits; "events" pools train and val and holds out whole groups.
        share: of the pool to hold out, as of `hold_out`.
        seed: as of `hold_out`.

    Returns:
        Copies of the posts in their order.
    """
    pool = [row for row, post in enumerate(posts) if post.split in ("train", "val")]
    unknown = [row for row in pool if posts[row].group == -1]
    first = 1 + max((posts[row].group for row in pool), default=-1)
    groups = {row: posts[row].group for row in pool}
    found = event_clusters([posts[row].text for row in unknown])
    groups.update({row: first + number for row, number in zip(unknown, found, strict=True)})
    splits = {row: posts[row].split for row in pool}
    if validation == "events":
        held = hold_out([groups[row] for row in pool], [posts[row].label for row in pool], share, seed)
        splits = {row: "train" for row in pool} | {pool[number]: "val" for number in held}
    return [
        replace(post, group=groups.get(row, post.group), split=splits.get(row, post.split))
        for row, post in enumerate(posts)
    ]


def _plain(text: str) -> str:
    """Letters and digits of a text, of one width and case."""
    return _NOT_WORDS.sub("", _LINKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()))


def _by_first_appearance(group: np.ndarray) -> list[int]:
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].tolist()


def _cluster(texts: list[str], sizes: np.ndarray, copy: float, event: float) -> np.ndarray:
    """Group of each of different plain texts, as the number of one of them; text i has `sizes[i]` copies."""
    one, other, similarity = _similar_pairs(texts, floor=min(copy, event / 8))
    root = list(range(len(texts)))
    for a, b in zip(*(side[similarity >= copy].tolist() for side in (one, other)), strict=True):
        a, b = _root(root, a), _root(root, b)
        root[max(a, b)] = min(a, b)
    group = np.array([_root(root, row) for row in range(len(root))])

    # Average linkage by merging every two groups that are each other's nearest: the same tree as one pair at a time.
    weight = similarity * sizes[one] * sizes[other]  # summed over the pairs of two groups
    while True:
        members = np.bincount(group, weights=sizes, minlength=len(texts))
        a, b, weight = _sum_pairs(group[one], group[other], weight)
        one, other = a, b
        mean = weight / (members[a] * members[b])
        nearest = _nearest(a, b, mean, len(texts))
        merge = (mean >= event) & (nearest[a] == b) & (nearest[b] == a)
        if not merge.any():
            return group
        to = np.arange(len(texts))
        to[np.maximum(a, b)[merge]] = np.minimum(a, b)[merge]
        group = to[group]


def _root(root: list[int], row: int) -> int:
    while root[row] != row:
        root[row] = root[root[row]]
        row = root[row]
    return row


def _sum_pairs(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of different groups, each once (lower number first), with the sum of their weights."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    keep = low < high
    pairs, inverse = np.unique(low[keep] << 32 | high[keep], return_inverse=True)
    return pairs >> 32, pairs & 0xFFFFFFFF, np.bincount(inverse, weights=weight[keep], minlength=len(pairs))


def _nearest(a: np.ndarray, b: np.ndarray, similarity: np.ndarray, count: int) -> np.ndarray:
    """For each group the most similar one, of equals the one of lowest number; `count` where there is none."""
    here, there, similarity = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([similarity, similarity])
    best = np.zeros(count)
    np.maximum.at(best, here, similarity)
    is_best = similarity == best[here]
    nearest = np.full(count, count)
    np.minimum.at(nearest, here[is_best], there[is_best])
    return nearest


def _similar_pairs(texts: list[str], floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (i < j) of texts whose similarity is `floor` or more, and the similarity."""
    grams, lengths = [], []
    for text in texts:
        codes = np.frombuffer(f"\0{text}\0".encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
        grams.append(np.unique(codes[:-2] << 2 * _BITS | codes[1:-1] << _BITS | codes[2:]))
        lengths.append(len(grams[-1]))
    row = np.repeat(np.arange(len(texts)), lengths)
    _, gram, frequency = np.unique(np.concatenate(grams), return_inverse=True, return_counts=True)
    value = np.log((1 + len(texts)) / frequency)[gram]
    value /= np.sqrt(np.bincount(row, weights=value**2))[row]

    shared = frequency[gram] > 1
    row, gram, value = row[shared], gram[shared], value[shared]
    mine = np.searchsorted(row, np.arange(len(texts) + 1))  # where a text's trigrams begin
    by_gram = np.lexsort((row, gram))
    posting_row, posting_value = row[by_gram], value[by_gram]
    end = np.searchsorted(gram[by_gram], np.arange(len(frequency)), side="right")
    after = np.empty_like(by_gram)
    after[by_gram] = np.arange(1, len(by_gram) + 1)  # where the later texts with the same trigram begin
    found = []
    for i in range(len(texts)):
        own = slice(mine[i], mine[i + 1])
        begin, stop = after[own], end[gram[own]]
        if not (stop - begin).any():
            continue
        postings = np.concatenate([np.arange(b, e) for b, e in zip(begin.tolist(), stop.tolist(), strict=True)])
        similarity = np.bincount(
            posting_row[postings] - i, weights=posting_value[postings] * np.repeat(value[own], stop - begin)
        )
        (near,) = np.nonzero(similarity >= floor)
        found.append((np.full(len(near), i), near + i, similarity[near]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    one, other, similar = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return one, other, similar
