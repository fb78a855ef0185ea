"""The recipe of Ghosh et al. (2025), to be compared with: sources called atmosphere are subtracted, pair by pair.

From each pair go its trend with height, which the network is never shown, and its sources in clusters called
atmosphere. All else stays: sources in clusters called deformation or undecided, in no cluster, or below their own
posterior noise, and what the decoder does not reproduce. Only the outline of that paper was at hand: network, clusters
and their labels are those of :mod:`.separation`, which takes functions of time from the clusters and subtracts none.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Pairs
from .atmosphere import PhasePerDate
from .covariance import fill, height_slopes
from .inversion import incidence
from .separation import Separation
from .source_model import basis_maps
from .threads import single_threaded

__all__ = ["sources_of_atmosphere"]


@single_threaded()
def sources_of_atmosphere(found: Separation, pairs: Pairs) -> PhasePerDate:
    """What the recipe subtracts from the pairs, inverted to dates by least squares.

    A pair's sources do not close. The inversion is linear, so that the dates of the corrected pairs are those of the
    pairs less this; what does not close is lost in it. Dates that the network has not seen keep their sources.

    Parameters
    ----------
    found : Separation
    pairs : (pairs, 2) int
        As given to :func:`~mintpy_vae.method.separation.separate`.
    """
    sources, n_dates = found.sources, len(found.series)
    called = [cluster.label for cluster in found.clusters if cluster.kind == "atmosphere"]
    chosen = sources.of_stack & np.isin(sources.labels, called)
    row = np.zeros((n_dates, n_dates), dtype=np.intp)
    row[pairs[:, 0], pairs[:, 1]] = np.arange(len(pairs))
    basis = found.flatten.undo(basis_maps(found.network)[:, found.valid.ravel()])
    weights = np.zeros((len(pairs), len(basis)))
    np.add.at(weights, row[tuple(sources.pairs[chosen].T)], sources.weights[chosen])
    seen = np.isin(pairs, sources.seen).all(axis=1)
    of_dates = np.linalg.lstsq(incidence(pairs[seen], n_dates), weights[seen], rcond=None)[0]
    slope = height_slopes(found.series, found.grid.height)
    return PhasePerDate(fill(of_dates @ basis, found.valid), slope)
