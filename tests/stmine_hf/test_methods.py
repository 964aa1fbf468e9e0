"""Records of methods: everything they name is there, and nothing heavy is imported for them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import typer

import stmine_hf
from stmine_hf.cli import app
from stmine_hf.errors import StmineError
from stmine_hf.methods import METHODS, by_auto_class, get, load_named


def test_looking_up_loads_nothing_heavy():
    code = (
        "import sys; from stmine_hf.methods import METHODS, get; get('sat').adapter\n"
        "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_everything_a_record_names_is_there(method):
    texts = [getattr(method, field.name) for field in dataclasses.fields(method)]
    paths = [text for text in texts if isinstance(text, str) and ":" in text and " " not in text]
    for path in [*paths, *method.auto_models.values(), *method.pipelines.values()]:
        assert load_named(path) is not None
    assert len(paths) >= 7
    assert method.config_class.model_type == method.name
    assert load_named(method.auto_models[method.auto_class]) is method.model_class
    assert method.model_class.config_class is method.config_class
    assert method.repository_class.method == method.name
    assert (method.open_exported is None) == (method.is_exported is None)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_fields_that_a_record_calls_learning_only_exist(method):
    import fnmatch

    fields = vars(method.config_class())
    for pattern in method.learning_only:
        assert fnmatch.filter(fields, pattern), pattern


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_the_package_offers_what_the_record_names(method):
    for name, path in method.public_names():
        assert name in stmine_hf.__all__ and getattr(stmine_hf, name) is load_named(path)


@pytest.mark.parametrize("group", ["evaluate", "convert"])
def test_commands_follow_from_the_records(group):
    command = typer.main.get_command(app).commands[group]
    assert list(command.commands) == list(METHODS)
    for name, own in command.commands.items():
        assert own.help and f"stmine {group} {name} " in own.epilog


def test_looking_up():
    assert get("sat") is METHODS["sat"]
    assert METHODS["sat"] in by_auto_class("AutoModelForObjectDetection")
    assert METHODS["fisvl"] not in by_auto_class("AutoModelForObjectDetection")
    with pytest.raises(StmineError, match=f"'yolo': no such method; expected one of {', '.join(METHODS)}"):
        get("yolo")


def test_the_package_shows_its_public_names_only():
    assert dir(stmine_hf) == sorted(stmine_hf.__all__)
