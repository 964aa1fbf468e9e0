"""The form of each request. Images are bytes: base64 in JSON, files in multipart."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

_IN_JSON = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "An encoded image (JPEG, PNG, TIFF, ...) as base64.",
}
_IN_MULTIPART = {"type": "string", "format": "binary"}
ImageBytes = Annotated[bytes, WithJsonSchema(_IN_JSON)]
Numbers = str | list[float]
Where = Annotated[list[str], Field(max_length=32)]
_MOST_NUMBERS = 4


def _drawn() -> str:
    """A small image for the examples."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class Asked(BaseModel):
    """What the requests have in common."""

    model_config = ConfigDict(extra="forbid")
    images_in: ClassVar[tuple[str, ...]] = ()  # fields of an image, or of several
    several_in: ClassVar[tuple[str, ...]] = ()  # fields that may be repeated in multipart
    examples: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def multipart_schema(cls) -> dict[str, Any]:
        """The schema with files in place of base64."""

        def with_files(node: Any) -> Any:
            if isinstance(node, dict):
                if node.get("contentEncoding") == "base64":
                    return _IN_MULTIPART
                return {key: with_files(value) for key, value in node.items()}
            return [with_files(one) for one in node] if isinstance(node, list) else node

        return with_files(cls.model_json_schema(by_alias=True))


class AskedToEmbed(Asked):
    """Texts or images to embed; exactly one of the two."""

    images_in = ("images",)
    several_in = ("texts", "images")
    examples = {
        "texts": {"texts": ["many planes near a terminal", "a bridge over a river"]},
        "images": {"images": [_drawn()]},
    }

    texts: list[str] | None = Field(None, min_length=1, description="Sentences in a language that the model reads.")
    images: list[ImageBytes] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> AskedToEmbed:
        if (self.texts is None) == (self.images is None):
            raise ValueError("expected either texts or images")
        return self


class AskedToSearch(Asked):
    """A sentence or an image to search by, and which images to consider."""

    images_in = ("image",)
    several_in = ("where",)
    examples = {
        "sentence": {"query": "many planes near a terminal", "k": 5},
        "image": {"image": _drawn(), "k": 3},
        "place": {"query": "a bridge", "near": [2.77, 41.19, 5], "from": "2024-01-01", "to": "2024-12-31"},
    }

    query: str | None = Field(None, description="A sentence; never a path.")
    image: ImageBytes | None = None
    k: int = Field(10, ge=1, description="Number of hits.")
    bbox: Numbers | None = Field(None, description="West, south, east, north in degrees.")
    near: Numbers | None = Field(None, description="Longitude, latitude and kilometres.")
    start: str | None = Field(None, alias="from", description="Only images taken then or later: 2024-05-31.")
    end: str | None = Field(None, alias="to", description="Only images taken then or earlier; a date: all of it.")
    where: Where = Field([], description="Conditions on columns of the index's table, such as cloud<=10.")

    @model_validator(mode="after")
    def _one_kind(self) -> AskedToSearch:
        if (self.query is None) == (self.image is None):
            raise ValueError("expected either query or image")
        for numbers in (self.bbox, self.near):
            if isinstance(numbers, list) and len(numbers) > _MOST_NUMBERS:
                raise ValueError(f"bbox and near: expected at most {_MOST_NUMBERS} numbers, found {len(numbers)}")
        return self


class AskedToClassify(Asked):
    """A post: a text, an image (or several, the main one first), or both."""

    images_in = ("image",)
    several_in = ("image",)
    examples = {
        "text": {"text": "【紧急扩散】自来水已被污染，请转发！"},
        "reasons": {"text": "自来水已被污染，请转发！", "explain": True},
        "text and image": {"text": "自来水已被污染，请转发！", "image": _drawn()},
    }

    text: str = ""
    image: ImageBytes | list[ImageBytes] | None = None
    explain: bool = Field(False, description="Also answer what moved the prediction. Takes many times as long.")

    @model_validator(mode="after")
    def _something(self) -> AskedToClassify:
        if not self.text.strip() and not self.image:
            raise ValueError("nothing to classify: write a text, add an image, or both")
        return self


class AskedToDetect(Asked):
    """An image in which to find objects."""

    images_in = ("image",)
    several_in = ("classes",)
    examples = {"image": {"image": _drawn(), "threshold": 0.3}}

    image: ImageBytes
    threshold: float = Field(0.4, ge=0, lt=1, description="Minimum score for an object to be returned.")
    classes: list[str] | None = Field(None, max_length=1000, description="Only these classes. Default: all.")
