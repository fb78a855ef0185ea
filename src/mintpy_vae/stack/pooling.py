"""Multilooking of pairs and maps to the training grid."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import h5py
import numpy as np

from ..multilooking import Parts, cell_sums, multilooked_shape, parts_of, strips
from ..progress import Steps
from .hdf5 import damage, has_data, linked, open_hdf5, read, slabs
from .reading import Stack
from .workers import worked_on

COMPONENTS = "connectComponent"


def pool_pairs(
    stack: Stack,
    factor: float,
    max_memory: float,
    progress: Steps | None = None,
    known: Callable[[slice], np.ndarray] | None = None,
    components: np.ndarray | None = None,
    some: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Multilook the phase of pairs, weighted with coherence squared.

    Parameters
    ----------
    stack : Stack
    factor : float
        Pixels of one coarse pixel, along both axes; the last row and column may have fewer.
    max_memory : float
        GB for the slabs; the result, pairs * length * width / factor**2, is not included.
    progress : callable, optional
        Called with rows done and rows in all.
    known : callable, optional
        Rows -> (dates, rows, width) phase in radians that is subtracted first; NaN gives no data.
    components : (pairs, h, w) int array, optional
        Result of :func:`pool_components`: pixels of another component than that of their coarse pixel are left out,
        because they have another constant.
    some : (pairs of the stack,) bool array, optional
        Pairs to read; by default all. Chunks without any of them are not read.

    Returns
    -------
    phase : (pairs, h, w) float32 array
        Radians, known up to a constant per pair, as in the file; 0 where the weight is 0.
    weight : (pairs, h, w) float32 array
        Mean of coherence**2 over the factor x factor pixels, those without data counting as 0; a pixel on the edge
        between two coarse pixels counts in each with its share.
    """
    length, width = stack.shape
    some = np.ones(len(stack.pairs), bool) if some is None else some
    n_pairs = int(some.sum())
    h, w = multilooked_shape(stack.shape, factor)
    phase = np.zeros((n_pairs, h, w), np.float32)
    weight = np.zeros((n_pairs, h, w), np.float32)
    # rows are added one by one to a coarse row, so that the result does not depend on the slabs
    sum_weight = np.zeros((n_pairs, w))
    sum_phase = np.zeros((n_pairs, w))
    with open_hdf5(stack.file) as f:
        layers = slabs(f[stack.phase_name], max_memory, len(stack.dates) if known else 0, some)
        pieces = [(rows, block) for rows, blocks in layers for block in blocks]
    sums = worked_on(partial(_weighted_sums, stack, factor, known, components, some), pieces, stack.compute)
    down = parts_of(length, factor)
    last = np.r_[np.diff(down.cell) > 0, True]
    for (rows, piece), (weights, phases) in sums:
        block, parts = _among(some, piece), _on(rows, down)
        index = down.pixel[parts] - rows.start if components is None else range(len(parts))
        for i, k in zip(index, parts, strict=True):
            sum_weight[block] += down.share[k] * weights[:, i]
            sum_phase[block] += down.share[k] * phases[:, i]
            if last[k]:
                total, row = sum_weight[block], down.cell[k]
                weight[block, row] = np.minimum(total / factor**2, 1.0)  # the last pixel may be a little larger
                phase[block, row] = np.divide(sum_phase[block], total, out=np.zeros_like(total), where=total > 0)
                sum_weight[block] = 0
                sum_phase[block] = 0
        if progress and block.stop == n_pairs:
            progress(rows.stop, length, "")
    return phase, weight


def _weighted_sums(
    stack: Stack,
    factor: float,
    known: Callable[[slice], np.ndarray] | None,
    components: np.ndarray | None,
    some: np.ndarray,
    piece: tuple[slice, slice],
) -> tuple[np.ndarray, np.ndarray]:
    """Coherence squared, and phase times it, of some rows of some pairs, summed over the columns of each coarse pixel.

    With ``components`` of the parts of the rows, since a row may lie in two coarse pixels of different components.
    """
    rows, block = piece
    down, across = parts_of(stack.shape[0], factor), parts_of(stack.shape[1], factor)
    here = _on(rows, down)
    of_parts = np.ix_(down.pixel[here] - rows.start, across.pixel)
    with open_hdf5(stack.file) as f:
        p, c = (_read_some(f[name], some, block, rows) for name in (stack.phase_name, "coherence"))
        part = None if components is None else _read_some(f[COMPONENTS], some, block, rows)
    if known:
        delay = known(rows)
        for phase, (first, second) in zip(p, stack.pairs[block][some[block]], strict=True):
            phase[:] = np.where(has_data(phase), phase - (delay[second] - delay[first]), 0)
    coarse = None if components is None else components[_among(some, block)]
    n_rows = p.shape[1] if components is None else len(here)
    weights, phases = np.empty((2, len(p), n_rows, across.n_cells))
    # pair by pair, so that the arrays stay in the processor's cache
    for k in range(len(p)):
        valid = has_data(p[k]) & np.isfinite(c[k])
        if stack.land is not None:
            valid &= stack.land[rows]
        weight = np.where(valid, c[k], 0).astype(np.float32, copy=False)
        np.clip(weight, 0, 1, out=weight)
        weight *= weight
        phase = np.where(valid, p[k], 0).astype(np.float32, copy=False)
        phase *= weight
        if part is not None and coarse is not None:
            same = part[k][of_parts] == coarse[k][np.ix_(down.cell[here], across.cell)]
            weights[k], phases[k] = (across.sums_of_parts(np.where(same, x[of_parts], 0)) for x in (weight, phase))
        else:
            weights[k], phases[k] = across.sums(weight), across.sums(phase)
    return weights, phases


