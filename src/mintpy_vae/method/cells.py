"""The fine cells of a wide scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..arrays import Array, Floats, Mask
from .knowledge import Knowledge
from .observations import Observations
from .profile import Profile
from .upsampling import CubicSpline


@dataclass(frozen=True)
class Cells:
    """What is known of a wide scene on its cells; as a whole it is seen on coarse pixels.

    Attributes
    ----------
    observations : Observations
        Pairs on the cells.
    knowledge : Knowledge
        Prior information on the cells.
    ratio : int
        Cells per coarse pixel along both axes.
    """

    observations: Observations
    knowledge: Knowledge
    ratio: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along both axes."""
        return self.observations.height.shape[0], self.observations.height.shape[1]

    @cached_property
    def covered(self) -> Mask:
        """Cells with data, (height, width)."""
        return np.isfinite(self.observations.height) & (self.observations.weight > 0).any(axis=0)

    def height(self, profile: Profile) -> Array:
        """Effective heights by a profile, metres, 0 where unknown; (height, width)."""
        return np.nan_to_num(profile(self.observations.height))

    def with_motion(self, phase: Floats) -> Cells:
        """The same cells with motion added, given on the coarse pixels (dates, height, width), radians."""
        fine = CubicSpline(phase, self.shape, self.ratio)(slice(0, self.shape[0]))
        return replace(self, observations=self.observations.with_motion(fine))
