"""Estimate local motion and the slow sky in turns, each from the residual of the other. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..arrays import Array, Mask
from ..progress import Steps
from .bells import Bells
from .chance import Chance
from .deformation import CHOSEN, Deformation, no_deformation
from .observations import Grid
from .search import REFINE_AGAIN, Dictionary, FoundFrom, ReliefTrend, Search
from .sky import CHANCE, N_BANDS, Footprints, Sky, Slowness, sky_statistics, slowness, typical_factor
from .timefunctions import Rotation, TimeFunction, persistent_of, without

PASSES = 3
"""Number of passes. The last one only refines the slowness of the sky and the motion; its statistics are those of the
pass before."""
REDDEST = 4.0
"""Largest factor of the sky on the trend, in units of the typical factor on an annual cycle or on two and three half
periods over the stack. It is that of a random walk; variance beyond it is not weather, even if most of the scene
moves."""

MUCH = 0.1
"""Share of a course's energy in a persistent function from which its pieces are unknowns of the sky there."""


@dataclass(frozen=True)
class Joint:
    """Motion and sky of one stack.

    Attributes
    ----------
    sky : Sky
    rotation : Rotation
        Rotation of time by the persistent functions.
    slow : list of Slowness
        Slowness of the sky in each persistent function.
    functions : list of TimeFunction
        All functions that were searched for, the persistent ones first.
    deformation : Deformation
    relief : ReliefTrend, optional
        Trend that follows the relief and is not among the motion.
    found_from : list of FoundFrom
        For each width of a motion.
    """

    sky: Sky
    rotation: Rotation
    slow: list[Slowness]
    functions: list[TimeFunction]
    deformation: Deformation
    relief: ReliefTrend | None = None
    found_from: list[FoundFrom] = field(default_factory=list)


def estimate_jointly(
    series: Array,
    dictionary: Dictionary,
    grid: Grid,
    significance: float,
    rng: np.random.Generator,
    slow_sky: bool = True,
    progress: Steps | None = None,
    passes: int = PASSES,
) -> Joint:
    """Estimate the statistics of the sky, its slowness and the motion in turns.

    The first pass assumes a slow sky with the typical factor at all scales, including the motion; the motion found in
    one pass lowers the factors of the next.

    Parameters
    ----------
    series : (dates, pixels)
        Radians on the valid pixels.
    dictionary : Dictionary
        Shapes of motion.
    grid : Grid
    significance : float
        False-alarm probability of each search.
    rng : numpy Generator
    slow_sky : bool
        If False, the dates of the sky are assumed to be independent.
    progress : callable, optional
        Called with the passes done, the number of passes and a message.
    passes : int
        One less than ``PASSES`` where a search for narrow motion has gone before, and in that search.
    """
    functions, bells = dictionary.functions, dictionary.bells
    persistent = persistent_of(functions)
    ordered = persistent + [f for f in functions if f.family]
    deformation = no_deformation(*series.shape)
    slow = [CHANCE] * len(persistent)
    typical = [1.0] * len(persistent)
    for k in range(passes):
        still = series - deformation.presumed
        if k < passes - 1:
            sky = sky_statistics(without(still, persistent), grid)
            rotation = Rotation(sky.strength, persistent)
            chance = Chance(sky, bells, ordered, significance, rng)
        coordinates = rotation(series)
        if slow_sky and k == 0:
            typical = _typical(sky, bells, chance, coordinates[: len(persistent)])
            others = _typical(sky, bells, chance, _slow_maps(rotation, persistent[0], coordinates))
            reddest = REDDEST * max([*typical[1:], *others], default=np.inf)
            typical[0] = min(typical[0], reddest)
            slow = [Slowness(np.full(N_BANDS, t), t, np.ones(N_BANDS)) for t in typical]
        elif slow_sky:
            slow = _slownesses(sky, rotation, coordinates, deformation, ordered, slow, typical)
            slow[0] = slow[0].at_most(reddest)
        precisions = [*(sky.covariance(s).precision for s in slow), sky.precision]
        search = Search(rotation, precisions, bells, ordered, chance)
        if slow_sky:
            search.inflate(still, motion=k == 0)

        def report(pieces: int, done: int = k) -> None:
            if progress:
                progress(done, passes, f"pass {done + 1}, {pieces} pieces")

        report(0)
        deformation = search.pursue(series, report)
    if progress:
        progress(passes, passes, f"{len(deformation.pieces)} pieces")
    relief = search.relief_trend(series - deformation.series, deformation)
    return Joint(sky, rotation, slow, ordered, deformation, relief, search.found_from())


