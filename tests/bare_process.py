"""For the workers that open saved models in a process where this package cannot be imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ORIENTATION = 0x0112  # the EXIF tag that says how to turn an image
LYING = 6  # its value for an image to be turned by 90 degrees, as phones store upright photographs


class Absent:
    """First on `sys.meta_path`: this package is not installed here, however it is installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("stmine_hf", "modeling"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def leave_own_package() -> None:
    sys.meta_path.insert(0, Absent())


def own_modules() -> list[str]:
    """What was imported of this package all the same."""
    return sorted(name for name in sys.modules if name.partition(".")[0] == "stmine_hf")


def draw(width: int, height: int) -> Any:
    """An image that looks another from each side."""
    from PIL import Image

    shades = (Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90), Image.radial_gradient("L"))
    return Image.merge("RGB", [shade.resize((width, height)) for shade in shades])


def photograph(folder: str | Path) -> tuple[str, str]:
    """A photograph as phones store it, lying on its side with a tag, and the upright image that viewers show."""
    from PIL import Image, ImageOps

    lying, upright = Path(folder) / "lying.jpg", Path(folder) / "upright.png"
    exif = Image.Exif()
    exif[ORIENTATION] = LYING
    draw(90, 60).save(lying, exif=exif)
    with Image.open(lying) as image:
        ImageOps.exif_transpose(image).save(upright)
    return str(lying), str(upright)


def refusals(call: Callable[[Any], Any], inputs: Iterable[Any]) -> list[str]:
    """What is said to each of several bad inputs; "" where nothing is."""
    said = []
    for one in inputs:
        try:
            call(one)
            said.append("")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said
