"""Input of the method, and the grid on which it works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Float32, Floats, Mask, Pairs
from ..multilooking import cell_sums, multilooked_shape
from .profile import Profile

__all__ = ["Grid", "Observations", "looks", "pooled"]

LARGEST = 2601
"""Number of pixels, 51 x 51, that are worked on as one scene; the cost grows with the third power."""
RESOLUTION = 0.4
"""Size in km of the cells of a wide scene by default: some 16 pixels of Sentinel-1 at 100 m, whose decorrelation noise
averages out. A scene of fewer than ``LARGEST`` such cells has finer ones."""


def looks(shape: tuple[int, ...], pixel: tuple[float, float], resolution: float = 0.0) -> tuple[float, int]:
    """Looks of the training grid, the same along both axes.

    Parameters
    ----------
    shape : (int, int)
        Length and width of the stack.
    pixel : (float, float)
        Size of a pixel on the ground, metres.
    resolution : float
        Size of a cell in km; 0: ``RESOLUTION``, or less if the whole scene has at most ``LARGEST`` of the finer cells.

    Returns
    -------
    factor : float
        Pixels per cell, 1 at least.
    ratio : int
        Cells per pixel of the grid on which the whole scene is worked on; 1 if that has the same cells.
    """
    whole = max(math.sqrt(shape[0] * shape[1] / LARGEST), 1.0)
    cells = max(1000 * (resolution or RESOLUTION) / math.sqrt(pixel[0] * pixel[1]), 1.0)
    factor = cells if resolution else min(cells, whole)
    return factor, math.ceil(whole / factor - 1e-9)


def pooled(maps: Floats, ratio: int, weight: Floats | None = None) -> Array:
    """Mean of the finite values of ``ratio`` x ``ratio`` cells of maps (n, height, width), NaN where there is none.

    The last row and column may have fewer cells. ``weight`` has the shape of the maps.
    """
    known = np.isfinite(maps)
    share = known.astype(np.float64) if weight is None else np.where(known, weight, 0.0)
    total, mass = cell_sums(np.where(known, maps, 0.0) * share, ratio), cell_sums(share, ratio)
    return np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)


@dataclass(frozen=True)
class Observations:
    """Pairs of a stack on the training grid.

    Attributes
    ----------
    phase, weight : (pairs, height, width)
        Unwrapped phase, radians, and its weight, 0 where there is none. The phase of each pair is known up to a
        constant.
    pairs : (pairs, 2) int
        Indices of the first and the second date.
    dates : sequence of str
        YYYYMMDD, sorted.
    height : (height, width)
        Metres, NaN where unknown.
    delay : (dates, height, width), optional
        Delay of a weather model, radians; NaN on dates without one.
    """

    phase: Floats
    weight: Floats
    pairs: Pairs
    dates: Sequence[str]
    height: Floats
    delay: Floats | None = None

    def with_motion(self, phase: Floats) -> Observations:
        """The same pairs with motion added, given by its phase on each date (dates, height, width), radians."""
        first, second = self.pairs.T
        moved = self.phase + phase[second] - phase[first]
        return replace(self, phase=np.where(self.weight > 0, moved, self.phase).astype(self.phase.dtype))

    def multilooked(self, ratio: int) -> Observations:
        """The same pairs on pixels of ``ratio`` x ``ratio`` cells; a pair is averaged by its weight."""
        if ratio == 1:
            return self
        phase = np.empty((len(self.phase), *multilooked_shape(self.height.shape, ratio)), np.float32)
        weight = np.empty_like(phase)
        for k in range(len(phase)):  # one by one, to limit the memory
            phase[k] = np.nan_to_num(pooled(self.phase[k : k + 1], ratio, self.weight[k : k + 1])[0])
            weight[k] = cell_sums(self.weight[k : k + 1], ratio)[0] / ratio**2
        delay = None if self.delay is None else pooled(self.delay, ratio)
        height = pooled(self.height[None], ratio)[0].astype(np.float32)
        return replace(self, phase=phase, weight=weight, height=height, delay=delay)

    def of_pairs(self, some: Mask) -> Observations:
        """Some of the pairs, (pairs,) bool."""
        return replace(self, phase=self.phase[some], weight=self.weight[some], pairs=self.pairs[some])

    def without(self, constant: Float32) -> Observations:
        """The same pairs less a constant each, (pairs,) radians."""
        return replace(self, phase=np.where(self.weight > 0, self.phase - constant[:, None, None], 0.0))

    def window(self, rows: slice, columns: slice) -> Observations:
        """The same pairs in a window of the grid."""
        here = np.s_[..., rows, columns]
        delay = None if self.delay is None else self.delay[here].copy()
        own = (layer[here].copy() for layer in (self.phase, self.weight, self.height))  # sums depend on the strides
        phase, weight, height = own
        return replace(self, phase=phase, weight=weight, height=height, delay=delay)


@dataclass(frozen=True)
class Grid:
    """Pixels of the training grid that take part, and the dates.

    Attributes
    ----------
    valid : (height, width) bool
        Pixels that take part; arrays (..., pixels) have values of these only.
    height : (pixels,)
        Effective heights in metres of ``profile``, zero mean.
    profile : Profile
        Vertical profile of the stratified delay.
    years : (dates,)
        Since the first date.
    good, bad : (n,) int
        Indices of dates to learn from, and of dates known to be bad.
    """

    valid: Mask
    height: Array
    profile: Profile
    years: Array
    good: NDArray[np.intp]
    bad: NDArray[np.intp]

    def maps(self, values: Array) -> Array:
        """Values (n, pixels) as maps (n, height, width), 0 elsewhere."""
        full = np.zeros((len(values), *self.valid.shape))
        full[:, self.valid] = values
        return full
