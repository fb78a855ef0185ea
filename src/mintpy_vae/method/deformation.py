"""Find local deformation as a sparse sum of pieces, each a bell in space times a function of time.

The covariance of the sky determines, in each function of time, how likely the atmosphere produces a bell of a given
width (:mod:`.sky`). The generalised least-squares amplitude of a bell is unbiased for every width. Pieces are added one
at a time by orthogonal matching pursuit (Pati et al., 1993). Each piece is weighted with the probability that it is not
due to chance, so the result changes continuously when a score passes its threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import expit

from ..arrays import Array
from .sky import CHI2_95, CHI2_MEDIAN, Footprints, Precision, Sky
from .timefunctions import Rotation, TimeFunction

WIDTHS = (0.03, 0.045, 0.07, 0.1, 0.15, 0.2, 0.3)
"""Standard deviations of the bells, fractions of the scene's shorter side."""
FULL_WIDTH = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a bell, in its standard deviations."""
NARROWEST = 1.0
"""Width in pixels of the narrowest bells. A wide scene has such, because a pixel may hold a whole local motion."""
SPACING = 0.6
"""Distance between bells of one width, in their standard deviations; a pixel at least."""
COVERED = 0.5
"""Least share of a bell on valid ground, in units of the valid share of the scene."""
RELIEF = tuple(np.arange(0.3, 0.875, 0.05).round(2))
"""Quantiles of the height above which motion that follows the relief is searched for, so close that the choice between
two of them does not decide how much is found. These maps are bent functions of the effective height, in which the
stratified delay is linear (:mod:`.profile`)."""
LEAST_RELIEF = 100.0
"""Range of effective heights in metres below which no such map is tried."""
CHOSEN = 3.0
"""Factor on the variance of the amplitudes. They are those of pieces that were chosen, moved and stretched until they
explained most, which a covariance for given pieces does not know. Measured on real skies with known motion: the most
likely factor for the errors of the velocity is 3, for those of the displacement 4."""
MAX_PIECES = 200
SHUFFLES = 40
DRAWS, REFINED_DRAWS = 100, 40
"""Number of maps that are drawn from the covariance of the sky, and in how many of them a bell is refined."""
UNLIKELY = 0.02
"""Probability below which no further piece is added."""
PRESUMED = 0.85
"""Score of a piece, in units of its threshold, from which it counts as motion when the statistics of the sky are
estimated."""
TRIED = 0.7
"""Score of a round bell in a persistent function, in units of the threshold, from which its refined shape is scored.
The bell of the dictionary nearest to an ellipse has about half its score."""
REFINE = 4.0
"""Score of a piece, in units of its threshold, above which its shape is refined with every piece that is added near."""
ALIKE = 0.45
"""Difference of the logarithms of two widths below which refining either bell leads to much the same place."""
REFINEMENTS = 2
THINNEST = 0.75
"""Least standard deviation along the shorter axis of a strong bell, pixels; ``NARROWEST`` for others."""
ROUGH = 0.9
"""Share of the places at which motion is found from a smaller amplitude than at the roughest ones."""
INSIDE = 0.7
"""Least value of a refined bell on valid ground; the amplitude of one that is centred beyond it is extrapolated."""
STEPS = (1.0, 0.5, 0.2)
"""Step lengths that are tried, as shares of the Gauss-Newton step."""
MAX_STRETCH = 0.7
"""Half the logarithm of the largest ratio of a bell's axes, which is 4."""
BROADEST_UNSTEADY = 0.32
"""Bells broader than this share of the scene are tried with the trend only."""
NEAR = 2.0
"""Radius around a proven motion, in widths of its bell, in which finer bells need a lower score."""


