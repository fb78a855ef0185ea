"""Results of ``accuracy.py`` as a table."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

from cases import LABELS

COLUMNS = {
    "velocity_stable": "velocity stable, mm/yr",
    "velocity_deforming": "deforming",
    "displacement_stable": "displacement stable, mm",
    "displacement_deforming": "deforming",
    "gain_displacement": "gain",
    "false_velocity": "false velocity, mm/yr",
    "closure": "closure, rad",
    "seconds": "seconds",
}
Results = list[dict[str, Any]]


def markdown(results: Results, inps: argparse.Namespace) -> str:
    """The whole report."""
    by_kind: dict[str, dict[str, Results]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if "error" not in result:
            by_kind[result["kind"]][result["row"]].append(result)
    parts = ["# Accuracy\n"]
    for kind, rows in by_kind.items():
        parts.append(_table(kind, rows))
    return "\n".join(parts)


def mean(results: Results, column: str) -> float | None:
    """Mean over the seeds; None where the figure does not exist."""
    values = [r[column] for r in results if r.get(column) is not None]
    return sum(values) / len(values) if values else None


def _table(kind: str, rows: dict[str, Results]) -> str:
    lines = [f"## {kind}\n", f"| | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in LABELS:
        if row in rows:
            lines.append(f"| {LABELS[row]} | {' | '.join(_cell(rows[row], c) for c in COLUMNS)} |")
    return "\n".join(lines) + "\n"


def _cell(results: Results, column: str) -> str:
    values = [r[column] for r in results if r.get(column) is not None]
    if not values:
        return "-"
    digits = {"gain_displacement": 2, "closure": 6, "seconds": 0}.get(column, 2)
    return f"{sum(values) / len(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"
