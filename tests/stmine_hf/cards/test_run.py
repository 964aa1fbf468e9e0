"""The card beside the best weights says what it must, its code runs, and what is pushed is complete."""

import json
import subprocess
import sys

import pytest
from helpers_adapters import adapter_trainer, save_base
from huggingface_hub import ModelCard
from PIL import Image
from trainers import ROOT, TRAINERS, accelerate_launch, environment
from transformers import AutoModel

from stmine_hf.cards.run import RunCard
from stmine_hf.errors import StmineError
from stmine_hf.hub import publish_run
from stmine_hf.methods import METHODS
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments

ARGUMENTS = {
    "fisvl": (FisvlModelArguments, FisvlDataArguments, "rsicd"),
    "mttv": (MttvModelArguments, MttvDataArguments, "weibo"),
    "sat": (SatModelArguments, SatDataArguments, "someone/boxes"),
}


def test_a_set_of_ones_own_goes_by_its_folder_not_by_its_layout():
    own = FisvlDataArguments(dataset="rsicd", data_dir="somewhere/my-scenes", hold_out=0.2)
    assert RunCard("fisvl", None, own, None)._dataset() == "my-scenes"
    assert RunCard("fisvl", None, FisvlDataArguments(data_dir="somewhere/files"), None)._dataset() == "rsicd"


@pytest.mark.parametrize("method", ARGUMENTS)
def test_a_card_has_the_facts_of_the_run_and_code_that_runs(tmp_path, monkeypatch, method, capsys):
    (tmp_path / "start").mkdir()
    model, data, dataset = ARGUMENTS[method]
    run = TRAINERS[method](tmp_path / "my-run", eval_strategy="epoch", num_train_epochs=1, seed=7)
    run.card = RunCard(
        method,
        model(model_name_or_path=str(tmp_path / "start")),
        data(dataset=dataset, data_dir=str(tmp_path / "data")),
        run.args,
        script=f"examples/train_{method}.py",
    )
    run.train()
    best = tmp_path / "my-run" / "best"
    card = ModelCard.load(best / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", METHODS[method].task)
    assert card.data.datasets == (["someone/boxes"] if method == "sat" else None)
    assert {"custom_code", method} <= set(card.data.tags)
    scores = json.loads((best / "results.json").read_text())["metrics"]
    for result in card.data.eval_results:
        assert result.metric_value == pytest.approx(scores[result.metric_type], abs=1e-4)
        assert f"| `{result.metric_type}` | {scores[result.metric_type]:.4f} |" in card.text
    assert len(card.data.eval_results) == len(METHODS[method].metrics)
    for fact in ("# my-run", "from `start` on", f"accelerate launch examples/train_{method}.py --config config.yaml"):
        assert fact in card.text
    for fact in ("seed: 7", "learning_rate: ", "num_train_epochs: 1", "transformers ", "(4 of 4)"):
        assert fact in card.text
    assert str(tmp_path) not in card.text  # nobody's folders

    # Its code, with the folder in the place of the id.
    code = card.text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 6
    Image.new("RGB", (64, 48), "green").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"my-run"', repr(str(best))), {})
    assert capsys.readouterr().out


def test_a_card_names_hub_models_as_its_base_and_a_run_without_scores(tmp_path):
    args = SatTrainingArguments(output_dir=str(tmp_path), use_cpu=True, hub_model_id="me/mine")
    data = SatDataArguments(dataset="coco_json", data_dir="data/coco")
    card = RunCard("sat", SatModelArguments(model_name_or_path="stmine-hf/sat-coco-small"), data, args)
    card.write(tmp_path, TRAINERS["sat"](tmp_path).network, None, 10, 20)
    written = ModelCard.load(tmp_path / "README.md")
    assert written.data.base_model == ["stmine-hf/sat-coco-small"] and written.data.eval_results is None
    assert "# mine" in written.text and 'model="me/mine"' in written.text
    assert "None: the run was not evaluated. These are the weights after step 10 of 20." in written.text


def test_the_card_of_an_adapter_names_its_base_and_revision(tmp_path):
    base = save_base("sat", tmp_path / "model")
    run = adapter_trainer("sat", base, tmp_path / "run", eval_strategy="epoch")
    published = {"base_model_name_or_path": "stmine-hf/sat-coco-small", "revision": "4f3c" * 10}
    for name, value in published.items():
        setattr(run.network.peft_config["default"], name, value)
    run.card = RunCard(
        "sat",
        SatModelArguments(model_name_or_path="stmine-hf/sat-coco-small"),
        SatDataArguments(dataset="coco_json", data_dir="data/coco"),
        run.args,
    )
    run.train()
    card = ModelCard.load(tmp_path / "run" / "best" / "README.md")
    assert (card.data.library_name, card.data.base_model) == ("peft", "stmine-hf/sat-coco-small")
    assert card.data.base_model_relation == "adapter" and {"lora", "sat", "custom_code"} <= set(card.data.tags)
    assert card.data.eval_results and "| `ap` |" in card.text and "peft: lora" in card.text
    assert f"`stmine-hf/sat-coco-small` at revision `{published['revision']}`" in card.text
    assert f'revision="{published["revision"]}"' in card.text and "AutoModelForObjectDetection" in card.text


def test_an_adapter_without_a_published_base_is_not_pushed(tmp_path):
    base = save_base("sat", tmp_path / "model")
    with pytest.raises(StmineError, match=r"model is not on the Hub. Publish the base first .* stmine merge"):
        adapter_trainer("sat", base, tmp_path / "run", push_dry_run=True, hub_model_id="me/mine")


def test_a_dry_run_lists_and_a_missing_name_is_told(tmp_path, capsys):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "README.md").write_text("card")
    (tmp_path / "best" / "worst_misses.png").write_bytes(b"somebody's images")
    args = SatTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, push_dry_run=True, push_to_hub=True, hub_model_id="me/mine"
    )
    assert args.push_dry_run
    publish_run(tmp_path / "best", "me/mine", dry_run=True)
    out = capsys.readouterr().out
    assert "would make me/mine of these 1 files" in out and out.endswith("           4  README.md\n")
    for name in (None, "mine"):
        with pytest.raises(StmineError, match="push_to_hub needs hub_model_id: organisation/name"):
            SatTrainingArguments(output_dir=str(tmp_path), use_cpu=True, push_to_hub=True, hub_model_id=name)