@dataclass(frozen=True)
class Piece:
    """One bell, or one map that follows the relief, with a function of time.

    Attributes
    ----------
    place : (5,)
        See :class:`Bells`.
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
        return float(expit(LOG_ODDS * (self.score - PRESUMED)))

    @property
    def likely(self) -> bool:
        """Whether it is more likely motion than chance."""
        return self.probability > 0.5

    def record(self, side: int) -> dict[str, Any]:
        """Entry in ``vae_result.json``; ``side`` is the shorter side of the grid in pixels."""
        return {
            "row": round(float(self.place[0]), 2),
            "column": round(float(self.place[1]), 2),
            "width": round(float(np.exp(self.place[2])) / side, 4),
            "relief": self.relief,
            "function": self.function,
            "amplitude": self.amplitude,
            "std": self.std,
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
        values, axes = np.linalg.eigh(covariance)
        found = np.empty((len(lines), self.maps.shape[1]))
        for variance, of_unit in zip(found, lines @ self.weights.T / share, strict=True):
            variance[:] = np.maximum(values, 0.0) @ (axes.T @ (self.maps * of_unit[:, None])) ** 2
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

    def on(self, some: NDArray[np.bool_]) -> Deformation:
        """The same on some of its pixels, (pixels,) bool."""
        return replace(self, series=self.series[:, some], maps=self.maps[:, some])

    @property
    def errors(self) -> Array:
        """``covariance``, or its default."""
        if self.covariance is not None:
            return self.covariance
        return independent_errors(self.pieces)


def independent_errors(pieces: Sequence[Piece]) -> Array:
    """Covariance (pieces, pieces) of amplitudes whose errors are independent."""
    return np.diag(np.array([piece.std**2 for piece in pieces]))


def no_deformation(n_dates: int, n_pixels: int) -> Deformation:
    """Deformation without any piece."""
    return Deformation(np.zeros((n_dates, n_pixels)), [], np.zeros((0, n_pixels)), np.zeros((0, n_dates)))


@dataclass(frozen=True)
class Bells:
    """Gaussian bells on the valid pixels of a grid, and maps that follow the relief.

    Attributes
    ----------
    places : (bells, 5)
        Row, column, logarithm of the width (pixels, geometric mean of both axes), and the ratio of the axes with its
        direction as ``log(ratio) / 2 * (cos 2 angle, sin 2 angle)``, in which a round bell is (0, 0).
    maps : (bells, pixels)
        Of peak 1.
    relief : (bells,) bool
        True for maps that follow the relief; their place is the centroid of the map.
    pixels : (2, pixels)
        Rows and columns.
    side : int
        Shorter side of the grid, pixels.
    """

    places: Array
    maps: Array
    relief: NDArray[np.bool_]
    pixels: Array
    side: int


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


def make_bells(
    valid: NDArray[np.bool_], height: Array, stable: NDArray[np.bool_] | None = None, wide: bool = False
) -> Bells:
    """Round bells of every width on the valid pixels of a (height, width) grid, and maps that follow the relief.

    ``height`` (pixels,) is the effective one, metres. No bell is centred on ground that is known to be ``stable``. In a
    ``wide`` scene there are also bells of ``NARROWEST``.
    """
    pixels, last = np.array(np.nonzero(valid), dtype=np.float64), np.array(valid.shape) - 1
    side, covered = min(valid.shape), COVERED * valid.mean()
    places, maps = [], []
    narrow = [NARROWEST] if wide else []
    for sigma in np.unique([*narrow, *(max(width * side, 1.0) for width in WIDTHS)]):
        apart = max(SPACING * sigma, 1.0)
        axes = [np.arange(0.5 * min(apart, sigma), size, apart) for size in valid.shape]
        down, across = (
            np.exp(-((line - axis[:, None]) ** 2) / (2 * sigma**2)) for axis, line in zip(axes, pixels, strict=True)
        )
        centres = np.array(list(product(*axes)))
        bells = (down[:, None] * across).reshape(len(centres), -1)
        chosen = bells.sum(axis=1) > covered * 2 * np.pi * sigma**2
        if stable is not None:
            chosen &= ~stable[tuple(np.minimum(centres.astype(int), last).T)]
        shape = np.broadcast_to([np.log(sigma), 0.0, 0.0], (len(centres), 3))
        places.extend(np.hstack([centres, shape])[chosen])
        maps.extend(bells[chosen])
    n_bells = len(maps)
    if np.ptp(height) > LEAST_RELIEF:
        for share in RELIEF:
            high = np.maximum(height - np.quantile(height, share), 0.0)
            high /= high.max()
            middle = (pixels * high).sum(axis=1) / high.sum()
            places.append(np.array([*middle, np.log(0.35 * side), 0.0, 0.0]))
            maps.append(high)
    relief = np.arange(len(maps)) >= n_bells
    return Bells(np.array(places).reshape(-1, 5), np.array(maps).reshape(-1, pixels.shape[1]), relief, pixels, side)


def bell_map(place: Array, pixels: Array) -> Array:
    """Gaussian bell of peak 1 at ``place`` (see :class:`Bells`) on ``pixels`` (2, pixels), (pixels,)."""
    y, x = pixels[0] - place[0], pixels[1] - place[1]
    stretch = np.hypot(place[3], place[4])
    # the logarithm of a symmetric 2 x 2 matrix with eigenvalues +- stretch, exponentiated
    even, odd = np.cosh(2 * stretch), np.sinh(2 * stretch) / max(stretch, 1e-12)
    distance = (x**2 + y**2) * even - odd * (place[3] * (x**2 - y**2) + 2 * place[4] * x * y)
    return np.asarray(np.exp(-distance / (2 * np.exp(2 * place[2]))))


def refined(
    place: Array, along: Array, precision: Precision, bells: Bells, thinnest: float = NARROWEST
) -> tuple[Array, Array, float]:
    """Move, stretch and turn a bell to where it scores best (Gauss-Newton with the amplitude projected out).

    Parameters
    ----------
    place : (5,)
        See :class:`Bells`.
    along : (pixels,)
        The data in the metric of the sky, ``C^-1 y``.
    precision : Precision
        ``C^-1``.
    bells : Bells
    thinnest : float
        Least standard deviation along the shorter axis, pixels.

    Returns
    -------
    place : (5,)
    shape : (pixels,)
        Map of peak 1.
    score : float
        Chi-squared by which the bell explains the data.
    """
    pixels = bells.pixels
    narrowest, broadest = np.log(thinnest), np.log(max(WIDTHS) * bells.side)
    size = np.exp(place[2])
    scale = np.array([0.5 * size, 0.5 * size, 0.3, 0.2, 0.2])
    shape = bell_map(place, pixels)
    score = float((shape @ along) ** 2 / precision.energies(Footprints(precision.sky, shape[None]))[0])
    for _ in range(REFINEMENTS):
        slopes = [(bell_map(place + h, pixels) - bell_map(place - h, pixels)) / 0.02 for h in np.diag(0.01 * scale)]
        tangent = np.vstack([shape, slopes])
        footprints = Footprints(precision.sky, tangent)
        gram, right = precision.products(footprints, footprints, tangent @ tangent.T), tangent @ along
        gram[np.diag_indices_from(gram)] *= 1.0 + 1e-3
        solution = np.linalg.solve(gram, right)
        if solution[0] == 0:
            break
        step = np.clip(solution[1:] / solution[0], -1.0, 1.0)
        tried = place + np.outer(STEPS, step * scale)
        tried[:, 2] = np.clip(tried[:, 2], narrowest, broadest)
        stretch = np.hypot(*tried[:, 3:].T)
        most = np.minimum(MAX_STRETCH, tried[:, 2] - narrowest)
        tried[:, 3:] *= np.minimum(1.0, most / np.maximum(stretch, 1e-12))[:, None]
        shapes = np.array([bell_map(one, pixels) for one in tried])
        reached = (shapes @ along) ** 2 / precision.energies(Footprints(precision.sky, shapes))
        reached[shapes.max(axis=1) < INSIDE] = 0.0
        best, before = int(reached.argmax()), score
        if not reached[best] > before * (1 + 1e-6):
            break
        place, shape, score = tried[best], shapes[best], float(reached[best])
        if score < before * (1 + 1e-3):
            break
    return place, shape, score


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

    Attributes
    ----------
    anywhere : (functions,)
        Threshold of the score anywhere in the scene.
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
        self, sky: Sky, bells: Bells, functions: Sequence[TimeFunction], significance: float, rng: np.random.Generator
    ) -> None:
        self.sky, self.significance = sky, significance
        self.footprints = Footprints(sky, bells.maps)
        precision, widths = sky.precision, bells.places[:, 2]
        self.energy = energy = precision.energies(self.footprints)
        scanned = np.array([bool(f.family) for f in functions])
        self.test = np.where(scanned, 1, 0)

        whitened = precision.whiten(sky.draw(DRAWS, rng))
        drawn = (whitened @ bells.maps.T) ** 2 / energy
        largest = [drawn.max(axis=1, initial=0.0)]
        before = shaped = largest[0][:REFINED_DRAWS]
        if not bells.relief.all():
            some = whitened[:REFINED_DRAWS]
            first = drawn[:REFINED_DRAWS, ~bells.relief].argmax(axis=1)  # maps that follow the relief are the last ones
            reached = [refined(bells.places[b], y, precision, bells)[2] for b, y in zip(first, some, strict=True)]
            shaped = np.maximum(before, reached)
        self._sorted = [np.sort(drawn, axis=None)]

        strength = sky.strength
        response = bells.maps @ precision.whiten(sky.residual / strength[:, None]).T
        self.inflation = place_inflation(response, energy, widths)
        if scanned.any():
            values = np.array([f.values for f in functions if f.family])
            units = Rotation(strength, []).centred(values) / strength
            # single precision: with many dates and as many functions this product is the largest part of the search
            units = (units / np.linalg.norm(units, axis=1, keepdims=True)).T.astype(np.float32)
            shuffles = np.empty((SHUFFLES, len(energy)))
            for one in shuffles:
                shuffled = response[:, rng.permutation(len(strength))]
                amplitudes = shuffled.astype(np.float32) @ units
                size = np.maximum(amplitudes.max(axis=1), -amplitudes.min(axis=1)).astype(np.float64)
                one[:] = size**2 / (energy * place_inflation(shuffled, energy, widths))
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
    """

    def __init__(
        self,
        rotation: Rotation,
        precisions: Sequence[Precision],
        bells: Bells,
        functions: Sequence[TimeFunction],
        chance: Chance,
    ) -> None:
        self.rotation, self.precisions, self.bells = rotation, list(precisions), bells
        self.functions, self.chance = functions, chance
        values = np.array([f.values for f in functions])
        self.centred = rotation.centred(values)
        self.coordinates = rotation.functions(values)
        n = rotation.number
        # share of each function's energy in each persistent coordinate and in all the rest
        self.shares = np.column_stack([self.coordinates[:, :n] ** 2, (self.coordinates[:, n:] ** 2).sum(axis=1)])
        energies = [p.energies(chance.footprints) for p in precisions[:-1]]
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
        likely = 1.0 + _log_odds(UNLIKELY) / LOG_ODDS
        least = np.where(self.refines, TRIED, likely)
        scores, failed = self.scores(pieces.left()), np.zeros(needed.shape, dtype=bool)
        while len(pieces) < MAX_PIECES and len(widths):
            excess = np.where(failed | (scores <= least * needed), -np.inf, scores - needed)
            bell, function = (int(k) for k in np.unravel_index(excess.argmax(), excess.shape))
            if np.isneginf(excess[bell, function]):
                break
            place, shape, threshold = places[bell], self.bells.maps[bell], needed[bell, function]
            if self.refines[bell, function]:
                start = bell
                bell, place, shape, score = pieces.shaped(start, function)
                threshold = max(needed[[start, bell], function]) * self.chance.shape_gain[function]
                if score <= likely * threshold:
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


LOG_ODDS = 10.0
"""Log-odds that a score of twice its threshold is not due to chance; at the threshold the odds are even. A score is
twice a log-likelihood ratio and a threshold is about 20. If the scores by chance have heavier tails, the threshold is
higher and the same score has less weight."""


def _log_odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


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
            if near and not relief[self.bells[k]] and strength > REFINE * self.needed[k]:
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
        self.probability.append(float(expit(LOG_ODDS * (self.score[-1] - 1.0))))
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
