"""Correction as outlined by Ghosh et al. (2025), for comparison: subtract the atmosphere sources of each pair.

The trend with height, which is removed before the network, and the sources in clusters labelled atmosphere are
subtracted from each pair. All else stays in the data: sources in clusters labelled deformation or undecided, in no
cluster, or below their posterior noise, and what the decoder does not reproduce. We followed the outline of that paper;
network, clusters and labels are those of :mod:`.separation`, which uses the clusters only to find functions of time.
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
    """Phase that the recipe subtracts from the pairs, inverted to dates by least squares.

    The sources of pairs do not close. The inversion is linear, so inverting the corrected pairs gives the inverted
    pairs minus this; the part that does not close is lost. Dates that were not used for the training keep their
    sources.

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
