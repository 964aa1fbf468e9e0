"""How far answers of the shipped models move with what must not matter: `pytest tests/test_numerics.py -s`.

The table names the largest difference of each: batch size, order, threads, padding, bfloat16 and the engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import ROOT
from PIL import Image

from stmine_hf.loading import load_model

CARDS = ROOT / "hub_cards"
# Repository: method, and the tolerance of each comparison, in units of its output.
MODELS = {"fisvl-lite-rsicd": "fisvl", "mttv-lite-weibo": "mttv", "sat-coco-small": "sat", "sat-indiscernible": "sat"}
TOLERANCES = {"batch size": 2e-5, "order": 2e-5, "threads": 2e-5, "padding": 2e-5, "bfloat16": 0.15, "onnx": 1e-4}
TEXTS = (
    "many planes near a terminal",
    "a harbour",
    "假新闻 图片",
    "a green forest with a river, two roads and a pond",
)
TABLE: list[str] = []


def images() -> list[Image.Image]:
    """Four that have structure at all sizes, of one size, so that padding is a case of its own."""
    y, x = np.mgrid[0:200, 0:240] / 200
    waves = [
        [np.sin(6 * (a + k) * x + 4 * (b - k) * y) for k in range(3)] for a, b in ((1, 2), (3, 1), (2, 5), (7, 4))
    ]
    return [Image.fromarray(np.uint8(127 + 120 * np.stack(one, axis=-1))) for one in waves]


@torch.inference_mode()
def answers(method: str, model: Any, processor: Any, chosen: list[int], **options: Any) -> torch.Tensor:
    """(B, ...) in float32: embeddings of images and texts, logits, or class scores."""
    some = [images()[number] for number in chosen]
    texts = [TEXTS[number] for number in chosen]
    dtype = next(model.parameters(), torch.zeros(1)).dtype
    if method == "sat":
        inputs = processor(images=some, return_tensors="pt")
    else:
        inputs = processor(images=some, text=texts, return_tensors="pt", **options)
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    outputs = model(**{name: value for name, value in inputs.items() if name != "pixel_mask"})
    if method == "fisvl":
        return torch.cat([outputs.image_embeds, outputs.text_embeds], dim=-1).float()
    return outputs.logits.float().sigmoid() if method == "sat" else outputs.logits.float().softmax(dim=-1)


def comparisons(method: str, model: Any, processor: Any, folder: Path) -> dict[str, float]:
    """The largest difference to the answers for all four at once."""
    every = [0, 1, 2, 3]
    whole = answers(method, model, processor, every)
    single = torch.cat([answers(method, model, processor, [number]) for number in every])
    found = {"batch size": single, "order": answers(method, model, processor, every[::-1]).flip(0)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    found["threads"] = answers(method, model, processor, every)
    torch.set_num_threads(threads)
    if method != "sat":
        found["padding"] = answers(method, model, processor, every, padding="max_length")
    else:
        from stmine_hf.export.sat import export_sat, open_exported

        export_sat(model, processor, folder, format="onnx")
        found["onnx"] = answers(method, *open_exported(folder), every)
    differences = {name: float((one - whole).abs().max()) for name, one in found.items()}
    reduced = answers(method, model.to(torch.bfloat16), processor, every)
    return differences | {"bfloat16": float((reduced - whole).abs().max())}


@pytest.mark.slow
@pytest.mark.parametrize("repository", MODELS)
def test_answers_do_not_depend_on_how_they_are_computed(tmp_path, repository):
    if not (CARDS / repository / "model.safetensors").is_file():
        pytest.skip(f"needs the weights of {repository}")
    method = MODELS[repository]
    if method == "sat":
        pytest.importorskip("onnxruntime")
    found = comparisons(method, *load_model(method, CARDS / repository, "cpu"), tmp_path / "onnx")
    for name, difference in found.items():
        TABLE.append(f"{repository:20} {name:12} {difference:10.2g} {TOLERANCES[name]:10.2g}")
    print(f"\n{'model':20} {'':12} {'difference':>10} {'tolerance':>10}", *TABLE, sep="\n")
    assert not {name: value for name, value in found.items() if not value <= TOLERANCES[name]}
