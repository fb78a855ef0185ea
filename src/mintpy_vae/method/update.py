"""New dates of a stack that was corrected before: their atmosphere under what was learned, and an alarm for new motion.

The statistics of the sky, the local covariance and the share of the slow sky are those that were learned; the phase and
the strength of the new dates are new. The covariance that recurs at places contains the learned dates alone, so that no
new date explains itself. Motion is new where it leaves the functions of time that it followed; for the correction it is
searched for again on all dates, there and where it was known, under the statistics that were learned, except in wide
scenes. Arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..arrays import Array, Mask
from ..dates import acquisition_years
from .alarm import FALSE_ALARM, LASTING, Alarm, Judge, together
from .atmosphere import Atmosphere, estimate
from .bells import Bells, make_bells
from .covariance import date_strength, fill, strength_of, without_height
from .deformation import Deformation, Piece
from .inversion import invert_to_dates
from .joint import Joint, search_again
from .knowledge import NOTHING, Knowledge
from .local_sky import LocalSky, estimate_local_sky, local_sky
from .observations import Grid, Observations
from .prior_mean import coefficients, relative
from .search import ALIKE, LEAST_SCORE, NEAR, Dictionary
from .separation import MIN_PIXELS, Separation, flattened
from .sky import BAD, Footprints, Sky, Slowness, sky_statistics
from .taper import Whole
from .threads import side_by_side, single_threaded
from .timefunctions import (
    Rotation,
    TimeFunction,
    continued,
    course,
    extended,
    goes_on,
    persistent_of,
    prolonged,
    scanned,
    without,
)

MANY = 0.25
"""Largest number of dates that are added to what was learned, as a share of the dates learned from."""
UNLIKE = 5.0
"""Robust standard deviations by which the misfit of a date may exceed the median of those learned from."""
LEAST_COVERED = 0.9
"""Share of the pixels learned from that the pairs of the new dates have to cover."""
TIE = 1e4
"""Weight of the phase that is known, in units of the largest weight of a new pair."""


class Unlike(Exception):
    """The new dates cannot be explained by what was learned; the text says why."""


@dataclass(frozen=True)
class Learned:
    """What later dates need of an earlier correction.

    Attributes
    ----------
    dates : sequence of str
        Dates learned from, followed by those added since.
    number, n_pixels : int
        Numbers of dates and of pixels learned from; later dates may have lost pixels of the grid.
    grid : Grid
        ``years`` of all dates; ``good`` and ``bad`` of those learned from.
    series, motion : (dates, pixels)
        Phase and motion, radians; at each pixel the mean over the dates learned from is 0.
    strength : (dates,)
        Of the atmosphere; the geometric mean over the dates learned from is 1.
    pieces : list of Piece
    maps : (pieces, pixels)
    covariance : (pieces, pieces)
        Of the errors of their amplitudes.
    persistent : list of str
        Names of the persistent functions.
    slow : list of Slowness
        Of the sky in each of these.
    share, local_level : float
        Share and level of the local sky, see :class:`~.local_sky.LocalSky`.
    delay : (dates, pixels)
        Confirmed part of a weather model's delay, which `series` does not contain; its coefficients: ``delay_share``.
    delay_share : (dates,)
    station_rate : (pixels,)
    station_slope : float
        See :class:`~.atmosphere.Atmosphere`.
    given : sequence of TimeFunction
        Persistent functions of the user whose names do not say how they go on; at all dates.
    """

    dates: Sequence[str]
    number: int
    n_pixels: int
    grid: Grid
    series: Array
    motion: Array
    strength: Array
    pieces: list[Piece]
    maps: Array
    covariance: Array
    persistent: list[str]
    slow: list[Slowness]
    share: float
    local_level: float
    delay: Array
    delay_share: Array
    station_rate: Array
    station_slope: float = 0.0
    given: Sequence[TimeFunction] = ()

    @classmethod
    def of(cls, found: Separation, dates: Sequence[str]) -> Learned:
        """What `found` has learned from all its ``dates``."""
        how, explained = (found.functions, found.slow, found.local), found.explained
        learned = cls.from_series(explained, found.deformation, found.grid, dates, *how)
        return replace(
            learned,
            delay=found.series - explained,
            delay_share=found.delay_share,
            station_rate=found.atmosphere.station_rate,
            station_slope=found.atmosphere.station_slope,
        )

    @classmethod
    def from_series(
        cls,
        series: Array,
        deformation: Deformation,
        grid: Grid,
        dates: Sequence[str],
        functions: Sequence[TimeFunction],
        slow: list[Slowness],
        local: LocalSky,
    ) -> Learned:
        """What was learned from a series (dates, pixels), its motion and the statistics of its sky."""
        persistent = persistent_of(functions)
        strength = date_strength(without_height(without(series - deformation.series, persistent), grid.height))
        strength[grid.bad] *= BAD
        return cls(
            dates=dates,
            number=len(dates),
            n_pixels=int(grid.valid.sum()),
            grid=grid,
            series=series,
            motion=deformation.series,
            strength=strength,
            pieces=deformation.pieces,
            maps=deformation.maps,
            covariance=deformation.errors,
            persistent=[f.name for f in persistent],
            slow=slow,
            share=local.share,
            local_level=local.level,
            delay=np.zeros_like(series),
            delay_share=np.zeros(len(series)),
            station_rate=np.zeros(series.shape[1]),
            given=[f for f in persistent if not goes_on(f, dates)],
        )

    def network_input(self) -> Array:
        """Input of the network on all dates (dates, pixels), with the filter of those learned from."""
        n = self.number
        flatten, _ = flattened(self.series[:n], replace(self.grid, years=self.grid.years[:n]))
        return flatten(without_height(self.series, self.grid.height))

    def grown(self, dates: Sequence[str], series: Array, motion: Array, strength: Array) -> Learned:
        """The same with new dates, the last of ``dates``, without a weather model's delay."""
        return replace(
            self,
            dates=list(dates),
            grid=replace(self.grid, years=acquisition_years(dates)),
            series=np.vstack([self.series, series]),
            motion=np.vstack([self.motion, motion]),
            strength=np.r_[self.strength, strength],
            delay=np.vstack([self.delay, np.zeros_like(series)]),
            delay_share=np.r_[self.delay_share, np.zeros(len(series))],
        )

    def until(self, n: int) -> Learned:
        """The same without dates from the ``n``-th on that were added; the grid keeps them."""
        return replace(
            self,
            dates=self.dates[:n],
            series=self.series[:n],
            motion=self.motion[:n],
            strength=self.strength[:n],
            delay=self.delay[:n],
            delay_share=self.delay_share[:n],
        )

    def on(self, valid: Mask) -> Learned:
        """The same on fewer pixels, ``valid`` (height, width)."""
        grid, some = self.grid, valid[self.grid.valid]
        if some.all():
            return self
        above = grid.height[some]
        own = replace(
            grid,
            valid=grid.valid & valid,
            height=above - above.mean(),
            profile=replace(grid.profile, offset=grid.profile.offset + float(above.mean())),
        )
        series, delay = (x[:, some] - x[:, some].mean(axis=1, keepdims=True) for x in (self.series, self.delay))
        motion, maps, rate = self.motion[:, some], self.maps[:, some], self.station_rate[some]
        return replace(self, grid=own, series=series, delay=delay, motion=motion, maps=maps, station_rate=rate)


