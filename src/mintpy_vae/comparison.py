"""Corrections side by side on the user's own stack: one inversion, one grid, one set of figures.

Every correction here is a difference of one field per date, which commutes with MintPy's inversion: all of them work on
the one time-series that MintPy has inverted (:mod:`.inverted`). Neither closure nor temporal coherence changes.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import gnss_series as gnss
from . import metrics
from .baselines import BASELINES
from .clustering import Hdbscan
from .correction import FullResolution
from .errors import InputError, NotEnoughEvidence
from .injection import Refit
from .inverted import Inverted, full_mask, geometry_file, read_delay
from .stack import pool_map

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
SAMPLED_PAIRS = 40

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
"""Figures of a row in the order of the table; those that cannot be had are left out."""


Stations = list[tuple[str, int, int, Array]]


class Unavailable(Exception):
    """Why a method is left out."""


@dataclass(frozen=True)
class Scene:
    """What the methods get and what they are judged by, all on one grid.

    Attributes
    ----------
    inverted : Inverted
    work, project : Path
        The corrected directory and the original one.
    pairs : (pairs, 2) int
        Kept pairs, indices into the dates of `inverted`.
    stable : (h, w) bool
        Ground that counts as not moving.
    source : str
        Where `stable` comes from.
    template : mapping
        MintPy's options.
    truth : (dates, h, w) or None
        Metres.
    moves : (h, w) bool or None
        Where it moves.
    stations : list of (name, row, column, GNSS double difference)
        On the grid; the first is the reference, whose double difference is 0.
    """

    inverted: Inverted
    work: Path
    project: Path
    pairs: NDArray[np.integer]
    stable: Mask
    source: str
    template: Mapping[str, str]
    truth: Array | None = None
    moves: Mask | None = None
    stations: Stations = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------------- methods
Method = Callable[[Scene, Refit], Array]


def vae(scene: Scene, refit: Refit) -> Array:
    """What ``vae_correct.py`` has made."""
    if not (scene.work / "inputs" / "VAE.h5").is_file():
        raise Unavailable("vae_correct.py left this stack uncorrected")
    return scene.inverted.after


def era5(scene: Scene, refit: Refit) -> Array:
    """Weather model, then a linear ramp in range, the comparison of Ghosh et al. (2025)."""
    from mintpy.objects.ramp import deramp

    file = scene.project / "inputs" / "ERA5.h5"
    if not file.is_file():
        raise Unavailable(f"there is no {file.name} in {file.parent.name}; MintPy's correct_troposphere downloads it")
    left = _less_delay(scene, file)
    with contextlib.redirect_stdout(io.StringIO()):
        maps = [deramp(np.nan_to_num(d), scene.inverted.valid, ramp_type="linear_range")[0] for d in left]
    flat = np.where(scene.inverted.valid, np.array(maps), np.nan)
    return scene.inverted.referenced(flat)


def gacos(scene: Scene, refit: Refit) -> Array:
    """Delays of the GACOS service, read by MintPy."""
    from mintpy.tropo_gacos import calculate_delay_timeseries

    named = scene.template.get("mintpy.troposphericDelay.gacosDir", "auto")
    folder = scene.project / (named if named not in ("auto", "") else "GACOS")
    lacking = [d for d in scene.inverted.dates if not any((folder / f"{d}{e}").is_file() for e in (".ztd", ".ztd.tif"))]
    if lacking:
        raise Unavailable(f"the directory {folder.name} has no .ztd file of {len(lacking)} dates")
    geometry = geometry_file(scene.work)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        file = Path(scratch) / "GACOS.h5"
        calculate_delay_timeseries(str(file), str(scene.work / "timeseries.h5"), str(geometry), str(folder))
        return _less_delay(scene, file)


def vae_hdbscan(scene: Scene, refit: Refit) -> Array:
    """The same with HDBSCAN in place of FISHDBC; trains again."""
    settings = refit.settings
    try:
        found = refit(clusterer=Hdbscan(settings.min_samples, settings.min_cluster_size))
    except NotEnoughEvidence as reason:
        raise Unavailable(str(reason)) from reason
    inverted, stack = scene.inverted, refit.stack
    full = FullResolution(found.atmosphere, stack.height - found.mean_height, refit.factor)
    good, step = full_mask(scene.work), inverted.factor * max(1, 2_000_000 // (inverted.factor * stack.shape[1]))
    at_reference = full(slice(inverted.ref_yx[0], inverted.ref_yx[0] + 1))[:, 0, inverted.ref_yx[1]]
    parts = []
    for top in range(0, stack.shape[0], step):
        rows = slice(top, min(top + step, stack.shape[0]))
        phase = np.where(good[rows], full(rows) - at_reference[:, None, None], np.nan)
        parts.append(np.array([pool_map(layer, inverted.factor) for layer in phase]))
    delay = np.concatenate(parts, axis=1) * (-stack.wavelength / (4 * np.pi))
    index = [refit.dates.index(date) for date in inverted.dates]
    return np.asarray(inverted.before - inverted.referenced(delay[index]))


def _less_delay(scene: Scene, file: Path) -> Array:
    inverted = scene.inverted
    delay = read_delay(file, inverted.dates, inverted.ref_yx, full_mask(scene.work), inverted.factor)
    return np.asarray(inverted.before - inverted.referenced(delay))


def _simple(name: str) -> Method:
    def correct(scene: Scene, refit: Refit) -> Array:
        baseline, inverted = BASELINES[name], scene.inverted
        if baseline.along_sight and not np.isfinite(inverted.incidence[inverted.valid]).all():
            raise Unavailable("the geometry file lacks the incidence angle, which MintPy asks for")
        return baseline(inverted.before, inverted.years, inverted.height, inverted.incidence)

    return correct


METHODS: dict[str, tuple[str, Method]] = {
    **{name: (BASELINES[name].label, _simple(name)) for name in BASELINES},
    "era5": ("ERA5, then a ramp in range", era5),
    "gacos": ("GACOS", gacos),
    "vae": ("vae_correct.py", vae),
    "vae_hdbscan": ("the same with HDBSCAN", vae_hdbscan),
}
"""Label and function of each method by the name used in ``--methods``."""


# ------------------------------------------------------------------------------------------------------------- figures
def figures(series: Array, scene: Scene) -> dict[str, float]:
    """The row of one method.

    Parameters
    ----------
    series : (dates, h, w)
        Corrected displacement, metres.
    scene : Scene

    Returns
    -------
    dict
        By the keys of :data:`COLUMNS`.
    """
    inverted, years = scene.inverted, scene.inverted.years
    first, second = scene.pairs.T
    km = (inverted.pixel[0] / 1000, inverted.pixel[1] / 1000)
    still = np.where(scene.stable, 1000 * np.asarray(series, dtype=np.float64), np.nan)
    rate = metrics.velocity(still, years)
    flat = still[:, scene.stable & np.isfinite(series).all(axis=0)]
    noise = (flat[second] - flat[first]).std(axis=1)
    before = 1000 * inverted.before[:, scene.stable]
    worse = noise > 1.001 * (before[second] - before[first]).std(axis=1)
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
        "pair_std": float(np.median(noise)),
        "pairs_worse": 100 * float(worse.mean()),
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


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.median(known)) if known else float("nan")


def _mean_variogram(maps: list[Array], km: tuple[float, float]) -> tuple[Array, Array, Array]:
    distance, gamma, number = zip(*(metrics.semivariogram(m, km) for m in maps), strict=True)
    return distance[0], np.mean(gamma, axis=0), number[0]


def _against_gnss(series: Array, scene: Scene) -> dict[str, float]:
    if len(scene.stations) < 2:
        return {}
    found = [gnss.compare(v, t, scene.inverted.years) for v, (_, _, _, t) in _doubles(series, scene)]
    rates, rms = ([f[k] for f in found] for k in ("rate", "rms"))
    errors = [r - f["gnss_rate"] for r, f in zip(rates, found, strict=True)]
    if len(found) == 1:
        return {"gnss_rate_error": errors[0], "gnss_rms": rms[0]}
    return {k: float(np.sqrt(np.nanmean(np.square(v)))) for k, v in (("gnss_rate_error", errors), ("gnss_rms", rms))}


def _doubles(series: Array, scene: Scene) -> list[tuple[Array, tuple[str, int, int, Array]]]:
    """InSAR double difference (metres) of each validation station with the reference station."""
    _, row, column, _ = scene.stations[0]
    reference = gnss.near(series, row, column)
    return [(gnss.near(series, s[1], s[2]) - reference, s) for s in scene.stations[1:]]


def compare(scene: Scene, methods: Sequence[str], refit: Refit, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the methods and judge them.

    Returns
    -------
    dict
        ``table`` (one dict per method), ``columns``, ``skipped``, ``warnings``, ``note`` and ``gnss``.

    Raises
    ------
    InputError
        For an unknown method.
    """
    if unknown := [m for m in methods if m not in METHODS]:
        raise InputError(f"--methods {unknown[0]} is unknown; choose from {', '.join(METHODS)}.")
    table: list[dict[str, Any]] = []
    skipped = []
    series: dict[str, Array] = {}
    for name in methods:
        label, correct = METHODS[name]
        try:
            corrected = correct(scene, refit)
        except (Unavailable, InputError) as reason:
            skipped.append({"method": label, "reason": str(reason)})
            continue
        except Exception as error:  # one method that fails on this stack must not cost the others
            skipped.append({"method": label, "reason": f"it failed here ({type(error).__name__}: {error})"})
            continue
        say(f"  {label}")
        if name in ("uncorrected", "vae"):
            series[name] = corrected
        table.append({"method": label, "name": name, **figures(corrected, scene)})
    present = {key for row in table for key, value in row.items() if key in COLUMNS and not _nan(value)}
    inverted = scene.inverted
    share = float(scene.stable.sum() / inverted.valid.sum())
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
        "warnings": _warnings(scene, share, table),
        "gnss": _gnss_record(scene, series),
        "factor": inverted.factor,
    }


