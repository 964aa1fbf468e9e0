"""The tiny model of smoke runs: the whole architecture, and it opens again."""

import torch
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoProcessor

from stmine_hf.training.mttv.toy_model import build_toy_mttv
from stmine_hf.training.toy_tokenizer import SPECIAL_TOKENS, word_tokenizer


def test_every_word_and_every_chinese_character_is_a_token():
    tokenizer = word_tokenizer(["A plane, a ship.", "真的 plane"])
    words = [",", ".", "a", "plane", "ship", "的", "真"]
    assert list(tokenizer.get_vocab()) and sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get) == [
        *SPECIAL_TOKENS,
        *words,
    ]
    assert tokenizer.tokenize("the Ship") == ["[UNK]", "ship"]


def test_it_reads_posts_and_opens_again(tmp_path):
    torch.manual_seed(0)
    model, processor = build_toy_mttv(["a red ring"], ["fake", "real", "open"], image_size=32, width=8, dropout=0.0)
    assert model.training and sum(tensor.numel() for tensor in model.parameters()) < 60_000
    assert processor.num_regions == model.config.num_region_tokens
    inputs = processor(text=["a red ring", "a ring"], images=[Image.new("RGB", (50, 40), "red"), None])
    logits = model.eval()(**inputs).logits
    assert logits.shape == (2, 3)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    inputs = AutoProcessor.from_pretrained(tmp_path)(
        text=["a red ring", "a ring"], images=[Image.new("RGB", (50, 40), "red"), None]
    )
    assert torch.equal(again(**inputs).logits, logits)
    assert again.config.id2label == {0: "fake", 1: "real", 2: "open"}


def test_a_missing_image_is_not_the_same_as_a_black_one():
    torch.manual_seed(0)
    model, processor = build_toy_mttv(["a ring"], ["fake", "real"], image_size=32, width=8)
    inputs = processor(text=["a ring"] * 2, images=[Image.new("RGB", (40, 40)), None])
    logits = model.eval()(**inputs).logits
    assert not torch.allclose(logits[0], logits[1])