@dataclass(frozen=True)
class TileMemory:
    """What later dates need of one tile of a wide scene.

    The phase of a date is the learned series, plus three parts that the tile has not explained itself.

    Attributes
    ----------
    learned : Learned
        Its last ``n_known`` pieces are motion of the whole scene.
    broad : (dates, pixels)
        Atmosphere of the whole scene, radians.
    offset : (pixels,)
        Mean over the dates learned from, of the rest.
    mean : (dates,)
        Mean over the tile, of the rest.
    n_known : int
    """

    learned: Learned
    broad: Array
    offset: Array
    mean: Array
    n_known: int

    @property
    def phase(self) -> Array:
        """Phase of the dates (dates, pixels), radians."""
        return np.asarray(self.learned.series + self.broad + self.offset + self.mean[:, None])

    def on(self, valid: Mask) -> TileMemory:
        """The same on fewer pixels, ``valid`` (height, width)."""
        some = valid[self.learned.grid.valid]
        lost = self.learned.series[:, some].mean(axis=1)
        return replace(
            self,
            learned=self.learned.on(valid),
            broad=self.broad[:, some],
            offset=self.offset[some],
            mean=self.mean + lost,
        )


@dataclass(frozen=True)
class Update:
    """The new dates.

    Attributes
    ----------
    learned : Learned
        With the new dates.
    atmosphere : Atmosphere
        Of all dates; that of the earlier ones is for comparison only.
    new : slice
        The new dates among them.
    corrected : (new dates, pixels)
        Radians.
    alarms : list of Alarm
        New motion, also such as is too faint to raise an alarm; each is weighted with its probability.
    misfit : (new dates,)
        Of each new date to what was learned, in robust standard deviations of the dates learned from.
    """

    learned: Learned
    atmosphere: Atmosphere
    new: slice
    corrected: Array
    alarms: list[Alarm]
    misfit: Array


