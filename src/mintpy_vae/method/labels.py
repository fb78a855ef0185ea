"""Label clusters of sources as deformation, atmosphere or undecided, with the evidence for each label.

The atmosphere is nearly independent from date to date; a series that is smooth in time is ground motion, or another
slow signal such as a seasonal stratified delay, which is recognised by its correlation with height.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from .observations import Grid

PERMUTATIONS = 5000
MAX_HEIGHT_CORRELATION = 0.6
MIN_ENERGY = 0.001
MIN_PROVEN = 0.1
"""Least share of a deformation cluster's variance that proven motion explains; a correlation of 0.3."""


@dataclass(frozen=True)
class Cluster:
    """One cluster of sources and the evidence for its label.

    Attributes
    ----------
    label : int
    kind : str
        ``deformation``, ``atmosphere`` or ``undecided``.
    sources : int
        Sources in the cluster.
    energy : float
        Share of the energy of all sources.
    roughness : float
        Von Neumann ratio of the amplitude series; 1 for independent dates, 0 for a smooth curve.
    p_value : float
        Probability that shuffled dates are as smooth, corrected for the number of clusters (Bonferroni).
    height_correlation : float
        Correlation of the mean map with the effective height.
    amplitude : (dates,)
        Amplitude series, arbitrary unit.
    map : (pixels,)
        Mean map at unit norm, on the valid pixels.
    proven : float
        Share of the amplitude series' variance that the local motion found by the pursuit explains.
    """

    label: int
    kind: str
    sources: int
    energy: float
    roughness: float
    p_value: float
    height_correlation: float
    amplitude: Array
    map: Array
    proven: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """All fields except the map, for a report."""
        found = asdict(self)
        del found["map"]
        found["amplitude"] = [round(float(a), 6) for a in self.amplitude]
        return found


def von_neumann(series: Array) -> Array:
    """Half the mean squared successive difference over the variance (von Neumann, 1941), along the last axis.

    1 on average for independent values, 0 for a smooth curve.
    """
    centred = series - series.mean(axis=-1, keepdims=True)
    energy = np.maximum((centred**2).sum(axis=-1), 1e-300)
    return np.asarray((np.diff(series, axis=-1) ** 2).sum(axis=-1) / (2 * energy))


def smoothness_p_value(series: Array, rng: np.random.Generator) -> float:
    """Probability that the series (dates,) has as small a von Neumann ratio if its dates are shuffled."""
    shuffled = rng.permuted(np.broadcast_to(series, (PERMUTATIONS, len(series))), axis=1)
    return float((1 + (von_neumann(shuffled) <= von_neumann(series)).sum()) / (1 + PERMUTATIONS))


def attribute(
    sources: Array,
    labels: NDArray[np.intp],
    basis: Array,
    maps: Array,
    grid: Grid,
    significance: float,
    rng: np.random.Generator,
) -> list[Cluster]:
    """Label clusters of sources.

    Parameters
    ----------
    sources : (slots, pairs, axes)
        Coordinates of each source map in the orthonormal ``basis``.
    labels : (slots, pairs) int
        Cluster of each source; negative for noise.
    basis : (axes, pixels)
        Orthonormal maps on the valid pixels.
    maps : (dates, pixels)
        Input of the network, on the valid pixels. The amplitude series of a cluster is the projection on its mean map;
        the codes themselves would be too smooth, because their prior depends on the temporal baseline.
    grid : Grid
        The labels are based on its good dates.
    significance : float
        Largest p-value of deformation.
    rng : numpy Generator

    Returns
    -------
    list of Cluster
        In the order of their labels.
    """
    good, height = grid.good, grid.height
    total = float((sources**2).sum())
    found = []
    n_clusters = int(labels.max(initial=-1)) + 1
    significance = max(significance, n_clusters / (1 + PERMUTATIONS))  # no smaller p-value is possible
    for label in range(n_clusters):
        member = labels == label
        points = sources[member]
        direction = np.linalg.svd(points, full_matrices=False)[2][0]
        pattern = direction @ basis
        series = maps @ pattern
        norm = np.linalg.norm(height) * np.linalg.norm(pattern - pattern.mean())
        correlation = float(height @ pattern / norm) if norm > 0 else 0.0
        p_value = min(1.0, smoothness_p_value(series[good], rng) * n_clusters)
        energy = float((points**2).sum()) / total
        found.append(
            Cluster(
                label=label,
                kind=_kind(p_value, correlation, energy, significance),
                sources=int(member.sum()),
                energy=energy,
                roughness=float(von_neumann(series[good])),
                p_value=p_value,
                height_correlation=correlation,
                amplitude=series,
                map=pattern,
            )
        )
    return found


def confirm(clusters: list[Cluster], motion: Array) -> list[Cluster]:
    """Change the label of deformation clusters that no proven local motion supports to undecided.

    A network that looks for slowly changing patterns also finds some in the atmosphere, and a test on the same dates
    seems to confirm them. The pursuit of local motion has other maps and thresholds for chance.

    Parameters
    ----------
    clusters : list of Cluster
    motion : (dates, pixels)
        The pursuit's deformation, prepared as the maps of :func:`attribute`.
    """
    found = []
    for cluster in clusters:
        explained = explained_share(cluster.amplitude, motion @ cluster.map)
        doubtful = cluster.kind == "deformation" and explained < MIN_PROVEN
        found.append(replace(cluster, proven=explained, kind="undecided" if doubtful else cluster.kind))
    return found


def explained_share(series: Array, truth: Array) -> float:
    """Share of the variance of a `series` (dates,) explained by `truth` (dates,) in the same unit; can be negative."""
    error, whole = np.asarray(series, np.float64) - truth, np.asarray(series, np.float64)
    energy = float(((whole - whole.mean()) ** 2).sum())
    return 1.0 - float(((error - error.mean()) ** 2).sum()) / energy if energy > 0 else 0.0


def _kind(p_value: float, height_correlation: float, energy: float, significance: float) -> str:
    if p_value > 0.5 or abs(height_correlation) >= MAX_HEIGHT_CORRELATION:
        return "atmosphere"
    return "deformation" if p_value <= significance and energy >= MIN_ENERGY else "undecided"
