"""`stmine evaluate mttv`: the table, the files, options of the data set, and mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers_mttv import save_tiny_mttv
from odd_posts import noise

from stmine_hf import load_dataset
from stmine_hf.cli import main
from stmine_hf.data.held_out import TrainedOn, data_fingerprint, with_validation
from stmine_hf.data.recognition import Recognized
from stmine_hf.evaluation.classification import evaluate_posts
from stmine_hf.loading import load_mttv
from stmine_hf.training.identity import RunIdentity
from stmine_hf.training.own_set import trained_on


def run(*words) -> int:
    """The exit code of `stmine evaluate mttv WORDS`."""
    try:
        main(["evaluate", "mttv", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def document(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_mttv(tmp_path_factory.mktemp("model") / "tiny", seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Posts in the layout of the Weibo set."""
    folder = tmp_path_factory.mktemp("weibo")
    (folder / "images").mkdir()
    for split, count in {"train": 4, "dev": 10, "test": 2}.items():
        rows = []
        for number in range(count):
            name = f"{split}{number}.jpg"
            noise(20 + number, 30).save(folder / "images" / name)
            text = f"假 news {number} " * (number + 1)
            rows.append({"id": name, "label": ("fake", "real")[number % 2], "text": text, "img": f"images/{name}"})
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_prints_saves_and_speaks_json(capsys, tmp_path, model, folder):
    words = ["--dataset", "weibo", "--data-dir", folder, "--model", model]
    assert run(*words, "--out", tmp_path / "out", "--predictions") == 0
    printed = capsys.readouterr().out
    assert "macro F1" in printed and "accuracy" in printed and "tiny on weibo val" in printed
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} - {"worst_misses.png"} == {
        "results.json", "confusion_matrix.png", "reliability.png", "predictions.jsonl",
    }  # fmt: skip
    assert all(name.name in printed for name in (tmp_path / "out").glob("[!.]*"))
    assert run(*words, "--json", "--batch-size", 3) == 0
    found = document(capsys)
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["metrics"] == pytest.approx(saved["metrics"], abs=1e-6)
    assert (found["rows"], found["images"], found["dataset"], found["split"]) == (10, 10, "weibo", "val")
    assert run(*words, "--limit", 3, "--split", "train", "--bins", 4, "--json") == 0
    found = document(capsys)
    assert found["rows"] == 3 and len(found["reliability"]["count"]) == 4


def test_options_reach_the_data_set(capsys, tmp_path, model, folder):
    elsewhere = tmp_path / "pictures"
    elsewhere.mkdir()
    words = ["--dataset", "weibo", "--data-dir", folder, "--model", model, "--json"]
    assert run(*words, "--option", f"image_dir={elsewhere}") == 0
    assert document(capsys)["images"] == 0
    assert run(*words, "--option", "validation=events", "--option", "validation_share=0.5") == 0
    capsys.readouterr()
    assert run(*words, "--option", "colour=red") == 1
    assert "weibo has no option colour; its options are:" in capsys.readouterr().err


def test_mistakes_are_told(capsys, tmp_path, model, folder):
    other = save_tiny_mttv(tmp_path / "other", id2label={0: "true", 1: "false"}, label2id={"true": 0, "false": 1})
    words = ["--dataset", "weibo", "--data-dir", folder, "--model", model]
    for given, code, message in (
        ([*words, "--option", "validation"], 2, "expected KEY=VALUE"),
        ([*words, "--predictions"], 2, "--predictions needs --out"),
        ([*words, "--split", "dev2"], 1, "has no split 'dev2'"),
        ([*words[:-1], other], 1, "labels are 'fake', 'real', the model's are 'true', 'false'"),
        (
            ["--dataset", "toy_scenes", "--option", "count=4", "--split", "train", "--model", model],
            1,
            "toy_scenes has no rows of posts",
        ),
        (["--dataset", "nosuch", "--model", model], 1, "unknown data set 'nosuch'"),
        ([*words, "--features", tmp_path], 1, "stmine features mttv"),
    ):
        assert run(*given) == code, given
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split()), given