def new_series(observations: Observations, learned: Learned) -> tuple[Array, Mask]:
    """Phase of the new dates relative to that of the earlier ones, from the pairs that contain a new date.

    Parameters
    ----------
    observations : Observations
        Their dates begin with those of `learned`.
    learned : Learned

    Returns
    -------
    series : (new dates, pixels of the grid)
        Radians, 0 where not valid.
    valid : (height, width) bool
        Pixels of `learned` that the new pairs cover.
    """
    n, valid = len(learned.dates), learned.grid.valid
    new = (observations.pairs >= n).any(axis=1)
    pairs = observations.pairs[new]
    phase, weight = (x[new][:, valid].astype(np.float64) for x in (observations.phase, observations.weight))
    # without the phase that is known all earlier dates are 0, and tied to one another
    known = np.vstack([learned.series, np.zeros((len(observations.dates) - n, valid.sum()))])
    phase = np.where(weight > 0, phase - (known[pairs[:, 1]] - known[pairs[:, 0]]), 0.0)
    names, index = np.unique(pairs, return_inverse=True)
    index = index.reshape(-1, 2)
    earlier = np.flatnonzero(names < n)
    ties = np.column_stack([earlier[:-1], earlier[1:]])
    phase = np.vstack([phase, np.zeros((len(ties), phase.shape[1]))])
    weight = np.vstack(
        [weight, np.full((len(ties), weight.shape[1]), TIE * max(float(weight.max(initial=0.0)), 1e-12))]
    )
    found, connected = invert_to_dates(phase, weight, np.vstack([index, ties]), len(names))
    series = found[names >= n] - found[earlier[0]] if len(earlier) else found
    covered = valid.copy()
    covered[valid] = connected & bool(len(earlier)) & (len(series) == len(observations.dates) - n)
    return series, covered


