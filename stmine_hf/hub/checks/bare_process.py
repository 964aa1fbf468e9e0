"""Open a repository's model with the Auto classes in a process where `stmine_hf` cannot be imported.

    python bare_process.py FOLDER ANSWERS.safetensors

It prints a JSON document: seconds, classes, what was missing, what the code tried to access, and how the model that
`from_pretrained` gave (built without storage, on the "meta" device, then filled) differs from one that was built on
the CPU. The tensors go to ANSWERS: `<auto class>/<field>` of each model, `processor/<name>`.

The file stands alone. Run as a script, it must not need what it checks for; `answers` is also what the library's own
models are asked.
"""

from __future__ import annotations

import time

_BEGIN = time.perf_counter()

import json  # noqa: E402  the clock comes first
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

SENTENCES = ["many planes near a terminal", "紧急通知,马上转发"]


class Absent:
    """First on `sys.meta_path`: makes this package impossible to import, whether it is installed or not."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("stmine_hf", "modeling"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Watch:
    """Records what loading a model does not need: connections, programs, files written elsewhere."""

    refuse = False

    def __init__(self, own: Path, *, refuse: bool = True) -> None:
        self.own, self.seen, self.refuse = str(own), set[str](), refuse
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "socket.connect" and not isinstance(given[1], str | bytes):  # those are sockets of this machine
            self.seen.add(f"a connection to {given[1]}")
            raise ConnectionRefusedError("this process is offline")
        program = event.startswith(("subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.system"))
        if program or event in ("os.startfile", "pty.spawn"):
            self._note(f"a program: {given[0] if given else event}")
        writes = event == "open" and isinstance(given[1], str) and bool(set(given[1]) & set("wax+"))
        changes = event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
        if (
            (writes or changes)
            and isinstance(given[0], str)
            and not given[0].startswith((self.own, "/dev/", "/proc/"))
        ):
            self._note(f"writing {given[0]}")

    def _note(self, what: str) -> None:
        self.seen.add(what)
        if self.refuse:
            raise PermissionError(f"this process may not do that: {what}")


def inputs_of(processor: Any, reads_images: bool) -> dict[str, Any]:
    """The processor's output for a drawn image, and for two sentences if it has a tokenizer."""
    from PIL import Image

    image = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    if getattr(processor, "tokenizer", None) is None:
        return dict(processor(image, return_tensors="pt"))
    images = {"images": [image, image.rotate(90)]} if reads_images else {}
    return dict(processor(text=SENTENCES, **images, return_tensors="pt"))


def answers(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The tensors that a model answers with."""
    import torch

    with torch.no_grad():
        outputs = model.eval()(**inputs)
    return {name: value.contiguous().clone() for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def reads_images(config: Any) -> bool:
    """False of the models that take features of images instead."""
    return getattr(config, "vision_config", True) is not None


def meta_faults(loaded: Any, inputs: dict[str, Any]) -> list[str]:
    """How a model from `from_pretrained` differs from one that is built on the CPU and given the same state."""
    import copy

    import torch

    with torch.device("meta"):
        type(loaded)(copy.deepcopy(loaded.config))
    built = type(loaded)(copy.deepcopy(loaded.config)).to(loaded.dtype)
    built.load_state_dict(loaded.state_dict())
    own = {**dict(built.named_parameters()), **dict(built.named_buffers())}
    other = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    faults = [f"{name} is only in one" for name in sorted(own.keys() ^ other.keys())]
    faults += [f"{name} differs" for name in own.keys() & other.keys() if not torch.equal(own[name], other[name])]
    if not faults:
        first, second = answers(built, inputs), answers(loaded, inputs)
        faults += [f"answer {name} differs" for name in first if not torch.allclose(first[name], second[name])]
    return faults


def pipelines_of(folder: Path, config: dict[str, Any], images: bool) -> dict[str, Any]:
    """What the pipelines say that the config promises, for a drawn image; None where there is no test input."""
    from PIL import Image
    from transformers import pipeline

    image = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    questions: dict[str, Any] = {
        "object-detection": lambda pipe: pipe(image, threshold=0.0)[:1],
        "zero-shot-image-classification": lambda pipe: pipe(image, candidate_labels=["planes", "trees"]),
        "fake-news-detection": lambda pipe: pipe({"text": SENTENCES[1], **({"image": image} if images else {})}),
    }
    tasks = list(config.get("custom_pipelines", {}))
    tasks += [
        task
        for entry, task in (
            ("AutoModelForObjectDetection", "object-detection"),
            ("AutoModelForZeroShotImageClassification", "zero-shot-image-classification"),
        )
        if entry in config.get("auto_map", {})
    ]
    said = {}
    for task in tasks:
        pipe = pipeline(task, model=str(folder), trust_remote_code=True)
        said[task] = questions[task](pipe) if task in questions else None
    return said


def main(name: str, answers_file: str) -> None:
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    folder = Path(name)
    import torch
    import transformers
    from safetensors.torch import save_file

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)  # type: ignore[attr-defined]
    transformers.utils.logging.disable_progress_bar()
    imported = time.perf_counter() - _BEGIN
    watch = Watch(Path(answers_file).parent)

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    source = {"pretrained_model_name_or_path": name, "trust_remote_code": True}
    start, start_cpu = time.perf_counter(), time.process_time()
    processors = "AutoProcessor" if (folder / "processor_config.json").is_file() else "AutoImageProcessor"
    processor = getattr(transformers, processors).from_pretrained(**source)
    entries = [entry for entry in config["auto_map"] if entry.startswith("AutoModel")]
    models, missing, unused, loaded, loaded_cpu = {}, {}, {}, 0.0, 0.0
    for entry in sorted(entries, key=len, reverse=True):  # the one with a task first: it is the one that people load
        models[entry], info = getattr(transformers, entry).from_pretrained(**source, output_loading_info=True)
        missing[entry], unused[entry] = sorted(info["missing_keys"]), set(info["unexpected_keys"])
        loaded = loaded or time.perf_counter() - start
        loaded_cpu = loaded_cpu or time.process_time() - start_cpu

    images = reads_images(models[entries[0]].config)
    inputs = inputs_of(processor, images)
    tensors = {f"processor/{key}": value for key, value in inputs.items()}
    for entry, model in models.items():
        tensors |= {f"{entry}/{key}": value for key, value in answers(model, inputs).items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, answers_file)
    document = {
        "import_seconds": imported,
        "load_seconds": loaded,
        "load_cpu_seconds": loaded_cpu,
        "parameters": sum(parameter.numel() for parameter in next(iter(models.values())).parameters()),
        "classes": {entry: type(model).__name__ for entry, model in models.items()},
        "processor": [processors, type(processor).__name__],
        "home": sorted({type(part).__module__.partition(".")[0] for part in (*models.values(), processor)}),
        "missing": missing,
        "unused": sorted(set.intersection(*unused.values())),  # a model without head does not use the head's tensors
        "meta": {entry: meta_faults(model, inputs) for entry, model in models.items()},
        "pipelines": pipelines_of(folder, config, images),
        "reached": sorted(watch.seen),
        "own modules": sorted(module for module in sys.modules if module.partition(".")[0] == "stmine_hf"),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print("\n" + json.dumps(document, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