def test_a_malformed_line_costs_only_itself(capsys, tmp_path, model, folder):
    lines = (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3][:30]
    lines[4] = lines[4].replace('"fake"', '"rumour"')
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes((folder / f"{split}.jsonl").read_bytes())
    (tmp_path / "dev.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.warns(UserWarning):
        assert run("--dataset", "weibo", "--data-dir", tmp_path, "--model", model, "--json") == 0
    assert document(capsys)["rows"] == 8


def own_table(folder: Path, count: int = 20) -> Path:
    """Posts of the user's own, with column names and labels in Chinese."""
    words = [f"{'假新闻图片你好'[n % 7] * 9} {n} {'真假'[n % 2] * 5}" for n in range(count)]
    lines = [f"a{n},{text},{('谣言', '真实')[n % 2]}" for n, text in enumerate(words)]
    file = folder / "posts.csv"
    file.write_text("编号,正文,标签\n" + "\n".join(lines) + "\n", encoding="gb18030")
    return file


def test_ones_own_rows(capsys, tmp_path, model):
    """All of them; those that training holds out for a model that was trained on them, and by --split val."""
    file = own_table(tmp_path)
    words = ["--data", file, "--encoding", "gb18030", "--label", "谣言=fake", "--label", "真实=real"]
    assert run(*words, "--model", model) == 0
    printed = capsys.readouterr().out
    assert "Read as posts: text: 正文, label: 标签, id: 编号." in printed and "Rows: all 20." in printed
    assert run(*words, "--model", model, "--split", "val", "--json") == 0
    held = document(capsys)
    options = {"kind": "posts", "encoding": "gb18030", "label_names": {"谣言": "fake", "真实": "real"}}
    rows, _ = with_validation(load_dataset(str(file), **options), "posts")
    assert held["rows"] == len(rows["val"]) < 20 and held["split"] == "val"
    expected = evaluate_posts(*load_mttv(model), rows["val"], progress=False)
    assert held["metrics"] == pytest.approx(expected.metrics, abs=1e-6)
    shutil.copytree(model, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").write_text(f"dataset: {file}\nhold_out: 0.2\n")
    assert run(*words, "--model", tmp_path / "run" / "best", "--json") == 0
    assert document(capsys)["metrics"] == held["metrics"]
    shutil.copy(file, tmp_path / "test.csv")
    assert run("--data", tmp_path / "test.csv", *words[2:], "--model", model, "--json") == 0
    found = document(capsys)
    assert (found["rows"], found["split"]) == (20, "test")
    assert run(*words[:4], "--model", model) == 1
    assert "say what each label means: --label 真实=LABEL" in " ".join(capsys.readouterr().err.split())
    assert run(*words[:4], "--label", "谣言", "--model", model) == 2


def test_a_run_is_scored_on_the_rows_that_it_held_out(capsys, tmp_path, model, monkeypatch):
    """However data and model are named; with the share of the run; never on rows that it was trained on."""
    file, best = own_table(tmp_path), tmp_path / "run" / "best"
    shutil.copytree(model, best)
    (tmp_path / "link.csv").symlink_to(file)
    (tmp_path / "link").symlink_to(best)
    (tmp_path / "run" / "config.yaml").write_text(f"dataset: {file}\nhold_out: 0.5\n")
    words = ["--encoding", "gb18030", "--label", "谣言=fake", "--label", "真实=real"]
    options = {"kind": "posts", "encoding": "gb18030", "label_names": {"谣言": "fake", "真实": "real"}}
    made, _ = with_validation(load_dataset(str(file), **options), "posts", 0.5)
    RunIdentity.new({}, {}, data=data_fingerprint(made["train"])).write(tmp_path / "run")
    monkeypatch.chdir(best)
    for data, name in (
        ("../../posts.csv", "."),
        (file, "../best"),
        (tmp_path / "link.csv", best),
        (file, tmp_path / "link"),
    ):
        assert run("--data", data, *words, "--model", name, "--json") == 0
        assert document(capsys)["rows"] == len(made["val"]) > 5, (data, name)
    RunIdentity.new({}, {}, data=data_fingerprint(made["val"])).write(tmp_path / "run")
    for more in ([], ["--split", "val"]):
        assert run("--data", file, *words, *more, "--model", best) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "was trained on" in said and "give these as --data, or name a split of them with --split" in said
    assert run("--data", file, *words, "--split", "all", "--model", best, "--json") == 0
    assert document(capsys)["rows"] == 20
    (tmp_path / "run" / "config.yaml").write_text(f"dataset: {file}\n")
    assert run("--data", file, *words, "--model", best) == 1
    assert "its run held no rows out" in " ".join(capsys.readouterr().err.split())


def test_data_on_the_hub_are_those_of_the_id(tmp_path, model, monkeypatch):
    shutil.copytree(model, tmp_path / "run" / "best")
    (tmp_path / "run" / "config.yaml").write_text("dataset: org/posts\nhold_out: 0.1\n")
    monkeypatch.chdir(tmp_path)
    assert trained_on("run/best", Recognized("org/posts")) == TrainedOn(0.1)
    assert trained_on("run/best", Recognized("org/others")) is None
    assert trained_on("run", Recognized("org/posts")) is None and trained_on(None, Recognized("org/posts")) is None


@pytest.mark.parametrize("word", ["fake", "谣言"])
def test_ones_own_rows_of_one_label(capsys, tmp_path, model, word):
    """The other labels of the model count as scikit-learn has it; a label that the model lacks is refused."""
    file = tmp_path / "posts.csv"
    file.write_text("text,label\n" + "".join(f"假新闻 {n},{word}\n" for n in range(4)), encoding="utf-8")
    meant = () if word == "fake" else ("--label", "谣言=fake", "--label", "真实=real")
    assert run("--data", file, *meant, "--model", model) == 0
    assert "No post has the label real: macro F1 counts its F1 as 0" in " ".join(capsys.readouterr().out.split())
    assert run("--data", file, *meant, "--model", model, "--json") == 0
    found = document(capsys)
    assert found["support"] == {"fake": 4, "real": 0}
    assert (found["metrics"]["recall_real"], found["metrics"]["f1_real"]) == (0, 0)
    assert found["metrics"]["macro_f1"] == pytest.approx(found["metrics"]["f1_fake"] / 2)
    file.write_text("text,label\na,hoax\nb,fake\n", encoding="utf-8")
    assert run("--data", file, "--model", model) == 1
    assert "say what each label means: --label hoax=LABEL" in " ".join(capsys.readouterr().err.split())