@single_threaded()
def update(
    observations: Observations,
    learned: Learned,
    knowledge: Knowledge = NOTHING,
    significance: float = FALSE_ALARM,
    false_alarm: float = FALSE_ALARM,
    again: bool = True,
) -> Update:
    """Estimate the atmosphere of new dates, and look for new motion on them.

    Parameters
    ----------
    observations : Observations
        The pairs that contain a new date, perhaps among others; the dates begin with those of `learned`, in their
        order, and the later ones are new.
    learned : Learned
    knowledge : Knowledge
        Moving and stable ground are used, and the functions of time that were given before, now at all dates.
    significance : float
        False-alarm probability of motion that is searched for again, and of a weather model, see
        :func:`~.prior_mean.coefficients`.
    false_alarm : float
        Probability of an alarm on a date without motion.
    again : bool
        Whether motion is searched for again with the new dates, where it was found and where alarms are raised.

    Raises
    ------
    Unlike
        If the new dates differ too much from what was learned.
    """
    try:
        learned = replace(learned, given=prolonged(learned.given, knowledge.functions))
    except ValueError as error:
        raise Unlike(f"the function of time {error} has changed on the earlier dates") from error
    values, covered = new_series(observations, replace(learned, series=learned.series + learned.delay))
    share = covered.sum() / learned.n_pixels
    if share < LEAST_COVERED or covered.sum() < MIN_PIXELS:
        raise Unlike(f"the pairs of the new dates cover {share:.0%} of the pixels learned from")
    values = values[:, covered[learned.grid.valid]]
    learned = learned.on(covered)
    values = values - values.mean(axis=1, keepdims=True)
    delay_share, delay = _new_delay(values, observations, learned, significance)
    statistics = Statistics(learned, knowledge, false_alarm, significance=significance if again else None)
    found = statistics.explain(values - delay, observations.dates, learned)
    for date, misfit in zip(observations.dates[found.new], found.misfit, strict=True):
        if misfit > UNLIKE:
            raise Unlike(f"the sky of {date} is unlike those learned from (misfit {misfit:.1f} standard deviations)")
    grown = replace(
        found.learned,
        delay=np.vstack([learned.delay, delay]),
        delay_share=np.r_[learned.delay_share, delay_share],
    )
    return replace(found, learned=grown)


def _new_delay(values: Array, observations: Observations, learned: Learned, significance: float) -> tuple[Array, Array]:
    """Coefficient of a weather model's delay on the new dates, and coefficient times delay (new dates, pixels)."""
    if observations.delay is None or not learned.delay_share.any():
        return np.zeros(len(values)), np.zeros_like(values)
    maps = relative(np.asarray(observations.delay[:, learned.grid.valid], np.float64), learned.number)
    phase = np.vstack([learned.series + learned.delay, values])
    persistent, _ = functions_at(learned, observations.dates)
    grid = replace(learned.grid, years=acquisition_years(observations.dates))
    share = coefficients(phase, maps, persistent, grid, significance)[len(learned.dates) :]
    return share, share[:, None] * maps[len(learned.dates) :]


