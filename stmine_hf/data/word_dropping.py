"""Word dropping: the text augmentation of FISVL's released training (rate 0.06 for RSICD, 0.03 for the other sets)."""

from __future__ import annotations

import random
from typing import Protocol


class RandomSource(Protocol):
    """The methods needed of a random generator; the module `random` and every `random.Random` have them."""

    def uniform(self, a: float, b: float) -> float: ...
    def choice(self, seq: list[str]) -> str: ...


def random_deletion(caption: str, p: float, rng: RandomSource | None = None) -> str:
    """Drop each word of a caption with probability `p`; at least one word stays.

    Draws as the released code does (one `uniform(0, 1)` a word, kept above `p`; one `choice` when none is left): equal
    seeds give equal captions. One departure: for a caption of one word the released code returns the list
    `["word"]`; here the word comes back as a string (and, as there, nothing is drawn). An empty caption, on which the
    released code fails, comes back empty.

    Args:
        caption: words separated by white space, after caption cleaning.
        p: probability in [0, 1].
        rng: where the draws come from; default: the global `random` module, as in the released code.

    Example:
        >>> random_deletion("many planes are parked near a terminal", p=0.3, rng=random.Random(1))
        'planes are near a terminal'
    """
    words = caption.split()
    if len(words) <= 1:
        return caption.strip()
    source: RandomSource = rng or random
    kept = [word for word in words if source.uniform(0, 1) > p]
    return " ".join(kept) if kept else source.choice(words)
