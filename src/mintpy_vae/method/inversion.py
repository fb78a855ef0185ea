"""Networks of pairs: incidence matrix, connectivity, closure, and the inversion of pairs to dates.

Pure linear algebra on arrays. A pair (i, j) of phase is ``x_ij = s_j - s_i + c_ij + noise`` with one map ``s`` per date
and a constant ``c_ij``, because unwrapped phase is known up to a constant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..arrays import Floats, Pairs

UNWRAP_SCALE = 1.0
"""Misfit of a pair (radians) from which it counts as an outlier; an unwrapping error is 2 pi."""
RIDGE = 1e-9
"""Weight, in units of a pixel's largest, with which dates are tied to 0 where no pair joins them with the others."""
PASSES = 4
_PLAIN, _MOST, _STILL = 3, 20, 0.01
"""Passes over the constants before pairs that do not fit are down-weighted (a constant is not an unwrapping error),
largest number of passes, and change of the constants in radians below which the iteration ends."""
_SAMPLE, _OWN = 300, 30
"""Number of pixels from which constants are estimated, and how many of them each pair should cover."""


def incidence(pairs: Pairs, n_dates: int) -> NDArray[np.float64]:
    """Incidence matrix A of the network, so that ``pair values = A @ date values``.

    Parameters
    ----------
    pairs : (pairs, 2) int
        Date indices (i, j) of each pair, i before j.
    n_dates : int

    Returns
    -------
    (pairs, dates) float64
        -1 at the first date, +1 at the second (Berardino et al., 2002, eq. 5).
    """
    matrix = np.zeros((len(pairs), n_dates))
    rows = np.arange(len(pairs))
    matrix[rows, pairs[:, 0]] = -1.0
    matrix[rows, pairs[:, 1]] = 1.0
    return matrix


def islands(pairs: Pairs, n_dates: int) -> NDArray[np.int32]:
    """Label of the connected part of the network to which each date belongs, (dates,) int; all 0 when connected."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_dates, n_dates))
    return connected_components(graph, directed=False)[1]


def triplets(pairs: Pairs) -> NDArray[np.int64]:
    """Indices of the pairs (ij, jk, ik) of every closed triangle of dates, (triplets, 3)."""
    index = {(int(i), int(j)): k for k, (i, j) in enumerate(pairs)}
    later: dict[int, list[int]] = {}
    for i, j in index:
        later.setdefault(i, []).append(j)
    found = [
        (first, index[j, k], index[i, k])
        for (i, j), first in index.items()
        for k in later.get(j, ())
        if (i, k) in index
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def closure(pair_values: Floats, pairs: Pairs, most: int | None = None) -> Floats:
    """Closure misfit ``x_ij + x_jk - x_ik`` of every triplet, (triplets, ...) in the unit of the input.

    With ``most``, of so many triplets at most, evenly spaced.
    """
    found = triplets(pairs)
    if most is not None and len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(int)]
    ij, jk, ik = found.T
    return pair_values[ij] + pair_values[jk] - pair_values[ik]


def invert_to_dates(
    phase: Floats, weight: Floats, pairs: Pairs, n_dates: int, robust: bool = True, block: int = 512
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Robust weighted least-squares inversion of pairs to dates, pixel by pixel; pairs may have unknown constants.

    Minimises ``sum_p w_p rho(x_p - c_p - (A s)_p)`` with the minimum-norm choice ``sum_t s_t = 0`` and the Cauchy loss,
    by iteratively reweighted least squares; a pair is down-weighted on the pixels with an unwrapping error.
    The constants ``c_p`` are those of :func:`constants`; their consistent part stays in the dates, equal at all pixels.
    It is found robustly as well, so that a pair with an unwrapping error everywhere moves no date.

    Parameters
    ----------
    phase : (pairs, pixels) float
        Radians; ignored where the weight is 0.
    weight : (pairs, pixels) float
        Non-negative.
    pairs : (pairs, 2) int
    n_dates : int
    robust : bool
        Down-weight pairs that do not fit, in four passes; otherwise plain weighted least squares.
    block : int
        Number of pixels solved at a time, which limits the memory to block x dates x the largest number of dates
        between those of a pair.

    Returns
    -------
    series : (dates, pixels) float64
        Radians, mean over dates 0 at each pixel; 0 where not valid.
    valid : (pixels,) bool
        Pixels at which the pairs with weight connect all dates.
    """
    n_pixels = phase.shape[1]
    of_pair, _, _ = constants(phase, weight, pairs, n_dates)
    series = np.zeros((n_dates, n_pixels))
    valid = np.zeros(n_pixels, dtype=bool)
    scale = np.maximum(weight.max(axis=0), 1e-12)
    for start in range(0, n_pixels, block):
        here = slice(start, start + block)
        w0 = (weight[:, here] / scale[here]).astype(np.float64)
        x = np.where(w0 > 0, phase[:, here] - of_pair[:, None], 0.0)
        series[:, here] = _fitted(x, w0, pairs, n_dates, PASSES if robust else 1)
        valid[here] = _connected(w0, pairs, n_dates)
    seen = np.where((weight > 0).any(axis=1), 1.0, 0.0)[:, None]  # of the other pairs no constant is known
    series += _fitted(of_pair[:, None], seen, pairs, n_dates, _MOST if robust else 1)
    series -= series.mean(axis=0)
    series[:, ~valid] = 0.0
    return series, valid


