"""The `parity` fixture: a test that compares with the authors' program asserts *and* leaves a row in a table.

```python
def test_image_embedding_parity(parity):
    parity("image embedding", (ours - reference).abs().max(), tolerance=1e-5)
```

The table is printed at the end of `pytest -k parity` (or of any run with `-v`), a plain run prints one line of it;
comparisons of one name make one row, that of the worst.
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
    return [
        (str(value[0]), float(value[1]), float(value[2]))
        for report in reports
        if getattr(report, "when", None) == "call"
        for key, value in report.user_properties
        if key == PROPERTY
    ]


def _used(row: Row) -> float:
    """Share of the tolerance that the difference uses up; above 1 is a failure, NaN counts as infinite."""
    _, tolerance, measured = row
    if math.isnan(measured):
        return math.inf
    return measured / tolerance if tolerance else (0.0 if measured == 0 else math.inf)


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Print what was compared with the authors' program, how closely it agrees and how closely it has to."""
    rows = _rows(terminalreporter)
    if not rows:
        return
    if "parity" in (config.option.keyword or "") or config.get_verbosity() > 0:
        by_quantity: dict[str, list[Row]] = {}
        for row in sorted(rows):
            by_quantity.setdefault(row[0], []).append(row)
        width = max(map(len, by_quantity))
        terminalreporter.section("parity with the authors' program: greatest absolute differences")
        header = f"{'quantity':<{width}}  {'cases':>5}  {'tolerance':>9}  {'measured':>9}  {'used':>5}"
        terminalreporter.write_line(header, bold=True)
        for quantity, cases in by_quantity.items():
            worst = max(cases, key=_used)
            line = f"{quantity:<{width}}  {len(cases):>5}  {worst[1]:>9.1e}  {worst[2]:>9.1e}  {_used(worst):>5.0%}"
            terminalreporter.write_line(line, red=_used(worst) > 1)
    failed, nearest = sum(_used(row) > 1 for row in rows), max(rows, key=_used)
    terminalreporter.write_line(
        f"parity: {len(rows)} comparisons with the authors' program, {failed or 'none'} outside its tolerance; "
        f"nearest to it: {nearest[0]} ({_used(nearest):.0%} of {nearest[1]:.0e})",
        green=not failed,
        red=bool(failed),
    )
