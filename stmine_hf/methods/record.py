"""The record of a method: all that the library knows about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

_PACKAGE = __name__.partition(".")[0]


def load_named(path: str) -> Any:
    """Import the object that "module:name" names; the module is one of this package, such as "search.index"."""
    module, _, name = path.partition(":")
    return getattr(import_module(f"{_PACKAGE}.{module}"), name)


class _Loaded:
    """The object that another field of the record names, imported when it is first read; None if it names none."""

    def __init__(self, field: str) -> None:
        self._field = field

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        path = getattr(record, self._field)
        return None if path is None else load_named(path)


class ObjectDetector(Protocol):
    """A detector as it is run: `SatForObjectDetection`, or one exported for another runtime."""

    training: bool

    @property
    def config(self) -> PreTrainedConfig: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, *, pixel_values: torch.Tensor) -> Any: ...
    def to(self, device: str | torch.device) -> Any: ...
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


@dataclass(frozen=True)
class AdapterTargets:
    """The parts of a method's model that an adapter changes.

    Attributes:
        encoders: parts whose attention projections get low-rank factors, or their pointwise convolutions where there
            is no attention.
        heads: groups of modules that are trained whole and saved in the adapter, if they are new (their weights start
            at random) or if they fit: the adapter as a whole is to hold a small share of the model. Of a group that
            does not fit the linear layers get factors, as the encoders'.
        rank: of the factors.
    """

    encoders: tuple[str, ...]
    heads: tuple[tuple[str, ...], ...]
    rank: int


@dataclass(frozen=True, eq=False)
class Method:
    """A method. What is described as a path reads "module:name" and is imported on first use, by the name beside it.

    Attributes:
        name: the model type in `config.json`, the folder in `modeling/`, the word in commands.
        title: the name as its paper writes it.
        description: one line of a card: what a model of it does.
        config: path of the configuration (`config_class`).
        model: path of the model with its head, as it is used (`model_class`).
        processor: path of the class that prepares the model's inputs (`processor_class`).
        image_processor: path of the processor for images alone (`image_processor_class`); it may be the same.
        auto_models: Auto class -> path of what it opens.
        auto_class: the Auto class that loads `model`.
        task: the Hub's task (`pipeline_tag`).
        pipelines: tasks of its own for `transformers.pipeline` -> path.
        rows: the kind of rows it trains on and is evaluated on: `captions`, `posts` or `boxes`.
        commands: commands that use a model of it.
        command_example: one of them, with a model called `ADAPTER`.
        usage: a few lines of Python that load and use a model; `{repo}` stands for its id.
        metrics: names of its measurements that the Hub lists -> their titles there.
        class_metrics: measurements of single classes, the one that sums up a class first -> their titles; empty for
            rows without classes.
        score_meaning: one sentence on the measurement that chooses the best model of a training.
        default_checkpoint: the repository that is used where no model is given.
        more_checkpoints: the other repositories of models that ship with the project.
        learning_only: config fields (as patterns of `fnmatch`) that change what is learned, not what given weights
            compute.
        adapter: see `AdapterTargets`.
        converter: path of the function that converts an authors' checkpoint to a folder for the Auto classes
            (`convert`).
        evaluator: path of the function that makes a report of model, processor and rows (`evaluate`).
        card: path of the class that writes cards of its repositories (`card_class`).
        trainer: path of what its training consists of (`training`); see `training.parts`.
        repository: path of the class that builds its repositories (`repository_class`).
        exported: path of the function that says whether a folder holds an exported model (`is_exported`); None: the
            method has no export.
        export_opener: path of the function that opens such a folder (`open_exported`).
    """

    name: str
    title: str
    description: str
    config: str
    model: str
    processor: str
    image_processor: str
    auto_models: Mapping[str, str]
    auto_class: str
    task: str
    rows: str
    commands: tuple[str, ...]
    command_example: str
    usage: str
    metrics: Mapping[str, str]
    score_meaning: str
    default_checkpoint: str
    learning_only: tuple[str, ...]
    adapter: AdapterTargets
    converter: str
    evaluator: str
    card: str
    trainer: str
    repository: str
    class_metrics: Mapping[str, str] = field(default_factory=dict)
    pipelines: Mapping[str, str] = field(default_factory=dict)
    more_checkpoints: tuple[str, ...] = ()
    exported: str | None = None
    export_opener: str | None = None

    config_class = _Loaded("config")
    model_class = _Loaded("model")
    processor_class = _Loaded("processor")
    image_processor_class = _Loaded("image_processor")
    convert = _Loaded("converter")
    evaluate = _Loaded("evaluator")
    card_class = _Loaded("card")
    training = _Loaded("trainer")
    repository_class = _Loaded("repository")
    is_exported = _Loaded("exported")
    open_exported = _Loaded("export_opener")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Repositories of the models that ship with the project, the default one first."""
        return (self.default_checkpoint, *self.more_checkpoints)

    def public_names(self) -> Iterator[tuple[str, str]]:
        """Names that the package itself exports for this method, with the path of each."""
        for path in dict.fromkeys((self.config, *self.auto_models.values(), self.processor)):
            yield path.partition(":")[2], path

    def register(self) -> None:
        """Register the method with the Auto classes, and make saved models carry their code.

        A model class is saved for the first Auto class that opens it. Calling it again does no harm.
        """
        import transformers
        from transformers.pipelines import PIPELINE_REGISTRY

        config, image_processor, processor = self.config_class, self.image_processor_class, self.processor_class
        transformers.AutoConfig.register(self.name, config, exist_ok=True)
        saved_for: dict[Any, str] = {}
        for auto_class, path in self.auto_models.items():
            model = load_named(path)
            getattr(transformers, auto_class).register(config, model, exist_ok=True)
            saved_for.setdefault(model, auto_class)
        for model, auto_class in saved_for.items():
            model.register_for_auto_class(auto_class)
        backends = dict.fromkeys(("pil", "torchvision"), image_processor)  # one class, whichever is asked for
        transformers.AutoImageProcessor.register(config, image_processor_classes=backends, exist_ok=True)
        if processor is not image_processor:
            transformers.AutoProcessor.register(config, processor, exist_ok=True)
        for saved_with_code in dict.fromkeys((config, image_processor, processor)):
            saved_with_code.register_for_auto_class()
        for task, path in self.pipelines.items():
            if task not in PIPELINE_REGISTRY.get_supported_tasks():
                PIPELINE_REGISTRY.register_pipeline(
                    task,
                    pipeline_class=load_named(path),
                    pt_model=getattr(transformers, self.auto_class),
                    type="multimodal",
                )
