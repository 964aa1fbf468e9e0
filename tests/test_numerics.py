"""How far answers of the shipped models move with what must not matter.

    PYTHONPATH=.:tests python -m test_numerics       make numerics

prints the table of the guide on evaluation: the largest difference by each change, and what is allowed.
"""

from __future__ import annotations

import copy
import tempfile
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
MODELS = {
    "fisvl-lite-rsicd": "fisvl",
    "mttv-lite-weibo": "mttv",
    "sat-coco-small": "sat",
    "sat-indiscernible": "sat",
    "sat-aircraft": "sat",
}
TOLERANCES = {
    **dict.fromkeys(("batch size", "order", "threads", "padding"), 2e-5),
    "ONNX": 1e-4,
    "float16": 0.02,
    "bfloat16": 0.15,
}
CHANGES = {
    "batch size": "one input at a time, not four",
    "order": "the batch the other way round",
    "threads": "two threads, not one",
    "padding": "texts padded to the greatest length; images to the whole canvas",
    "ONNX": "SAT exported to ONNX, in ONNX Runtime",
    "float16": "weights and inputs in float16",
    "bfloat16": "weights and inputs in bfloat16",
}
TEXTS = (
    "many planes near a terminal",
    "a harbour",
    "假新闻 图片",
    "a green forest with a river, two roads and a pond",
)


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
        inputs = processor(images=some, return_tensors="pt", **{"do_pad": False, **options})
    else:
        inputs = processor(images=some, text=texts, return_tensors="pt", **options)
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    outputs = model(**{name: value for name, value in inputs.items() if options or name != "pixel_mask"})
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
        found["ONNX"] = answers(method, *open_exported(folder), every)
        # The points of the canvas beyond an image's own input come last, and score nothing.
        found["padding"] = answers(method, model, processor, every, do_pad=True)[:, : whole.shape[1]]
    differences = {name: float((one - whole).abs().max()) for name, one in found.items()}
    for name in ("float16", "bfloat16"):
        reduced = copy.deepcopy(model).to(getattr(torch, name))
        differences[name] = float((answers(method, reduced, processor, every) - whole).abs().max())
    return differences


def table() -> str:
    """The largest difference of each model by each change, in Markdown."""
    found = {}
    for repository, method in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[repository] = comparisons(method, *load_model(method, CARDS / repository, "cpu"), Path(folder) / "x")
    lines = [f"| change | {' | '.join(MODELS)} | allowed |", f"| --- |{' ---: |' * (len(MODELS) + 1)}"]
    for name, change in CHANGES.items():
        cells = [f"{one[name]:.1g}" if name in one else "" for one in found.values()]
        lines.append(f"| {change} | {' | '.join(cells)} | {TOLERANCES[name]:g} |")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("repository", MODELS)
def test_answers_do_not_depend_on_how_they_are_computed(tmp_path, repository):
    if not (CARDS / repository / "model.safetensors").is_file():
        pytest.skip(f"needs the weights of {repository}")
    method = MODELS[repository]
    if method == "sat":
        pytest.importorskip("onnxruntime")
    found = comparisons(method, *load_model(method, CARDS / repository, "cpu"), tmp_path / "onnx")
    assert not {name: value for name, value in found.items() if not value <= TOLERANCES[name]}


if __name__ == "__main__":
    print(table())
