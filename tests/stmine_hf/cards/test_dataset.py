"""Cards of data sets: of today's builders, true to what these yield, and fit to be published."""

from __future__ import annotations

import re

import pytest
from data_folders import DRAWN, source
from huggingface_hub import DatasetCard

from stmine_hf import load_dataset
from stmine_hf.cards.dataset import data_card, described_sets
from stmine_hf.cli import main
from stmine_hf.data import BUILDERS
from stmine_hf.data.boxed_images import category_label
from stmine_hf.hub.build import build
from stmine_hf.hub.check import check

# layouts of one's own data: there is no set to describe
OWN = {"posts", "coco_json", "voc_xml", "yolo_txt", "labelme_json", "cvat_xml", "label_studio"}


def test_every_set_has_a_card():
    assert {*described_sets()} == {*BUILDERS} - OWN


@pytest.mark.parametrize("name", described_sets())
def test_a_built_card_is_fit_to_be_published(name, tmp_path):
    build(name, tmp_path / name)
    assert (tmp_path / name / "README.md").read_text(encoding="utf-8") == data_card(name).text()
    report = check(tmp_path / name)
    assert report.repo_type == "dataset" and report.passed, report.findings
    warned = [line.check for line in report.findings if line.outcome == "warning"]
    assert warned == ([] if name in DRAWN else ["license"])


@pytest.mark.parametrize("name", described_sets())
def test_card_names_the_columns_classes_and_splits_that_rows_have(name, tmp_path):
    card = DatasetCard(data_card(name).text()).text
    splits = load_dataset(name, cache_dir=tmp_path / "cache", **source(name, tmp_path / "data"))
    table = card.partition("## Rows")[2].partition("## Limitations")[0]
    columns = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    features = next(iter(splits.values())).features
    assert {*columns} == {*features}
    if "label" in features:
        assert ", ".join(features["label"].names) in table
    if name == "toy_camouflage":
        assert ", ".join(category_label(features).names) in table
    if name in DRAWN:
        assert f"Splits: {', '.join(splits)}." in table


def test_command_writes_a_card(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["publish", "build", "toy_posts", "--out", str(tmp_path / "cards" / "toy_posts")])
    assert end.value.code == 0 and "1 files" in capsys.readouterr().out
    assert (tmp_path / "cards" / "toy_posts" / "README.md").read_text(encoding="utf-8") == data_card(
        "toy_posts"
    ).text()
