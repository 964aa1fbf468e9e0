"""Names of files and texts of others, made safe to print."""

from __future__ import annotations


def printable(text: object) -> str:
    """A text with every character that a terminal would act on, or could not show, as its escape sequence.

    Escape sequences of terminals, line breaks, marks that turn the direction of writing, and the lone surrogates that
    Python has for foreign bytes of a file name do nothing that way.

    Example:
        >>> printable("caf\\u00e9\\x1b[2J.jpg")
        'café\\\\x1b[2J.jpg'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
