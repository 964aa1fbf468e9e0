"""Which network at SAT's budget? The same fine-tuning of NanoDet-m and of SAT with three kinds of attention.

    stmine convert sat nanodet_m.safetensors outputs/nanodet-m-coco
    python examples/compare_sat_networks.py --parent outputs/nanodet-m-coco \\
        --indiscernible data/indiscernible --coco_small data/coco_small --out outputs/sat-networks

* The start is the same for all: NanoDet-m's COCO weights. The designs of SAT get them through trimming
  (`stmine_hf/training/sat/trimming.py`, no labels, no distillation); their attention starts as the identity.
* Data, order of images, schedule and evaluation are the same too: examples/configs/sat_networks.yaml. Validation is
  measured once, at the end of a run, on the mean weights: nothing is picked by it.

A design, a data set and a seed make a run: 16 of them, 2 to 5 minutes each on one CPU core. A run that is complete is
not repeated, one that was interrupted resumes: start the same command again. `--results` gets the table as JSON.
Further options (`--max_steps 200`, ...) go to examples/train_sat.py.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from stmine_hf import SatConfig, load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.evaluation.reports import versions
from stmine_hf.loading import load_sat
from stmine_hf.outputs import write_pretrained
from stmine_hf.training import (
    TRIMMED,
    BoxedImages,
    SatCollator,
    SatTransform,
    budget,
    build_augmentation,
    category_label,
    first_batches,
    trim,
    unfuse,
)

HERE = Path(__file__).parent
# Preset, and what differs from it. SAT keeps within 0.84 M parameters and 308.9 M multiply-adds: the coordinate
# attention's 7,000 parameters are taken from one block.
NARROWER = ((48, 64, 64, 64), (96, 112, 112, 112, 112, 112, 112, 112), (176, 176, 176, 192))
DESIGNS: dict[str, tuple[str, dict[str, Any]]] = {
    "nanodet-m": ("nanodet-m", {"skip_batches_without_boxes": False}),
    "sat, no attention": ("sat", {}),
    "sat, eca": ("sat", {"attention": "eca"}),
    "sat, coordinate": (
        "sat",
        {"attention": "coordinate", "attention_reduction": 12, "middle_channels": NARROWER},
    ),
}
FITTED_ON, SIDE = 48, 256  # images that the trimmed layers are refitted on, and their side in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", required=True, type=Path, help="NanoDet-m: a folder of `stmine convert sat`")
    parser.add_argument("--indiscernible", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--coco_small", required=True, type=Path, help="folder of the data set (COCO JSON)")
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "sat_networks.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=list(DESIGNS))
    args, more = parser.parse_known_args()

    # 1. The starts: the parent itself, and the parent trimmed.
    starts = {"nanodet-m": args.parent}
    for design in set(args.designs) - set(starts):
        starts[design] = args.out / f"{slug(design)}-start"
        if not (starts[design] / "model.safetensors").is_file():
            trim_parent(args.parent, args.coco_small, design_config(design, attention="none"), starts[design])

    # 2. The runs, seed by seed: stopped early, there is a whole comparison already.
    sets = {"indiscernible": ("indiscernible", args.indiscernible), "coco_small": ("coco_json", args.coco_small)}
    runs = []
    for seed in args.seeds:
        for data, (builder, folder) in sets.items():
            for design in args.designs:
                out = args.out / f"{data}-{slug(design)}-{seed}"
                preset, fields = DESIGNS[design]
                options: dict[str, Any] = {
                    "preset": preset,
                    "model_config": json.dumps(fields),
                    "init_from": starts[design],
                    "dataset": builder,
                    "data_dir": folder,
                    "seed": seed,
                    "output_dir": out,
                }
                if not (out / "results.json").is_file():
                    train(options, more)
                runs.append({"design": design, "data": data, "seed": seed, **read(out)})
                write(args.results, runs, more)

    # 3. The table.
    table = Table(title="validation AP, mean over seeds (each)")
    for column in ("design", "parameters", "M multiply-adds at 320", *sets):
        table.add_column(column, justify="left" if column == "design" else "right")
    for row in summary(runs):
        cells = [f"{row[data]['ap']:.4f} ({', '.join(f'{ap:.4f}' for ap in row[data]['each'])})" for data in sets]
        table.add_row(row["design"], f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:.1f}", *cells)
    Console().print(table)
    print(f"Written: {args.results}")


def slug(design: str) -> str:
    return design.replace(", ", "-").replace(" ", "-")


def design_config(design: str, **overrides: Any) -> SatConfig:
    preset, fields = DESIGNS[design]
    return SatConfig.preset(preset, **{**fields, **overrides})


@torch.no_grad()
def trim_parent(parent: Path, data: Path, config: SatConfig, out: Path) -> None:
    """The parent cut down to the channels of `config`, with batch norms again."""
    model, processor = load_sat(parent, device="cpu")
    rows = load_dataset("coco_json", data_dir=data, split="train")
    samples = BoxedImages(rows, category_label(rows.features).names, model.config.label2id)
    collator = SatCollator(SatTransform(build_augmentation("mild"), processor, SIDE))
    images = torch.cat(list(first_batches(samples, collator, 1, FITTED_ON)))
    model.eval().fuse()
    channels = {name: getattr(config, name) for name in TRIMMED}
    trimmed = unfuse(trim(model, SatConfig.from_dict({**model.config.to_dict(), **channels}), images))
    write_pretrained(out, [trimmed, processor])


def train(options: dict[str, Any], more: list[str]) -> None:
    """One run of examples/train_sat.py, from its last checkpoint if there is one."""
    command = [sys.executable, str(HERE / "train_sat.py"), "--config", str(HERE / "configs" / "sat_networks.yaml")]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    print(shlex.join(command[1:] + more), flush=True)
    if subprocess.run([*command, "--resume_from_checkpoint", "auto", *more]).returncode:
        raise StmineError(f"The run in {options['output_dir']} failed, see above; start again to resume it.")


def read(run: Path) -> dict[str, Any]:
    """What the table keeps of a run."""
    measured = json.loads((run / "best" / "results.json").read_text(encoding="utf-8"))
    return {
        "metrics": {name: round(measured["metrics"][name], 4) for name in ("ap", "ap50", "ap75")},
        "by_source": {source: round(scores["ap"], 4) for source, scores in measured["by_source"].items()},
        "train_seconds": json.loads((run / "results.json").read_text(encoding="utf-8"))["training"]["train_runtime"],
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each design its size and, on each data set, the mean AP over seeds."""
    rows = []
    for design in dict.fromkeys(run["design"] for run in runs):
        row: dict[str, Any] = {"design": design, **budget(design_config(design))._asdict()}
        for data in dict.fromkeys(run["data"] for run in runs):
            each = [run["metrics"]["ap"] for run in runs if (run["design"], run["data"]) == (design, data)]
            if each:
                row[data] = {"ap": round(mean(each), 4), "each": each}
        rows.append(row)
    return rows


def write(path: Path, runs: list[dict[str, Any]], more: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "command": "python examples/compare_sat_networks.py --parent outputs/nanodet-m-coco --indiscernible "
        f"data/indiscernible --coco_small data/coco_small --out outputs/sat-networks {shlex.join(more)}".strip(),
        "schedule": "examples/configs/sat_networks.yaml",
        "measured": "validation split, once, at the end of each run, on the mean weights",
        "designs": {design: {"preset": preset, **fields} for design, (preset, fields) in DESIGNS.items()},
        "summary": summary(runs),
        "runs": runs,
        "versions": versions("pycocotools", "torchvision"),
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
