"""Existing corrections of a displacement time series, for comparison. Arrays only.

All have the same interface, :class:`Correction`: they turn the series of an inverted stack into a corrected one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..arrays import Floats
from ..method.labels import MAX_HEIGHT_CORRELATION, smoothness_p_value

Series = NDArray[np.float32]
SIGNIFICANCE = 0.01
"""Largest p-value of a component that counts as deformation; the default of ``vae.significance``."""


class Correction(Protocol):
    """Correction of a time series."""

    def __call__(self, series: Floats, years: Floats, height: Floats) -> Series:
        """Corrected series.

        Parameters
        ----------
        series : (dates, length, width)
            Displacement in metres, NaN where there is no data.
        years : (dates,)
            Acquisition times in years.
        height : (length, width)
            Metres, NaN where unknown.

        Returns
        -------
        (dates, length, width) float32
            Metres, NaN where `series` is NaN. Pixels without data at some date, or without a height where it is needed,
            are not used to estimate the correction.
        """
        ...


@dataclass(frozen=True)
class Baseline:
    """A correction and its short name for tables.

    With `along_sight` the height is divided by the cosine of the incidence angle, as in MintPy's
    ``tropo_phase_elevation.py``.
    """

    correct: Correction
    label: str
    along_sight: bool = False

    def __call__(self, series: Floats, years: Floats, height: Floats, incidence: Floats) -> Series:
        """Corrected series of a scene with this height and this incidence angle (degrees), both (length, width)."""
        return self.correct(series, years, height / np.cos(np.deg2rad(incidence)) if self.along_sight else height)


def zero(series: Floats, years: Floats, height: Floats) -> Series:
    """Zero everywhere: no error on stable ground, and no gain."""
    return np.asarray(0 * series, dtype=np.float32)


def uncorrected(series: Floats, years: Floats, height: Floats) -> Series:
    """The series as it is."""
    return np.array(series, dtype=np.float32)


def line(series: Floats, years: Floats, height: Floats) -> Series:
    """Straight line through the series of each pixel: only its velocity is kept."""
    there = np.isfinite(series)
    count = np.maximum(there.sum(axis=0), 1)

    def mean(values: Floats) -> Floats:
        return np.sum(values, axis=0, where=there, dtype=np.float64) / count

    times = np.broadcast_to(np.asarray(years, np.float64)[:, None, None], series.shape)
    t, x = times - mean(times), series - mean(series)
    return _like(mean(series) + t * mean(t * x) / np.maximum(mean(t**2), 1e-12), series)


def height_correlation(series: Floats, years: Floats, height: Floats, looks: int = 8) -> Series:
    """MintPy's ``tropo_phase_elevation.py`` with its defaults: a line against height per date (Doin et al., 2009).

    It calls MintPy's own functions; `looks` is its ``mintpy.troposphericDelay.looks``. For the
    height see :class:`Baseline`.
    """
    from mintpy import tropo_phase_elevation as mintpy

    whole = _whole(series) & np.isfinite(height)
    first = np.argwhere(whole)[0]
    dem = np.where(whole, height - height[tuple(first)], 0.0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        mask_file = Path(folder) / "mask.h5"  # it reads the mask from a file
        with h5py.File(mask_file, "w") as f:
            f["mask"] = whole
            f.attrs.update(FILE_TYPE="mask", LENGTH=str(whole.shape[0]), WIDTH=str(whole.shape[1]))
        options = argparse.Namespace(
            mask_file=str(mask_file),
            poly_order=1,
            num_multilook=looks,
            threshold=0.0,
            date_list=[f"{year:.3f}" for year in years],
        )
        slopes = mintpy.estimate_phase_elevation_ratio(dem, np.asarray(series, np.float32), options)
        where = {"REF_Y": str(first[0]), "REF_X": str(first[1])}
        delay = mintpy.estimate_tropospheric_delay(dem, slopes, where)
    return _like(series - delay, series)


def gaussian(
    series: Floats, years: Floats, height: Floats, days: float = 30.0, width: float = 0.01, flatten: bool = True
) -> Series:
    """Spatio-temporal filter: the atmosphere is rough in time and smooth in space (Ferretti et al., 2001).

    The high-pass in time is the residual of a line fitted around each date with Gaussian weights. It is smoothed by a
    Gaussian in space and subtracted (Hooper et al., 2012). A steady rate is not changed.

    Parameters
    ----------
    days : float
        Standard deviation of the weights in time.
    width : float
        Standard deviation of the smoothing in space, as a share of the scene's shorter side.
    flatten : bool
        Remove the linear trend with height from each date first.
    """
    whole = _whole(series) & np.isfinite(height)
    start = flattened(series, height, whole) if flatten else series
    rough = np.zeros(series.shape)
    rough[:, whole] = _high_pass(years, days / 365.25) @ start[:, whole]
    delay = _smooth(rough, whole, width * min(whole.shape))
    return _like(start - delay, series)


def pca(series: Floats, years: Floats, height: Floats, components: int = 6) -> Series:
    """Keep the principal components that are smooth in time; the others are regarded as atmosphere.

    A component is kept by the rule for clusters (:mod:`~mintpy_vae.method.labels`): its series is smoother than with
    shuffled dates, and its map does not correlate with the height.
    """
    from sklearn.decomposition import PCA

    def decompose(maps: Floats) -> tuple[Floats, Floats]:
        model = PCA(components, svd_solver="full").fit(maps.T)
        return model.components_.T, model.transform(maps.T)

    return _keep_smooth(series, height, decompose)


def ica(series: Floats, years: Floats, height: Floats, components: int = 8) -> Series:
    """Keep the independent components in space that are smooth in time (Ebmeier, 2016; Gaddes et al., 2019).

    Components are kept as for :func:`pca`.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    def decompose(maps: Floats) -> tuple[Floats, Floats]:
        model = FastICA(components, whiten="unit-variance", max_iter=1000, tol=1e-3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the components without convergence are sufficient
            sources = model.fit_transform(maps.T)
        return model.mixing_, sources

    return _keep_smooth(series, height, decompose)


def nmf(series: Floats, years: Floats, height: Floats, components: int = 6) -> Series:
    """Keep the components of a non-negative factorisation (Lee and Seung, 1999) that are smooth in time.

    Signed data become non-negative by appending their negative part as further dates (Kim and Tidor, 2003). Components
    are kept as for :func:`pca`.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    def decompose(maps: Floats) -> tuple[Floats, Floats]:
        parts = np.concatenate([np.maximum(maps, 0), np.maximum(-maps, 0)]).T
        model = NMF(components, init="nndsvda", max_iter=300, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            sources = model.fit_transform(parts)
        up, down = np.split(model.components_.T, 2)
        return up - down, sources

    return _keep_smooth(series, height, decompose)


def local_height_correlation(
    series: Floats, years: Floats, height: Floats, windows: int = 2, stiffness: float = 0.3
) -> Series:
    """Subtract a linear trend with height whose slope varies over the scene (Bekaert et al., 2015).

    Each moving window has its own slope; slopes are blended with Gaussian weights of the window's size. In windows with
    little relief the slope of the scene prevails.

    Parameters
    ----------
    windows : int
        Number of windows across the scene's shorter side.
    stiffness : float
        Variance of height, as a share of the scene's, at which window and scene have equal weights.
    """
    whole = _whole(series) & np.isfinite(height)
    sigma = min(whole.shape) / windows / 2
    z = np.where(whole, height - height[whole].mean(), 0.0)
    x = np.where(whole, series - np.mean(series, axis=(1, 2), where=whole, keepdims=True), 0.0)
    scene = (x * z).sum(axis=(1, 2)) / max(float((z**2).sum()), 1e-12)

    def mean(values: Floats) -> Floats:
        return _smooth(values, whole, sigma)

    middle = mean(z[None])
    relief = mean(z[None] ** 2) - middle**2
    common = mean(x * z) - mean(x) * middle
    prior = stiffness * float(z[whole].var())
    slope = (common + prior * scene[:, None, None]) / (relief + prior + 1e-12)
    return _like(series - mean(slope) * np.nan_to_num(height - height[whole].mean()), series)


def common_scene_stacking(series: Floats, years: Floats, height: Floats, reach: int = 5) -> Series:
    """Common-scene stacking: atmosphere of a date from the pairs that share it (Tymofyeyeva and Fialko, 2015).

    The estimate is the mean over k = 1 ... `reach` of the pairs with the k-th date before and after, weighted so that a
    steady rate cancels. Dates are corrected one after another, the noisiest first, so that its atmosphere does not
    affect its neighbours. The first and the last date have no pairs on both sides and stay unchanged.
    """
    whole = _whole(series)
    corrected = np.asarray(series[:, whole], dtype=np.float64)
    level = corrected.mean(axis=1, keepdims=True)
    corrected = corrected - level
    n_dates = len(years)

    def atmosphere(i: int) -> Floats:
        estimates = []
        for k in range(1, min(reach, i, n_dates - 1 - i) + 1):
            before = (years[i + k] - years[i]) / (years[i + k] - years[i - k])
            estimates.append(corrected[i] - before * corrected[i - k] - (1 - before) * corrected[i + k])
        return np.mean(estimates, axis=0)

    noise = [float(np.mean(atmosphere(i) ** 2)) for i in range(1, n_dates - 1)]
    for i in np.argsort(noise)[::-1] + 1:
        corrected[i] -= atmosphere(i)
    out = np.array(series, dtype=np.float64)
    out[:, whole] = corrected + level
    return _like(out, series)


BASELINES: dict[str, Baseline] = {
    "zero": Baseline(zero, "zero map"),
    "line": Baseline(line, "line per pixel"),
    "uncorrected": Baseline(uncorrected, "uncorrected"),
    "height_correlation": Baseline(height_correlation, "height correlation (MintPy)", along_sight=True),
    "local_height_correlation": Baseline(local_height_correlation, "local height correlation"),
    "gaussian": Baseline(gaussian, "Gaussian filter in space and time"),
    "common_scene_stacking": Baseline(common_scene_stacking, "common-scene stacking"),
    "pca": Baseline(pca, "PCA, smooth components"),
    "ica": Baseline(ica, "ICA, smooth components"),
    "nmf": Baseline(nmf, "NMF, smooth components"),
}
"""All corrections by their names in options and tables."""


def _whole(series: Floats) -> NDArray[np.bool_]:
    """Pixels with data at every date, (length, width)."""
    return np.asarray(np.isfinite(series).all(axis=0))


def _like(corrected: Floats, series: Floats) -> Series:
    """The corrected series as float32, with the gaps of `series`."""
    return np.where(np.isfinite(series), corrected, np.nan).astype(np.float32)


def flattened(series: Floats, height: Floats, whole: NDArray[np.bool_]) -> Floats:
    """Each date (dates, length, width) without its linear trend with height, fitted where `whole`; NaN: mean height."""
    z = np.nan_to_num(height - height[whole].mean())
    inside = series[:, whole] - series[:, whole].mean(axis=1, keepdims=True)
    slopes = inside @ z[whole] / max(float(z[whole] @ z[whole]), 1e-12)
    return np.asarray(series - slopes[:, None, None] * z)


def _high_pass(years: Floats, sigma: float) -> Floats:
    """Matrix (dates, dates) that subtracts from each date a line fitted around it with Gaussian weights."""
    matrix = np.eye(len(years))
    for row, now in zip(matrix, years, strict=True):
        design = np.stack([np.ones(len(years)), years - now], axis=1)
        weight = np.exp(-0.5 * ((years - now) / sigma) ** 2) + 1e-6  # so that distant dates always define a line
        row -= np.linalg.solve((design.T * weight) @ design, design.T * weight)[0]
    return matrix


def _smooth(maps: Floats, whole: NDArray[np.bool_], sigma: float) -> Floats:
    """Gaussian mean around each pixel over pixels that are `whole`, (maps, length, width); 0 if none is near."""
    share = ndimage.gaussian_filter(whole.astype(np.float64), sigma)
    near = share > 1e-3
    out = np.zeros(maps.shape)
    for k, values in enumerate(maps):
        total = ndimage.gaussian_filter(np.where(whole, values, 0.0), sigma)
        out[k, near] = total[near] / share[near]
    return out


def _keep_smooth(series: Floats, height: Floats, decompose: Callable[[Floats], tuple[Floats, Floats]]) -> Series:
    """Sum of the components of the series without height trend that are smooth in time and do not follow the height.

    `decompose` turns maps (dates, pixels) into series (dates, components) and maps (pixels, components). Pixels that
    are not used stay unchanged.
    """
    whole = _whole(series) & np.isfinite(height)
    maps = np.asarray(flattened(series, height, whole)[:, whole], dtype=np.float64)
    maps = maps - maps.mean(axis=1, keepdims=True)
    still = maps.mean(axis=0)
    courses, sources = decompose(maps - still)
    rng = np.random.default_rng(0)
    z = height[whole] - height[whole].mean()
    kept = np.zeros(maps.shape)
    for course, source in zip(courses.T, sources.T, strict=True):
        like_height = _correlation(source, z)
        p_value = smoothness_p_value(course, rng) * courses.shape[1]
        if p_value <= SIGNIFICANCE and abs(like_height) < MAX_HEIGHT_CORRELATION:
            kept += np.outer(course, source)
    out = np.array(series, dtype=np.float64)
    out[:, whole] = still + kept
    return _like(out, series)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0 else 0.0
