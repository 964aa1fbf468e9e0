"""Adapters (PEFT): a few per cent of new weights beside an unchanged model, created, saved and resumed.

The model keeps its class, and its parts keep their names: PEFT's layers replace layers inside it. The result of a run
is an adapter folder: the new weights, `adapter_config.json` with the base and its revision, the processor, a card.
`stmine_hf.loading` and the Auto classes open it, `stmine merge` merges it into its base.

Batch norms stay in evaluation mode while adapters train: their running statistics are buffers of the base, which an
adapter does not hold, and changes to them would be lost with the run. Those inside heads that are saved whole are kept
there with their statistics, and train as always.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Size, Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from ..cards.adapter import ADAPTER, adapter_card, adapter_kind
from ..checkpoints import require_bounded_header
from ..documents import DocumentError, parse_json, read_text, read_yaml
from ..errors import StmineError
from ..methods import AdapterTargets, get
from .arguments import ZooTrainingArguments

if TYPE_CHECKING:
    from peft import PeftConfig

    from .checkpoint_trainer import Processor

logger = logging.getLogger(__name__)

WEIGHTS, SETTINGS, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"
BASE_FOLDER = "base"  # of a run whose start is no published model
LARGEST_SHARE = 0.05  # of the base's parameters, up to which heads are saved whole
_PREFIX = "base_model.model."  # of every tensor in an adapter's file
_ATTENTION = re.compile(r"\.(?:attention|attn|self_attn)\.(?:.+\.)?(?:query|key|value|dense|qkv|proj|[qkvo]_proj)$")
_LEARNING_ONLY = ("*dropout*",)  # config fields of all methods and encoders; the methods' records have theirs
_BOOKKEEPING = {"_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version"}


def add_adapter(
    model: PreTrainedModel,
    processor: Processor,
    args: ZooTrainingArguments,
    source: str | None,
    *,
    resuming: bool = False,
) -> PreTrainedModel:
    """Add the adapter that `args.peft` selects to a model; only the adapter is trained afterwards.

    The base of the adapter is `source`, if the model is stored there. Otherwise (fresh backbones, other classes,
    another config, a toy) it is written to `<output_dir>/base`; a resumed run loads it from there.

    Args:
        model: the model to adapt.
        processor: of the model, written beside a base.
        args: `peft` and the `lora_` fields.
        source: folder or Hub id that the model came from, if from one.
        resuming: the run resumes from a checkpoint.

    Returns:
        The model, in training mode.

    Raises:
        StmineError: PEFT is missing, the settings do not fit it or the model; or the adapter is to be pushed, and its
            base is not on the Hub.
    """
    known = AutoConfig.from_pretrained(source, trust_remote_code=False) if source else None
    fresh = known is None or known.label2id != model.config.label2id
    base, revision = source, _commit(source) if source else None
    changed = known is None or _design(known) != _design(model.config)
    if (args.push_to_hub or args.push_dry_run) and (changed or Path(str(source)).is_dir()):
        raise StmineError(
            "push_to_hub would send an adapter whose base cannot be loaded by others: "
            f"{'a model made by this run' if changed else source} is not on the Hub. Publish the base first (stmine "
            "publish push) and start from its id; or omit push_to_hub and publish the whole model that stmine "
            "merge makes of the adapter."
        )
    if changed:
        folder, revision = Path(args.output_dir or ".").resolve() / BASE_FOLDER, None
        base = str(folder)
        with args.main_process_first(desc="writing the adapter's base"):
            if resuming and (folder / "config.json").is_file():
                model.load_state_dict(type(model).from_pretrained(folder).state_dict())
            elif args.should_save:
                model.save_pretrained(folder)
                processor.save_pretrained(folder)
    size = sum(parameter.numel() for parameter in model.parameters())
    config = build_config(model, args, fresh=fresh)
    if args.quantize_base:
        model = quantized(model, str(base), revision, args.quantize_base)
    try:
        model.add_adapter(config)
    except Exception as error:
        raise StmineError(f"peft {args.peft}: {' '.join(str(error).split())[:400]}") from error
    config.base_model_name_or_path, config.revision = base, revision
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise StmineError(f"peft {args.peft}: nothing of the model trains with it.")
    kept = sum(tensor.numel() for tensor in adapter_weights(model).values())
    logger.info(
        "Adapter (%s) on %s: %s of %s values train and are saved, %.1f %%.",
        *(adapter_kind(config), base, f"{kept:,}", f"{size:,}", 100 * kept / size),
    )
    return model.train()


def build_config(model: PreTrainedModel, args: ZooTrainingArguments, *, fresh: bool = False) -> PeftConfig:
    """The PEFT configuration that `args` selects; unset fields follow from the method's `AdapterTargets`.

    Args:
        model: without an adapter.
        args: `peft` and the `lora_` fields.
        fresh: the heads' weights start at random.

    Raises:
        StmineError: PEFT is missing, or an unreadable, unknown or unsuitable configuration.
    """
    try:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    except ImportError as error:
        raise StmineError('--peft needs PEFT: pip install "stmine-hf[train]".') from error

    given: dict[str, Any] = {} if args.peft == "lora" else _read_settings(Path(str(args.peft)))
    kind = str(given.pop("peft_type", "LORA")).upper()
    kinds: dict[str, Any] = {
        str(getattr(name, "value", name)): config for name, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if kind not in kinds:
        raise StmineError(f"{args.peft}: no PEFT method is named {kind!r}; there are {', '.join(sorted(kinds))}.")
    fields = {item.name for item in dataclasses.fields(kinds[kind]) if item.init}
    if unknown := sorted(set(given) - fields):
        raise StmineError(f"{args.peft}: {kind} has no field {', '.join(unknown)}.")
    if "target_modules" not in fields:
        raise StmineError(f"{args.peft}: {kind} changes no layers of a model, so it does not fit these models.")
    own = get(model.config.model_type).adapter
    if kind == "LORA":
        given["r"] = args.lora_rank or given.get("r") or own.rank
        given["lora_alpha"] = args.lora_alpha or given.get("lora_alpha") or 2 * given["r"]
    rank = given.get("r") or own.rank
    if args.lora_targets:
        given["target_modules"] = list(args.lora_targets)
    targets, whole = choose_modules(model, own, rank, fresh=fresh, targets=given.get("target_modules"))
    if given.get("target_modules") is None:
        given["target_modules"] = targets
    if "modules_to_save" in fields:
        given.setdefault("modules_to_save", whole or None)
    try:
        return kinds[kind](**given)
    except (TypeError, ValueError) as error:
        raise StmineError(f"{args.peft}: {' '.join(str(error).split())}") from error


def choose_modules(
    model: nn.Module,
    own: AdapterTargets,
    rank: int,
    *,
    fresh: bool = False,
    targets: Sequence[str] | str | None = None,
) -> tuple[list[str], list[str]]:
    """Which layers get factors, and which modules are trained whole; see `AdapterTargets`.

    Args:
        rank: of the factors.
        fresh: the heads are new.
        targets: layers chosen by the user, whose factors are not counted.

    Returns:
        Names of layers, names of modules; no layer lies in a module.
    """
    modules = dict(model.named_modules())
    trained_apart = getattr(model.config, "train_vision", True)  # without it MTTV's visual encoder is always frozen
    encoders = [part for part in own.encoders if trained_apart or not part.endswith("vision_encoder")]
    chosen = [name for part in encoders if modules.get(part) is not None for name in _projections(modules, part)]
    groups = [_single(modules, group) for group in own.heads]
    chosen = [name for name in chosen if not _within(name, [head for group in groups for head in group])]
    chosen += [name for group in groups for name in _layers(modules, group)]

    def cost(layers: Iterable[str], heads: Iterable[str]) -> int:
        factors = 0 if targets else sum(rank * sum(modules[name].weight.shape[:2]) for name in layers)
        return factors + sum(tensor.numel() for name in heads for tensor in modules[name].state_dict().values())

    most = LARGEST_SHARE * sum(parameter.numel() for parameter in model.parameters())
    whole: list[str] = []
    for group in groups:
        rest = [name for name in chosen if not _within(name, group)]
        if fresh or cost(rest, [*whole, *group]) <= most:
            chosen, whole = rest, [*whole, *group]
    return chosen, whole


def quantized(model: PreTrainedModel, base: str, revision: str | None, bits: str) -> PreTrainedModel:
    """The same model with the linear layers of its encoders in few bits; heads and convolutions stay unchanged.

    Args:
        model: the one stored in `base`, whose weights are read again.
        base: folder or Hub id.
        revision: of a Hub id.
        bits: `8bit` (LLM.int8) or `4bit` (NF4).

    Raises:
        StmineError: bitsandbytes is missing or refuses this machine, or there is no such layer.
    """
    own, modules = get(model.config.model_type).adapter, dict(model.named_modules())
    heads = [name for group in own.heads for name in _single(modules, group)]
    layers = [name for name, module in modules.items() if isinstance(module, nn.Linear) and not _within(name, heads)]
    if not any(_within(name, own.encoders) for name in layers):
        raise StmineError(
            f"quantize_base: the encoders of {model.config.model_type.upper()} have no linear layers, and "
            "convolutions cannot be quantized for training. Omit it."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise StmineError('quantize_base needs bitsandbytes: pip install "stmine-hf[quantized]".')
    from transformers import BitsAndBytesConfig

    few = {"load_in_8bit": True} if bits == "8bit" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    try:
        return type(model).from_pretrained(
            base,
            revision=revision,
            config=model.config,
            quantization_config=BitsAndBytesConfig(**few, llm_int8_skip_modules=heads),
        )
    except (ImportError, RuntimeError, ValueError) as error:
        raise StmineError(
            f"quantize_base: bitsandbytes cannot hold {base} in {bits} on this machine ({' '.join(str(error).split())}"
            "). Omit it, or train where bitsandbytes supports the hardware."
        ) from error


def frozen_batchnorms(model: nn.Module) -> list[nn.Module]:
    """The batch norms to keep in evaluation mode: all but those of modules that the adapter saves whole."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and ".modules_to_save." not in name
    ]


