"""MTTV: posts with five regions through the network of released size, a file of posts through the shipped one.

python examples/benchmarks/mttv.py --quick
python examples/benchmarks/mttv.py --data data --threads 2
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import OURS, Comparison, Options, engine, flops_of, run_group
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer, ResNetConfig

from stmine_hf import MttvConfig, MttvForSequenceClassification, MttvProcessor, PostClassifier
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor, Regions, crop_region
from stmine_hf.posts import EngineClassifier

CHARACTERS = "转发此微博请大家注意今天上午在市中心发生的事情记者从交通局获悉"
REGIONS = 5
SIZE = (640, 480)  # of an image


def comparisons(options: Options) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as scratch:
        yield raw_posts(options, Path(scratch))
        yield classify_file(options, Path(scratch))


# ---- posts with regions ----


def raw_posts(options: Options, folder: Path) -> Comparison:
    count = 1 if options.quick else 8
    files = options.images(folder / "with_regions", "weibo", count, SIZE)
    texts = drawn_texts(count)
    chance = np.random.default_rng(0)
    corners = np.sort(chance.uniform(0, 1, size=(count, REGIONS, 2, 2)), axis=2).reshape(count, REGIONS, 4)
    boxes = [own * (Image.open(file).size * 2) for own, file in zip(corners, files, strict=True)]
    network, eager, processor = networks()

    def found(images: list[Image.Image]) -> list[Regions]:
        """The detector's place: its answers are known, for it is the same in both pipelines."""
        sizes = [image.size for image in images]
        assert sizes == [Image.open(file).size for file in files[: len(sizes)]]
        return [Regions(own, np.linspace(1, 0.5, REGIONS)) for own in boxes[: len(sizes)]]

    classifier = PostClassifier((network, processor), detector=found, batch_size=count, engine=engine())
    posts = [{"text": text, "image": file} for text, file in zip(texts, files, strict=True)]

    @torch.no_grad()
    def released() -> Tensor:
        """Two passes: visual features of each image and of each crop alone, into a file; then the transformer."""
        for number, (file, own) in enumerate(zip(files, boxes, strict=True)):
            image = Image.open(file).convert("RGB")
            maps, _ = eager.mttv.get_visual_features(pixels(image))
            regions = [
                eager.mttv.get_visual_features(pixels(crop_region(image, box)))[0].mean(dim=(2, 3)) for box in own
            ]
            np.savez(folder / f"{number}.npz", maps=maps.numpy(), regions=torch.cat(regions).numpy())
        stored = [np.load(folder / f"{number}.npz") for number in range(count)]
        inputs = processor(text=texts)
        maps = torch.from_numpy(np.concatenate([one["maps"] for one in stored]))
        regions = torch.from_numpy(np.stack([one["regions"] for one in stored]))
        return eager(**inputs, global_features=maps, region_features=regions).logits.softmax(dim=-1)

    def ours() -> Tensor:
        answers = classifier(posts)
        return torch.tensor([[answer.scores[label] for label in classifier.labels] for answer in answers])

    images = [Image.open(file).convert("RGB") for file in files]
    prepared = processor(text=texts, images=images, boxes=boxes)
    with torch.no_grad():
        flops = flops_of(lambda: network(**prepared))
    in_engine = EngineClassifier(network, engine())

    @torch.inference_mode()
    def model_alone() -> None:
        in_engine.model(**prepared)

    for opening in (model_alone, ours):  # of their engines
        opening()

    def prepared_as_released() -> list[list[Tensor]]:
        processor(text=texts)
        return [
            [pixels(image), *(pixels(crop_region(image, box)) for box in own)]
            for image, own in zip(images, boxes, strict=True)
        ]

    one_by_one = prepared_as_released()

    @torch.no_grad()
    def model_as_released() -> None:
        maps = [eager.mttv.get_visual_features(image)[0] for image, *_ in one_by_one]
        regions = [
            torch.cat([eager.mttv.get_visual_features(crop)[0].mean(dim=(2, 3)) for crop in crops])
            for _, *crops in one_by_one
        ]
        eager(**processor(text=texts), global_features=torch.cat(maps), region_features=torch.stack(regions))

    return Comparison(
        work="MTTV official size: posts with an image and 5 regions",
        count=count,
        unit="posts",
        ways={"released, two passes": released, OURS: ours},
        target=3,
        difference=lambda one, other: float((one - other).abs().max()),
        measured="probability",
        allowed=0.02,
        parts={
            "decode": lambda: [Image.open(file).convert("RGB") for file in files],
            "crop, resize, tokens": lambda: processor(text=texts, images=images, boxes=boxes),
            "model": model_alone,
        },
        former_parts={
            "decode": lambda: [Image.open(file).convert("RGB") for file in files],
            "crop, resize, tokens": prepared_as_released,
            "model": model_as_released,
        },
        flops=flops,
        conditions=f"{count} posts of 115 characters with a JPEG image; ResNet-152, six layers of BERT-base, random "
        "weights; ours in the engine "
        f"{engine()}; boxes are given, since the detector is the same in both",
    )


