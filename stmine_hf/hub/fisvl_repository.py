"""The repository of the small FISVL: packed from a training run, measured as packed, described by the measurements."""

from __future__ import annotations

import inspect
import shutil
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from PIL import Image

from .. import FisvlConfig, ImageIndex, load_dataset
from ..data.toy_scenes import write_scenes
from ..loading import load_fisvl
from ..search.present import contact_sheet
from ..training.evaluation_fisvl import HONEST, RetrievalReport, evaluate_retrieval
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

TEMPLATE = Path(__file__).with_name("fisvl_card.md")
BACKBONE = "tf_efficientnet_lite0"  # whose origin and licence the template states
SPLIT = "val"
PICTURE = "pictures/search.jpg"
SENTENCE = "many planes are parked on the gray ground of an airport"
SCENES = 96  # drawn for the picture

# Mean recall in percent on the RSICD test split, as their papers report it.
PUBLISHED = {"VSE++": 10.43, "AMFMN": 16.42, "GaLR": 18.96, "PIR": 24.46, "FISVL": 26.39}
# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "share_encoder": "one network serves both image paths: half the work",
    "text_pooling": "MiniLM was trained with mean pooling",
    "attend_padding": "mended: an embedding no longer depends on the batch it is padded with",
    "projection_dim": "size",
    "dropout": "fewer weights to hold back",
    "sensing_stage": "the shared encoder's map with the same stride",
    "sensing_in_channels": "channels of that map",
    "sensing_channels": "size",
    "sensing_heads": "size",
    "one_centre_per_scene": "mended: rows of one scene are no longer pushed apart",
    "scene_mask_positives": "mended: a picture's own caption is no hard negative of it",
    "scene_integer_weights": "mended: weights are not truncated to integers",
}


def package_fisvl(
    run: str | Path, out: str | Path, *, data_dir: str | Path, limit: int = WEIGHTS_LIMIT, progress: bool = True
) -> RetrievalReport:
    """Turn a training run into the folder of a Hub repository, and measure what lies in it.

    Args:
        run: output folder of `examples/train_fisvl.py`: `best/`, `config.yaml` and, once the run is over,
            `results.json`.
        out: the repository: model, processor and code, `requirements.txt`, `LICENSE`, `training/` (settings and
            outcome), `results/` (figures and recall curve, measured on the packed weights), a picture, `README.md`.
            Files of the same names are replaced.
        data_dir: folder of the data set that the run was trained on; its validation split is measured.
        limit: most bytes of the weights' file.
        progress: show a bar while measuring.

    Returns:
        The measured report.

    Raises:
        StmineError: no run, another model than the card speaks of, weights above `limit`, no data.
    """
    run, out = Path(run), Path(out)
    if not (run / "best").is_dir() or not (run / "config.yaml").is_file():
        raise PublishError(f"{run}: expected a training run with best/ and config.yaml; give its output_dir.")
    model, processor = load_fisvl(run / "best", device="cpu")
    backbone = getattr(model.config.vision_config, "architecture", model.config.vision_config.model_type)
    if backbone != BACKBONE:
        raise PublishError(f"{run}: the card speaks of {BACKBONE}, this model has {backbone}; write it another one.")
    write_model(out, model, processor, limit=limit)
    write_requirements(out, "timm")
    write_licence(out)
    dataset = _write_training(run, out, data_dir)
    report = _measure(out, dataset, data_dir, progress)
    _draw_search(out)
    fisvl_card(out).save(out / "README.md")
    return report


def refresh_fisvl(folder: str | Path) -> None:
    """Bring code and requirements of a packed repository up to this package's, and render its card again.

    Weights and figures stay.

    Args:
        folder: as `package_fisvl` writes it.
    """
    folder, source = Path(folder), Path(inspect.getfile(FisvlConfig)).parent
    for file in folder.glob("*_fisvl.py"):
        shutil.copyfile(source / file.name, file)
    write_requirements(folder, "timm")
    fisvl_card(folder).save(folder / "README.md")


