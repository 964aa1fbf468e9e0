"""The library's process: runs this package's classes on the inputs of bare_process.py, and compares the answers.

    python library_process.py FOLDER '{"classes": {...}, "processor": ...}' ANSWERS.safetensors

It prints a JSON document: how many tensors were compared, the greatest difference, and which differ.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # same code, same machine: equal except for the order of sums


def main(name: str, asked: str, answers_file: str) -> None:
    import torch
    from safetensors.torch import load_file

    import stmine_hf
    from stmine_hf.hub.checks import bare_process

    folder, wanted = Path(name), json.loads(asked)
    bare_process.Watch(Path(os.getcwd()))
    theirs = load_file(answers_file)
    ours: dict[str, Any] = {}
    processor = getattr(stmine_hf, wanted["processor"]).from_pretrained(folder)
    for entry, kind in wanted["classes"].items():
        model = getattr(stmine_hf, kind).from_pretrained(folder)
        inputs = bare_process.inputs_of(processor, bare_process.reads_images(model.config))
        ours |= {f"processor/{key}": value for key, value in inputs.items()}
        ours |= {f"{entry}/{key}": value for key, value in bare_process.answers(model, inputs).items()}
    faults = [f"{name} is only in one" for name in sorted(ours.keys() ^ theirs.keys())]
    difference = 0.0
    for name in sorted(ours.keys() & theirs.keys()):
        first, second = ours[name], theirs[name]
        if first.shape != second.shape or not torch.allclose(second.float(), first.float(), equal_nan=True, **_CLOSE):
            faults.append(f"{name} differs")
        elif second.numel():
            difference = max(difference, (second.float() - first.float()).abs().max().item())
    print("\n" + json.dumps({"tensors": len(ours), "difference": difference, "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
