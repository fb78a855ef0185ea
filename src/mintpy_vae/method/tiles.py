"""Fine scales of a wide scene: the method again, tile by tile, on what the whole scene has left.

The cost of the covariances grows with the third power of the number of pixels. A wide scene is therefore worked on as a
whole on coarse pixels (:func:`~mintpy_vae.method.separate`, after :mod:`.narrow`), and then in overlapping tiles of
fine cells. A tile takes the functions of time, the broad atmosphere and the motion of the whole scene, inverts its own
pairs, and estimates the rest as if it were a scene of its own, with its own statistics: local motion, the covariance of
the sky, its slowness and its slope with height. The mean of the tile is removed as well, except for the persistent
functions of time, whose broad part is decided by the whole scene. Where tiles overlap, their weights change smoothly
and add up to 1. Arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Float32, Floats, Mask
from ..errors import NotEnoughEvidence
from ..multilooking import on_cells, on_pixels
from ..progress import Steps
from ..settings import Settings
from .atmosphere import Atmosphere, Guarded, PhasePerDate
from .bells import bell_map, make_bells, reach
from .cells import Cells
from .covariance import fill
from .deformation import Deformation, Piece
from .joint import Joint
from .knowledge import Knowledge
from .observations import Observations, pooled
from .prior_mean import relative
from .profile import Profile
from .search import Dictionary
from .separation import Ablation, Separation, explain, to_dates
from .threads import single_threaded
from .timefunctions import TimeFunction, persistent_of, without
from .update import Learned, TileMemory
from .upsampling import Bilinear, CubicSpline

SIDE = 36
"""Largest side of a tile, cells."""
OVERLAP = 10
"""Cells that neighbouring tiles share at least."""


@dataclass(frozen=True)
class Tile:
    """A window of the grid of cells.

    Attributes
    ----------
    rows, columns : slice
    share : (rows, columns)
        Weight of the tile; the weights of all tiles add up to 1 everywhere.
    own : (rows, columns) bool
        Where its weight is the largest; each cell belongs to one tile.
    """

    rows: slice
    columns: slice
    share: Array
    own: Mask

    @property
    def places(self) -> Array:
        """Rows and columns of its cells, (2, cells)."""
        return np.indices(self.share.shape).reshape(2, -1).astype(np.float64)

    def of_scene(self, place: Array, ratio: float) -> Array:
        """A place on pixels of ``ratio`` x ``ratio`` cells, see :class:`~.bells.Bells`, in cells of the tile."""
        place = place.copy()
        place[:2] = on_pixels(place[:2], ratio) - (self.rows.start, self.columns.start)
        place[2] += np.log(ratio)
        return place

    def in_scene(self, place: Array, ratio: float) -> Array:
        """The inverse of :meth:`of_scene`."""
        place = place.copy()
        place[:2] = on_cells(place[:2] + (self.rows.start, self.columns.start), ratio)
        place[2] -= np.log(ratio)
        return place

    def sees(self, place: Array) -> bool:
        """Whether a bell reaches into the tile."""
        outside = np.maximum(np.maximum(-place[:2], place[:2] - (np.array(self.share.shape) - 1)), 0.0)
        return bool(np.hypot(*outside) < reach(place))

    def share_at(self, place: Array) -> float:
        """Weight of the tile at a place."""
        row, column = np.clip(np.round(place[:2]).astype(int), 0, np.array(self.share.shape) - 1)
        return float(self.share[row, column])

    def owns(self, place: Array) -> bool:
        """Whether a place belongs to the tile; each belongs to one."""
        row, column = np.round(place[:2]).astype(int)
        inside = 0 <= row < self.share.shape[0] and 0 <= column < self.share.shape[1]
        return bool(inside and self.own[row, column])


@dataclass(frozen=True)
class OnTile:
    """What any work on a tile needs.

    Attributes
    ----------
    number : int
    tile : Tile
    observations : Observations
        Pairs on the cells of the tile, with the confirmed part of a weather model's delay.
    knowledge : Knowledge
        Prior information on the cells of the tile, without stations.
    """

    number: int
    tile: Tile
    observations: Observations
    knowledge: Knowledge


@dataclass(frozen=True)
class Task(OnTile):
    """All that the work on one tile needs.

    Attributes
    ----------
    broad : (dates, rows, columns)
        Atmosphere of the whole scene, radians.
    motion : list of Piece
        Motion of the whole scene; places in cells of the tile.
    courses : (pieces, dates)
        Its course over time.
    maps : (pieces, rows, columns)
        Its maps.
    """

    broad: Float32
    motion: list[Piece]
    courses: Array
    maps: Float32


@dataclass(frozen=True)
class Detail:
    """Result of one tile; see :class:`~mintpy_vae.method.atmosphere.Atmosphere`.

    Attributes
    ----------
    turbulent : (dates, rows, columns)
        With the stratified part at effective height 0, so that ``turbulent + slope * height`` has mean 0 in the tile.
    slope : (dates,)
    std : (dates, rows, columns)
    rate_std : (rows, columns)
    moving : (rows, columns) bool
    motion : (dates, rows, columns)
        Motion found in the tile, without that of the whole scene.
    pieces : list of Piece
    guarded : list of Guarded
    memory : TileMemory
        What dates added later need.
    at_limit : bool
        Whether the search for motion ended at its largest number of pieces.
    """

    turbulent: Float32
    slope: Float32
    std: Float32
    rate_std: Float32
    moving: Mask
    motion: Float32
    pieces: list[Piece]
    guarded: list[Guarded]
    memory: TileMemory
    at_limit: bool = False


@dataclass(frozen=True)
class Wide:
    """A wide scene: its cells, and the result of the whole scene on coarse pixels.

    Attributes
    ----------
    found : Separation
        The whole scene on pixels of ``ratio`` x ``ratio`` cells.
    whole : Observations
        Pairs on these pixels.
    cells : Cells
    settings : Settings
    ablation : Ablation
    """

    found: Separation
    whole: Observations
    cells: Cells
    settings: Settings
    ablation: Ablation = Ablation()

    @property
    def height(self) -> Array:
        """Effective heights of the cells, metres, 0 where unknown; (height, width)."""
        return self.cells.height(self.found.grid.profile)

    def tasks(self) -> Iterable[Task]:
        """The tiles, one by one."""
        found, cells, shape, ratio = self.found, self.cells, self.cells.shape, self.cells.ratio
        turbulent = CubicSpline(found.atmosphere.turbulent, shape, ratio)
        pieces, height = found.deformation.pieces, self.height
        delay = confirmed_delay(cells.observations, found.delay_share)
        level = pair_constants(self.whole, found.series, found.valid)
        relief = np.flatnonzero([piece.relief for piece in pieces])
        of_relief = Bilinear(fill(found.deformation.maps[relief], found.valid), shape, ratio)
        rows = slice(0, 0)
        for number, tile in enumerate(layout(shape)):
            if tile.rows != rows:  # once for all tiles beside one another
                rows = tile.rows
                strip, strip_of_relief = turbulent(rows), of_relief(rows)
            here = (tile.rows, tile.columns)
            broad = strip[..., tile.columns].copy()
            broad += found.atmosphere.slope.astype(np.float32)[:, None, None] * height[here].astype(np.float32)
            own = [replace(piece, place=tile.of_scene(piece.place, ratio)) for piece in pieces]
            near = [k for k, piece in enumerate(own) if piece.relief or tile.sees(piece.place)]
            places = tile.places
            bells = [bell_map(own[k].place, places) for k in near]
            maps = np.array(bells, np.float32).reshape(-1, *tile.share.shape)
            maps[[pieces[k].relief for k in near]] = strip_of_relief[..., tile.columns]
            observations = cells.observations.window(*here).without(level)
            observations = replace(observations, delay=None if delay is None else delay[:, *here].copy())
            yield Task(
                number=number,
                tile=tile,
                observations=observations,
                knowledge=cells.knowledge.window(*here),
                broad=broad,
                motion=[own[k] for k in near],
                courses=found.deformation.weights[near],
                maps=maps,
            )

    def work(self) -> Work:
        """The work on a tile."""
        return Work(self.found.grid.profile, self.found.functions, self.settings, self.ablation)

    def assembled(self, details: Iterable[tuple[Task, Detail | None]], progress: Steps | None = None) -> Frame:
        """The result of the whole scene and of its tiles, in their order."""
        return assembled(self.found.atmosphere, self.cells.shape, self.cells.ratio, details, progress)

    def summary(self, frame: Frame) -> Separation:
        """The result with the tiles, on the coarse pixels of the whole scene."""
        found, valid, coarse = self.found, self.found.valid, self.found.atmosphere
        removed, motion, std = added_by_tiles(frame, coarse, self.cells, self.height)
        corrected = found.corrected - removed[:, valid]
        corrected -= corrected.mean(axis=1, keepdims=True)
        steady = persistent_of(found.functions)
        rate_std, moving = mean_of_cells(
            np.stack([frame.rate_std**2, frame.moving]), self.cells.covered, self.cells.ratio
        )
        atmosphere = replace(
            coarse,
            turbulent=coarse.turbulent + removed,
            std=fill(std[:, valid], valid),
            rate_std=fill(np.sqrt(rate_std[valid])[None], valid)[0],
            moving=coarse.moving | (moving >= 0.5),
            guarded=coarse.guarded + frame.guarded,
        )
        series = found.deformation.series + motion[:, valid]
        pieces, at_limit = found.deformation.pieces + frame.pieces, found.deformation.at_limit or frame.at_limit
        deformation = replace(found.deformation, series=series, pieces=pieces, at_limit=at_limit)
        return replace(
            found,
            atmosphere=atmosphere,
            deformation=deformation,
            corrected=corrected,
            noise=np.stack([found.noise[0], without(corrected, steady)]),
        )


@dataclass(frozen=True)
class Frame:
    """Atmosphere of a wide scene on its cells; see :class:`~mintpy_vae.method.atmosphere.Atmosphere`.

    Attributes
    ----------
    phase : PhasePerDate
        Slope with height by place.
    std, motion : (dates, height, width)
    rate_std : (height, width)
    moving : (height, width) bool
    pieces : list of Piece
        Motion found in the tiles; places in coarse pixels of the whole scene.
    guarded : list of Guarded
    tiles : int
        Number of tiles with enough ground.
    at_limit : bool
        Whether the search for motion ended at its largest number of pieces in a tile.
    """

    phase: PhasePerDate
    std: Float32
    rate_std: Float32
    moving: Mask
    motion: Float32
    pieces: list[Piece]
    guarded: list[Guarded]
    tiles: int
    at_limit: bool


def assembled(
    coarse: Atmosphere,
    shape: tuple[int, int],
    ratio: int,
    details: Iterable[tuple[OnTile, Detail | None]],
    progress: Steps | None = None,
) -> Frame:
    """The result of a whole scene on pixels of ``ratio`` x ``ratio`` cells, and of its tiles, in their order."""
    turbulent = CubicSpline(coarse.turbulent, shape, ratio)(slice(0, shape[0]))
    slope = np.empty_like(turbulent)
    slope[:] = coarse.slope[:, None, None]
    variance, rate_variance = np.zeros_like(turbulent), np.zeros(shape, np.float32)
    moving, motion = np.zeros(shape, np.float32), np.zeros_like(turbulent)
    left = np.ones(shape, np.float32)
    pieces: list[Piece] = []
    guarded: list[Guarded] = []
    tiles, at_limit, number = 0, False, len(layout(shape))
    for task, detail in details:
        if progress:
            progress(task.number + 1, number, f"tile {task.number + 1}, {len(pieces)} pieces")
        if detail is None:
            continue
        tiles, at_limit = tiles + 1, at_limit or detail.at_limit
        here, share = (task.tile.rows, task.tile.columns), task.tile.share.astype(np.float32)
        turbulent[:, *here] += share * detail.turbulent
        slope[:, *here] += share * detail.slope[:, None, None]
        variance[:, *here] += share * detail.std**2
        rate_variance[here] += share * detail.rate_std**2
        moving[here] += share * detail.moving
        motion[:, *here] += share * detail.motion
        left[here] -= share
        side = min(task.tile.share.shape)
        pieces += [
            replace(piece, place=task.tile.in_scene(piece.place, ratio))
            for piece in detail.pieces
            if task.tile.owns(piece.place)
        ]
        guarded += [  # what may be atmosphere is judged by the whole scene
            replace(one, size=one.size * side / min(shape))
            for one in detail.guarded
            if one.kind not in ("broad sky", "relief removed")
        ]
    left = np.clip(left, 0.0, 1.0)
    variance += left * Bilinear(coarse.std**2, shape, ratio)(slice(0, shape[0]))
    rate_variance += left * Bilinear(coarse.rate_std[None] ** 2, shape, ratio)(slice(0, shape[0]))[0]
    return Frame(
        phase=PhasePerDate(turbulent, slope),
        std=np.sqrt(variance),
        rate_std=np.sqrt(rate_variance),
        moving=moving > 0.5,
        motion=motion,
        pieces=pieces,
        guarded=guarded,
        tiles=tiles,
        at_limit=at_limit,
    )


def confirmed_delay(observations: Observations, share: Array, number: int | None = None) -> Float32 | None:
    """Coefficients ``share`` (dates,) times a weather model's delay, relative to the first ``number`` dates.

    Radians, (dates, height, width); None without such a delay.
    """
    delay = observations.delay
    if delay is None or not share.any():
        return None
    maps = relative(np.asarray(delay, np.float64).reshape(len(delay), -1), number)
    return (share[:, None] * maps).reshape(delay.shape).astype(np.float32)


def pair_constants(whole: Observations, series: Array, valid: Mask) -> Float32:
    """Constant of each pair (pairs,) relative to the dates (dates, pixels) of the whole scene, radians."""
    constant = np.zeros(len(whole.pairs), np.float32)
    for k, (first, second) in enumerate(whole.pairs):
        seen = whole.weight[k, valid] > 0
        if seen.any():
            constant[k] = np.median((whole.phase[k, valid] - series[second] + series[first])[seen])
    return constant


def mean_of_cells(maps: Floats, covered: Mask, ratio: int) -> Array:
    """Mean over the ``covered`` cells (height, width) of each coarse pixel, of maps (n, height, width)."""
    return np.nan_to_num(pooled(np.where(covered, maps, np.nan), ratio))


def added_by_tiles(frame: Frame, coarse: PhasePerDate, cells: Cells, height: Array) -> tuple[Array, Array, Array]:
    """What the tiles add to the whole scene, on its pixels: phase that is removed, motion; and the standard deviation.

    ``height`` are the effective heights of the cells, metres, (height, width).
    """
    shape, ratio, covered = cells.shape, cells.ratio, cells.covered
    before = CubicSpline(coarse.turbulent, shape, ratio)(slice(0, shape[0]))
    removed = np.empty(coarse.turbulent.shape)
    motion, std = np.empty_like(removed), np.empty_like(removed)
    for t in range(len(removed)):
        more = frame.phase.turbulent[t] - before[t] + (frame.phase.slope[t] - coarse.slope[t]) * height
        removed[t], motion[t], variance = mean_of_cells(
            np.stack([more, frame.motion[t], frame.std[t] ** 2]), covered, ratio
        )
        std[t] = np.sqrt(variance)
    return removed, motion, std


@dataclass(frozen=True)
class Work:
    """The work on a tile: the same result in any process.

    Attributes
    ----------
    profile : Profile
        Of the whole scene's stratified delay.
    functions : list of TimeFunction
        Functions of time of the whole scene.
    settings : Settings
    ablation : Ablation
    """

    profile: Profile
    functions: list[TimeFunction]
    settings: Settings
    ablation: Ablation = Ablation()

    @single_threaded(idle=1)
    def __call__(self, task: Task) -> Detail | None:
        """Correct a tile; None if it has too little ground or too few pairs."""
        observations, share = task.observations, task.tile.share
        try:
            phase, grid = to_dates(observations, self.settings, task.knowledge, self.ablation.robust, self.profile)
        except NotEnoughEvidence:
            return None
        broad = task.broad.astype(np.float64)
        if observations.delay is not None:
            broad += observations.delay
        series = phase - broad[:, grid.valid]
        offset = series.mean(axis=0)
        series -= offset
        mean = series.mean(axis=1)
        series -= mean[:, None]
        maps = task.maps[:, grid.valid].astype(np.float64)
        known = Deformation(task.courses.T @ maps, task.motion, maps, task.courses)
        rng = np.random.default_rng([self.settings.seed, task.number])
        dictionary = Dictionary(self.functions, make_bells(grid.valid, grid.height, task.knowledge.stable))
        joint, local, atmosphere = explain(
            series, dictionary, grid, self.settings, task.knowledge, self.ablation, rng, known
        )
        own = joint.deformation.series - known.series
        level = atmosphere.turbulent[:, grid.valid].mean(axis=1)
        level -= _unsteady(mean - joint.deformation.series.mean(axis=1), joint)
        turbulent = atmosphere.turbulent - level[:, None, None]
        turbulent -= (atmosphere.slope * (grid.profile.offset - self.profile.offset))[:, None, None]
        return Detail(
            turbulent=turbulent.astype(np.float32),
            slope=atmosphere.slope.astype(np.float32),
            std=atmosphere.std.astype(np.float32),
            rate_std=atmosphere.rate_std.astype(np.float32),
            moving=atmosphere.moving,
            motion=grid.maps(own).astype(np.float32).reshape(-1, *share.shape),
            pieces=joint.deformation.pieces[: len(joint.deformation.pieces) - len(task.motion)],
            guarded=atmosphere.guarded,
            memory=TileMemory(
                Learned.from_series(
                    series, joint.deformation, grid, observations.dates, self.functions, joint.slow, local
                ),
                broad[:, grid.valid],
                offset,
                mean,
                len(task.motion),
            ),
            at_limit=joint.deformation.at_limit,
        )


def _unsteady(mean: Array, joint: Joint) -> Array:
    """Means (dates,) without their part in the persistent functions of time."""
    steady = joint.rotation.basis[: joint.rotation.number]
    unit = mean / joint.sky.strength
    return np.asarray(joint.sky.strength * (unit - steady.T @ (steady @ unit)))


def layout(shape: tuple[int, int]) -> list[Tile]:
    """Tiles of nearly equal size that cover a grid of cells and overlap by ``OVERLAP`` cells or more."""
    rows, columns = (_windows(size) for size in shape)
    return [
        Tile(row, column, np.outer(down, across), np.outer(own_down, own_across))
        for row, down, own_down in rows
        for column, across, own_across in columns
    ]


def _windows(size: int) -> list[tuple[slice, Array, Mask]]:
    """Windows along one axis, with weights that add up to 1, and where each has the largest."""
    number = 1 if size <= SIDE else int(np.ceil((size - OVERLAP) / (SIDE - OVERLAP)))
    length = int(np.ceil((size + (number - 1) * OVERLAP) / number))
    starts = np.round(np.linspace(0, size - length, number)).astype(int)
    weights = np.zeros((number, size))
    for weight, start in zip(weights, starts, strict=True):
        inside = np.arange(length) + 0.5
        edge = np.minimum(inside if start > 0 else np.inf, (length - inside) if start + length < size else np.inf)
        weight[start : start + length] = np.sin(np.pi / 2 * np.clip(edge / OVERLAP, 0, 1)) ** 2
    weights /= weights.sum(axis=0)
    found = [slice(int(start), int(start) + length) for start in starts]
    largest = weights.argmax(axis=0)
    return [(window, weights[k, window], largest[window] == k) for k, window in enumerate(found)]
