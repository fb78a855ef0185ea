"""Estimate the atmosphere of a stack at full resolution, by way of the training grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import Array
from ..errors import NotEnoughEvidence
from ..log import stage
from ..method import safety
from ..method.atmosphere import sentences
from ..method.cells import Cells
from ..method.components import level_components
from ..method.deformation import Deformation
from ..method.inversion import islands
from ..method.knowledge import Knowledge
from ..method.narrow import Narrow
from ..method.observations import Observations
from ..method.separation import Separation, enough_dates, separate, spread
from ..method.source_model import Fit, Trainer
from ..method.threads import InBackground, single_threaded
from ..method.tile_update import NewDetail
from ..method.tiles import Detail, Frame, OnTile, Wide
from ..method.training import train
from ..method.update import Learned as Memory
from ..method.update import TileMemory
from ..method.upsampling import Bilinear, FullResolution
from ..progress import Progress, steps_of
from ..project.prior_delay import PriorOfDates
from ..stack import Rows, Stack, check_phase, pool_components, pool_map, pool_pairs, project_of
from ..stack.workers import worked_on
from .job import Job, dates_to_learn_from, full_width_km, looks_of, read_prior_information, seen_from

T = TypeVar("T", bound=OnTile)
D = TypeVar("D")
K = TypeVar("K", bound=Detail | NewDetail | None)
Keep = Callable[[int, TileMemory], None]
"""Takes the number of a tile and what it remembers."""
ROOM_OF_TILE = 0.6
"""Memory in GB of one tile at work."""
ROOM_FOR_TWO = 1.0
"""Least ``vae.maxMemory`` (GB) at which two seeds run in parallel; each takes about 0.6 GB."""


@dataclass(frozen=True)
class TrainingData:
    """Input of the method: the kept pairs of a stack on the training grid.

    Attributes
    ----------
    observations : Observations
        The earlier date of each pair is first, whatever the order in the stack.
    used : (dates,) int
        Indices of the dates of kept pairs into the dates of the stack.
    factor : float
        Looks of the training grid along both axes.
    delay : PriorOfDates or None
        The weather model's delay, on the training grid and on the stack's own.
    cells : Cells or None
        The cells of a wide scene, which are finer than the training grid.
    several_components : bool
        Whether a pair has several connected components.
    """

    observations: Observations
    used: NDArray[np.integer]
    factor: float
    delay: PriorOfDates | None = None
    cells: Cells | None = None
    several_components: bool = False

    def with_motion(self, phase: Array) -> TrainingData:
        """The same pairs with motion added, given by its phase on each date (dates, height, width), radians."""
        cells = None if self.cells is None else self.cells.with_motion(phase)
        return replace(self, observations=self.observations.with_motion(phase), cells=cells)

    @property
    def finest(self) -> float:
        """Looks along both axes of the finest grid that is worked on: of the cells, if there are any."""
        return self.factor if self.cells is None else self.factor / self.cells.ratio


def training_data(job: Job, progress: Progress | None = None, some: NDArray[np.bool_] | None = None) -> TrainingData:
    """Read the stack onto the training grid, without the delays that MintPy will subtract itself.

    With ``some`` (pairs of the stack,) of the kept pairs only these are read, unless they have several components: the
    constants of these are found from all kept pairs.
    """
    stack, settings = job.stack, job.settings
    factor, ratio = looks_of(stack, settings)
    kept = stack.keep if some is None else some
    components = pool_components(stack, factor, settings.max_memory, kept)
    if components is not None and some is not None:
        return training_data(job, progress)
    reading = steps_of(progress, "reading the stack")
    phase, weight = pool_pairs(stack, factor, settings.max_memory, reading, job.known.phase, components, kept)
    check_phase(stack.file, stack.phase_name, phase, weight)
    used = np.unique(stack.pairs[stack.keep])
    pairs = np.searchsorted(used, stack.pairs[kept])
    phase[pairs[:, 0] > pairs[:, 1]] *= -1
    pairs = np.sort(pairs, axis=1)
    dates = dates_to_learn_from(stack)
    if several := components is not None:
        phase = level_components(phase, weight, components, pairs, len(dates))

    def prior(looks: float) -> PriorOfDates | None:
        return None if job.prior is None else PriorOfDates(job.prior, stack, used, looks, settings.max_memory)

    cells = prior(factor)
    observations = Observations(
        phase=phase,
        weight=weight,
        pairs=pairs,
        dates=dates,
        height=pool_map(stack.height, factor),
        delay=None if cells is None else cells.maps,
    )
    if ratio == 1:
        return TrainingData(observations, used, factor, cells, several_components=several)
    knowledge = read_prior_information(job.template, settings, stack, factor)
    delay = prior(factor * ratio)
    whole = replace(observations.multilooked(ratio), delay=None if delay is None else delay.maps)
    fine = Cells(observations, knowledge, ratio)
    return TrainingData(whole, used, factor * ratio, delay, fine, several)


@dataclass(frozen=True)
class Learned:
    """The atmosphere of a stack, with diagnostics.

    Attributes
    ----------
    atmosphere : callable
        Rows -> phase of each date, radians; 0 where a date was not corrected.
    std : callable
        Rows -> posterior standard deviation of each date, radians; NaN where a date was not corrected.
    rate_std : callable
        Rows -> (1, rows, width) standard deviation of the velocity of the corrected series, radians per year; of the
        largest island where the network has several.
    networks : dict
        Trained networks: ``separator``, and one more for each further island.
    details : dict
        Content of ``vae_result.json``.
    stack : Stack
    data : TrainingData
    found : Separation
    noise : (2, pairs)
        Spatial standard deviation of each pair before and after, radians, without steady motion. If the network has
        several islands, `stack`, `data`, `found` and `noise` belong to the largest.
    memory : Memory
        What dates added later need; of a wide scene, without its tiles.
    """

    atmosphere: Rows
    std: Rows
    rate_std: Rows
    networks: dict[str, Fit]
    details: dict[str, Any]
    stack: Stack
    data: TrainingData
    found: Separation
    noise: Array
    memory: Memory


def learn(
    job: Job,
    timings: dict[str, float],
    progress: Progress | None = None,
    trainer: Trainer = train,
    keep: Keep | None = None,
) -> Learned:
    """Read the stack and separate its atmosphere; ``trainer`` trains the networks, and ``keep`` gets the tiles.

    If no kept pair joins some dates with the others, each such island of the network is corrected as a stack of its
    own, with all other pairs dropped. An island that is too small stays uncorrected.

    Raises
    ------
    NotEnoughEvidence
        If the data allow a correction of no island.
    """
    stack = job.stack
    label = islands(stack.pairs[stack.keep], len(stack.dates))
    sizes = Counter(label[stack.pairs[stack.keep][:, 0]].tolist())
    if len(sizes) == 1:
        return _learn(job, timings, progress, trainer, keep)
    learned, left = [], []
    for k, _ in sizes.most_common():
        part = stack.keep & (label[stack.pairs] == k).all(axis=1)
        dates = [date for date, own in zip(stack.dates, label, strict=True) if own == k]
        try:
            enough_dates(len(dates), job.settings)  # before its prior information is read, which needs some
            learned.append(_learn(job.of_island(part), timings, progress, trainer))
        except NotEnoughEvidence as refusal:
            left.append((f"The dates {dates[0]} to {dates[-1]} were left uncorrected, because {refusal}.", refusal))
    if not learned:
        raise left[0][1]
    note = f"The pairs form {len(sizes)} islands that no kept pair joins; the report shows the largest corrected one."
    return _joined(learned, [note, *(text for text, _ in left)])


def _joined(learned: list[Learned], warnings: list[str]) -> Learned:
    """Join the islands of a network; single numbers in the details are those of the first, which has most pairs."""

    def atmosphere(rows: slice) -> NDArray[np.float32]:
        return np.asarray(sum(island.atmosphere(rows) for island in learned))

    def std(rows: slice) -> NDArray[np.float32]:
        values = learned[0].std(rows)
        for island in learned[1:]:
            of_island = island.std(rows)
            values = np.where(np.isnan(values), of_island, values)
        return np.asarray(values)

    details = dict(learned[0].details)
    for other in learned[1:]:
        for key, value in other.details.items():
            if isinstance(value, list) and key not in ("training_grid", "cells", "found_from"):
                details[key] = details[key] + value
            elif key.startswith("noise_per_"):
                details[key] = details[key] | value
            elif key == "prior_delay":
                details[key] = value | {"coefficients": details[key]["coefficients"] | value["coefficients"]}
    details["warnings"] = warnings + details["warnings"]
    networks = {
        f"{name}_{k}" if k else name: one for k, island in enumerate(learned) for name, one in island.networks.items()
    }
    return replace(learned[0], atmosphere=atmosphere, std=std, networks=networks, details=details)


def _learn(
    job: Job, timings: dict[str, float], progress: Progress | None, trainer: Trainer, keep: Keep | None = None
) -> Learned:
    """Separate the atmosphere of a network without islands."""
    stack, settings, knowledge = job.stack, job.settings, job.knowledge
    with stage("read", timings):
        data = training_data(job, progress)
    observations, cores = data.observations, torch.get_num_threads()
    with stage("narrow motion", timings):
        narrow = narrow_motion(job, data, cores, progress)

    def seed(k: int, progress: Progress | None) -> Separation:
        """Run the method with the ``k``-th seed after that of the settings."""
        own = replace(settings, seed=settings.seed + k)
        return separate(observations, own, knowledge, trainer=trainer, progress=progress, narrow=narrow)

    def others() -> list[Array]:
        return [seed(k, _of_seed(k, when_awaited)).corrected for k in range(1, settings.num_seeds)]

    def when_awaited(*step: Any) -> None:
        if progress and background.awaited:
            progress(*step)

    room = cores > 1 and settings.max_memory >= ROOM_FOR_TWO
    background = InBackground(others, room and settings.num_seeds > 1)
    with stage("separate", timings), single_threaded(), background:
        found = seed(0, progress)
        diagnostics = safety.diagnostics(found, observations)
        safety.refuse(diagnostics)
        seed_spread = [spread(found, other) for other in background.result()]
    memory = Memory.of(found, observations.dates)
    tiles: dict[str, Any] = {}
    with stage("fine scales", timings):
        found, frame = in_detail(job, data, found, cores, progress, keep)
    if frame is not None:
        diagnostics = safety.diagnostics(found, observations)
        tiles = {"cells": list(frame.moving.shape), "tiles": frame.tiles}
    noise = found.noise_of_pairs(observations.pairs)
    details = _details(found, data, noise, stack) | tiles | asdict(diagnostics) | {"seed_spread": seed_spread}
    details["warnings"] += safety.phase_units(observations)
    details["warnings"] += safety.warnings(diagnostics, found, settings.seed)
    details["warnings"] += _not_searched(knowledge, found)
    if max(seed_spread, default=0.0) > 1.0:
        details["warnings"].append(
            f"Another seed gives an atmosphere that differs by {max(seed_spread):.1f} times its stated "
            "uncertainty: check with another vae.seed whether the signal that you study stays the same."
        )
    if data.delay is not None:
        coefficients = coefficients_by_date(observations.dates, found.delay_share)
        details["prior_delay"] = {
            "file": seen_from(project_of(stack.file), data.delay.delay.file),
            "coefficients": coefficients,
        }
    # dates without a kept pair get the mean atmosphere over the dates, which is 0
    fine = found.atmosphere if frame is None else frame
    return Learned(
        atmosphere=of_all_dates(phase_removed(found, stack, data, frame), len(stack.dates), data.used, 0.0),
        std=of_all_dates(Bilinear(fine.std, stack.shape, data.finest), len(stack.dates), data.used, np.nan),
        rate_std=Bilinear(fine.rate_std[None], stack.shape, data.finest),
        networks={"separator": found.network},
        details=details,
        stack=stack,
        data=data,
        found=found,
        noise=noise,
        memory=memory,
    )


def _of_seed(k: int, progress: Progress) -> Progress:
    return lambda stage, done, total, message: progress(f"seed {k + 1}: {stage}", done, total, message)


def narrow_motion(
    job: Job, data: TrainingData, threads: int = 1, progress: Progress | None = None
) -> Deformation | None:
    """Find the narrow motion of a wide scene; None if the scene is not wide. Threads as in :func:`in_detail`."""
    if data.cells is None:
        return None
    narrow = Narrow(data.cells, job.settings)
    with single_threaded():
        found = on_tiles(job, narrow.work(), narrow.tasks(), threads)
        return narrow.assembled(found, steps_of(progress, "searching narrow motion"))


def in_detail(
    job: Job,
    data: TrainingData,
    found: Separation,
    threads: int = 1,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> tuple[Separation, Frame | None]:
    """Refine the result of a wide scene in tiles, on so many threads or the workers of ``mintpy.compute.*``.

    ``keep`` is called with the number of each tile and what it remembers.
    """
    if data.cells is None:
        return found, None
    wide = Wide(found, data.observations, data.cells, job.settings)
    with single_threaded():
        details = kept(on_tiles(job, wide.work(), wide.tasks(), threads), keep)
        frame = wide.assembled(details, steps_of(progress, "fine scales"))
        return wide.summary(frame), frame


def on_tiles(job: Job, work: Callable[[T], D], tasks: Iterable[T], threads: int) -> Iterator[tuple[T, D]]:
    """Tasks with their results, in order, on so many threads or the workers of ``mintpy.compute.*``."""
    threads = max(1, min(threads, int(job.settings.max_memory / ROOM_OF_TILE)))
    return worked_on(work, tasks, job.stack.compute, threads)


def kept(details: Iterable[tuple[T, K]], keep: Keep | None) -> Iterator[tuple[T, K]]:
    """The same tasks and results, each shown to ``keep`` as it comes."""
    for task, detail in details:
        if keep and detail is not None:
            keep(task.number, detail.memory)
        yield task, detail


def phase_removed(found: Separation, stack: Stack, data: TrainingData, frame: Frame | None = None) -> Rows:
    """Rows -> (dates, rows, width) phase of the atmosphere in radians, with the confirmed delay of a weather model."""
    height = found.grid.profile(stack.height)
    if frame is None:
        full = FullResolution(found.atmosphere, height, data.factor)
    else:
        full = FullResolution(frame.phase, height, data.finest)
    if data.delay is None or not found.delay_share.any():
        return full
    believed = data.delay.removed(found.delay_share, found.valid)
    return lambda rows: np.asarray(full(rows) + believed(rows), np.float32)


def coefficients_by_date(dates: Sequence[str], shares: Array) -> dict[str, float]:
    """Coefficients of a weather model's delay (dates,), for ``vae_result.json``."""
    return {date: round(float(share), 4) for date, share in zip(dates, shares, strict=True)}


