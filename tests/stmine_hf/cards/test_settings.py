"""What a card says of a run: its settings, without the machine it ran on, and where the package comes from."""

from __future__ import annotations

from email.message import Message

import pytest

from stmine_hf.cards.rendering import where_from
from stmine_hf.cards.settings import portable_data, portable_settings


def test_a_table_of_ones_own_keeps_its_name_alone():
    assert portable_data({"dataset": "/somewhere/of/mine/captions.csv"}, "x") == {"dataset": "data/captions.csv"}
    settings = {"dataset": "/somewhere/of/mine/captions.csv", "data_dir": "/somewhere/of/mine"}
    assert portable_data(settings, "x") == {"dataset": "data/captions.csv"}


def test_settings_name_no_folder_of_the_machine():
    options = {"a": "../jane/pics", "b": "~/x", "c": "~jane/y", "d": "/somewhere/z", "label_names": {"..": "real"}}
    found = portable_settings({"dataset_options": options, "column_mapping": ["text=a/b"]}, {})
    assert found["dataset_options"] == {"a": "pics", "b": "x", "c": "y", "d": "z", "label_names": {"..": "real"}}
    assert found["column_mapping"] == ["text=a/b"]


def test_a_set_by_name_keeps_it_and_its_folder_is_called_by_it():
    assert portable_data({"dataset": "rsicd", "data_dir": "/somewhere/RSICD"}, "rsicd") == {
        "dataset": "rsicd",
        "data_dir": "data/rsicd",
    }
    assert portable_data({"dataset": "toy_scenes"}, "toy_scenes") == {"dataset": "toy_scenes"}


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (["Homepage, https://example.org/stmine-hf"], "is at <https://example.org/stmine-hf>."),
        ([], "on no package index yet"),
    ],
)
def test_a_card_says_where_the_package_comes_from(addresses, said, monkeypatch):
    found = Message()
    for address in addresses:
        found["Project-URL"] = address
    monkeypatch.setattr("stmine_hf.cards.rendering.metadata.metadata", lambda name: found)
    assert said in where_from()
