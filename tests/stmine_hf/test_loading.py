"""load_fisvl, load_mttv, load_sat: what is opened, and the one-line refusals of what cannot be."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from stmine_hf import Detector, loading
from stmine_hf.detect.results import stored_identity
from stmine_hf.errors import StmineError
from stmine_hf.loading import load_fisvl, load_mttv, load_sat
from stmine_hf.model_identity import file_digest, weights_digest
from stmine_hf.posts.detectors import load_detector


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_tiny_fisvl(tmp_path / "model")


def test_ready_for_use(folder):
    model, processor = load_fisvl(folder)
    assert not model.training and model.dtype == torch.float32
    with torch.no_grad():
        assert model(**processor(text="a plane")).text_embeds.shape == (1, 32)
    assert load_fisvl(str(folder), device="cpu")[0].device.type == "cpu"


def test_loading_shows_no_bar_and_leaves_the_bars_of_the_process_alone(folder, capfd):
    from transformers.utils import logging

    seen = []

    def of_the_user(factory, args, options):
        seen.append(options.get("desc"))
        return factory(*args, **options)

    active, before = logging.is_progress_bar_enabled(), logging.set_tqdm_hook(of_the_user)
    try:
        logging.enable_progress_bar()
        with ThreadPoolExecutor(2) as pool:
            for model, _ in pool.map(load_fisvl, [folder, folder]):
                assert not model.training
        assert "Loading" not in capfd.readouterr().err and logging.is_progress_bar_enabled()
        list(logging.tqdm([1], desc="mine"))
        assert seen == ["mine"] and "mine" in capfd.readouterr().err
        assert logging.set_tqdm_hook(None) is of_the_user
    finally:
        logging.set_tqdm_hook(before)
        if not active:
            logging.disable_progress_bar()


METHODS = {
    "fisvl": (save_tiny_fisvl, load_fisvl),
    "mttv": (save_tiny_mttv, load_mttv),
    "sat": (save_tiny_sat, load_sat),
}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_opens_its_own_models_only(method, tmp_path):
    save, load = METHODS[method]
    model, processor = load(save(tmp_path / "model"))
    assert (model.config.model_type, model.training) == (method, False)
    assert type(processor).__name__.startswith(method.capitalize())
    for other, (_, load_other) in METHODS.items():
        if other != method:
            with pytest.raises(StmineError, match=f"expected a {other.upper()} model, found one of type '{method}'"):
                load_other(tmp_path / "model")


@pytest.mark.parametrize("half", [False, True])
def test_the_files_of_a_detector_identify_it_before_it_is_loaded(half, tmp_path):
    folder = save_tiny_sat(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    if half:
        weights = {name: one.half() if one.is_floating_point() else one for name, one in weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    detector = Detector(folder)
    assert stored_identity(folder, detector.names) == detector.identity
    name = next(name for name, one in weights.items() if one.is_floating_point())
    save_file(weights | {name: weights[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    assert stored_identity(folder, detector.names) not in (None, detector.identity)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_surely_other_only_where_both_files_show_it(method, tmp_path):
    save, load = METHODS[method]
    folder, copy = save(tmp_path / "model"), save(tmp_path / "copy")
    record, digest = loading.METHODS[method], weights_digest(load(folder)[0])
    weights = load_file(folder / "model.safetensors")
    keeps_names = file_digest(folder / "model.safetensors")[0] == digest
    assert keeps_names or method == "fisvl"  # its Swin's tensors are renamed while it is loaded

    def is_other(values: dict, known: str | Path = folder) -> bool:
        save_file(values, copy / "model.safetensors", metadata={"format": "pt"})
        return loading.is_surely_other(copy, known, digest, record)

    name = next(name for name, one in weights.items() if one.is_floating_point())
    changed = weights | {name: weights[name] + 1}
    assert not is_other(weights)
    assert is_other(changed) == keeps_names
    assert not is_other(changed, tmp_path / "moved") and not is_other(changed, "jane-doe/on-the-hub")
    assert not is_other({f"{key}.renamed": one for key, one in changed.items()})
    assert not is_other({key: one.bfloat16() for key, one in changed.items()})  # NumPy has no such type of its own
    with suppress(ImportError):
        import ml_dtypes  # noqa: F401 - which adds it
    assert not is_other({key: one.bfloat16() for key, one in changed.items()})
    (copy / "model.safetensors").write_bytes(b"damaged")
    assert not loading.is_surely_other(copy, folder, digest, record)


def test_half_precision_is_opened_as_float32(folder):
    weights = load_file(folder / "model.safetensors")
    halved = {name: t.bfloat16() if t.is_floating_point() else t for name, t in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    assert {p.dtype for p in load_fisvl(folder)[0].parameters()} == {torch.float32}


def test_code_in_the_folder_is_not_run(folder):
    for path in folder.glob("*.py"):
        path.write_text("raise SystemExit('was run')")
    load_fisvl(folder)


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def without(*names: str):
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def drop_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head_img.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 64}))


def contradiction(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"fusion": False}))


BROKEN = {
    "no config": (without("config.json"), "no model found"),
    "config cut short": (lambda folder: (folder / "config.json").write_text('{"model_type": '), "no model found"),
    "contradiction in the config": (contradiction, "fusion=False"),
    "another model": (
        lambda folder: BertConfig().save_pretrained(folder),
        "found one of type 'bert'",
    ),
    "no weights": (without("model.safetensors"), "cannot be loaded"),
    "weights cut short": (cut, "cannot be loaded"),
    "weights of another size": (other_width, "cannot be loaded"),
    "a tensor missing": (drop_tensor, "1 tensors are missing in model.safetensors (head_img.weight)"),
    "no processor": (without("processor_config.json"), "cannot be loaded"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "cannot be loaded"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_opened_is_refused_in_one_line(kind, folder):
    spoil, message = BROKEN[kind]
    spoil(folder)
    with pytest.raises(StmineError) as refusal:
        load_fisvl(folder)
    assert message in str(refusal.value) and str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["nowhere", "no/where/at/all", "someone/some-model"])
def test_what_is_not_there_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StmineError, match=f"{name}: no model found. Expected a folder with config.json") as refusal:
        load_fisvl(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("device", ["warp", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device, folder):
    with pytest.raises(StmineError, match=f"device '{device}': not usable here") as refusal:
        load_fisvl(folder, device=device)
    assert "\n" not in str(refusal.value)


def test_short_names_open_the_shipped_checkpoints(tmp_path, monkeypatch):
    cards = tmp_path / "hub_cards"
    monkeypatch.setattr(loading, "_CARDS", cards)
    monkeypatch.chdir(tmp_path)
    save_tiny_sat(cards / "sat-indiscernible")
    assert loading.resolve("sat-indiscernible") == str(cards / "sat-indiscernible")
    assert load_sat("sat-indiscernible")[0].config.model_type == "sat"
    assert loading.resolve("owner/name") == "owner/name" and loading.resolve(tmp_path) == str(tmp_path)
    with pytest.raises(StmineError, match="expected a MTTV model, found one of type 'sat'"):
        load_mttv("sat-indiscernible")


def test_a_local_folder_wins_over_a_shipped_checkpoint_and_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loading, "_CARDS", tmp_path / "hub_cards")
    save_tiny_sat(tmp_path / "hub_cards" / "sat-coco-small")
    monkeypatch.chdir(tmp_path / "hub_cards")
    assert loading.resolve("sat-coco-small") == "sat-coco-small" and not caplog.records  # the same folder
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    save_tiny_sat(tmp_path / "mine" / "sat-coco-small")
    assert loading.resolve("sat-coco-small") == "sat-coco-small"
    assert "using the local folder of this name, not the shipped checkpoint" in caplog.text


def test_an_unknown_short_name_lists_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for load in (load_fisvl, load_mttv, load_sat, load_detector):
        with pytest.raises(StmineError) as refused:
            load("sat-coco-smal")
        for part in ("sat-coco-small, sat-indiscernible", "fisvl-lite-rsicd", "not on the Hub yet", "owner/name"):
            assert part in str(refused.value)


def test_without_a_checkout_the_message_says_where_the_weights_are(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_CARDS", tmp_path / "nothing")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("sat-indiscernible", None):
        with pytest.raises(StmineError, match=r"The installed package has no weights.*CHECKOUT/hub_cards/sat-"):
            load_sat(name)
