"""Multilooking of pairs and maps to the training grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import h5py
import numpy as np

from .cluster import worked_on
from .hdf5 import Progress, damage, has_data, open_hdf5, read, slabs
from .reading import Stack


def pool_pairs(
    stack: Stack,
    factor: int,
    max_memory: float,
    progress: Progress | None = None,
    known: Callable[[slice], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Multilook the phase of all pairs, weighted with coherence squared.

    Parameters
    ----------
    stack : Stack
    factor : int
        Pixels of one coarse pixel, along both axes; the last row and column may have fewer.
    max_memory : float
        GB for the slabs read; the result, pairs * length * width / factor**2, comes on top.
    progress : callable, optional
        Called with rows done and rows in all.
    known : callable, optional
        Rows -> (dates, rows, width) phase in radians that is to be taken out first; NaN where there are no data then.

    Returns
    -------
    phase : (pairs, h, w) float32 array
        Radians, relative to the reference pixel where there is one; 0 where weight is 0.
    weight : (pairs, h, w) float32 array
        Mean of coherence**2 over the factor x factor pixels, those without data counting as 0.
    """
    length, width = stack.shape
    n_pairs = len(stack.pairs)
    h, w = math.ceil(length / factor), math.ceil(width / factor)
    phase = np.zeros((n_pairs, h, w), np.float32)
    weight = np.zeros((n_pairs, h, w), np.float32)
    # Rows are added one after another into one coarse row, so that the result does not depend on the slabs.
    sum_weight = np.zeros((n_pairs, w))
    sum_phase = np.zeros((n_pairs, w))
    with open_hdf5(stack.file) as f:
        source = f[stack.phase_name]
        reference = _reference_phase(stack, source)
        layers = slabs(source, max_memory, len(stack.dates) if known else 0)
        pieces = [(rows, block) for rows, blocks in layers for block in blocks]
    sums = worked_on(partial(_weighted_sums, stack, reference, factor, known), pieces, stack.compute)
    for (rows, block), (weights, phases) in sums:
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
            progress(rows.stop, length)
    return phase, weight


def _weighted_sums(
    stack: Stack,
    reference: np.ndarray,
    factor: int,
    known: Callable[[slice], np.ndarray] | None,
    piece: tuple[slice, slice],
) -> tuple[np.ndarray, np.ndarray]:
    """Coherence squared, and phase times it, of some rows of some pairs, each `factor` columns added."""
    rows, block = piece
    with open_hdf5(stack.file) as f:
        p, c = read(f[stack.phase_name], block, rows), read(f["coherence"], block, rows)
    if known:
        delay = known(rows)
        for phase, (first, second) in zip(p, stack.pairs[block], strict=True):
            phase[:] = np.where(has_data(phase), phase - (delay[second] - delay[first]), 0)
    shape = (*p.shape[:2], math.ceil(p.shape[2] / factor))
    weights, phases = np.empty(shape), np.empty(shape)
    # pair by pair: what is worked on stays in the processor's cache
    for k in range(len(p)):
        valid = has_data(p[k]) & np.isfinite(c[k])
        if stack.land is not None:
            valid &= stack.land[rows]
        weight = np.where(valid, c[k], 0).astype(np.float32, copy=False)
        np.clip(weight, 0, 1, out=weight)
        weight *= weight
        phase = np.where(valid, p[k] - reference[block][k], 0).astype(np.float32, copy=False)
        phase *= weight
        weights[k], phases[k] = _pool_columns(weight, factor), _pool_columns(phase, factor)
    return weights, phases


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


def _reference_phase(stack: Stack, phase: h5py.Dataset) -> np.ndarray:
    """Phase of each pair at the reference pixel, (pairs,) float32, 0 where there is none."""
    if stack.ref_yx is None:
        return np.zeros(len(stack.pairs), np.float32)
    values = phase[:, stack.ref_yx[0], stack.ref_yx[1]]
    return np.where(np.isfinite(values), values, 0).astype(np.float32)


def _pool_columns(data: np.ndarray, factor: int) -> np.ndarray:
    """Sum each `factor` columns of (..., width); added one by one, so in one order."""
    w = math.ceil(data.shape[-1] / factor)
    total = np.zeros((*data.shape[:-1], w))
    for k in range(min(factor, data.shape[-1])):
        part = data[..., k::factor]
        total[..., : part.shape[-1]] += part
    return total


def _pool(data: np.ndarray, factor: int) -> np.ndarray:
    return _pool_columns(_pool_columns(data, factor).T, factor).T
