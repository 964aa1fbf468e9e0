"""Training on streams: who sees which row, in which order, and all three scripts on a data set of one's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
import yaml
from helpers import tiny_fisvl
from torch.utils.data import DataLoader
from toy_rows import toy_rows
from trainers import SETTINGS, weights

from stmine_hf import load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.training.fisvl.arguments import FisvlTrainingArguments
from stmine_hf.training.fisvl.collator import FisvlCollator
from stmine_hf.training.fisvl.samples import CaptionedImages, CaptionedStream
from stmine_hf.training.fisvl.trainer import FisvlTrainer
from stmine_hf.training.fisvl.transforms import build_fisvl_transform
from stmine_hf.training.mttv.samples import PostStream, keep_modalities
from stmine_hf.training.sat.samples import BoxedImages, BoxedStream

ROOT = Path(__file__).parents[3]


def settings(**given):
    usual = {"seed": 3, "max_steps": 7, "epoch_steps": None, "process_index": 0, "world_size": 1}
    usual |= {"train_batch_size": 1, "gradient_accumulation_steps": 1, "dataloader_num_workers": 0}
    usual |= dict.fromkeys(("released_schedule_length", "class_balance", "group_balance", "released_optimizer"))
    return SimpleNamespace(**{**usual, **given})


def scenes(count, tmp_path):
    return load_dataset("toy_scenes", count=count, size=32, split="train", streaming=True, cache_dir=tmp_path)


def ids(samples, **options):
    return [item["image_id"] for (item,) in DataLoader(samples, batch_size=1, collate_fn=list, **options)]


@pytest.mark.parametrize("count", [21, 22], ids=["rows of even number", "of odd number"])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_row_is_seen_by_one_process(tmp_path, count, workers):
    rows = scenes(count, tmp_path)
    total = count - 2 * (count // 6)
    seen = []
    for process in range(2):
        steps = len(range(process, total, 2))  # one pass
        args = settings(world_size=2, process_index=process, max_steps=steps, dataloader_num_workers=workers)
        samples = CaptionedStream(rows, args, 8, "one")
        seen.append(ids(samples, num_workers=workers))
        assert len(samples) == len(seen[-1]) == steps
    if workers and total % 2:  # rows cannot be shared out evenly, and the quicker worker begins anew
        assert not {*seen[0]} & {*seen[1]}
    else:
        assert sorted(seen[0] + seen[1]) == list(range(total))


def test_passes_differ_and_a_seed_repeats_them(tmp_path):
    rows = scenes(10, tmp_path)  # 8 to train
    stream = CaptionedStream(rows, settings(max_steps=16), 4, "one")
    both = ids(stream)
    assert sorted(both[:8]) == sorted(both[8:]) == list(range(8)) and both[:8] != both[8:]
    assert ids(CaptionedStream(rows, settings(max_steps=16), 4, "one")) == both
    stream.set_epoch(1)
    assert ids(stream) != both
    assert ids(CaptionedStream(rows, settings(max_steps=16, seed=4), 4, "one")) != both


def test_another_worker_does_not_change_the_order(tmp_path, monkeypatch):
    """`datasets` keeps the epoch of a stream in memory that worker processes share; here another one writes to it."""
    rows = scenes(10, tmp_path)
    stream = CaptionedStream(rows, settings(max_steps=8), 4, "one")
    undisturbed, iterate = ids(stream), type(rows).__iter__

    def disturbed(self):
        stream.rows.set_epoch(123)
        return iterate(self)

    monkeypatch.setattr(type(rows), "__iter__", disturbed)
    assert ids(stream) == undisturbed


def test_samples_are_those_of_the_table(tmp_path):
    table = load_dataset("toy_scenes", count=9, size=32, split="train", cache_dir=tmp_path)
    samples = CaptionedImages(table, "5")
    known = {item["image_id"]: item for item in map(samples.__getitem__, range(len(samples)))}
    for item in CaptionedStream(scenes(9, tmp_path), settings(), 4, "5"):
        same = known[item["image_id"]]
        assert sorted(item["captions"]) == sorted(same["captions"])
        assert sorted(item["caption_weights"]) == pytest.approx(sorted(same["caption_weights"]))  # float32 in a table
        assert item["label"] == same["label"] and item["image"].tobytes() == same["image"].tobytes()

    options = {"count": 6, "size": 64, "split": "train", "cache_dir": tmp_path}
    table = load_dataset("toy_camouflage", **options)
    names = table.features["objects"]["category"].feature.names
    label2id = {name: place for place, name in enumerate(reversed(names))}
    images = BoxedImages(table, names, label2id)
    known = {item["image_id"]: item for item in map(images.__getitem__, range(len(images)))}
    for item in BoxedStream(load_dataset("toy_camouflage", streaming=True, **options), settings(), 4, names, label2id):
        same = known[item["image_id"]]
        assert torch.equal(item["boxes"], same["boxes"]) and torch.equal(item["class_labels"], same["class_labels"])


def posts():
    features = {"post_id": datasets.Value("string"), "text": datasets.Value("string"), "image": datasets.Image()}
    features["label"] = datasets.ClassLabel(names=["fake", "real"])
    bad = {"bytes": b"no image", "path": None}
    rows = [("a", "one", None, 0), ("b", "", bad, 1), ("c", "three", bad, 1), ("d", "four", None, -1)]
    named = [dict(zip(features, row, strict=True)) for row in rows]
    return datasets.Dataset.from_list(named, datasets.Features(features)).to_iterable_dataset()


def test_rows_of_no_use_are_left_out_and_counted(caplog):
    stream = PostStream(posts(), settings(max_steps=2), 1, {"real": 0, "fake": 1})
    items = list(stream)
    assert sorted((item["text"], item["image"], item["label"]) for item in items) == [
        ("one", None, 1),
        ("three", None, 0),
    ]
    assert "Skipped the image" in caplog.text and stream.unreadable <= 2
    with pytest.raises(StmineError, match="None of the rows of the stream can be used"):
        list(PostStream(keep_modalities(posts(), "image"), settings(), 1, {"real": 0, "fake": 1}))


def test_what_a_stream_cannot_do(tmp_path):
    with pytest.raises(StmineError, match="max_steps"):
        CaptionedStream(scenes(3, tmp_path), settings(max_steps=-1), 8, "one")
    with pytest.raises(StmineError, match="captions_per_step must be 'one' or a number"):
        CaptionedStream(scenes(3, tmp_path), settings(), 8, "all")
    with pytest.raises(StmineError, match="class_balance needs all rows"):
        PostStream(posts(), settings(class_balance=0.5), 8, {"real": 0, "fake": 1})


def streaming_trainer(folder, **fields):
    model, processor = tiny_fisvl()
    fields = {**SETTINGS, "max_steps": 6, "epoch_steps": 4, "save_strategy": "steps", "save_steps": 3, **fields}
    args = FisvlTrainingArguments(output_dir=str(folder), **fields)
    return FisvlTrainer(
        model=model.train(),
        args=args,
        train_dataset=CaptionedStream(toy_rows(10).to_iterable_dataset(num_shards=2), args, 4, "one"),
        data_collator=FisvlCollator(processor, build_fisvl_transform("lite", processor.image_processor), 0.05),
        processing_class=processor,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_ends_as_the_uninterrupted_one(tmp_path, workers):
    whole = streaming_trainer(tmp_path, dataloader_num_workers=workers)
    whole.train()
    assert whole.state.global_step == 6 and whole.current_epoch == 1  # of 4 steps
    resumed = streaming_trainer(tmp_path, dataloader_num_workers=workers)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert weights(whole).keys() == weights(resumed).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


# ---- the scripts ----

SHARED = """
import json, sys
from accelerate.utils import gather_object
from stmine_hf import load_dataset
from stmine_hf.training.fisvl.arguments import FisvlTrainingArguments
from stmine_hf.training.fisvl.samples import CaptionedStream
args = FisvlTrainingArguments(output_dir=sys.argv[1], use_cpu=True, max_steps=4, per_device_train_batch_size=1)
rows = load_dataset("toy_scenes", count=10, size=32, split="train", streaming=True)
seen = gather_object([[args.process_index, item["image_id"]] for item in CaptionedStream(rows, args, 4, "one")])
if args.process_index == 0:
    print(json.dumps(seen))