def constants(
    phase: Floats, weight: Floats, pairs: Pairs, n_dates: int
) -> tuple[NDArray[np.float64], NDArray[np.intp], Floats]:
    """Constant of each pair, estimated together with the dates on pixels that most pairs cover.

    The dates are estimated by least squares and each constant as the median of the residual, in turns. The mean of each
    pair would not do, because it depends on the ground that the pair covers.

    Parameters
    ----------
    phase, weight, pairs, n_dates
        As for :func:`invert_to_dates`.

    Returns
    -------
    constants : (pairs,) float64
        Radians; differences between dates may be added to them.
    some : (n,) int
        The pixels.
    residual : (pairs, n) float
        Residual of dates and constants there, radians; 0 where the weight is 0.
    """
    some = _sample(weight > 0)
    has_data = weight[:, some] > 0
    w0 = np.asarray(weight[:, some], dtype=np.float64)
    w0 = w0 / np.maximum(w0.max(axis=0), 1e-12)
    x = np.where(has_data, phase[:, some], 0).astype(np.float64)
    found, w = _medians(x, has_data), w0
    for k in range(_MOST):
        _, residual = _solve(np.where(has_data, x - found[:, None], 0), w, pairs, n_dates)
        step = _medians(residual, has_data)
        found, residual = found + step, np.where(has_data, residual - step[:, None], 0)
        if k >= _PLAIN + PASSES and np.abs(step).max() < _STILL:
            break
        if k >= _PLAIN - 1:
            w = _reweighted(w0, residual)
    return found, some, residual


def misfit_of_groups(
    phase: Floats, weight: Floats, groups: NDArray[np.integer], pairs: Pairs, n_dates: int
) -> NDArray[np.float64]:
    """Median over each group of pixels of a pair of the residual of the dates and the pairs' constants.

    Parameters
    ----------
    phase, weight : (pairs, height, width)
    groups : (pairs, height, width) int
        Number of the group, from 0; each group belongs to one pair.
    pairs : (pairs, 2) int
    n_dates : int

    Returns
    -------
    (groups,) float64
        Radians; 0 for a group without data on the pixels that :func:`constants` uses.
    """
    flat = (phase.reshape(len(pairs), -1), weight.reshape(len(pairs), -1))
    _, some, residual = constants(*flat, pairs, n_dates)
    has_data, group = flat[1][:, some] > 0, groups.reshape(len(pairs), -1)[:, some]
    found = np.zeros(int(groups.max()) + 1)
    order = np.argsort(group[has_data], kind="stable")
    names, starts = np.unique(group[has_data][order], return_index=True)
    for name, values in zip(names, np.split(residual[has_data][order], starts[1:]), strict=True):
        found[name] = np.median(values)
    return found


def _sample(has_data: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Choose pixels that most pairs cover, spread evenly, and more for pairs with few of them."""
    covered = has_data.sum(axis=0)
    best = np.flatnonzero(covered == covered.max())
    if len(best) < _SAMPLE:
        best = np.sort(np.argsort(-covered, kind="stable")[:_SAMPLE])
    chosen = np.zeros(len(covered), dtype=bool)
    chosen[_spread(best, _SAMPLE)] = True
    for own in has_data[has_data[:, chosen].sum(axis=1) < _OWN]:
        chosen[_spread(np.flatnonzero(own), _OWN)] = True
    return np.flatnonzero(chosen)


def _spread(indices: NDArray[np.intp], number: int) -> NDArray[np.intp]:
    """Choose ``number`` of the indices, evenly spaced."""
    return indices[np.linspace(0, len(indices) - 1, min(number, len(indices))).round().astype(np.intp)]


def _medians(values: Floats, has_data: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of the values with data in each row; the lower of two, and 0 without data.

    A mean of two would be wrong if half of the pixels are offset by a cycle, and numpy's nanmedian would be much
    slower.
    """
    ordered, number = np.sort(np.where(has_data, values, np.inf), axis=1), has_data.sum(axis=1)
    return np.where(number > 0, ordered[np.arange(len(values)), np.maximum(number - 1, 0) // 2], 0.0)


def _fitted(x: Floats, w0: Floats, pairs: Pairs, n_dates: int, passes: int) -> Floats:
    """Iteratively reweighted least squares of pairs (pairs, pixels) for dates (dates, pixels)."""
    w = w0
    for _ in range(passes):
        s, residual = _solve(x, w, pairs, n_dates)
        w = _reweighted(w0, residual)
    return s


def _reweighted(w0: Floats, residual: Floats) -> Floats:
    """Weights of the Cauchy loss."""
    return w0 / (1.0 + (residual / UNWRAP_SCALE) ** 2)


def _solve(x: Floats, w: Floats, pairs: Pairs, n_dates: int) -> tuple[Floats, Floats]:
    """Weighted least squares of pairs (pairs, pixels) for dates (dates, pixels), and the residual of the pairs.

    The mean over the dates, which no pair sees, is 0 but for the rounding that the ridge makes of it.
    """
    a = incidence(pairs, n_dates)
    first, apart = pairs.min(axis=1), np.ptp(pairs, axis=1)
    # the graph Laplacian A' W A of each pixel, made regular by a tiny ridge. Pairs join dates that are near in time:
    # it has few diagonals, and all pixels, one after the other, make one matrix with as few
    diagonals = np.zeros((int(apart.max(initial=0)) + 1, w.shape[1], n_dates))
    diagonals[apart, :, first] = -w
    diagonals[0] = w.T @ np.abs(a) + RIDGE
    right = (w * x).T @ a
    s = solveh_banded(diagonals.reshape(len(diagonals), -1), right.ravel(), lower=True, check_finite=False)
    s = s.reshape(right.shape).T
    return s, x - a @ s


def _connected(weight: Floats, pairs: Pairs, n_dates: int) -> NDArray[np.bool_]:
    """Whether the pairs with weight > 0 connect all dates, pixel by pixel; equal patterns are tested once."""
    patterns, which = np.unique(weight > 0, axis=1, return_inverse=True)
    ok = np.array([not islands(pairs[used], n_dates).any() for used in patterns.T])
    return ok[which.ravel()]
