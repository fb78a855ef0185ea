"""Motion narrower than the pixels on which a wide scene is seen as a whole; it is found before anything else.

On coarse pixels a local motion may fill one pixel. Where many such bodies move, motion is no longer sparse: most of it
counts as a rough slow sky and is removed. It is sparse on finer pixels, which show its shape. Therefore the scene is
searched for narrow steady motion in overlapping regions of ``MIDDLE`` times finer pixels. A region is explained as if
it were a scene of its own. What was found there is known motion to the whole scene, like that of the whole scene to its
tiles (:mod:`.tiles`). Arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array
from ..errors import NotEnoughEvidence
from ..progress import Steps
from ..settings import Settings
from .bells import bell_map, make_bells
from .deformation import Deformation, Piece
from .joint import PASSES, estimate_jointly
from .knowledge import Knowledge
from .observations import Observations, pooled
from .search import Dictionary
from .separation import Ablation, persistent_functions, to_dates
from .threads import single_threaded
from .tiles import OnTile, layout

MIDDLE = 3
"""Pixels of the regions per coarse pixel along both axes, as far as the cells are so fine."""
NARROW = 1.5
"""Width below which a motion is narrow, coarse pixels. The whole scene has bells from there on."""

Course = tuple[Piece, Array]
"""A piece of motion, and its course over time (dates,) in radians."""


@dataclass(frozen=True)
class Narrow:
    """Search for narrow motion in a wide scene.

    Attributes
    ----------
    observations : Observations
        Pairs on the cells.
    knowledge : Knowledge
        Prior information on the cells.
    ratio : int
        Cells per coarse pixel along both axes.
    settings : Settings
    ablation : Ablation
    """

    observations: Observations
    knowledge: Knowledge
    ratio: int
    settings: Settings
    ablation: Ablation = Ablation()

    @property
    def looks(self) -> int:
        """Cells per pixel of the regions along both axes."""
        return -(-self.ratio // MIDDLE)

    def tasks(self) -> Iterator[OnTile]:
        """The regions, one by one; their places are in pixels of theirs."""
        observations, knowledge = self.observations.multilooked(self.looks), self.knowledge.multilooked(self.looks)
        for number, region in enumerate(layout(observations.height.shape)):
            here = (region.rows, region.columns)
            yield OnTile(number, region, observations.window(*here), knowledge.window(*here))

    def work(self) -> Work:
        """The work on a region."""
        return Work(self.ratio / self.looks, self.settings, self.ablation)

    def assembled(self, found: Iterable[tuple[OnTile, list[Course]]], progress: Steps | None = None) -> Deformation:
        """Motion of all regions, on all coarse pixels of the scene, (dates, height * width)."""
        shape, ratio = self.observations.height.shape, self.ratio
        number = len(layout((-(-shape[0] // self.looks), -(-shape[1] // self.looks))))
        motion: list[Course] = []
        for region, own in found:
            motion += own
            if progress:
                progress(region.number + 1, number, f"region {region.number + 1}, {len(motion)} pieces")
        pixels = (np.indices(shape).reshape(2, -1) + 0.5) / ratio - 0.5
        coarse = [pooled(bell_map(piece.place, pixels).reshape(1, *shape), ratio).ravel() for piece, _ in motion]
        maps = np.array(coarse).reshape(len(motion), -(-shape[0] // ratio) * -(-shape[1] // ratio))
        weights = np.array([course for _, course in motion]).reshape(len(motion), len(self.observations.dates))
        return Deformation(weights.T @ maps, [piece for piece, _ in motion], maps, weights)


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

    @single_threaded()
    def __call__(self, task: OnTile) -> list[Course]:
        """Steady motion that is narrow and centred in the region; places in coarse pixels of the scene."""
        observations, knowledge = task.observations, task.knowledge
        try:
            phase, grid = to_dates(observations, self.settings, knowledge, self.ablation.robust)
        except NotEnoughEvidence:
            return []
        steady = persistent_functions(grid.years, knowledge.functions)
        dictionary = Dictionary(steady, make_bells(grid.valid, grid.height, knowledge.stable))
        rng = np.random.default_rng([self.settings.seed, task.number])
        how = (dictionary, grid, self.settings.significance, rng, self.ablation.slow_sky)
        found = estimate_jointly(phase - phase.mean(axis=1, keepdims=True), *how, passes=PASSES - 1).deformation
        own = [
            (replace(piece, place=task.tile.in_scene(piece.place, self.ratio)), course)
            for piece, course in zip(found.pieces, found.weights, strict=True)
            if not piece.relief and task.tile.owns(piece.place)
        ]
        return [(piece, course) for piece, course in own if np.exp(piece.place[2]) < NARROW]
