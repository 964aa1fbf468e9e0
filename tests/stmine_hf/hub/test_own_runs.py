"""`stmine publish build RUN --data-dir D` of runs on the user's own data, as `stmine train` leaves them."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from documents import check_command, commands
from helpers import save_tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import save_tiny_sat
from huggingface_hub import ModelCard
from PIL import Image

from stmine_hf import __version__
from stmine_hf.cards.own_run import data_name, data_options
from stmine_hf.cli import main
from stmine_hf.data.held_out import data_fingerprint
from stmine_hf.errors import StmineError
from stmine_hf.hub.build import build
from stmine_hf.hub.repository import PublishError
from stmine_hf.hub.run_rows import run_rows
from stmine_hf.methods import METHODS
from stmine_hf.training.identity import RunIdentity
from stmine_hf.training.own_set import plan_training

WORDS = "harbour bridge forest river field plane ship road beach desert lake storm market tower island valley".split()  # noqa: SIM905


def image(path: Path, seed: int) -> str:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path.name


def own_table(method: str, folder: Path) -> Path:
    folder.mkdir()
    rows = {
        "fisvl": lambda n: {
            "file": image(folder / f"{n}.png", n),
            "sentence": f"a {WORDS[n]} near {WORDS[(7 * n) % 16]}",
        },
        "mttv": lambda n: {"content": f"{WORDS[n]} {chr(97 + n) * 9} {77 * n}", "verdict": ("fake", "real")[n % 2]},
        "sat": lambda n: {
            "filename": image(folder / f"{n}.png", n),
            "class": ("person", "car")[n % 2],
            **{"xmin": 8, "ymin": 8, "xmax": 40, "ymax": 44},
        },
    }[method]
    table = [rows(n) for n in range(16)]
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return folder / "mine.csv"


def run_of(method: str, settings: dict, folder: Path) -> Path:
    """A run that has ended, but for its training."""
    if method == "mttv":
        for part in tiny_mttv():
            part.save_pretrained(folder / "best")
    else:
        {"fisvl": save_tiny_fisvl, "sat": save_tiny_sat}[method](folder / "best")
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_ones_own_table_is_measured_on_the_rows_that_it_held_out(method, tmp_path):
    file = own_table(method, tmp_path / "mine")
    plan = plan_training(method, str(file), output=tmp_path / "run")
    run, out = run_of(method, plan.settings, tmp_path / "run"), tmp_path / "my-model"
    tables = build(run, out, data_dir=file.parent, repo="me/my-model", progress=False)
    assert "train" not in str(tables[0].title).split(" on ")[-1].split()  # the rows that were held out are val
    card = ModelCard.load(out / "README.md")
    assert card.data.base_model == f"stmine-hf/{METHODS[method].default_checkpoint}"
    assert "me/my-model" in card.text and "stmine-hf/my-model" not in card.text
    assert (
        str(tmp_path) not in card.text and f"stmine evaluate {method} --model me/my-model --data mine.csv" in card.text
    )
    (results,) = (json.loads(path.read_text()) for path in (out / "results").rglob("*.json"))
    counts = {results[name] for name in ("rows", "images", "posts") if name in results}
    assert 16 - plan.rows in counts, results.keys()
    assert not (out / ".eval_results").exists()  # these are for data sets of the Hub
    with pytest.raises(PublishError, match=r"expected the data that the run was trained on, mine\.csv"):
        build(run, tmp_path / "other", data_dir=tmp_path, progress=False)


def own_splits(folder: Path, splits: dict[str, range], labelled: bool = True) -> Path:
    folder.mkdir()
    for split, numbers in splits.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for n in numbers:
                label = ("fake", "real")[n % 2] if labelled or split != "test" else ""
                writer.writerow([f"{WORDS[n]} {chr(97 + n) * 9} {77 * n}", label])
    return folder


@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_measured_on_rows_that_it_was_not_trained_on(method, share, tmp_path):
    file = own_table(method, tmp_path / "mine")
    settings = plan_training(method, str(file), output=tmp_path / "run").settings | {"hold_out": share}
    run, data = run_of(method, settings, tmp_path / "run"), tmp_path / "elsewhere"
    file.parent.rename(data)
    kind = METHODS[method].rows
    trained, held = (run_rows(settings, kind, data, split).rows for split in ("train", "val"))
    RunIdentity.new({}, {}, data=data_fingerprint(trained)).write(run)
    build(run, tmp_path / "my-model", data_dir=data, progress=False)
    card = (tmp_path / "my-model" / "README.md").read_text(encoding="utf-8")
    assert f"{100 * share:g}% of the rows" in card
    assert ("stmine evaluate" in card) is ("To measure again" in card) is (share == 0.2)  # that share is its own
    (results,) = (json.loads(path.read_text()) for path in (tmp_path / "my-model" / "results").rglob("*.json"))
    assert len(held) in {results[name] for name in ("rows", "images", "posts") if name in results}
    # Another rule held out as many rows: the run was trained on some that are held out now.
    name = "post_id" if method == "mttv" else "filename"
    others = trained.select_columns(name).map(lambda row: {name: f"other {row[name]}"})
    RunIdentity.new({}, {}, data=data_fingerprint(others)).write(run)
    with pytest.raises(StmineError, match=rf"was trained on {len(trained)} rows .* Give the data as they were; or"):
        build(run, tmp_path / "other", data_dir=data, progress=False)
    build(run, tmp_path / "other", progress=False)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("others", [["val"], ["val", "test"], ["test"]])
def test_a_run_of_a_set_with_splits_is_measured_on_these(others, labelled, tmp_path):
    parts = {"val": range(8, 12), "test": range(12, 16)}
    own = own_splits(tmp_path / "mine", {"train": range(8), **{name: parts[name] for name in others}}, labelled)
    plan = plan_training("mttv", str(own), output=tmp_path / "run")
    run, out = run_of("mttv", plan.settings, tmp_path / "run"), tmp_path / "my-model"
    build(run, out, data_dir=own, progress=False)
    found = {path.parent.name: json.loads(path.read_text()) for path in (out / "results").rglob("results.json")}
    assert set(found) == {"val", *(others if labelled else [])} - set([] if labelled else ["test"])
    assert found["val"].get("held_out", False) is ("val" not in others) and "held_out" not in found.get("test", {})
    assert ("held out of the training data" in (out / "README.md").read_text()) is ("val" not in others)


@pytest.mark.parametrize("given", ["data", "data/mine.csv"])
def test_images_are_those_beside_the_data(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, shade in ((Path("images"), 0), (Path("data/images"), 255)):  # the first is of something else
        folder.mkdir(parents=True)
        for n in range(16):
            Image.new("RGB", (16, 16), (shade,) * 3).save(folder / f"{n}.png")
    with Path("data/mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "caption"], *([f"{n}.png", f"a {WORDS[n]}"] for n in range(16))])
    columns = ["image=file", "captions=caption"]
    settings = {"dataset": "data/mine.csv", "dataset_options": {"image_dir": "images"}, "column_mapping": columns}
    rows = run_rows(settings, "captions", given, "train").rows
    assert len(rows) == 16 and np.asarray(rows[0]["image"]).min() == 255
    Path("data/images").rename("gone")
    assert np.asarray(run_rows(settings, "captions", given, "train").rows[0]["image"]).max() == 0


def test_the_data_of_a_card_are_named_as_the_command_has_them():
    columns = {"column_mapping": ["text=words"], "dataset_options": {"label_names": {"谣言": "fake"}, "n": 3}}
    words = shlex.split(data_options({"dataset": "org/posts.v2", **columns}, None))
    assert words == [
        *("--data", "org/posts.v2", "--column", "text=words"),
        *("--label", "谣言=fake", "--option", "n=3"),
    ]
    for name in ("posts.csv", "data/posts.CSV", "data/posts.v2"):
        assert data_name({"dataset": name}) == Path(name).name


def outcome_of_training(method: str, by_class: list[dict]) -> dict:
    """`results.json` as `stmine train` leaves it."""
    before = dict.fromkeys((f"eval_{name}" for name in METHODS[method].metrics), 0.125)
    best = {**before, "step": 3, "epoch": 1.0}
    command = f"stmine train {method} --data mine.csv --full"
    rows = {"rows": {"train": 13, "val": 3}, "by_class": by_class, "command": command}
    return {"best": best, "training": None, "start": {**before, "step": 0}, **rows}


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_the_card_of_ones_own_run_says_what_its_reader_can_repeat(method, with_data, tmp_path, monkeypatch, capsys):
    file = own_table(method, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    run = run_of(method, plan_training(method, str(file), output=Path("run")).settings, Path("run"))
    names = {"fisvl": [], "mttv": ["fake", "real"], "sat": ["person", "car"]}[method]
    scores = dict.fromkeys(METHODS[method].class_metrics, 0.25)
    more = {"found_lower": 0.5} if method == "sat" else {}
    rows = [
        {"name": name, "train": 6, "held_out": 2, "before": scores, "after": scores, **more} for name in names
    ]  # fmt: skip
    (run / "results.json").write_text(json.dumps(outcome_of_training(method, rows)))
    build(run, "jane-model", data_dir=file if with_data else None, repo="jane/jane-model", progress=False)
    card = (Path("jane-model") / "README.md").read_text(encoding="utf-8")
    start = f"`stmine-hf/{METHODS[method].default_checkpoint}`"
    things = "posts" if method == "mttv" else "images"
    assert f"Made from {start} on 13 {things} of `mine.csv`, with 3 more to measure on, by `stmine train" in card
    assert "| before the training | 0.1250 |" in card and ("**this model**, as trained" in card) is not with_data
    for name in names:
        assert f"| {name} | 6 | 2 | 0.250 |" in card
    found = "The threshold 0.4 finds 0 of 2 `car`, and 0.25 finds 1: pass that"  # as trained, 0.25 of each
    assert (found in card or "No threshold from 0.05 up finds any `car`" in card) is (method == "sat")
    assert f"stmine-hf {__version__} is " in card  # where the command comes from
    assert "the columns `" in card and "publish build" not in card and "data/mine" not in card.split("```yaml")[0]
    for word in ("released", "never the network", "NanoDet counts", "examples/train_", "紧急通知"):
        assert word not in card, word
    lines = [line for line in commands(Path("jane-model/README.md").absolute()) if line.startswith("stmine ")]
    for line in lines:
        check_command(line)
    (evaluate,) = (shlex.split(line)[1:] for line in lines if line.startswith("stmine evaluate"))
    assert evaluate[-4:] == ["--data", "mine.csv", "--split", "val"] and "jane/jane-model" in evaluate
    monkeypatch.chdir(file.parent)  # a reader's folder with data of that layout
    here = [str(tmp_path / "jane-model") if word == "jane/jane-model" else word for word in evaluate]
    with pytest.raises(SystemExit) as end:
        main([*here, "--json"])
    assert end.value.code == 0
    if with_data:  # the rows are those that the training held out
        (results,) = (json.loads(path.read_text()) for path in (tmp_path / "jane-model/results").rglob("*.json"))
        assert results["dataset"] == "mine"
        assert json.loads(capsys.readouterr().out)["metrics"] == pytest.approx(results["metrics"], abs=1e-6)


def test_the_card_of_a_run_without_a_known_command_names_the_script(tmp_path):
    file = own_table("sat", tmp_path / "mine")
    run = run_of("sat", plan_training("sat", str(file), output=tmp_path / "run").settings, tmp_path / "run")
    build(run, tmp_path / "my-model", data_dir=file, progress=False)
    card = (tmp_path / "my-model" / "README.md").read_text(encoding="utf-8")
    assert "accelerate launch examples/train_sat.py --config my-model/training/config.yaml" in card
    assert "by `examples/train_sat.py`" in card
    assert "--data mine.csv --column image=filename" in card  # what was found in the table is said


def test_evaluate_reads_the_runs_own_data_as_the_training_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{WORDS[n]} {chr(97 + n) * 9} {77 * n},{('no', 'yes')[n % 2]},{n}" for n in range(16)]
    for name in ("mine.csv", "other.csv"):
        Path(name).write_text("\n".join(["words,truth,number", *rows]))
    given = {"column_mapping": {"text": "words", "label": "truth"}, "options": {"label_names": {"no": "fake"}}}
    given["options"]["label_names"]["yes"] = "real"
    run = run_of("mttv", plan_training("mttv", "mine.csv", output=Path("run"), **given).settings, Path("run"))

    def evaluate(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", "mttv", "--model", str(run / "best"), *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    code, said = evaluate("--data", "mine.csv")
    assert code == 0
    line = "Read as in the training of the model: --column text=words --column label=truth"
    assert f"{line} --label no=fake --label yes=real. Options given now win." in said
    assert "Read as posts: text: words" in said
    code, said = evaluate("--data", "mine.csv", "--column", "text=number")
    assert code == 0 and "Read as posts: text: number, label: truth" in said
    assert evaluate("--data", "other.csv")[0] != 0  # data of which the run knows nothing
