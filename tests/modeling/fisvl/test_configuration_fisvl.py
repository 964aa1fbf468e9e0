"""FisvlConfig: released defaults, JSON round trips, contradictions and typos refused with a word on the way out."""

from __future__ import annotations

import dataclasses

import pytest
from helpers import tiny_config
from transformers import AutoConfig, DistilBertConfig, PreTrainedConfig, ResNetConfig, SwinConfig, ViTConfig

from stmine_hf import FisvlConfig, FisvlModel

VIT = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
VARIANTS = {
    "full model": {},
    "released": {"attend_padding": True},
    "baseline": {"fusion": False},
    "shared encoder": {"share_encoder": True, "vision_config": {"model_type": "resnet", "hidden_sizes": [8, 16]}},
    "ViT": {"vision_config": VIT, "vision_prefix_tokens": 1},
    "DistilBERT": {"text_config": DistilBertConfig(dim=32, n_layers=1)},
    "every loss option": {
        "objective": "triplet",
        "triplet_hardest": True,
        "scene_mask_positives": True,
        "scene_integer_weights": False,
        "scene_drop_below_margin": True,
        "one_centre_per_scene": True,
        "scene_loss_epochs": 3,
    },
}


def test_defaults_are_the_released_model():
    config = FisvlConfig()
    assert isinstance(config.vision_config, SwinConfig) and config.vision_width == 768
    assert isinstance(config.conv_config, ResNetConfig) and config.conv_width == 2048
    assert config.text_config.model_type == "bert" and config.text_config.hidden_size == 768
    assert (config.projection_dim, config.graph_steps, config.dropout) == (512, 2, 0.2)
    assert config.temperature_init == config.center_temperature_init == 0.07
    assert config.objective == "value_guided" and config.fusion and not config.share_encoder
    assert not config.attend_padding and FisvlConfig.released().attend_padding  # the one departure, and the way back


def test_released_vit():
    config = FisvlConfig.released_vit(projection_dim=256)
    assert isinstance(config.vision_config, ViTConfig) and config.vision_width == 384
    assert config.vision_prefix_tokens == 1 and config.attend_padding and config.projection_dim == 256


@pytest.mark.parametrize("variant", VARIANTS)
def test_json_round_trip_is_exact(variant, tmp_path):
    config = tiny_config(**VARIANTS[variant])
    config.save_pretrained(tmp_path / "once")
    again = FisvlConfig.from_pretrained(tmp_path / "once")
    assert again.to_dict() | {"auto_map": 0} == config.to_dict() | {"auto_map": 0}
    assert type(again.vision_config) is type(config.vision_config)
    assert type(again.conv_config) is type(config.conv_config)
    again.save_pretrained(tmp_path / "twice")
    files = [(tmp_path / folder / "config.json").read_text() for folder in ("once", "twice")]
    assert files[0] == files[1]
    assert type(AutoConfig.from_pretrained(tmp_path / "twice")) is FisvlConfig
    assert FisvlConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_a_saved_field_can_be_overridden_when_loading(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    assert FisvlConfig.from_pretrained(tmp_path, objective="contrastive").objective == "contrastive"


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"fusion": False, "conv_config": ResNetConfig()}, ("fusion=False", "conv_config")),
        ({"share_encoder": True, "conv_config": ResNetConfig()}, ("share_encoder=True", "conv_config")),
        ({"share_encoder": True, "fusion": False}, ("share_encoder=True", "fusion")),
        ({"text_pooling": "mean", "attend_padding": True}, ("text_pooling='mean'", "attend_padding=True")),
        ({"projection_dim": 30, "sensing_heads": 8}, ("projection_dim (30)", "sensing_heads (8)")),
        ({"objective": "contrast"}, ("objective", "value_guided")),
        ({"text_pooling": "max"}, ("text_pooling", "'first', 'mean'")),
        ({"temperature_init": 0.0}, ("temperature_init", "positive")),
        ({"center_temperature_init": -1.0}, ("center_temperature_init", "positive")),
        ({"dropout": 1.0}, ("dropout", "[0, 1)")),
        ({"graph_steps": 0}, ("graph_steps", "at least 1")),
        ({"sensing_grid": 0}, ("sensing_grid", "at least 1")),
        ({"projection_dim": -512}, ("projection_dim", "at least 1")),
        ({"vision_prefix_tokens": -1}, ("vision_prefix_tokens", "at least 0")),
        ({"vision_config": {"model_type": "efficientnet"}}, ("efficientnet", "vision_width")),
    ],
)
def test_contradictions_name_the_fields(fields, named):
    with pytest.raises(ValueError) as refusal:
        FisvlConfig(**fields)
    assert all(part in str(refusal.value) for part in named)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("typo, meant", [("projction_dim", "projection_dim"), ("scene_beta_intr", "scene_beta_intra")])
def test_a_typo_is_refused_with_the_name_that_was_meant(typo, meant):
    with pytest.raises(ValueError, match=f"unknown field '{typo}'.*'{meant}"):
        FisvlConfig(**{typo: 1})


def test_what_transformers_stores_in_a_config_is_not_taken_for_a_typo(tmp_path):
    """Its own fields, and those of other models, for a saved config may carry any of them."""
    common = {field.name: getattr(PreTrainedConfig(), field.name) for field in dataclasses.fields(PreTrainedConfig)}
    FisvlConfig(**{name: value for name, value in common.items() if name != "transformers_version"})
    config = FisvlConfig(logit_scale_init_value=2.6, my_note="kept")
    assert config.my_note == "kept" and FisvlConfig.from_dict(config.to_dict()).my_note == "kept"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_setting_reaches_the_encoders(attention):
    model = FisvlModel._from_config(tiny_config(), attn_implementation=attention)
    for encoder in (model, model.vision_encoder.encoder, model.text_encoder):
        assert encoder.config._attn_implementation == attention


def test_attention_setting_reaches_the_encoders_of_a_saved_model(tmp_path):
    FisvlModel(tiny_config()).save_pretrained(tmp_path)
    each = {"vision_config": "sdpa", "text_config": "eager"}
    model = FisvlModel.from_pretrained(tmp_path, attn_implementation=each)
    assert model.vision_encoder.encoder.config._attn_implementation == "sdpa"
    assert model.text_encoder.config._attn_implementation == "eager"
    model.set_attn_implementation("eager")
    assert model.vision_encoder.encoder.config._attn_implementation == "eager"