class Statistics:
    """What was learned, in the form in which new dates are explained by it.

    Parameters
    ----------
    learned : Learned
    knowledge : Knowledge
    false_alarm : float
        Probability of an alarm on a date without motion.
    lasting : sequence of int
        Numbers of successive dates whose common motion is tested.
    significance : float, optional
        With which motion is searched for again, see :func:`~.joint.search_again`; by default it goes on as it did.
    """

    def __init__(
        self,
        learned: Learned,
        knowledge: Knowledge = NOTHING,
        false_alarm: float = FALSE_ALARM,
        lasting: Sequence[int] = LASTING,
        significance: float | None = None,
    ) -> None:
        n, grid = learned.number, learned.grid
        persistent, _ = functions_at(learned, learned.dates[:n])
        residual = without(learned.series[:n] - learned.motion[:n], persistent)
        self.knowledge, self.significance = knowledge, significance
        self.sky = sky_statistics(residual, replace(grid, years=grid.years[:n]))

        def of_bells() -> tuple[Bells, Footprints]:
            bells = make_bells(grid.valid, grid.height, knowledge.stable)
            return bells, Footprints(self.sky, bells.maps)

        # at the scale of bells the whole covariance of the other dates tells motion from weather better
        (self.bells, self.footprints), self.local, whole = side_by_side(
            of_bells,
            partial(local_sky, self.sky, persistent, grid, learned.share, learned.local_level),
            partial(estimate_local_sky, self.sky, persistent, grid, Whole()),
        )
        self.modes_of_new = self.local.of_new(self.sky, grid.good)
        self.judge = Judge(self.sky, whole, self.bells, self.footprints, grid.good, false_alarm, lasting)

    def innovation(self, values: Array, dates: Sequence[str], learned: Learned, motion: Array) -> tuple[Array, ...]:
        """What the dates learned from do not predict of the dates since then.

        These are the dates added before, and the last of ``dates``, whose phase is ``values`` (new dates, pixels).
        ``motion`` (dates, pixels) is known.

        Returns
        -------
        unit : (dates since, pixels)
            At unit strength.
        strength : (dates since,)
        scale : (dates since,)
            Radians of a unit.
        """
        n = learned.number
        persistent, _ = functions_at(learned, dates)
        still = np.vstack([learned.series, values]) - motion
        prediction = _Prediction(still[:n], learned.strength[:n], persistent, learned.grid.height)
        return prediction.left(still[n:], self.sky, slice(n, len(dates)))

    def search(
        self, values: Array, dates: Sequence[str], learned: Learned, motion: Array
    ) -> tuple[list[Alarm], Array, Array, Array]:
        """Look for motion that is new on one of the last of ``dates``, or has lasted for some of them.

        Parameters as for :meth:`innovation`.

        Returns
        -------
        alarms : list of Alarm
        motion : (new dates, pixels)
            With the known one.
        left : (new dates, pixels)
            The rest, at unit strength.
        strength : (new dates,)
        """
        n, m = learned.number, len(learned.dates)
        unit, strength, scale = self.innovation(values, dates, learned, motion)
        motion = motion[m:].copy()
        alarms: list[Alarm] = []
        left = unit[m - n :].copy()
        for k in range(len(values)):
            date = m + k
            recent = unit[: date - n + 1].copy()
            scales = scale[: len(recent)]
            for least in (1.0, LEAST_SCORE):  # first what raises an alarm, then what is fainter in the rest
                lengths = [length for length in self.judge.lasting if length <= len(recent)]
                while lengths:
                    found = {length: self._alarms(recent, scales, length, least) for length in lengths}
                    best = max(lengths, key=lambda length: max((one[4] for one in found[length]), default=0.0))
                    for place, bell, amplitude, std, score in found[best]:
                        since = dates[date + 1 - best]
                        alarms.append(alarm := Alarm(dates[date], place, amplitude, std, score, since))
                        motion[k] += alarm.probability * amplitude * bell
                        recent[-best:] -= amplitude / scales[-best:, None] * bell
                    # a longer window still contains the same motion on its earlier dates
                    lengths = [length for length in lengths if length < best] if found[best] else []
            left[k] = recent[-1]
        return alarms, motion, left, strength[m - n :]

    def _alarms(
        self, unit: Array, scale: Array, length: int, least: float
    ) -> list[tuple[Array, Array, float, float, float]]:
        """Those of :meth:`Judge.alarms` for the last ``length`` dates (dates, pixels) at unit strength, in radians."""
        scale = scale[-length:]
        size = (scale**-2.0).sum() ** -0.5
        found = self.judge.alarms(together(unit[-length:].T, scale, length)[:, 0], length, least)
        in_radians = [(place, bell, size * amplitude, size * std, s) for place, bell, amplitude, std, s in found]
        # what the last date does not show itself has not lasted
        return [one for one in in_radians if length == 1 or self._on_last(unit, scale, one[1]) / one[2] > 0.5]

    def _on_last(self, unit: Array, scale: Array, bell: Array) -> float:
        """Amplitude of a bell on the last date alone, radians."""
        whitened = self.judge.metric.whiten(bell[None])[0]
        return float(scale[-1] * (whitened @ unit[-1]) / (whitened @ bell))

    def explain(self, values: Array, dates: Sequence[str], learned: Learned, known: Array | float = 0.0) -> Update:
        """Explain the phase ``values`` (new dates, pixels) of the last of ``dates``, radians.

        ``known`` (new dates, pixels) is motion beside that which goes on.
        """
        n, m = learned.number, len(learned.dates)
        motion, functions = going_on(learned, dates)
        expected = motion.series
        expected[m:] += known
        alarms, moved, left, strength = self.search(values, dates, learned, expected)
        everything = learned.grown(dates, values, moved, strength)
        raised = [alarm for alarm in alarms if alarm.raised and len(dates) > n + 1]  # the first may not last
        if self.significance is not None and (learned.pieces or raised):
            motion, functions = self._found_again(everything, self.significance, raised)
            _, moved, _, strength = self.search(everything.series[n:], dates, learned.until(n), motion.series)
            moved, strength = np.vstack([learned.motion[:n], moved]), np.r_[learned.strength[:n], strength]
            everything = replace(everything, motion=moved, strength=strength)
        motion = replace(motion, series=np.vstack([motion.series[:n], everything.motion[n:]]))
        local = self.local.with_block(np.arange(n, len(dates)), self.modes_of_new)
        atmosphere = _estimate(everything, motion, functions, self.sky, local, self.knowledge)
        new, grid = slice(m, len(dates)), learned.grid
        since = everything.grid.years - everything.grid.years[:n].mean()
        atmosphere = replace(
            atmosphere,
            turbulent=atmosphere.turbulent + fill(np.outer(since, learned.station_rate), grid.valid),
            slope=atmosphere.slope + since * learned.station_slope,
        )
        removed = atmosphere.turbulent[new][:, grid.valid] + atmosphere.slope[new, None] * grid.height
        return Update(everything, atmosphere, new, values - removed, alarms, self.judge.misfit(left))

    def _found_again(
        self, learned: Learned, significance: float, alarms: Sequence[Alarm]
    ) -> tuple[Deformation, list[TimeFunction]]:
        """Motion on all dates of `learned` near where it was found before or raised an alarm; its functions of time.

        Where there are alarms, motion may also begin on a date that was added: a step if one more date follows, a decay
        if two do. Until then it is a bell of each date alone.
        """
        grid, dates, n = learned.grid, learned.dates, learned.number
        persistent, _ = functions_at(learned, dates)
        names = {f.name for f in scanned(dates[:n])}
        again = [f for f in scanned(dates) if alarms or f.name in names]
        functions = [*persistent, *self._courses(learned), *again]
        still = learned.series - learned.motion
        residual = without(still, persistent)
        residual = residual - residual.mean(axis=1, keepdims=True)
        unit = without_height(residual, grid.height) / learned.strength[:, None]
        sky = replace(self.sky, residual=residual, unit=unit, strength=learned.strength)
        near = _near(self.bells, learned.pieces, alarms)
        how = (Dictionary(functions, self.bells), significance, near, self.footprints)
        return search_again(learned.series, still, sky, learned.slow, *how).relative_to(n), functions

    def _courses(self, learned: Learned) -> list[TimeFunction]:
        """The courses of clusters, each recognised again in the motion on all dates that had it; the strongest first.

        A decay that had just begun does not say how it goes on.
        """
        motion, functions = going_on(learned, learned.dates)
        name = np.array([piece.function for piece in learned.pieces])
        size = np.array([piece.amplitude * piece.probability for piece in learned.pieces])
        good = np.r_[learned.grid.good, np.arange(learned.number, len(learned.dates))]

        def now(before: TimeFunction) -> TimeFunction:
            own = name == before.name
            shape = size[own] @ motion.maps[own]
            whitened = self.sky.precision.whiten(shape[None])[0]
            others = motion.weights[~own].T @ motion.maps[~own]
            amplitude = (learned.series - others) @ whitened / (shape @ whitened)
            return course(amplitude, learned.grid.years, learned.dates, good) or before

        before = [f for f in functions if f.of_cluster]
        before.sort(key=lambda f: -float((size[name == f.name] ** 2).sum()))
        return extended([], map(now, before))


