"""FisvlModel on tiny random models: shapes, independence, gradients, other encoders, speed-ups, saving and loading."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from helpers import save_tiny_fisvl, tiny_config, tiny_fisvl
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertModel, ConvNextConfig, ResNetConfig, ResNetModel, SwinModel, ViTConfig

from stmine_hf import FisvlModel

IMAGES, WORDS = 8, 6
VIT = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
)
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
CONVNEXT = ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=32)
VARIANTS = {
    "full model": {},
    "padding attended": {"attend_padding": True},
    "mean of the tokens": {"text_pooling": "mean"},
    "baseline": {"fusion": False},
    "ViT": {"vision_config": VIT, "vision_prefix_tokens": 1},
    "ResNet as token encoder": {"vision_config": RESNET},
    "ConvNeXt as token encoder": {"vision_config": CONVNEXT},
    "one ResNet for both": {"vision_config": RESNET, "share_encoder": True},
    "one ConvNeXt for both": {"vision_config": CONVNEXT, "share_encoder": True},
    "other widths": {
        "projection_dim": 48,
        "graph_steps": 3,
        "sensing_stage": 1,
        "sensing_in_channels": 16,
        "sensing_channels": 6,
        "sensing_grid": 3,
        "sensing_heads": 3,
    },
}
PATCHES = {"ViT": 16, "ResNet as token encoder": 16, "one ResNet for both": 16}  # of a 32-px image; the others: 16


def make_batch(rows: int = IMAGES, seed: int = 0) -> dict[str, Tensor]:
    """As many images as sentences, the sentences of 3 to 6 tokens; two captions of image 0, scenes of two."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.arange(rows) % (WORDS - 2) + 3
    attention_mask = (torch.arange(WORDS) < lengths[:, None]).long()
    input_ids = torch.randint(5, 80, (rows, WORDS), generator=draw) * attention_mask
    input_ids[:, 0] = 2
    return {
        "pixel_values": torch.randn(rows, 3, 32, 32, generator=draw),
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "image_ids": torch.tensor([0, 0, *range(1, rows - 1)][:rows]),
        "scene_labels": torch.arange(rows) // 2,
        "caption_weights": torch.linspace(0.7, 1, rows),
    }


def assert_equal_weights(one: nn.Module, other: nn.Module) -> None:
    """Bit for bit: parameters and every buffer, those that are not saved too."""
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(one, kind)()), dict(getattr(other, kind)())
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# Forward.


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_shapes(variant):
    model, _ = tiny_fisvl(**VARIANTS[variant])
    width = model.config.projection_dim
    outputs = model(**make_batch())
    for embeds in (outputs.image_embeds, outputs.text_embeds):
        assert embeds.shape == (IMAGES, width)
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(IMAGES))
    assert outputs.logits_per_image.shape == outputs.logits_per_text.shape == (IMAGES, IMAGES)
    torch.testing.assert_close(
        outputs.logits_per_image, outputs.image_embeds @ outputs.text_embeds.T / model.config.temperature_init
    )
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_image.T)
    assert outputs.loss.shape == () and set(outputs.loss_dict) == {"contrastive", "affiliation", "scene"}
    images = model.get_image_features(make_batch()["pixel_values"])
    assert torch.equal(images.pooler_output, outputs.image_embeds)
    assert images.last_hidden_state.shape[::2] == (IMAGES, width)
    assert model.get_text_features(make_batch()["input_ids"]).last_hidden_state.shape == (IMAGES, WORDS, width)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_rows_do_not_depend_on_their_batch(variant):
    model, _ = tiny_fisvl(**VARIANTS[variant])
    batch = make_batch()
    images = model.get_image_features(batch["pixel_values"]).pooler_output
    texts = model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
    for row in range(3):
        one = model.get_image_features(batch["pixel_values"][row : row + 1]).pooler_output
        torch.testing.assert_close(one, images[row : row + 1], atol=2e-6, rtol=0)
        length = batch["attention_mask"][row].sum()
        alone = model.get_text_features(batch["input_ids"][row : row + 1, :length]).pooler_output
        same = torch.allclose(alone, texts[row : row + 1], atol=2e-6, rtol=0)
        assert same != model.config.attend_padding  # the released way: padding is read as words


