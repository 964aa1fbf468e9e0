"""What training costs: peak memory and samples a second of the configs, and what FISVL's losses gain over plain loops.

    python examples/benchmark_training.py
    python examples/benchmark_training.py --configs official_rsicd official_weibo official_coco --steps 3 --batch 16
    python examples/benchmark_training.py --configs lite_rsicd --steps 3 --batch 512 --gradient_cache_chunk 32

Each config runs its own training script for a few steps, in a process of its own; the first step only warms up.
Further options go to the script. The data is drawn, with images and texts of the real sizes, and the models are of
the real sizes: the small ones as they ship, the official ones with random weights, for time does not depend on them.
So nothing has to be there, and no score comes of it. `--batch` is for machines where memory is short.

A second is one of the clock, and beside it one of the processor, which a busy machine does not stretch. The time of an
epoch is extrapolated from these few steps to the real set's number of samples: no such epoch was run.

Figures go to examples/results/training_cost.json, where those of other configs stay as they are, and the table of all
into examples/RECIPES.md. `--configs --losses 0` measures nothing and writes the table anew.
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

HERE = Path(__file__).resolve().parent
CARDS = HERE.parent / "hub_cards"
EPS = 6e-5  # of the released losses


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
    parser.add_argument("--losses", type=int, default=270, help="pairs in a batch of FISVL's losses; 0: not measured")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training_cost.json")
    parser.add_argument("--page", type=Path, default=HERE / "RECIPES.md", help="page whose table is filled in")
    args, more = parser.parse_known_args()
    names = SMALL if args.configs is None else args.configs
    if unknown := set(names) - set(SETUPS):
        raise StmineError(f"No such config: {', '.join(sorted(unknown))}. There are {', '.join(SETUPS)}.")
    if args.steps < 2:
        raise StmineError(f"--steps must be 2 or more, the first one only warms up; got {args.steps}.")

    from stmine_hf.evaluation.reports import fill_page, versions
    from stmine_hf.files import write_entries

    found = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    rows, losses = found.get("configs", {}), found.get("losses")

    def keep() -> None:
        write_entries(args.out, {"configs": rows, "losses": losses, "versions": versions("accelerate")})
        fill_page(args.page, "training_cost", render(rows, losses))

    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            row = run_config(name, args, more, Path(scratch))
        rows[" ".join([name, *more])] = row
        keep()
    if args.losses:
        losses = in_a_process(["losses", str(args.losses)], args.threads)
        keep()
    if not names and not args.losses:
        fill_page(args.page, "training_cost", render(rows, losses))
    print(render(rows, losses))


# ---- one config ----


def run_config(name: str, args: argparse.Namespace, more: list[str], scratch: Path) -> dict[str, Any]:
    """Figures of a config's training script, run in a process of its own."""
    setup = SETUPS[name]
    settings = yaml.safe_load((HERE / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    of_config = settings["per_device_train_batch_size"]
    batch = args.batch or of_config
    for absent in ("early_stopping_patience", "plateau_patience", "scaling_tau", "lr_milestones", "detector"):
        settings.pop(absent, None)  # nothing is validated here
    start = setup.start(scratch, settings) if callable(setup.start) else setup.start
    settings |= start
    if setup.data is not None:
        settings |= {"dataset_options": None, **setup.data(scratch, 2 * batch)}
    settings |= {
        "output_dir": str(scratch / "run"),
        "max_steps": args.steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "dataloader_num_workers": 0,  # so that one process holds and does all there is
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    config = scratch / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    print(f"{name}: {args.steps} steps of {batch} samples ...", file=sys.stderr, flush=True)
    script = str(HERE / f"train_{setup.method}.py")
    found = in_a_process(["script", script, "--config", str(config), *more], args.threads)
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


def in_a_process(part: list[str], threads: int) -> dict[str, Any]:
    """What one part of this file, run by itself, writes.

    Raises:
        StmineError: it fails; the message has its last lines.
    """
    import os

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, str(HERE / "benchmark_training.py"), "--part", str(out), *part]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_DATASETS_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE.parent)
        if done.returncode or not out.is_file():
            last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise StmineError(f"{' '.join(part[:4])} ended with {done.returncode}: {last}")
        return json.loads(out.read_text(encoding="utf-8"))


def run_script(out: Path, command: list[str]) -> None:
    """Run a training script here, with a clock among the Trainer's callbacks."""
    import torch
    from transformers import TrainerCallback, trainer

    facts: dict[str, Any] = {"wall": [], "cpu": []}

    class Clock(TrainerCallback):
        """Seconds from the end of one step to that of the next, its batch being made included."""

        def on_train_begin(self, args, state, control, model=None, **kwargs):
            facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            facts["trained"] = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            self.last = time.perf_counter(), time.process_time()

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


# ---- FISVL's losses against the formulas written as loops ----


def compare_losses(out: Path, pairs: int) -> None:
    """Seconds of value and gradient of the value-guided objective, ours and by loops; both must agree."""
    import torch
    from torch.nn import functional

    from stmine_hf.modeling.fisvl.losses_fisvl import affiliation_loss, contrastive_loss, scene_adaptive_loss

    torch.manual_seed(0)
    image = functional.normalize(torch.randn(pairs, 512), dim=1)
    text = functional.normalize(image + 0.1 * torch.randn(pairs, 512), dim=1)
    ids, labels = torch.arange(pairs) // 2, torch.randint(30, (pairs,))
    released = {"epoch": 5, "beta1": -0.002, "beta2": 0.02, "margin": 0.95}

    def ours(image, text, temperature):
        return (
            contrastive_loss(image, text, temperature, ids)
            + affiliation_loss(image, text, temperature, labels)
            + scene_adaptive_loss(image, text, temperature, ids, labels, **released)
        )

    def loops(image, text, temperature):
        return (
            loop_contrastive(image, text, temperature, ids)
            + loop_affiliation(image, text, temperature, labels)
            + loop_scene(image, text, temperature, labels, **released)
        )

    figures: dict[str, Any] = {"pairs": pairs, "dim": 512}
    gradients = []
    for name, loss_of, rounds in (("ours", ours, 30), ("loops", loops, 1)):
        times = []
        for _ in range(rounds):
            leaves = [tensor.clone().requires_grad_() for tensor in (image, text, torch.tensor(0.07))]
            start = time.process_time()
            loss = loss_of(*leaves)
            loss.backward()
            times.append(time.process_time() - start)
        gradients.append([leaf.grad for leaf in leaves])
        figures |= {f"{name}_loss": loss.item(), f"{name}_cpu_seconds": statistics.median(times)}
    figures["greatest_difference_of_gradients"] = max(
        float((left - right).abs().max() / right.abs().max()) for left, right in zip(*gradients, strict=True)
    )
    if figures["greatest_difference_of_gradients"] > 1e-3:
        raise StmineError(f"The losses differ from the loops: {figures}")
    figures["ratio"] = figures["loops_cpu_seconds"] / figures["ours_cpu_seconds"]
    out.write_text(json.dumps(figures), encoding="utf-8")


def loop_scores(rows, columns, temperature) -> list[list]:
    return [[(row @ column) / temperature for column in columns.unbind()] for row in rows.unbind()]


def loop_cross_entropy(logits: list[list], targets: list[list[float]]):
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        top = max(score.item() for score in row)
        denominator = 0.0
        for score in row:
            denominator = denominator + (score - top).exp()
        for score, share in zip(row, target, strict=True):
            if share:
                total = total - share * (score - top - denominator.log())
    return total / len(logits)


def transpose(matrix: list[list]) -> list[list]:
    return [list(column) for column in zip(*matrix, strict=True)]


def loop_contrastive(image, text, temperature, ids):
    ids, count = ids.tolist(), len(ids)
    targets = [[float(ids[i] == ids[j]) + EPS for j in range(count)] for i in range(count)]
    targets = [[target / sum(row) for target in row] for row in targets]
    logits = loop_scores(image, text, temperature)
    return (loop_cross_entropy(logits, targets) + loop_cross_entropy(transpose(logits), targets)) / 2


def loop_affiliation(image, text, temperature, labels):
    import torch

    scenes, count = labels.tolist(), len(labels)

    def centres(embeds):
        found = []
        for i in range(count):
            centre, weights = 0.0, 0.0
            for j, embed in enumerate(embeds.unbind()):
                weight = float(scenes[i] == scenes[j]) + EPS
                centre, weights = centre + weight * embed, weights + weight
            found.append(centre / weights)
        return torch.stack(found)

    own = [[float(i == j) for j in range(count)] for i in range(count)]
    to_texts = loop_scores(image, centres(text), temperature)
    to_images = loop_scores(text, centres(image), temperature)
    return (loop_cross_entropy(to_texts, own) + loop_cross_entropy(transpose(to_images), own)) / 2


def loop_scene(image, text, temperature, labels, epoch, beta1, beta2, margin):
    scenes, count = labels.tolist(), len(labels)

    def side(scores, embeds):
        hardest = [max(range(count), key=[score.item() for score in row].__getitem__) for row in scores]
        total = 0.0
        for i in range(count):
            exps, denominator = [], EPS
            for j in range(count):
                score = (embeds[i] @ embeds[hardest[j]]) / temperature
                exps.append(score.exp() if score.item() >= margin else 1.0)
                denominator = denominator + exps[j]
            for j in range(count):
                beta = beta2 if scenes[i] == scenes[hardest[j]] else beta1
                if weight := int(math.exp(beta * epoch)):
                    total = total + exps[j] / denominator * weight
        return total / count

    scores = loop_scores(image, text, temperature)
    return (side(scores, text) + side(transpose(scores), image)) / 2


# ---- the table ----


def render(rows: dict[str, dict[str, Any]], losses: dict[str, Any] | None) -> str:
    """All figures as Markdown: a table of the configs in their order, a sentence on the losses."""
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
    if losses:
        lines += [
            "",
            f"FISVL's losses and their gradients on {losses['pairs']} pairs of {losses['dim']} values: "
            f"{1000 * losses['ours_cpu_seconds']:.1f} ms of the processor; the formulas written as plain loops take "
            f"{losses['loops_cpu_seconds']:.1f} s, {losses['ratio']:,.0f} times as long. Greatest difference of the "
            f"gradients: {losses['greatest_difference_of_gradients']:.1e} of the largest.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--part"]:
            result, part = Path(sys.argv[2]), sys.argv[3:]
            if part[0] == "losses":
                compare_losses(result, int(part[1]))
            else:
                run_script(result, part[1:])
        else:
            main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