def search_again(
    series: Array,
    still: Array,
    sky: Sky,
    slow: Sequence[Slowness],
    dictionary: Dictionary,
    significance: float,
    near: Mask,
    footprints: Footprints,
) -> Deformation:
    """Search for motion once more, under a sky whose statistics are known.

    Parameters
    ----------
    series, still : (dates, pixels)
        Radians; ``still`` is without the motion that was found before.
    sky : Sky
    slow : list of Slowness
        Slowness of the sky in each persistent function.
    dictionary : Dictionary
    significance : float
    near : (bells,) bool
        Bells among which it is searched for; the others say only how rough the sky is.
    footprints : Footprints
        Footprints of all bells of the dictionary.
    """
    functions, bells = dictionary.functions, dictionary.bells
    rotation = Rotation(sky.strength, persistent_of(functions))
    chance = Chance(sky, bells, functions, significance, np.random.default_rng(0), near, footprints)
    precisions = [*(sky.covariance(s).precision for s in slow), sky.precision]
    search = Search(rotation, precisions, bells, functions, chance, REFINE_AGAIN)
    search.inflate(still, motion=False)
    return search.pursue(series)


def _typical(sky: Sky, bells: Bells, chance: Chance, maps: Array) -> list[float]:
    """Typical factor of the sky in each persistent function, from its map (functions, pixels)."""
    some = ~bells.relief
    energy, widths = chance.energy[some], bells.places[some, 2]
    products = bells.maps[some] @ sky.precision.whiten(maps).T
    return [typical_factor(product**2 / energy, widths) for product in products.T]


def _slow_maps(rotation: Rotation, trend: TimeFunction, coordinates: Array) -> Array:
    """Maps of cosines of two and three half periods over the stack that are mostly outside the persistent functions."""
    n, phase = rotation.number, np.pi * (trend.values - trend.values[0]) / np.ptp(trend.values)
    found = rotation.functions(np.cos(np.outer([2, 3], phase)))
    rest = found[:, n:]
    new = (rest**2).sum(axis=1) > 0.5 * (found**2).sum(axis=1)
    units = rest[new] / np.linalg.norm(rest[new], axis=1, keepdims=True)
    return np.asarray(units @ coordinates[n:])


def _slownesses(
    sky: Sky,
    rotation: Rotation,
    coordinates: Array,
    deformation: Deformation,
    functions: Sequence[TimeFunction],
    before: Sequence[Slowness],
    typical: Sequence[float],
) -> list[Slowness]:
    """Slowness of the sky in each persistent function, with the amplitudes of the motion found in it as unknowns."""
    pieces, found = deformation.pieces, []
    weights = rotation.functions(deformation.presumed_weights) if pieces else np.zeros((0, len(coordinates)))
    # a piece keeps the share p of its amplitude that is presumed: the prior adds (1 - p) / p times its information,
    # which is that for a given piece
    doubt = CHOSEN * np.array([(1 - p.presumed) * p.presumed * (p.amplitude / p.std) ** 2 for p in pieces])
    courses = {f.name for f in functions if f.of_cluster}
    of_course = np.array([p.function in courses for p in pieces], dtype=bool)
    share = weights**2 / np.maximum((weights**2).sum(axis=1, keepdims=True), 1e-12)
    for q, start in enumerate(before):
        own = np.array([p.function == functions[q].name for p in pieces], dtype=bool)
        own |= of_course & (share[:, q] > MUCH)
        known = weights[~own, q] @ deformation.maps[~own]
        zero = doubt[own] / np.maximum(weights[own, q] ** 2, 1e-12)
        found.append(slowness(sky, coordinates[q] - known, deformation.maps[own], start, typical[q], zero))
    return found
