"""The repositories of SAT: packed from a run, measured as packed, described by the measurements.

A run is a distillation (`examples/distill_sat.py`) or a training (`examples/train_sat.py`); the card tells which from
the run's settings.
"""

from __future__ import annotations

import inspect
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from PIL import Image

from .. import SatConfig, load_dataset
from ..data.toy_camouflage import draw_camouflage
from ..detect.detector import Detector
from ..detect.drawing import draw_detections
from ..loading import load_sat
from ..training.budget_sat import budget
from ..training.evaluation_sat import DetectionReport, evaluate_detection
from ..training.reports import write_json
from .repository import (
    ORGANISATION,
    WEIGHTS_LIMIT,
    PublishError,
    files_of,
    hardware,
    portable_settings,
    read_json,
    write_licence,
    write_model,
    write_requirements,
)
from .street_drawing import draw_street

TEMPLATE = Path(__file__).with_name("sat_card.md")
SPLIT = "val"
PICTURE = "pictures/found.jpg"
THRESHOLD = 0.25  # of the boxes in the picture
CAMOUFLAGE = (3, 0.3)  # seed and difficulty of the drawn picture of a model that does not know COCO's classes


# Data sets of which the template speaks, and their ids on the Hub or, lacking one, names.
SOURCES = {"coco_small": "detection-datasets/coco", "indiscernible": "indiscernible"}


def package_sat(
    run: str | Path,
    out: str | Path,
    *,
    data_dir: str | Path,
    parent: str | Path | None = None,
    benchmark: str | Path | None = None,
    limit: int = WEIGHTS_LIMIT,
    progress: bool = True,
) -> DetectionReport:
    """Turn a run into the folder of a Hub repository, and measure what lies in it.

    Args:
        run: output folder of `examples/distill_sat.py` or `examples/train_sat.py`: `best/`, `config.yaml` and, once
            the run is over, `results.json`.
        out: the repository: model, processor and code, `requirements.txt`, `LICENSE`, `training/` (settings and
            outcome), `results/` (figures and curve, measured on the packed weights), a picture, `README.md`. Files of
            the same names are replaced.
        data_dir: folder of the data set of that run; its validation split is measured.
        parent: NanoDet-m to compare with, measured on the same pictures: a model folder, or a run's `best/`.
        benchmark: what `examples/benchmark_sat.py --out FILE` wrote, `nanodet-m` first in it.
        limit: most bytes of the weights' file.
        progress: show a bar while measuring.

    Returns:
        The measured report.

    Raises:
        StmineError: no run, data of which the card does not speak, weights above `limit`, no data.
    """
    run, out = Path(run), Path(out)
    if not (run / "best").is_dir() or not (run / "config.yaml").is_file():
        raise PublishError(f"{run}: expected a run with best/ and config.yaml; give its output folder.")
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    name = _data_name(settings)
    if name not in SOURCES:
        raise PublishError(f"{run}: the card speaks of {' and '.join(SOURCES)}, this run's data are {name!r}.")
    model, processor = load_sat(run / "best", device="cpu")
    write_model(out, model, processor, limit=limit)
    write_requirements(out)
    write_licence(out)
    _write_training(run, out, settings, name)
    report = _measure(out, settings["dataset"], name, data_dir, progress)
    if parent is not None:
        _measure_parent(Path(parent), out, settings["dataset"], data_dir, progress)
    if benchmark is not None:
        shutil.copyfile(benchmark, out / "results" / "benchmark.json")
    _draw_found(out)
    sat_card(out).save(out / "README.md")
    return report


def refresh_sat(folder: str | Path) -> None:
    """Bring code and requirements of a packed repository up to this package's, and render its card again.

    Weights and figures stay.

    Args:
        folder: as `package_sat` writes it.
    """
    folder, source = Path(folder), Path(inspect.getfile(SatConfig)).parent
    for file in folder.glob("*_sat.py"):
        shutil.copyfile(source / file.name, file)
    write_requirements(folder)
    sat_card(folder).save(folder / "README.md")


