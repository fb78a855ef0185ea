"""Vertical profile of the stratified delay: the refractivity of the air decreases exponentially with height."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np

from ..arrays import Array, Floats
from .covariance import height_slopes, without_height

Heights = TypeVar("Heights", bound=Floats)
BEND, BEND_STD = 0.5e-3, 0.2e-3
"""Mean and standard deviation of 1 / scale height of the delay before the stack is seen, per metre. The delay that
varies is mostly water vapour, whose scale height is 1.5 to 3 km."""
ROUNDS = 4
MOST = 4.0
"""Largest weight of a difference of dates, in units of the median one."""
SMALL = 1e-7
"""Change of ``bend``, 1 / m, for the derivative of the profile."""


@dataclass(frozen=True)
class Profile:
    """Height above ``level`` in metres of a linear profile with the same delay, less ``offset``.

    Attributes
    ----------
    level : float
        Height in metres at which a metre counts as a metre; less above, more below.
    bend : float
        1 / scale height, per metre; 0 for a linear profile.
    offset : float
        Metres.
    """

    level: float
    bend: float = 0.0
    offset: float = 0.0

    def __call__(self, height: Heights) -> Heights:
        """Effective heights of heights in metres, of their precision."""
        effective = height - self.level
        if self.bend:
            effective *= -self.bend
            np.expm1(effective, out=effective)
            effective /= -self.bend
        effective -= self.offset
        return cast(Heights, effective)

    def centred(self, height: Array) -> Profile:
        """The same profile with the offset that makes the mean effective height zero."""
        return replace(self, offset=self.offset + float(self(height).mean()))


def fit_profile(series: Array, height: Array, years: Array) -> Profile:
    """Estimate the profile of a stack's stratified delay, an exponential (Doin et al., 2009, compare profiles).

    The differences of successive dates, less their mean rate, are mostly atmosphere. Each has a slope with the
    effective height; the bend is the one for which these slopes leave least of the differences (Gauss-Newton), with a
    normal prior. No difference counts more than ``MOST`` times the median one, so that no single date decides.

    Parameters
    ----------
    series : (dates, pixels)
        Radians.
    height : (pixels,)
        Metres.
    years : (dates,)
    """
    change, interval = np.diff(series, axis=0), np.diff(years)
    change -= np.outer(interval, interval @ change / (interval @ interval))
    level, bend = float(height.mean()), BEND
    for _ in range(ROUNDS):
        shape = Profile(level, bend).centred(height)(height)
        tangent = (Profile(level, bend + SMALL)(height) - Profile(level, bend)(height)) / SMALL
        tangent = without_height(tangent[None] - tangent.mean(), shape)[0]
        slope, bent = height_slopes(change, shape), height_slopes(change, tangent)
        left = change - np.outer(slope, shape) - np.outer(bent, tangent)
        weight = slope**2 / np.maximum(left.var(axis=1), 1e-30)
        weight = np.minimum(weight, MOST * np.median(weight))
        if not weight.any():
            break
        weight /= weight.sum()
        ratio = bent / np.where(slope, slope, 1.0)
        step = float(weight @ ratio)
        variance = float(weight**2 @ (ratio - step) ** 2) / max(1.0 - float(weight @ weight), 1e-3)
        trust = BEND_STD**2 / (BEND_STD**2 + variance)
        bend = max(BEND + trust * (bend + step - BEND), 0.0)
    return Profile(level, bend).centred(height)
