"""Motion narrower than the pixels on which a wide scene is seen as a whole; it is found before anything else.

On coarse pixels a local motion may fill one pixel. Where many such bodies move, motion is no longer sparse: most of it
counts as a rough slow sky and is removed. It is sparse on finer pixels, which show its shape. Therefore the scene is
searched for narrow motion, steady or not, in overlapping regions of pixels two to three times finer. A region is
explained as if it were a scene of its own; where regions overlap, what each has found counts with its weight, as in
:mod:`.tiles`. All of it is known motion to the whole scene, like that of the whole scene to its tiles. Arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Floats
from ..errors import NotEnoughEvidence
from ..multilooking import multilooked_shape, on_cells
from ..progress import Steps
from ..settings import Settings
from .bells import bell_map, make_bells, reach
from .cells import Cells
from .deformation import Deformation, Piece
from .joint import PASSES, estimate_jointly
from .observations import pooled
from .search import Dictionary
from .separation import Ablation, persistent_functions, to_dates
from .threads import single_threaded
from .tiles import OnTile, layout
from .timefunctions import scanned

MIDDLE = 3
"""Largest number of pixels of the regions per coarse pixel along both axes; a pixel has whole cells."""
NARROW = 1.5
"""Width below which a motion is narrow, coarse pixels. An ordinary scene of this size has bells from there on."""
LEAST_SHARE = 0.02
"""Weight of a region at a place below which the motion that it finds there is left to its neighbours."""


@dataclass(frozen=True)
class Found:
    """Narrow motion of one region.

    Attributes
    ----------
    pieces : list of Piece
        Places in coarse pixels of the scene.
    courses : list of (dates,)
        Their courses over time, radians.
    at_limit : bool
        Whether the search ended at its largest number of pieces.
    """

    pieces: list[Piece]
    courses: list[Array]
    at_limit: bool = False


@dataclass(frozen=True)
class Narrow:
    """Search for narrow motion in a wide scene.

    Attributes
    ----------
    cells : Cells
        A weather model's delay is not used: it is broad, or follows the height.
    settings : Settings
    ablation : Ablation
    """

    cells: Cells
    settings: Settings
    ablation: Ablation = Ablation()

    @property
    def looks(self) -> int:
        """Cells per pixel of the regions along both axes."""
        return -(-self.cells.ratio // MIDDLE)

    def tasks(self) -> Iterator[OnTile]:
        """The regions, one by one; their places are in pixels of theirs."""
        observations = replace(self.cells.observations, delay=None).multilooked(self.looks)
        knowledge = self.cells.knowledge.multilooked(self.looks)
        for number, region in enumerate(layout(observations.height.shape)):
            here = (region.rows, region.columns)
            yield OnTile(number, region, observations.window(*here), knowledge.window(*here))

    def work(self) -> Work:
        """The work on a region."""
        return Work(self.cells.ratio / self.looks, self.settings, self.ablation)

    def assembled(self, found: Iterable[tuple[OnTile, Found]], progress: Steps | None = None) -> Deformation:
        """Motion of all regions, on all coarse pixels of the scene, (dates, height * width)."""
        cells, n_dates = self.cells, len(self.cells.observations.dates)
        number = len(layout(multilooked_shape(cells.shape, self.looks)))
        pieces: list[Piece] = []
        courses: list[Array] = []
        at_limit = False
        for region, own in found:
            pieces += own.pieces
            courses += own.courses
            at_limit = at_limit or own.at_limit
            if progress:
                progress(region.number + 1, number, f"region {region.number + 1}, {len(pieces)} pieces")
        weight = cells.observations.weight.mean(axis=0)
        maps = np.zeros((len(pieces), *multilooked_shape(cells.shape, cells.ratio)))
        for one, piece in zip(maps, pieces, strict=True):
            _put(one, piece.place, weight, cells.ratio)
        flat = maps.reshape(len(pieces), maps.shape[1] * maps.shape[2])
        weights = np.array(courses).reshape(len(pieces), n_dates)
        return Deformation(weights.T @ flat, pieces, flat, weights, at_limit=at_limit)


def _put(coarse: Array, place: Array, weight: Floats, ratio: int) -> None:
    """Set a map of zeros (height, width) to the mean of a bell over the cells of each pixel, as pairs are averaged."""
    wide = reach(place, 1e-6)
    rows, columns = (slice(max(int(c - wide), 0), int(c + wide) + 2) for c in place[:2])
    cells = weight[rows.start * ratio : rows.stop * ratio, columns.start * ratio : columns.stop * ratio]
    first = np.array([[rows.start], [columns.start]])
    pixels = on_cells(np.indices(cells.shape).reshape(2, -1).astype(np.float64), ratio) + first
    bell = bell_map(place, pixels).reshape(1, *cells.shape)
    coarse[rows, columns] = np.nan_to_num(pooled(bell, ratio, cells[None]))[0]


@dataclass(frozen=True)
class Work:
    """The work on a region: the same result in any process.

    Attributes
    ----------
    ratio : float
        Pixels of the region per coarse pixel along both axes.
    settings : Settings
    ablation : Ablation
    """

    ratio: float
    settings: Settings
    ablation: Ablation = Ablation()

    @single_threaded(idle=1)
    def __call__(self, task: OnTile) -> Found:
        """Motion that is narrow, as far as it belongs to the region; its share is that of a tile."""
        observations, knowledge = task.observations, task.knowledge
        try:
            phase, grid = to_dates(observations, self.settings, knowledge, self.ablation.robust)
        except NotEnoughEvidence:
            return Found([], [])
        functions = persistent_functions(grid.years, knowledge.functions) + scanned(observations.dates)
        dictionary = Dictionary(functions, make_bells(grid.valid, grid.height, knowledge.stable))
        rng = np.random.default_rng([self.settings.seed, task.number])
        how = (dictionary, grid, self.settings.significance, rng, self.ablation.slow_sky)
        motion = estimate_jointly(phase - phase.mean(axis=1, keepdims=True), *how, passes=PASSES - 1).deformation
        found = Found([], [], motion.at_limit)
        for piece, course in zip(motion.pieces, motion.weights, strict=True):
            place, share = task.tile.in_scene(piece.place, self.ratio), task.tile.share_at(piece.place)
            if not piece.relief and share > LEAST_SHARE and np.exp(place[2]) < NARROW:
                amplitude, std = share * piece.amplitude, np.sqrt(share) * piece.std
                found.pieces.append(replace(piece, place=place, amplitude=amplitude, std=std))
                found.courses.append(share * course)
        return found
