"""Make file names and third-party text safe to print."""

from __future__ import annotations


def printable(text: object) -> str:
    """Escape every character of a text that a terminal would act on, or could not show.

    These are terminal escape sequences, line breaks, marks that change the direction of writing, and the lone
    surrogates that stand for undecodable bytes in a file name.

    Example:
        >>> printable("caf\\u00e9\\x1b[2J.jpg")
        'café\\\\x1b[2J.jpg'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
