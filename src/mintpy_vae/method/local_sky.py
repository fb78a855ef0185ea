"""What a stationary sky cannot hold: weather that clings to summits, coasts and valleys, as the other dates show it.

A covariance that is alike everywhere (:mod:`.sky`) knows no places. The sample covariance of the dates does, but it has
as many dimensions as there are dates, and a date that is part of it explains itself, motion included. So the dates are
cut into blocks, and to the covariance of the dates of a block comes the sample covariance of all others
(cross-fitting; Chernozhukov et al., 2018),

    x_t ~ N(0, s_t^2 (S + share * mean of u' u over the other blocks' dates u)),

with one share, under which the dates are likeliest, and a strength s_t of its own for each date. What happens on a few
dates in a row, as an intrusion does, can so hardly be learned and removed.

A convolutional decoder in place of the sample covariance, trained under the same likelihood, was no better on real
skies and cost twenty times as much (docs/method.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ..arrays import Array
from .sky import Sky

BLOCKS = 4
LARGEST_SHARE = 1.0


@dataclass(frozen=True)
class LocalSky:
    """What is added to the covariance of each date of unit strength.

    Attributes
    ----------
    blocks : list of (dates,) int
        Together all dates.
    modes : list of (modes, pixels)
        ``modes' modes`` is added for the dates of a block, of which none is part of it.
    share : float
        0 means that the stationary sky alone is likeliest.
    gain : float
        Log-likelihood per pixel of the dates that they add.
    """

    blocks: list[NDArray[np.intp]]
    modes: list[Array]
    share: float
    gain: float

    @cached_property
    def of_all(self) -> Array:
        """Modes of the mean over the blocks, (modes, pixels)."""
        return np.vstack(self.modes) / np.sqrt(len(self.blocks))


def no_local_sky(sky: Sky) -> LocalSky:
    """The stationary sky alone."""
    n_dates, n_pixels = sky.unit.shape
    return LocalSky([np.arange(n_dates)], [np.zeros((0, n_pixels))], 0.0, 0.0)


def estimate_local_sky(sky: Sky, good: NDArray[np.intp]) -> LocalSky:
    """Let the dates say how far the covariance of the others is believed.

    Parameters
    ----------
    sky : Sky
    good : (dates,) int
        Dates that may be learned from.
    """
    blocks = np.array_split(np.arange(len(sky.unit)), BLOCKS)
    whitened = sky.covariance().precision.whiten(sky.unit)
    products = whitened @ sky.unit.T
    others = [np.setdiff1d(good, block) for block in blocks]
    judged = [(np.intersect1d(block, good), of) for block, of in zip(blocks, others, strict=True)]
    judges = [_Evidence(products, dates, of, sky.unit.shape[1]) for dates, of in judged if len(dates)]

    def gain(share: float) -> float:
        return sum(judge(share) for judge in judges) / len(good)

    share = float(minimize_scalar(lambda share: -gain(share), bounds=(0.0, LARGEST_SHARE), method="bounded").x)
    if not gain(share) > 0:
        return no_local_sky(sky)
    return LocalSky(blocks, [np.sqrt(share / len(of)) * sky.unit[of] for of in others], share, gain(share))


class _Evidence:
    """Likelihood of dates when the mean ``u' u`` of others is added to S, each with its strength at its likeliest.

    Parameters
    ----------
    products : (all dates, all dates)
        ``u S^-1 u'``.
    dates, others : (n,) int
    pixels : int
    """

    def __init__(self, products: Array, dates: NDArray[np.intp], others: NDArray[np.intp], pixels: int) -> None:
        self.spread, axes = np.linalg.eigh(products[np.ix_(others, others)] / len(others))
        self.along = products[np.ix_(dates, others)] @ axes / np.sqrt(len(others))
        self.energy = products[dates, dates]
        self.pixels = pixels

    def __call__(self, share: float) -> float:
        """Log-likelihood per pixel, summed over the dates, less that at a share of 0."""
        explained = (self.along**2 * (share / (1.0 + share * self.spread))).sum(axis=1)
        left = np.log(np.maximum(1.0 - explained / self.energy, 1e-12))
        log_det = np.log1p(share * np.maximum(self.spread, 0.0)).sum() / self.pixels
        return float(-0.5 * (left + log_det).sum())
