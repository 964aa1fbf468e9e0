"""Measure how much faster posts with images are classified in one pass than crop by crop, as the release does.

    python examples/benchmark_mttv.py --threads 1
    python examples/benchmark_mttv.py --model hub_cards/mttv-lite-weibo --posts 32

Both ways classify the same posts, from images to logits: together, all images and crops of a batch go through the
visual encoder at once; one by one, each goes alone, and the transformer takes the gathered features. They take turns
in one process, so that a busy machine slows both alike; the ratio is the median of the ratios of the rounds. Random
weights serve as well: time does not depend on them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import BertTokenizer, ResNetConfig
from transformers.utils import logging as transformers_logging

from stmine_hf import MttvConfig, MttvForSequenceClassification, MttvProcessor
from stmine_hf.errors import StmineError
from stmine_hf.loading import load_mttv
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor, crop_region


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id; default: the visual encoder and sizes of the release")
    parser.add_argument("--posts", type=int, default=4, help="posts of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model, processor = load_mttv(args.model, "cpu") if args.model else released()
    if model.config.vision_config is None:
        raise StmineError(f"{args.model}: this model has no visual encoder; name one that has.")
    regions = model.config.num_region_tokens
    figures = measure(model, processor, draw_posts(args.posts, regions), args.rounds)
    facts = {"model": args.model or "released sizes", "posts": args.posts, "regions": regions}
    figures = {**facts, "threads": args.threads, "rounds": args.rounds, "torch": torch.__version__, **figures}
    print_table(figures)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def released() -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """ResNet-152 and six layers of BERT-base with random weights, and a tokenizer that knows a few words."""
    torch.manual_seed(0)
    config = MttvConfig.preset("weibo", vision_config=ResNetConfig(depths=[3, 8, 36, 3]))
    model = MttvForSequenceClassification(config).eval().to(memory_format=torch.channels_last)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"转发此微博"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    return model, MttvProcessor(MttvImageProcessor(), tokenizer, num_regions=config.num_region_tokens)


def draw_posts(count: int, regions: int) -> dict[str, list]:
    """Posts of 100 characters with a 640 x 480 image and as many boxes as the model takes."""
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, size=(480, 640, 3), dtype=np.uint8)) for _ in range(count)]
    corners = np.sort(random.uniform(0, 1, size=(count, regions, 2, 2)), axis=2)  # post, region, corner, (x, y)
    boxes = corners.reshape(count, regions, 4) * (640, 480, 640, 480)
    return {"text": ["转发此微博" * 20] * count, "images": images, "boxes": list(boxes)}


def together(model, processor, posts: dict[str, list]) -> torch.Tensor:
    return model(**processor(**posts)).logits


def one_by_one(model, processor, posts: dict[str, list]) -> torch.Tensor:
    """As the release: every image and every crop is a batch of its own."""

    def features(image: Image.Image) -> torch.Tensor:  # (1, C, rows, columns)
        return model.mttv.get_visual_features(processor.image_processor(image, return_tensors="pt")["pixel_values"])[0]

    maps = torch.cat([features(image) for image in posts["images"]])
    regions = torch.zeros(len(maps), model.config.num_region_tokens, maps.shape[1])
    for row, (image, boxes) in enumerate(zip(posts["images"], posts["boxes"], strict=True)):
        for place, box in enumerate(boxes):
            regions[row, place] = features(crop_region(image, box)).mean(dim=(2, 3))[0]
    return model(**processor(text=posts["text"]), global_features=maps, region_features=regions).logits


@torch.inference_mode()
def measure(model, processor, posts: dict[str, list], rounds: int) -> dict[str, float]:
    """Seconds of both ways (medians), and the median of their ratio. The first round only warms up."""
    ways = {"together": together, "one by one": one_by_one}
    times: dict[str, list[float]] = {name: [] for name in ways}
    logits = {}
    for number in track(range(rounds + 1), "Taking turns", console=Console(stderr=True), transient=True):
        for name in sorted(ways, reverse=number % 2 == 1):
            start = time.perf_counter()
            logits[name] = ways[name](model, processor, posts)
            if number:
                times[name].append(time.perf_counter() - start)
    difference = float((logits["together"] - logits["one by one"]).abs().max())
    if difference > 1e-3:
        raise StmineError(f"The two ways disagree by {difference:.2g}: they did not do the same work.")
    seconds = {name: statistics.median(values) for name, values in times.items()}
    ratios = [slow / fast for slow, fast in zip(times["one by one"], times["together"], strict=True)]
    return {
        **{f"{name}, seconds": round(value, 4) for name, value in seconds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "greatest difference of logits": difference,
    }


def print_table(figures: dict) -> None:
    count = figures["posts"] * (1 + figures["regions"])
    table = Table(
        title=f"{figures['posts']} posts with {figures['regions']} regions each ({count} images and crops), "
        f"{figures['threads']} thread(s)",
        caption=f"{figures['model']}; logits differ by {figures['greatest difference of logits']:.1e} at most",
    )
    for column in ("", "seconds", "posts a second", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, ratio in (("one by one", "1"), ("together", f"{figures['ratio']:.2f}")):
        seconds = figures[f"{name}, seconds"]
        table.add_row(name, f"{seconds:.3f}", f"{figures['posts'] / seconds:.2f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
