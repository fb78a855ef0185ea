"""Local deformation in front of the atmosphere: a sparse sum of bells in space times functions of time.

The atmosphere's covariance C tells how much a bell of a given width can be imitated by the atmosphere. The generalised
least-squares amplitude of a bell is unbiased whatever its width; it is used only where it stands out from what the same
stack gives with its dates shuffled (the atmosphere does not know the order of the dates, deformation does).
Orthogonal matching pursuit (Pati et al., 1993) in the metric of C^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from .atmosphere import Array, Prior
from .timefunctions import TimeFunction

WIDTHS = (0.03, 0.045, 0.07, 0.1, 0.15, 0.2, 0.3)
"""Standard deviations of the bells, fractions of the scene's shorter side."""
MAX_ATOMS = 200
SHUFFLES = 40
REFINE = 4.0
"""Score, in units of its threshold, from which the misfit of a bell's shape would call for more bells."""
FAINT = 1e-8
"""Of a bell's peak; what is less is left out while its place is sought."""
MAX_STRETCH = 0.7
"""Half the logarithm of the largest ratio of a bell's axes, 4."""
NEAR = 2.0
"""Reach of a proven motion, in its own widths."""


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
    """Gaussian bells on the valid pixels of a grid.

    Attributes
    ----------
    places : (bells, 5)
        Row, column, logarithm of the width (pixels, geometric mean of both axes), and the ratio of the axes with its
        direction as ``log(ratio) / 2 * (cos 2 angle, sin 2 angle)``, in which a round bell is (0, 0).
    maps : (bells, pixels)
    pixels : (2, pixels)
        Rows and columns.
    """

    places: Array
    maps: Array
    pixels: Array


def make_bells(valid: NDArray[np.bool_], stable: NDArray[np.bool_] | None = None) -> Bells:
    """Round bells of every width, 0.6 standard deviations apart, on the valid pixels of a (height, width) grid.

    None is centred on ground that is known to be ``stable``.
    """
    pixels, last = np.array(np.nonzero(valid), dtype=np.float64), np.array(valid.shape) - 1
    centres = []
    for width in WIDTHS:
        sigma = max(width * min(valid.shape), 1.0)
        axes = (np.arange(0.3 * sigma, size, 0.6 * sigma) for size in valid.shape)
        centres += [(row, column, sigma) for row, column in product(*axes)]
    places: list[Array] = []
    maps = np.empty((len(centres), pixels.shape[1]))
    for row, column, sigma in centres:
        place = np.array([row, column, np.log(sigma), 0.0, 0.0])
        bell = bell_map(place, pixels)
        still = stable is not None and stable[tuple(np.minimum((int(row), int(column)), last))]
        if bell.sum() > np.pi * sigma**2 and not still:  # at least half of it on valid ground
            maps[len(places)] = bell
            places.append(place)
    return Bells(np.array(places).reshape(-1, 5), maps[: len(places)], pixels)


def bell_map(place: Array, pixels: Array) -> Array:
    """Gaussian bell of peak 1 at ``place`` (see :class:`Bells`) on ``pixels`` (2, pixels), (pixels,)."""
    y, x = pixels[0] - place[0], pixels[1] - place[1]
    stretch = np.hypot(place[3], place[4])
    # the logarithm of a symmetric 2 x 2 matrix with eigenvalues +- stretch, exponentiated
    even, odd = np.cosh(2 * stretch), np.sinh(2 * stretch) / max(stretch, 1e-12)
    distance = (x**2 + y**2) * even - odd * (place[3] * (x**2 - y**2) + 2 * place[4] * x * y)
    return np.asarray(np.exp(-distance / (2 * np.exp(2 * place[2]))))


class Thresholds:
    """Scores that chance exceeds with a given probability.

    Parameters
    ----------
    scores : (shuffles, bells, tests)
        Of shuffled dates.
    test_of : (functions,) int
        The test that each function belongs to.
    significance : float
        False-alarm probability of a test.
    """

    def __init__(self, scores: NDArray[np.float32], test_of: NDArray[np.intp], significance: float) -> None:
        self.significance, self.test_of = significance, test_of
        self.anywhere = chance_exceeds(scores.max(axis=1).astype(np.float64), significance)[test_of]
        self.sorted = np.sort(scores.reshape(-1, scores.shape[2]), axis=0)

    def among(self, places: float) -> Array:
        """Threshold of each function, (functions,), for a search among so many independent places."""
        rank = int((1.0 - self.significance / places) * (len(self.sorted) - 1))
        return np.minimum(self.sorted[rank][self.test_of], self.anywhere)


