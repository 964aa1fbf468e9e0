"""Scope of a model by its training data, and warnings about inputs outside it.

A model's folder may hold a `scope.json` with the numbers, measured on a validation split by
`examples/measure_scope.py`. Without that file the scope is unknown and there are no warnings.
"""

from __future__ import annotations

import json
import math
import random
import re
import string
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import StmineError
from ..files import write_json
from ..printing import counted

FILE = "scope.json"
_MOST_BYTES = 65_536
# Links, names of users and HTML entities, in whatever language a post is written.
_NOT_WORDS = re.compile(r"https?://[!-~]+|@[\w-]+|&[a-z]+;")
_NAMES = {"CJK": "Chinese", "LATIN": "Latin", "HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese"}

OTHER_SCRIPT, TOO_SHORT, NO_TEXT, NOTHING_FITS = "other_script", "too_short", "no_text", "nothing_fits"


@dataclass(frozen=True)
class Warned:
    """A reason why an answer means little.

    Attributes:
        kind: `OTHER_SCRIPT`, `TOO_SHORT`, `NO_TEXT` or `NOTHING_FITS`.
        message: the same as a sentence in English.
        values: the numbers and names in the sentence.
    """

    kind: str
    message: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """Properties of the texts that a model was trained on, measured on its validation split.

    Attributes:
        script: of most letters, as the first word of their Unicode names: "CJK", "LATIN", "CYRILLIC", ...
        least_share: of a text's letters in this script; 99 of 100 texts have more.
        least_letters: of a text; 99 of 100 texts have more.
        needs_text: images without a text were not among them.
        least_fit: of a sentence and the best image for it: their cosine similarity, less half of that of the sentence
            and the mean of sentences without meaning. Most sentences about an image have more, most sentences without
            meaning or about other things less. None for models that do not search.
        measured: the data and the command that gave these numbers.
    """

    script: str
    least_share: float
    least_letters: int = 0
    needs_text: bool = False
    least_fit: float | None = None
    measured: str = ""

    @classmethod
    def of(cls, model: Any) -> Scope | None:
        """The scope of a loaded model, from its folder or repository; None if it has none.

        Raises:
            StmineError: its `scope.json` is damaged.
        """
        name = getattr(model, "name_or_path", "") or ""
        file = _find(str(name), getattr(model.config, "_commit_hash", None)) if name else None
        return None if file is None else cls.read(file)

    @classmethod
    def read(cls, file: str | Path) -> Scope:
        """
        Raises:
            StmineError: not a file that `save` has written.
        """
        file = Path(file)
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise ValueError("too large")
            found = json.loads(file.read_text(encoding="utf-8"))
            known = {field.name for field in fields(cls)}
            scope = cls(**{name: value for name, value in found.items() if name in known})
            numbers = [scope.least_share, scope.least_letters, scope.least_fit or 0.0]
            if not isinstance(scope.script, str) or not all(math.isfinite(number) for number in numbers):
                raise ValueError("not the expected values")
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StmineError(
                f"{file}: expected what examples/measure_scope.py writes, found something else ({error}). Measure it "
                "again, or remove the file."
            ) from None
        return scope

    def save(self, folder: str | Path) -> Path:
        """Write `scope.json` into a model's folder.

        Returns:
            The file.
        """
        write_json(Path(folder) / FILE, asdict(self))
        return Path(folder) / FILE

    def check_text(self, text: str) -> Warned | None:
        """Whether a text differs from those of the training in script or length; None if not."""
        if not text.strip():
            if not self.needs_text:
                return None
            return Warned(NO_TEXT, "There is no text, and the model was trained on posts with a text.", {})
        letters = scripts(text)
        count, share = letters.total(), letters[self.script] / max(1, letters.total())
        name = _NAMES.get(self.script, self.script.capitalize())
        if count and share < self.least_share:
            message = f"{share:.0%} of the letters are {name}; the model was trained on {name} texts."
            return Warned(OTHER_SCRIPT, message, {"share": share, "script": name})
        if count < self.least_letters:
            few, least = counted(count, "letter"), self.least_letters
            message = f"The text has only {few}; nearly all training texts had {least} or more."
            return Warned(TOO_SHORT, message, {"count": count, "least": self.least_letters})
        return None

    def check_query(self, text: str) -> Warned | None:
        """Whether a sentence to search for is in a script that the model cannot read; None if not.

        Numbers and signs alone are in no script; `check_fit` checks what they find.
        """
        letters = scripts(text)
        share = letters[self.script] / max(1, letters.total())
        if not letters or share >= 0.5:
            return None
        name = _NAMES.get(self.script, self.script.capitalize())
        message = f"{share:.0%} of the letters are {name}; the model reads {name} letters only."
        return Warned(OTHER_SCRIPT, message, {"share": share, "script": name})

    def check_fit(self, best: float, meaningless: float) -> Warned | None:
        """Whether even the best image found for a sentence does not fit it; None if it does.

        Args:
            best: cosine similarity of the sentence and the best image.
            meaningless: cosine similarity of the sentence and the mean of `nonsense`.
        """
        found = fit(best, meaningless)
        if self.least_fit is None or found >= self.least_fit:
            return None
        message = "No good match: the best image scores no higher than it would for an unrelated query."
        return Warned(NOTHING_FITS, message, {"fit": found, "least": self.least_fit})


def fit(best: Any, meaningless: Any) -> Any:
    """See `Scope.least_fit`; numbers, arrays or tensors.

    Similarities alone do not suffice: sentences that a model does not understand are close to each other, and somewhat
    close to every image.
    """
    return best - 0.5 * meaningless


def nonsense(count: int = 64, seed: int = 1) -> list[str]:
    """Sentences without meaning: random letters in one to six words, the same ones each time."""
    chance = random.Random(seed)  # noqa: S311  the same each time, no secret
    sentences = []
    for _ in range(count):
        lengths = [chance.randint(2, 7) for _ in range(chance.randint(1, 6))]
        sentences.append(
            " ".join("".join(chance.choice(string.ascii_lowercase) for _ in range(length)) for length in lengths)
        )
    return sentences


def scripts(text: str) -> Counter[str]:
    """Count the letters of a text by script, without links and user names.

    Example:
        >>> scripts("港口 port @harbour")
        Counter({'LATIN': 4, 'CJK': 2})
    """
    return Counter(_script(letter) for letter in _NOT_WORDS.sub(" ", text) if letter.isalpha())


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return re.split("[ -]", unicodedata.name(letter, "UNKNOWN"), maxsplit=1)[0]


def _find(name: str, revision: str | None) -> Path | None:
    if Path(name).is_dir():
        return file if (file := Path(name) / FILE).is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(
            name, FILE, revision=revision, _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
        )  # fmt: skip
    except OSError:  # a folder that no longer exists, or not a name of a repository
        return None
    return Path(found) if found else None
