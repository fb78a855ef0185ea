"""Local deformation in front of the atmosphere: a sparse sum of bells in space times functions of time.

The atmosphere's covariance C tells how much a bell of a given width can be imitated by the atmosphere. The generalised
least-squares amplitude of a bell is unbiased whatever its width; it is used only where it stands out from what the same
stack gives with its dates shuffled (the atmosphere does not know the order of the dates, deformation does).
Orthogonal matching pursuit (Pati et al., 1993) in the metric of C^-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from .atmosphere import Array, Prior
from .timefunctions import TimeFunction

WIDTHS = (0.03, 0.045, 0.07, 0.1, 0.15, 0.2, 0.3)
"""Standard deviations of the bells, fractions of the scene's shorter side."""
MAX_ATOMS = 200
SHUFFLES = 40
NEAR = 2.0
"""Reach of a proven motion, in its own widths."""
FEW = 20
"""Independent places within that reach."""


@dataclass(frozen=True)
class Deformation:
    """What was found.

    Attributes
    ----------
    series : (dates, pixels)
        Radians, weighted mean over dates 0.
    atoms : list of dict
        Width (fraction of the scene), row, column, time function, amplitude (radians), score (threshold = 1).
    """

    series: Array
    atoms: list[dict[str, object]]


@dataclass(frozen=True)
class Bells:
    """Gaussian bells on the grid: ``maps`` (bells, pixels) and ``places`` (width, row, column) of each."""

    maps: Array
    places: list[tuple[float, float, float]]


def make_bells(valid: NDArray[np.bool_]) -> Bells:
    """Bells of every width, 0.6 standard deviations apart, evaluated on the valid pixels of a (height, width) grid."""
    rows, columns = np.nonzero(valid)
    maps, places = [], []
    for width in WIDTHS:
        sigma = max(width * min(valid.shape), 1.0)
        for y in np.arange(0.3 * sigma, valid.shape[0], 0.6 * sigma):
            for x in np.arange(0.3 * sigma, valid.shape[1], 0.6 * sigma):
                bell = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
                if bell.sum() > np.pi * sigma**2:  # at least half of it on valid ground
                    maps.append(bell)
                    places.append((width, float(y), float(x)))
    return Bells(np.array(maps).reshape(len(maps), rows.size), places)


class Search:
    """Scores every bell with every time function under one prior.

    Parameters
    ----------
    prior : Prior
    bells : Bells
    functions : list of TimeFunction
    weights : (dates,)
        1 / e_t^2, how much each date counts.
    """

    def __init__(self, prior: Prior, bells: Bells, functions: list[TimeFunction], weights: Array) -> None:
        self.bells, self.functions, self.weights = bells, functions, weights
        self.whitened = prior.whiten(bells.maps)
        self.energy = np.einsum("ij,ij->i", self.whitened, bells.maps)
        self.inflation = np.ones(len(self.energy))
        values = np.array([f.values for f in functions])
        self.centred = values - (values @ weights / weights.sum())[:, None]
        self.norms = (self.centred**2) @ weights
        self.family = np.array([f.scanned for f in functions])

    def scores(self, response: Array) -> Array:
        """Twice the log-likelihood ratio of each bell and function, from whitened responses (bells, dates)."""
        along = (response * self.weights) @ self.centred.T
        return np.asarray(along**2 / np.outer(self.energy * self.inflation, self.norms))

    def thresholds(self, residual: Array, significance: float, rng: np.random.Generator) -> Array:
        """Score of each function that chance exceeds with probability ``significance``, (functions,).

        The dates of ``residual`` (dates, pixels), the series less all deformation known so far, are shuffled; the
        largest scores follow a Gumbel distribution, fitted by moments. Each function is tested on its own, a scanned
        family as one.
        """
        strength = 1.0 / np.sqrt(self.weights)
        response = (self.whitened @ residual.T) / strength
        # the covariance is a model: scale the energy of each width so that chance scores 1 on average, as it should
        widths = np.array([width for width, _, _ in self.bells.places])
        for width in np.unique(widths):
            same = widths == width
            chance = ((response[same] ** 2).sum(axis=1) / (len(strength) * self.energy[same])).mean()
            self.inflation[same] = max(chance, 1.0)
        largest = np.empty((SHUFFLES, len(self.functions)))
        for k in range(SHUFFLES):
            shuffled = response[:, rng.permutation(len(strength))] * strength
            largest[k] = self.scores(shuffled).max(axis=0)
        if self.family.any():
            largest[:, self.family] = largest[:, self.family].max(axis=1, keepdims=True)
        scale = np.sqrt(6.0) / np.pi * largest.std(axis=0)
        return np.asarray(largest.mean(axis=0) - scale * (np.euler_gamma + np.log(-np.log1p(-significance))))

    def pursue(self, series: Array, thresholds: Array, significance: float, side: float) -> Deformation:
        """Add the best bell and function, refit all amplitudes jointly, until no score exceeds its threshold.

        Parameters
        ----------
        series : (dates, pixels)
            Radians.
        thresholds : (functions,)
            From :meth:`thresholds`.
        significance : float
            False-alarm probability of one more function where motion is already proven.
        side : float
            Shorter side of the grid, pixels.
        """
        response = self.whitened @ series.T
        left = response
        bell: list[int] = []
        function: list[int] = []
        scores: list[float] = []
        amplitudes = np.zeros(0)
        coupling = np.zeros((len(self.bells.maps), 0))  # of every bell with those chosen so far
        # where motion is proven, the functions are still to be searched, but only a few places
        local = chi2.isf(significance / (len(self.functions) * FEW), 1)
        near = np.zeros(len(self.bells.maps), dtype=bool)
        centres = np.array([place[1:] for place in self.bells.places])
        widths = np.array([place[0] for place in self.bells.places])
        while len(bell) < MAX_ATOMS and len(self.bells.maps):
            score = self.scores(left)
            needed = np.where(near[:, None], np.minimum(thresholds, local), thresholds)
            best = np.unravel_index(int((score - needed).argmax()), score.shape)
            if score[best] <= needed[best]:
                break
            bell.append(int(best[0]))
            function.append(int(best[1]))
            scores.append(float(score[best] / needed[best]))
            width = widths[best[0]]
            near |= (np.hypot(*(centres - centres[best[0]]).T) <= NEAR * width * side) & (widths <= NEAR * width)
            f = self.centred[function]
            coupling = np.column_stack([coupling, self.whitened @ self.bells.maps[bell[-1]]])
            gram = coupling[bell] * ((f * self.weights) @ f.T)
            gram[np.diag_indices_from(gram)] *= 1.0 + 1e-6
            amplitudes = np.linalg.solve(gram, (response[bell] * self.weights * f).sum(axis=1))
            left = response - (coupling * amplitudes) @ f
        found = (self.centred[function] * amplitudes[:, None]).T @ self.bells.maps[bell]
        atoms: list[dict[str, object]] = [
            {
                "width": self.bells.places[b][0],
                "row": self.bells.places[b][1],
                "column": self.bells.places[b][2],
                "function": self.functions[k].name,
                "amplitude": float(a),
                "score": s,
            }
            for b, k, a, s in zip(bell, function, amplitudes, scores, strict=True)
        ]
        return Deformation(found.reshape(series.shape), atoms)