def adapter_weights(model: PreTrainedModel, state_dict: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What an adapter folder holds of a model (or of its given state), by the model's names."""
    from peft import get_peft_model_state_dict

    # The embeddings are those of the base; to ask whether they were resized, PEFT would call the Hub.
    return get_peft_model_state_dict(model, state_dict=state_dict, save_embedding_layers=False)


def save_adapter(
    model: PreTrainedModel,
    processor: Processor | None,
    folder: str | Path,
    state_dict: dict[str, Tensor] | None = None,
) -> None:
    """Write an adapter folder: weights, PEFT's settings, the processor, a card.

    Args:
        model: with an adapter (`add_adapter`).
        processor: the model's; None leaves it out.
        folder: created if missing.
        state_dict: the model's, where it had to be gathered from several processes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = adapter_weights(model, state_dict)
    save_file({_PREFIX + name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    config = model.peft_config[ADAPTER]
    config.save_pretrained(str(folder))
    if processor is not None:
        processor.save_pretrained(folder)
    (folder / CARD).write_text(adapter_card(model), encoding="utf-8")


def load_adapter_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Load the weights of an adapter folder into the adapter of a model.

    Raises:
        StmineError: no adapter there, or one of other layers.
    """
    from peft import set_peft_model_state_dict

    file = Path(folder) / WEIGHTS
    if not file.is_file():
        raise StmineError(f"{folder}: no {WEIGHTS} to resume from; was this run started without --peft?")
    require_bounded_header(file)
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(file).items()}
    own = adapter_weights(model)
    differing = sorted({name for name in {*weights, *own} if _shape(weights, name) != _shape(own, name)})
    if differing:
        raise StmineError(
            f"{folder}: its adapter differs from the one of the settings: {len(differing)} tensors differ "
            f"({', '.join(differing[:2])}). Resume with the settings of the run (config.yaml)."
        )
    set_peft_model_state_dict(model, weights)


