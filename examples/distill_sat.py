"""Trim NanoDet-m down to SAT's published budget and give it back its skill, without labels.

    stmine convert sat nanodet_m.safetensors outputs/nanodet-m-coco
    python examples/distill_sat.py --parent outputs/nanodet-m-coco --data_dir data/coco_small \\
        --more data/indiscernible --images data/fake_news --out outputs/sat-coco-small-first
    python examples/distill_sat.py --parent outputs/nanodet-m-coco --data_dir data/coco_small \\
        --more data/indiscernible --images data/fake_news --student outputs/sat-coco-small-first/best \\
        --steps 1500 --learning_rate 4e-4 --warmup_steps 50 --seed 1 --out outputs/sat-coco-small

1. *Trim*: 24 -> 16 filters in the stem, fewer channels inside most blocks (58, 116 and 232 there) and in the head
   (96 -> 80). The most replaceable ones go, the layers behind them are refitted by least squares
   (`stmine_hf/training/sat/trimming.py`).
2. *Distil*: the trimmed model learns to predict what its parent predicts of random views of any images: class
   probabilities, distances, maps (`stmine_hf/training/sat/distillation.py`). 3,000 steps of about a second on one CPU
   core; a further round (`--student`) starts from the model of an earlier one.

Run again with the same --out, it resumes where it stopped. OUT gets `best/` (the model, at the end: nothing is picked
on the validation split), `config.yaml` (the settings), and `results.json`: the losses, the budget, the validation AP.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import yaml
from PIL import Image
from rich.console import Console
from rich.progress import track
from transformers import set_seed

from stmine_hf import SatConfig, SatForObjectDetection, load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.evaluation.detection import evaluate_detection
from stmine_hf.evaluation.reports import undecoded
from stmine_hf.files import write_entries
from stmine_hf.images import ImageError, Skip, decode_image, find_images, image_errors, open_image
from stmine_hf.loading import load_sat
from stmine_hf.outputs import require_apart
from stmine_hf.training import (
    TRIMMED,
    Views,
    WeightEma,
    budget,
    distillation_losses,
    recalibrate_batchnorm,
    teach,
    trim,
    unfuse,
)

MAPS_WEIGHT = 5.0  # of the maps' loss, which is a share of variance and so the smallest of the three
SIDES = (224, 256, 320)  # of the views; a batch has as many as fill PIXELS
PIXELS = 2**20
OWN_SHARE = 0.45  # of the views: from --data_dir; the rest from all other images alike
CALIBRATION = 128  # images: the first for refitting, all for the batch norms
REFITTED_ON = 48
EMA_DECAY = 0.998


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", required=True, help="NanoDet-m: a folder of `stmine convert sat`, or a Hub id")
    parser.add_argument("--data_dir", required=True, type=Path, help="data set (COCO JSON); `val` is only measured")
    parser.add_argument("--more", nargs="*", default=[], type=Path, help="COCO JSON sets, their train images only")
    parser.add_argument("--images", nargs="*", default=[], type=Path, help="folders of any further images")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--student", help="a further round: the `best` of an earlier run, instead of trimming")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--warmup_steps", type=int, default=200)
    parser.add_argument("--save_steps", type=int, default=200)
    parser.add_argument("--max_images", type=int, help="of each source: for a quick trial")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    set_seed(args.seed)
    require_apart(args.out, [args.data_dir, *args.more, *args.images])
    args.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "dataset": "coco_json",
        **{name: plain(value) for name, value in vars(args).items()},
        "maps_weight": MAPS_WEIGHT,
    }
    (args.out / "config.yaml").write_text(yaml.safe_dump(plain(settings), sort_keys=False), encoding="utf-8")

    # 1. The parent, its batch norms folded into the convolutions: nothing to keep statistics of, and a third faster.
    parent, processor = load_sat(args.parent, device="cpu")
    parent.eval().fuse().to(memory_format=torch.channels_last)
    channels = {name: getattr(SatConfig.preset("sat"), name) for name in TRIMMED}
    config = SatConfig.from_dict({**parent.config.to_dict(), **channels})
    print(f"parent: {budget(parent.config)}\ntrimmed: {budget(config)}")

    # 2. Images. Labels are not read.
    skipped: list[Skip] = []
    own = dataset_images(args.data_dir, skipped, args.max_images)
    others = [image for folder in args.more for image in dataset_images(folder, skipped, args.max_images)]
    others += [image for folder in args.images for image in folder_images(folder, skipped, args.max_images)]
    groups, shares = ([own, others], [OWN_SHARE, 1 - OWN_SHARE]) if others else ([own], [1.0])
    views = Views(groups, shares, processor)
    print(f"{len(own)} images of {args.data_dir.name}, {len(others)} others; {len(skipped)} skipped.")
    for skip in skipped:
        print(f"  {skip.path}: {skip.reason}")

    # 3. Trim.
    calibration = views.batch(CALIBRATION, 256, seed=args.seed)
    state_file = args.out / "state.pt"
    state = torch.load(state_file, weights_only=True) if state_file.is_file() else None
    if state is None and args.student:
        model = load_sat(args.student, device="cpu")[0].fuse()
        if model.config.id2label != parent.config.id2label:
            raise StmineError(
                f"--student {args.student} and --parent {args.parent} have different classes. Fine-tune the student "
                "on the parent's data set first: examples/train_sat.py"
            )
    elif state is None:
        model = trim(parent, config, calibration[:REFITTED_ON])
    else:
        model = SatForObjectDetection(config).to(memory_format=torch.channels_last)
        model.load_state_dict(state["model"])
        print(f"Resuming from step {state['step']}.")

    # 4. Distil.
    ema = WeightEma(model, EMA_DECAY)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 1e-3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=args.warmup_steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, args.steps - args.warmup_steps))
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [args.warmup_steps])
    done, history, seconds = 0, [], 0.0
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        ema.load(args.out / "ema.safetensors")
        done, history, seconds = state["step"], state["history"], state["seconds"]
    start, sums = time.monotonic() - seconds, {}
    model.train()
    console = Console(stderr=True)
    for step in track(range(done + 1, args.steps + 1), "distilling", console=console):
        generator = torch.Generator().manual_seed(args.seed + 7919 * step)
        side = SIDES[int(torch.randint(len(SIDES), (), generator=generator))]
        pixel_values = views.batch(PIXELS // side**2, side, seed=args.seed + 7919 * step)
        losses = distillation_losses(model, pixel_values, teach(parent, pixel_values))
        loss = losses["classes"] + losses["distances"] + MAPS_WEIGHT * losses["maps"]
        if not torch.isfinite(loss):
            raise StmineError(f"Step {step}: { ({name: term.item() for name, term in losses.items()}) }; stopped.")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        ema.update()
        sums = {name: sums.get(name, 0.0) + term.item() for name, term in losses.items()}
        if step % args.save_steps == 0 or step == args.steps:
            count = (step - 1) % args.save_steps + 1
            history.append({"step": step, **{name: round(total / count, 4) for name, total in sums.items()}})
            console.print(json.dumps(history[-1]))
            sums = {}
            ema.save(args.out / "ema.safetensors")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "step": step,
                    "history": history,
                    "seconds": time.monotonic() - start,
                },
                state_file,
            )

    # 5. Give the batch norms back, with the statistics of real images: the model can be fine-tuned like any other.
    with ema.applied():
        final = unfuse(model.eval())
    recalibrate_batchnorm(final, calibration.split(16))
    final.save_pretrained(args.out / "best")
    processor.save_pretrained(args.out / "best")

    # 6. Measure and write up.
    report = evaluate_detection(final, processor, load_dataset("coco_json", data_dir=args.data_dir, split="val"))
    results = {
        "validation": report.metrics,
        "images": {"own": len(own), "others": len(others), "skipped": len(skipped)},
        "seconds": round(time.monotonic() - start),
        "history": history,
    }
    write_entries(args.out / "results.json", results | budget(final.config)._asdict())
    Console().print(report.table())
    print(f"Model and scores are in {args.out}. Find objects in your own images with it:")
    print(f"stmine detect and an image or a folder of yours, with --model {args.out / 'best'}")


def plain(value):
    """As YAML has it."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def dataset_images(folder: Path, skipped: list[Skip], most: int | None) -> list[Image.Image]:
    """The train images of a data set, as RGB."""
    rows = undecoded(load_dataset("coco_json", data_dir=folder, split="train"))
    images = []
    for row in rows.select(range(min(len(rows), most or len(rows)))):
        try:
            with image_errors():
                images.append(decode_image(row["image"]))
        except ImageError as error:
            skipped.append(Skip(row["filename"], str(error)))
    return images


def folder_images(folder: Path, skipped: list[Skip], most: int | None) -> list[Image.Image]:
    """The images of a folder and its subfolders, as RGB."""
    images = []
    for file in list(find_images(folder, on_skip=skipped.append))[:most]:
        try:
            images.append(open_image(folder / file.path, side=416))
        except ImageError as error:
            skipped.append(Skip(file.path, str(error)))
    return images


if __name__ == "__main__":
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
