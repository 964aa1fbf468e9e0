"""Batches, order and memory of the embedding functions, with a model whose right answers are known by formula."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import BatchEncoding

from stmine_hf.search.embedding import embed_images, embed_texts


class MeanColour(nn.Module):
    """Embeds an image as its mean colour and a sentence as its character counts; remembers what it was given."""

    def __init__(self, as_output: bool = True):
        super().__init__()
        self.config = SimpleNamespace(projection_dim=3)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.as_output = as_output
        self.batches: list[torch.Size] = []

    @property
    def device(self) -> torch.device:
        return self.scale.device

    @property
    def dtype(self) -> torch.dtype:
        return self.scale.dtype

    def get_image_features(self, pixel_values):
        assert torch.is_inference_mode_enabled() and not self.training
        self.batches.append(pixel_values.shape)
        return self._wrap(self.scale * pixel_values.mean((2, 3)))

    def get_text_features(self, input_ids, attention_mask):
        assert torch.is_inference_mode_enabled() and not self.training
        self.batches.append(input_ids.shape)
        return self._wrap(torch.stack([(input_ids == ord(c)).float().sum(1) + 0.1 for c in "abc"], dim=1))

    def _wrap(self, rows):
        return SimpleNamespace(pooler_output=rows) if self.as_output else rows


def processor(images=None, text=None, return_tensors=None, padding=None, truncation=None):
    if images is not None:
        pixels = torch.tensor([image.getpixel((0, 0)) for image in images]) / 255.0
        return BatchEncoding({"pixel_values": pixels[:, :, None, None].expand(-1, -1, 4, 4)})
    width = max(map(len, text))
    ids = torch.tensor([[ord(c) for c in t] + [0] * (width - len(t)) for t in text])
    return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long()})


def colours(n):
    return [(10 + i, 255 - 3 * i, (7 * i) % 256) for i in range(n)]


@pytest.mark.parametrize("as_output", [True, False])
def test_images_come_out_in_order_as_unit_rows(as_output):
    model = MeanColour(as_output).train()
    rows = embed_images(model, processor, (Image.new("RGB", (8, 8), c) for c in colours(7)), batch_size=3)
    expected = nn.functional.normalize(torch.tensor(colours(7), dtype=torch.float32), dim=-1)
    assert rows.dtype == torch.float32 and rows.device.type == "cpu"
    torch.testing.assert_close(rows, expected)
    assert [shape[0] for shape in model.batches] == [3, 3, 1]


def test_images_are_taken_one_batch_at_a_time():
    model, taken = MeanColour(), []

    def images():
        for i, colour in enumerate(colours(9)):
            assert sum(shape[0] for shape in model.batches) >= i - 2, "more than one batch was drawn ahead"
            taken.append(i)
            yield Image.new("RGB", (4, 4), colour)

    embed_images(model, processor, images(), batch_size=2)
    assert len(taken) == 9


def test_texts_are_encoded_once_each_by_length_and_come_out_in_order():
    texts = ["abcabc", "a", "bb", "a", "ccc", "abcabc", "b"]
    model = MeanColour()
    rows = embed_texts(model, processor, texts, batch_size=2)
    assert [tuple(shape) for shape in model.batches] == [(2, 1), (2, 3), (1, 6)]
    alone = torch.cat([embed_texts(MeanColour(), processor, [text]) for text in texts])
    torch.testing.assert_close(rows, alone, rtol=0, atol=0)


def test_nothing_to_embed_gives_no_rows_of_the_right_width():
    assert embed_images(MeanColour(), processor, []).shape == (0, 3)
    assert embed_texts(MeanColour(), processor, []).shape == (0, 3)


def test_half_precision_model_gives_float32_rows():
    rows = embed_images(MeanColour().to(torch.bfloat16), processor, [Image.new("RGB", (4, 4), (250, 20, 20))])
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(1))


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size=0"):
        embed_images(MeanColour(), processor, [Image.new("RGB", (4, 4))], batch_size=0)
