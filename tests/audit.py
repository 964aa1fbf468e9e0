"""What is installed: a list for others (SBOM), and whether a vulnerability of it is known.

    python -m tests.audit sbom dist/sbom.json       make sbom
    python -m tests.audit check                     make audit

The programs that do it are installed into an environment of their own, outputs/audit, and look at this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "outputs" / "audit"


def tool(package: str) -> list[str]:
    """The start of a command in the environment of the programs, with this one installed."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
    return [str(python), "-m"]


def sbom(out: Path) -> str:
    """Write the list of packages with versions and licenses, as CycloneDX JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [*tool("cyclonedx-bom"), "cyclonedx_py", "environment", sys.executable]
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "-o", str(out)]
    subprocess.run([*command, *options], check=True)
    return f"{len(json.loads(out.read_text())['components'])} packages in {out}"


def check() -> tuple[str, int]:
    """Look the installed packages up; the result in words, and the exit status."""
    command = [*tool("pip-audit"), "pip_audit", "--progress-spinner", "off", "--format", "json", "--path"]
    done = subprocess.run([*command, sysconfig.get_paths()["purelib"]], capture_output=True, text=True)
    try:
        return summary(json.loads(done.stdout))
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"not audited: pip-audit got no answer from the database of vulnerabilities ({last[:200]})", 2


def summary(report: dict[str, Any]) -> tuple[str, int]:
    """A report of pip-audit in words, and the exit status: 1 for a known vulnerability, 2 if nothing was looked up.

    pip-audit itself ends with 0 and "No known vulnerabilities found" when it could look up none.
    """
    packages = report["dependencies"]
    looked_up = [one for one in packages if "vulns" in one]
    left_out = [one["name"] for one in packages if "vulns" not in one and one["name"] != "stmine-hf"]
    if not looked_up:
        return f"not audited: none of {len(packages)} packages could be looked up in the database", 2
    found = [
        f"{one['name']} {one['version']}: {vuln['id']}, fixed in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for one in looked_up
        for vuln in one["vulns"]
    ]
    lines = [*found, f"{len(looked_up)} packages looked up, {len(found)} known vulnerabilities"]
    if left_out:
        lines.append(f"{len(left_out)} could not be looked up: {', '.join(left_out)}")
    return "\n".join(lines), int(bool(found))


def main() -> int:
    if sys.argv[1:2] == ["sbom"]:
        print(sbom(Path(sys.argv[2])))
        return 0
    said, status = check()
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