@torch.no_grad()
def test_one_side_only_and_different_numbers():
    model, _ = tiny_fisvl()
    batch = make_batch()
    images = model(pixel_values=batch["pixel_values"])
    assert set(images) == {"image_embeds"} and set(model(input_ids=batch["input_ids"])) == {"text_embeds"}
    outputs = model(pixel_values=batch["pixel_values"][:1], input_ids=batch["input_ids"])
    assert outputs.logits_per_image.shape == (1, IMAGES) and outputs.loss is None
    assert torch.allclose(outputs.image_embeds, images.image_embeds[:1], atol=2e-6)


@torch.no_grad()
def test_batch_of_one_pair_has_a_loss():
    model, _ = tiny_fisvl()
    for epoch in (0, 5, 10):
        assert model(**make_batch(1), epoch=epoch).loss.isfinite()


def test_same_seed_same_training_step():
    losses = []
    for _ in range(2):
        model, _ = tiny_fisvl()
        torch.manual_seed(1)
        losses.append(model.train()(**make_batch()).loss.item())
    assert losses[0] == losses[1]


@torch.no_grad()
def test_image_index_means_repeated_images():
    model, _ = tiny_fisvl()
    batch = make_batch()
    rows = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1])
    batch["image_ids"] = rows + 70
    pixels = batch.pop("pixel_values")[:4]
    indexed = model(pixel_values=pixels, image_index=rows, **batch, epoch=10)
    repeated = model(pixel_values=pixels[rows], **batch, epoch=10)
    assert indexed.image_embeds.shape[0] == 4 and indexed.logits_per_image.shape == (4, IMAGES)
    torch.testing.assert_close(indexed.loss, repeated.loss)
    for name, term in indexed.loss_dict.items():
        torch.testing.assert_close(term, repeated.loss_dict[name])


@torch.no_grad()
def test_return_dict_false_gives_a_tuple():
    model, _ = tiny_fisvl()
    batch = make_batch()
    outputs, plain = model(**batch), model(**batch, return_dict=False)
    assert isinstance(plain, tuple) and torch.equal(plain[0], outputs.loss) and torch.equal(plain[-1], outputs[-1])


@torch.no_grad()
def test_return_loss():
    model, _ = tiny_fisvl(objective="contrastive")
    batch = make_batch()
    assert model(**batch, return_loss=False).loss is None
    del batch["image_ids"], batch["scene_labels"], batch["caption_weights"]
    assert model(**batch).loss is None
    assert model(**batch, return_loss=True).loss > 0  # row i belongs to row i


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pixel_values": None, "input_ids": None}, "found neither"),
        ({"input_ids": None}, "the loss needs pixel_values and input_ids"),
        ({"scene_labels": None}, "needs image_ids and scene_labels.*objective='contrastive'"),
        ({"image_ids": None, "return_loss": True}, "needs image_ids and scene_labels"),
        ({"pixel_values": torch.zeros(2, 3, 32, 32)}, "found 2 and 8; give image_index"),
        ({"scene_labels": torch.zeros(3)}, "expected 8 scene_labels, .* found 3"),
        ({"image_ids": torch.zeros(9)}, "expected 8 image_ids, .* found 9"),
        ({"caption_weights": torch.zeros(1)}, "expected 8 caption_weights, .* found 1"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(change, message):
    model, _ = tiny_fisvl()
    with pytest.raises(ValueError, match=message):
        model(**make_batch() | change)


# ---------------------------------------------------------------------------------------------------------------------
# Training.

UNREAD = {
    "ConvNeXt as token encoder": {"layernorm"},
    "one ConvNeXt for both": {"layernorm"},
}  # of the encoder's pooler


@pytest.mark.parametrize("epoch", [0, 10])
@pytest.mark.parametrize("objective", ["value_guided", "contrastive", "triplet"])
def test_gradient_reaches_every_parameter(objective, epoch):
    assert_every_gradient(tiny_fisvl(objective=objective)[0], epoch)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter_of_every_variant(variant):
    assert_every_gradient(tiny_fisvl(**VARIANTS[variant])[0], epoch=0, unread=UNREAD.get(variant, set()))


def assert_every_gradient(model: FisvlModel, epoch: int, unread: set[str] = frozenset()) -> None:
    model.train()(**make_batch(), epoch=epoch).loss.backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    }
    assert {name.split(".")[-2] for name in without} == unread
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_temperatures_are_learned_where_the_objective_reads_them():
    learned = {}
    for objective in ("value_guided", "contrastive", "triplet"):
        model, _ = tiny_fisvl(objective=objective)
        learned[objective] = (model.temperature.requires_grad, model.center_temperature.requires_grad)
    assert learned == {"value_guided": (True, True), "contrastive": (True, False), "triplet": (False, False)}


