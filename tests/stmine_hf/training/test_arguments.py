"""Settings from a file and from the command line."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from documents import YAML_BOMB

from stmine_hf.errors import StmineError
from stmine_hf.training import arguments
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments

ROOT = Path(__file__).parents[3]
KINDS = (FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments)
VALID = "toy_model: true\nuse_cpu: true\nlearning_rate: 4e-5\nfreeze: [one, two]\nmodel_config: {dropout: 0.1}\n"


@pytest.fixture
def config(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_the_file_fills_and_the_command_line_wins(config):
    model, data, training = parse_arguments(
        KINDS, ["--config", config(VALID), "--deletion_rate", "0.06", "--learning_rate", "1e-3"]
    )
    assert model.model_config == {"dropout": 0.1}
    assert data.deletion_rate == 0.06
    assert training.learning_rate == 1e-3
    assert training.freeze == ["one", "two"]
    assert training.dataloader_drop_last and not training.remove_unused_columns


def test_scientific_notation_is_a_number(config):
    assert parse_arguments(KINDS, ["--config", config(VALID)])[2].learning_rate == 4e-5


def test_saved_settings_read_back_the_same(config, tmp_path):
    first = parse_arguments(KINDS, ["--config", config(VALID), "--lr_scheduler_type", "cosine"])
    save_arguments(tmp_path / "saved.yaml", *first)
    again = parse_arguments(KINDS, ["--config", str(tmp_path / "saved.yaml")])
    assert again[:2] == first[:2]
    assert again[2].to_dict() == first[2].to_dict()
    saved = yaml.safe_load((tmp_path / "saved.yaml").read_text())
    assert saved["lr_scheduler_type"] == "cosine" and "weight_decay" not in saved


@pytest.mark.parametrize(
    "text, message",
    [
        ("toy_model: true\nlerning_rate: 1", "unknown key 'lerning_rate'. Did you mean 'learning_rate'"),
        ("toy_model: true\ncaptions_per_step: some", "captions_per_step must be"),
        ("toy_model: true\ndeletion_rate: 1.5", "deletion_rate must lie in"),
        ("toy_model: true\nema_decay: 1", "ema_decay must lie in"),
        ("toy_model: true\neval_split: test", "eval_split is 'test'"),
        ("learning_rate: 1e-3", "Name one source for the model"),
        ("toy_model: true\nmodel_name_or_path: x", "found 2"),
        ("toy_model: true\nmodel_config: '{'", "model_config must be a JSON mapping"),
        ("[1, 2]", "found list"),
        ("a: [", "not valid YAML"),
        (YAML_BOMB, "more than 200,000 values"),
        ("[" * 5000, "levels"),
    ],
)
def test_mistakes_are_explained(config, text, message):
    with pytest.raises(StmineError) as error:
        parse_arguments(KINDS, ["--config", config(text)])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_option_and_a_missing_file_are_explained(tmp_path):
    with pytest.raises(StmineError, match="Did you mean 'ema_decay'"):
        parse_arguments(KINDS, ["--toy_model", "--ema-dekay", "0.9"])
    with pytest.raises(StmineError, match="Cannot read the config"):
        parse_arguments(KINDS, ["--config", str(tmp_path / "none.yaml")])
    with pytest.raises(StmineError, match="needs a YAML file"):
        parse_arguments(KINDS, ["--config"])


@pytest.mark.parametrize(
    "name",
    ["official_rsicd", "official_rsitmd", "official_ucm", "official_sydney", "recommended_rsicd", "fisvl_toy"],
)
def test_shipped_configs_are_valid(name, tmp_path):
    from pathlib import Path

    from stmine_hf.modeling.fisvl.configuration_fisvl import FisvlConfig

    path = Path(__file__).parents[3] / "examples" / "configs" / f"{name}.yaml"
    model, data, training = parse_arguments(KINDS, ["--config", str(path), "--use_cpu", "true"])
    FisvlConfig(**model.model_config)
    assert data.eval_split == "val"
    if name.startswith("official"):
        assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-8)
        assert training.max_grad_norm == 0 and training.num_train_epochs == 20
        assert model.model_config["attend_padding"] and training.freeze_conv and training.released_schedule_length


@pytest.mark.parametrize("able", [True, False])
def test_bf16_on_a_cpu_without_it_gives_way_to_float32(able, monkeypatch, caplog):
    monkeypatch.setattr(arguments, "cpu_has_bfloat16", lambda: able)
    training = parse_arguments(KINDS, ["--toy_model", "true", "--use_cpu", "true", "--bf16", "true"])[2]
    assert training.bf16 is able
    assert ("no bfloat16 instructions" in caplog.text) is not able


def test_former_names_of_settings_are_read(tmp_path):
    kinds = (MttvModelArguments, MttvDataArguments, MttvTrainingArguments)
    path = tmp_path / "config.yaml"
    path.write_text("toy_model: true\nuse_cpu: true\npicture_dropping: 0.3\npicture_augmentation: flip\n")
    data = parse_arguments(kinds, ["--config", str(path)])[1]
    assert (data.image_dropping, data.image_augmentation) == (0.3, "flip")
    former = ["--picture_dropping", "0.1", "--picture_augmentation=crop"]
    data = parse_arguments(kinds, ["--config", str(path), *former])[1]
    assert (data.image_dropping, data.image_augmentation) == (0.1, "crop")
    save_arguments(path, data)
    assert yaml.safe_load(path.read_text()) == {"image_dropping": 0.1, "image_augmentation": "crop"}
    names = {item.name for kind in kinds for item in fields(kind)}
    assert set(arguments.FORMER_NAMES.values()) <= names and not set(arguments.FORMER_NAMES) & names
    path.write_text("toy_model: true\npicture_dropping: 0.3\nimage_dropping: 0.2\n")
    with pytest.raises(StmineError, match="picture_dropping is the former name of image_dropping, and both are set"):
        parse_arguments(kinds, ["--config", str(path)])


def test_the_config_of_a_shipped_run_is_read():
    for config in (ROOT / "hub_cards").glob("mttv-*/training/config.yaml"):
        parse_arguments((MttvModelArguments, MttvDataArguments, MttvTrainingArguments), ["--config", str(config)])


@pytest.mark.parametrize(
    ("lines", "on"),
    [
        ("activation_checkpointing: true\ngradient_checkpointing: false\n", True),
        ("gradient_checkpointing: false\nactivation_checkpointing: true\n", True),
        ("activation_checkpointing: true\n", True),
        ("activation_checkpointing: false\ngradient_checkpointing: true\n", True),
        ("activation_checkpointing: false\ngradient_checkpointing: false\n", False),
        ("activation_checkpointing: false\n", False),
    ],
)
def test_a_setting_of_later_versions_is_kept_whatever_follows(lines, on):
    """Versions that know both names write both."""
    content = arguments.yaml.safe_load(lines)
    argv = arguments._yaml_to_argv(content, {"gradient_checkpointing"}, Path("config.yaml"))
    values = dict(zip(argv[::2], argv[1::2], strict=True))
    assert (values.get("--gradient_checkpointing") == "True") is on
    both = {"gradient_checkpointing", "activation_checkpointing"}
    assert len(arguments._yaml_to_argv(content, both, None)) == 2 * len(content)  # each is known by its name
