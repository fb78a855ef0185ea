"""Adjust the trend of the atmosphere so that the rates of the corrected stack agree with GNSS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from .knowledge import StationRate


def stations_on(
    stations: Sequence[StationRate], valid: NDArray[np.bool_]
) -> tuple[list[StationRate], NDArray[np.intp]]:
    """Return the stations on valid pixels of the training grid, and the indices of these among the valid pixels."""
    index = np.full(valid.shape, -1)
    index[valid] = np.arange(valid.sum())
    rows = [min(max(round(s.row), 0), valid.shape[0] - 1) for s in stations]
    columns = [min(max(round(s.column), 0), valid.shape[1] - 1) for s in stations]
    found = [(s, index[r, c]) for s, r, c in zip(stations, rows, columns, strict=True) if index[r, c] >= 0]
    return [s for s, _ in found], np.array([k for _, k in found], dtype=np.intp)


def anchor(
    rates: Array, stations: Sequence[StationRate], pixels: NDArray[np.intp], modes: Array, noise: float, scale: float
) -> Array:
    """Rate of each mode of the atmosphere that the stations imply, by simple kriging of their misfits.

    Parameters
    ----------
    rates : (stations,)
        Rates of the corrected stack at the stations, radians per year, known up to a common constant.
    stations : sequence of StationRate
        Two or more.
    pixels : (stations,) int
        Pixels of the stations.
    modes : (modes, pixels)
        Modes of the atmosphere of a date of unit strength, each scaled by its standard deviation; the first is the
        constant.
    noise : float
        Variance of the atmosphere that the modes do not describe.
    scale : float
        Standard deviation, per year, of the rate of an atmosphere of unit variance.

    Returns
    -------
    (modes,)
        Radians per year in units of the modes; 0 for the constant. The adjustment vanishes far from all stations.
    """
    misfit = rates - np.array([s.rate for s in stations])
    rest = scale * modes[1:, pixels]
    covariance = rest.T @ rest + np.diag([s.std**2 + scale**2 * noise for s in stations])
    weights = np.linalg.solve(covariance, np.stack([misfit, np.ones(len(misfit))], axis=1))
    constant = weights[:, 0].sum() / weights[:, 1].sum()  # generalised least squares
    return np.concatenate([[0.0], scale * (rest @ (weights[:, 0] - constant * weights[:, 1]))])
