"""FISVL: images and captions embedded by the network of released size, and a folder indexed by the shipped one.

python examples/benchmarks/fisvl.py --quick
python examples/benchmarks/fisvl.py --data data --only captions
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from harness import OURS, Comparison, Options, engine, flops_of, run_group, without
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.functional import normalize as standardize
from torchvision.transforms.functional import pil_to_tensor

from stmine_hf import FisvlConfig, FisvlModel, FisvlProcessor
from stmine_hf.inference.engines import AUTO, Runner
from stmine_hf.modeling.fisvl.inputs_fisvl import clean_caption
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor
from stmine_hf.search import EngineEncoder, embed_images, embed_texts
from stmine_hf.training import word_tokenizer

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RELEASED_IMAGES, RELEASED_TEXTS = 64, 256  # of a batch in the released evaluation


def comparisons(options: Options) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = captions(options, 64 if options.quick else 5465)
        model, eager = networks()
        processor = FisvlProcessor(FisvlImageProcessor(), word_tokenizer(texts))
        encoder = EngineEncoder(model, engine() if options.quick else AUTO)  # which tries all of them
        yield image_embedding(options, folder, encoder, model, eager, processor)
        yield caption_embedding(options, texts, encoder, model, eager, processor)
        del model, eager, encoder
        yield index(options, folder)


def networks() -> tuple[FisvlModel, FisvlModel]:
    """The network as the library makes it, and the same weights with attention written out, as released."""
    torch.manual_seed(0)
    model = FisvlModel(FisvlConfig()).eval()
    config = FisvlConfig()
    config._attn_implementation = "eager"
    with torch.device("meta"):
        eager = FisvlModel(config).eval()
    eager.load_state_dict(model.state_dict(), assign=True)
    for (_, buffer), (name, _) in zip(model.named_buffers(), list(eager.named_buffers()), strict=True):
        owner, _, own = name.rpartition(".")
        eager.get_submodule(owner)._buffers[own] = buffer
    return model, eager


def cosine(one: Tensor, other: Tensor) -> float:
    """1 - the least cosine of two rows that should be equal."""
    return 1 - float((normalize(one, dim=-1) * normalize(other, dim=-1)).sum(dim=-1).min())


def choose(runner: Runner, *inputs: Tensor) -> None:
    """Let a long job begin, which looks for the fastest engine that agrees with PyTorch."""
    runner.expect(1_000_000)
    for _ in range(3):
        runner(*inputs)


# ---- images ----


def image_embedding(
    options: Options,
    folder: Path,
    encoder: EngineEncoder,
    model: FisvlModel,
    eager: FisvlModel,
    processor: FisvlProcessor,
) -> Comparison:
    count = 4 if options.quick else 32
    files = options.images(folder / "few", "rsicd", count)

    @torch.no_grad()
    def released() -> Tensor:
        """Decode, squash to 224 x 224 (bicubic), normalize, embed in batches of the released size."""
        rows = []
        for start in range(0, count, RELEASED_IMAGES):
            batch = torch.stack([pixels(Image.open(file)) for file in files[start : start + RELEASED_IMAGES]])
            rows.append(eager.get_image_features(pixel_values=batch).pooler_output)
        return torch.cat(rows)

    def ours() -> Tensor:
        return embed_images(encoder, processor, (Image.open(file) for file in files), batch_size=8)

    images = [Image.open(file).convert("RGB") for file in files]
    prepared = processor(images=images, return_tensors="pt")["pixel_values"]
    choose(encoder.image, prepared[:8])

    @torch.no_grad()
    def model_as_released() -> None:
        for start in range(0, count, RELEASED_IMAGES):
            eager.get_image_features(pixel_values=prepared[start : start + RELEASED_IMAGES])

    with torch.no_grad():
        flops = count * flops_of(lambda: model.get_image_features(pixel_values=prepared[:1]))
    return Comparison(
        work="FISVL official size: images embedded",
        count=count,
        unit="images",
        ways={"released": released, OURS: ours},
        target=3,
        difference=cosine,
        measured="1 - cosine",
        allowed=1e-3,
        others=other_towers(files),
        parts={
            "decode": lambda: [Image.open(file).convert("RGB") for file in files],
            "resize and normalize": lambda: processor(images=images, return_tensors="pt"),
            "model": lambda: embed_prepared(encoder, prepared),
        },
        former_parts={
            "decode": lambda: [Image.open(file).convert("RGB") for file in files],
            "resize and normalize": lambda: [pixels(image) for image in images],
            "model": model_as_released,
        },
        flops=flops,
        conditions=f"{count} JPEG files of 224 x 224; Swin-T, ResNet-50 and graph, random weights; ours in the "
        f"engine {encoder.image.label}; alternatives: "
        "the image tower of CLIP ViT-B/32 on the same files",
    )


def pixels(image: Image.Image) -> Tensor:
    squashed = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    return standardize(pil_to_tensor(squashed).float() / 255, MEAN, STD)


@torch.inference_mode()
def embed_prepared(model: EngineEncoder, prepared: Tensor) -> None:
    for start in range(0, len(prepared), 8):
        model.get_image_features(pixel_values=prepared[start : start + 8])


def other_towers(files: list[Path]) -> dict[str, Callable[[], Tensor]]:
    """CLIP's image tower by other libraries, with random weights."""
    from transformers import CLIPConfig, CLIPModel

    clip = CLIPModel(CLIPConfig()).eval()  # ViT-B/32, which sentence-transformers serves as clip-ViT-B-32

    def by(embed: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        @torch.inference_mode()
        def run() -> Tensor:
            return embed(torch.stack([pixels(Image.open(file)) for file in files]))

        return run

    found = {
        "CLIP ViT-B/32, transformers": by(lambda batch: clip.get_image_features(pixel_values=batch).pooler_output)
    }
    try:
        import open_clip
    except ImportError:
        without("open_clip_torch", "open_clip")
        return found
    other = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    return found | {"CLIP ViT-B/32, open_clip": by(other.encode_image)}


# ---- captions ----


def captions(options: Options, count: int) -> list[str]:
    """The first captions of RSICD in file order, or drawn ones, of which a third repeat, as they do there."""
    if options.data:
        document = json.loads((options.data / "rsicd" / "dataset.json").read_text(encoding="utf-8"))
        return [sentence["raw"] for image in document["images"] for sentence in image["sentences"]][:count]
    chance = random.Random(0)
    words = [f"word{number}" for number in range(300)]
    found: list[str] = []
    for _ in range(count):
        new = " ".join(chance.choices(words, k=round(min(max(chance.gauss(11, 4), 4), 30))))
        found.append(chance.choice(found) if found and chance.random() < 0.33 else new)
    return found


def caption_embedding(
    options: Options,
    texts: list[str],
    encoder: EngineEncoder,
    model: FisvlModel,
    eager: FisvlModel,
    processor: FisvlProcessor,
) -> Comparison:
    @torch.no_grad()
    def released() -> Tensor:
        """All captions in file order, each batch padded to its longest."""
        rows = []
        for start in range(0, len(texts), RELEASED_TEXTS):
            cleaned = [clean_caption(text, 30) for text in texts[start : start + RELEASED_TEXTS]]
            tokens = processor.tokenizer(
                cleaned, padding="longest", truncation=True, max_length=47, return_tensors="pt"
            )
            features = eager.get_text_features(tokens["input_ids"], tokens["attention_mask"])
            rows.append(features.pooler_output)
        return torch.cat(rows)

    def ours() -> Tensor:
        return embed_texts(encoder, processor, texts)

    with torch.no_grad():
        one = processor(text=texts[:1])
        flops = len(texts) / one["input_ids"].numel() * flops_of(lambda: model.get_text_features(**one))
    few = processor(text=sorted(texts, key=len)[: 2 * RELEASED_IMAGES], return_tensors="pt")
    choose(encoder.text, few["input_ids"], few["attention_mask"])
    lengths = [len(row) for row in processor(text=texts, padding=False, return_tensors=None)["input_ids"]]
    distinct = sorted(dict.fromkeys(texts), key=len)
    batches = [distinct[start : start + 128] for start in range(0, len(distinct), 128)]
    prepared = [processor(text=batch, return_tensors="pt") for batch in batches]

    @torch.inference_mode()
    def model_alone() -> None:
        for batch in prepared:
            encoder.get_text_features(batch["input_ids"], batch["attention_mask"])

    return Comparison(
        work="FISVL official size: captions embedded",
        count=len(texts),
        unit="captions",
        ways={"released": released, OURS: ours},
        target=4,
        difference=cosine,
        measured="1 - cosine",
        allowed=1e-4,
        parts={
            "tokens": lambda: [processor(text=batch, return_tensors="pt") for batch in batches],
            "model": model_alone,
        },
        flops=flops * sum(lengths) / len(lengths),
        conditions=f"{len(texts):,} captions in file order ({'RSICD' if options.data else 'drawn'}), "
        f"{len(distinct):,} distinct; BERT-base, random weights; ours in the engine {encoder.text.label}; "
        f"batches of {RELEASED_TEXTS} as released, with the "
        "mask that the released code leaves out, so that outputs can be compared",
        rounds=1,
    )


# ---- a folder ----


def index(options: Options, folder: Path) -> Comparison:
    """`stmine index` as a process, from files to a finished index."""
    count = 32 if options.quick else 2048
    options.images(folder / "images", "rsicd", count)
    made = iter(range(10_000))

    def run(python: str) -> None:
        options.command("index", folder / "images", "--out", folder / f"index{next(made)}", python=python)

    return Comparison(
        work="FISVL lite: stmine index of a folder",
        count=count,
        unit="images",
        ways=options.commands(run),
        target=2.5 if options.before else None,
        conditions=f"{count:,} JPEG files of 224 x 224 on disk, the whole command with its start",
        rounds=1 if options.quick else 2,
        warm=False,
    )


if __name__ == "__main__":
    run_group("fisvl", comparisons, __doc__)
