"""The card beside a training run's best weights: what it is, how to load it, how well it does, how it came about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..evaluation.reports import versions
from ..training.adapters import adapter_header, adapter_use, has_adapter
from ..training.arguments import ZooTrainingArguments, resolved_arguments

# Of the settings, those that are of no use to somebody else.
_PRIVATE = {"output_dir", "push_to_hub", "push_dry_run", "hub_model_id", "hub_private_repo"}
_STARTS = ("model_name_or_path", "init_from", "vision_backbone", "conv_backbone", "text_backbone")


@dataclass(frozen=True)
class Method:
    """What cards of one method share.

    Attributes:
        what: a model of it is.
        task: of the Hub's pages, which offers a widget by it.
        snippet: a few lines that load and use it; `{repo}` stands for its id.
        metrics: that the Hub lists, with their names there.
    """

    what: str
    task: str
    snippet: str
    metrics: Mapping[str, str]


METHODS = {
    "fisvl": Method(
        "Finds satellite images by sentences and sentences by images: FISVL (Zhou et al., IEEE JSTARS 2024)",
        "zero-shot-image-classification",
        """from PIL import Image
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
inputs = processor(images=Image.open("image.jpg"), text=["a harbour", "a forest"], return_tensors="pt")
print(model(**inputs).logits_per_image.softmax(dim=-1))""",
        {"r_mean": "Mean recall", "txt_r1": "image-to-text R@1", "img_r1": "text-to-image R@1"},
    ),
    "mttv": Method(
        "Tells fake from real posts by text and image: MTTV",
        "text-classification",
        """from transformers import pipeline
judge = pipeline("fake-news-detection", model="{repo}", trust_remote_code=True)
print(judge({{"text": "what the post says", "image": "image.jpg"}}))  # either may be missing""",
        {"accuracy": "Accuracy", "macro_f1": "Macro F1"},
    ),
    "sat": Method(
        "Finds objects in images on a phone-sized budget: SAT, a light detector of the NanoDet family",
        "object-detection",
        """from transformers import pipeline
detect = pipeline("object-detection", model="{repo}", trust_remote_code=True)
print(detect("image.jpg", threshold=0.3))""",
        {"ap": "AP", "ap50": "AP50"},
    ),
}


@dataclass(frozen=True)
class RunCard:
    """Writes `README.md` for the weights of a run.

    Args:
        method: of `METHODS`.
        model: where the model came from.
        data: what it was trained on.
        args: how.
        script: that trained it.
    """

    method: str
    model: Any
    data: Any
    args: ZooTrainingArguments
    script: str = field(default_factory=lambda: f"examples/{Path(sys.argv[0]).name}")

    def write(self, folder: Path, network: Any, metrics: Mapping[str, Any] | None, step: int, steps: int) -> None:
        """Write the card into the folder of the weights.

        Args:
            folder: of model and processor.
            network: the model, whose parameters are counted; with an adapter the card is that of the adapter.
            metrics: of the evaluation that picked these weights, if any.
            step: after which.
            steps: of the whole run.
        """
        from ..hub.model_repository import portable_settings
        from .rendering import render

        method, args = METHODS[self.method], self.args
        starts = [Path(value).name if Path(value).exists() else value for value in self._starts()]
        settings = resolved_arguments(self.model, self.data, args)
        settings = portable_settings({key: value for key, value in settings.items() if key not in _PRIVATE}, {})
        name = args.hub_model_id or Path(args.output_dir or ".").absolute().name
        text = render(
            "run.md",
            self._header(name, metrics, network),
            name=name.rpartition("/")[2],
            what=method.what,
            start=[f"`{start}`" for start in starts],
            dataset=self._dataset(),
            split=self.data.eval_split,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            adapter=adapter_use(network) if has_adapter(network) else None,
            snippet=method.snippet.format(repo=name),
            metrics=metrics,
            step=step,
            steps=steps,
            command=f"accelerate launch {self.script} --config config.yaml",
            settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip(),
            processes=args.world_size,
            batch=args.per_device_train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            versions=versions("accelerate"),
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def _starts(self) -> list[str]:
        return [value for name in _STARTS if (value := getattr(self.model, name, None))]

    def _dataset(self) -> str:
        """The name or Hub id; of a file or folder its last part: where it lies is nobody else's business."""
        dataset = self.data.dataset
        return Path(dataset).name if Path(dataset).exists() else dataset

    def _header(self, name: str, metrics: Mapping[str, Any] | None, network: Any) -> Any:
        from huggingface_hub import EvalResult, ModelCardData

        method, dataset = METHODS[self.method], self._dataset()
        scores = [
            EvalResult(
                task_type=method.task,
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=self.data.eval_split,
                metric_type=metric,
                metric_name=title,
                metric_value=round(float(metrics[metric]), 4),
            )
            for metric, title in method.metrics.items()
            if metrics and metrics.get(metric) is not None
        ]
        own: dict[str, Any]
        if has_adapter(network):
            own = adapter_header(network)
        else:
            starts = [start for start in self._starts() if not Path(start).exists()]
            own = {"library_name": "transformers", "pipeline_tag": method.task, "base_model": starts or None}
            own["tags"] = ["custom_code", self.method]
        own["tags"].append("stmine-hf")
        return ModelCardData(
            **own,
            datasets=[dataset] if "/" in dataset else None,
            model_name=name.rpartition("/")[2],
            eval_results=scores or None,
        )
