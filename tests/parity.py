"""The `parity` fixture: a test that compares with the authors' program asserts *and* leaves a row in a table.

```python
def test_image_embedding_parity(parity):
    parity("image embedding", (ours - reference).abs().max(), tolerance=1e-5)
```

The table is printed at the end of `pytest -k parity` (or of any run with `-v`); a plain run prints one line of it.
Rows travel in the test reports, so the table is the same under `pytest -n`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

PROPERTY = "parity"  # key of a row among a report's user_properties
Row = tuple[str, float, float]  # quantity, tolerance, measured difference


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[[str, float, float], None]:
    """`parity(quantity, measured, tolerance)` records the row, then asserts `measured <= tolerance` (NaN fails)."""

    def check(quantity: str, measured: float, tolerance: float) -> None:
        measured = float(measured)
        request.node.user_properties.append((PROPERTY, (quantity, float(tolerance), measured)))
        assert measured <= tolerance, f"{quantity}: differs by {measured:.3g}, allowed is {tolerance:.3g}"

    return check


def _rows(terminalreporter) -> list[Row]:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    rows = [
        (str(value[0]), float(value[1]), float(value[2]))
        for report in reports
        if getattr(report, "when", None) == "call"
        for key, value in report.user_properties
        if key == PROPERTY
    ]
    return sorted(rows)


def _used(row: Row) -> float:
    """Share of the tolerance that the difference uses up: above 1 (or NaN) is a failure."""
    _, tolerance, measured = row
    return measured / tolerance if tolerance else (0.0 if measured == 0 else math.inf)


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Print what was compared with the authors' program, how closely it agrees and how closely it has to."""
    rows = _rows(terminalreporter)
    if not rows:
        return
    failed = sum(not measured <= tolerance for _, tolerance, measured in rows)
    closest = max(rows, key=lambda row: math.inf if math.isnan(row[2]) else _used(row))
    verdict = (
        f"{len(rows)} quantities compared with the authors' program, {failed or 'none'} outside its tolerance; "
        f"nearest to it: {closest[0]} ({_used(closest):.0%} of {closest[1]:.0e})"
    )
    if "parity" in (config.option.keyword or "") or config.get_verbosity() > 0:
        width = max(len(quantity) for quantity, _, _ in rows)
        terminalreporter.section("parity with the authors' program")
        terminalreporter.write_line(
            f"{'quantity':<{width}}  {'tolerance':>9}  {'measured':>9}  {'used':>5}", bold=True
        )
        for row in rows:
            quantity, tolerance, measured = row
            line = f"{quantity:<{width}}  {tolerance:>9.1e}  {measured:>9.1e}  {_used(row):>5.0%}"
            terminalreporter.write_line(line, red=not measured <= tolerance)
    terminalreporter.write_line(f"parity: {verdict}", green=not failed, red=bool(failed))
