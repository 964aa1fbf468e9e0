"""Parsing of cells of tables and values of JSON files, shared by all readers.

pandas, polars, Excel and annotation tools write one thing in many ways: a missing value as nothing, NaN or null, no
as 0, 0.0 or False, the number one as 1, 1.0 or "1", a list as JSON or as Python shows it. Nothing in a cell is run as
code.
"""

from __future__ import annotations

import ast
import json
import math
import re
import tokenize
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from .errors import BadRow

LARGEST = 2**63 - 1  # of the numbers that a column of 64 bits can hold
LIST_CHARACTERS = 2**20  # of a list in a cell; longer ones are refused
DEPTH = 32  # of lists and mappings in each other, likewise

# What programs write for a missing value where a word stands for no text: "None" and "NA" may be names.
_MISSING_NAMES = frozenset({"nan", "<na>", "nat", "null", "#n/a", "-nan"})
_MISSING_NUMBERS = _MISSING_NAMES | {"none", "na", "n/a", "-"}
_TRUE = frozenset({"true", "t", "yes", "y", "on", "是", "wahr", "ja", "vrai", "oui", "verdadero", "sí", "si", "vero"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "否", "falsch", "nein", "faux", "non", "falso"})
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs
_DIGITS = frozenset("-0123456789")
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|[+-]?(?:nan|inf|infinity)", re.I)
_CALL = re.compile(r"(?:np\.|numpy\.)?array\((\[.*\])(?:,\s*dtype=[\w.'<>|]+)?\)", re.S)  # what NumPy's repr is
_ARRAY = re.compile(r"[\[\]\s0-9eE+.\-]*")  # an array of numbers as NumPy shows it, without commas


