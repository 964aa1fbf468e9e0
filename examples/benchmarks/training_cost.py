"""What training costs: peak memory and samples a second of the configs.

    python examples/benchmarks/training_cost.py
    python examples/benchmarks/training_cost.py --configs official_rsicd official_coco --steps 3 --batch 16
    python examples/benchmarks/training_cost.py --configs lite_rsicd --steps 3 --batch 512 --gradient_cache_chunk 32
    python examples/benchmarks/training_cost.py --configs lite_rsicd lite_weibo sat_coco_small --steps 3 --savings

Each config runs its own training script for a few steps, in a process of its own; the first step only warms up.
Further options go to the script. The data is drawn, with images and texts of the real sizes, and the models are of
the real sizes: the small ones as they ship, the official ones with random weights, for time does not depend on them.
So nothing has to be there, and no score comes of it. `--batch` is for machines where memory is short.

A second is one of the clock, and beside it one of the processor, which a busy machine does not stretch. The time of an
epoch is extrapolated from these few steps to the real set's number of samples: no such epoch was run.

Figures go to examples/results/training_cost.json, where those of other configs stay as they are, and the table of all
into examples/RECIPES.md. `--configs` alone measures nothing and only rewrites the table. `--savings` runs each config
with one option that saves memory or time after the other.
"""

import argparse
import json
import math
import random
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stmine_hf.errors import StmineError

EXAMPLES = Path(__file__).resolve().parents[1]
CARDS = EXAMPLES.parent / "hub_cards"
ACCUMULATION = "--gradient_accumulation_steps"


@dataclass(frozen=True)
class Setup:
    """What stands in for the data and the start of a config.

    Attributes:
        method: whose script it is.
        epoch: training samples of the real set; None where the config has it drawn, or it is your own.
        start: fields that say where the model comes from, or what makes it in a folder and returns them.
        data: writes data into a folder for so many samples, and returns the fields that name it.
    """

    method: str
    epoch: int | None = None
    start: dict[str, Any] | Callable[[Path, dict], dict[str, Any]] = field(default_factory=dict)
    data: Callable[[Path, int], dict[str, Any]] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="*", help=f"of examples/configs; without: {', '.join(SMALL)}")
    parser.add_argument("--steps", type=int, default=5, help="of a run, the first of which only warms up")
    parser.add_argument("--batch", type=int, help="samples a step; default: as the config says")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--savings", action="store_true", help="also with each option that saves memory or time")
    parser.add_argument("--out", type=Path, default=EXAMPLES / "results" / "training_cost.json")
    parser.add_argument("--page", type=Path, default=EXAMPLES / "RECIPES.md", help="page whose table is filled in")
    args, more = parser.parse_known_args()
    names = SMALL if args.configs is None else args.configs
    if unknown := set(names) - set(SETUPS):
        raise StmineError(f"No such config: {', '.join(sorted(unknown))}. There are {', '.join(SETUPS)}.")
    if args.steps < 2:
        raise StmineError(f"--steps must be 2 or more, the first one only warms up; got {args.steps}.")

    from stmine_hf.evaluation.reports import fill_page, versions
    from stmine_hf.files import write_entries

    found = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    rows = found.get("configs", {})
    runs = [(name, [*more, *option]) for name in names for option in (savings_of(name) if args.savings else [[]])]
    for name, options in runs:
        with tempfile.TemporaryDirectory() as scratch:
            row = run_config(name, args, options, Path(scratch))
        rows[" ".join([name, *options])] = row
        write_entries(args.out, {"configs": rows, "versions": versions("accelerate")})
    fill_page(args.page, "training_cost", render(rows))
    print(render(rows))


def savings_of(name: str) -> list[list[str]]:
    """Options that save memory or time: float32 first, then bfloat16, and with it the others one by one."""
    others = ["", "--gradient_checkpointing true", f"{ACCUMULATION} 4"]
    others += ["--gradient_cache_chunk 8"] if SETUPS[name].method == "fisvl" else []
    return [option.split() for option in ["--bf16 false", *(f"--bf16 true {option}" for option in others)]]


