"""Find local deformation as a sparse sum of pieces, each a bell in space times a function of time.

The covariance of the sky determines, in each function of time, how likely the atmosphere produces a bell of a given
width (:mod:`.sky`). The generalised least-squares amplitude of a bell is unbiased for every width. Pieces are added one
at a time by orthogonal matching pursuit (Pati et al., 1993). Each piece is weighted with the probability that it is not
due to chance, so the result changes continuously when a score passes its threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from ..arrays import Array
from .bells import THINNEST, Bells, refined
from .chance import Chance
from .deformation import CHOSEN, LOG_ODDS, Deformation, Piece, probability_of
from .sky import CHI2_95, CHI2_MEDIAN, Footprints, Precision
from .threads import of_each
from .timefunctions import Rotation, TimeFunction

MAX_PIECES = 200
UNLIKELY = 0.02
"""Probability below which no further piece is added."""
LEAST_SCORE = 1.0 + float(logit(UNLIKELY)) / LOG_ODDS
"""Score of motion of that probability, in units of its threshold."""
TRIED = 0.7
"""Score of a round bell in a persistent function, in units of the threshold, from which its refined shape is scored.
The bell of the dictionary nearest to an ellipse has about half its score."""
REFINE, REFINE_AGAIN = 4.0, 2.0
"""Score of a piece, in units of its threshold, above which its shape is refined with every piece that is added near: in
a first search, and in one near motion that was found before."""
ALIKE = 0.45
"""Difference of the logarithms of two widths below which refining either bell leads to much the same place."""
NEAR = 2.0
"""Radius around a proven motion, in widths of its bell, in which finer bells need a lower score."""
BROADEST_UNSTEADY = 0.32
"""Bells broader than this share of the scene are tried with the trend only."""
ROUGH = 0.9
"""Share of the places at which motion is found from a smaller amplitude than at the roughest ones."""


@dataclass(frozen=True)
class Dictionary:
    """Shapes of motion that are searched for: each function of time with each bell in space.

    Attributes
    ----------
    functions : sequence of TimeFunction
        Persistent ones, courses of clusters, and scanned ones.
    bells : Bells
    """

    functions: Sequence[TimeFunction]
    bells: Bells


class Search:
    """Search that scores every bell with every function of time.

    Parameters
    ----------
    rotation : Rotation
        Rotation of time by the persistent functions.
    precisions : sequence of Precision
        Precision of the sky in each persistent function, then in the rest of time, where the dates are independent.
    bells : Bells
    functions : sequence of TimeFunction
        The persistent ones first.
    chance : Chance
    refine : float
        Score of a piece, in units of its threshold, above which its shape is refined.
    """

    def __init__(
        self,
        rotation: Rotation,
        precisions: Sequence[Precision],
        bells: Bells,
        functions: Sequence[TimeFunction],
        chance: Chance,
        refine: float = REFINE,
    ) -> None:
        self.rotation, self.precisions, self.bells = rotation, list(precisions), bells
        self.functions, self.chance, self.refine = functions, chance, refine
        values = np.array([f.values for f in functions])
        self.centred = rotation.centred(values)
        self.coordinates = rotation.functions(values)
        n = rotation.number
        # share of each function's energy in each persistent coordinate and in all the rest
        self.shares = np.column_stack([self.coordinates[:, :n] ** 2, (self.coordinates[:, n:] ** 2).sum(axis=1)])
        energies = of_each(lambda p: p.energies(chance.footprints), precisions[:-1])
        self.energies = np.array([*energies, chance.energy])
        self.information = self.energies.T @ self.shares.T
        self.inflation = np.tile(chance.inflation[:, None], (1, len(functions)))
        steady = np.array([f.name == "trend" for f in functions])
        broad = bells.places[:, 2] > np.log(BROADEST_UNSTEADY * bells.side)
        self.barred = np.ix_(broad | bells.relief, ~steady)
        self.refines = ~bells.relief[:, None] & (chance.test == 0)  # cells in which the shape is refined

    def nearest(self, place: Array) -> int:
        """Round bell of the dictionary that is nearest in place and width to a refined one."""
        places = self.bells.places
        away = np.hypot(*(places[:, :2] - place[:2]).T) / np.exp(place[2])
        distance = away**2 + (2 * (places[:, 2] - place[2])) ** 2
        return int(np.where(self.bells.relief, np.inf, distance).argmin())

    def whiten(self, coordinates: Array) -> Array:
        """A series in rotated time (coordinates, pixels), each coordinate in the metric of its sky."""
        n = self.rotation.number
        steady = [p.whiten(coordinates[q : q + 1]) for q, p in enumerate(self.precisions[:n])]
        return np.vstack([*steady, self.precisions[n].whiten(coordinates[n:])])

    def precision(self, function: int) -> Precision:
        """The sky's in a function of time."""
        return Precision.total(self.precisions, self.shares[function])

    def products(self, maps: Array, series: Array) -> Array:
        """Product of maps (maps, pixels) with a series (dates, pixels) in the sky's metric, (maps, coordinates)."""
        return np.asarray(maps @ self.whiten(self.rotation(series)).T)

    def scores(self, products: Array) -> Array:
        """Twice the log-likelihood ratio of each bell and function, (bells, functions)."""
        scores = products**2
        scores /= self.information
        scores /= self.inflation
        scores[self.barred] = 0.0
        return np.asarray(scores)

    def inflate(self, series: Array, motion: bool) -> None:
        """Calibrate the scores by chance on a series without motion, for dates that are not exchangeable.

        The covariance of a persistent function, which fits the median place already, is scaled to the 95th percentile
        over places, for all functions of time that contain it, unless all ``motion`` is still in the series: one that
        covers a tenth of the scene would hide itself. A scanned function's factor, for each family and width, follows
        from the median of the scores over places and dates. The course of a cluster has that of a step: one of its own
        would differ between courses that hardly differ, and the factor decides which of them is found.
        """
        widths, round_ones = self.bells.places[:, 2], ~self.bells.relief
        families = np.array(["step" if f.of_cluster else f.family for f in self.functions])
        products = self.products(self.bells.maps, series)
        if round_ones.any() and not motion:
            for q in range(self.rotation.number):
                scores = products[:, q] ** 2 / (self.energies[q] * self.chance.inflation)
                tail = max(1.0, float(np.quantile(scores[round_ones], 0.95)) / CHI2_95)
                self.precisions[q] = self.precisions[q].of_scaled(tail)
                self.energies[q] /= tail
                products[:, q] /= tail
            self.information = self.energies.T @ self.shares.T
        scores = self.scores(products @ self.coordinates.T)
        for family in np.unique(families[families != ""]):
            for width in np.unique(widths[round_ones]):
                cells = np.ix_(round_ones & (widths == width), families == family)
                self.inflation[cells] *= max(1.0, float(np.median(scores[cells])) / CHI2_MEDIAN)

    def relief_trend(self, series: Array, found: Deformation) -> ReliefTrend | None:
        """The trend that follows the relief most clearly in a series without motion found; None without relief.

        Motion that is more likely due to chance is part of it.
        """
        relief = self.bells.relief
        if not relief.any():
            return None
        for piece, weights, shape in zip(found.pieces, found.weights, found.maps, strict=True):
            if piece.relief and not piece.likely:
                series = series + np.outer(weights, shape)
        products = self.products(self.bells.maps[relief], series) @ self.coordinates[0]
        information = self.information[relief, 0]
        scores = products**2 / (information * self.inflation[relief, 0])
        best = int(scores.argmax())
        amplitude, score = products[best] / information[best], scores[best]
        found_from = abs(amplitude) * max(1.0, np.sqrt(self.chance.anywhere[0] / max(score, 1e-12)))
        return ReliefTrend(float(amplitude), float(found_from), float(score))

    def found_from(self) -> list[FoundFrom]:
        """Amplitude from which a motion of each width is probably found, the narrowest first; empty without steps."""
        amplitude = np.sqrt(self.chance.anywhere * self.chance.shape_gain * self.inflation / self.information)
        steps = np.array([f.family == "step" for f in self.functions])
        if not steps.any():
            return []
        widths, round_ones = self.bells.places[:, 2], ~self.bells.relief
        found = []
        for width in np.unique(widths[round_ones]):
            here = amplitude[round_ones & (widths == width)]
            trend, step = (np.quantile(x, (0.5, ROUGH)).tolist() for x in (here[:, 0], here[:, steps]))
            found.append(FoundFrom(float(np.exp(width)) / self.bells.side, trend, step))
        return found

    def pursue(self, series: Array, progress: Callable[[int], None] | None = None) -> Deformation:
        """Add the best bell and function repeatedly, until the best one is probably due to chance.

        The best one exceeds its threshold most: a scanned function, of which there are many, has to explain more than a
        persistent one by the difference of their thresholds, or a steady motion would be taken for a ramp.
        After each addition the bells around it are moved one at a time and all amplitudes are refitted jointly.
        Otherwise the first bell of a motion that no single bell fits would keep a wrong place.

        Parameters
        ----------
        series : (dates, pixels)
            Radians.
        progress : callable, optional
            Called with the number of pieces.
        """
        pieces, places = _Pieces(self, series), self.bells.places
        widths, centres = np.exp(places[:, 2]), places[:, :2]
        needed = np.tile(self.chance.anywhere, (len(widths), 1))
        least = np.where(self.refines, TRIED, LEAST_SCORE)
        barred = ~self.chance.searched[:, None]
        scores, failed = self.scores(pieces.left()), np.zeros(needed.shape, dtype=bool)
        while len(pieces) < MAX_PIECES and len(widths):
            excess = np.where(barred | failed | (scores <= least * needed), -np.inf, scores - needed)
            bell, function = (int(k) for k in np.unravel_index(excess.argmax(), excess.shape))
            if np.isneginf(excess[bell, function]):
                break
            place, shape, threshold = places[bell], self.bells.maps[bell], needed[bell, function]
            if self.refines[bell, function]:
                start = bell
                bell, place, shape, score = pieces.shaped(start, function)
                threshold = max(needed[[start, bell], function]) * self.chance.shape_gain[function]
                if score <= LEAST_SCORE * threshold:
                    alike = np.abs(places[:, 2] - places[start, 2]) < ALIKE
                    alike &= np.hypot(*(centres - centres[start]).T) <= widths[start]
                    failed[alike & ~self.bells.relief, function] = True
                    continue
            pieces.add(bell, function, float(threshold), place, shape)
            pieces.refine_around(len(pieces) - 1)
            probability = pieces.decide()
            # near a proven motion only finer bells are still searched for, which needs a lower threshold
            size = float(np.exp(pieces.places[-1][2]))
            near = np.hypot(*(centres - pieces.places[-1][:2]).T) <= NEAR * size
            anywhere = self.chance.anywhere
            for width in np.unique(widths[widths <= size]):
                here = near & (widths == width)
                few = self.chance.among(1.0 + (NEAR * size / width) ** 2)
                needed[here] = np.minimum(needed[here], anywhere - probability * (anywhere - few))
            scores, failed[near] = self.scores(pieces.left()), False
            if progress:
                progress(len(pieces))
        return pieces.deformation()