@pytest.mark.parametrize("objective", ["value_guided", "contrastive", "triplet"])
def test_eight_pairs_are_learned(objective):
    model, _ = tiny_fisvl(objective=objective, dropout=0.0)
    batch = make_batch() | {"image_ids": torch.arange(IMAGES)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(16):
        loss = model.train()(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize("variant", ["full model", "ViT", "one ConvNeXt for both"])
def test_gradient_checkpointing_changes_nothing(variant):
    model, _ = tiny_fisvl(**VARIANTS[variant])
    saving = copy.deepcopy(model)
    saving.gradient_checkpointing_enable()
    assert saving.is_gradient_checkpointing and not model.is_gradient_checkpointing
    for each in (model, saving):
        torch.manual_seed(3)
        each.train()(**make_batch()).loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in saving.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=lambda text, name=name: f"{name}: {text}")
    for name, buffer in saving.named_buffers():  # batch statistics are not counted twice
        assert torch.equal(buffer, model.get_buffer(name)), name


# ---------------------------------------------------------------------------------------------------------------------
# From pretrained encoders.

SMALL = {"projection_dim": 32, "sensing_channels": 4, "sensing_grid": 4, "sensing_heads": 2}


def test_from_backbones_copies_and_trains(tmp_path):
    config = tiny_config()
    parts = SwinModel(config.vision_config), BertModel(config.text_config), ResNetModel(config.conv_config)
    for name, part in zip(("vision", "text", "conv"), parts, strict=True):
        part.save_pretrained(tmp_path / name)
    loaded = FisvlModel.from_backbones(*parts, **SMALL)
    by_name = FisvlModel.from_backbones(*(str(tmp_path / name) for name in ("vision", "text", "conv")), **SMALL)
    assert loaded.training and loaded.config.sensing_in_channels == 8
    assert (loaded.config.vision_width, loaded.config.conv_width) == (32, 32)
    for model in (loaded, by_name):
        own = model.vision_encoder.encoder, model.text_encoder, model.conv_encoder.encoder
        for encoder, part in zip(own, parts, strict=True):
            given = part.state_dict()
            assert all(torch.equal(tensor, given[name]) for name, tensor in encoder.state_dict().items())
    own = {parameter.data_ptr() for parameter in loaded.parameters()}
    assert not own & {parameter.data_ptr() for part in parts for parameter in part.parameters()}
    assert_every_gradient(loaded, epoch=0)
    by_name.save_pretrained(tmp_path / "model")
    saved = (tmp_path / "model" / "config.json").read_text()
    assert str(tmp_path) not in saved  # nobody else has these folders
    assert_equal_weights(FisvlModel.from_pretrained(tmp_path / "model"), by_name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_backbones_variants(dtype):
    config = tiny_config()
    text = BertModel(config.text_config).to(dtype)
    baseline = FisvlModel.from_backbones(SwinModel(config.vision_config).to(dtype), text, fusion=False)
    assert baseline.conv_encoder is None and baseline.config.projection_dim == 512
    shared = FisvlModel.from_backbones(ResNetModel(RESNET).to(dtype), text, share_encoder=True, **SMALL)
    assert shared.conv_encoder is None and shared.config.sensing_in_channels == 8
    assert {parameter.dtype for parameter in shared.parameters()} == {torch.float32}
    assert_every_gradient(shared, epoch=0)


def test_from_backbones_refuses_half_a_model():
    config = tiny_config()
    parts = SwinModel(config.vision_config), BertModel(config.text_config)
    with pytest.raises(ValueError, match=r"give conv=.*share_encoder=True.*fusion=False"):
        FisvlModel.from_backbones(*parts)
    with pytest.raises(ValueError, match="fusion=False has no second encoder, but conv_config"):
        FisvlModel.from_backbones(*parts, ResNetModel(RESNET), fusion=False)
    with pytest.raises(ValueError, match="did you mean 'projection_dim'"):
        FisvlModel.from_backbones(*parts, ResNetModel(RESNET), projectiondim=32)


def test_timm_encoder(tmp_path):
    pytest.importorskip("timm", reason="timm encoders need `pip install timm`")
    from transformers import TimmWrapperConfig, TimmWrapperModel

    sizes = {"channels": (8, 8, 16, 24), "layers": (1, 1, 1, 1), "zero_init_last": False}
    timm = TimmWrapperModel(TimmWrapperConfig(architecture="resnet18", model_args=sizes, do_pooling=False))
    text = BertModel(tiny_config().text_config)
    model = FisvlModel.from_backbones(timm, text, share_encoder=True, sensing_stage=1, **SMALL)
    assert (model.config.vision_width, model.config.sensing_in_channels) == (24, 8)
    assert_every_gradient(model, epoch=0)
    model.save_pretrained(tmp_path)
    assert_equal_weights(FisvlModel.from_pretrained(tmp_path), model)


# ---------------------------------------------------------------------------------------------------------------------
# Attention kernels, number types, compilers.


@pytest.mark.parametrize("variant", ["full model", "ViT"])
@torch.no_grad()
def test_sdpa_and_eager_agree(variant, tmp_path):
    folder = save_tiny_fisvl(tmp_path, **VARIANTS[variant])
    eager, sdpa = (FisvlModel.from_pretrained(folder, attn_implementation=name).eval() for name in ("eager", "sdpa"))
    assert eager.text_encoder.config._attn_implementation == "eager"
    assert sdpa.text_encoder.config._attn_implementation == "sdpa"
    sdpa.set_attn_implementation("eager")  # and back, on a model in use
    assert torch.equal(sdpa(**make_batch()).loss, eager(**make_batch()).loss)
    sdpa.set_attn_implementation(dict.fromkeys(("vision_config", "text_config"), "sdpa"))  # a ResNet would refuse
    ours, theirs = eager(**make_batch()), sdpa(**make_batch())
    for name in ("image_embeds", "text_embeds", "loss"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["full model", "one ConvNeXt for both"])
@torch.no_grad()
def test_bfloat16(variant, tmp_path):
    folder = save_tiny_fisvl(tmp_path, **VARIANTS[variant])
    exact = FisvlModel.from_pretrained(folder).eval()
    half = FisvlModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    batch = make_batch()
    rounded = batch | {"pixel_values": batch["pixel_values"].bfloat16()}
    ours, theirs = exact(**batch), half(**rounded)
    assert theirs.image_embeds.dtype == theirs.logits_per_image.dtype == torch.bfloat16
    assert theirs.loss.dtype == torch.float32 and theirs.loss.isfinite()
    for name in ("image_embeds", "text_embeds"):
        assert nn.functional.cosine_similarity(ours[name], theirs[name].float()).min() > 0.99


def test_autocast_trains():
    model, _ = tiny_fisvl()
    exact = model(**make_batch()).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**make_batch()).loss
    loss.backward()
    assert loss.dtype == torch.float32 and abs(loss - exact) < 0.05 * exact
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_model_agrees(backend):
    model, _ = tiny_fisvl()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend)
    batch = make_batch()
    with torch.no_grad():
        ours, theirs = model(**batch), compiled(**batch)
    for name in ("image_embeds", "text_embeds", "loss"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)
    compiled(**batch, epoch=10).loss.backward()
    assert model.text_proj.weight.grad.any()