def _read_settings(path: Path) -> dict[str, Any]:
    """A PEFT configuration from a JSON or YAML file."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise StmineError(
            f"peft must be lora, or a JSON or YAML file with a PEFT configuration; {path}: {error.strerror}."
        ) from error
    try:
        content = parse_json(read_text(path), path.name) if path.suffix == ".json" else read_yaml(path)
    except DocumentError as error:
        raise StmineError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise StmineError(f"{path} must hold the fields of a PEFT configuration, found {type(content).__name__}.")
    of_a_run = {"base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version"}
    return {name: value for name, value in content.items() if name not in of_a_run}


def _projections(modules: dict[str, nn.Module], part: str) -> list[str]:
    """The attention projections of a part, or its pointwise convolutions if it has no attention."""
    inside = [name for name in modules if name.startswith(f"{part}.")]
    attention = [name for name in inside if isinstance(modules[name], nn.Linear) and _ATTENTION.search(name)]
    return attention or [name for name in inside if _pointwise(modules[name])]


def _layers(modules: dict[str, nn.Module], heads: Iterable[str]) -> list[str]:
    """The linear layers of heads, pointwise convolutions included."""
    return [
        name
        for name in modules
        if _within(name, heads) and (isinstance(modules[name], nn.Linear) or _pointwise(modules[name]))
    ]


def _pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _single(modules: dict[str, nn.Module], names: Iterable[str]) -> list[str]:
    """The modules of these names that are there; lists, which cannot be wrapped, by their entries."""
    found: list[str] = []
    for name in names:
        module = modules.get(name)
        if isinstance(module, nn.ModuleList):
            found += [f"{name}.{index}" for index in range(len(module))]
        elif module is not None:
            found.append(name)
    return found


def _within(name: str, parts: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _added(name: str) -> bool:
    """Whether a parameter was added by PEFT."""
    return f".{ADAPTER}" in name


def _shape(tensors: dict[str, Tensor], name: str) -> Size | None:
    return tensors[name].shape if name in tensors else None


def _design(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of a config on which the outputs of a model with given weights depend."""
    learning_only = (*_LEARNING_ONLY, *get(config.model_type).learning_only)

    def plain(fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: plain(value) if isinstance(value, dict) else value
            for name, value in fields.items()
            if name not in _BOOKKEEPING and not any(fnmatchcase(str(name), pattern) for pattern in learning_only)
        }

    return json.loads(json.dumps(plain(config.to_dict()), default=str))


def _commit(source: str) -> str | None:
    """The commit of a Hub repository that is used here; None for a folder."""
    if Path(source).is_dir():
        return None
    file = Path(cached_file(source, "config.json"))
    return file.parent.name if file.parent.parent.name == "snapshots" else None
