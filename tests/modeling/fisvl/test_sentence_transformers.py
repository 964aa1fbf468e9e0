"""A FISVL repository as an encoder of sentence-transformers: the vectors are the model's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from deterministic import named_image
from helpers import save_tiny_fisvl
from PIL import Image

from stmine_hf import FisvlModel, FisvlProcessor
from stmine_hf.hub.fisvl_repository import SENTENCE_TRANSFORMERS

sentence_transformers = pytest.importorskip("sentence_transformers")

SENTENCES = ["Many planes, near a terminal!", "a harbour", "green trees and a river"]
IMAGES = [Image.fromarray(named_image(40, 60, seed)) for seed in range(2)] + [Image.new("LA", (9, 9), (9, 0))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = save_tiny_fisvl(tmp_path_factory.mktemp("published"))
    for name, settings in SENTENCE_TRANSFORMERS.items():
        (folder / name).write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


def test_vectors_are_the_models_own(folder, encoder):
    model, processor = FisvlModel.from_pretrained(folder).eval(), FisvlProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**processor(images=IMAGES, text=SENTENCES))
    sentences, images = encoder.encode(SENTENCES), encoder.encode(IMAGES, batch_size=2)
    np.testing.assert_allclose(sentences, expected.text_embeds.numpy(), atol=1e-6)
    np.testing.assert_allclose(images, expected.image_embeds.numpy(), atol=1e-6)
    assert encoder.get_embedding_dimension() == model.config.projection_dim == sentences.shape[1]
    cosines = expected.text_embeds @ expected.image_embeds.T
    torch.testing.assert_close(encoder.similarity(sentences, images), cosines, atol=1e-5, rtol=0)


def test_images_by_their_files(encoder, tmp_path):
    IMAGES[0].save(tmp_path / "a.png")
    np.testing.assert_allclose(encoder.encode([str(tmp_path / "a.png")]), encoder.encode(IMAGES[:1]), atol=1e-6)


def test_what_was_saved_opens_again(encoder, tmp_path):
    encoder.save_pretrained(str(tmp_path / "again"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    np.testing.assert_array_equal(again.encode(SENTENCES), encoder.encode(SENTENCES))
    np.testing.assert_array_equal(again.encode(IMAGES), encoder.encode(IMAGES))
