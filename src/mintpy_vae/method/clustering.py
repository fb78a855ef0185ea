"""Cluster the sources: FISHDBC and HDBSCAN behind one protocol.

Density clustering fails on raw codes of more than about ten dimensions. Therefore the directions of source maps are
clustered: a pattern has the same direction for every amplitude and sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_AXES = 16


@dataclass(frozen=True)
class Sources:
    """Sources that were clustered.

    Attributes
    ----------
    points : (sources, axes)
        Coordinates of each source map on the principal axes of all source maps.
    pairs : (sources, 2) int
        Date indices of the pair of each source; not only pairs of the stack.
    labels : (sources,) int
        Cluster of each source; -1 for none.
    weights : (sources, N_BASIS)
        Weights of the decoder's basis maps; the weighted sum is the source.
    axes : (axes, pixels)
        The principal axes, as maps; orthonormal on the pixels that were learned from.
    of_stack : (sources,) bool
        True for a source of a pair of the stack, False for one of a pair drawn for the clustering.
    seen : (dates,) int
        Dates on which the network was trained.
    """

    points: NDArray[np.float64]
    pairs: NDArray[np.integer]
    labels: NDArray[np.intp]
    weights: NDArray[np.float64]
    axes: NDArray[np.float64]
    of_stack: NDArray[np.bool_]
    seen: NDArray[np.intp]


class Clusterer(Protocol):
    """Assigns points to clusters by density."""

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.intp]:
        """Labels (points,) of ``points`` (points, features) under the cosine distance; -1 is noise."""
        ...


class Fishdbc:
    """FISHDBC (Dell'Amico, 2019, arXiv:1910.07283) in its deterministic configuration.

    Parameters
    ----------
    min_samples : int
        Number of neighbours of a core point.
    min_cluster_size : int
        Smallest number of points in a cluster.
    """

    def __init__(self, min_samples: int, min_cluster_size: int) -> None:
        self.min_samples = min_samples
        self.min_cluster_size = min_cluster_size

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.intp]:
        """See :class:`Clusterer`. Raises ValueError for non-finite points, which FISHDBC would accept silently."""
        from fishdbc import FISHDBC

        if not np.isfinite(points).all():
            raise ValueError("points to cluster must be finite")
        if len(points) <= self.min_samples:
            return np.full(len(points), -1, dtype=np.intp)
        # balanced levels and one thread, because the results with the defaults differ from run to run
        model = FISHDBC.from_metric("cosine", min_samples=self.min_samples, level_strategy="balanced")
        model.update(np.ascontiguousarray(points, dtype=np.float64), num_threads=1)
        result = model.cluster(min_cluster_size=self.min_cluster_size)
        return np.asarray(result.labels, dtype=np.intp)


class Hdbscan:
    """HDBSCAN (Campello et al., 2013; McInnes et al., 2017) on the same distances, for comparison."""

    def __init__(self, min_samples: int, min_cluster_size: int) -> None:
        self.min_samples = min_samples
        self.min_cluster_size = min_cluster_size

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.intp]:
        """See :class:`Clusterer`."""
        import hdbscan

        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        distance = np.clip(1.0 - unit @ unit.T, 0.0, None).astype(np.float64)
        model = hdbscan.HDBSCAN(
            metric="precomputed",
            min_samples=min(self.min_samples, len(points) - 1),
            min_cluster_size=self.min_cluster_size,
        )
        return np.asarray(model.fit_predict(distance), dtype=np.intp)


def on_axes(vectors: NDArray[np.floating], energy: float = 0.99) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (points, axes) of vectors (points, features) on principal axes with the share ``energy`` of them.

    The axes (axes, features) are returned too.
    """
    _, singular, axes = np.linalg.svd(vectors, full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-300)
    keep = min(MAX_AXES, int(np.searchsorted(share, energy)) + 1)
    return np.asarray(vectors @ axes[:keep].T, dtype=np.float64), np.asarray(axes[:keep], dtype=np.float64)


def grown_labels(
    points: NDArray[np.floating], labels: NDArray[np.integer], new: NDArray[np.floating], clusterer: Clusterer
) -> NDArray[np.intp]:
    """Clusters of ``new`` points, once the clustering has grown by them; the earlier points keep theirs.

    A cluster of the grown set continues the earlier one from which most of its earlier points come. FISHDBC is
    incremental: points that come later lead to the clusters of all at once, in this order, which is what is done here.

    Parameters
    ----------
    points : (points, features)
    labels : (points,) int
        Earlier clusters; -1 for none.
    new : (new points, features)
    clusterer : Clusterer

    Returns
    -------
    (new points,) int
        -1 for points in no cluster, and in one whose earlier points are none or were mostly in no cluster.
    """
    n = len(points)
    grown = clusterer(np.vstack([points, new]))
    found = np.full(len(new), -1, dtype=np.intp)
    for label in np.unique(grown[n:][grown[n:] >= 0]):
        before = labels[grown[:n] == label]
        if len(before):
            found[grown[n:] == label] = np.bincount(before + 1).argmax() - 1
    return found


def unsigned(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lift vectors u to u u', which does not depend on their sign: the cosine is cos^2 of the angle between vectors.

    The cosine distance of the lifted points, 1 - cos^2, orders pairs of maps as the angular distance 1 - |cos| does and
    is a metric that FISHDBC evaluates without a Python callback.

    Parameters
    ----------
    vectors : (points, axes)

    Returns
    -------
    (points, axes (axes + 1) / 2)
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    upper = np.triu_indices(vectors.shape[1])
    lifted = (unit[:, :, None] * unit[:, None, :])[:, upper[0], upper[1]]
    return np.asarray(lifted * np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0)), dtype=np.float64)
