"""Alarm for new motion: where a date shows more than the sky of the dates learned from, and how unlike them it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from ..arrays import Array
from .bells import Bells, bell_map, refined
from .chance import chance_exceeds, place_inflation
from .deformation import probability_of
from .local_sky import LocalSky
from .search import NEAR
from .sky import CHI2_MEDIAN, Footprints, LocalPrecision, Sky
from .threads import of_each

FALSE_ALARM = 0.01
"""Probability of an alarm on a date without motion, over the whole scene."""
LASTING = (1, 2, 4)
"""Numbers of successive dates whose common motion is tested; they share the false alarms."""
MOST_ALARMS = 10
"""Largest number of places at which one date shows new motion, for each length."""
FEW_DATES = 20
"""Number of dates learned from with which a new one would exceed its threshold twice as often as it should, because the
distribution that is fitted to their largest scores is uncertain itself."""
NARROW = 0.2
"""Share of the false alarms that the narrowest bells may raise."""
FEW_CELLS, NEARLY_WHOLE = 2.0, 0.25
"""Width in cells below which an alarm may be an unwrapping error, if it differs by less from whole cycles."""


@dataclass(frozen=True)
class Alarm:
    """New motion that one date shows, alone or in common with those before; faint motion raises no alarm.

    Attributes
    ----------
    date : str
    place : (5,)
        Of the bell, see :class:`~mintpy_vae.method.bells.Bells`.
    amplitude, std : float
        Radians at the bell's peak, and its standard deviation on a date without motion.
    score : float
        In units of the threshold.
    since : str
        First of the dates that are taken together with it: the motion began there at the earliest.
    """

    date: str
    place: Array
    amplitude: float
    std: float
    score: float
    since: str

    @property
    def probability(self) -> float:
        """Probability that it is not due to chance, as for any other motion."""
        return probability_of(self.score)

    @property
    def raised(self) -> bool:
        """Whether it is more likely motion than chance, and told."""
        return self.score >= 1.0

    def cycles(self, cells: float = 1.0) -> int:
        """Number of whole cycles that it nearly has on one or two cells, as an unwrapping error does; else 0.

        ``cells`` is the size of a pixel of its place.
        """
        whole = round(abs(self.amplitude) / (2 * np.pi))
        few = cells * np.exp(self.place[2]) < FEW_CELLS
        return whole if few and abs(abs(self.amplitude) / (2 * np.pi) - whole) < NEARLY_WHOLE else 0


def distinct(alarms: Sequence[Alarm]) -> list[Alarm]:
    """The alarms that are raised, one for each place and date: several bells that describe one motion are added up.

    A motion takes bells of several widths, also from the tiles of a wide scene. Each belongs to the widest one near it;
    the sum has the place of the clearest one, and the width of the widest.
    """
    groups: list[list[Alarm]] = []
    for alarm in sorted((one for one in alarms if one.raised), key=lambda one: -one.place[2]):
        for group in groups:
            near = np.hypot(*(alarm.place[:2] - group[0].place[:2])) < NEAR * np.exp(group[0].place[2])
            if near and alarm.date == group[0].date:
                group.append(alarm)
                break
        else:
            groups.append([alarm])
    found = []
    for group in groups:
        clearest = max(group, key=lambda one: one.score)
        total = sum(one.amplitude * float(bell_map(one.place, clearest.place[:2, None])[0]) for one in group)
        place = np.r_[clearest.place[:2], group[0].place[2:]]
        std = clearest.std * max(abs(total / clearest.amplitude), 1.0)  # it stands out no more than the clearest one
        found.append(replace(clearest, place=place, amplitude=total, std=std))
    return sorted(found, key=lambda one: one.date)


class Judge:
    """Scores dates by what was learned; the dates learned from are scored without their own block.

    Parameters
    ----------
    sky : Sky
    local : LocalSky
    bells : Bells
    footprints : Footprints
        Of all bells.
    good : (dates,) int
        Dates to learn from.
    false_alarm : float
    lasting : sequence of int
        Numbers of successive dates whose common motion is tested.
    """

    def __init__(
        self,
        sky: Sky,
        local: LocalSky,
        bells: Bells,
        footprints: Footprints,
        good: NDArray[np.intp],
        false_alarm: float = FALSE_ALARM,
        lasting: Sequence[int] = LASTING,
    ) -> None:
        self.lasting = lasting
        some = ~bells.relief
        self.sky, self.bells, self.places, self.maps = sky, bells, bells.places[some], bells.maps[some]
        of_sky = footprints.energy[some]
        blocks = [(np.intersect1d(block, good), maps) for block, maps in zip(local.blocks, local.modes, strict=True)]

        def of_block(block: tuple[NDArray[np.intp], Array]) -> tuple[Array, Array, Array]:
            metric, unit = LocalPrecision(sky, block[1]), sky.unit[block[0]]
            whitened = metric.whiten(unit)
            misfits = np.einsum("ij,ij->i", whitened, unit) / unit.shape[1]
            return self.maps @ whitened.T, metric.energies(self.maps, of_sky), misfits

        responses, energies, misfits = zip(*of_each(of_block, blocks), strict=True)
        self.misfits = np.concatenate(misfits)
        self.metric = LocalPrecision(sky, local.of_new(sky, good))
        self.energy = self.metric.energies(self.maps, of_sky)
        self.inflation, self.threshold = np.ones(len(self.places)), np.ones((len(lasting), len(self.places)))
        if not len(self.places):  # all ground is known to be stable
            return
        energy = np.mean(energies, axis=0)
        response = np.hstack([r / np.sqrt(e / energy)[:, None] for r, e in zip(responses, energies, strict=True)])
        self.inflation = local.level * place_inflation(response / np.sqrt(local.level), energy, self.places[:, 2])
        in_order = np.argsort(np.concatenate([block for block, _ in blocks]))
        unit = (response / np.sqrt(energy * self.inflation)[:, None])[:, in_order]
        scores = [together(unit, sky.strength[np.sort(good)], length) ** 2 for length in lasting]
        scores = [of_length / _level(of_length) for of_length in scores]
        # single pixels have errors that no sky has: the narrowest bells get a threshold of their own
        narrow = self.places[:, 2] < self.places[:, 2].min() + 0.01
        for some, share in ((narrow, NARROW), (~narrow, 1 - NARROW)):
            if some.any():
                self.threshold[:, some] = _thresholds([s[some] for s in scores], share * false_alarm)[:, None]

    def misfit(self, unit: Array) -> Array:
        """Misfit of new dates at unit strength, in robust standard deviations of those of the dates learned from."""
        found = np.einsum("ij,ij->i", self.metric.whiten(unit), unit) / unit.shape[1]
        known = np.log(self.misfits)
        middle = np.median(known)
        return np.asarray((np.log(found) - middle) / (1.4826 * np.median(np.abs(known - middle))))

    def alarms(
        self, unit: Array, length: int = 1, least: float = 1.0
    ) -> list[tuple[Array, Array, float, float, float]]:
        """Place, bell, amplitude, standard deviation and score of each new motion of a score of ``least`` or more.

        ``unit`` (pixels,) is what is left of so many dates :func:`together`, one of ``lasting``.
        """
        threshold = self.threshold[self.lasting.index(length)]
        chosen: list[int] = []
        places: list[Array] = []
        reached: list[float] = []
        if not len(self.places):
            return []

        def scores_of(left: Array) -> Array:
            return (self.maps @ self.metric.whiten(left[None])[0]) ** 2 / (self.energy * self.inflation)

        left, precision = unit, self.sky.precision
        maps = self.maps[:0]
        amplitudes: Array = np.zeros(0)
        energies: Array = np.zeros(0)
        scores = scores_of(unit)
        level = _level(scores)
        while len(chosen) < MOST_ALARMS:
            relative = scores / (level * threshold)
            relative[chosen] = 0.0
            best = int(relative.argmax())
            if relative[best] < least:
                break
            chosen.append(best)
            reached.append(float(relative[best]))
            # what a round bell leaves of a clear motion would be taken for sky; a faint one says little of its shape
            place = self.places[best]
            better, *_ = refined(place, precision.whiten(left[None])[0], precision, self.bells)
            places.append(place + probability_of(reached[-1]) * (better - place))
            maps = np.vstack([maps, bell_map(places[-1], self.bells.pixels)])
            whitened = self.metric.whiten(maps)
            gram = whitened @ maps.T
            amplitudes, energies = np.asarray(np.linalg.solve(gram, whitened @ unit)), np.diag(gram)
            left = unit - amplitudes @ maps
            scores = scores_of(left)
        std = np.sqrt(level * self.inflation[chosen] / energies)
        found = zip(places, maps, amplitudes, std, reached, strict=True)
        return [(place, bell, float(amplitude), float(error), score) for place, bell, amplitude, error, score in found]


def together(unit: Array, strength: Array, length: int) -> Array:
    """Each ``length`` successive dates as one: their common motion, in units of its standard deviation.

    Parameters
    ----------
    unit : (n, dates)
        At unit strength.
    strength : (dates,)
    length : int

    Returns
    -------
    (n, dates - length + 1)
    """
    weight = np.r_[0.0, np.cumsum(strength**-2.0)]
    total = np.cumsum(unit / strength, axis=1)
    total[:, length:] -= total[:, :-length].copy()
    return np.asarray(total[:, length - 1 :] / np.sqrt(weight[length:] - weight[:-length]))


def _thresholds(scores: Sequence[Array], probability: float) -> Array:
    """Thresholds for each length, of which a date exceeds any with a probability by chance.

    ``scores`` (bells, dates) of each length. The largest scores of real skies have a heavy tail, their logarithms a
    light one. The largest of all lengths, each in units of its own spread, is that of one search.
    """
    largest = [np.log(of_length.max(axis=0)) for of_length in scores]
    middle, spread = (np.array([how(of_length) for of_length in largest]) for how in (np.mean, np.std))
    number = len(largest[-1])
    probability /= 1 + (FEW_DATES / number) ** 2
    of_date = (np.stack([of_length[-number:] for of_length in largest], axis=1) - middle) / spread
    limit = float(chance_exceeds(of_date.max(axis=1)[:, None], probability)[0])
    # at least that of a perfectly known sky, if the bells and the lengths saw it independently
    least = chi2.isf(probability / len(scores) / len(scores[0]), 1)
    return np.asarray(np.maximum(np.exp(middle + limit * spread), least))


def _level(scores: Array) -> Array:
    """Factor of the scores (bells, ...) of a date by chance: motion is sparse, so the median place does not move.

    The white noise does not become less on a date with a calm sky, by which scores are measured.
    """
    return np.asarray(np.maximum(np.median(scores, axis=0) / CHI2_MEDIAN, 1e-12))
