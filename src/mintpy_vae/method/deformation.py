"""Local deformation as a sum of pieces, each a bell in space times a function of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import expit

from ..arrays import Array

CHOSEN = 3.0
"""Factor on the variance of the amplitudes. They are those of pieces that were chosen, moved and stretched until they
explained most, which a covariance for given pieces does not know. Measured on real skies with known motion: the most
likely factor for the errors of the velocity is 3, for those of the displacement 4."""
PRESUMED = 0.85
"""Score of a piece, in units of its threshold, from which it counts as motion when the statistics of the sky are
estimated."""
LOG_ODDS = 10.0
"""Log-odds that a score of twice its threshold is not due to chance; at the threshold the odds are even. A score is
twice a log-likelihood ratio and a threshold is about 20. If the scores by chance have heavier tails, the threshold is
higher and the same score has less weight. Near known motion thresholds are lower, and these odds somewhat too sharp."""


def probability_of(score: float, even: float = 1.0) -> float:
    """Probability that motion of this score, in units of its threshold, is not due to chance; a half at ``even``."""
    return float(expit(LOG_ODDS * (score - even)))


@dataclass(frozen=True)
class Piece:
    """One bell, or one map that follows the relief, with a function of time.

    Attributes
    ----------
    place : (5,)
        See :class:`~.bells.Bells`.
    relief : bool
    function : str
    amplitude : float
        Radians at the bell's peak for a unit of the function.
    std : float
        Standard deviation of the amplitude, of the choice of the piece included (``CHOSEN``).
    score : float
        Increase of chi-squared without the piece, in units of its threshold.
    probability : float
        Probability that it is not due to chance; the amplitude is weighted with it.
    """

    place: Array
    relief: bool
    function: str
    amplitude: float
    std: float
    score: float
    probability: float

    @property
    def presumed(self) -> float:
        """Share of the piece that is no sky when the statistics of the sky are estimated.

        It is larger than the probability: motion that is taken for sky makes the sky look slower, and hides itself.
        """
        return probability_of(self.score, PRESUMED)

    @property
    def likely(self) -> bool:
        """Whether it is more likely motion than chance."""
        return self.probability > 0.5

    def record(self, side: int, millimetres: float) -> dict[str, Any]:
        """Entry in ``vae_result.json``; ``side`` is the shorter side of the grid in pixels.

        ``millimetres`` is the displacement of one radian of phase.
        """
        return {
            "row": round(float(self.place[0]), 2),
            "column": round(float(self.place[1]), 2),
            "width": round(float(np.exp(self.place[2])) / side, 4),
            "relief": self.relief,
            "function": self.function,
            "amplitude": millimetres * self.amplitude,
            "std": abs(millimetres) * self.std,
            "score": round(self.score, 3),
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True)
class Deformation:
    """The local deformation that was found.

    Attributes
    ----------
    series : (dates, pixels)
        Radians, mean over dates 0.
    pieces : list of Piece
    maps : (pieces, pixels)
        Maps of peak 1.
    weights : (pieces, dates)
        Function of time times amplitude and probability of each piece; the series is ``weights' maps``.
    covariance : (pieces, pieces), optional
        Of the errors of the amplitudes; by default they are independent.
    at_limit : bool
        Whether the search ended at its largest number of pieces.
    """

    series: Array
    pieces: list[Piece]
    maps: Array
    weights: Array
    covariance: Array | None = None
    at_limit: bool = False

    @property
    def functions(self) -> set[str]:
        """Names of the functions of time of the pieces."""
        return {piece.function for piece in self.pieces}

    @property
    def presumed_weights(self) -> Array:
        """Weights (pieces, dates) with the share of each piece that is presumed to be motion."""
        share = np.array([p.presumed / p.probability for p in self.pieces])
        return np.asarray(self.weights * share[:, None])

    @property
    def presumed(self) -> Array:
        """Series (dates, pixels) that is no sky when the statistics of the sky are estimated."""
        return np.asarray(self.presumed_weights.T @ self.maps)

    def variance_along(self, lines: Array) -> Array:
        """Variance of ``lines @ series`` (lines, pixels) for weights of the dates (lines, dates) that sum to 0.

        It is that of the amplitudes, and of the doubt whether a piece is more than chance.
        """
        p = np.array([piece.probability for piece in self.pieces])
        amplitude = np.array([piece.amplitude for piece in self.pieces])
        covariance = self.errors * np.sqrt(np.outer(p, p)) + np.diag(p * (1 - p) * amplitude**2)
        share = p * np.where(amplitude == 0, 1.0, amplitude)
        of_unit = lines @ self.weights.T / share
        variance = np.diag(covariance)
        alone = np.count_nonzero(covariance, axis=1) <= 1  # independent ones cost little, and may be many
        found = np.asarray((of_unit[:, alone] ** 2 * variance[alone]) @ self.maps[alone] ** 2)
        values, axes = np.linalg.eigh(covariance[np.ix_(~alone, ~alone)])
        for one, unit in zip(found, of_unit[:, ~alone], strict=True):
            one += np.maximum(values, 0.0) @ (axes.T @ (self.maps[~alone] * unit[:, None])) ** 2
        return found

    def joined(self, other: Deformation) -> Deformation:
        """The sum of both."""
        both = (self, other)
        return Deformation(
            series=self.series + other.series,
            pieces=[piece for one in both for piece in one.pieces],
            maps=np.vstack([one.maps for one in both]),
            weights=np.vstack([one.weights for one in both]),
            covariance=block_diag(*(one.errors for one in both)),
            at_limit=self.at_limit or other.at_limit,
        )

    def relative_to(self, first: int) -> Deformation:
        """The same with a mean of 0 over the ``first`` so many dates."""
        weights = self.weights - self.weights[:, :first].mean(axis=1, keepdims=True)
        return replace(self, series=weights.T @ self.maps, weights=weights)

    def on(self, some: NDArray[np.bool_]) -> Deformation:
        """The same on some of its pixels, (pixels,) bool."""
        return replace(self, series=self.series[:, some], maps=self.maps[:, some])

    @property
    def errors(self) -> Array:
        """``covariance``, or its default."""
        if self.covariance is not None:
            return self.covariance
        return np.diag(np.array([piece.std**2 for piece in self.pieces]))


def no_deformation(n_dates: int, n_pixels: int) -> Deformation:
    """Deformation without any piece."""
    return Deformation(np.zeros((n_dates, n_pixels)), [], np.zeros((0, n_pixels)), np.zeros((0, n_dates)))
