"""The repository of the small MTTV: packed from a training run, measured as packed, described by the measurements."""

from __future__ import annotations

import base64
import html
import inspect
import io
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .. import MttvConfig, load_dataset
from ..data.toy_posts import Scene, draw
from ..loading import load_mttv
from ..modeling.mttv.pipeline_mttv import MttvPipeline, draw_regions
from ..training.evaluation_mttv import ClassificationReport, evaluate_posts
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

TEMPLATE = Path(__file__).with_name("mttv_card.md")
BACKBONE = "tf_efficientnet_lite0"  # whose origin and licence the template states
SPLITS = ("val", "test")
PICTURE = "pictures/explained.svg"
# Made up for the picture: nobody wrote it, nothing of the kind was drawn at any harbour.
POST = "紧急通知！港口上空出现红色圆形，专家说今晚会掉下来，千万别出门，请大家马上转发！"  # noqa: RUF001
SCENE = Scene("red", "circle", 1)

# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "num_encoder_layers": "size",
    "num_region_tokens": "no detector took part in the training",
    "vision_width": "channels of the visual encoder",
    "attend_missing": "mended: most posts here have no picture, and nothing is there to attend to",
    "cls_token_id": "the tokenizer's",
    "sep_token_id": "the tokenizer's",
    "sequence_pooling": "E5 was trained with mean pooling; better on held-out events",
    "dropout": "dropped tokens take its place",
    "scaling_mode": "mended: factors shift the odds; as released they stretch signed logits",
}


def package_mttv(
    run: str | Path,
    out: str | Path,
    *,
    data_dir: str | Path,
    baselines: str | Path | None = None,
    released: str | Path | None = None,
    limit: int = WEIGHTS_LIMIT,
    progress: bool = True,
) -> dict[str, ClassificationReport]:
    """Turn a training run into the folder of a Hub repository, and measure what lies in it.

    Args:
        run: output folder of `examples/train_mttv.py`: `best/`, `config.yaml` and, once the run is over,
            `results.json`.
        out: the repository: model, processor and code, `requirements.txt`, `LICENSE`, `training/` (settings and
            outcome), `results/` (figures and plots for each split, measured on the packed weights), a picture,
            `README.md`. Files of the same names are replaced.
        data_dir: folder of the data set that the run was trained on; its validation and test splits are measured.
        baselines: what `examples/baseline_weibo.py --split test --out FILE` wrote.
        released: output folder of a run with the released recipe from the same start; its `best/` is measured, too.
        limit: most bytes of the weights' file.
        progress: show a bar while measuring.

    Returns:
        The measured report of each split.

    Raises:
        StmineError: no run, another model than the card speaks of, weights above `limit`, no data.
    """
    run, out = Path(run), Path(out)
    if not (run / "best").is_dir() or not (run / "config.yaml").is_file():
        raise PublishError(f"{run}: expected a training run with best/ and config.yaml; give its output_dir.")
    model, processor = load_mttv(run / "best", device="cpu")
    vision = model.config.vision_config
    backbone = getattr(vision, "architecture", getattr(vision, "model_type", "no visual encoder"))
    if backbone != BACKBONE:
        raise PublishError(f"{run}: the card speaks of {BACKBONE}, this model has {backbone}; write it another one.")
    write_model(out, model, processor, limit=limit)
    write_requirements(out, "timm")
    write_licence(out)
    settings = _write_training(run, out, data_dir)
    reports = {split: _measure(out, settings, data_dir, split, progress) for split in SPLITS}
    if baselines is not None:
        shutil.copyfile(baselines, out / "results" / "baselines.json")
    if released is not None:
        _measure_released(Path(released), out, settings, data_dir, progress)
    _draw_explained(out)
    mttv_card(out).save(out / "README.md")
    return reports


def refresh_mttv(folder: str | Path) -> None:
    """Bring code and requirements of a packed repository up to this package's, and render its card again.

    Weights and figures stay.

    Args:
        folder: as `package_mttv` writes it.
    """
    folder, source = Path(folder), Path(inspect.getfile(MttvConfig)).parent
    for file in folder.glob("*_mttv.py"):
        shutil.copyfile(source / file.name, file)
    write_requirements(folder, "timm")
    mttv_card(folder).save(folder / "README.md")


