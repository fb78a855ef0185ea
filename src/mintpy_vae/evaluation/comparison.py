"""Compare corrections of the user's own stack on the same inversion and grid, with the same scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Floats, Mask
from ..errors import InputError
from . import gnss_series
from .methods import EVERYWHERE, METHODS, EvaluationData, Method, Unavailable
from .rerun import Rerun

SAMPLED_PAIRS = 40
NO_CORRECTIONS = ("zero", "line")
"""Rows that show how a figure can mislead; they take no part in the verdict."""
DRAWS, FEWEST_DATES = 1000, 5

COLUMNS: dict[str, dict[str, str]] = {
    "velocity_std": {"title": "velocity std, stable", "unit": "mm/yr"},
    "velocity_uncertainty": {"title": "velocity uncertainty", "unit": "mm/yr"},
    "pair_std": {"title": "pair std", "unit": "mm"},
    "pairs_worse": {"title": "pairs worse", "unit": "%"},
    "date_std": {"title": "date std", "unit": "mm"},
    "velocity_range": {"title": "velocity range", "unit": "km"},
    "velocity_sill": {"title": "velocity sill", "unit": "(mm/yr)^2"},
    "pair_range": {"title": "pair range", "unit": "km"},
    "pair_sill": {"title": "pair sill", "unit": "mm^2"},
    "height_correlation": {"title": "phase-elevation correlation", "unit": ""},
    "height_correlation_high_pass": {"title": "the same, high-pass", "unit": ""},
    "velocity_stable": {"title": "velocity RMSE, stable", "unit": "mm/yr"},
    "velocity_deforming": {"title": "velocity RMSE, deforming", "unit": "mm/yr"},
    "displacement_stable": {"title": "displacement RMSE, stable", "unit": "mm"},
    "displacement_deforming": {"title": "displacement RMSE, deforming", "unit": "mm"},
    "gain_velocity": {"title": "gain, velocity", "unit": ""},
    "gain_displacement": {"title": "gain, displacement", "unit": ""},
    "gnss_rate_error": {"title": "rate minus GNSS", "unit": "mm/yr"},
    "gnss_rms": {"title": "RMS against GNSS", "unit": "mm"},
}
"""Scores of a row in the order of the table; scores that cannot be computed are left out."""


# --------------------------------------------------------------------------------------------------------------- scores
def scores(series: Floats, scene: EvaluationData) -> dict[str, float]:
    """Scores of one method: a row of the table.

    Parameters
    ----------
    series : (dates, h, w)
        Corrected displacement, metres.
    scene : EvaluationData

    Returns
    -------
    dict
        Scores by the keys of :data:`COLUMNS`.
    """
    inverted, years = scene.inverted, scene.inverted.years
    km = (inverted.pixel[0] / 1000, inverted.pixel[1] / 1000)
    still = np.where(scene.stable, 1000 * np.asarray(series, dtype=np.float64), np.nan)
    rate = metrics.velocity(still, years)
    flat = still[:, scene.stable & np.isfinite(series).all(axis=0)]
    noise = scene.noise_of_pairs(series)
    some = scene.pairs[:: max(1, len(scene.pairs) // SAMPLED_PAIRS)]
    maps = [still[j] - still[i] for i, j in some]
    blur = max(2.0, 0.05 * min(inverted.valid.shape))
    correlation, high = (
        _median([abs(metrics.height_correlation(m, inverted.height, h)) for m in maps]) for h in (None, blur)
    )
    reach, sill = metrics.range_and_sill(*metrics.semivariogram(rate, km))
    pair_reach, pair_sill = metrics.range_and_sill(*_mean_variogram(maps, km))
    row = {
        "velocity_std": metrics.spatial_std(rate),
        "velocity_uncertainty": float(np.nanmedian(metrics.velocity_uncertainty(still, years))),
        "pair_std": 1000 * float(np.median(noise)),
        "pairs_worse": 100 * float(_noisier(noise, scene).mean()),
        "date_std": float(np.median((flat - flat.mean(axis=0)).std(axis=1))),
        "velocity_range": reach,
        "velocity_sill": sill,
        "pair_range": pair_reach,
        "pair_sill": pair_sill,
        "height_correlation": correlation,
        "height_correlation_high_pass": high,
    }
    if scene.truth is not None and scene.moves is not None:
        row |= metrics.compare(series, scene.truth, years, scene.moves, inverted.valid)
    return row | _against_gnss(series, scene)


def _noisier(noise: Floats, scene: EvaluationData) -> Mask:
    """Pairs whose ``noise`` (pairs,) is larger than without correction, (pairs,)."""
    return np.asarray(noise > 1.001 * scene.noise_before)


# -------------------------------------------------------------------------------------------------------------- verdict
def squared_errors(series: Floats, scene: EvaluationData) -> Floats:
    """Mean squared error of each date against the truth or GNSS, (dates,) square metres; NaN where neither tells."""
    if scene.truth is not None:
        error = (series - scene.truth)[:, scene.inverted.valid]
        error = error - np.nanmedian(error[:, scene.stable[scene.inverted.valid]], axis=1, keepdims=True)
        error = error - np.nanmean(error, axis=0)
        return np.asarray(np.nanmean(error**2, axis=1))
    if not scene.baselines:
        return np.full(len(series), np.nan)
    residuals = np.array([values - truth for values, truth in _doubles(series, scene).values()])
    known = np.isfinite(residuals)
    residuals = np.where(known, residuals, 0.0)
    level = residuals.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    squares, number = np.where(known, (residuals - level) ** 2, 0.0).sum(axis=0), known.sum(axis=0)
    return np.where(number > 0, squares / np.maximum(number, 1), np.nan)


def _compared(scene: EvaluationData) -> list[str]:
    """Names of the stations with enough dates in common with the stack and another station."""
    figures = _figures(scene.inverted.before, scene)
    used = {k for pair, found in figures.items() if np.isfinite(found["rms"]) for k in pair}
    return [scene.stations[k].name for k in sorted(used)]


def _judge(scene: EvaluationData, names: Sequence[str]) -> str:
    """What the corrections are compared with, a truth or stations of these names; empty if there is nothing."""
    if scene.truth is not None:
        return "the truth"
    if not names:
        return "the GNSS stations" if scene.stations else ""
    return f"GNSS at {len(names)} stations ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def verdict(errors: Mapping[str, Floats], judge: str) -> str:
    """Which correction is best here, and how sure that is, in one sentence.

    How sure: the share of bootstrap samples of the dates in which the best correction stays the best.

    Parameters
    ----------
    errors : mapping of str to (dates,)
        Of :func:`squared_errors`, by label.
    judge : str
        What they were compared with; empty if with nothing.
    """
    if not judge:
        return (
            "Noise alone cannot tell which correction is best, since removing everything removes the noise too: give "
            "GNSS (--gnss) or a truth (--truth)."
        )
    judged = {label: own for label, own in errors.items() if np.isfinite(own).sum() >= FEWEST_DATES}
    table, labels = np.array(list(judged.values())), list(judged)
    known = np.isfinite(table).all(axis=0) if len(table) > 1 else np.zeros(0, dtype=bool)
    if known.sum() < FEWEST_DATES:
        return (
            f"Which correction is best cannot be told from {judge}: fewer than two corrections, or fewer than "
            f"{FEWEST_DATES} dates, can be compared."
        )
    table = table[:, known]
    rms = 1000 * np.sqrt(table.mean(axis=1))
    order = np.argsort(rms)
    draws = np.random.default_rng(0).integers(0, table.shape[1], (DRAWS, table.shape[1]))
    wins = float((table[:, draws].mean(axis=2).argmin(axis=0) == order[0]).mean())
    return (
        f"Best here against {judge}: {labels[order[0]]} (RMS {rms[order[0]]:.1f} mm), before {labels[order[1]]} "
        f"({rms[order[1]]:.1f} mm); it stays the best in {wins:.0%} of {DRAWS} bootstrap samples of the dates."
    )


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.median(known)) if known else float("nan")


def _mean_variogram(maps: list[Floats], km: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    distance, gamma, number = zip(*(metrics.semivariogram(m, km) for m in maps), strict=True)
    return distance[0], np.mean(gamma, axis=0), number[0]


def _against_gnss(series: Floats, scene: EvaluationData) -> dict[str, float]:
    """Root mean square over all baselines between stations: no station is more of a reference than another."""
    found = list(_figures(series, scene).values())
    if not found:
        return {}
    errors = [f["rate"] - f["gnss_rate"] for f in found]
    if len(found) == 1:
        return {"gnss_rate_error": errors[0], "gnss_rms": found[0]["rms"]}
    both = (("gnss_rate_error", errors), ("gnss_rms", [f["rms"] for f in found]))
    return {key: _rms(values) for key, values in both}


def _figures(series: Floats, scene: EvaluationData) -> dict[tuple[int, int], dict[str, float]]:
    """Comparison of each baseline by the numbers of its stations, see :func:`.gnss_series.compare`."""
    years = scene.inverted.years
    return {pair: gnss_series.compare(*both, years) for pair, both in _doubles(series, scene).items()}


def _rms(values: Sequence[float]) -> float:
    known = np.array([value for value in values if np.isfinite(value)])
    return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")


def _doubles(series: Floats, scene: EvaluationData) -> dict[tuple[int, int], tuple[Floats, Floats]]:
    """Double differences of each two stations, the second minus the first: of the series and of GNSS, metres."""
    values = [gnss_series.near(series, station.row, station.column) for station in scene.stations]
    return {(i, j): (values[j] - values[i], truth) for (i, j), truth in scene.baselines.items()}


def compare(
    scene: EvaluationData,
    methods: Sequence[str],
    rerun: Rerun,
    say: Callable[[str], None] = print,
    available: Mapping[str, Method] = METHODS,
) -> dict[str, Any]:
    """Run the methods and compute their scores.

    Parameters
    ----------
    scene : EvaluationData
    methods : sequence of str
        Names of those to run.
    rerun : Rerun
    say : callable
        Called with the label of each method that was run.
    available : mapping of str to Method
        All methods by name.

    Returns
    -------
    dict
        ``table`` (one dict per method), ``columns``, ``skipped``, ``warnings``, ``note``, ``gnss``, ``verdict`` and
        ``pairs_worse`` (by method, the pairs that are noisier than without correction).

    Raises
    ------
    InputError
        For an unknown method.
    """
    if unknown := [m for m in methods if m not in available]:
        raise InputError(f"--methods {unknown[0]} is unknown; choose from {', '.join(available)}.")
    table: list[dict[str, Any]] = []
    skipped = []
    series: dict[str, Floats] = {}
    errors: dict[str, Floats] = {}
    worse: dict[str, list[str]] = {}
    for name in methods:
        label = available[name].label
        try:
            corrected = available[name].correct(scene, rerun)
        except (Unavailable, InputError) as reason:
            skipped.append({"method": label, "reason": str(reason)})
            continue
        except Exception as error:  # a method that fails on this stack must not prevent the others
            skipped.append({"method": label, "reason": f"it failed here ({type(error).__name__}: {error})"})
            continue
        say(f"  {label}")
        if name in ("uncorrected", "vae"):
            series[name] = corrected
        table.append({"method": label, "name": name, **scores(corrected, scene)})
        noisier = scene.pairs[_noisier(scene.noise_of_pairs(corrected), scene)]
        worse[name] = [f"{scene.inverted.dates[i]}_{scene.inverted.dates[j]}" for i, j in noisier]
        if name not in NO_CORRECTIONS:
            errors[label] = squared_errors(corrected, scene)
    present = {key for row in table for key, value in row.items() if key in COLUMNS and not _nan(value)}
    inverted = scene.inverted
    share, names = float(scene.stable.sum() / inverted.valid.sum()), _compared(scene)
    note = (
        f"{len(inverted.dates)} dates, {len(scene.pairs)} pairs, {inverted.valid.shape[0]} x {inverted.valid.shape[1]} "
        f"pixels ({inverted.factor} x {inverted.factor} looks), MintPy's inversion. Stable ground: {share:.0%} of the "
        f"valid pixels, {scene.source}."
    )
    return {
        "note": note,
        "columns": {key: value for key, value in COLUMNS.items() if key in present},
        "table": table,
        "skipped": skipped,
        "warnings": _warnings(scene, table, names),
        "gnss": _gnss_record(scene, series),
        "verdict": verdict(errors, _judge(scene, names)),
        "pairs_worse": worse,
        "factor": inverted.factor,
    }


def _warnings(scene: EvaluationData, table: list[dict[str, Any]], compared: Sequence[str]) -> list[str]:
    sentences = []
    everywhere = scene.source == EVERYWHERE or scene.stable.sum() == scene.inverted.valid.sum()
    if everywhere and scene.truth is None:
        sentences.append("All ground counts as stable: the figures of stable ground include all motion (see --mask).")
    if left := [station.name for station in scene.stations if station.name not in compared]:
        sentences.append(
            f"Not compared: {', '.join(left)}, with too few dates in common with the stack and another station."
        )
    for row in table:
        if row["name"] == "vae" and row.get("gain_velocity", 1.0) < 0.9:
            sentences.append(
                f"The correction keeps only {round(row['gain_velocity'], 2) + 0.0:.0%} of the true velocity."
            )
    return sentences


def _gnss_record(scene: EvaluationData, series: Mapping[str, Floats]) -> dict[str, Any]:
    """For the report: time series at the stations, mm relative to their means, and a row of figures per station."""
    if len(scene.stations) < 2:
        return {}
    stations: dict[str, dict[str, list[float | None]]] = {}
    rows = [{"station": one.name, "row": one.row, "column": one.column} for one in scene.stations]
    for key, name in (("before", "uncorrected"), ("after", "vae")):
        if name not in series:
            continue
        for (reference, k), (values, truth) in _doubles(series[name], scene).items():
            if reference == 0:
                entry = stations.setdefault(scene.stations[k].name, {"gnss": _listed(_about_mean(truth, truth))})
                entry[key] = _listed(_about_mean(values, truth))
        for k, figures in enumerate(_of_stations(_figures(series[name], scene), len(rows))):
            rows[k] |= {"gnss_rate": figures["gnss_rate"], f"{key}_rate": figures["rate"], f"{key}_rms": figures["rms"]}
    return {"reference": scene.stations[0].name, "dates": scene.inverted.dates, "stations": stations, "rates": rows}


def _about_mean(values: Floats, truth: Floats) -> Floats:
    """Values relative to their mean over the dates with GNSS."""
    known = np.isfinite(values) & np.isfinite(truth)
    return values - values[known].mean() if known.any() else values


def _of_stations(baselines: Mapping[tuple[int, int], Mapping[str, float]], number: int) -> list[dict[str, float]]:
    """Rates of each station relative to the mean of the network (mm/yr), and RMS over its baselines (mm)."""
    found = []
    for k in range(number):
        own = [(1 if k == j else -1, b) for (i, j), b in baselines.items() if k in (i, j) and np.isfinite(b["rms"])]
        share = len(own) / (len(own) + 1)  # of the mean over the baselines: the station itself is in the network's mean
        rates = {
            key: share * float(np.mean([sign * b[key] for sign, b in own])) if own else float("nan")
            for key in ("rate", "gnss_rate")
        }
        found.append(rates | {"rms": _rms([b["rms"] for _, b in own])})
    return found


def _listed(values: Floats) -> list[float | None]:
    return [round(1000 * float(v), 3) if np.isfinite(v) else None for v in values]


def _nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)
