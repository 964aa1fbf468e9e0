"""Cards: the header is one that the Hub accepts; the text is filled in and its links are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ...cards.files import CARD
from ..repo_type import RepoType, header_of
from .findings import Finding, finding_of

REQUIRED: dict[RepoType, tuple[str, ...]] = {
    "model": ("license", "library_name", "pipeline_tag", "tags"),
    "dataset": ("license", "pretty_name", "task_categories", "tags"),
    "space": ("title", "sdk", "license"),
}
# The Hub's ids, without those of single models' licenses. "other" needs license_name and license_link.
LICENSES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-openrail-m", "bsd", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m", "ecl-2.0", "epl-1.0",
    "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0",
    "other", "pddl", "postgresql", "unknown", "unlicense", "wtfpl", "zlib",
}  # fmt: skip
TASKS = {
    "any-to-any", "audio-classification", "audio-text-to-text", "audio-to-audio", "automatic-speech-recognition",
    "depth-estimation", "document-question-answering", "feature-extraction", "fill-mask", "graph-ml",
    "image-classification", "image-feature-extraction", "image-segmentation", "image-text-to-text", "image-to-3d",
    "image-to-image", "image-to-text", "image-to-video", "keypoint-detection", "mask-generation", "multiple-choice",
    "object-detection", "other", "question-answering", "reinforcement-learning", "robotics", "sentence-similarity",
    "summarization", "table-question-answering", "table-to-text", "tabular-classification", "tabular-regression",
    "text-classification", "text-generation", "text-ranking", "text-retrieval", "text-to-3d", "text-to-audio",
    "text-to-image", "text-to-speech", "text-to-video", "time-series-forecasting", "token-classification",
    "translation", "unconditional-image-generation", "video-classification", "video-text-to-text",
    "visual-document-retrieval", "visual-question-answering", "voice-activity-detection", "zero-shot-classification",
    "zero-shot-image-classification", "zero-shot-object-detection",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SDKS = {"gradio", "docker", "static"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-\w+)?")
_UNFILLED = re.compile(r"\{\{|\{%|%\}|\}\}|\[More Information Needed\]|\bTODO\b|\bUndefined\b")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def check_header(folder: Path, repo_type: RepoType, code: bool) -> list[Finding]:
    """The metadata of a card.

    Args:
        folder: the repository.
        repo_type: what it is.
        code: whether loading it runs code of its own.
    """
    header = header_of(folder)
    faults = [f"no {key}" for key in REQUIRED[repo_type] if not header.get(key)]
    faults += _license_faults(header)
    tags, tasks = _list(header, "tags"), _list(header, "pipeline_tag" if repo_type == "model" else "task_categories")
    faults += [f"{task!r} is no task of the Hub" for task in tasks if task not in TASKS]
    languages = map(str, _list(header, "language"))
    faults += [f"{language!r} is no language code" for language in languages if not _LANGUAGE.fullmatch(language)]
    if code and "custom_code" not in tags:
        faults.append("tags lack custom_code, by which people see that code runs")
    if repo_type == "model":
        faults += _model_faults(folder)
    elif repo_type == "space":
        faults += _space_faults(folder, header)
    else:
        faults += _dataset_faults(folder, header)
    found = ", ".join(map(str, tasks or tags))
    findings = [finding_of("card's header", faults, f"{repo_type}; license {header.get('license')}; {found}")]
    if header.get("license") == "unknown":
        warning = "no license is stated; set one with `stmine publish build --license ID`"
        findings.append(Finding("license", "warning", warning))
    return findings


def check_text(folder: Path) -> Finding:
    """The text of a card: filled in, and its links to files of the repository are valid."""
    text = (folder / CARD).read_text(encoding="utf-8")
    prose = _CODE.sub("", REGEX_YAML_BLOCK.sub("", text, count=1))
    faults = [f"not filled in: {hit[0]}" for hit in _UNFILLED.finditer(prose)]
    links = _LINK.findall(prose)
    faults += [f"a link leads nowhere: {link}" for link in links if not (folder / link).exists()]
    if len(prose) < 200:
        faults.append("the text is almost empty")
    return finding_of("card's text", faults, f"{len(text):,} characters, {len(links)} links to files, all there")


def check_eval_results(folder: Path) -> Finding | None:
    """Scores in `.eval_results/`; None without any."""
    files = sorted((folder / ".eval_results").glob("*.yaml"))
    if not files:
        return None
    faults, entries = [], 0
    for file in files:
        try:
            entries += len(parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8"))))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{file.name}: not as the Hub reads it ({error!r})")
    return finding_of("evaluation results", faults, f"{entries} in .eval_results/")


def _license_faults(header: dict[str, Any]) -> list[str]:
    faults = []
    for license in _list(header, "license"):
        if license not in LICENSES:
            faults.append(f"{license!r} is no license id of the Hub; take `other` with license_name and license_link")
    if header.get("license") == "other" and not {"license_name", "license_link"} <= header.keys():
        faults.append("license `other` needs license_name and license_link")
    return faults


def _model_faults(folder: Path) -> list[str]:
    try:
        ModelCard.load(folder / CARD)
    except (ValueError, KeyError, TypeError) as error:
        return [f"model-index: {error}"]
    return []


def _space_faults(folder: Path, header: dict[str, Any]) -> list[str]:
    faults = [] if header.get("sdk") in SDKS else [f"sdk {header.get('sdk')!r} is none of {', '.join(sorted(SDKS))}"]
    app = header.get("app_file", "app.py")
    if header.get("sdk") == "gradio":
        faults += [] if (folder / str(app)).is_file() else [f"no {app}, which it is to run"]
        faults += [] if header.get("sdk_version") else ["no sdk_version: a new version of Gradio may break it"]
    for key in ("colorFrom", "colorTo"):
        if key in header and header[key] not in COLOURS:
            faults.append(f"{key} {header[key]!r} is none of {', '.join(sorted(COLOURS))}")
    if len(str(header.get("short_description", ""))) > 60:
        faults.append("short_description is longer than 60 characters")
    return faults


def _dataset_faults(folder: Path, header: dict[str, Any]) -> list[str]:
    """Every file pattern of `configs` finds files."""
    faults = []
    for config in header.get("configs") or []:
        files = config.get("data_files", [])
        for entry in files if isinstance(files, list) else [files]:
            paths = entry.get("path") if isinstance(entry, dict) else entry
            for path in paths if isinstance(paths, list) else [paths]:
                if not any(folder.glob(str(path))):
                    faults.append(f"configs: no file {path}")
    scripts = [file.name for file in folder.glob("*.py")]
    return faults + [f"{name}: loading scripts are no longer run" for name in scripts]


def _list(header: dict[str, Any], key: str) -> list[Any]:
    value = header.get(key) or []
    return value if isinstance(value, list) else [value]
