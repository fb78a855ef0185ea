"""Input of the method, and the grid on which it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Floats, Mask, Pairs

__all__ = ["Grid", "Observations"]


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


@dataclass(frozen=True)
class Grid:
    """Pixels of the training grid that take part, and the dates.

    Attributes
    ----------
    valid : (height, width) bool
        Pixels that take part; arrays (..., pixels) have values of these only.
    height : (pixels,)
        Metres above ``mean_height``.
    mean_height : float
        Metres.
    years : (dates,)
        Since the first date.
    good, bad : (n,) int
        Indices of dates to learn from, and of dates known to be bad.
    """

    valid: Mask
    height: Array
    mean_height: float
    years: Array
    good: NDArray[np.intp]
    bad: NDArray[np.intp]

    def maps(self, values: Array) -> Array:
        """Values (n, pixels) as maps (n, height, width), 0 elsewhere."""
        full = np.zeros((len(values), *self.valid.shape))
        full[:, self.valid] = values
        return full
