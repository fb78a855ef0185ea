"""Coefficient of a weather model's delay on each date, estimated from the likelihood of the stack.

The map p_t of each date is the sky's prior mean, with a coefficient c_t from 0 to 1,

    x_t ~ N(c_t p_t, s_t^2 S),      c_t ~ N(m, v),      v <= m (1 - m)

in all functions of time except the persistent ones, in which a drift of the model cannot be told from motion. S is the
covariance of the residual. No distribution on [0, 1] of mean m has a larger variance than m (1 - m)
(Bhatia and Davis, 2000): a model that is wrong on most dates gets no weight on the few on which it fits by chance.
Arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp
from scipy.stats import chi2

from ..arrays import Array
from .observations import Grid
from .sky import Covariance, sky_statistics
from .timefunctions import Rotation, TimeFunction, without

PASSES = 4
"""Number of alternations between the covariance of the residual and the coefficients."""
LEAST = 1e-4
"""Share of the variance below which the residual is too small to estimate a covariance from."""
MEANS = np.linspace(0.0, 1.0, 51)
SPREADS = np.array([0.0, 0.1, 0.3, 1.0])
"""Standard deviations of the dates' coefficients, in units of the largest that their mean allows."""
LOG_ODDS = 10.0
"""Log-odds that the model is useful, at twice the gain at which the odds are even."""
_HYPER = np.array([(m, m * (1 - m) * s**2) for m in MEANS for s in SPREADS])
OWN_SLOPE = 0.5
"""Factor on the standard deviation of the slope with height, which in :mod:`.sky` is twice the scatter of the dates."""


def relative(maps: Array, number: int | None = None) -> Array:
    """Maps (dates, pixels) relative to their means in space and over the dates; 0 on dates without a delay (NaN).

    The mean over the dates must be removed, because it is larger than the variation between dates; it is that of the
    first ``number`` dates, by default of all.
    """
    known = np.asarray(np.isfinite(maps).all(axis=1))
    found = np.zeros(maps.shape)
    if known.any():
        found[known] = maps[known] - maps[known].mean(axis=1, keepdims=True)
        if known[:number].any():
            found[known] -= found[:number][known[:number]].mean(axis=0)
    return found


def coefficients(
    series: Array,
    maps: Array,
    persistent: Sequence[TimeFunction],
    grid: Grid,
    significance: float,
) -> Array:
    """Coefficient of the delay on each date, (dates,) from 0 to 1.

    Parameters
    ----------
    series : (dates, pixels)
        Radians on the valid pixels, each date relative to its mean.
    maps : (dates, pixels)
        Delay of the model, radians, from :func:`relative`.
    persistent : sequence of TimeFunction
    grid : Grid
    significance : float
        The odds are even at the gain in log-likelihood that this share of chance fits exceeds, both for a model with
        one coefficient and for this model with its dates shifted against those of the stack.
    """
    believed = np.zeros(len(series))
    if not maps.any():
        return believed
    least = LEAST * float(without(series, persistent).var())
    for k in range(PASSES):
        left = without(series - believed[:, None] * maps, persistent)
        if k and left.var() <= least:
            break
        sky = sky_statistics(left, grid)
        scale = np.r_[1.0, OWN_SLOPE, np.ones(len(sky.band))]
        rotation = Rotation(sky.strength, persistent)
        rest = rotation.basis[rotation.number :]
        unit = maps / sky.strength[:, None]
        whitened = Covariance(sky, scale, 1.0).precision.whiten(unit)
        own, data = whitened @ unit.T, whitened @ (series / sky.strength[:, None]).T
        time = rest.T @ rest
        excess = _excess((data - believed * own) @ time, own, time)
        fit = _Fit(time, own / excess, data / excess)
        gain, believed = fit(np.arange(len(series)))
        if k == 0:  # whether the model is useful at all, with the covariance estimated without it
            chance = [fit(order)[0] for order in _shifted(len(series))]
            least_gain = float(chi2.isf(min(2 * significance, 0.5), 1)) / 2
            threshold = max(float(np.quantile(chance, 1.0 - significance)), least_gain)
            useful = float(expit(LOG_ODDS * (gain / threshold - 1.0)))
    return useful * believed


def _excess(left: Array, own: Array, time: Array) -> float:
    """Variance of the residuals along the maps of other dates, relative to chance; at least 1.

    Both the weather and the maps of a model are tied to the relief; with the stationary covariance of :mod:`.sky` this
    similarity would count as evidence for the model.
    """
    size = np.outer(np.diag(own), np.diag(time))
    other = (size > 0) & ~np.eye(len(own), dtype=bool)
    return max(1.0, float((left[other] ** 2 / size[other]).mean()))


def _shifted(number: int) -> list[NDArray[np.intp]]:
    """Circular shifts of the dates by two or more, in forward and reverse order."""
    dates = np.arange(number)
    orders = [np.roll(dates, k) for k in range(2, number - 1)]
    return orders + [order[::-1] for order in orders]


class _Fit:
    """Fit of the coefficients under one sky: gain in log-likelihood, and posterior mean of the coefficients.

    Parameters
    ----------
    rest : (dates, dates)
        Projection on the functions of time that are not persistent.
    own : (dates, dates)
        Products ``p S^-1 p'`` of the maps with each other.
    data : (dates, dates)
        The same products of the maps with the data.
    """

    def __init__(self, rest: Array, own: Array, data: Array) -> None:
        self.rest, self.own, self.data = rest, own, data

    def __call__(self, order: NDArray[np.intp]) -> tuple[float, Array]:
        """Fit with the map of date ``order[t]`` in place of that of t; average over all means and spreads."""
        matrix = self.rest * self.own[np.ix_(order, order)]
        right = (self.rest * self.data[order]).sum(axis=1)
        known = np.flatnonzero(np.diag(matrix) > 0)
        information, axes = np.linalg.eigh(matrix[np.ix_(known, known)])
        information = np.maximum(information, 0.0)
        along, ones = axes.T @ right[known], axes.sum(axis=0)
        mean, variance = _HYPER[:, :1], _HYPER[:, 1:]
        left = along - information * mean * ones
        gain = variance / (1 + variance * information)
        logs = mean[:, 0] * (along @ ones) - mean[:, 0] ** 2 / 2 * (information @ ones**2)
        logs = logs + (gain * left**2 - np.log1p(variance * information)).sum(axis=1) / 2
        posterior = np.exp(logs - logsumexp(logs)) @ (mean * ones + gain * left)
        found = np.zeros(len(order))
        found[known] = np.clip(axes @ posterior, 0.0, 1.0)
        return float(logsumexp(logs) - np.log(len(logs))), found
