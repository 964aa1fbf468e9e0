"""An image of 16 bits with a stretch and a choice of bands comes out alike through every door: search, detection,
evaluation, and the training samples of each method."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from typer.testing import CliRunner

from stmine_hf.cli import app
from stmine_hf.data.boxed_images import row_features as boxes_features
from stmine_hf.data.captioned_images import row_features as captions_features
from stmine_hf.data.post_files import row_features as posts_features
from stmine_hf.errors import StmineError
from stmine_hf.evaluation.reports import pixel_settings, readable
from stmine_hf.images import PixelOptions, open_image
from stmine_hf.methods import FISVL, MTTV, SAT
from stmine_hf.training.fisvl.arguments import FisvlDataArguments
from stmine_hf.training.fisvl.samples import CaptionedImages
from stmine_hf.training.mttv.samples import Posts
from stmine_hf.training.sat.samples import BoxedImages

PIXELS = PixelOptions.parse("100,1100", "3,2,1")


@pytest.fixture
def image(tmp_path):
    """Three bands of 16 bits, with values up to 1,200."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("rasterio")
    values = (np.arange(24 * 32 * 3, dtype=np.uint16) % 1200).reshape(24, 32, 3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    return tmp_path / "a.tif"


def rows(kind: str, path) -> datasets.Dataset:
    own = {"image": str(path), "filename": path.name}
    if kind == "captions":
        row = {**own, "captions": ["a river"], "caption_weights": [1.0], "label": 0, "image_id": 1}
        return datasets.Dataset.from_list([row], captions_features(["river"]))
    if kind == "posts":
        row = {**own, "post_id": "1", "text": "a post", "label": 0, "group": -1}
        return datasets.Dataset.from_list([row], posts_features(["fake", "real"]))
    objects = {"id": [1], "bbox": [[1.0, 1.0, 8.0, 8.0]], "category": [0], "area": [64.0], "iscrowd": [False]}
    row = {**own, "image_id": 1, "width": 32, "height": 24, "objects": objects, "source": ""}
    return datasets.Dataset.from_list([row], boxes_features(["cat"], [1]))


@pytest.mark.parametrize("pixels", [None, PIXELS])
def test_every_door_shows_the_same_pixels(image, pixels):
    expected = np.asarray(open_image(image, options=pixels or PixelOptions()))
    captions = rows("captions", image)
    evaluated = readable(captions, lambda row, found, number: found, [], doing="", progress=False, pixels=pixels)
    doors = {
        "evaluation": next(evaluated),
        "fisvl": CaptionedImages(captions, pixels=pixels)[0]["image"],
        "mttv": Posts(rows("posts", image), {"fake": 0, "real": 1}, pixels=pixels)[0]["image"],
        "sat": BoxedImages(rows("boxes", image), ["cat"], {"cat": 0}, pixels=pixels)[0]["image"],
    }  # fmt: skip
    for door, found in doors.items():
        assert np.array_equal(np.asarray(found), expected), door
    if pixels:
        assert not np.array_equal(expected, np.asarray(open_image(image)))


def test_settings_of_a_training():
    assert FisvlDataArguments(stretch="100,1100", bands="3,2,1").pixels == PIXELS
    assert FisvlDataArguments().pixels == PixelOptions()
    with pytest.raises(StmineError, match="stretch: expected two increasing values"):
        FisvlDataArguments(stretch="9,1")
    with pytest.raises(StmineError, match="bands: expected the numbers"):
        FisvlDataArguments(bands="red")
    assert (
        pixel_settings(PIXELS) == {"stretch": "100,1100", "bands": [3, 2, 1]}
        and pixel_settings(PixelOptions()) is None
    )


@pytest.mark.parametrize(("method", "dataset"), [(FISVL, "toy_scenes"), (MTTV, "toy_posts"), (SAT, "toy_camouflage")])
def test_evaluate_passes_them_on(method, dataset, monkeypatch):
    given = {}

    class Reported(Exception):
        pass

    def evaluate(*args, **options):
        given.update(options)
        raise Reported

    monkeypatch.setattr("stmine_hf.evaluation.detection.matched_labels", lambda *given: {0: 0})
    monkeypatch.setattr("stmine_hf.loading.load_model", lambda *args, **options: (None, None))
    monkeypatch.setattr(type(method), "evaluate", property(lambda self: evaluate), raising=False)
    words = ["evaluate", method.name, "--dataset", dataset, "--option", "count=36", "--stretch", "100,1100"]
    result = CliRunner().invoke(app, [*words, "--bands", "3,2,1"])
    assert isinstance(result.exception, Reported), result.output
    assert given["pixels"] == PIXELS
