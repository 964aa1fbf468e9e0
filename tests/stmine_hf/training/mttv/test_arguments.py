"""Settings of training MTTV."""

from pathlib import Path

import pytest

from stmine_hf.errors import StmineError
from stmine_hf.modeling.mttv.configuration_mttv import MttvConfig
from stmine_hf.training.arguments import parse_arguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments

KINDS = (MttvModelArguments, MttvDataArguments, MttvTrainingArguments)
CONFIGS = Path(__file__).parents[4] / "examples" / "configs"
SHIPPED = [
    "official_weibo",
    "recommended_weibo",
    "official_fakeddit_2_way",
    "official_fakeddit_3_way",
    "official_fakeddit_6_way",
    "mttv_toy",
]


@pytest.mark.parametrize(
    "options, message",
    [
        ("", "Name one source for the model: .* found 0 of them"),
        ("--toy_model true --text_backbone x", "found 2 of them"),
        ("--toy_model true --vision_backbone x", "vision_backbone goes with text_backbone"),
        ("--toy_model true --model_config {", "model_config must be a JSON mapping"),
        ("--toy_model true --modalities sound", "modalities must be one of both, text, image, got 'sound'"),
        ("--toy_model true --token_dropping 1.5", "token_dropping must lie in"),
        ("--toy_model true --image_dropping -1", "image_dropping must lie in"),
        (
            "--toy_model true --features f --image_augmentation crop",
            "is 'crop', but features are computed from unchanged images",
        ),
        ("--toy_model true --eval_split test", "eval_split is 'test'"),
        ("--toy_model true --layer_lr_decay 0", "layer_lr_decay must lie in"),
        ("--toy_model true --text_lr_mult -1", "text_lr_mult must not be negative"),
        ("--toy_model true --group_balance 2", "group_balance must lie in"),
        ("--toy_model true --scaling_tau -1", "scaling_tau must not be negative"),
        ("--toy_model true --released_optimizer true", "max_grad_norm is 1.0: set max_grad_norm: 0"),
        ("--toy_model true --train_sampling_strategy batch_rebalance", "must be random or group_by_length"),
        ("--toy_model true --eval_strategy no --early_stopping_patience 3", "needs validation, but eval_strategy"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(StmineError, match=message):
        parse_arguments(KINDS, [*options.split(), "--use_cpu", "true"])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_are_valid(name):
    model, data, training = parse_arguments(KINDS, ["--config", str(CONFIGS / f"{name}.yaml"), "--use_cpu", "true"])
    assert data.eval_split == "val" and training.metric_for_best_model in ("macro_f1", "accuracy")
    if not name.startswith("official"):
        return
    released = MttvConfig.preset(name.removeprefix("official_"))
    config = MttvConfig(**model.model_config)
    for field in ("num_encoder_layers", "num_global_tokens", "num_region_tokens", "global_pooling", "dropout"):
        assert getattr(config, field) == getattr(released, field)
    assert config.attend_missing and not config.train_vision and training.released_optimizer
    rate = (training.learning_rate, training.warmup_steps, training.weight_decay, training.plateau_patience)
    assert rate == (1e-4, 0.1, 0.01, 2) and training.plateau_factor == 0.5 and training.early_stopping_patience == 10
    weibo = "weibo" in name
    assert training.per_device_train_batch_size == 32 and training.num_train_epochs == (30 if weibo else 20)
    assert training.gradient_accumulation_steps == (1 if weibo else 20)