# ---------------------------------------------------------------------------------------------------------------------
# Files.


@pytest.mark.parametrize("variant", VARIANTS)
def test_saving_and_loading_keeps_every_bit(variant, tmp_path):
    model, _ = tiny_fisvl(**VARIANTS[variant])
    model.train()(**make_batch())  # moves the batch statistics
    model.eval().save_pretrained(tmp_path / "once")
    once, info = FisvlModel.from_pretrained(tmp_path / "once", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_weights(once, model)
    once.save_pretrained(tmp_path / "twice")
    assert_equal_weights(FisvlModel.from_pretrained(tmp_path / "twice"), model)
    batch = make_batch()
    with torch.no_grad():
        assert torch.equal(once(**batch).logits_per_image, model(**batch).logits_per_image)
    files, again = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix != ".safetensors"}
        for name in ("once", "twice")
    )
    for saved in (files, again):  # loading fills in the encoders' type
        saved["config.json"] = re.sub(rb'\s*"dtype": (null|"float32"),', b"", saved["config.json"])
    assert again == files
    code = {name for name in files if name.endswith(".py")}
    assert code == {"configuration_fisvl.py", "modeling_fisvl.py", "losses_fisvl.py"}
    assert json.loads(files["config.json"])["auto_map"] == {
        "AutoConfig": "configuration_fisvl.FisvlConfig",
        "AutoModel": "modeling_fisvl.FisvlModel",
        "AutoModelForZeroShotImageClassification": "modeling_fisvl.FisvlModel",
    }


