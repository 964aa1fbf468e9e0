"""Loading: a process without this package opens the model, offline, and answers as the library's own classes do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ... import modeling
from ...documents import DocumentError, parse_json, read_json
from . import bare_process, library_process, sandbox
from .findings import Finding, finding_of

_TIMEOUT = 600  # seconds
_MEMORY = 8_000_000_000  # bytes beside what the weights take
_LIMITS = {"CPU": 1200, "FSIZE": 2_000_000_000, "NOFILE": 1024, "CORE": 0}
_LARGEST_ANSWER = 1_000_000  # bytes
_MEASURED = ("import_seconds", "load_seconds", "load_cpu_seconds", "parameters", "versions")
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/proc", "/sys")
# Variables that are passed on; no tokens.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH", "SYSTEMROOT")


def check_loading(folder: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Load a model in a sandbox without this package, and compare.

    Args:
        folder: a model's repository.

    Returns:
        What was found, and what was measured: `import_seconds` (torch and transformers), `load_seconds` (processor
        and the model with a task, in a new process), `load_cpu_seconds` (the same on a machine with nothing else to
        do), `parameters`, `difference` (from the library, greatest).
    """
    with tempfile.TemporaryDirectory(prefix="stmine-check-") as temporary:
        work = Path(temporary).resolve()
        ended = run_in_sandbox(
            bare_process.__file__,
            [str(folder.absolute()), str(work / "bare" / "answers.safetensors")],
            work / "bare",
            [folder.absolute()],
        )
        if isinstance(ended, str):
            return [Finding("loads without stmine_hf", "failed", ended)], {}
        document, used = ended
        try:
            findings = [*_findings(document), _sandbox_finding(used)]
            measured = {name: document[name] for name in _MEASURED}
            difference = None
            if not any(finding.outcome == "failed" for finding in findings[:1]):
                compared, difference = _compare(folder.absolute(), document, work)
                findings.append(compared)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # the model's code may have written it
            return [Finding("loads without stmine_hf", "failed", f"the answer is damaged ({error!r})")], {}
    return findings, measured | {"difference": difference}


def run_in_sandbox(
    script: str, arguments: list[str], work: Path, readable: Sequence[Path]
) -> tuple[dict[str, Any], list[str]] | str:
    """Run a script that prints a JSON document, in a process with as few rights as this system allows.

    Args:
        script: a Python file.
        arguments: of it.
        work: the only folder that it may write to, where it starts and which is its home. It is made here: nothing
            in it is from before, and nothing in it is opened afterwards.
        readable: what it may read besides Python and its packages.

    Returns:
        The document and the layers of the sandbox, or what went wrong in one line.
    """
    work.mkdir()
    weights = sum(file.stat().st_size for folder in readable for file in folder.glob("*.safetensors"))
    python = {sys.prefix, sys.base_prefix, *sys.path, *_SYSTEM, str(Path(script).parent)}
    specification: dict[str, Any] = {
        "script": script,
        "arguments": arguments,
        "readable": sorted({os.path.realpath(place) for place in (*python, *map(str, readable)) if place}),
        "writable": str(work),
        "limits": _LIMITS | {"DATA": _MEMORY + 6 * weights},
    }
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work), "HF_MODULES_CACHE": str(work / "modules")}
    environment |= dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME"), str(work))
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as report:
        keeps = sys.platform != "win32"  # there no other descriptors can be handed on, nor is there a layer to report
        specification["report"] = report.fileno() if keeps else os.devnull
        (work / "specification.json").write_text(json.dumps(specification), encoding="utf-8")
        words = [sys.executable, "-I", sandbox.__file__, str(work / "specification.json")]
        process = subprocess.Popen(  # noqa: S603  this interpreter, no words of others
            words, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            pass_fds=[report.fileno()] if keeps else [],
        )  # fmt: skip
        try:
            code = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"no answer in {_TIMEOUT} seconds"
        finally:
            _kill_all(process)
        if code:
            lines = _last_lines(err) or [f"exit code {code}"]
            return lines[-1][:300]
        try:
            document = parse_json(_last_lines(out)[-1], "the answer")
            used = parse_json("".join(_last_lines(report)) or "[]", "the sandbox's report")
            if not isinstance(document, dict):
                raise DocumentError("the answer: no JSON object")
        except (DocumentError, IndexError) as error:
            return f"the process ended without an answer ({error})"
    return document, [str(layer) for layer in used]


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """End a process and the processes that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _last_lines(file: IO[bytes]) -> list[str]:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LARGEST_ANSWER))
    return file.read(_LARGEST_ANSWER).decode("utf-8", errors="replace").strip().splitlines()


def _sandbox_finding(used: list[str]) -> Finding:
    layers = {
        "namespaces": "own namespaces (no network, no other processes)",
        "Landlock": "Landlock (files, programs)",
        "limits": "limits of memory and time",
    }
    named = [words for name, words in layers.items() if name in used]
    weak = not {"namespaces", "Landlock"} <= {*used}
    detail = ", ".join([*named, "an audit hook"])
    return Finding("sandbox", "warning" if weak else "ok", detail + (": weaker than on Linux 6" if weak else ""))


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
        finding_of("loads without stmine_hf", strange, f"{classes}; {seconds}, offline"),
        finding_of("weights complete", lost, f"{document['parameters']:,} parameters, none missing, none left over"),
        finding_of("same as built on the CPU", meta, "all parameters, buffers and answers"),
        finding_of(
            "touches nothing else", document["reached"], "no connection, no program, no file written elsewhere"
        ),
        Finding("pipelines", "ok", tasks),
    ]


def _compare(folder: Path, document: dict[str, Any], work: Path) -> tuple[Finding, float | None]:
    """Run the library's classes on the same inputs, in a sandbox too, since they read the repository's files."""
    import stmine_hf

    door, processor_class = document["processor"]
    names = {**document["classes"], door: processor_class}
    unknown = sorted({str(name) for name in names.values() if name not in stmine_hf.__all__})
    if unknown:
        return Finding("same as the library", "warning", f"the library has no {', '.join(unknown)} to ask"), None
    asked = json.dumps({"classes": document["classes"], "processor": processor_class})
    answers = work / "bare" / "answers.safetensors"
    package = [Path(place).absolute() for place in (*stmine_hf.__path__, *modeling.__path__)]
    ended = run_in_sandbox(
        library_process.__file__,
        [str(folder), asked, str(answers)],
        work / "library",
        [folder, answers.parent, *package],
    )
    if isinstance(ended, str):
        return Finding("same as the library", "failed", ended), None
    faults, difference = [str(fault) for fault in ended[0]["faults"]], float(ended[0]["difference"])
    fine = f"{ended[0]['tensors']} tensors for a drawn image, greatest difference {difference:.1e}"
    return finding_of("same as the library", faults, fine), difference


def has_code(folder: Path) -> bool:
    """Whether there is a model with code of its own, even without weights."""
    try:
        return (folder / "config.json").is_file() and "auto_map" in read_json(folder / "config.json")
    except DocumentError:  # which is reported elsewhere; here code cannot be ruled out
        return True