def _warnings(scene: Scene, share: float, table: list[dict[str, Any]]) -> list[str]:
    said = []
    if share == 1.0 and scene.truth is None:
        said.append("No ground counts as moving: the figures of stable ground hold all motion there is (see --mask).")
    for row in table:
        if row["name"] == "vae" and row.get("gain_velocity", 1.0) < 0.9:
            said.append(f"The correction keeps only {round(row['gain_velocity'], 2) + 0.0:.0%} of the true velocity.")
    return said


def _gnss_record(scene: Scene, series: Mapping[str, Array]) -> dict[str, Any]:
    """Time-series at the stations, millimetres about their means, for the report."""
    if len(scene.stations) < 2:
        return {}
    stations: dict[str, dict[str, list[float | None]]] = {}
    for key, name in (("before", "uncorrected"), ("after", "vae")):
        if name not in series:
            continue
        for values, (station, _, _, truth) in _doubles(series[name], scene):
            entry = stations.setdefault(station, {"gnss": _listed(truth - np.nanmean(truth))})
            entry[key] = _listed(values - np.nanmean(values[np.isfinite(truth)]))
    return {"reference": scene.stations[0][0], "dates": scene.inverted.dates, "stations": stations}


def _listed(values: Array) -> list[float | None]:
    return [round(1000 * float(v), 3) if np.isfinite(v) else None for v in values]


def _nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)
