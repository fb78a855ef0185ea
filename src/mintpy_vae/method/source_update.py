"""Sources of the pairs of new dates: the trained network separates them, and the clustering grows by them.

FISHDBC is incremental, which is why Ghosh et al. (2025) chose it. Nothing is learned from the new dates, and their
atmosphere does not depend on their clusters; these show which of the known patterns a new pair contains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import Array, Floats, Pairs
from .clustering import Clusterer, grown_labels, unsigned
from .source_model import Fit, sources_of_pairs
from .threads import single_threaded
from .update import Learned

__all__ = ["NewSources", "new_sources", "no_sources"]


@dataclass(frozen=True)
class NewSources:
    """Sources of the pairs that contain a new date.

    Attributes
    ----------
    points : (sources, axes)
        On the axes of the earlier sources.
    pairs : (sources, 2) int
        Indices of the two dates.
    labels : (sources,) int
        Earlier cluster of each source; -1 for none.
    network_input : (dates, pixels)
        What the network sees of all dates.
    """

    points: Array
    pairs: Pairs
    labels: NDArray[np.intp]
    network_input: Array


def no_sources(learned: Learned, axes: int) -> NewSources:
    """No sources with so many coordinates."""
    none = np.zeros(0, dtype=np.intp)
    return NewSources(np.zeros((0, axes)), none.reshape(0, 2), none, learned.network_input())


@single_threaded()
def new_sources(
    network: Fit,
    learned: Learned,
    pairs: Pairs,
    points: Floats,
    labels: NDArray[np.integer],
    axes: Floats,
    clusterer: Clusterer,
) -> NewSources:
    """Separate and cluster the sources of the pairs that contain a new date.

    Parameters
    ----------
    network : Fit
        Trained on the dates learned from, without bad ones.
    learned : Learned
        With the new dates.
    pairs : (pairs, 2) int
        All that contain a new date; those with a bad date are left out.
    points : (sources, axes), labels : (sources,) int, axes : (axes, pixels)
        Earlier sources; see :class:`~.clustering.Sources`.
    clusterer : Clusterer
    """
    known = np.r_[learned.grid.good, np.arange(learned.number, len(learned.dates))]
    pairs = pairs[np.isin(pairs, known).all(axis=1)]
    if not len(pairs):
        return no_sources(learned, points.shape[1])
    years = torch.tensor(learned.grid.years[known] - learned.grid.years[known[0]], dtype=torch.float32)
    later = replace(network, model=network.model.continued(years.to(network.device)))
    own = np.searchsorted(known, pairs)
    maps = learned.network_input()
    found = sources_of_pairs(later, learned.grid.maps(maps)[known], own, learned.grid.valid)
    new = found.coordinates[found.clear] @ (found.basis @ axes.T)
    return NewSources(
        points=new,
        pairs=pairs[np.nonzero(found.clear)[1]],
        labels=grown_labels(unsigned(points), labels, unsigned(new), clusterer),
        network_input=maps,
    )
