"""The card beside a training run's best weights: what it is, how to load it, its scores, how it was trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..evaluation.reports import versions
from ..loading import hub_id
from ..methods import get
from .adapter import adapter_header, adapter_use, has_adapter
from .rendering import Card
from .settings import portable_settings, resolved_arguments

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData
    from transformers import PreTrainedModel

# Settings that are of no use to other users.
_PRIVATE = {"output_dir", "push_to_hub", "push_dry_run", "hub_model_id", "hub_private_repo"}
_STARTS = ("model_name_or_path", "init_from", "vision_backbone", "conv_backbone", "text_backbone")


@dataclass(frozen=True)
class RunCard:
    """Writes `README.md` for the weights of a run.

    Args:
        method: its name.
        model: where the model came from.
        data: what it was trained on.
        args: how.
        script: that trained it.
        command: that trained it, if it was one of `stmine`.
    """

    method: str
    model: Any
    data: Any
    args: Any
    script: str = field(default_factory=lambda: f"examples/{Path(sys.argv[0]).name}")
    command: str | None = None

    def write(
        self, folder: Path, network: PreTrainedModel, metrics: Mapping[str, Any] | None, step: int, steps: int
    ) -> None:
        """Write the card into the folder of the weights.

        Args:
            folder: of model and processor.
            network: the model, whose parameters are counted; with an adapter the card is that of the adapter.
            metrics: of the evaluation that picked these weights, if any.
            step: after which.
            steps: of the whole run.
        """
        method, args = get(self.method), self.args
        starts = [(hub_id(value) or Path(value).name) if Path(value).exists() else value for value in self._starts()]
        settings = resolved_arguments(self.model, self.data, args)
        settings = portable_settings({key: value for key, value in settings.items() if key not in _PRIVATE}, {})
        name = args.hub_model_id or Path(args.output_dir or ".").absolute().name
        facts = dict(
            name=name.rpartition("/")[2],
            what=method.description,
            start=[f"`{start}`" for start in starts],
            dataset=self._dataset(),
            split=self.data.eval_split,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            adapter=adapter_use(network) if has_adapter(network) else None,
            snippet=method.usage.format(repo=name),
            metrics=metrics,
            step=step,
            steps=steps,
            command=self.command or f"accelerate launch {self.script} --config config.yaml",
            settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip(),
            processes=args.world_size,
            batch=args.per_device_train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            versions=versions("accelerate"),
        )
        Card("run.md", self._header(name, metrics, network), facts).write(folder)

    def _starts(self) -> list[str]:
        return [value for name in _STARTS if (value := getattr(self.model, name, None))]

    def _dataset(self) -> str:
        """The name or Hub id; of a file or folder its last part, without where it lies."""
        dataset = self.data.dataset
        if self.data.data_dir and self.data.hold_out is not None:
            return Path(self.data.data_dir).name  # the user's own data: the builder that reads it does not name it
        return Path(dataset).name if Path(dataset).exists() else dataset

    def _header(self, name: str, metrics: Mapping[str, Any] | None, network: PreTrainedModel) -> ModelCardData:
        from huggingface_hub import EvalResult, ModelCardData

        method, dataset = get(self.method), self._dataset()
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
            starts = [start for one in self._starts() if (start := hub_id(one) if Path(one).exists() else one)]
            own = {"library_name": "transformers", "pipeline_tag": method.task, "base_model": starts or None}
            own["tags"] = ["custom_code", self.method]
        own["tags"].append("stmine-hf")
        return ModelCardData(
            **own,
            datasets=[dataset] if "/" in dataset else None,
            model_name=name.rpartition("/")[2],
            eval_results=scores or None,
        )