def _on(rows: slice, parts: Parts) -> np.ndarray:
    """Indices of the parts of some rows."""
    return np.arange(*np.searchsorted(parts.pixel, [rows.start, rows.stop]))


def _read_some(dataset: h5py.Dataset, some: np.ndarray, block: slice, rows: slice) -> np.ndarray:
    """Values on some rows of those of ``some`` pairs that lie in a block; a copy only if some of the block are not."""
    values, own = read(dataset, block, rows), some[block]
    return values if own.all() else values[own]


def _among(some: np.ndarray, block: slice) -> slice:
    """Where those of ``some`` pairs that lie in a block are, counted among ``some``."""
    return slice(int(some[: block.start].sum()), int(some[: block.stop].sum()))


def pool_components(
    stack: Stack, factor: float, max_memory: float, some: np.ndarray | None = None
) -> np.ndarray | None:
    """Connected component of each coarse pixel of each pair: the most frequent number above 0 of its pixels.

    Parameters as for :func:`pool_pairs`.

    Returns
    -------
    (pairs, h, w) int array or None
        0 where no pixel has a number. None if no pair has more than one component, if the stack has no components, and
        after MintPy's bridging, which has removed the constants of the components.
    """
    if "bridging" in stack.phase_name:
        return None
    length, width = stack.shape
    some = np.ones(len(stack.pairs), bool) if some is None else some
    with open_hdf5(stack.file) as f:
        source = linked(f, COMPONENTS)
        shape = (len(stack.pairs), length, width)
        # NISAR's numbers are floats, NaN where there is none
        if not isinstance(source, h5py.Dataset) or source.shape != shape or source.dtype.kind not in "iuf":
            return None
        found = np.zeros((int(some.sum()), *multilooked_shape(stack.shape, factor)), np.int64)
        blocks = next(slabs(source, max_memory, some=some))[1]
        for cells, rows, down in strips(length, factor, (source.chunks or (1, 1))[1]):
            for block in blocks:
                part = _read_some(source, some, block, rows)
                coarse = found[_among(some, block), cells]
                if stack.land is not None:
                    part[:, ~stack.land[rows]] = 0
                for k, numbers in enumerate(part):
                    coarse[k] = _most_frequent(numbers, factor, down)
    return found if any(len(np.unique(parts[parts > 0])) > 1 for parts in found) else None


def _most_frequent(component: np.ndarray, factor: float, rows: Parts) -> np.ndarray:
    """Most frequent number above 0 in each coarse pixel of some rows, the smallest of several; 0 if there is none."""
    numbers = np.unique(component[component > 0])
    if not len(numbers):
        return np.zeros((), int)
    counts = np.array([cell_sums((component == n).astype(np.float32), factor, rows) for n in numbers])
    return np.where(counts.any(axis=0), numbers[counts.argmax(axis=0)], 0)


def pool_map(map2d: np.ndarray, factor: float, rows: Parts | None = None) -> np.ndarray:
    """Mean of the finite values in factor x factor pixels of a (length, width) map; NaN where there is none.

    If the map is a strip of a longer one, ``rows`` are the parts of its rows.
    """
    valid = np.isfinite(map2d)
    total = cell_sums(np.where(valid, map2d, 0).astype(np.float64), factor, rows)
    count = cell_sums(valid.astype(np.float64), factor, rows)
    with np.errstate(invalid="ignore"):
        return (total / np.where(count > 0, count, np.nan)).astype(np.float32)


def has_phase(stack: Stack, rows: slice, columns: slice) -> bool:
    """Whether at least half of the kept pairs have phase somewhere in a window, on land of known height."""
    ground = np.isfinite(stack.height[rows, columns])
    if stack.land is not None:
        ground &= stack.land[rows, columns]
    if not ground.any():
        return False
    with open_hdf5(stack.file) as f, damage(stack.file):
        phase = f[stack.phase_name][:, rows, columns][stack.keep]
    return bool((has_data(phase) & ground).any(axis=(1, 2)).mean() >= 0.5)
