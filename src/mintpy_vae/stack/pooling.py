"""Multilooking of pairs and maps to the training grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import h5py
import numpy as np

from ..progress import Steps
from .hdf5 import damage, has_data, linked, open_hdf5, read, slabs
from .reading import Stack
from .workers import worked_on

COMPONENTS = "connectComponent"


def pool_pairs(
    stack: Stack,
    factor: int,
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
    factor : int
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
        Mean of coherence**2 over the factor x factor pixels, those without data counting as 0.
    """
    length, width = stack.shape
    some = np.ones(len(stack.pairs), bool) if some is None else some
    n_pairs = int(some.sum())
    h, w = math.ceil(length / factor), math.ceil(width / factor)
    phase = np.zeros((n_pairs, h, w), np.float32)
    weight = np.zeros((n_pairs, h, w), np.float32)
    # rows are added one by one to a coarse row, so that the result does not depend on the slabs
    sum_weight = np.zeros((n_pairs, w))
    sum_phase = np.zeros((n_pairs, w))
    with open_hdf5(stack.file) as f:
        layers = slabs(f[stack.phase_name], max_memory, len(stack.dates) if known else 0, some)
        pieces = [(rows, block) for rows, blocks in layers for block in blocks]
    sums = worked_on(partial(_weighted_sums, stack, factor, known, components, some), pieces, stack.compute)
    for (rows, piece), (weights, phases) in sums:
        block = _among(some, piece)
        for i, row in enumerate(range(rows.start, rows.stop)):
            sum_weight[block] += weights[:, i]
            sum_phase[block] += phases[:, i]
            if row % factor == factor - 1 or row == length - 1:
                total = sum_weight[block]
                weight[block, row // factor] = total / factor**2
                phase[block, row // factor] = np.divide(
                    sum_phase[block], total, out=np.zeros_like(total), where=total > 0
                )
                sum_weight[block] = 0
                sum_phase[block] = 0
        if progress and block.stop == n_pairs:
            progress(rows.stop, length, "")
    return phase, weight


def _weighted_sums(
    stack: Stack,
    factor: int,
    known: Callable[[slice], np.ndarray] | None,
    components: np.ndarray | None,
    some: np.ndarray,
    piece: tuple[slice, slice],
) -> tuple[np.ndarray, np.ndarray]:
    """Coherence squared, and phase times it, of some rows of some pairs, summed over `factor` columns."""
    rows, block = piece
    with open_hdf5(stack.file) as f:
        p, c = (_read_some(f[name], some, block, rows) for name in (stack.phase_name, "coherence"))
        part = None if components is None else _read_some(f[COMPONENTS], some, block, rows)
    if known:
        delay = known(rows)
        for phase, (first, second) in zip(p, stack.pairs[block][some[block]], strict=True):
            phase[:] = np.where(has_data(phase), phase - (delay[second] - delay[first]), 0)
    coarse = None if components is None else components[_among(some, block)]
    shape = (*p.shape[:2], math.ceil(p.shape[2] / factor))
    weights, phases = np.empty(shape), np.empty(shape)
    # pair by pair, so that the arrays stay in the processor's cache
    for k in range(len(p)):
        valid = has_data(p[k]) & np.isfinite(c[k])
        if stack.land is not None:
            valid &= stack.land[rows]
        if part is not None and coarse is not None:
            own = coarse[k, np.arange(rows.start, rows.stop) // factor]
            valid &= part[k] == np.repeat(own, factor, axis=1)[:, : valid.shape[1]]
        weight = np.where(valid, c[k], 0).astype(np.float32, copy=False)
        np.clip(weight, 0, 1, out=weight)
        weight *= weight
        phase = np.where(valid, p[k], 0).astype(np.float32, copy=False)
        phase *= weight
        weights[k], phases[k] = _pool_columns(weight, factor), _pool_columns(phase, factor)
    return weights, phases


def _read_some(dataset: h5py.Dataset, some: np.ndarray, block: slice, rows: slice) -> np.ndarray:
    """Values on some rows of those of ``some`` pairs that lie in a block; a copy only if some of the block are not."""
    values, own = read(dataset, block, rows), some[block]
    return values if own.all() else values[own]


def _among(some: np.ndarray, block: slice) -> slice:
    """Where those of ``some`` pairs that lie in a block are, counted among ``some``."""
    return slice(int(some[: block.start].sum()), int(some[: block.stop].sum()))


def pool_components(stack: Stack, factor: int, max_memory: float, some: np.ndarray | None = None) -> np.ndarray | None:
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
        found = np.zeros((int(some.sum()), math.ceil(length / factor), math.ceil(width / factor)), np.int64)
        step = factor * max(1, (source.chunks or (1, factor))[1] // factor)
        blocks = next(slabs(source, max_memory, some=some))[1]
        for start in range(0, length, step):
            rows = slice(start, min(start + step, length))
            for block in blocks:
                part = _read_some(source, some, block, rows)
                coarse = found[_among(some, block), start // factor : math.ceil(rows.stop / factor)]
                if stack.land is not None:
                    part[:, ~stack.land[rows]] = 0
                for k, parts in enumerate(part):
                    coarse[k] = _most_frequent(parts, factor)
    return found if any(len(np.unique(parts[parts > 0])) > 1 for parts in found) else None


def _most_frequent(parts: np.ndarray, factor: int) -> np.ndarray:
    """Most frequent number above 0 in each coarse pixel, the smallest of several; 0 if there is none."""
    numbers = np.unique(parts[parts > 0])
    if not len(numbers):
        return np.zeros((), int)
    counts = np.array([_pool((parts == n).astype(np.float32), factor) for n in numbers])
    return np.where(counts.any(axis=0), numbers[counts.argmax(axis=0)], 0)


def pool_map(map2d: np.ndarray, factor: int) -> np.ndarray:
    """Mean of the finite values in factor x factor pixels of a (length, width) map; NaN where there is none."""
    valid = np.isfinite(map2d)
    total = _pool(np.where(valid, map2d, 0).astype(np.float64), factor)
    count = _pool(valid.astype(np.float64), factor)
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


def _pool_columns(data: np.ndarray, factor: int) -> np.ndarray:
    """Sum each `factor` columns of (..., width), in a fixed order."""
    w = math.ceil(data.shape[-1] / factor)
    total = np.zeros((*data.shape[:-1], w))
    for k in range(min(factor, data.shape[-1])):
        part = data[..., k::factor]
        total[..., : part.shape[-1]] += part
    return total


def _pool(data: np.ndarray, factor: int) -> np.ndarray:
    return _pool_columns(_pool_columns(data, factor).T, factor).T