def functions_at(learned: Learned, dates: Sequence[str]) -> tuple[list[TimeFunction], list[TimeFunction]]:
    """The persistent functions at all dates, and the others that motion follows."""
    first = learned.dates[: learned.number]
    given = {f.name: replace(f, values=f.values[: len(dates)]) for f in learned.given}
    persistent = [given.get(name) or replace(continued(name, first, dates), family="") for name in learned.persistent]
    names = sorted({p.function for p in learned.pieces} - set(learned.persistent))
    return persistent, [continued(name, first, dates) for name in names]


def _near(bells: Bells, pieces: Sequence[Piece], alarms: Sequence[Alarm] = ()) -> Mask:
    """Bells that may describe the motion of some of the pieces or alarms, (bells,) bool."""
    places = bells.places
    near, round_ones = bells.relief & any(piece.relief for piece in pieces), ~bells.relief
    narrowest = places[round_ones, 2].min(initial=np.inf)
    for place in [*(p.place for p in pieces if not p.relief), *(a.place for a in alarms)]:
        width = max(place[2], narrowest)  # a refined piece may be narrower than any bell
        away = np.hypot(*(places[:, :2] - place[:2]).T) / np.exp(width)
        near |= (away <= NEAR) & (places[:, 2] <= width + ALIKE) & round_ones
    return near