def networks() -> tuple[MttvForSequenceClassification, MttvForSequenceClassification, MttvProcessor]:
    """The network as the library makes it, the same weights with attention written out, and the processor."""
    torch.manual_seed(0)
    config = MttvConfig.preset("weibo", vision_config=ResNetConfig(depths=[3, 8, 36, 3]))
    network = MttvForSequenceClassification(config).eval()
    plain = MttvConfig.preset("weibo", vision_config=ResNetConfig(depths=[3, 8, 36, 3]))
    plain._attn_implementation = "eager"
    eager = MttvForSequenceClassification(plain).eval()
    eager.load_state_dict(network.state_dict())
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS)]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    processor = MttvProcessor(MttvImageProcessor(), tokenizer, num_regions=REGIONS)
    return network.to(memory_format=torch.channels_last), eager, processor


def pixels(image: Image.Image) -> Tensor:
    """(1, 3, 224, 224): squashed (bilinear) and normalized, as released."""
    squashed = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    standard = (squashed - np.float32((0.485, 0.456, 0.406))) / np.float32((0.229, 0.224, 0.225))
    return torch.from_numpy(standard).permute(2, 0, 1)[None].contiguous()


def drawn_texts(count: int) -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(CHARACTERS, k=115)) for _ in range(count)]


# ---- a file of posts ----


def classify_file(options: Options, folder: Path) -> Comparison:
    """`stmine classify --file` as a process."""
    count = 100 if options.quick else 10_000
    with_image = count // 10
    files = options.images(folder / "images", "weibo", min(with_image, 300), SIZE)
    rows: list[dict[str, Any]] = [
        {"id": number, "text": text} for number, text in enumerate(real_texts(options, count) or drawn_texts(count))
    ]
    for number in range(with_image):
        rows[10 * number]["image"] = f"images/{files[number % len(files)].name}"
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "posts.jsonl").write_text(lines + "\n", encoding="utf-8")
    made = iter(range(10_000))

    def run(python: str) -> dict[Any, float]:
        out = folder / f"predictions{next(made)}.jsonl"
        options.command("classify", "--file", folder / "posts.jsonl", "--out", out, python=python)
        answers = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        return {answer["id"]: answer["score"] for answer in answers if "score" in answer}

    return Comparison(
        work=f"MTTV lite: stmine classify --file, {count:,} posts",
        count=count,
        unit="posts",
        ways=options.commands(run),
        target=3 if options.before else None,
        difference=lambda one, other: max(abs(one[name] - other[name]) for name in one),
        measured="probability",
        allowed=0.02,
        conditions=f"{'posts of Weibo' if options.data else 'drawn posts'}, an image with every tenth; the whole "
        "command with its start",
        rounds=1,
        warm=False,
    )


def real_texts(options: Options, count: int) -> list[str]:
    if not options.data:
        return []
    files = sorted((options.data / "weibo").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    texts = [str(json.loads(line)["text"]) for line in lines]
    return [texts[number % len(texts)] for number in range(count)]


if __name__ == "__main__":
    run_group("mttv", comparisons, __doc__)
