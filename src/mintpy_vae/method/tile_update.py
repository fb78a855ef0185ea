"""New dates of a wide scene: what the whole scene leaves of them is explained tile by tile, as in :mod:`.tiles`.

A tile remembers what its dates have taught. The new dates come without the broad atmosphere and the new motion that the
whole scene has found on them. Arrays only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..arrays import Array, Float32
from ..progress import Steps
from .alarm import FALSE_ALARM, Alarm
from .atmosphere import PhasePerDate
from .bells import bell_map
from .cells import Cells
from .observations import Observations
from .profile import Profile
from .separation import MIN_PIXELS
from .sky import BAD
from .threads import single_threaded
from .tiles import Detail, Frame, OnTile, Tile, added_by_tiles, assembled, confirmed_delay, layout, pair_constants
from .update import (
    LEAST_COVERED,
    Learned,
    Statistics,
    TileMemory,
    Unlike,
    Update,
    functions_at,
    going_on,
    new_series,
)
from .upsampling import CubicSpline

HALF = 0.5
"""Share of the false alarms that the tiles may raise together; the whole scene raises the rest."""
LEAST_SHARE = 0.1
"""Weight of a tile at a place below which an alarm is left to its neighbours, which see the place better."""


@dataclass(frozen=True)
class NewTask(OnTile):
    """All that the work on the new dates of one tile needs; its pairs are those of the new dates.

    Attributes
    ----------
    broad : (new dates, rows, columns)
        Atmosphere of the whole scene, radians.
    memory : TileMemory
    motion : (new dates, rows, columns)
        Motion that raised an alarm in the whole scene, radians.
    """

    broad: Float32
    memory: TileMemory
    motion: Float32


@dataclass(frozen=True)
class NewDetail:
    """Result of one tile for the new dates.

    Attributes
    ----------
    memory : TileMemory
        With the new dates.
    detail : Detail or None
        None if their pairs cover too little of the tile.
    alarms : list of Alarm
        Places in cells of the tile.
    """

    memory: TileMemory
    detail: Detail | None = None
    alarms: list[Alarm] = field(default_factory=list)


@dataclass(frozen=True)
class WideUpdate:
    """New dates of a wide scene: its cells, and the new dates of the whole scene on coarse pixels.

    Attributes
    ----------
    done : Update
        The new dates of the whole scene on pixels of ``ratio`` x ``ratio`` cells.
    whole : Observations
        The pairs that contain a new date, perhaps among others, on these pixels.
    cells : Cells
        The same pairs on the cells.
    memory : callable
        Number of a tile -> what it remembers, or None.
    """

    done: Update
    whole: Observations
    cells: Cells
    memory: Callable[[int], TileMemory | None]

    @property
    def height(self) -> Array:
        """Effective heights of the cells, metres, 0 where unknown; (height, width)."""
        return self.cells.height(self.done.learned.grid.profile)

    @property
    def new(self) -> PhasePerDate:
        """Atmosphere of the new dates of the whole scene."""
        found = self.done.atmosphere
        return PhasePerDate(found.turbulent[self.done.new], found.slope[self.done.new])

    def tasks(self) -> Iterator[NewTask]:
        """The tiles that remember something, one by one."""
        new, learned, shape, observations = self.new, self.done.learned, self.cells.shape, self.cells.observations
        some = (observations.pairs >= self.done.new.start).any(axis=1)
        pairs = observations.of_pairs(some)
        level = pair_constants(self.whole.of_pairs(some), learned.series + learned.delay, learned.grid.valid)
        delay = confirmed_delay(observations, learned.delay_share, learned.number)
        turbulent, height = CubicSpline(new.turbulent, shape, self.cells.ratio), self.height
        earlier, rows = list(learned.dates[: self.done.new.start]), slice(0, 0)
        for number, tile in enumerate(layout(shape)):
            memory = self.memory(number)
            if memory is None:
                continue
            if list(memory.learned.dates) != earlier:
                raise Unlike("the files of the tiles and of the scene are of different runs")
            if tile.rows != rows:  # once for all tiles beside one another
                rows = tile.rows
                strip = turbulent(rows)
            here = (tile.rows, tile.columns)
            broad = strip[..., tile.columns].copy()
            broad += (new.slope[:, None, None] * height[here]).astype(np.float32)
            if delay is not None:
                broad += delay[self.done.new, *here]
            memory = replace(memory, learned=replace(memory.learned, given=learned.given))
            own = pairs.window(*here).without(level)
            knowledge = self.cells.knowledge.window(*here)
            yield NewTask(number, tile, own, knowledge, broad, memory, self._new_motion(tile))

    def _new_motion(self, tile: Tile) -> Float32:
        """New motion of the whole scene on the cells of a tile, faint motion included."""
        dates, places = list(self.done.learned.dates[self.done.new]), tile.places
        motion = np.zeros((len(dates), tile.share.size))
        for alarm in self.done.alarms:
            bell = bell_map(tile.of_scene(alarm.place, self.cells.ratio), places)
            motion[dates.index(alarm.date)] += alarm.probability * alarm.amplitude * bell
        return motion.reshape(-1, *tile.share.shape).astype(np.float32)

    def work(self) -> NewWork:
        """The work on a tile."""
        return NewWork(self.done.learned.grid.profile, HALF * FALSE_ALARM / len(layout(self.cells.shape)))

    def assembled(
        self, details: Iterable[tuple[NewTask, NewDetail]], progress: Steps | None = None
    ) -> tuple[Frame, list[Alarm]]:
        """The new dates of the whole scene and of its tiles, in their order, and the alarms of the tiles."""
        alarms: list[Alarm] = []

        def seen() -> Iterator[tuple[NewTask, Detail | None]]:
            for task, found in details:
                alarms.extend(in_scene(found.alarms, task.tile, self.cells.ratio))
                yield task, found.detail

        found, new = self.done.atmosphere, self.new
        coarse = replace(found, turbulent=new.turbulent, slope=new.slope, std=found.std[self.done.new])
        return assembled(coarse, self.cells.shape, self.cells.ratio, seen(), progress), alarms

    def summary(self, frame: Frame, alarms: list[Alarm]) -> Update:
        """The new dates with the tiles, on the coarse pixels of the whole scene."""
        done, learned = self.done, self.done.learned
        removed, motion, _ = added_by_tiles(frame, self.new, self.cells, self.height)
        corrected = done.corrected - removed[:, learned.grid.valid]
        corrected -= corrected.mean(axis=1, keepdims=True)
        moved = learned.motion.copy()
        moved[done.new] += motion[:, learned.grid.valid]
        return replace(
            done, corrected=corrected, learned=replace(learned, motion=moved), alarms=[*done.alarms, *alarms]
        )


@dataclass(frozen=True)
class NewWork:
    """The work on a tile: the same result in any process.

    Attributes
    ----------
    profile : Profile
        Of the whole scene's stratified delay.
    false_alarm : float
        Probability of an alarm in one tile on a date without motion.
    """

    profile: Profile
    false_alarm: float

    @single_threaded(idle=1)
    def __call__(self, task: NewTask) -> NewDetail:
        """Explain the new dates of a tile."""
        memory, observations = task.memory, task.observations
        learned = memory.learned
        values, covered = new_series(observations, replace(learned, series=memory.phase))
        if covered.sum() < max(LEAST_COVERED * learned.n_pixels, MIN_PIXELS):
            return NewDetail(_passed_over(task))
        values = values[:, covered[learned.grid.valid]]
        memory = memory.on(covered)
        learned, valid, n = memory.learned, memory.learned.grid.valid, len(memory.learned.dates)
        broad, extra = (x[:, valid].astype(np.float64) for x in (task.broad, task.motion))
        values -= broad + memory.offset
        mean = values.mean(axis=1)
        values -= mean[:, None]
        # known motion of the whole scene is that of the new dates alone
        statistics = Statistics(learned, task.knowledge, self.false_alarm, lasting=(1,))
        done = statistics.explain(values, observations.dates, learned, extra)
        grown, found, new = done.learned, done.atmosphere, done.new
        means = np.r_[memory.mean, mean]
        turbulent, slope = found.turbulent[new], found.slope[new]
        level = turbulent[:, valid].mean(axis=1) - _unpredicted(means - grown.motion.mean(axis=1), learned, grown)
        turbulent = turbulent - level[:, None, None]
        turbulent -= (slope * (learned.grid.profile.offset - self.profile.offset))[:, None, None]
        own = grown.motion[n:] - extra - _of_whole(memory, observations.dates)
        detail = Detail(
            turbulent=turbulent.astype(np.float32),
            slope=slope.astype(np.float32),
            std=found.std[new].astype(np.float32),
            rate_std=found.rate_std.astype(np.float32),
            moving=found.moving,
            motion=learned.grid.maps(own).astype(np.float32),
            pieces=[],
            guarded=[],
            memory=replace(memory, learned=grown, broad=np.vstack([memory.broad, broad]), mean=means),
        )
        return NewDetail(detail.memory, detail, done.alarms)


def in_scene(alarms: Sequence[Alarm], tile: Tile, ratio: float) -> Iterator[Alarm]:
    """The alarms of a tile on pixels of ``ratio`` x ``ratio`` cells of the scene, with the tile's weight at each.

    Tiles that overlap find the same motion.
    """
    for alarm in alarms:
        share, place = tile.share_at(alarm.place), tile.in_scene(alarm.place, ratio)
        if share >= LEAST_SHARE:
            yield replace(alarm, place=place, amplitude=share * alarm.amplitude, std=share * alarm.std)


def _passed_over(task: NewTask) -> TileMemory:
    """Memory of a tile that has hardly any data on the new dates: they count as dates of a very strong sky."""
    memory, dates, valid = task.memory, task.observations.dates, task.memory.learned.grid.valid
    learned, new = memory.learned, len(dates) - len(memory.learned.dates)
    nothing = np.zeros((new, int(valid.sum())))
    grown = learned.grown(dates, nothing, nothing, np.full(new, BAD))
    broad = np.vstack([memory.broad, task.broad[:, valid]])
    return replace(memory, learned=grown, broad=broad, mean=np.r_[memory.mean, np.zeros(new)])


def _of_whole(memory: TileMemory, dates: Sequence[str]) -> Array:
    """The whole scene's motion in a tile, on new dates without alarms, (new dates, pixels)."""
    learned = memory.learned
    some = slice(len(learned.pieces) - memory.n_known, None)
    pieces, maps, errors = learned.pieces[some], learned.maps[some], learned.covariance[some, some]
    motion, _ = going_on(replace(learned, pieces=pieces, maps=maps, covariance=errors), dates)
    return motion.series[len(learned.dates) :]


def _unpredicted(mean: Array, learned: Learned, grown: Learned) -> Array:
    """Means (dates,) of the new dates, without the persistent functions as fitted to those of the earlier ones."""
    m = len(learned.dates)
    persistent, _ = functions_at(grown, grown.dates)
    design = np.stack([f.values - f.values[: learned.number].mean() for f in persistent], axis=1)
    weights = 1.0 / learned.strength
    fit = np.linalg.lstsq(design[:m] * weights[:, None], mean[:m] * weights, rcond=None)[0]
    return np.asarray(mean[m:] - design[m:] @ fit)