def going_on(learned: Learned, dates: Sequence[str]) -> tuple[Deformation, list[TimeFunction]]:
    """The motion that was found, at all of ``dates`` (dates, pixels), and the functions of time; see `functions_at`."""
    persistent, unsteady = functions_at(learned, dates)
    functions = [*persistent, *unsteady]
    values = {f.name: f.values for f in functions}
    courses = [p.amplitude * p.probability * values[p.function] for p in learned.pieces]
    weights = np.array(courses).reshape(-1, len(dates))
    motion = Deformation(weights.T @ learned.maps, learned.pieces, learned.maps, weights, learned.covariance)
    return motion.relative_to(learned.number), functions


class _Prediction:
    """The persistent functions, fitted to the dates learned from.

    Parameters
    ----------
    still : (dates learned from, pixels)
        Without motion, radians.
    strength : (dates learned from,)
    persistent : list of TimeFunction
        At all dates.
    height : (pixels,)
    """

    def __init__(self, still: Array, strength: Array, persistent: Sequence[TimeFunction], height: Array) -> None:
        n = len(still)
        self.height = height
        self.design = np.stack([np.ones(len(persistent[0].values)), *(f.values for f in persistent)], axis=1)
        weighted = self.design[:n] / strength[:, None]
        self.covariance = np.linalg.inv(weighted.T @ weighted)
        self.fit = self.covariance @ (weighted.T @ (still / strength[:, None]))

    def left(self, still: Array, sky: Sky, dates: slice) -> tuple[Array, Array, Array]:
        """What is not predicted of dates without motion (new dates, pixels), without its trend with height.

        Returns
        -------
        unit : (new dates, pixels)
            At unit strength.
        strength : (new dates,)
        scale : (new dates,)
            Radians of a unit: the strength, and the uncertainty of the prediction.
        """
        design = self.design[dates]
        left = still - design @ self.fit
        left = without_height(left, self.height)
        strength = strength_of(left, sky.turbulent)
        leverage = np.einsum("ij,jk,ik->i", design, self.covariance, design)
        strength = np.sqrt(np.maximum(strength**2 - leverage, 0.25 * strength**2))
        scale = np.sqrt(strength**2 + leverage)
        return left / scale[:, None], strength, scale


def _estimate(
    learned: Learned,
    motion: Deformation,
    functions: Sequence[TimeFunction],
    sky: Sky,
    local: LocalSky,
    knowledge: Knowledge,
) -> Atmosphere:
    """Atmosphere of all dates with the statistics that were learned."""
    n = learned.number
    added = (learned.series - motion.series)[n:]
    whole = replace(
        sky,
        residual=np.vstack([sky.residual, added]),
        unit=np.vstack([sky.unit, added / learned.strength[n:, None]]),
        strength=learned.strength,
    )
    rotation = Rotation(learned.strength, persistent_of(functions))
    joint = Joint(whole, rotation, learned.slow, list(functions), motion)
    return estimate(learned.series, joint, local, learned.grid, replace(knowledge, stations=[]))
