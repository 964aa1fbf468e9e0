"""Loading: a process without this package opens the model, offline, and answers as the library's own classes do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ...documents import read_json
from . import bare_process
from .findings import Finding, judged

_TIMEOUT = 600  # seconds
_CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # same code, same machine: equal but for the order of sums


def check_loading(folder: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Load a model where a stranger would, and compare.

    Args:
        folder: a model's repository.

    Returns:
        What was found, and what was measured: `import_seconds` (torch and transformers), `load_seconds` (processor
        and the model with a task, in a new process), `load_cpu_seconds` (the same on a machine with nothing else to
        do), `parameters`, `difference` (from the library, greatest).
    """
    with tempfile.TemporaryDirectory(prefix="stmine-check-") as work:
        answers = Path(work) / "answers.safetensors"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": work, "HF_MODULES_CACHE": str(Path(work) / "modules")}
        words = [sys.executable, "-I", bare_process.__file__, str(folder.absolute()), str(answers)]
        try:
            done = subprocess.run(
                words, env=environment, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return [Finding("loads without stmine_hf", "failed", f"no answer in {_TIMEOUT} seconds")], {}
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return [Finding("loads without stmine_hf", "failed", lines[-1][:300])], {}
        document = json.loads(done.stdout.strip().splitlines()[-1])
        compared, difference = _compare(folder, document, answers)
    measured = {
        key: document[key] for key in ("import_seconds", "load_seconds", "load_cpu_seconds", "parameters", "versions")
    }
    return [*_findings(document), compared], measured | {"difference": difference}


def _findings(document: dict[str, Any]) -> list[Finding]:
    classes = ", ".join(f"{entry}: {cls}" for entry, cls in document["classes"].items())
    lost = [f"{entry} lacks {', '.join(keys[:3])}" for entry, keys in document["missing"].items() if keys]
    lost += [f"{name} belongs to no model" for name in document["unused"]]
    strange = [f"{module} was imported" for module in document["own modules"]]
    strange += [] if document["home"] == ["transformers_modules"] else [f"classes come from {document['home']}"]
    meta = [f"{entry}: {fault}" for entry, faults in document["meta"].items() for fault in faults]
    tasks = ", ".join(document["pipelines"]) or "none promised"
    seconds = f"{document['load_seconds']:.1f} s ({document['load_cpu_seconds']:.1f} s of one core) after imports"
    return [
        judged("loads without stmine_hf", strange, f"{classes}; {seconds}, offline"),
        judged("weights complete", lost, f"{document['parameters']:,} parameters, none missing, none left over"),
        judged("same as built on the CPU", meta, "all parameters, buffers and answers"),
        judged("touches nothing else", document["reached"], "no connection, no program, no file written elsewhere"),
        Finding("pipelines", "ok", tasks),
    ]


def _compare(folder: Path, document: dict[str, Any], answers: Path) -> tuple[Finding, float | None]:
    """Ask the library's classes the same."""
    import torch
    from safetensors.torch import load_file

    import stmine_hf

    strangers = load_file(answers)
    door, processor_class = document["processor"]
    names = {**document["classes"], door: processor_class}
    unknown = sorted({name for name in names.values() if name not in stmine_hf.__all__})
    if unknown:
        return Finding("same as the library", "warning", f"the library has no {', '.join(unknown)} to ask"), None
    own: dict[str, torch.Tensor] = {}
    processor = getattr(stmine_hf, processor_class).from_pretrained(folder)
    for entry, cls in document["classes"].items():
        model = getattr(stmine_hf, cls).from_pretrained(folder)
        inputs = bare_process.inputs_of(processor, bare_process.reads_images(model.config))
        own |= {f"processor/{key}": value for key, value in inputs.items()}
        own |= {f"{entry}/{key}": value for key, value in bare_process.answers(model, inputs).items()}
    faults = [f"{name} is only in one" for name in sorted(own.keys() ^ strangers.keys())]
    difference = 0.0
    for name in sorted(own.keys() & strangers.keys()):
        theirs, ours = strangers[name], own[name]
        if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours.float(), equal_nan=True, **_CLOSE):
            faults.append(f"{name} differs")
        elif theirs.numel():
            difference = max(difference, (theirs.float() - ours.float()).abs().max().item())
    fine = f"{len(own)} tensors for a drawn image, greatest difference {difference:.1e}"
    return judged("same as the library", faults, fine), difference


def has_code(folder: Path) -> bool:
    """Whether there is a model with code of its own, be it without weights yet."""
    return (folder / "config.json").is_file() and "auto_map" in read_json(folder / "config.json")
