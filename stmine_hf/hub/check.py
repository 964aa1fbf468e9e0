"""`stmine publish check`: check whether a folder can be published."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.files import files_in
from ..documents import DocumentError
from .checks.card import check_eval_results, check_header, check_text
from .checks.code import check_app_code, check_model_code, check_own_code, normalised
from .checks.files import (
    check_configs,
    check_entries,
    check_license,
    check_manifest,
    check_paths,
    check_pickles,
    check_sizes,
)
from .checks.findings import Finding
from .checks.loading import check_loading, has_code
from .repo_type import RepoType, header_of, repo_type_of

if TYPE_CHECKING:
    from rich.table import Table

_BEFORE_LOADING = {"entries", "no pickles", "configs", "code"}  # unknown code is not run where one of these failed
_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True)
class CheckReport:
    """Report of a check.

    Attributes:
        folder: the folder's name.
        repo_type: what it is.
        bytes: size of all files.
        findings: line by line.
        measured: of a model: seconds to import and load, parameters, greatest difference from the library.
        seconds: that the check took.
    """

    folder: str
    repo_type: RepoType
    bytes: int
    findings: list[Finding]
    measured: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not any(finding.outcome == "failed" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, **asdict(self)}

    def table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        title = f"{self.folder}: {self.repo_type}, {self.bytes:,} bytes"
        if self.measured:
            title += f", loads in {self.measured['load_seconds']:.1f} s"
        table = Table("check", "", "found", title=title)
        for finding in self.findings:
            sign = Text(finding.outcome, style=_COLORS[finding.outcome])
            table.add_row(finding.check, sign, finding.detail)
        return table


def check(folder: str | Path, *, load: bool = True) -> CheckReport:
    """Check everything that can be checked without a connection.

    Args:
        folder: of a repository of any type.
        load: open a model in a separate process; False checks files only.

    Raises:
        PublishError: no folder with a card that says what it is.
    """
    start, folder = time.perf_counter(), Path(folder)
    repo_type = repo_type_of(folder)
    entries = check_entries(folder)
    if entries.outcome == "failed":  # what a link leads to is not read
        return CheckReport(folder.absolute().name, repo_type, 0, [entries])
    code = repo_type == "model" and has_code(folder)
    findings = [
        entries,
        check_manifest(folder, required=code),
        check_pickles(folder, repo_type),
        check_sizes(folder),
        check_paths(folder),
        check_configs(folder),
    ]
    if repo_type == "model":
        findings.append(check_license(folder))
    if code:
        findings.append(_code(folder))
        if findings[-1].outcome != "failed" and (own := check_own_code(folder)):
            findings.append(own)
    elif repo_type == "space":
        findings.append(check_app_code(folder, _required(folder)))
    findings += [*check_header(folder, repo_type, code=code), check_text(folder)]
    findings += [results] if (results := check_eval_results(folder)) else []
    measured: dict[str, Any] = {}
    if code and not any(folder.glob("*.safetensors")):
        findings.append(Finding("weights", "warning", "none: there is nothing to load, and the card has to say so"))
    elif code and load:
        if any(finding.outcome == "failed" for finding in findings if finding.check in _BEFORE_LOADING):
            findings.append(Finding("loads without stmine_hf", "failed", "skipped because of the failures above"))
        else:
            loading, measured = check_loading(folder)
            findings += loading
    size = sum((folder / name).stat().st_size for name in files_in(folder))
    seconds = round(time.perf_counter() - start, 2)
    return CheckReport(folder.absolute().name, repo_type, size, findings, measured, seconds)


def _code(folder: Path) -> Finding:
    try:
        return check_model_code(folder)
    except DocumentError as error:  # what the configs name cannot be known
        return Finding("code", "failed", str(error))


def _required(folder: Path) -> set[str]:
    """Packages that a Space has: those of its requirements, Gradio and its dependencies."""
    lines = folder / "requirements.txt"
    text = lines.read_text(encoding="utf-8", errors="replace") if lines.is_file() else ""
    names = re.findall(r"^\s*([A-Za-z0-9][\w.-]*)", text, re.MULTILINE)
    brought = {"gradio", "huggingface-hub"} if header_of(folder).get("sdk") == "gradio" else set()
    return {normalised(name) for name in names} | brought
