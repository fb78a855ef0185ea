"""Covariance of weather that recurs at summits, coasts and valleys, estimated from the other dates.

A stationary covariance (:mod:`.sky`) does not depend on the place. The sample covariance of the dates does, but its
rank is at most the number of dates, and a date that is part of it explains itself, including its motion. Therefore the
dates are divided into blocks, and the sample covariance of all other blocks, tapered with distance (:mod:`.taper`), is
added to the covariance of the dates of a block (cross-fitting; Chernozhukov et al., 2018),

    x_t ~ N(0, s_t^2 (S + share * rho * mean of u' u over the other blocks' dates u)),

with one share, chosen by maximum likelihood, and a strength s_t for each date. The trend and the other persistent
functions of time are fitted to the other blocks alone: fitted to all dates, they would bring a date into all others.
Functions of unsteady motion are turned so that each is mostly in one block (:meth:`.LocalSky.by_block`). Motion on a
few successive dates, such as an intrusion, is therefore hardly learned and removed.

A convolutional decoder in place of the sample covariance, trained with the same likelihood, was not better on real data
and took a hundred times as long (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ..arrays import Array
from .covariance import without_height
from .observations import Grid
from .sky import Precision, Sky
from .taper import Taper, Whole
from .threads import of_each
from .timefunctions import TimeFunction, without_others

BLOCKS = 4
LARGEST_SHARE = 10.0


@dataclass(frozen=True)
class LocalSky:
    """Covariance that is added to that of each date of unit strength.

    Attributes
    ----------
    blocks : list of (dates,) int
        Indices of the dates of each block; together all dates.
    modes : list of (modes, pixels)
        ``modes' modes`` is added for the dates of a block; the modes come from the other blocks.
    taper : Taper or Whole
    share : float
        0 means that the stationary sky alone has the largest likelihood.
    level : float
        Variance of the dates, in units of the sum of both covariances.
    gain : float
        Increase of the log-likelihood per pixel and date.
    """

    blocks: list[NDArray[np.intp]]
    modes: list[Array]
    taper: Taper | Whole
    share: float
    level: float = 1.0
    gain: float = 0.0

    def by_block(self, functions: Array) -> list[tuple[int, Array]]:
        """Orthonormal functions of time (functions, dates), turned so that each is mostly in one block.

        Returns
        -------
        list of (block, functions)
            For each block that has any, its number and its functions.
        """
        number = np.empty(functions.shape[1])
        for k, block in enumerate(self.blocks):
            number[block] = k
        centre, turn = np.linalg.eigh(functions * number @ functions.T)
        nearest, turned = np.rint(centre).astype(int), turn.T @ functions
        return [(k, turned[nearest == k]) for k in range(len(self.blocks)) if (nearest == k).any()]

    def of_new(self, sky: Sky, good: NDArray[np.intp]) -> Array:
        """Modes of a date that is in no block: those of all ``good`` dates, (modes, pixels)."""
        if not self.share:
            return self.modes[0]
        return np.sqrt(self.share) * self.taper.modes(sky.unit[good], sky.noise)

    def with_block(self, dates: NDArray[np.intp], modes: Array) -> LocalSky:
        """The same with one more block of dates that are in no other, and its modes (modes, pixels)."""
        return replace(self, blocks=[*self.blocks, dates], modes=[*self.modes, modes])


def no_local_sky(sky: Sky) -> LocalSky:
    """Local sky without any modes: the stationary sky alone."""
    n_dates, n_pixels = sky.unit.shape
    return LocalSky([np.arange(n_dates)], [np.zeros((0, n_pixels))], Whole(), 0.0)


def estimate_local_sky(
    sky: Sky, persistent: Sequence[TimeFunction], grid: Grid, taper: Taper | Whole | None = None
) -> LocalSky:
    """Estimate by maximum likelihood the share of the other dates' covariance that is added.

    Parameters
    ----------
    sky : Sky
    persistent : sequence of TimeFunction
        What its residual is without.
    grid : Grid
        Its good dates alone are learned from.
    taper : Taper or Whole, optional
        By default that of the grid.
    """
    full = _of_share(sky, persistent, grid, 1.0, taper or Taper(grid.valid))
    judges = _judges(sky, full, grid)

    def gain(share: float) -> float:
        return sum(judge(share) for judge in judges) / len(grid.good)

    share = float(minimize_scalar(lambda share: -gain(share), bounds=(0.0, LARGEST_SHARE), method="bounded").x)
    if not gain(share) > 0:
        return no_local_sky(sky)
    modes = [np.sqrt(share) * maps for maps in full.modes]
    return replace(full, modes=modes, share=share, level=_level(judges, share), gain=gain(share))


def local_sky(sky: Sky, persistent: Sequence[TimeFunction], grid: Grid, share: float, level: float) -> LocalSky:
    """The local sky with a known share and level; the other parameters as for :func:`estimate_local_sky`."""
    if not share > 0:
        return no_local_sky(sky)
    return replace(_of_share(sky, persistent, grid, share, Taper(grid.valid)), level=level)


def _of_share(sky: Sky, persistent: Sequence[TimeFunction], grid: Grid, share: float, taper: Taper | Whole) -> LocalSky:
    good = grid.good
    starts = [block[0] for block in np.array_split(good, BLOCKS)[1:] if len(block)]
    blocks = np.split(np.arange(len(sky.unit)), starts)  # of as many good dates each

    def modes(block: NDArray[np.intp]) -> Array:
        others = on_their_own(sky, persistent, np.setdiff1d(good, block))
        return np.asarray(np.sqrt(share) * taper.modes(others, sky.noise))

    return LocalSky(blocks, of_each(modes, blocks), taper, share)


def on_their_own(sky: Sky, persistent: Sequence[TimeFunction], dates: NDArray[np.intp]) -> Array:
    """Some dates at unit strength, without persistent functions fitted to these alone, (dates, pixels)."""
    left = without_height(without_others(sky.residual, persistent, dates), sky.height)
    return np.asarray(left / sky.strength[dates][:, None])


def _judges(sky: Sky, local: LocalSky, grid: Grid) -> list[_Evidence]:
    """The good dates of each block, judged by the modes of the others."""
    good = [np.intersect1d(block, grid.good) for block in local.blocks]
    judged = [(dates, maps) for dates, maps in zip(good, local.modes, strict=True) if len(dates)]
    return of_each(lambda block: _Evidence(sky.precision, sky.unit[block[0]], block[1]), judged)


def _level(judges: Sequence[_Evidence], share: float) -> float:
    """Geometric mean of the variances of the dates under a share of the modes' covariance."""
    return float(np.exp(np.log(np.concatenate([judge.variances(share) for judge in judges])).mean()))


class _Evidence:
    """Likelihood of dates if a share of ``modes' modes`` is added to S, each with its most likely strength.

    Parameters
    ----------
    precision : Precision
        Inverse of S.
    dates, modes : (n, pixels)
    """

    def __init__(self, precision: Precision, dates: Array, modes: Array) -> None:
        whitened = precision.whiten(modes)
        self.spread, axes = np.linalg.eigh(whitened @ modes.T)
        self.along = dates @ whitened.T @ axes
        self.energy = np.einsum("ij,ij->i", precision.whiten(dates), dates)
        self.pixels = dates.shape[1]

    def __call__(self, share: float) -> float:
        """Log-likelihood per pixel, summed over the dates, relative to a share of 0."""
        left = np.log(self.variances(share) * self.pixels / self.energy)
        log_det = np.log1p(share * np.maximum(self.spread, 0.0)).sum() / self.pixels
        return float(-0.5 * (left + log_det).sum())

    def variances(self, share: float) -> Array:
        """Most likely variance of each date, in units of the covariance, (dates,)."""
        explained = (self.along**2 * (share / (1.0 + share * self.spread))).sum(axis=1)
        return np.asarray(np.maximum(self.energy - explained, 1e-12 * self.energy) / self.pixels)
