"""Interpolate maps from the training grid to the stack's own grid, block by block of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline

from ..arrays import Array, Float32, Rows
from ..multilooking import cell_edges
from .atmosphere import PhasePerDate

__all__ = ["Bilinear", "CubicSpline", "FullResolution", "cell_centres"]


class FullResolution:
    """The atmosphere on the stack's own grid, for a block of rows at a time.

    The turbulent part is a cubic spline between the centres of the multilooked pixels; the stratified part follows the
    effective height of each full-resolution pixel.

    Parameters
    ----------
    atmosphere : PhasePerDate
    height : (length, width)
        Effective heights by the profile of the training grid, metres; NaN counts as 0.
    factor : float
        Looks of the training grid in both directions.
    """

    def __init__(self, atmosphere: PhasePerDate, height: NDArray[np.floating], factor: float) -> None:
        self.height = np.nan_to_num(height).astype(np.float32)
        self.turbulent = CubicSpline(atmosphere.turbulent, height.shape, factor)
        slope = atmosphere.slope.astype(np.float32)
        self.slope: Rows = Bilinear(slope, height.shape, factor) if slope.ndim > 1 else lambda _: slope[:, None, None]

    def __call__(self, rows: slice) -> NDArray[np.float32]:
        """Phase of the atmosphere per date on ``rows``, (dates, rows, width) radians."""
        phase = self.turbulent(rows)
        phase += self.slope(rows) * self.height[rows]
        return phase


class _Interpolation:
    """Maps between the pixel centres of the training grid, for a block of rows at a time."""

    coefficients: Float32
    down: Weights
    across: Weights

    def __call__(self, rows: slice) -> Float32:
        """Interpolated maps on ``rows``, (n, rows, width)."""
        return tensor_product(self.coefficients, self.down, self.across, rows)


class CubicSpline(_Interpolation):
    """Cubic spline; parameters as for :class:`Bilinear`."""

    def __init__(self, maps: NDArray[np.floating], shape: tuple[int, ...], factor: float) -> None:
        (self.down, to_down), (self.across, to_across) = (_spline(size, factor) for size in shape)
        self.coefficients = (to_down @ maps @ to_across.T).astype(np.float32)


class Bilinear(_Interpolation):
    """Bilinear interpolation of maps.

    Parameters
    ----------
    maps : (n, h, w)
    shape : (int, int)
        Length and width of the stack.
    factor : float
        Looks of the training grid in both directions.
    """

    def __init__(self, maps: NDArray[np.floating], shape: tuple[int, ...], factor: float) -> None:
        self.coefficients = maps.astype(np.float32)
        self.down, self.across = (_hats(size, factor) for size in shape)


def cell_centres(size: int, factor: float) -> Array:
    """Centres of the cells of ``factor`` pixels along an axis of ``size``, (cells,); the last cell may be smaller."""
    edges = cell_edges(size, factor)
    return np.asarray((edges[:-1] + edges[1:] - 1) / 2)


@dataclass(frozen=True)
class Weights:
    """Local weights of interpolation along one axis: each of the fine pixels depends on a few neighbouring cells.

    Attributes
    ----------
    index : (neighbours, size) int
    value : (neighbours, size) float32
    """

    index: NDArray[np.intp]
    value: Float32

    @classmethod
    def of(cls, matrix: Array) -> Weights:
        """Weights of a banded matrix (size, cells)."""
        used = matrix != 0
        width = int(used.sum(axis=1).max())
        first = np.minimum(used.argmax(axis=1), matrix.shape[1] - width)
        index = first + np.arange(width)[:, None]
        return cls(index, np.take_along_axis(matrix, index.T, axis=1).T.astype(np.float32))


def tensor_product(maps: Float32, down: Weights, across: Weights, rows: slice) -> Float32:
    """Maps (n, h, w) on finer ``rows`` and all columns, (n, rows, width).

    Sums of a few terms in a fixed order: the bits do not depend on the threads of the linear algebra, and the cost does
    not depend on the number of cells.
    """
    tall = np.zeros((len(maps), down.index[0, rows].size, maps.shape[2]), np.float32)
    for index, value in zip(down.index, down.value, strict=True):
        tall += maps[:, index[rows]] * value[rows, None]
    full = np.zeros((*tall.shape[:2], across.index.shape[1]), np.float32)
    for index, value in zip(across.index, across.value, strict=True):
        part = tall[..., index]
        part *= value
        full += part
    return full


def _spline(size: int, factor: float) -> tuple[Weights, Array]:
    """Cubic B-splines at each of ``size`` pixels, and the matrix (coarse, coarse) that gives their coefficients.

    They interpolate values at the centres of ``factor``-pixel cells and are constant outside.
    """
    centres = cell_centres(size, factor)
    if len(centres) == 1:
        return Weights.of(np.ones((size, 1))), np.ones((1, 1))
    spline = make_interp_spline(centres, np.eye(len(centres)), k=3 if len(centres) > 3 else 1)
    pixels = np.clip(np.arange(size), centres[0], centres[-1])
    return Weights.of(BSpline.design_matrix(pixels, spline.t, spline.k).toarray()), spline.c


def _hats(size: int, factor: float) -> Weights:
    """Weights of linear interpolation from the centres of ``factor``-pixel cells, constant outside."""
    centres = cell_centres(size, factor)
    units = np.eye(len(centres))
    return Weights.of(np.stack([np.interp(np.arange(size), centres, unit) for unit in units], axis=1))
