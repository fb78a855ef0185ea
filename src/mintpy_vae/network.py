"""Pairs and dates: incidence matrix, connectivity, closure and the inversion of coarse pairs to dates.

Pure linear algebra on arrays. A pair (i, j) of phase is ``x_ij = s_j - s_i + noise`` with one value ``s`` per date.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.floating]
Pairs = NDArray[np.integer]

UNWRAP_SCALE = 1.0
"""Misfit of a pair (radians) from which it counts as an outlier; an unwrapping error is 2 pi."""
PASSES = 4


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
    found = [
        (first, second, index[i, k])
        for (i, j), first in index.items()
        for (j2, k), second in index.items()
        if j2 == j and (i, k) in index
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def closure(pair_values: Array, pairs: Pairs) -> Array:
    """Closure misfit ``x_ij + x_jk - x_ik`` of every triplet, (triplets, ...) in the unit of the input."""
    ij, jk, ik = triplets(pairs).T
    return pair_values[ij] + pair_values[jk] - pair_values[ik]


def invert_to_dates(
    phase: Array, weight: Array, pairs: Pairs, n_dates: int, robust: bool = True, block: int = 512
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Robust weighted least-squares inversion of pairs to dates, pixel by pixel.

    Minimises ``sum_p w_p rho(x_p - (A s)_p)`` with the minimum-norm choice ``sum_t s_t = 0`` and the Cauchy loss, by
    iteratively reweighted least squares; a pair with an unwrapping error loses its weight where it has the error.

    Parameters
    ----------
    phase : (pairs, pixels) float
        Radians; ignored where the weight is 0.
    weight : (pairs, pixels) float
        Non-negative.
    pairs : (pairs, 2) int
    n_dates : int
    robust : bool
        Whether pairs that do not fit lose weight, in four passes; else plain weighted least squares.
    block : int
        Pixels solved at a time, which bounds the memory to block x dates^2.

    Returns
    -------
    series : (dates, pixels) float64
        Radians, mean over dates 0 at each pixel; 0 where not valid.
    valid : (pixels,) bool
        Pixels whose own pairs with weight connect all dates.
    """
    n_pixels = phase.shape[1]
    a = incidence(pairs, n_dates)
    first, second = pairs[:, 0], pairs[:, 1]
    series = np.zeros((n_dates, n_pixels))
    valid = np.zeros(n_pixels, dtype=bool)
    scale = np.maximum(weight.max(axis=0), 1e-12)
    for start in range(0, n_pixels, block):
        here = slice(start, start + block)
        w0 = (weight[:, here] / scale[here]).astype(np.float64)
        x = phase[:, here].astype(np.float64)
        w = w0
        for _ in range(PASSES if robust else 1):
            # the graph Laplacian A' W A, grounded by the mean over dates and by a tiny ridge for islands
            laplacian = np.full((w.shape[1], n_dates, n_dates), 1.0 / n_dates)
            laplacian[:, first, second] -= w.T
            laplacian[:, second, first] -= w.T
            laplacian[:, np.arange(n_dates), np.arange(n_dates)] += w.T @ np.abs(a) + 1e-9
            s = np.linalg.solve(laplacian, ((w * x).T @ a)[..., None])[..., 0].T
            residual = x - a @ s
            w = w0 / (1.0 + (residual / UNWRAP_SCALE) ** 2)
        series[:, here] = s
        valid[here] = _connected(w0, pairs, n_dates)
    series[:, ~valid] = 0.0
    return series - series.mean(axis=0), valid


def _connected(weight: Array, pairs: Pairs, n_dates: int) -> NDArray[np.bool_]:
    """Whether the pairs with weight > 0 connect all dates, pixel by pixel; equal patterns are tested once."""
    patterns, which = np.unique(weight > 0, axis=1, return_inverse=True)
    ok = np.array([not islands(pairs[used], n_dates).any() for used in patterns.T])
    return ok[which.ravel()]
