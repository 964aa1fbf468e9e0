"""Images and sentences as the processor of FISVL reads them, without PyTorch and transformers."""

import re
import unicodedata

import numpy as np
from PIL import Image

_DROPPED = re.compile(r"[,.'!?\"()*#:;~]")  # as in the released code
_SPACES = re.compile(r"\s{2,}")


def clean_caption(caption: str, max_words: int = 30) -> str:
    """Cleans a caption as the released training and evaluation do.

    Lower case, punctuation dropped, "-" and "/" to spaces, runs of white space to one space, cut to `max_words` words.

    Args:
        caption: any text.
        max_words: words kept.

    Returns:
        The cleaned caption.

    Raises:
        ValueError: when nothing is left (RSICD has captions that are only ".").

    Example:

    >>> clean_caption("Two storage-tanks, near a road .")
    'two storage tanks near a road'
    """
    cleaned = _DROPPED.sub("", caption.lower()).replace("-", " ").replace("/", " ").replace("<person>", "person")
    cleaned = _SPACES.sub(" ", cleaned).rstrip("\n").strip(" ")
    cleaned = " ".join(cleaned.split(" ")[:max_words])
    if not cleaned:
        raise ValueError(f"clean_caption: nothing is left of {caption[:60]!r}; expected at least one word.")
    return cleaned


def clean_sentence(sentence: str, max_words: int = 30) -> str:
    """Cleans any sentence with [`clean_caption`], its characters in their plain forms; "" if nothing is left."""
    try:
        return clean_caption(unicodedata.normalize("NFKC", sentence), max_words)
    except ValueError:
        return ""


def to_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit RGB image from a PIL image of any mode.

    Animations give their first frame, transparency becomes white, 16- and 32-bit greys and floats are stretched
    linearly from their own darkest to their own brightest value (sensors use 10 to 14 of the 16 bits). NaN, the usual
    mark for no data, is black. EXIF does not turn it here, since boxes count in the pixels that an image has: whoever
    opens a file turns it upright first, as pipelines and transformers' `load_image` do.
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        known = values[np.isfinite(values)]
        low, high = (known.min(), known.max()) if known.size else (0, 0)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        values = (values - low) * (255 / (high - low)) if high > low else np.clip(values, 0, 255)
        image = Image.fromarray(np.round(values).astype(np.uint8))
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert(image.mode.replace("a", "A"))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


__all__ = ["clean_caption", "clean_sentence", "to_rgb"]