def test_a_16_bit_file_loads_as_float32(tmp_path):
    """How small checkpoints are shipped: half the size on disk, float32 in memory as their config says."""
    folder = save_tiny_fisvl(tmp_path)
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    model = FisvlModel.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, tensor in tiny_fisvl()[0].state_dict().items():
        rounded = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(model.state_dict()[name], rounded.to(tensor.dtype)), name


def spreads(model: nn.Module) -> dict[str, float]:
    named = [*model.named_parameters(), *model.named_buffers()]
    assert all(tensor.isfinite().all() for _, tensor in named)
    return {name: (tensor.float() ** 2).mean().sqrt().item() for name, tensor in named}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_file_lacks_is_initialised_as_in_a_new_model(variant, tmp_path):
    """Loading builds on the meta device: what `_init_weights` forgets would be whatever was in memory."""
    new, _ = tiny_fisvl(**VARIANTS[variant])
    folder = save_tiny_fisvl(tmp_path, **VARIANTS[variant])
    kept = {"text_proj.bias": torch.full((new.config.projection_dim,), 7.0)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = FisvlModel.from_pretrained(folder)
    assert (loaded.text_proj.bias == 7).all()
    expected, found = spreads(new), spreads(loaded)
    assert expected.keys() == found.keys()
    for name, spread in expected.items():
        if name != "text_proj.bias":
            assert found[name] == pytest.approx(spread, rel=0.5, abs=1e-3), name


def test_initial_spread_of_our_own_layers():
    torch.manual_seed(0)
    model = FisvlModel(tiny_config(projection_dim=256, sensing_channels=32))
    xavier = (2 / (256 + 256)) ** 0.5
    for step in model.graph:
        assert step.query.weight.std().item() == pytest.approx(xavier, rel=0.05)
        assert not step.query.bias.any()
    for block in (model.sensing.reduce, *model.sensing.scales):
        weight = block[0].weight
        fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.2)
    assert model.sensing.attention.fusion_weight.std().item() == pytest.approx(1, rel=0.05)
    for layer in (model.vision_proj, model.text_proj, model.conv_proj, model.head_img):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and not layer.bias.any()
    assert model.temperature.item() == pytest.approx(0.07)


def test_code_files_are_copied_as_they_are(tmp_path):
    save_tiny_fisvl(tmp_path)
    source = Path(__file__).parents[3] / "modeling" / "fisvl"
    names = {path.name for path in source.glob("*_fisvl.py")}
    assert names == {path.name for path in tmp_path.glob("*.py")}
    assert all((tmp_path / name).read_bytes() == (source / name).read_bytes() for name in names)