"""


def launch(script, *words):
    processes = ROOT / "examples" / "accelerate" / "cpu_two_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(script), *map(str, words)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_share_a_stream_out(tmp_path):
    (tmp_path / "share.py").write_text(SHARED)
    seen = json.loads(launch(tmp_path / "share.py", tmp_path / "run").splitlines()[-1])
    assert sorted(image_id for _, image_id in seen) == list(range(8))
    assert [process for process, _ in seen] == [0] * 4 + [1] * 4


OWN = {
    "fisvl": ("toy_scenes", {"image": "img", "captions": "text"}, ["--captions_per_step", "one"]),
    "mttv": ("toy_posts", {"image": "img", "text": "content", "label": "verdict"}, []),
    "sat": ("toy_camouflage", {"image": "img", "objects": "things"}, []),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", OWN)
def test_the_scripts_train_on_a_streamed_hub_data_set(tmp_path, method):
    name, columns, words = OWN[method]
    splits = load_dataset(name, count=24, size=64, cache_dir=tmp_path / "cache")
    for split in ("train", "val"):
        rows = splits[split].rename_columns({ours: theirs for ours, theirs in columns.items()})
        rows.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    mapping = [f"{ours}={theirs}" for ours, theirs in columns.items()]
    config, out = ROOT / "examples" / "configs" / f"{method}_toy.yaml", tmp_path / "run"
    words = ["--config", config, "--output_dir", out, "--disable_tqdm", "true", *words, "--column_mapping", *mapping]
    words += ["--dataset", tmp_path / "hub", "--streaming", "true", "--max_steps", 4, "--epoch_steps", 2]
    launch(ROOT / "examples" / f"train_{method}.py", *words, "--per_device_train_batch_size", 4)
    results = json.loads((out / "results.json").read_text())
    assert results["training"]["epoch"] == 2 and results["unreadable"] == 0
    assert (out / "best" / "model.safetensors").is_file()
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert kept["streaming"] is True and kept["column_mapping"] == mapping
    assert str(tmp_path) not in (out / "best" / "README.md").read_text()
