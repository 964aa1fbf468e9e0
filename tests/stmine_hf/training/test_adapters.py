"""Adapters: few values, the same answers by every door, exact resuming, refusals that say what to do."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from documents import YAML_BOMB
from helpers_adapters import LOADERS, METHODS, adapter_trainer, answers, arguments, save_base
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForObjectDetection, AutoModelForSequenceClassification, AutoProcessor

from stmine_hf import (
    FisvlConfig,
    FisvlModel,
    MttvConfig,
    MttvForSequenceClassification,
    SatConfig,
    SatForObjectDetection,
    SatImageProcessor,
)
from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.hub.merging import merge_adapter
from stmine_hf.methods import SAT
from stmine_hf.outputs import OutputError
from stmine_hf.training.adapters import adapter_weights, add_adapter, build_config

ROOT = Path(__file__).parents[3]
AUTO = {"fisvl": AutoModel, "mttv": AutoModelForSequenceClassification, "sat": AutoModelForObjectDetection}
CARDS = ROOT / "hub_cards"


@pytest.fixture(params=METHODS)
def method(request) -> str:
    return request.param


def state(run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items()}


# ---- how much trains ----

RESNET_152 = {"model_type": "resnet", "depths": [3, 8, 36, 3]}
SIZES = {
    "fisvl official": lambda: FisvlModel(FisvlConfig.released()),
    "fisvl official ViT": lambda: FisvlModel(FisvlConfig.released_vit()),
    "mttv official": lambda: MttvForSequenceClassification(MttvConfig.preset("weibo")),
    "mttv official, encoder inside": lambda: MttvForSequenceClassification(
        MttvConfig.preset("weibo", vision_config=RESNET_152)
    ),
    "sat": lambda: SatForObjectDetection(SatConfig.preset("sat")),
    "nanodet-m": lambda: SatForObjectDetection(SatConfig.preset("nanodet-m")),
    "fisvl-lite-rsicd": lambda: FisvlModel(FisvlConfig.from_pretrained(CARDS / "fisvl-lite-rsicd")),
    "mttv-lite-weibo": lambda: MttvForSequenceClassification(MttvConfig.from_pretrained(CARDS / "mttv-lite-weibo")),
    "sat-coco-small": lambda: SatForObjectDetection(SatConfig.from_pretrained(CARDS / "sat-coco-small")),
    "sat-indiscernible": lambda: SatForObjectDetection(SatConfig.from_pretrained(CARDS / "sat-indiscernible")),
}
FRESH = {  # new heads, saved whole: official starts, and a detector for four classes of one's own
    "fisvl official": SIZES["fisvl official"],
    "mttv official, encoder inside": SIZES["mttv official, encoder inside"],
    "sat, four classes": lambda: SatForObjectDetection(
        SatConfig.preset("sat", id2label=dict(enumerate(["a", "b", "c", "d"])))
    ),
}


def share(build, tmp_path: Path, fresh: bool) -> float:
    with torch.device("meta"):
        model = build()
        size = sum(parameter.numel() for parameter in model.parameters())
        model.add_adapter(build_config(model, arguments(model.config.model_type, tmp_path), fresh=fresh))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name or ".modules_to_save." in name for name in trained)
    return sum(tensor.numel() for tensor in adapter_weights(model).values()) / size


@pytest.mark.parametrize("name", SIZES)
def test_an_adapter_is_at_most_five_per_cent_of_the_model(name, tmp_path):
    assert 0.005 < share(SIZES[name], tmp_path, fresh=False) <= 0.05


@pytest.mark.parametrize("name", FRESH)
def test_new_heads_are_saved_whole_within_five_per_cent(name, tmp_path):
    assert share(FRESH[name], tmp_path, fresh=True) <= 0.05


def test_the_targets_are_attention_projections_and_pointwise_convolutions():
    with torch.device("meta"):
        fisvl, mttv = SIZES["fisvl official"](), SIZES["mttv official, encoder inside"]()
        sat = SIZES["sat"]()

    def targets(model) -> set[str]:
        model.add_adapter(build_config(model, arguments(model.config.model_type, Path("unused"))))
        layers = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
        return {re.sub(r"\d+", "N", name) for name in layers}

    bert = {f"encoder.layer.N.attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")}
    swin = {f"vision_encoder.encoder.encoder.layers.N.blocks.N.attention.{name}_proj" for name in "qkvo"}
    assert targets(fisvl) == {f"text_encoder.{name}" for name in bert} | swin
    assert targets(mttv) == {f"mttv.encoder.{name}" for name in bert}  # the visual encoder is frozen for good
    for name in targets(sat):
        assert ".lateral" in name or ".convolution" in name or "gate" in name or "predictor" in name
    pointwise = [m for m in sat.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert sum("lora_A" in name for name, _ in sat.named_parameters()) == sum(
        module.groups == 1 and module.weight.shape[0] > SAT.adapter.rank for module in pointwise
    ) - sum("lora_B" in name for name, _ in sat.named_parameters())


# ---- the same answers by every door ----


def train(method: str, tmp_path: Path, **fields):
    base = save_base(method, tmp_path / "model")
    run = adapter_trainer(method, base, tmp_path / "run", **fields)
    before = answers(*LOADERS[method](base))
    run.train()
    run.keep_last()
    after = answers(run.network, run.processor)
    assert (after - before).abs().max() > 1e-3  # it has learned something
    return run, base, after


def test_every_door_gives_the_same_answers(method, tmp_path, capsys):
    run, base, expected = train(method, tmp_path, eval_strategy="epoch")
    best = tmp_path / "run" / "best"
    assert not (best / "model.safetensors").exists() and not (best / "config.json").exists()
    settings = json.loads((best / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base) and not settings.get("auto_mapping")
    weights = load_file(best / "adapter_model.safetensors")
    trained = {name for name, p in run.network.named_parameters() if p.requires_grad}
    assert len([name for name in weights if not name.endswith(("running_mean", "running_var", "tracked"))]) == len(
        trained
    )

    # The Auto class, as a user has it, puts the adapter beside the base: the same tensors to the last bit.
    by_auto = AUTO[method].from_pretrained(best, trust_remote_code=True).eval()
    processor = run.processor
    if method != "sat":
        processor = AutoProcessor.from_pretrained(best, trust_remote_code=True)
    was, now = run.network.state_dict(), by_auto.state_dict()
    assert was.keys() == now.keys() and all(torch.equal(was[name], now[name]) for name in was)
    torch.testing.assert_close(answers(by_auto, processor), expected, atol=1e-5, rtol=1e-4)

    # The doors of this package merge it.
    model, processor = LOADERS[method](best)
    torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)
    assert not any("lora_" in name or "modules_to_save" in name for name in model.state_dict())
    assert model.name_or_path == str(best)

    # Merged for good: a model that needs neither PEFT nor the base.
    capsys.readouterr()  # what the Trainer printed
    with pytest.raises(SystemExit) as end:
        main(["merge", str(best), "--out", str(tmp_path / "merged"), "--json"])
    assert not end.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["method"] == method and told["base"] == str(base)
    model, processor = LOADERS[method](tmp_path / "merged")
    torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)
    again = AUTO[method].from_pretrained(tmp_path / "merged", trust_remote_code=True).eval()
    torch.testing.assert_close(answers(again, processor), expected, atol=1e-5, rtol=1e-4)
    assert sum(p.numel() for p in again.parameters()) == told["parameters"]


def test_the_base_is_untouched_batch_norms_included(method, tmp_path):
    run, base, _ = train(method, tmp_path)
    was = LOADERS[method](base)[0].state_dict()
    now = {name.replace(".base_layer.", "."): tensor for name, tensor in run.network.state_dict().items()}
    now = {name.replace(".original_module.", "."): tensor for name, tensor in now.items()}
    for name, tensor in was.items():
        assert torch.equal(tensor, now[name]), name
    assert any(name.endswith("running_mean") for name in was)


def test_a_resumed_run_ends_as_the_uninterrupted_one(method, tmp_path):
    base = save_base(method, tmp_path / "model")
    fields = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3, "save_total_limit": None}
    fields |= {"ema_decay": 0.9, "warmup_steps": 2}
    whole = adapter_trainer(method, base, tmp_path / "run", **fields)
    whole.train()
    checkpoint = tmp_path / "run" / "checkpoint-3"
    assert not (checkpoint / "model.safetensors").exists()
    resumed = adapter_trainer(method, base, tmp_path / "run", resuming=True, start=7, **fields)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    left, right = state(whole), state(resumed)
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]
    assert whole.ema.mean.keys() == resumed.ema.mean.keys()
    assert all(torch.equal(whole.ema.mean[name], mean) for name, mean in resumed.ema.mean.items())


def test_the_mean_weights_are_what_best_holds(method, tmp_path):
    run, _, live = train(method, tmp_path, ema_decay=0.5)
    assert any("lora_" in name for name in run.ema.mean) and not any("base_layer.weight" in n for n in run.ema.mean)
    with run.ema.applied():
        expected = answers(run.network, run.processor)
    assert not torch.equal(expected, live)
    model, processor = LOADERS[method](tmp_path / "run" / "best")
    torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)


# ---- the base ----


def test_a_start_that_is_no_published_model_is_written_beside(tmp_path):
    """Other classes, so another last layer than the folder's: it is saved whole; the base is the run's start."""
    args = arguments("sat", tmp_path / "run")
    base = save_base("sat", tmp_path / "model")
    torch.manual_seed(0)
    model = SatForObjectDetection(SatConfig(**{**SatConfig.from_pretrained(base).to_dict(), **CLASSES})).train()
    processor = SatImageProcessor.from_pretrained(base)
    adapted = add_adapter(model, processor, args, str(base))
    written = tmp_path / "run" / "base"
    assert adapted.peft_config["default"].base_model_name_or_path == str(written)
    assert "head.0.predictor" in adapted.peft_config["default"].modules_to_save
    expected = answers(adapted, processor)
    torch.testing.assert_close(answers(*LOADERS["sat"](written)), expected)

    # A resumed run goes on from what was written, whatever the seed now makes.
    torch.manual_seed(1)
    other = SatForObjectDetection(SatConfig(**{**SatConfig.from_pretrained(base).to_dict(), **CLASSES})).train()
    resumed = add_adapter(other, processor, args, str(base), resuming=True)
    torch.testing.assert_close(answers(resumed, processor), expected)


CLASSES = {"id2label": {0: "fox", 1: "hare"}, "label2id": {"fox": 0, "hare": 1}}


def test_fields_that_only_matter_in_training_keep_the_base(tmp_path):
    base = save_base("fisvl", tmp_path / "model")
    for fields, same in (({"objective": "contrastive", "dropout": 0.0}, True), ({"attend_padding": True}, False)):
        model = FisvlModel.from_pretrained(base, **fields)
        processor = LOADERS["fisvl"](base)[1]
        adapted = add_adapter(model, processor, arguments("fisvl", tmp_path / "run"), str(base))
        assert (adapted.peft_config["default"].base_model_name_or_path == str(base)) == same, fields


def test_a_run_that_was_moved_with_its_base_opens(tmp_path):
    _, base, expected = train("sat", tmp_path)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "run" / "best").rename(moved / "best")
    base.rename(moved / "model")
    torch.testing.assert_close(answers(*LOADERS["sat"](moved / "best")), expected, atol=1e-5, rtol=1e-4)
    (moved / "model").rename(moved / "gone")
    with pytest.raises(StmineError, match=rf"best is an adapter of {base}: no model found there"):
        LOADERS["sat"](moved / "best")
    with pytest.raises(StmineError, match="no adapter found"):
        merge_adapter(str(moved / "gone"), tmp_path / "merged")


def test_an_adapter_is_not_merged_into_its_base(tmp_path):
    train("sat", tmp_path)
    best, merged = tmp_path / "run" / "best", tmp_path / "merged"
    merge_adapter(str(best), merged)
    file = best / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(merged)}))
    before = {path.name: path.read_bytes() for path in merged.iterdir() if path.is_file()}
    for out in (merged, merged / "again"):
        with pytest.raises(OutputError, match=r"is the input itself|lies in the input"):
            merge_adapter(str(best), out)
    assert {path.name: path.read_bytes() for path in merged.iterdir() if path.is_file()} == before
    merge_adapter(str(best), tmp_path / "again")


def test_a_damaged_adapter_is_refused(tmp_path):
    train("sat", tmp_path)
    file = tmp_path / "run" / "best" / "adapter_model.safetensors"
    weights = load_file(file)
    del weights[sorted(weights)[0]]
    save_file(weights, file)
    with pytest.raises(StmineError, match="adapter does not fit its base: 1 tensors are missing"):
        LOADERS["sat"](tmp_path / "run" / "best")
    with pytest.raises(StmineError, match="expected a FISVL model, found one of type 'sat'"):
        LOADERS["fisvl"](tmp_path / "run" / "best")


# ---- other PEFT configurations ----


def test_a_file_with_any_peft_configuration(tmp_path):
    file = tmp_path / "peft.yaml"
    file.write_text("peft_type: IA3\ntarget_modules: [query, value]\nfeedforward_modules: []\n")
    _, _, expected = train("mttv", tmp_path, peft=str(file))
    settings = json.loads((tmp_path / "run" / "best" / "adapter_config.json").read_text())
    assert settings["peft_type"] == "IA3" and settings["modules_to_save"]
    model, processor = LOADERS["mttv"](tmp_path / "run" / "best")
    torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)


def test_layers_that_cannot_be_merged_are_used_beside_the_base(tmp_path):
    """PEFT does not merge factors of depthwise convolutions."""
    file = tmp_path / "peft.json"
    names = ["stages.2.0.branch.1.convolution", "stages.2.0.branch.2.convolution"]
    file.write_text(json.dumps({"peft_type": "LORA", "r": 24, "target_modules": names, "modules_to_save": None}))
    _, _, expected = train("sat", tmp_path, peft=str(file))
    model, processor = LOADERS["sat"](tmp_path / "run" / "best")
    torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(StmineError, match="cannot merge all of its layers"):
        merge_adapter(str(tmp_path / "run" / "best"), tmp_path / "merged")


@pytest.mark.parametrize(
    "content, message",
    [
        ("peft_type: LORE", "no PEFT method is named 'LORE'; there are .*LORA"),
        ("peft_type: LORA\nrnak: 3", "LORA has no field rnak"),
        ("peft_type: PROMPT_TUNING\nnum_virtual_tokens: 2", "changes no layers"),
        ("target_modules: [nowhere]", "(?i)target modules.*not found"),
        ("[1, 2]", "found list"),
        ("a: [", "cannot be read"),
        (YAML_BOMB, "cannot be read: .*more than 200,000 values"),
        (None, "peft must be lora, or a JSON or YAML file"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(content, message, tmp_path):
    file = tmp_path / "peft.yaml"
    if content is not None:
        file.write_text(content)
    base = save_base("sat", tmp_path / "model")
    with pytest.raises(StmineError, match=message):
        adapter_trainer("sat", base, tmp_path / "run", peft=str(file))


def test_options_of_the_factors(tmp_path):
    base = save_base("fisvl", tmp_path / "model")
    run = adapter_trainer("fisvl", base, tmp_path, lora_rank=3, lora_alpha=5, lora_targets=["query", "key"])
    config = run.network.peft_config["default"]
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (3, 5, {"query", "key"})
    with pytest.raises(StmineError, match="add peft: lora"):
        arguments("fisvl", tmp_path, peft=None, lora_rank=3)
    with pytest.raises(StmineError, match="lora_rank must be at least 1"):
        arguments("fisvl", tmp_path, lora_rank=0)
    with pytest.raises(StmineError, match="started without --peft"):
        run._load_from_checkpoint(str(base))
    run.keep_last()
    other = adapter_trainer("fisvl", base, tmp_path / "other", lora_rank=2)
    with pytest.raises(StmineError, match="differs from the one of the settings"):
        other._load_from_checkpoint(str(tmp_path / "best"))


# ---- a base in few bits ----


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("method", ["fisvl", "mttv"])
@pytest.mark.parametrize("bits, kind", [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_an_adapter_on_a_quantized_base_fits_the_whole_one(method, bits, kind, tmp_path):
    run, base, expected = train(method, tmp_path, quantize_base=bits)
    kinds = {name: type(module).__name__ for name, module in run.network.named_modules()}
    assert sum(found == kind for found in kinds.values()) >= 8
    assert not [name for name, found in kinds.items() if found == kind and "proj" in name.split(".")[0]]
    assert all(p.dtype == torch.float32 for p in run.network.parameters() if p.requires_grad)
    model, processor = LOADERS[method](tmp_path / "run" / "best")  # on the base at full precision
    near = torch.nn.functional.cosine_similarity(answers(model, processor), expected)
    assert near.min() > 0.98 and LOADERS[method](base)[0].dtype == torch.float32


def test_a_base_that_cannot_be_quantized_is_told(tmp_path, monkeypatch):
    for fields, message in (
        ({"peft": None, "quantize_base": "8bit"}, "add peft: lora"),
        ({"quantize_base": "2bit"}, "quantize_base must be 8bit or 4bit, got '2bit'"),
    ):
        with pytest.raises(StmineError, match=message):
            arguments("sat", tmp_path, **fields)
    with pytest.raises(StmineError, match="the encoders of SAT have no linear layers"):
        adapter_trainer("sat", save_base("sat", tmp_path / "sat"), tmp_path / "run", quantize_base="8bit")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(StmineError, match=r'pip install "stmine-hf\[quantized\]"'):
        adapter_trainer("mttv", save_base("mttv", tmp_path / "mttv"), tmp_path / "run", quantize_base="4bit")
