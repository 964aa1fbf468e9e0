"""A tokenizer of whole words for the tiny models of smoke runs: its vocabulary is the words of the texts."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """BERT's splitting into words (each Chinese character is one); each word is a token.

    Args:
        texts: their words become the vocabulary, after the special tokens, in alphabetical order.
    """
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *sorted(words)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106  a token of texts
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106  a token of texts
        unk_token="[UNK]",  # noqa: S106  a token of texts
        cls_token="[CLS]",  # noqa: S106  a token of texts
        sep_token="[SEP]",  # noqa: S106  a token of texts
        mask_token="[MASK]",  # noqa: S106  a token of texts
    )