def fisvl_card(folder: str | Path) -> ModelCard:
    """The card of a packed repository. Every figure in it is read from the folder's files.

    Args:
        folder: as `package_fisvl` writes it.
    """
    folder = Path(folder)
    settings = yaml.safe_load((folder / "training" / "config.yaml").read_text(encoding="utf-8"))
    results = read_json(folder / "results" / f"{settings['dataset']}_{SPLIT}.json")
    model, processor = load_fisvl(folder, device="cpu")
    size = processor.image_processor.size
    with torch.inference_mode():
        features = model.get_image_features(torch.zeros(1, 3, size["height"], size["width"]))
    facts = {
        "name": folder.name,
        "repo": f"{ORGANISATION}/{folder.name}",
        "picture": PICTURE,
        "sentence": SENTENCE,
        "scenes": SCENES,
        "results": results,
        "metrics": results["metrics"],
        "honest": {k.removeprefix(HONEST): v for k, v in results["metrics"].items() if k.startswith(HONEST)},
        "published": PUBLISHED,
        "settings": settings,
        "recipe": (folder / "training" / "config.yaml").read_text(encoding="utf-8").strip(),
        "training": read_json(folder / "training" / "results.json"),
        "config": model.config,
        "released": FisvlConfig.released(),
        "departures": _departures(model.config),
        "processor": processor,
        "side": size["height"],
        "tokens": features.last_hidden_state.shape[1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": model.temperature.item(),
        "files": files_of(folder),
        "requirements": (folder / "requirements.txt").read_text(encoding="utf-8").split(),
        "weights": (folder / "model.safetensors").stat().st_size,
    }
    return ModelCard.from_template(_metadata(folder.name, results), template_path=str(TEMPLATE), **facts)


def _metadata(name: str, results: dict[str, Any]) -> ModelCardData:
    """The card's YAML header."""
    labels = {"txt": "image-to-text", "img": "text-to-image"}
    evaluations = []
    for key, value in results["metrics"].items():
        side, _, measure = key.removeprefix(HONEST).rpartition("_")
        label = "Mean recall" if side == "r" else f"{labels[side]} R@{measure.removeprefix('r')}"
        evaluations.append(
            EvalResult(
                task_type="image-text-retrieval",
                task_name="Image-text retrieval",
                dataset_type="arampacha/rsicd",
                dataset_name="RSICD",
                dataset_split="valid",  # its name there
                metric_type="mean_recall" if side == "r" else f"recall_at_{measure.removeprefix('r')}",
                metric_name=label + (", equal captions count" if key.startswith(HONEST) else ""),
                metric_value=round(value, 2),
            )
        )
    return ModelCardData(
        language=["en"],
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        base_model=["sentence-transformers/all-MiniLM-L6-v2"],
        datasets=["arampacha/rsicd"],
        metrics=["recall"],
        tags=["custom_code", "fisvl", "remote-sensing", "image-text-retrieval", "satellite-imagery"],
        model_name=name,
        eval_results=evaluations,
    )


def _departures(config: FisvlConfig) -> list[tuple[str, Any, Any, str]]:
    """Field, released value, this model's value and reason, for each field outside the encoders that differs."""
    released = FisvlConfig.released()
    names = [name for name in inspect.signature(FisvlConfig.__init__).parameters if hasattr(released, name)]
    encoders = {"vision_config", "conv_config", "text_config", "vision_width", "conv_width"}
    return [
        (name, getattr(released, name), getattr(config, name), REASONS.get(name, ""))
        for name in names
        if name not in encoders and getattr(config, name) != getattr(released, name)
    ]


def _write_training(run: Path, out: Path, data_dir: str | Path) -> str:
    """Write `training/`: the settings without this machine's paths, the outcome. Returns the data set's name."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    dataset = settings.get("dataset", "rsicd")
    paths = {
        "model_name_or_path": f"outputs/{out.name.removesuffix(f'-{dataset}')}-start",
        "dataset": dataset,
        "data_dir": f"data/{dataset}",
        "output_dir": f"outputs/{out.name}",
    }
    settings = portable_settings(settings, paths)
    rows = load_dataset(dataset, data_dir=data_dir, split=settings.get("train_split", "train"))
    outcome = read_json(run / "results.json") if (run / "results.json").is_file() else {}
    outcome["train_images"] = min(len(rows), int(settings.get("max_train_images") or len(rows)))
    folder = out / "training"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    write_json(folder / "results.json", outcome)
    if (run / "curves.png").is_file():
        shutil.copyfile(run / "curves.png", folder / "curves.png")
    return dataset


def _measure(out: Path, dataset: str, data_dir: str | Path, progress: bool) -> RetrievalReport:
    """Write `results/`: what `stmine evaluate fisvl` finds for the packed weights, when and on what."""
    model, processor = load_fisvl(out)
    rows = load_dataset(dataset, data_dir=data_dir, split=SPLIT)
    report = evaluate_retrieval(model, processor, rows, progress=progress)
    folder = out / "results"
    folder.mkdir(exist_ok=True)
    measured = {
        "command": f"stmine evaluate fisvl --model {ORGANISATION}/{out.name} --dataset {dataset} "
        f"--data-dir data/{dataset} --split {SPLIT}",
        "date": date.today().isoformat(),
        "hardware": hardware(model.device),
    }
    write_json(folder / f"{dataset}_{SPLIT}.json", measured | report.to_dict())
    report.draw().savefig(folder / f"{dataset}_{SPLIT}.png", dpi=110)
    return report


def _draw_search(out: Path) -> None:
    """The card's picture: the five best of freshly drawn scenes for one sentence."""
    with TemporaryDirectory() as work:
        scenes = write_scenes(Path(work) / "scenes", count=SCENES)
        hits = ImageIndex.build(scenes, Path(work) / "index", model=str(out), progress=False).query(SENTENCE, k=5)
        sheet = Path(work) / "sheet.png"
        contact_sheet(hits, sheet, title=SENTENCE)
        (out / PICTURE).parent.mkdir(exist_ok=True)
        with Image.open(sheet) as picture:
            picture.convert("RGB").save(out / PICTURE, quality=85, optimize=True)