# ---- one config ----


def run_config(name: str, args: argparse.Namespace, more: list[str], scratch: Path) -> dict[str, Any]:
    """Figures of a config's training script, run in a process of its own."""
    setup = SETUPS[name]
    of_config = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))["per_device_train_batch_size"]
    batch = args.batch or of_config
    parts = int(more[more.index(ACCUMULATION) + 1]) if ACCUMULATION in more else 1
    command = prepared(name, scratch, batch=batch // parts, samples=2 * batch, steps=args.steps)
    print(f"{' '.join([name, *more])}: {args.steps} steps of {batch} samples ...", file=sys.stderr, flush=True)
    found = in_a_process([*command, *more], args.threads)
    wall, cpu = (statistics.median(found[clock][1:]) for clock in ("wall", "cpu"))
    hours = None if setup.epoch is None else round(setup.epoch * wall / batch / 3600, 3)
    return {
        "batch": batch,
        "config_batch": of_config,
        "parameters": found["parameters"],
        "trained": found["trained"],
        "peak_memory_mb": found["peak_memory_mb"],
        "accelerator_memory_mb": found["accelerator_memory_mb"],
        "step_seconds": round(wall, 3),
        "step_cpu_seconds": round(cpu, 3),
        "samples_per_second": round(batch / wall, 2),
        "samples_per_cpu_second": round(batch / cpu, 2),
        "epoch_samples": setup.epoch,
        "extrapolated_epoch_hours": hours,
        "extrapolated_epoch_cpu_hours": None if setup.epoch is None else round(setup.epoch * cpu / batch / 3600, 3),
        "steps": args.steps,
        "threads": args.threads,
    }


def config_of(name: str) -> Path:
    return EXAMPLES / "configs" / f"{name}.yaml"


def prepared(name: str, scratch: Path, *, batch: int, samples: int, steps: int) -> list[str]:
    """The training script of a config and its settings for some steps, with stand-ins for data and start.

    Args:
        scratch: a folder for them.
        batch: samples that go through the model at a time.
        samples: of the drawn data.
    """
    setup = SETUPS[name]
    settings = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))
    for absent in ("early_stopping_patience", "plateau_patience", "scaling_tau", "lr_milestones", "detector"):
        settings.pop(absent, None)  # nothing is validated here
    start = setup.start(scratch, settings) if callable(setup.start) else setup.start
    settings |= start
    if setup.data is not None:
        settings |= {"dataset_options": None, **setup.data(scratch, samples)}
    settings |= {
        "output_dir": str(scratch / "run"),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "dataloader_num_workers": 0,  # so that one process holds and does all there is
        "logging_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    config = scratch / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return [str(EXAMPLES / f"train_{setup.method}.py"), "--config", str(config)]


def in_a_process(part: list[str], threads: int, *, plain: bool = False) -> dict[str, Any]:
    """What one part of this file, run by itself, writes.

    Args:
        part: a training script and its settings.
        threads: of the process.
        plain: weights and images lie in memory as PyTorch makes them, not with their channels last.

    Raises:
        StmineError: it fails; the message has its last lines.
    """
    import os

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--plain-part" if plain else "--part", str(out), *part]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_DATASETS_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=EXAMPLES.parent)
        if done.returncode or not out.is_file():
            last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise StmineError(f"{' '.join(part[:3])} ended with {done.returncode}: {last}")
        return json.loads(out.read_text(encoding="utf-8"))


def run_script(out: Path, command: list[str], *, plain: bool) -> None:
    """Run a training script here, with a clock among the Trainer's callbacks; see `in_a_process`."""
    import torch
    from transformers import TrainerCallback, trainer

    facts: dict[str, Any] = {"wall": [], "cpu": [], "losses": []}

    class Clock(TrainerCallback):
        """Seconds from the end of one step to that of the next, its batch being made included."""

        def on_train_begin(self, args, state, control, model=None, **kwargs):
            if plain:
                model.to(memory_format=torch.contiguous_format)
            facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            facts["trained"] = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            self.last = time.perf_counter(), time.process_time()

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in (logs or {}):
                facts["losses"].append(logs["loss"])

        def on_step_end(self, args, state, control, **kwargs):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter(), time.process_time()
            for clock, before, after in zip(("wall", "cpu"), self.last, now, strict=True):
                facts[clock].append(after - before)
            # Before the end: what the weights take while they are written is not training's.
            facts["peak_memory_mb"] = peak_memory()
            self.last = now

    trainer.DEFAULT_CALLBACKS.append(Clock)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
    on_gpu = torch.cuda.is_available()
    facts["accelerator_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6) if on_gpu else None
    out.write_text(json.dumps(facts), encoding="utf-8")


def peak_memory() -> int:
    """The most that this process ever held, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage counts what the process held that started this one
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


# ---- what stands in for weights and data ----


def released_fisvl(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Swin-T, ResNet-50 and BERT-base with random weights."""
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, SwinConfig, SwinModel

    from stmine_hf import load_dataset
    from stmine_hf.training import word_tokenizer

    SwinModel(SwinConfig()).save_pretrained(folder / "swin")
    ResNetModel(ResNetConfig()).save_pretrained(folder / "resnet")
    BertModel(BertConfig()).save_pretrained(folder / "bert")
    captions = load_dataset("toy_scenes", count=48, size=32, split="train", cache_dir=folder / "rows")["captions"]
    word_tokenizer(caption for group in captions for caption in group).save_pretrained(folder / "bert")
    return {
        "vision_backbone": str(folder / "swin"),
        "conv_backbone": str(folder / "resnet"),
        "text_backbone": str(folder / "bert"),
    }


def released_mttv(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Six layers of a BERT-base and ResNet-152 with random weights; what the latter sees is found before the steps."""
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

    from stmine_hf.training import word_tokenizer

    chinese = "chinese" in settings["text_backbone"]
    BertModel(BertConfig(vocab_size=21128 if chinese else 30522, num_hidden_layers=6)).save_pretrained(folder / "bert")
    word_tokenizer(WORDS).save_pretrained(folder / "bert")
    ResNetModel(ResNetConfig(depths=[3, 8, 36, 3])).save_pretrained(folder / "resnet")
    return {
        "text_backbone": str(folder / "bert"),
        "vision_backbone": str(folder / "resnet"),
        "features": str(folder / "features"),
    }


def scenes(folder: Path, samples: int) -> dict[str, Any]:
    count = 3 * math.ceil(samples / 2)  # two thirds of them are to train
    return {"dataset": "toy_scenes", "dataset_options": {"count": count, "size": 224}, "data_dir": None}


def boxes(folder: Path, samples: int) -> dict[str, Any]:
    return {
        "dataset": "toy_camouflage",
        "dataset_options": {"count": 2 * samples, "size": 320},
        "data_dir": None,
        "model_config": None,
    }


WORDS = [f"word{number}" for number in range(200)]


def posts(words: int, labels: tuple[str, ...] = ("fake", "real")) -> Callable[[Path, int], dict[str, Any]]:
    """Posts of so many tokens, each with an image."""

    def write(folder: Path, samples: int) -> dict[str, Any]:
        from PIL import Image

        chance, lines = random.Random(0), []
        images = folder / "posts" / "images"
        images.mkdir(parents=True)
        for number in range(samples):
            name = f"{number}.jpg"
            Image.effect_noise((256, 256), 80).convert("RGB").save(images / name)
            text = " ".join(chance.choices(WORDS, k=words))
            lines.append(
                json.dumps({"id": str(number), "text": text, "label": labels[number % len(labels)], "image": name})
            )
        (folder / "posts" / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {
            "dataset": "posts",
            "data_dir": str(folder / "posts"),
            "dataset_options": {"labels": list(labels)},
        }

    return write


FAKEDDIT_EPOCH = 564_000  # posts with an image in its train split, about (Nakamura et al., LREC 2020)
SETUPS = {
    "fisvl_toy": Setup("fisvl"),
    "mttv_toy": Setup("mttv"),
    "sat_toy": Setup("sat"),
    "lite_rsicd": Setup("fisvl", 8734, {"model_name_or_path": str(CARDS / "fisvl-lite-rsicd")}, scenes),
    "lite_weibo": Setup("mttv", 6464, {"model_name_or_path": str(CARDS / "mttv-lite-weibo")}, posts(115)),
    "sat_coco_small": Setup("sat", None, {"model_name_or_path": str(CARDS / "sat-coco-small")}, boxes),
    "recommended_indiscernible": Setup("sat", None, {"model_name_or_path": str(CARDS / "sat-coco-small")}, boxes),
    "official_rsicd": Setup("fisvl", 5 * 8734, released_fisvl, scenes),
    "official_rsitmd": Setup("fisvl", 5 * 4291, released_fisvl, scenes),
    "official_ucm": Setup("fisvl", 5 * 1680, released_fisvl, scenes),
    "official_sydney": Setup("fisvl", 5 * 497, released_fisvl, scenes),
    "official_weibo": Setup("mttv", 6464, released_mttv, posts(115)),
    "official_fakeddit_2_way": Setup("mttv", FAKEDDIT_EPOCH, released_mttv, posts(10)),
    "official_fakeddit_3_way": Setup("mttv", FAKEDDIT_EPOCH, released_mttv, posts(10, ("a", "b", "c"))),
    "official_fakeddit_6_way": Setup("mttv", FAKEDDIT_EPOCH, released_mttv, posts(10, tuple("abcdef"))),
    "recommended_rsicd": Setup("fisvl", 8734, released_fisvl, scenes),
    "recommended_weibo": Setup("mttv", 6464, released_mttv, posts(115)),
    "official_coco": Setup("sat", 118_287, {}, boxes),
}
LARGE = ("official_", "recommended_rsicd", "recommended_weibo")
SMALL = [name for name in SETUPS if not name.startswith(LARGE)]


# ---- the table ----


def render(rows: dict[str, dict[str, Any]]) -> str:
    """All figures as Markdown: a table of the configs in their order."""
    lines = [
        "| config | batch | parameters | trained | peak memory, MB | samples/s | samples/CPU s | steps | epoch, h * |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(SETUPS)
    for name, row in sorted(rows.items(), key=lambda item: (order.index(item[0].split()[0]), item[0])):
        config, _, more = name.partition(" ")
        of = "" if row["batch"] == row["config_batch"] else f" (config: {row['config_batch']})"
        clock = "extrapolated_epoch_hours" if row["accelerator_memory_mb"] else "extrapolated_epoch_cpu_hours"
        memory = f"{row['peak_memory_mb']:,}"
        if row["accelerator_memory_mb"]:
            memory += f", GPU {row['accelerator_memory_mb']:,}"
        cells = [
            f"`{config}`" + (f" `{more}`" if more else ""),
            f"{row['batch']}{of}",
            *(f"{row[count] / 1e6:.2f} M" for count in ("parameters", "trained")),
            memory,
            f"{row['samples_per_second']:.2f}",
            f"{row['samples_per_cpu_second']:.2f}",
            str(row["steps"]),
            "-" if row[clock] is None else f"{row[clock]:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "\\* Extrapolated from these steps, the first excepted, to the training samples of the real set: no such "
        "epoch was run. Without an accelerator, hours of one processor core, as on a machine that does nothing else. "
        "A sample is what a batch counts: a pair in FISVL's official configs, an image with two captions in "
        "`lite_rsicd`.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] in (["--part"], ["--plain-part"]):
            run_script(Path(sys.argv[2]), sys.argv[3:], plain=sys.argv[1] == "--plain-part")
        else:
            main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
