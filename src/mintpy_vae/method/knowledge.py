"""Prior information of the user, on the training grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arrays import Floats, Mask
from .observations import pooled
from .timefunctions import TimeFunction


def half_marked(stable: Floats | None, moving: Floats | None) -> tuple[Mask | None, Mask | None]:
    """Pixels of which at least half is marked, given the shares (height, width); neither where both masks have half."""
    if stable is None or moving is None:
        return None if stable is None else stable >= 0.5, None if moving is None else moving >= 0.5
    both = (stable >= 0.5) & (moving >= 0.5)
    return (stable >= 0.5) & ~both, (moving >= 0.5) & ~both


@dataclass(frozen=True)
class StationRate:
    """The rate of a GNSS station in the stack's units.

    Attributes
    ----------
    name : str
    row, column : float
        Position on the training grid; whole numbers are the centres of its pixels.
    rate, std : float
        Radians per year of unwrapped phase, which grows when the ground moves away; standard deviation likewise.
    """

    name: str
    row: float
    column: float
    rate: float
    std: float


@dataclass(frozen=True)
class Knowledge:
    """All prior information; ``Knowledge()`` means none.

    Attributes
    ----------
    functions : list of TimeFunction
        Functions of time that are searched for in addition.
    stable, moving : (height, width) bool, or None
        Ground of the training grid that is known not to move, and ground that is known to move; never both.
    bad_dates : list of int
        Indices of dates known to be bad.
    stations : list of StationRate
        No station or at least two, because the rates of one stack are relative.
    warnings : list of str
        Input of the user that could not be used.
    """

    functions: list[TimeFunction] = field(default_factory=list)
    stable: Mask | None = None
    moving: Mask | None = None
    bad_dates: list[int] = field(default_factory=list)
    stations: list[StationRate] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def multilooked(self, ratio: int) -> Knowledge:
        """The same on pixels of ``ratio`` x ``ratio`` cells, without stations."""
        masks = (
            None if m is None else pooled(m[None].astype(np.float32), ratio)[0] for m in (self.stable, self.moving)
        )
        stable, moving = half_marked(*masks)
        return replace(self, stable=stable, moving=moving, stations=[])

    def window(self, rows: slice, columns: slice) -> Knowledge:
        """The same in a window of the grid, without stations."""
        stable, moving = (None if mask is None else mask[rows, columns] for mask in (self.stable, self.moving))
        return replace(self, stable=stable, moving=moving, stations=[])

    def summary(self, dates: Sequence[str]) -> dict[str, Any]:
        """The prior information as it was understood, for the result file; ``dates`` (dates,) YYYYMMDD."""
        return {
            "functions": [f.name for f in self.functions],
            "stable_share": None if self.stable is None else round(float(self.stable.mean()), 4),
            "moving_share": None if self.moving is None else round(float(self.moving.mean()), 4),
            "bad_dates": [dates[k] for k in self.bad_dates],
            "stations": [s.name for s in self.stations],
        }


NOTHING = Knowledge()