def plain(value: Any) -> Any:
    """A value without what surrounds it in NumPy, pandas or Arrow: missing ones are None, NumPy's numbers Python's."""
    if value is None or isinstance(value, (str, bool, int, bytes, list, dict)):
        return value
    if isinstance(value, float):
        return None if value != value else value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain(value.item())
    return None if type(value).__name__ in ("NaTType", "NAType") else value


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN or no character."""
    return plain(value) is None or value == ""


def text_of(value: Any) -> str:
    """A cell as a text that can be stored, as it is; "" for none, halves of surrogate pairs replaced.

    Raises:
        BadRow: the cell holds a list, a mapping or bytes that are no UTF-8.
    """
    if type(value) is str:
        return value if value.isascii() else whole_text(value)
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRow("bytes that are not UTF-8 where a text was expected") from None
    if isinstance(value, (list, dict, tuple)):
        raise BadRow(f"a {type(value).__name__} where a text was expected")
    if isinstance(value, str):
        return whole_text(value)
    try:
        return str(value)
    except ValueError:  # a number of thousands of digits
        raise BadRow("a number of too many digits") from None


def name_of(value: Any) -> str:
    """A label, a class or an id as a name: without spaces around it, "" for none, one spelling for a whole number.

    Raises:
        BadRow: as of `text_of`.

    Example:
        >>> [name_of(value) for value in (1, 1.0, "1", " 1.0 ", "01", "fake", float("nan"), "NaN")]
        ['1', '1', '1', '1', '01', 'fake', '', '']
    """
    if value is None:
        return ""
    if type(value) is not str:
        value = plain(value)
        if isinstance(value, float):
            if math.isinf(value):
                raise BadRow("an infinite number where a name was expected")
            value = int(value) if value.is_integer() else value
    text = text_of(value).strip()
    if text[:1] in _DIGITS and _WHOLE.fullmatch(text):
        text = text.partition(".")[0]
        return "0" if text == "-0" else text
    return "" if len(text) < 5 and text.lower() in _MISSING_NAMES else text


def alike_names(names: Iterable[str]) -> list[str]:
    """Groups of names that most likely mean the same label, in words: they differ in case, in spaces, in how
    letters are composed or in how a number is written.

    Example:
        >>> alike_names(["Fake", "fake", "1", "+1", "01", "real"])
        ["'Fake' and 'fake'", "'1' and '+1' and '01'"]
    """
    groups: dict[Any, list[str]] = {}
    for name in names:
        number = _NUMBER.fullmatch(name) if len(name) < 40 else None
        key: Any = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(float(name) if number and math.isfinite(float(name)) else key, []).append(name)
    return [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]


def flag_of(value: Any) -> bool:
    """Whether a cell means true; a missing one means false.

    Raises:
        BadRow: its meaning is unknown.

    Example:
        >>> [flag_of(value) for value in ("1", "True", "yes", 1.0, "0", "0.0", "False", "", None)]
        [True, True, True, True, False, False, False, False, False]
    """
    value = plain(value)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, (int, float)):
        return value != 0
    word = value.strip().lower() if isinstance(value, str) else None
    if word is not None:
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        if not word or word in _MISSING_NUMBERS:
            return False
        if _NUMBER.fullmatch(word) and math.isfinite(float(word)):
            return float(word) != 0
    raise BadRow(f"{shortened(value)} where true or false was expected")


def number_of(value: Any) -> float:
    """A number, or a text that is one.

    Raises:
        BadRow: it is none.
    """
    value = plain(value)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return float(text)
    elif value is not None and not isinstance(value, (bool, bytes)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise BadRow(f"{shortened(value)} where a number was expected")


def whole_of(value: Any) -> int | None:
    """A whole number of at most 64 bits, however it is written; None where the cell holds none.

    Example:
        >>> [whole_of(value) for value in (1, 1.0, "1", "1.0", 1.5, True, "x", 10**29, "9" * 5000)]
        [1, 1, 1, 1, None, None, None, None, None]
    """
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    elif isinstance(value, str):
        text = value.strip()
        value = int(text.partition(".")[0]) if len(text) < 40 and _WHOLE.fullmatch(text) else None
    return value if isinstance(value, int) and abs(value) <= LARGEST else None


def key_of(value: Any) -> Any:
    """An id for comparisons: equal for 1, 1.0, "1" and "1.0"; None where it is no id.

    Example:
        >>> key_of(1.0) == key_of("1") == 1, key_of("000001"), key_of([1])
        (True, '000001', None)
    """
    value = plain(value)
    number = whole_of(value)
    if number is not None:
        return number
    if isinstance(value, str):
        return whole_text(value).strip() or None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def list_of(value: Any) -> list:
    """A list as it is or as a text holds it (in JSON, or as Python and NumPy show it); one value as a list of it,
    nothing as an empty one.

    Raises:
        BadRow: it looks like a list and cannot be read.

    Example:
        >>> list_of('["a", "b"]'), list_of("['a', 'b']"), list_of("a"), list_of(None)
        (['a', 'b'], ['a', 'b'], ['a'], [])
    """
    value = opened(value)
    if is_missing(value) if not isinstance(value, (list, tuple, Mapping)) else False:
        return []
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(value)
    if hasattr(value, "tolist"):
        return list_of(value.tolist())
    if isinstance(value, str) and value.lstrip()[:1] == "[" and value.rstrip()[-1:] == "]":
        raise BadRow(f"a list that cannot be read: {shortened(value)}")
    return [value]


def opened(value: Any) -> Any:
    """The list or mapping that a text holds, in JSON or as Python shows it; anything else as it is."""
    if not isinstance(value, str) or not (text := value.strip()):
        return value
    if text[-1] == ")" and (array := _CALL.fullmatch(text)):
        text = array[1]
    if text[0] + text[-1] not in ("[]", "{}", "()"):
        return value
    if len(text) > LIST_CHARACTERS or _depth(text) > DEPTH:
        return value
    if text[0] != "(":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    if _ARRAY.fullmatch(text) and text[0] == "[" and "," not in text:
        text = re.sub(r"(?<=[0-9.\]])\s+(?=[-+.0-9\[])", ", ", text)
    try:
        read = ast.literal_eval(_with_commas(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return value
    if not isinstance(read, (list, tuple, dict)) or _has_odd_values(read):
        return value
    return list(read) if isinstance(read, tuple) else read


def whole_text(text: str) -> str:
    """A text with replacement characters for halves of surrogate pairs, which JSON can hold and no tokenizer reads.

    (Programs that cut a text by UTF-16 units leave half an emoji at its end.)
    """
    if text.isascii() or not _HALVES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shortened(value: Any) -> str:
    """A value as messages show it."""
    try:
        shown = ascii(value) if isinstance(value, bytes) else repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number of too many digits"
    return whole_text(shown if len(shown) <= 60 else f"{shown[:57]}...")


def _depth(text: str) -> int:
    """Largest nesting depth of brackets, including quoted ones: an upper bound that protects parsers from overflow."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\](){}]", text):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def _with_commas(text: str) -> str:
    """A list with commas inserted between adjacent texts, as NumPy prints arrays: Python would join these."""
    parts: list[str] = []
    previous = None
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.ENDMARKER):
            continue
        if token.type == tokenize.STRING == previous:
            parts.append(",")
        parts.append(token.string)
        previous = token.type
    return " ".join(parts)


def _has_odd_values(value: Any) -> bool:
    """Whether a value read from a cell has parts that are no text, number, list or mapping (bytes, sets, `...`)."""
    if isinstance(value, dict):
        return any(_has_odd_values(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return any(map(_has_odd_values, value))
    return not (value is None or isinstance(value, (str, bool, int, float)))