@dataclass(frozen=True)
class ReliefTrend:
    """Trend that follows the relief and is not among the motion found.

    Attributes
    ----------
    amplitude : float
        Radians over the stack at the highest ground.
    found_from : float
        Amplitude from which it would probably be motion.
    score : float
        Chi-squared with one degree of freedom, if it is due to chance.
    """

    amplitude: float
    found_from: float
    score: float


@dataclass(frozen=True)
class FoundFrom:
    """Amplitude at the peak from which a bell is more likely motion than chance.

    Each is a pair: that of the median place (and date), and that which the roughest tenth of them exceeds.

    Attributes
    ----------
    width : float
        Standard deviation of the bell, as a share of the scene's shorter side.
    trend : (2,)
        Radians over the stack.
    step : (2,)
        Radians.
    """

    width: float
    trend: Sequence[float]
    step: Sequence[float]


class _Pieces:
    """Pieces chosen so far, their joint amplitudes, and the residual of the series."""

    def __init__(self, search: Search, series: Array) -> None:
        self.search = search
        self.whitened = search.whiten(search.rotation(series))
        self.products = (search.bells.maps @ self.whitened.T) @ search.coordinates.T
        n_parts, n_pixels = len(search.precisions), series.shape[1]
        self.places: list[Array] = []
        self.bells: list[int] = []
        self.functions: list[int] = []
        self.needed: list[float] = []
        self.probability: list[float] = []
        self.score: list[float] = []
        self.maps = np.zeros((0, n_pixels))
        # each chosen map in the metric of each sky, and its products with all bells, except those listed in `unseen`
        self.metric = np.zeros((n_parts, 0, n_pixels))
        self.seen = np.zeros((n_parts, len(search.bells.maps), 0))
        self.unseen: set[int] = set()
        self.precisions: dict[int, Precision] = {}
        self.right = np.zeros(0)
        self.amplitudes = np.zeros(0)
        self.gram = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self.places)

    def shaped(self, bell: int, function: int) -> tuple[int, Array, Array, float]:
        """A bell of the dictionary when its shape is refined: the nearest of the dictionary, place, map and score."""
        search = self.search
        along, precision = self._residual(function), self._precision(function)
        place, shape, score = refined(search.bells.places[bell], along, precision, search.bells)
        nearest = search.nearest(place)
        return nearest, place, shape, score / float(search.inflation[nearest, function])

    def add(self, bell: int, function: int, needed: float, place: Array, shape: Array) -> None:
        """Add a map with a function; ``bell`` is the one of the dictionary that is nearest to it."""
        self.places.append(place)
        self.bells.append(bell)
        self.functions.append(function)
        self.needed.append(needed)
        self.maps = np.vstack([self.maps, shape])
        self.metric = np.concatenate([self.metric, np.zeros((len(self.metric), 1, self.maps.shape[1]))], axis=1)
        self.seen = np.concatenate([self.seen, np.zeros((*self.seen.shape[:2], 1))], axis=2)
        self.right = np.append(self.right, 0.0)
        self._put(len(self) - 1, shape)

    def _put(self, k: int, bell: Array) -> None:
        """Set the map of piece ``k`` and refit all amplitudes."""
        search = self.search
        self.maps[k] = bell
        footprint = Footprints(search.chance.sky, bell[None])
        for part, precision in enumerate(search.precisions):
            self.metric[part, k] = precision.apply(footprint)[0]
        self.right[k] = search.coordinates[self.functions[k]] @ (self.whitened @ bell)
        self.unseen.add(k)
        self._refit()

    def _refit(self) -> None:
        n, f = self.search.rotation.number, self.search.coordinates[self.functions]
        gram = (self.metric[n] @ self.maps.T) * (f[:, n:] @ f[:, n:].T)
        for q in range(n):
            gram += (self.metric[q] @ self.maps.T) * np.outer(f[:, q], f[:, q])
        gram = (gram + gram.T) / 2
        gram[np.diag_indices_from(gram)] *= 1.0 + 1e-6
        self.gram = gram
        self.amplitudes = np.linalg.solve(gram, self.right)

    def left(self) -> Array:
        """Products of the dictionary with the residual of the series, (bells, functions)."""
        search = self.search
        if self.unseen:
            new = sorted(self.unseen)
            bells, footprints = search.chance.footprints, Footprints(search.chance.sky, self.maps[new])
            plain = bells.maps @ footprints.maps.T
            for part, precision in enumerate(search.precisions):
                self.seen[part][:, new] = precision.products(bells, footprints, plain)
            self.unseen.clear()
        n, f = search.rotation.number, search.coordinates
        along = f[self.functions] * self.amplitudes[:, None]
        parts = [np.outer(along[:, q], f[:, q]) for q in range(n)] + [along[:, n:] @ f[:, n:].T]
        return np.asarray(self.products - np.hstack(list(self.seen)) @ np.vstack(parts))

    def refine_around(self, new: int) -> None:
        """Refine the strong bells around piece ``new``, itself included."""
        relief = self.search.bells.relief
        place = self.places[new]
        for k, other in enumerate(self.places):
            near = np.hypot(*(other[:2] - place[:2])) < np.exp(other[2]) + np.exp(place[2])
            strength = self.amplitudes[k] ** 2 * self.gram[k, k] / self._inflation(k)
            if near and not relief[self.bells[k]] and strength > self.search.refine * self.needed[k]:
                self._refine(k)

    def _precision(self, function: int) -> Precision:
        """Precision of the sky in a function; it stays the same during a pursuit."""
        if function not in self.precisions:
            self.precisions[function] = self.search.precision(function)
        return self.precisions[function]

    def _inflation(self, k: int) -> float:
        return float(self.search.inflation[self.bells[k], self.functions[k]])

    def _residual(self, function: int, but: int | None = None) -> Array:
        """The data without the pieces (except one) along a function, in the metric of the sky, (pixels,)."""
        search, n = self.search, self.search.rotation.number
        f = search.coordinates[function]
        others = np.arange(len(self)) != (-1 if but is None else but)
        model = search.coordinates[self.functions][others] * self.amplitudes[others, None]
        along = f @ self.whitened - (model[:, n:] @ f[n:]) @ self.metric[n, others]
        for q in range(n):
            along -= f[q] * (model[:, q] @ self.metric[q, others])
        return np.asarray(along)

    def _refine(self, k: int) -> None:
        """Refine the shape of piece ``k``, given the others."""
        search, function = self.search, self.functions[k]
        along, precision = self._residual(function, k), self._precision(function)
        place, shape, _ = refined(self.places[k], along, precision, search.bells, THINNEST)
        if not np.array_equal(place, self.places[k]):
            self.places[k], self.bells[k] = place, search.nearest(place)
            self._put(k, shape)

    def decide(self) -> float:
        """Probability that the newest piece is not due to chance, from the increase of chi-squared without it."""
        cost = self.amplitudes[-1] ** 2 / np.linalg.inv(self.gram)[-1, -1] / self._inflation(len(self) - 1)
        self.score.append(float(cost / self.needed[-1]))
        self.probability.append(probability_of(self.score[-1]))
        return self.probability[-1]

    def deformation(self) -> Deformation:
        """The deformation of the pieces chosen so far."""
        search = self.search
        share = np.array(self.probability).reshape(len(self))
        weights = search.centred[self.functions] * (self.amplitudes * share)[:, None]
        weights = weights - weights.mean(axis=1, keepdims=True)
        inflation = np.sqrt([self._inflation(k) for k in range(len(self))])
        covariance = CHOSEN * np.linalg.inv(self.gram) * np.outer(inflation, inflation)
        found = [
            Piece(
                place=place,
                relief=bool(search.bells.relief[self.bells[k]]),
                function=search.functions[self.functions[k]].name,
                amplitude=float(self.amplitudes[k]),
                std=float(np.sqrt(max(covariance[k, k], 0.0))),
                score=self.score[k],
                probability=self.probability[k],
            )
            for k, place in enumerate(self.places)
        ]
        at_limit = len(self) >= MAX_PIECES
        return Deformation(weights.T @ self.maps, found, self.maps, weights, covariance, at_limit)