def of_all_dates(of_some: Rows, n_dates: int, used: NDArray[np.integer], others: float) -> Rows:
    """Rows -> values of all dates: those of the dates ``used``, and ``others`` for the rest."""
    if len(used) == n_dates:
        return of_some

    def of_all(rows: slice) -> NDArray[np.float32]:
        values = of_some(rows)
        filled = np.full((n_dates, *values.shape[1:]), others, dtype=np.float32)
        filled[used] = values
        return filled

    return of_all


def _not_searched(knowledge: Knowledge, found: Separation) -> list[str]:
    searched = {f.name for f in found.functions}
    return [
        f"The function {f.name} (mintpy.timeFunc) hardly differs from the other functions of time: not searched for."
        for f in knowledge.functions
        if f.name not in searched
    ]


def _details(found: Separation, data: TrainingData, noise: Array, stack: Stack) -> dict[str, Any]:
    """Content of ``vae_result.json``; noise in millimetres of line-of-sight displacement."""
    mm, dates, pairs = 1000 * abs(stack.metres_per_radian), data.observations.dates, data.observations.pairs
    date_before, date_after = found.noise.std(axis=2)
    moving = float(found.atmosphere.moving[found.valid].mean())
    of_piece = min(found.valid.shape), 1000 * stack.metres_per_radian
    return {
        "warnings": sentences(found.atmosphere.guarded, mm),
        "device": str(found.network.device),
        "training_grid": list(found.valid.shape),
        "several_components": data.several_components,
        "clusters": [c.evidence() for c in found.clusters],
        "scale_height_km": 1e-3 / bend if (bend := found.grid.profile.bend) else None,
        "local_sky_share": found.local.share,
        "local_sky_gain": found.local.gain,
        "deformation_pieces": [p.record(*of_piece) for p in found.deformation.pieces],
        "moving_share": moving,
        "found_from": _found_from(found, data.factor, stack),
        "loss": [round(float(v), 5) for v in found.network.losses[::10]],
        "noise_per_pair_mm": {
            f"{dates[i]}_{dates[j]}": [round(float(b * mm), 3), round(float(a * mm), 3)]
            for (i, j), b, a in zip(pairs, *noise, strict=True)
        },
        "noise_per_date_mm": {
            date: [round(float(b * mm), 3), round(float(a * mm), 3)]
            for date, b, a in zip(dates, date_before, date_after, strict=True)
        },
    }


def _found_from(found: Separation, factor: float, stack: Stack) -> list[dict[str, float]]:
    """Full width at half maximum of a motion, and the amplitudes from which it is found if steady or a step.

    First at the median place, then at the roughest tenth of all places.
    """
    mm, years = 1000 * abs(stack.metres_per_radian), float(np.ptp(found.grid.years))
    side = min(found.valid.shape)
    return [
        {
            "width_km": round(full_width_km(stack, factor, side * one.width), 3),
            "mm_per_year": round(mm * one.trend[0] / years, 3),
            "mm_per_year_rough": round(mm * one.trend[1] / years, 3),
            "step_mm": round(mm * one.step[0], 3),
            "step_mm_rough": round(mm * one.step[1], 3),
        }
        for one in found.found_from
    ]
