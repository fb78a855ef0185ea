"""Results of ``accuracy.py``: targets and a summary for the page, and every figure as a table for a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cases import ABLATIONS, LABELS, OWN, STATIONARY

Result = dict[str, Any]
Results = list[Result]

H = "height_correlation"
ERRORS = ("velocity_stable", "velocity_deforming", "displacement_stable", "displacement_deforming")
COLUMNS = {
    "velocity_stable": "velocity stable",
    "velocity_deforming": "velocity deforming",
    "displacement_stable": "displacement stable",
    "displacement_deforming": "displacement deforming",
    "gain_displacement": "gain",
    "step_gain": "step gain",
    "false_velocity": "false velocity",
    "closure": "closure",
    "seconds": "s",
}
FIGURES = ("stack", "seeds", "correction", "figure", "mean", "smallest", "largest", "ratio to h")
"""Columns of the file with every figure."""


@dataclass(frozen=True)
class Target:
    """What issue 3 asks of one kind of stack: largest ratios to h, and the range of the gain."""

    ratios: dict[str, float]
    gain: tuple[float, float] | None
    or_guard: bool = False
    """A stack on which the guard spoke does not count, for the ratios."""


def _target(*ratios: float | None, gain: tuple[float, float] | None = None, or_guard: bool = False) -> Target:
    given = {name: r for name, r in zip(ERRORS, ratios, strict=False) if r is not None}
    return Target(given, gain, or_guard)


TARGETS_STATIONARY = {
    "bowl": _target(0.55, 0.90, 0.40, 0.45, gain=(0.95, 1.05)),
    "quake": _target(0.45, 0.65, 0.40, 0.50, gain=(0.95, 1.05)),
    "transient": _target(0.65, 1.0, 0.40, 0.60, gain=(0.88, 1.12)),
    "seasonal": _target(0.55, 0.90, 0.40, 0.50, gain=(0.93, 1.07)),
    "quiet": _target(0.50),
    "weak": _target(0.60, 1.0, gain=(0.80, 1.15)),
    "topo": _target(1.0, 1.0, 1.0, 1.0, gain=(0.90, 1.10), or_guard=True),
    "sparse": _target(1.0, 1.0, 1.0, 1.0, gain=(0.90, 1.10), or_guard=True),
    "dirty": _target(1.0, 1.0, 1.0, 1.0, gain=(0.90, 1.10), or_guard=True),
}
TARGETS_REAL = {kind: replace(target, ratios={}) for kind, target in TARGETS_STATIONARY.items()} | {
    kind: replace(TARGETS_STATIONARY[kind], ratios={"velocity_stable": 0.60}) for kind in ("bowl", "quiet", "weak")
}
STEP_GAIN = (0.92, 1.08)
LABELS_RIGHT = 0.90
WITHIN_SIGMA = (0.60, 0.76)


class Table:
    """Results, looked up by kind of stack and row; cases that failed are left out."""

    def __init__(self, results: Results) -> None:
        self.failed = [r for r in results if "error" in r]
        self.results = [r for r in results if "error" not in r]
        self.kinds = list(dict.fromkeys(r["kind"] for r in self.results))

    def of(self, kind: str, row: str) -> Results:
        """Results of one row on one kind of stack, by seed."""
        found = [r for r in self.results if r["kind"] == kind and r["row"] == row]
        return sorted(found, key=lambda r: r["seed"])

    def ratio(self, kind: str, row: str, column: str, use: Callable[[Result], bool] = lambda r: True) -> float | None:
        """Ratio of a row's mean to the height correlation's on the same seeds."""
        mine = [r for r in self.of(kind, row) if use(r)]
        seeds = {r["seed"] for r in mine}
        theirs = [r for r in self.of(kind, H) if r["seed"] in seeds]
        a, b = mean(mine, column), mean(theirs, column)
        return a / b if a is not None and b and len(mine) == len(theirs) else None


def markdown(results: Results, settings: str) -> str:
    """Targets and summary; ``settings`` is a sentence on seeds and settings."""
    table = Table(results)
    parts = [settings]
    if checks := list(_checks(table)):
        parts += ["## Targets\n", "| stack | target | found | |", "|---|---|---|---|"]
        parts += [f"| {kind} | {aim} | {found} | {'met' if ok else '**not met**'} |" for kind, aim, found, ok in checks]
        parts.append("")
    parts += ["## Velocity on deforming ground\n", SUMMARY, *_summary(table), ""]
    if table.failed:
        parts += ["## Failed\n", *(f"- {r['kind']}, seed {r['seed']}, {LABELS[r['row']]}" for r in table.failed), ""]
    return "\n".join(parts)


def figures(results: Results) -> Iterator[tuple[str, ...]]:
    """Every figure of every row, as :data:`FIGURES` names the columns."""
    table = Table(results)
    for kind in table.kinds:
        for row in LABELS:
            if found := table.of(kind, row):
                seeds = [r["seed"] for r in found]
                whose = (kind, f"{min(seeds)}-{max(seeds)}" if len(seeds) > 1 else str(seeds[0]), LABELS[row])
                yield from ((*whose, *cells) for cells in _judged(table, kind, row, found))
                yield from ((*whose, *cells, "", "", "") for cells in _own(row, found))


def mean(results: Results, column: str) -> float | None:
    """Mean over the seeds; None where the figure does not exist."""
    values = [r[column] for r in results if r.get(column) is not None]
    return sum(values) / len(values) if values else None


def spoke(result: Result) -> bool:
    """Whether the user is told: by a warning of the guard that is about this kind of motion, or by a refusal."""
    said = [s for s in result.get("warnings") or [] if result["preset"] == "topo" or "removed as atmosphere" not in s]
    return bool(said or result["refused"])


# ------------------------------------------------------------------------------------------------------------- targets
def _checks(table: Table) -> Iterator[tuple[str, str, str, bool]]:
    """Kind, target, what was found, and whether that is enough."""
    yield from _check_sky(table, "", TARGETS_REAL)
    yield from _check_sky(table, STATIONARY, TARGETS_STATIONARY)


def _check_sky(table: Table, sky: str, targets: dict[str, Target]) -> Iterator[tuple[str, str, str, bool]]:
    """The targets of one sky, which the names of its kinds of stack end with."""
    for preset, target in targets.items():
        kind = preset + sky
        if ours := table.of(kind, "ours"):
            yield from _check_ratios(table, kind, target)
            if target.gain:
                yield _in_range(kind, "gain", ours, "gain_displacement", target.gain)
            if preset == "quake":
                yield _in_range(kind, "step gain", ours, "step_gain", STEP_GAIN)
            if preset == "quiet":
                yield from _check_quiet(table, kind, ours)
    kinds = [kind for kind in table.kinds if kind.endswith(STATIONARY) == (sky == STATIONARY)]
    for kind in kinds:
        if kind.startswith("broad") and (ours := table.of(kind, "ours")):
            yield _check_broad(kind, ours)
    if ours := [r for r in table.results if r["row"] == "ours" and r["kind"] in kinds]:
        right = sum(bool(r.get("labels_right")) for r in ours)
        share = right / len(ours)
        yield (
            f"all{sky}",
            f"labels right on {LABELS_RIGHT:.0%}",
            f"{share:.0%} ({right} of {len(ours)})",
            share >= LABELS_RIGHT,
        )
        low, high = WITHIN_SIGMA
        if (within := mean(ours, "within_one_sigma")) is not None:
            yield (
                f"all{sky}",
                f"{low:.0%}-{high:.0%} of errors within one sigma",
                f"{within:.0%}",
                low <= within <= high,
            )


def _check_ratios(table: Table, kind: str, target: Target) -> Iterator[tuple[str, str, str, bool]]:
    silent = [r for r in table.of(kind, "ours") if not spoke(r)]
    told = len(table.of(kind, "ours")) - len(silent)
    for column, most in target.ratios.items():
        aim = f"{COLUMNS[column]} <= {most:.2f} h"
        if not target.or_guard:
            ratio = table.ratio(kind, "ours", column)
        else:
            aim += " or the guard spoke"
            if not silent:
                yield kind, aim, f"guard spoke on all {told}", True
                continue
            ratio = table.ratio(kind, "ours", column, lambda r: not spoke(r))
        if ratio is not None:
            note = f"; guard spoke on {told}" if target.or_guard and told else ""
            yield kind, aim, f"{ratio:.2f} h{note}", ratio <= most


def _in_range(
    kind: str, name: str, results: Results, column: str, limits: tuple[float, float]
) -> tuple[str, str, str, bool]:
    low, high = limits
    value = mean(results, column)
    found = "-" if value is None else f"{value:.3f}"
    return kind, f"{name} {low:.2f}-{high:.2f}", found, value is not None and low <= value <= high


def _check_quiet(table: Table, kind: str, ours: Results) -> Iterator[tuple[str, str, str, bool]]:
    before = {r["seed"]: r for r in table.of(kind, "uncorrected")}
    pairs = [(r, before[r["seed"]]) for r in ours if r["seed"] in before]
    if pairs:
        worse = sum(a[c] > b[c] for a, b in pairs for c in ("velocity_stable", "displacement_stable"))
        yield kind, "never above uncorrected", f"above in {worse} of {2 * len(pairs)}", worse == 0
    called = sum(bool(r.get("deformation_clusters")) for r in ours)
    yield kind, "no cluster called deformation", f"called on {called} of {len(ours)}", called == 0


def _check_broad(kind: str, ours: Results) -> tuple[str, str, str, bool]:
    least = 0.90 if float(kind.split()[1]) <= 0.15 else 0.80
    silent = [r for r in ours if not spoke(r)]
    value, told = mean(silent, "gain_displacement"), len(ours) - len(silent)
    found = (
        "guard spoke on all" if value is None else f"{value:.2f} where it was silent, it spoke on {told} of {len(ours)}"
    )
    return kind, f"gain >= {least:.2f} or the guard spoke", found, value is None or value >= least


# -------------------------------------------------------------------------------------------------------------- tables
SUMMARY = """\
RMSE of the velocity, mm/yr: mean over the seeds, in brackets the ratio to the height correlation, h. The stack *quiet*
does not deform; its figures are those of stable ground.
"""


def _summary(table: Table) -> Iterator[str]:
    rows = [row for row in LABELS if row not in ABLATIONS and any(table.of(kind, row) for kind in table.kinds)]
    yield f"| stack | {' | '.join(LABELS[row] for row in rows)} |"
    yield "|---" * (len(rows) + 1) + "|"
    for kind in table.kinds:
        deforms = any(r.get("velocity_deforming") is not None for r in table.results if r["kind"] == kind)
        column = "velocity_deforming" if deforms else "velocity_stable"
        yield f"| {kind} | {' | '.join(_cell(table, kind, row, column) for row in rows)} |"


def _cell(table: Table, kind: str, row: str, column: str) -> str:
    if (value := mean(table.of(kind, row), column)) is None:
        return "-"
    ratio = table.ratio(kind, row, column) if row != H else None
    return f"{value:.2f}" if ratio is None else f"{value:.2f} ({ratio:.2f} h)"


def _judged(table: Table, kind: str, row: str, results: Results) -> Iterator[tuple[str, ...]]:
    """Figure, mean, smallest, largest and ratio, as text."""
    for column, name in COLUMNS.items():
        values = [r[column] for r in results if r.get(column) is not None]
        if not values:
            continue
        if column in ("closure", "seconds"):
            shown = format(max(values), ".0e") if column == "closure" else format(sum(values) / len(values), ".0f")
            yield name, shown, "", "", ""
            continue
        ratio = table.ratio(kind, row, column) if column in ERRORS and row != H else None
        limits = (f"{min(values):.2f}", f"{max(values):.2f}") if len(values) > 1 else ("", "")
        yield name, f"{sum(values) / len(values):.2f}", *limits, "" if ratio is None else f"{ratio:.2f}"


def _own(row: str, results: Results) -> Iterator[tuple[str, str]]:
    """What only our own rows tell: figure and value."""
    if row not in OWN or not any("labels_right" in r or r["refused"] for r in results):
        return
    of = f"of {len(results)}"
    yield "labels right", f"{sum(bool(r.get('labels_right')) for r in results)} {of}"
    yield "guard spoke", f"{sum(spoke(r) for r in results)} {of}"
    if (share := mean(results, "local_sky_share")) is not None:
        yield "share of the local sky", f"{share:.2f}"
    if (within := mean(results, "within_one_sigma")) is not None:
        yield "errors within one sigma", f"{within:.0%}"
    for r in results:
        if r["refused"]:
            yield f"left uncorrected, seed {r['seed']}", r["refused"]
