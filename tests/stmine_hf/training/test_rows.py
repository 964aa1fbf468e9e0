"""Which rows a training script gets."""

import contextlib
import csv

import pytest

from stmine_hf.data import DataError, load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvTrainingArguments
from stmine_hf.training.rows import load_rows, take_rows


def parse(tmp_path, *words):
    given = ["--output_dir", str(tmp_path / "run"), "--use_cpu", "true", *map(str, words)]
    return parse_arguments((MttvDataArguments, MttvTrainingArguments), given)


@pytest.fixture
def table(tmp_path):
    with (tmp_path / "posts.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["content", "verdict"])
        writer.writerows([f"post {number}", ("real", "fake")[number % 2]] for number in range(10))
    return tmp_path / "posts.csv"


def test_rows_that_the_plan_has_shown_are_not_shown_again(table, tmp_path, capsys):
    data_args, args = parse(tmp_path, "--dataset", table, "--column_mapping", "text=content", "label=verdict")
    args.eval_strategy = "no"
    load_rows("posts", data_args, args, None, None)
    assert "Rows: 10 train" in capsys.readouterr().out
    load_rows("posts", data_args, args, None, None, show=False)
    assert capsys.readouterr().out == ""


def test_parts_of_a_table_of_ones_own(table, tmp_path):
    words = ["--dataset", table, "--column_mapping", "text=content", "label=verdict"]
    data_args, args = parse(tmp_path, *words, "--train_split", "train[:80%]", "--eval_split", "train[80%:]")
    train, held_out = load_rows("posts", data_args, args, 4, None)
    assert train["text"][:] == ["post 0", "post 2", "post 4", "post 6"]
    assert held_out["text"][:] == ["post 8", "post 9"] and held_out["label"][:] == [1, 0]
    assert train.features["label"].names == ["fake", "real"]

    save_arguments(tmp_path / "config.yaml", data_args)  # as the run keeps it
    again, args = parse(tmp_path, "--config", tmp_path / "config.yaml", "--eval_strategy", "no")
    assert again.column_mapping == ["text=content", "label=verdict"]
    assert load_rows("posts", again, args, None, None)[1] is None


def test_validation_rows_are_held_out_where_there_are_none(tmp_path):
    names = ["shark", "bridge", "flood", "market", "desert", "planet", "violin", "kettle", "glacier", "tunnel"]
    lines = [f"{name * 3},{('real', 'fake')[number % 2]}" for number, name in enumerate(names)]
    (tmp_path / "posts.csv").write_text("\n".join(["text,label", *lines]))
    data_args, args = parse(tmp_path, "--dataset", tmp_path / "posts.csv", "--hold_out", "0.2")
    train, held = load_rows("posts", data_args, args, None, None)
    assert len(train) == 8 and len(held) == 2 and sorted(held["label"]) == [0, 1]
    assert not set(train["text"]) & set(held["text"])
    again = load_rows("posts", data_args, args, None, None)[1]
    assert again["text"][:] == held["text"][:]
    for wrong in (["--hold_out", "1"], ["--hold_out", "0.2", "--streaming", "true"]):
        with pytest.raises(StmineError, match="hold_out"):
            parse(tmp_path, "--dataset", "mine.csv", *wrong)


def test_what_a_run_cannot_use_is_told(table, tmp_path):
    data_args, args = parse(tmp_path, "--dataset", table, "--column_mapping", "text=content", "label=verdict")
    with pytest.raises(DataError, match=r"no split 'val'; it has train\. A part of it can be one: train\[:90%\]"):
        load_rows("posts", data_args, args, None, None)
    odd = tmp_path / "odd.csv"
    odd.write_text("texto,says\na,fake\nb,real\n")
    data_args, args = parse(tmp_path, "--dataset", odd)
    with pytest.raises(DataError, match=r"no column 'text' \(text\), but texto, says.*text=texto"):
        load_rows("posts", data_args, args, None, None)
    data_args, args = parse(tmp_path, "--dataset", table, "--column_mapping", "text")
    with pytest.raises(DataError, match="expected PART=COLUMN"):
        load_rows("posts", data_args, args, None, None)
    data_args, args = parse(tmp_path, "--dataset", "toy_scenes")
    with pytest.raises(DataError, match="toy_scenes has no rows of posts"):
        load_rows("posts", data_args, args, None, None)
    with pytest.raises(StmineError, match="eval_split is 'test'"):
        parse(tmp_path, "--eval_split", "test[:10%]")


def test_few_rows_are_spread_over_all(tmp_path):
    splits = load_dataset("toy_posts", count=24, size=32, cache_dir=tmp_path)
    assert take_rows(splits, "train", 4)["post_id"][:] == splits["train"]["post_id"][::4][:4]
    assert len(take_rows(splits, "train[:50%]", None)) == 8
    with pytest.raises(DataError, match="no slice such as"):
        take_rows(splits, "train[:half]", None)


def test_another_data_set_than_the_files_brings_its_own_folder_and_options(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("dataset: weibo\ndata_dir: data/weibo\ndataset_options: {validation: events}\nseed: 5\n")
    data_args, args = parse(tmp_path, "--config", config, "--dataset", "mine.csv", "--data_dir", "there")
    assert (data_args.dataset, data_args.data_dir, data_args.dataset_options) == ("mine.csv", "there", None)
    assert args.seed == 5
    for same in ([], ["--dataset", "weibo"], ["--dataset=weibo"]):
        data_args, _ = parse(tmp_path, "--config", config, *same)
        assert data_args.data_dir == "data/weibo" and data_args.dataset_options == {"validation": "events"}


def test_what_is_left_out_is_shown_before_training_as_by_describe(tmp_path, capsys, recwarn):
    from stmine_hf.cli import main

    lines = ["text,label", "one,real", "two,fake", "three,odd", ",real", "four,real,more"]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    data = MttvDataArguments(dataset="posts", data_dir=str(tmp_path), dataset_options={"labels": ["fake", "real"]})
    args = MttvTrainingArguments(output_dir=str(tmp_path / "out"), eval_strategy="no", use_cpu=True)
    rows, _ = load_rows("posts", data, args, None, None)
    shown = capsys.readouterr().out.splitlines()
    assert len(rows) == 3 and shown[0] == "Rows: 3 train" and any("skipped: 1 x" in line for line in shown)
    assert not [one for one in recwarn if "skipped" in str(one.message)], "shown once"
    with contextlib.suppress(SystemExit):
        main(["data", "describe", "posts", "--data-dir", str(tmp_path), "--option", 'labels=["fake", "real"]'])
    described = capsys.readouterr().out.splitlines()
    assert set(shown[1:]) <= set(described)
