"""Scores of a correction: remaining noise and kept signal, with or without a truth. Arrays only.

With a truth, the error on stable ground, the error on moving ground and the gain are always given together. A smoother
map alone proves nothing, since a map of zeros is the smoothest of all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from .arrays import Floats, Mask, Pairs
from .method.inversion import closure


def velocity(displacement: Floats, years: Floats) -> NDArray[np.float64]:
    """Least-squares slope of each pixel's time-series.

    Parameters
    ----------
    displacement : (dates, ...)
        Any unit.
    years : (dates,)
        Acquisition times in years.

    Returns
    -------
    (...)
        Unit of the input per year; NaN if any date is NaN.
    """
    centred = np.asarray(years, dtype=np.float64) - np.mean(years)
    energy = float(centred @ centred)
    if energy <= 0:
        raise ValueError("a velocity needs two different dates")
    return np.asarray(np.tensordot(centred, np.asarray(displacement, dtype=np.float64), axes=1) / energy)


def gain(estimate: Floats, truth: Floats, where: Mask | None = None) -> float:
    """Share of the truth in the estimate: ``<estimate, truth> / <truth, truth>``.

    This is the slope of the regression of the estimate on the truth through the origin. 1 is perfect, a map of zeros
    has 0; noise that is uncorrelated with the truth does not change it.

    Parameters
    ----------
    estimate, truth : (...)
        Same unit.
    where : bool, broadcastable to (...), optional
        Values that are used.

    Returns
    -------
    float
        NaN if the truth is zero or no value is used. Values that are not finite are ignored.
    """
    e, t = _counted(estimate, truth, where)
    energy = float(t @ t)
    return float(e @ t) / energy if energy > 0 else float("nan")


def rmse(estimate: Floats, truth: Floats, where: Mask | None = None) -> float:
    """Root mean square error in the unit of the input; parameters as for :func:`gain`. NaN without values."""
    e, t = _counted(estimate, truth, where)
    return float(np.sqrt(np.mean((e - t) ** 2))) if e.size else float("nan")


def referenced(displacement: Floats, stable: Mask) -> NDArray[np.float64]:
    """Displacement independent of the choice of reference point and date.

    The mean over time of each pixel is subtracted, then the median over stable ground of each date.

    Parameters
    ----------
    displacement : (dates, ...)
        Any unit, NaN where there is no data.
    stable : (...) bool
        Ground that does not move, at least one pixel with data.
    """
    values = np.asarray(displacement, dtype=np.float64)
    values = values - values.mean(axis=0)
    inside = values[:, stable]
    inside = inside[:, np.isfinite(inside).all(axis=0)]
    if inside.shape[1] == 0:
        raise ValueError("no stable ground with data at every date to refer to")
    level = np.median(inside, axis=1)
    level -= level.mean()
    return np.asarray(values - level.reshape(-1, *[1] * (values.ndim - 1)))


def compare(
    displacement: Floats, truth_displacement: Floats, years: Floats, deforming: Mask, valid: Mask
) -> dict[str, float]:
    """Error and gain of a displacement time-series against the truth, the same for every method.

    Both are :func:`referenced` to the stable ground first, so that neither the reference point nor the reference date
    matters.

    Parameters
    ----------
    displacement, truth_displacement : (dates, ...)
        Metres towards the satellite.
    years : (dates,)
        Acquisition times in years.
    deforming : (...) bool
        Ground that truly moves.
    valid : (...) bool
        Pixels that are used.

    Returns
    -------
    dict
        ``velocity_stable``, ``velocity_deforming`` (RMSE, mm/yr), ``displacement_stable``, ``displacement_deforming``
        (RMSE over pixels and dates, mm), ``gain_displacement``, ``gain_velocity`` (over the deforming area, NaN if
        there is none).
    """
    valid = valid & np.isfinite(displacement).all(axis=0) & np.isfinite(truth_displacement).all(axis=0)
    stable, moving = valid & ~deforming, valid & deforming
    estimate, truth = (referenced(d, stable)[:, valid] for d in (displacement, truth_displacement))
    rate, true_rate = velocity(estimate, years), velocity(truth, years)
    still, moves = stable[valid], moving[valid]
    return {
        "velocity_stable": 1000 * rmse(rate, true_rate, still),
        "velocity_deforming": 1000 * rmse(rate, true_rate, moves),
        "displacement_stable": 1000 * rmse(estimate, truth, still),
        "displacement_deforming": 1000 * rmse(estimate, truth, moves),
        "gain_displacement": gain(estimate, truth, moves),
        "gain_velocity": gain(rate, true_rate, moves),
    }


def false_velocity(
    displacement: Floats, truth_displacement: Floats, years: Floats, deforming: Mask, valid: Mask
) -> float:
    """95th percentile of the absolute velocity error on stable ground, mm/yr: apparent motion of stable ground.

    Parameters as for :func:`compare`.
    """
    stable = valid & ~deforming
    stable &= np.isfinite(displacement).all(axis=0) & np.isfinite(truth_displacement).all(axis=0)
    estimate, truth = (referenced(d, stable)[:, stable] for d in (displacement, truth_displacement))
    return 1000 * float(np.quantile(np.abs(velocity(estimate, years) - velocity(truth, years)), 0.95))


def step_gain(
    displacement: Floats, truth_displacement: Floats, years: Floats, event: float, deforming: Mask, valid: Mask
) -> float:
    """:func:`gain` of the map of step amplitudes over the deforming area.

    The amplitude is that of a step at `event` in the least-squares fit of a constant, a line and the step to each
    pixel, the same for estimate and truth.

    Parameters
    ----------
    displacement, truth_displacement : (dates, ...)
        Metres.
    years : (dates,)
    event : float
        Time of the step, as in `years`; it affects later dates.
    deforming, valid : (...) bool
        As for :func:`compare`.
    """
    valid = valid & np.isfinite(displacement).all(axis=0) & np.isfinite(truth_displacement).all(axis=0)
    after = (np.asarray(years) > event).astype(np.float64)
    if not 0 < after.sum() < len(after):
        raise ValueError("a step needs dates before and after it")
    design = np.stack([np.ones(len(after)), years, after], axis=1)
    to_step = np.linalg.pinv(design)[2]
    steps = [
        to_step @ referenced(d, valid & ~deforming)[:, valid & deforming] for d in (displacement, truth_displacement)
    ]
    return gain(*steps)


def within_sigmas(estimate: Floats, truth: Floats, std: Floats, sigmas: float = 1.0) -> float:
    """Share of the errors that are smaller than so many stated standard deviations.

    Gaussian errors with the right standard deviation give 0.68 for one and 0.95 for two. Errors are relative to the
    mean over the pixels, of series also to the mean over the dates, since only such differences matter.

    Parameters
    ----------
    estimate, truth, std : (dates, pixels) or (pixels,)
        Same unit.
    sigmas : float
    """
    error = np.asarray(estimate, np.float64) - truth
    error = error - error.mean(axis=-1, keepdims=True)
    if error.ndim > 1:
        error -= error.mean(axis=0)
    return float(np.mean(np.abs(error) <= sigmas * std))


def closure_misfit(pair_values: Floats, pairs: Pairs) -> float:
    """Largest absolute closure misfit over all triplets, in the unit of ``pair_values`` (pairs, ...).

    It is 0 for differences of one field per date, and for a network without triplets. NaN is ignored.

    Parameters
    ----------
    pair_values : (pairs, ...)
        For example a correction, radians.
    pairs : (pairs, 2) int
        Date indices.
    """
    misfit = np.abs(closure(pair_values, pairs))
    misfit = misfit[np.isfinite(misfit)]
    return float(misfit.max(initial=0.0))


def _counted(estimate: Floats, truth: Floats, where: Mask | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as vectors of the values that are used."""
    e, t = np.broadcast_arrays(np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64))
    use = np.isfinite(e) & np.isfinite(t)
    if where is not None:
        use &= where
    return e[use], t[use]


