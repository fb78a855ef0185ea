"""Cells of a multilooked grid, along one axis and of maps.

The looks, pixels per cell along both axes, need not be a whole number: a pixel that lies in two cells counts in each
with its share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from .arrays import Array

Place = TypeVar("Place", float, Array)

_ROUNDING = 1e-9
_BLOCK = 1 << 20  # values that are copied at a time


@dataclass(frozen=True)
class Parts:
    """Parts of the pixels along an axis, each in one cell.

    Attributes
    ----------
    pixel, cell : (parts,) int
        In ascending order.
    share : (parts,)
        Of the pixel; 1 if it lies in one cell.
    """

    pixel: NDArray[np.intp]
    cell: NDArray[np.intp]
    share: Array

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.cell[-1]) + 1

    @cached_property
    def _of_pixels(self) -> csr_array:
        return coo_array((self.share, (self.cell, self.pixel))).tocsr()

    @cached_property
    def _of_parts(self) -> csr_array:
        return coo_array((self.share, (self.cell, np.arange(len(self.cell))))).tocsr()

    def sums(self, data: NDArray[np.floating]) -> Array:
        """Sums over the last axis of data (..., pixels), in the order of the pixels, (..., cells)."""
        return _times(self._of_pixels, data)

    def sums_of_parts(self, data: NDArray[np.floating]) -> Array:
        """The same, of data (..., parts)."""
        return _times(self._of_parts, data)


def _times(weights: csr_array, data: NDArray[np.floating]) -> Array:
    """Weights (cells, n) times data (..., n), in double precision, (..., cells)."""
    flat = data.reshape(-1, data.shape[-1])
    total = np.empty((len(flat), weights.shape[0]))
    step = max(_BLOCK // data.shape[-1], 1)
    for start in range(0, len(flat), step):
        total[start : start + step] = (weights @ flat[start : start + step].T).T
    return total.reshape(*data.shape[:-1], weights.shape[0])


def number_of_cells(size: int, looks: float) -> int:
    """Number of cells of ``looks`` pixels along an axis of ``size`` pixels.

    The last one has what is left: half a pixel at least, or, rather than less, up to half a pixel more than the others.
    """
    return cell_of(size - 1, looks) + 1


def multilooked_shape(shape: tuple[int, ...], looks: float) -> tuple[int, int]:
    """Shape of a grid (height, width) in cells of ``looks`` x ``looks``."""
    return number_of_cells(shape[0], looks), number_of_cells(shape[1], looks)


def cell_edges(size: int, looks: float) -> Array:
    """Edges of the cells in pixels from the start of the axis, (cells + 1,)."""
    edges = looks * np.arange(number_of_cells(size, looks) + 1)
    whole = np.rint(edges)
    edges = np.where(np.abs(edges - whole) < _ROUNDING * size, whole, edges)
    edges[-1] = size
    return np.asarray(edges)


def parts_of(size: int, looks: float) -> Parts:
    """Parts of ``size`` pixels in cells of ``looks`` pixels."""
    edges = cell_edges(size, looks)
    ends = np.unique(np.r_[np.arange(size + 1), edges])
    middle = (ends[:-1] + ends[1:]) / 2
    return Parts(middle.astype(np.intp), np.searchsorted(edges, middle) - 1, np.diff(ends))


def cell_of(pixel: int, looks: float) -> int:
    """The cell of ``looks`` pixels in which the middle of a pixel lies."""
    return int((pixel + 0.5) / looks + _ROUNDING)


def on_cells(place: Place, looks: float) -> Place:
    """A place along an axis in pixels, counted from the middle of the first one, in cells of ``looks`` pixels."""
    return (place + 0.5) / looks - 0.5


def on_pixels(place: Place, looks: float) -> Place:
    """The inverse of :func:`on_cells`."""
    return (place + 0.5) * looks - 0.5


def pixels_of(cell: int, size: int, looks: float) -> slice:
    """The pixels along an axis that lie in a cell, at least in part."""
    first, end = cell_edges(size, looks)[cell : cell + 2]
    return slice(int(first), math.ceil(end))


def strips(size: int, looks: float, pixels: int) -> Iterator[tuple[slice, slice, Parts]]:
    """Cells along an axis of ``size`` pixels, strip by strip of some ``pixels``.

    Yields
    ------
    cells, rows : slice
        Cells of a strip, and their pixels.
    parts : Parts
        Counted from the first of both.
    """
    parts, step = parts_of(size, looks), max(int(pixels / looks), 1)
    for first in range(0, parts.n_cells, step):
        cells = slice(first, min(first + step, parts.n_cells))
        own = slice(*np.searchsorted(parts.cell, [cells.start, cells.stop]))
        pixel = parts.pixel[own]
        rows = slice(int(pixel[0]), int(pixel[-1]) + 1)
        yield cells, rows, Parts(pixel - rows.start, parts.cell[own] - cells.start, parts.share[own])


def cell_sums(maps: NDArray[np.floating], looks: float, rows: Parts | None = None) -> Array:
    """Sums over the cells of maps (..., length, width); of a strip of rows if their parts are given."""
    across = parts_of(maps.shape[-1], looks).sums(maps)
    down = rows or parts_of(maps.shape[-2], looks)
    return np.swapaxes(down.sums(np.swapaxes(across, -1, -2)), -1, -2)
