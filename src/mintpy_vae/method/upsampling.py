"""Interpolate maps from the training grid to the stack's own grid, block by block of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline

from ..arrays import Array, Float32, Rows
from .atmosphere import PhasePerDate

__all__ = ["Bilinear", "CubicSpline", "FullResolution", "cell_centres"]


class FullResolution:
    """The atmosphere on the stack's own grid, for a block of rows at a time.

    The turbulent part is a cubic spline between the centres of the multilooked pixels; the stratified part follows the
    height of each full-resolution pixel.

    Parameters
    ----------
    atmosphere : PhasePerDate
    height : (length, width)
        Metres relative to the mean height of the training grid; NaN counts as 0.
    factor : int
        Looks of the training grid in both directions.
    """

    def __init__(self, atmosphere: PhasePerDate, height: NDArray[np.floating], factor: int) -> None:
        self.height = np.nan_to_num(height).astype(np.float32)
        self.turbulent = CubicSpline(atmosphere.turbulent, height.shape, factor)
        slope = atmosphere.slope.astype(np.float32)
        self.slope: Rows = Bilinear(slope, height.shape, factor) if slope.ndim > 1 else lambda _: slope[:, None, None]

    def __call__(self, rows: slice) -> NDArray[np.float32]:
        """Phase of the atmosphere per date on ``rows``, (dates, rows, width) radians."""
        phase = self.turbulent(rows)
        phase += self.slope(rows) * self.height[rows]
        return phase


class CubicSpline:
    """Cubic spline of maps between the pixel centres of the training grid, for a block of rows at a time.

    Parameters
    ----------
    maps : (n, h, w)
    shape : (int, int)
        Length and width of the stack.
    factor : int
        Looks of the training grid in both directions.
    """

    def __init__(self, maps: NDArray[np.floating], shape: tuple[int, ...], factor: int) -> None:
        (self.down, to_down), (self.across, to_across) = (_spline(size, factor) for size in shape)
        self.coefficients = (to_down @ maps @ to_across.T).astype(np.float32)

    def __call__(self, rows: slice) -> NDArray[np.float32]:
        """Interpolated maps on ``rows``, (n, rows, width)."""
        return tensor_product(self.coefficients, self.down[rows], self.across)


class Bilinear:
    """Bilinear interpolation of maps between the pixel centres of the training grid, for a block of rows at a time.

    Parameters
    ----------
    maps : (n, h, w)
    shape : (int, int)
        Length and width of the stack.
    factor : int
        Looks of the training grid in both directions.
    """

    def __init__(self, maps: NDArray[np.floating], shape: tuple[int, ...], factor: int) -> None:
        self.maps = maps.astype(np.float32)
        self.down, self.across = (_hats(size, factor) for size in shape)

    def __call__(self, rows: slice) -> NDArray[np.float32]:
        """Interpolated maps on ``rows``, (n, rows, width)."""
        return tensor_product(self.maps, self.down[rows], self.across)


def cell_centres(size: int, factor: int) -> Array:
    """Centres of the cells of ``factor`` pixels along an axis of ``size``, (cells,); the last cell may be smaller."""
    starts = np.arange(0, size, factor)
    return np.asarray((starts + np.minimum(starts + factor, size) - 1) / 2)


def tensor_product(maps: Float32, down: Float32, across: Float32) -> Float32:
    """Maps (n, h, w) on finer rows and columns, (n, rows, width), by local weights (rows, h) and (width, w)."""
    near = down.any(axis=0)  # only these rows of the maps contribute
    return np.asarray(down[:, near] @ (maps[:, near] @ across.T))


def _spline(size: int, factor: int) -> tuple[NDArray[np.float32], Array]:
    """Cubic B-splines at each pixel, (size, coarse), and the matrix (coarse, coarse) that gives their coefficients.

    They interpolate values at the centres of ``factor``-pixel cells and are constant outside.
    """
    centres = cell_centres(size, factor)
    if len(centres) == 1:
        return np.ones((size, 1), dtype=np.float32), np.ones((1, 1))
    spline = make_interp_spline(centres, np.eye(len(centres)), k=3 if len(centres) > 3 else 1)
    pixels = np.clip(np.arange(size), centres[0], centres[-1])
    return BSpline.design_matrix(pixels, spline.t, spline.k).toarray().astype(np.float32), spline.c


def _hats(size: int, factor: int) -> NDArray[np.float32]:
    """Matrix (size, coarse) of linear interpolation from the centres of ``factor``-pixel cells, constant outside."""
    centres = cell_centres(size, factor)
    units = np.eye(len(centres))
    return np.stack([np.interp(np.arange(size), centres, unit) for unit in units], axis=1).astype(np.float32)