# ------------------------------------------------------------------------------------------- without a truth to compare
def semivariogram(field: Floats, pixel: tuple[float, float], bins: int = 20) -> tuple[Floats, Floats, Floats]:
    """Half the mean squared difference of a map against distance (half the structure function; Hanssen, 2001, 4.7).

    All pairs of pixels are used, by the Fourier transform (Marcotte, 1996, doi:10.1016/S0098-3004(96)00026-X).

    Parameters
    ----------
    field : (length, width)
        Any unit, NaN where there is no data.
    pixel : (float, float)
        Size of a pixel along rows and columns, any unit of length.
    bins : int
        Number of bins of equal width, up to half the shorter side.

    Returns
    -------
    distance : (bins,)
        Mean distance of the pairs of pixels in each bin; bins without a pair are left out.
    gamma : (bins,)
        Squared unit of the map.
    number : (bins,)
        Pairs of pixels.
    """
    known = np.isfinite(field)
    if not known.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    values = np.where(known, field - np.mean(field[known]), 0.0)
    grid = [next_fast_len(2 * n, real=True) for n in field.shape]
    mask, first, second = (rfft2(v, s=grid) for v in (known.astype(np.float64), values, values**2))
    number = np.round(irfft2(np.abs(mask) ** 2, s=grid))
    squared = irfft2(2 * (second * mask.conj()).real - 2 * np.abs(first) ** 2, s=grid)
    lags = [np.minimum(np.arange(n), n - np.arange(n)) * size for n, size in zip(grid, pixel, strict=True)]
    distance = np.hypot(lags[0][:, None], lags[1][None, :])
    limit = min(n * size for n, size in zip(field.shape, pixel, strict=True)) / 2
    use = (number > 0) & (distance > 0) & (distance <= limit)
    which = np.minimum((distance[use] / limit * bins).astype(int), bins - 1)
    count, length, total = (
        np.bincount(which, w, minlength=bins) for w in (number[use], (number * distance)[use], squared[use])
    )
    some = count > 0
    return length[some] / count[some], np.maximum(total[some] / count[some], 0) / 2, count[some].astype(np.float64)