def chance_exceeds(largest: Array, significance: float) -> Array:
    """What the largest score of a search exceeds by chance with this probability.

    Parameters
    ----------
    largest : (shuffles, ...)
        Of shuffled dates; a Gumbel distribution is fitted by moments.
    significance : float
        0 gives infinity.
    """
    if significance <= 0:
        return np.full(largest.shape[1:], np.inf)
    scale = np.sqrt(6.0) / np.pi * largest.std(axis=0)
    return np.asarray(largest.mean(axis=0) - scale * (np.euler_gamma + np.log(-np.log1p(-significance))))


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
        self.prior, self.bells, self.functions, self.weights = prior, bells, functions, weights
        self.coefficients, self.energy = prior.metric(bells.maps)
        self.inflation = np.ones(len(self.energy))
        values = np.array([f.values for f in functions])
        self.centred = values - (values @ weights / weights.sum())[:, None]
        self.norms = (self.centred**2) @ weights
        self.units = (self.centred * weights / np.sqrt(self.norms)[:, None]).T
        self.family = np.array([bool(f.family) for f in functions])

    def response(self, maps: Array) -> Array:
        """Product of each bell with maps (maps, pixels) in the metric of C^-1, (bells, maps)."""
        return self.prior.product(self.bells.maps, self.coefficients, maps)

    def scores(self, response: Array, inflation: Array) -> Array:
        """Twice the log-likelihood ratio of each bell and function, from whitened responses (bells, dates)."""
        return np.asarray((response @ self.units) ** 2 / (self.energy * inflation)[:, None])

    def calibrate(self, residual: Array, significance: float, rng: np.random.Generator) -> Thresholds:
        """Scores that chance exceeds with probability ``significance``.

        The dates of ``residual`` (dates, pixels), the series less all deformation known so far, are shuffled. Each
        function is tested on its own, those scanned over the dates as one.
        """
        strength = 1.0 / np.sqrt(self.weights)
        response = self.response(residual) / strength
        self.inflation = self._inflate(response)
        # a test for each function, and one for all that are scanned
        alone = np.flatnonzero(~self.family)
        test_of = np.full(len(self.functions), len(alone))
        test_of[alone] = np.arange(len(alone))
        largest = np.empty((SHUFFLES, len(self.energy), test_of.max() + 1), dtype=np.float32)
        for k in range(SHUFFLES):
            shuffled = response[:, rng.permutation(len(strength))]
            scores = self.scores(shuffled * strength, self._inflate(shuffled))
            largest[k, :, : len(alone)] = scores[:, alone]
            if self.family.any():
                largest[k, :, -1] = scores[:, self.family].max(axis=1)
        return Thresholds(largest, test_of, significance)

    def _inflate(self, response: Array) -> Array:
        """Factor on each bell's energy with which chance scores 1 on average, as it should; the covariance is a model.

        Over the bell's width, and at its place; there from differences of successive dates, which hold hardly any
        slow motion. ``response`` (bells, dates) at unit strength.
        """
        place = (np.diff(response, axis=1) ** 2).mean(axis=1) / (2 * self.energy)
        chance = (response**2).mean(axis=1) / self.energy
        inflation = np.empty(len(place))
        for width in np.unique(self.bells.places[:, 2]):
            same = self.bells.places[:, 2] == width
            inflation[same] = np.maximum(place[same], max(float(chance[same].mean()), 1.0))
        return inflation

    def pursue(self, series: Array, thresholds: Thresholds, side: float) -> Deformation:
        """Add the best bell and function, until no score exceeds its threshold.

        After each, the bells around it are placed anew one at a time, and all amplitudes are refitted jointly: the
        first bell of a motion that none of them fits alone would otherwise be wrong for good.

        Parameters
        ----------
        series : (dates, pixels)
            Radians.
        thresholds : Thresholds
        side : float
            Shorter side of the grid, pixels.
        """
        atoms = _Atoms(self, series)
        widths, centres = np.exp(self.bells.places[:, 2]), self.bells.places[:, :2]
        needed = np.tile(thresholds.anywhere, (len(widths), 1))
        while len(atoms) < MAX_ATOMS and len(widths):
            score = self.scores(atoms.left, self.inflation)
            bell, function = np.unravel_index(int((score - needed).argmax()), score.shape)
            if score[bell, function] <= needed[bell, function]:
                break
            atoms.add(int(bell), int(function), float(needed[bell, function]))
            new = atoms.places[-1]
            for k, place in enumerate(atoms.places):
                near = np.hypot(*(place[:2] - new[:2])) < np.exp(place[2]) + np.exp(new[2])
                if near and atoms.score(k) > REFINE * atoms.needed[k]:
                    atoms.refine(k)
            # where motion is proven, only its finer shape is still to be searched
            size = float(np.exp(atoms.places[-1][2]))
            near = np.hypot(*(centres - atoms.places[-1][:2]).T) <= NEAR * size
            for width in np.unique(widths[widths <= size]):
                here = near & (widths == width)
                needed[here] = np.minimum(needed[here], thresholds.among(1.0 + (NEAR * size / width) ** 2))
        return atoms.deformation(series.shape, side)


