"""Measure the content of a model's `scope.json` on a validation split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import StmineError
from ..inference.scope import Scope, fit, nonsense, scripts
from ..search.embedding import DualEncoder, DualProcessor, embed_images, embed_texts

if TYPE_CHECKING:
    import datasets

__all__ = ["measure_posts", "measure_search"]

_RARE = 1  # percent of the texts that may lie below a bound
_MISSED = 5  # percent of the sentences about an image that may fit it less than the bound
_GALLERIES = (8, 32, 128, 1024)  # images searched at a time: collections of all these sizes have equal weight
_NONSENSE = 400


def measure_posts(texts: Sequence[str], measured: str) -> Scope:
    """Measure the scope of a model of posts.

    Args:
        texts: of the posts of a validation split; "" for posts without a text.
        measured: the data and the command, for the reader of the file.
    """
    without = sum(not text.strip() for text in texts) / max(1, len(texts))
    return _of_texts(texts, measured, needs_text=without < _RARE / 100)


def measure_search(model: DualEncoder, processor: DualProcessor, rows: datasets.Dataset, measured: str) -> Scope:
    """Measure the scope of a model that searches images by sentences.

    `least_fit` is what 95 of 100 sentences about an image reach in a collection that has this image. `measured` also
    gets the share of random letters that reach it.

    Args:
        model: a FISVL model.
        processor: its processor.
        rows: of a validation split: `image` and `captions`.
        measured: see `measure_posts`.
    """
    captions = [list(one) for one in rows["captions"]]
    owners = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(one) for one in captions]))
    texts = [caption for one in captions for caption in one]
    images = embed_images(model, processor, (row["image"].convert("RGB") for row in rows), batch_size=8)
    found = _of_texts(texts, measured)
    meaningless = embed_texts(model, processor, nonsense()).mean(dim=0)
    bound = float(np.percentile(fits(images, embed_texts(model, processor, texts), meaningless, owners), _MISSED))
    letters = fits(images, embed_texts(model, processor, nonsense(_NONSENSE, seed=0)), meaningless)
    measured += (
        f"; {100 - _MISSED}% of the captions and {np.mean(letters >= bound):.1%} of random letters reach the fit"
    )
    return Scope(found.script, found.least_share, least_fit=round(bound, 3), measured=measured)


def fits(
    images: torch.Tensor, sentences: torch.Tensor, meaningless: torch.Tensor, owners: torch.Tensor | None = None
) -> np.ndarray:
    """How well the best of a few images drawn at random fits each sentence, for collections of several sizes.

    Args:
        images: (I, D) unit vectors.
        sentences: (T, D).
        meaningless: (D,) mean of sentences without meaning.
        owners: (T,) rows of the images that the sentences are about, which are always drawn.

    Returns:
        (4 T,).
    """
    chance = torch.Generator().manual_seed(0)
    similar, common = sentences @ images.T, sentences @ meaningless
    found = []
    for size in _GALLERIES:
        for row, own in enumerate(similar):
            drawn = torch.randint(len(images), (min(size, len(images)),), generator=chance)
            if owners is not None:
                drawn[0] = owners[row]
            found.append(float(fit(own[drawn].max(), common[row])))
    return np.array(found)


def _of_texts(texts: Sequence[str], measured: str, *, needs_text: bool = False) -> Scope:
    found = [letters for text in texts if (letters := scripts(text))]
    if not found:
        raise StmineError("The scope needs texts with letters; this split has none.")
    script = sum(found, Counter()).most_common(1)[0][0]
    shares = [letters[script] / letters.total() for letters in found]
    share, count = (float(np.percentile(values, _RARE)) for values in (shares, [one.total() for one in found]))
    return Scope(script, round(share, 3), int(count), needs_text, measured=measured)