def range_and_sill(distance: Floats, gamma: Floats, number: Floats) -> tuple[float, float]:
    """Range and sill of the exponential model ``sill (1 - exp(-3 distance / range))`` (Chiles, Delfiner, 2012).

    Parameters as :func:`semivariogram` returns them. At the range, the model has reached 95 % of the sill. A range
    longer than the given distances, as for a map with a trend, is infinite, with the largest gamma as sill.

    Returns
    -------
    range : float
        Unit of ``distance``; NaN without data.
    sill : float
        Unit of ``gamma``.
    """
    if len(distance) < 3 or not gamma.max(initial=0.0) > 0:
        return float("nan"), float(gamma.max(initial=0.0))
    furthest = float(distance.max())
    weight = number / distance**2

    def sill_of(reach: float) -> tuple[float, float]:
        shape = 1 - np.exp(-3 * distance / reach)
        sill = float((weight * shape) @ gamma / ((weight * shape) @ shape))
        return sill, float(weight @ (gamma - sill * shape) ** 2)

    reaches = np.geomspace(0.3 * float(distance.min()), 3 * furthest, 400)
    best = float(reaches[np.argmin([sill_of(r)[1] for r in reaches])])
    if best > 1.5 * furthest:
        return float("inf"), float(gamma.max())
    return best, sill_of(best)[0]


def spatial_std(field: Floats) -> float:
    """Standard deviation of the finite values of a map, in its unit."""
    return float(np.nanstd(field)) if np.isfinite(field).any() else float("nan")


def height_correlation(field: Floats, height: Floats, high_pass: float | None = None) -> float:
    """Pearson correlation of a map with the height, on pixels where both are known.

    Parameters
    ----------
    field, height : (length, width)
    high_pass : float, optional
        Standard deviation (pixels) of the Gaussian mean around each pixel that is subtracted from both first. Without
        it the correlation also contains regional trends that happen to follow the relief.

    Returns
    -------
    float
        -1 to 1; NaN where either is constant.
    """
    known = np.isfinite(field) & np.isfinite(height)
    if not known.any():
        return float("nan")
    if high_pass:
        weight = gaussian_filter(known.astype(np.float64), high_pass)
        field, height = (
            v - gaussian_filter(np.where(known, v, 0.0), high_pass) / np.maximum(weight, 1e-12) for v in (field, height)
        )
    a, b = (v[known] - v[known].mean() for v in (field, height))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else float("nan")


def temporal_coherence(pair_phase: Floats, date_phase: Floats, pairs: Pairs) -> NDArray[np.float64]:
    """How well the dates explain the pairs: ``|mean over pairs of exp(i residual)|`` (Pepe and Lanari, 2006).

    Parameters
    ----------
    pair_phase : (pairs, ...)
        Radians; NaN is ignored.
    date_phase : (dates, ...)
        Radians.
    pairs : (pairs, 2) int

    Returns
    -------
    (...)
        0 to 1.
    """
    residual = pair_phase - (date_phase[pairs[:, 1]] - date_phase[pairs[:, 0]])
    known = np.isfinite(residual)
    total = np.where(known, np.exp(1j * np.where(known, residual, 0.0)), 0.0).sum(axis=0)
    return np.asarray(np.abs(total) / np.maximum(known.sum(axis=0), 1))


def velocity_uncertainty(displacement: Floats, years: Floats) -> NDArray[np.float64]:
    """Standard error of the slope of each pixel's line (Fattahi and Amelung, 2015, eq. 10).

    Parameters and unit as for :func:`velocity`; three dates or more.
    """
    centred = np.asarray(years, dtype=np.float64) - np.mean(years)
    values = np.asarray(displacement, dtype=np.float64)
    left = values - values.mean(axis=0) - centred.reshape(-1, *[1] * (values.ndim - 1)) * velocity(values, years)
    return np.asarray(np.sqrt((left**2).sum(axis=0) / ((len(years) - 2) * (centred @ centred))))