def sat_card(folder: str | Path) -> ModelCard:
    """The card of a packed repository. Every figure in it is read from the folder's files.

    Args:
        folder: as `package_sat` writes it.
    """
    folder = Path(folder)
    settings = yaml.safe_load((folder / "training" / "config.yaml").read_text(encoding="utf-8"))
    name = _data_name(settings)
    results = read_json(folder / "results" / f"{name}_{SPLIT}.json")
    others = {
        kind: read_json(file) if (file := folder / "results" / f"{kind}.json").is_file() else None
        for kind in ("parent", "benchmark")
    }
    model, processor = load_sat(folder, device="cpu")
    side = processor.size["height"]
    classes = [row for row in results["by_class"] if row["boxes"]]
    facts = {
        "name": folder.name,
        "repo": f"{ORGANISATION}/{folder.name}",
        "picture": PICTURE,
        "threshold": THRESHOLD,
        "distilled": "parent" in settings,
        "data": name,
        "results": results,
        "results_file": f"results/{name}_{SPLIT}",
        "metrics": results["metrics"],
        "people": "person" in model.config.label2id,
        "classes": sorted(classes, key=lambda row: -1 if row["ap"] is None else row["ap"], reverse=True),
        **others,
        "settings": settings,
        "recipe": (folder / "training" / "config.yaml").read_text(encoding="utf-8").strip(),
        "training": read_json(folder / "training" / "results.json"),
        "rounds": _rounds(folder / "training", settings) if "parent" in settings else [],
        "config": model.config,
        "parent_config": SatConfig.preset("nanodet-m"),
        "side": side,
        "points": sum((side // stride) ** 2 for stride in model.config.strides),
        "budget": budget(model.config),
        "parent_budget": budget(SatConfig.preset("nanodet-m")),
        "files": files_of(folder),
        "weights": (folder / "model.safetensors").stat().st_size,
    }
    return ModelCard.from_template(_metadata(folder.name, name, results), template_path=str(TEMPLATE), **facts)


def _rounds(folder: Path, settings: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Settings and outcome of each round of a distillation."""
    last = (settings, read_json(folder / "results.json"))
    if not (folder / "first_round.yaml").is_file():
        return [last]
    first = yaml.safe_load((folder / "first_round.yaml").read_text(encoding="utf-8"))
    return [(first, read_json(folder / "first_round.json")), last]


def _metadata(name: str, data: str, results: dict[str, Any]) -> ModelCardData:
    """The card's YAML header."""
    labels = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
    return ModelCardData(
        language=["en", "zh"],
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="object-detection",
        metrics=["mean_average_precision"],
        tags=["custom_code", "sat", "nanodet", "object-detection", "lightweight", "camouflaged-object-detection"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="object-detection",
                task_name="Object detection",
                dataset_type=SOURCES[data],
                dataset_name=data,
                dataset_split=SPLIT,
                metric_type="mean_average_precision",
                metric_name=label,
                metric_value=round(results["metrics"][key], 4),
            )
            for key, label in labels.items()
        ],
    )


def _data_name(settings: dict[str, Any]) -> str:
    """The data set of a run: sets in COCO's layout go by the name of their folder."""
    dataset = settings.get("dataset", "coco_json")
    return Path(settings["data_dir"]).name if dataset == "coco_json" else dataset


def _write_training(run: Path, out: Path, settings: dict[str, Any], name: str) -> None:
    """Write `training/`: the settings without this machine's paths, and the outcome."""
    folder = out / "training"
    folder.mkdir(exist_ok=True)
    for file in folder.glob("first_round.*"):
        file.unlink()
    first = Path(settings["student"]).parent if settings.get("student") else None
    if first is not None and (first / "config.yaml").is_file():
        earlier = yaml.safe_load((first / "config.yaml").read_text(encoding="utf-8"))
        _write_round(first, folder, _portable(earlier, f"{out.name}-first", name), "first_round", "first_round")
    _write_round(run, folder, _portable(settings, out.name, name), "config", "results")
    if (run / "curves.png").is_file():
        shutil.copyfile(run / "curves.png", folder / "curves.png")


def _write_round(run: Path, folder: Path, settings: dict[str, Any], config: str, results: str) -> None:
    (folder / f"{config}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    outcome = read_json(run / "results.json") if (run / "results.json").is_file() else {}
    write_json(folder / f"{results}.json", outcome)


def _portable(settings: dict[str, Any], run: str, data: str) -> dict[str, Any]:
    """The settings of a run as a user of this package would write them."""
    paths: dict[str, Any] = {"dataset": settings["dataset"], "data_dir": f"data/{data}"}
    if "parent" in settings:
        paths |= {"parent": "outputs/nanodet-m-coco", "out": f"outputs/{run}"}
        paths |= {"student": f"outputs/{run}-first/best"} if settings.get("student") else {}
        paths |= {key: [f"data/{Path(folder).name}" for folder in settings[key]] for key in ("more", "pictures")}
    else:
        start = settings.get("model_name_or_path")
        paths |= {"output_dir": f"outputs/{run}"}
        paths |= {"model_name_or_path": f"hub_cards/{Path(start).name}"} if start else {}
    return portable_settings(settings, paths)


def _measure(out: Path, dataset: str, name: str, data_dir: str | Path, progress: bool) -> DetectionReport:
    """Write `results/`: what `stmine evaluate sat` finds for the packed weights, when and on what."""
    model, processor = load_sat(out)
    rows = load_dataset(dataset, data_dir=data_dir, split=SPLIT)
    report = evaluate_detection(model, processor, rows, progress=progress)
    folder = out / "results"
    folder.mkdir(exist_ok=True)
    measured = {
        "command": f"stmine evaluate sat --model {ORGANISATION}/{out.name} --dataset {dataset} "
        f"--data-dir data/{name} --split {SPLIT}",
        "date": date.today().isoformat(),
        "hardware": hardware(model.device),
    }
    write_json(folder / f"{name}_{SPLIT}.json", measured | report.to_dict())
    report.draw().savefig(folder / f"{name}_{SPLIT}.png", dpi=110)  # the misses are other people's photographs
    return report


def _measure_parent(parent: Path, out: Path, dataset: str, data_dir: str | Path, progress: bool) -> None:
    """Write `results/parent.json`: NanoDet-m on the same pictures."""
    model, processor = load_sat(parent)
    rows = load_dataset(dataset, data_dir=data_dir, split=SPLIT)
    report = evaluate_detection(model, processor, rows, progress=progress)
    costs = budget(model.config)._asdict() | {"date": date.today().isoformat()}
    write_json(out / "results" / "parent.json", costs | report.to_dict() | {"model": "NanoDet-m"})


def _draw_found(out: Path) -> None:
    """The card's picture: what the model finds in a drawn one."""
    model, processor = load_sat(out, device="cpu")
    image: Image.Image = draw_street()
    if "bus" not in model.config.label2id:
        image, _ = draw_camouflage(*CAMOUFLAGE, size=416)
    detections = Detector(model, processor, threshold=THRESHOLD)([image])[0]
    (out / PICTURE).parent.mkdir(exist_ok=True)
    larger = image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)
    corners = [[2 * value for value in found.box] for found in detections]
    drawn = draw_detections(
        larger,
        [
            found._replace(box=(left, top, right, bottom))
            for found, (left, top, right, bottom) in zip(detections, corners, strict=True)
        ],
    )
    drawn.save(out / PICTURE, quality=85, optimize=True)
