"""What bells and functions of time score by chance, under the sky of one stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Mask
from .bells import Bells, refined
from .sky import Footprints, Sky
from .threads import of_each
from .timefunctions import Rotation, TimeFunction

SHUFFLES = 40
DRAWS, REFINED_DRAWS = 100, 40
"""Number of maps that are drawn from the covariance of the sky, and in how many of them a bell is refined."""


def chance_exceeds(largest: Array, significance: float) -> Array:
    """Threshold that the largest score of a search exceeds by chance with this probability.

    Parameters
    ----------
    largest : (draws, ...)
        Largest scores by chance; a Gumbel distribution is fitted by moments.
    significance : float
        0 gives infinity.
    """
    if significance <= 0:
        return np.full(largest.shape[1:], np.inf)
    scale = np.sqrt(6.0) / np.pi * largest.std(axis=0)
    return np.asarray(largest.mean(axis=0) - scale * (np.euler_gamma + np.log(-np.log1p(-significance))))


class Chance:
    """Distribution of the scores by chance in a search of bells and functions under one sky.

    A persistent function gives one map: its largest score is simulated with maps drawn from the covariance of the sky,
    which is later scaled to the stack's slow sky. A scanned function is also searched over the dates: its largest score
    is simulated by shuffling the dates, which assumes that they are exchangeable without the persistent functions.
    :meth:`Search.inflate` measures the deviation from this assumption. Courses of clusters count as scanned.

    Parameters
    ----------
    sky : Sky
    bells : Bells
    functions : sequence of TimeFunction
        The persistent ones first.
    significance : float
        False-alarm probability of the search in one persistent function, and in all scanned ones together.
    rng : numpy Generator
    searched : (bells,) bool, optional
        Bells among which motion is searched for, and of which chance produces the largest; all by default. The others
        say only how rough the sky is.
    footprints : Footprints, optional
        Footprints of the bells, if they are known; only the sky's strengths may have changed since.

    Attributes
    ----------
    anywhere : (functions,)
        Threshold of the score of any bell that is searched for.
    shape_gain : (functions,)
        Factor on the threshold for bells whose shape is refined.
    inflation : (bells,)
        Factor on each bell's energy with which chance scores 1 on average, since the covariance is only a model.
    footprints : Footprints
        Footprints of the bells.
    energy : (bells,)
        Their energies in the metric of the sky of independent dates.
    """

    def __init__(
        self,
        sky: Sky,
        bells: Bells,
        functions: Sequence[TimeFunction],
        significance: float,
        rng: np.random.Generator,
        searched: Mask | None = None,
        footprints: Footprints | None = None,
    ) -> None:
        self.sky, self.significance = sky, significance
        self.searched = np.ones(len(bells.maps), dtype=bool) if searched is None else searched
        self.footprints = footprints or Footprints(sky, bells.maps)
        precision, widths = sky.precision, bells.places[:, 2]
        self.energy = energy = self.footprints.energy
        scanned = np.array([bool(f.family) for f in functions])
        self.test = np.where(scanned, 1, 0)

        own = self.searched
        whitened = precision.whiten(sky.draw(DRAWS, rng))
        drawn = (whitened @ bells.maps[own].T) ** 2 / energy[own]
        largest = [drawn.max(axis=1, initial=0.0)]
        before = shaped = largest[0][:REFINED_DRAWS]
        if (round_ones := own & ~bells.relief).any():
            some = whitened[:REFINED_DRAWS]
            first = np.flatnonzero(round_ones)[drawn[:REFINED_DRAWS, ~bells.relief[own]].argmax(axis=1)]

            def score(start: tuple[int, Array]) -> float:
                bell, along = start
                return refined(bells.places[bell], along, precision, bells)[2]

            shaped = np.maximum(before, of_each(score, zip(first, some, strict=True)))
        self._sorted = [np.sort(drawn, axis=None)]

        strength = sky.strength
        response = bells.maps @ precision.whiten(sky.residual / strength[:, None]).T
        self.inflation = place_inflation(response, energy, widths)
        if scanned.any():
            values = np.array([f.values for f in functions if f.family])
            units = Rotation(strength, []).centred(values) / strength
            # single precision: with many dates and as many functions this product is the largest part of the search
            units = (units / np.linalg.norm(units, axis=1, keepdims=True)).T.astype(np.float32)

            def shuffled_scores(order: NDArray[np.intp]) -> Array:
                shuffled = response[:, order]
                amplitudes = shuffled[own].astype(np.float32) @ units
                size = np.maximum(amplitudes.max(axis=1), -amplitudes.min(axis=1)).astype(np.float64)
                return np.asarray(size**2 / (energy * place_inflation(shuffled, energy, widths))[own])

            orders = [rng.permutation(len(strength)) for _ in range(SHUFFLES)]
            shuffles = np.stack(of_each(shuffled_scores, orders))
            largest.append(shuffles.max(axis=1, initial=0.0))
            self._sorted.append(np.sort(shuffles, axis=None))
        limits = np.array([float(chance_exceeds(scores, significance)) for scores in largest])
        self.anywhere = limits[self.test]
        self.shape_gain = np.where(self.test == 0, shaped.mean() / max(float(before.mean()), 1e-12), 1.0)

    def among(self, places: float) -> Array:
        """Threshold of each function, (functions,), for a search among this number of independent places."""
        level = 1.0 - self.significance / places
        few = np.array([scores[int(level * (len(scores) - 1))] if len(scores) else 0.0 for scores in self._sorted])
        return np.minimum(few[self.test], self.anywhere)


def place_inflation(response: Array, energy: Array, widths: Array) -> Array:
    """Factor on each bell's energy with which chance scores 1 on average.

    It is the larger of the mean over all bells of the same width and the value at the bell's place, which is estimated
    from differences of successive dates, because these contain hardly any slow motion. ``response`` (bells, dates) is
    at unit strength.
    """
    place = (np.diff(response, axis=1) ** 2).mean(axis=1) / (2 * energy)
    chance = (response**2).mean(axis=1) / energy
    inflation = np.empty(len(place))
    for width in np.unique(widths):
        same = widths == width
        inflation[same] = np.maximum(place[same], max(float(chance[same].mean()), 1.0))
    return inflation