def mttv_card(folder: str | Path) -> ModelCard:
    """The card of a packed repository. Every figure in it is read from the folder's files.

    Args:
        folder: as `package_mttv` writes it.
    """
    folder = Path(folder)
    settings = yaml.safe_load((folder / "training" / "config.yaml").read_text(encoding="utf-8"))
    results = {split: read_json(folder / "results" / split / "results.json") for split in SPLITS}
    others = {
        name: read_json(file) if (file := folder / "results" / f"{name}.json").is_file() else None
        for name in ("baselines", "released")
    }
    model, processor = load_mttv(folder, device="cpu")
    size = processor.image_processor.size
    facts = {
        "name": folder.name,
        "repo": f"{ORGANISATION}/{folder.name}",
        "picture": PICTURE,
        "post": POST,
        "results": results,
        "test": results["test"],
        "val": results["val"],
        "others": others,
        "settings": settings,
        "recipe": (folder / "training" / "config.yaml").read_text(encoding="utf-8").strip(),
        "training": read_json(folder / "training" / "results.json"),
        "config": model.config,
        "factors": model.scaling_factors.tolist(),
        "released": MttvConfig.preset("weibo"),
        "departures": _departures(model.config),
        "processor": processor,
        "side": size["height"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "files": files_of(folder),
        "weights": (folder / "model.safetensors").stat().st_size,
    }
    return ModelCard.from_template(_metadata(folder.name, results), template_path=str(TEMPLATE), **facts)


def _metadata(name: str, results: dict[str, Any]) -> ModelCardData:
    """The card's YAML header."""
    kinds = {"accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro F1"), "ece": ("ece", "Calibration error")}
    return ModelCardData(
        language=["zh"],
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=["intfloat/multilingual-e5-small"],
        metrics=["accuracy", "f1"],
        tags=["custom_code", "mttv", "fake-news-detection", "multimodal", "weibo"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                task_name="Fake-news detection",
                dataset_type="weibo",
                dataset_name="Weibo (Jin et al., 2017), as MTTV splits it",
                dataset_split=split,
                metric_type=kind,
                metric_name=label,
                metric_value=round(results[split]["metrics"][key], 4),
            )
            for split in SPLITS
            for key, (kind, label) in kinds.items()
        ],
    )


def _departures(config: MttvConfig) -> list[tuple[str, Any, Any, str]]:
    """Field, released value, this model's value and reason, for each field outside the encoders that differs."""
    released = MttvConfig.preset("weibo")
    names = [name for name in inspect.signature(MttvConfig.__init__).parameters if hasattr(released, name)]
    return [
        (name, getattr(released, name), getattr(config, name), REASONS.get(name, ""))
        for name in names
        if name not in {"vision_config", "text_config"} and getattr(config, name) != getattr(released, name)
    ]