class _Atoms:
    """Bells and functions chosen so far, their joint amplitudes, and what they leave of the whitened responses."""

    def __init__(self, search: Search, series: Array) -> None:
        self.search, self.series = search, series
        self.response = self.left = search.response(series)
        self.places: list[Array] = []
        self.functions: list[int] = []
        self.needed: list[float] = []
        self.inflation: list[float] = []
        self.amplitudes = np.zeros(0)
        self.maps = np.zeros((0, series.shape[1]))
        self.whitened = np.zeros((0, series.shape[1]))
        self.seen = np.zeros((len(search.energy), 0))  # of each chosen bell by those of the dictionary

    def __len__(self) -> int:
        return len(self.places)

    def add(self, bell: int, function: int, needed: float) -> None:
        """Take a bell of the dictionary with a function."""
        search = self.search
        self.places.append(search.bells.places[bell])
        self.functions.append(function)
        self.needed.append(needed)
        self.inflation.append(float(search.inflation[bell]))
        self.maps = np.vstack([self.maps, search.bells.maps[bell]])
        self.whitened = np.vstack([self.whitened, search.prior.whiten(self.maps[-1:])])
        self.seen = np.column_stack([self.seen, search.response(self.maps[-1:])])
        self._refit()

    def refine(self, k: int) -> None:
        """Move, stretch and turn bell ``k`` to where it scores best with its function (Nelder and Mead, 1965)."""
        search = self.search
        f = search.centred[self.functions[k]] * search.weights
        others = np.arange(len(self)) != k
        model = (search.centred[self.functions] * self.amplitudes[:, None])[others].T @ self.maps[others]
        along = search.prior.whiten((f @ (self.series - model))[None])[0]
        start = self.places[k]

        def misfit(move: Array) -> float:
            place = start + move * scale
            if np.hypot(place[3], place[4]) > MAX_STRETCH or not low <= place[2] <= high:
                return 0.0
            bell = bell_map(place, search.bells.pixels)
            bell[bell < FAINT] = 0.0
            return -float((bell @ along) ** 2 / search.prior.energy(bell))

        size = np.exp(start[2])
        scale = np.array([0.5 * size, 0.5 * size, 0.3, 0.2, 0.2])
        low, high = search.bells.places[:, 2].min() - 0.3, search.bells.places[:, 2].max() + 0.3
        best = minimize(misfit, np.zeros(5), method="Nelder-Mead", options={"maxfev": 60, "xatol": 0.05, "fatol": 1e-3})
        if best.fun < misfit(np.zeros(5)):
            self.places[k] = start + best.x * scale
            self.maps[k] = bell_map(self.places[k], search.bells.pixels)
            self.whitened[k] = search.prior.whiten(self.maps[k][None])[0]
            self.seen[:, k] = search.response(self.maps[k : k + 1])[:, 0]
            self._refit()

    def score(self, k: int) -> float:
        """Twice the log-likelihood ratio of atom ``k`` given the others' amplitudes."""
        norm = self.search.norms[self.functions[k]]
        return float(self.amplitudes[k] ** 2 * norm * (self.whitened[k] @ self.maps[k]) / self.inflation[k])

    def _refit(self) -> None:
        search = self.search
        f = search.centred[self.functions]
        gram = (self.whitened @ self.maps.T) * ((f * search.weights) @ f.T)
        gram[np.diag_indices_from(gram)] *= 1.0 + 1e-6
        right = ((self.whitened @ self.series.T) * search.weights * f).sum(axis=1)
        self.amplitudes = np.linalg.solve(gram, right)
        self.left = self.response - self.seen @ (self.amplitudes[:, None] * f)

    def deformation(self, shape: tuple[int, ...], side: float) -> Deformation:
        """What was found, with each atom's score in units of the threshold it had to pass."""
        search = self.search
        found = (search.centred[self.functions] * self.amplitudes[:, None]).T @ self.maps
        atoms: list[dict[str, object]] = [
            {
                "row": float(place[0]),
                "column": float(place[1]),
                "width": float(np.exp(place[2]) / side),
                "function": search.functions[function].name,
                "amplitude": float(self.amplitudes[k]),
                "score": self.score(k) / self.needed[k],
            }
            for k, (place, function) in enumerate(zip(self.places, self.functions, strict=True))
        ]
        return Deformation(found.reshape(shape), atoms)
