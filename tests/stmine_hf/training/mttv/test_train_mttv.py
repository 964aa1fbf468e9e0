"""The example script from end to end, as a person runs it; and what it proves: a toy verdict needs both modalities."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers_mttv import MTTV_WORDS, tiny_mttv_processor
from helpers_sat import save_tiny_sat
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

ROOT = Path(__file__).parents[4]
CONFIG = ROOT / "examples" / "configs" / "mttv_toy.yaml"


def launch(*options: str, config: Path = CONFIG) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    return subprocess.run(
        [*command, str(ROOT / "examples" / "train_mttv.py"), "--config", str(config), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_small_run_writes_up_and_goes_on(tmp_path):
    out = tmp_path / "run"
    small = ["--output_dir", str(out), "--dataset_options", '{"count": 192, "size": 32}', "--disable_tqdm", "true"]
    small += ["--per_device_train_batch_size", "16", "--logging_steps", "2", "--scaling_tau", "0.5"]
    done = launch(*small, "--num_train_epochs", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "macro F1" in done.stdout
        and f"stmine classify --text and what the post says, with --model {out}/best" in done.stdout
    )

    results = json.loads((out / "results.json").read_text())
    assert results["best"]["eval_macro_f1"] > 0 and results["unreadable"] == 0 and "scaled" in results
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.yaml").read_text())["scaling_tau"] == 0.5
    assert (out / "best" / "confusion_matrix.png").is_file()

    # The settings as resolved start the same run, which resumes where it stopped.
    again = launch("--num_train_epochs", "3", "--resume_from_checkpoint", "auto", config=out / "config.yaml")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"Resuming from {out}/checkpoint-" in again.stdout + again.stderr
    assert json.loads((out / "results.json").read_text())["training"]["epoch"] == 3

    # What came out opens without any of our code imported.
    check = (
        "import sys; from transformers import AutoModelForSequenceClassification as Auto, AutoProcessor; "
        "model = Auto.from_pretrained(sys.argv[1], trust_remote_code=True); "
        "AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True); "
        "assert 'stmine_hf' not in sys.modules; print(type(model).__name__)"
    )
    opened = subprocess.run(
        [sys.executable, "-c", check, str(out / "best")], capture_output=True, text=True, cwd=tmp_path
    )
    assert opened.stdout.strip() == "MttvForSequenceClassification", opened.stderr[-2000:]


@pytest.mark.slow
def test_the_released_recipe_starts_from_backbones_and_keeps_features(tmp_path):
    """`official_weibo.yaml` with tiny backbones: regions by a detector, features found once, BertAdam, plateaus."""
    config = BertConfig(
        vocab_size=len(MTTV_WORDS), hidden_size=32, num_hidden_layers=7, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tiny_mttv_processor().tokenizer.save_pretrained(tmp_path / "bert")
    network = ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 1], layer_type="basic")
    ResNetModel(network).save_pretrained(tmp_path / "resnet")
    save_tiny_sat(tmp_path / "detector")
    options = {
        "text_backbone": tmp_path / "bert",
        "vision_backbone": tmp_path / "resnet",
        "detector": tmp_path / "detector",
        "features": tmp_path / "features",
        "output_dir": tmp_path / "run",
        "dataset": "toy_posts",
        "dataset_options": '{"count": 96, "size": 48}',
        "num_train_epochs": 1,
        "attn_implementation": "eager",
        "use_cpu": "true",
        "disable_tqdm": "true",
    }
    given = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    done = launch(*given, config=CONFIG.with_name("official_weibo.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Visual features in" in done.stderr and "80 posts, 80 of them new" in done.stderr
    settings = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert (settings["num_encoder_layers"], settings["num_region_tokens"], settings["vision_width"]) == (6, 5, 24)
    assert (settings["cls_token_id"], settings["sep_token_id"]) == (2, 3) and settings["label2id"]["fake"] == 0
    again = launch(*given, "--resume_from_checkpoint", "auto", config=CONFIG.with_name("official_weibo.yaml"))
    assert again.returncode == 0 and "80 posts, 0 of them new" in again.stderr, again.stderr[-3000:]


@pytest.mark.slow
def test_mistakes_are_one_line():
    done = launch("--lerning_rate", "1")
    assert done.returncode != 0
    assert "error: Unknown option '--lerning_rate'. Did you mean 'learning_rate'?" in done.stderr


@pytest.mark.slow
def test_a_toy_verdict_needs_text_and_image(tmp_path):
    """The toy run as shipped, and without either modality: each of them alone says nothing about the label."""
    accuracy = {}
    for modalities in ("both", "text", "image"):
        out = tmp_path / modalities
        done = launch("--modalities", modalities, "--output_dir", str(out), "--disable_tqdm", "true")
        assert done.returncode == 0, done.stderr[-3000:]
        accuracy[modalities] = json.loads((out / "results.json").read_text())["best"]["eval_accuracy"]
    assert accuracy["both"] >= 0.9, accuracy
    assert accuracy["text"] <= 0.65 and accuracy["image"] <= 0.65, accuracy