def _write_training(run: Path, out: Path, data_dir: str | Path) -> dict[str, Any]:
    """Write `training/`: the settings without this machine's paths, which are returned, and the outcome."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    dataset = settings.get("dataset", "weibo")
    paths = {
        "model_name_or_path": f"outputs/{out.name.removesuffix(f'-{dataset}')}-start",
        "dataset": dataset,
        "data_dir": f"data/{dataset}",
        "output_dir": f"outputs/{out.name}",
    }
    settings = portable_settings(settings, paths)
    rows = load_dataset(dataset, data_dir=data_dir, split="train", **settings.get("dataset_options", {}))
    outcome = read_json(run / "results.json") if (run / "results.json").is_file() else {}
    outcome["train_posts"] = len(rows)
    outcome["train_pictures"] = len(rows) - rows.with_format("arrow")["image"].null_count
    folder = out / "training"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    write_json(folder / "results.json", outcome)
    if (run / "curves.png").is_file():
        shutil.copyfile(run / "curves.png", folder / "curves.png")
    return settings


def _options(settings: dict[str, Any], split: str) -> dict[str, Any]:
    """Options of the data set: val is what the run held out; test is the file as it is, without further rows."""
    return settings.get("dataset_options", {}) if split == "val" else {}


def _measure(
    out: Path, settings: dict[str, Any], data_dir: str | Path, split: str, progress: bool
) -> ClassificationReport:
    """Write `results/<split>/`: what `stmine evaluate mttv` finds for the packed weights, when and on what."""
    model, processor = load_mttv(out)
    dataset, options = settings["dataset"], _options(settings, split)
    rows = load_dataset(dataset, data_dir=data_dir, split=split, **options)
    report = evaluate_posts(model, processor, rows, progress=progress)
    command = f"stmine evaluate mttv --model {ORGANISATION}/{out.name} --dataset {dataset}"
    command += f" --data-dir data/{dataset} --split {split}"
    command += "".join(f" --option {name}={value}" for name, value in options.items())
    folder = out / "results" / split
    report.save(folder)
    measured = {"command": command, "date": date.today().isoformat(), "hardware": hardware(model.device)}
    write_json(folder / "results.json", measured | report.to_dict())
    return report


def _measure_released(run: Path, out: Path, settings: dict[str, Any], data_dir: str | Path, progress: bool) -> None:
    """Write `results/released.json`: the released recipe from the same start, on the test split."""
    model, processor = load_mttv(run / "best")
    rows = load_dataset(settings["dataset"], data_dir=data_dir, split="test")
    report = evaluate_posts(model, processor, rows, progress=progress)
    recipe = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    epochs = {"epochs": recipe["num_train_epochs"], "date": date.today().isoformat()}
    write_json(out / "results" / "released.json", epochs | report.to_dict() | {"model": "released recipe"})


def _draw_explained(out: Path) -> None:
    """The card's picture: a made-up post with a drawn picture, and what moved the verdict on it."""
    model, processor = load_mttv(out, device="cpu")
    judge = MttvPipeline(model=model, processor=processor)
    image = draw(SCENE, np.random.default_rng(0), size=224)
    result = judge({"text": POST, "image": image}, explain=True)
    file = out / PICTURE
    file.parent.mkdir(exist_ok=True)
    file.write_text(explanation_svg(POST, result, draw_regions(image, result)), encoding="utf-8")


def explanation_svg(text: str, result: dict[str, Any], picture: Any, columns: int = 20) -> str:
    """Verdict, shaded words and drawn picture as one SVG, which a browser shows in fonts of its own.

    Args:
        text: the text that was judged; each character gets a square.
        result: the answer of the pipeline with `explain=True`.
        picture: the picture, drawn by `draw_regions`.
        columns: characters in a line.
    """
    side, left, top = 26, picture.width + 28, 62
    strongest = max((abs(word["weight"]) for word in result["words"]), default=0.0) or 1.0
    weights = np.zeros(len(text))
    for word in result["words"]:
        weights[word["start"] : word["end"]] = word["weight"] / strongest
    parts = []
    for place, (character, weight) in enumerate(zip(text, weights, strict=True)):
        x, y = left + place % columns * side, top + place // columns * (side + 6)
        colour = "214,39,40" if weight > 0 else "31,119,180"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="rgb({colour})" '
            f'fill-opacity="{0.65 * abs(weight):.2f}"/><text x="{x + side / 2}" y="{y + 20}">'
            f"{html.escape(character)}</text>"
        )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    image = base64.b64encode(buffer.getvalue()).decode()
    width, height = left + columns * side + 14, max(picture.height + 28, top + 8 * side)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="18" text-anchor="middle"><rect width="100%" height="100%" fill="white"/>'
        f'<image x="14" y="14" width="{picture.width}" height="{picture.height}" '
        f'href="data:image/png;base64,{image}"/>'
        f'<text x="{left}" y="40" font-size="22" text-anchor="start">{html.escape(result["label"])} '
        f"({result['score']:.0%})</text>{''.join(parts)}</svg>\n"
    )