@pytest.mark.slow
def test_a_script_pushes_its_best_weights_whole(tmp_path, hub):
    """To a Hub on this machine; before that, one who is not logged in hears of it before the training."""
    options = {
        "config": ROOT / "examples" / "configs" / "sat_toy.yaml",
        "output_dir": tmp_path / "run",
        "dataset_options": '{"count": 40, "size": 64}',
        "num_train_epochs": 1,
        "disable_tqdm": "true",
        "push_to_hub": "true",
        "hub_model_id": "stmine-hf/pushed",
        "hub_token": "hf_secret",
    }
    command = [*accelerate_launch(), str(ROOT / "examples" / "train_sat.py")]
    command += [str(part) for key, value in options.items() for part in (f"--{key}", value)]

    def launch(**more):
        env = {**environment(), **hub.environment(tmp_path / "home", **more)}
        return subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=600)

    refused = launch(token=None)
    assert refused.returncode != 0 and "error: Nobody is logged in" in refused.stderr, refused.stderr[-3000:]
    assert not (tmp_path / "run" / "best").exists()
    done = launch()
    assert done.returncode == 0, done.stderr[-3000:]
    best = tmp_path / "run" / "best"
    files = {
        file.name: file.read_bytes()
        for file in best.iterdir()
        if file.name[0] != "." and file.name != "worst_misses.png"
    }
    assert f"Pushed {len(files)} files: {hub.url}/stmine-hf/pushed" in done.stdout
    pushed = hub.files("stmine-hf/pushed")
    assert pushed == files
    assert {"README.md", "config.json", "model.safetensors", "modeling_sat.py", "preprocessor_config.json"} <= set(
        pushed
    )
    assert "hf_secret" not in (tmp_path / "run" / "config.yaml").read_text()
    AutoModel.from_pretrained(best, trust_remote_code=True)


PUSHED = """
import sys
from pathlib import Path

import torch
from helpers_adapters import LOADERS, adapter_trainer, answers, save_base
from transformers import AutoModel, AutoModelForObjectDetection, AutoModelForSequenceClassification

from stmine_hf.hub.push import push
from stmine_hf.hub import publish_run

AUTO = {"fisvl": AutoModel, "mttv": AutoModelForSequenceClassification, "sat": AutoModelForObjectDetection}
method, folder = sys.argv[1], Path(sys.argv[2])
push(save_base(method, folder / "base"), "stmine-hf/base", "model")
names = {"push_to_hub": True, "hub_model_id": "stmine-hf/adapter"}
run = adapter_trainer(method, "stmine-hf/base", folder / "run", **names)
run.train()
run.keep_last()
publish_run(folder / "run" / "best", "stmine-hf/adapter")
expected = answers(run.network, run.processor)
by_auto = AUTO[method].from_pretrained("stmine-hf/adapter", trust_remote_code=True)
torch.testing.assert_close(answers(by_auto, run.processor), expected, atol=1e-5, rtol=1e-4)
model, processor = LOADERS[method]("stmine-hf/adapter")
torch.testing.assert_close(answers(model, processor), expected, atol=1e-5, rtol=1e-4)
print("THE SAME", run.network.peft_config["default"].revision)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ARGUMENTS)
def test_a_pushed_adapter_gives_the_same_answers_on_its_pushed_base(tmp_path, hub, method):
    env = {**environment(), **hub.environment(tmp_path / "home")}
    command = [sys.executable, "-c", PUSHED, method, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said, revision = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert said == "THE SAME" and len(revision) == 40
    pushed = hub.files("stmine-hf/adapter")
    settings = json.loads(pushed["adapter_config.json"])
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("stmine-hf/base", revision)
    assert f"`stmine-hf/base` at revision `{revision}`" in pushed["README.md"].decode()
    assert "model.safetensors" not in pushed and not [name for name in pushed if name.endswith(".bin")]
