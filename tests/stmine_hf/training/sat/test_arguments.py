"""The settings of training SAT, and the files that hold them."""

from pathlib import Path

import pytest

from stmine_hf.errors import StmineError
from stmine_hf.modeling.sat.configuration_sat import SatConfig
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments

KINDS = (SatModelArguments, SatDataArguments, SatTrainingArguments)
CONFIGS = Path(__file__).parents[4] / "examples" / "configs"
SHIPPED = ("official_coco", "sat_coco_small", "recommended_indiscernible", "sat_networks", "sat_toy")


def parse(text: str, folder: Path):
    (folder / "config.yaml").write_text(text)
    return parse_arguments(KINDS, ["--config", str(folder / "config.yaml"), "--use_cpu", "true"])


def test_mappings_and_lists_are_read(tmp_path):
    model, data, training = parse(
        "preset: sat\nmodel_config: {attention: eca}\naugmentation: mild\naugmentation_options: {scale: [0.9, 1.1]}\n"
        "lr_milestones: [1, 2.5]\nfreeze: [stem]",
        tmp_path,
    )
    assert model.model_config == {"attention": "eca"} and data.augmentation_options == {"scale": [0.9, 1.1]}
    assert training.lr_milestones == [1.0, 2.5] and training.freeze == ["stem"]
    assert training.metric_for_best_model == "ap"


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning_rate: 1e-3", "Name one source for the model: model_name_or_path, or preset, or toy_model"),
        ("preset: sat\ntoy_model: true", "found 2"),
        ("model_name_or_path: x\ninit_from: y", "init_from goes with preset"),
        ("preset: sat\nrecalibrate_batchnorm: -1", "recalibrate_batchnorm must not be negative"),
        ("preset: sat\naugmentation: strong", "Unknown augmentation 'strong'"),
        ("preset: sat\naugmentation_options: {flips: 1}", "no number flips"),
        ("preset: sat\nimage_size: 300", "image_size must be a multiple of 32"),
        ("preset: sat\ntrain_image_size: 0", "train_image_size must be a multiple of 32"),
        ("preset: sat\neval_split: test", "eval_split is 'test'"),
        ("preset: sat\nlr_milestones: [3]", "must lie before the last epoch; num_train_epochs is 3"),
        ("preset: sat\nlr_milestones: [1]\nmax_steps: 10", "lr_milestones are epochs"),
        ("preset: sat\nfreeze_backbone_stages: -1", "freeze_backbone_stages must not be negative"),
        ("preset: sat\nbackbone_lr_mult: -1", "backbone_lr_mult must not be negative"),
        ("preset: sat\naugmentaton: mild", "Did you mean 'augmentation'"),
    ],
)
def test_mistakes_are_explained(tmp_path, text, message):
    with pytest.raises(StmineError) as error:
        parse(text, tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_are_valid_and_read_back_the_same(name, tmp_path):
    first = parse((CONFIGS / f"{name}.yaml").read_text(), tmp_path)
    model, data, training = first
    SatConfig.preset(model.preset or "sat", **(model.model_config or {}))
    assert data.eval_split == "val" and training.metric_for_best_model == "ap"
    save_arguments(tmp_path / "saved.yaml", *first)
    again = parse_arguments(KINDS, ["--config", str(tmp_path / "saved.yaml")])
    assert again[:2] == first[:2] and again[2].to_dict() == training.to_dict()


def test_the_official_config_is_the_released_recipe(tmp_path):
    model, data, training = parse((CONFIGS / "official_coco.yaml").read_text(), tmp_path)
    assert model.preset == "nanodet-m" and data.augmentation == "nanodet_m" and not data.augmentation_options
    assert (training.learning_rate, training.weight_decay, training.decay_everything) == (0.14, 1e-4, True)
    assert (training.optim, training.optim_args) == ("sgd", "momentum=0.9")
    assert (training.per_device_train_batch_size, training.num_train_epochs) == (192, 280)
    assert (training.lr_milestones, training.lr_gamma) == ([240, 260, 275], 0.1)
    assert (training.warmup_steps, training.warmup_start) == (300, 0.1)
    assert training.max_grad_norm == 0 and training.ema_decay == 0
