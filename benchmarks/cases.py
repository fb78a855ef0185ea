"""One simulated stack, and what each correction makes of it: the work behind ``accuracy.py``. Arrays only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mintpy_vae import metrics
from mintpy_vae.arrays import Rows
from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.evaluation.baselines import BASELINES
from mintpy_vae.method import safety, training
from mintpy_vae.method.atmosphere import PhasePerDate, sentences
from mintpy_vae.method.cells import Cells
from mintpy_vae.method.clustering import Clusterer, Fishdbc, Hdbscan
from mintpy_vae.method.covariance import without_height
from mintpy_vae.method.inversion import incidence, invert_to_dates
from mintpy_vae.method.knowledge import NOTHING
from mintpy_vae.method.labels import explained_share
from mintpy_vae.method.narrow import Narrow
from mintpy_vae.method.observations import Observations, looks
from mintpy_vae.method.recipe import sources_of_atmosphere
from mintpy_vae.method.separation import Ablation, Separation, separate
from mintpy_vae.method.source_model import Fit
from mintpy_vae.method.threads import single_threaded
from mintpy_vae.method.tiles import Wide
from mintpy_vae.method.upsampling import FullResolution
from mintpy_vae.multilooking import cell_sums
from mintpy_vae.progress import Steps
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import Scene, simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack import pool_map
from mintpy_vae.stack.workers import Compute, worked_on

METRES = -WAVELENGTH / (4 * np.pi)
"""Displacement towards the satellite for one radian."""
SHARED = ("covariance", "inversion", "labels", "timefunctions")
"""Modules of the method that the rows of others use, too; a change to the rest leaves their cached results valid."""


LEAST_EXPLAINED = 0.1
"""A cluster called deformation is right if the true deformation explains more than this share of its amplitude series,
a correlation of 0.3 over the dates; the share itself is in the table."""


STATIONARY = " (stationary sky)"
"""Ends the name of a kind of stack under that sky."""


@dataclass(frozen=True)
class Stack:
    """A kind of stack and its seed; ``width`` of the bowl where a preset is run at several, ``size`` in pixels."""

    preset: str
    seed: int
    width: float | None = None
    size: int = 200
    sky: str = "real"

    @property
    def kind(self) -> str:
        """Name of all stacks that differ only in the seed."""
        name = self.preset if self.width is None else f"{self.preset} {self.width:g}"
        return name if self.sky == "real" else name + STATIONARY

    def simulate(self) -> Scene:
        """The scene of this stack."""
        changes = {} if self.width is None else {"width": self.width}
        return simulate(self.preset, size=(self.size, self.size), seed=self.seed, sky=self.sky, **changes)


@dataclass(frozen=True)
class Variant:
    """Our own pipeline, whole or with a part left out or replaced."""

    label: str
    ablation: Ablation = Ablation()
    hdbscan: bool = False
    recipe: bool = False
    """Not our own: :mod:`mintpy_vae.method.recipe` in place of sections 3 to 5."""


VARIANTS = {
    "ours_hdbscan": Variant("ours, HDBSCAN in place of FISHDBC", hdbscan=True),
    "vae_sources": Variant("sources of the atmosphere clusters subtracted per pair", recipe=True),
    "ours": Variant("ours"),
}
ABLATIONS = {
    "no_conditional_prior": Variant("- conditional prior", Ablation(conditional_prior=False)),
    "no_clustering": Variant("- clustering", Ablation(clustering=False)),
    "no_local_sky": Variant("- local sky", Ablation(local_sky=False)),
    "no_robust_fit": Variant("- robust fit", Ablation(robust=False)),
    "no_slow_sky": Variant("- slow sky", Ablation(slow_sky=False)),
}
OWN = VARIANTS | ABLATIONS
LABELS = {name: b.label for name, b in BASELINES.items()} | {name: v.label for name, v in OWN.items()}


class Trainer:
    """Trains networks, and keeps them on disk by what they were trained on, so that rows share them.

    ``seconds`` adds up what the networks that were taken from disk cost when they were made.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.process_time) -> None:
        self.folder = folder
        self.clock = clock
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(
        self,
        series: NDArray[np.float64],
        valid: NDArray[np.bool_],
        times: NDArray[np.float64],
        slots: Any,
        settings: Settings,
        progress: Steps | None = None,
    ) -> Fit:
        """See :func:`mintpy_vae.method.training.train`."""
        used = (settings.device, settings.seed, settings.train_steps, settings.batch_size)
        digest = hashlib.sha256(
            repr((tuple(slots), used, series.shape, _hash_of(["method/vae", "method/training"]))).encode()
        )
        for array in (series, valid, times):
            digest.update(np.ascontiguousarray(array).tobytes())
        file = self.folder / f"{digest.hexdigest()[:32]}.pt"
        if file.exists():
            fit, seconds = torch.load(file, weights_only=False)  # our own file
            self.seconds += seconds
            return fit
        begin = self.clock()
        fit = training.train(series, valid, times, slots, settings, progress)
        part = file.with_suffix(f".{os.getpid()}.part")
        torch.save((fit, self.clock() - begin), part)
        os.replace(part, file)
        return fit


def remembered(file: Path, identity: dict[str, Any], work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Figures of one row of one case, read from `file` if they are there, and whether they are new.

    A row that fails must not cost the others: its result is the ``error``, which is shown, and not kept.
    """
    if file.exists():
        return json.loads(file.read_text()), False
    try:
        with single_threaded():  # in the pool and in this process alike
            result = identity | work()
    except Exception:
        return identity | {"error": traceback.format_exc()}, True
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(result))
    os.replace(part, file)
    return result, True


class Bench:
    """A stack, inverted once, on which every correction is run and judged alike.

    Parameters
    ----------
    stack : Stack
    settings : Settings
    networks : Path
        Folder of trained networks.
    """

    def __init__(self, stack: Stack, settings: Settings, networks: Path) -> None:
        self.scene = scene = stack.simulate()
        self.settings = settings
        # on a CPU the process's own time, which does not depend on what else the machine does
        self.clock = time.process_time if settings.device == "cpu" else time.perf_counter
        self.trainer = Trainer(networks, self.clock)
        self.phase = scene.without_constants(but_of_pairs=True)
        self.weight = np.where(scene.phase != 0, scene.coherence, 0) ** 2
        shape, n_pairs = scene.height.shape, len(scene.pairs)
        series, connected = invert_to_dates(
            self.phase.reshape(n_pairs, -1), self.weight.reshape(n_pairs, -1), scene.pairs, len(scene.dates), False
        )
        self.valid = connected.reshape(shape) & scene.land
        maps = METRES * series.reshape(-1, *shape)
        maps -= maps[:, scene.ref_yx[0], scene.ref_yx[1]][:, None, None]
        self.series = np.where(self.valid, maps, np.nan).astype(np.float32)
        self.height = np.where(scene.land, scene.height, np.nan)

    def run(self, row: str) -> dict[str, Any]:
        """Correct with one row and judge the result: figures by name, NaN as None."""
        begin, found, reason = self.clock(), None, ""
        self.trainer.seconds = 0.0
        if row in BASELINES:
            corrected = BASELINES[row](self.series, self.scene.years, self.height, self.scene.incidence)
        else:
            try:
                found, corrected = self._own(OWN[row])
            except NotEnoughEvidence as refusal:
                corrected, reason = self.series, str(refusal)
        result = {"seconds": self.clock() - begin + self.trainer.seconds, "refused": reason} | self._judge(corrected)
        if found is not None:
            result |= self._judge_own(found)
        return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in result.items()}

    def _own(self, variant: Variant) -> tuple[Separation | None, NDArray[np.float32]]:
        """As the package does, without files; no separation where something else was subtracted."""
        scene, settings = self.scene, self.settings
        make = Hdbscan if variant.hdbscan else Fishdbc
        clusterer = make(settings.min_samples, settings.min_cluster_size)
        stack = Pairs(self.phase, self.weight, scene.pairs, scene.dates, self.height, (scene.pixel, scene.pixel))
        own = stack.separated(variant, settings, self.trainer, clusterer)
        corrected = self.series - np.float32(METRES) * own.removed(slice(0, self.height.shape[0]))
        found, self.factor = own.found, own.factor
        return None if variant.recipe else found, corrected

    def _judge(self, corrected: NDArray[np.float32]) -> dict[str, Any]:
        scene, known = self.scene, (self.scene.years, _deforming(self.scene, self.valid), self.valid)
        years, deforming, valid = known
        truth = scene.displacement
        some = np.flatnonzero(valid)[:: max(1, int(valid.sum()) // 100)]
        removed = ((self.series - corrected) / METRES).reshape(len(years), -1)[:, some]
        result = metrics.compare(corrected, truth, years, deforming, valid) | {
            "false_velocity": metrics.false_velocity(corrected, truth, years, deforming, valid),
            "closure": metrics.closure_misfit(incidence(scene.pairs, len(years)) @ removed, scene.pairs),
        }
        if scene.name in ("quake", "acapulco"):
            result["step_gain"] = metrics.step_gain(corrected, truth, years, scene.events[0], deforming, valid)
        return result

    def _judge_own(self, found: Separation) -> dict[str, Any]:
        """What only our own rows say: labels, guard, uncertainty."""
        valid = found.valid
        height = found.grid.profile(pool_map(self.height, self.factor)[valid])

        def on_grid(maps: NDArray[np.float32]) -> NDArray[np.float64]:
            """Truth (dates, length, width), metres, on the training grid: radians relative to each date's mean."""
            pooled = np.stack([pool_map(np.where(self.scene.land, m, np.nan), self.factor)[valid] for m in maps])
            pooled /= METRES
            return pooled - pooled.mean(axis=1, keepdims=True)

        motion = on_grid(self.scene.displacement)
        motion = found.flatten(without_height(motion, height))  # as the network's input
        called = [c for c in found.clusters if c.kind == "deformation"]
        explained = [explained_share(c.amplitude, motion @ c.map) for c in called]
        atmosphere = found.atmosphere
        estimate = atmosphere.turbulent[:, valid] + atmosphere.slope[:, None] * height
        error = estimate - on_grid(self.scene.atmosphere)
        return {
            "labels_right": bool(called) == bool(self.scene.deforming.any())
            and all(e > LEAST_EXPLAINED for e in explained),
            "deformation_clusters": len(called),
            "explained": explained,
            "warnings": sentences(atmosphere.guarded, 1e3 * abs(METRES)),
            "local_sky_share": found.local.share,
            **coverage(found, error, ""),
            **coverage(found, metrics.velocity(error, self.scene.years), "velocity_"),
            "moves_as": sorted(found.deformation.functions),
            "pieces": len(found.deformation.pieces),
        }


def coverage(found: Separation, error: NDArray[np.float64], name: str) -> dict[str, float]:
    """Share of errors, of dates (dates, pixels) or of velocities (pixels,), within one and two stated sigmas."""
    std = found.atmosphere.std if error.ndim > 1 else found.atmosphere.rate_std
    values = {"one": 1.0, "two": 2.0}
    nothing = np.zeros_like(error)
    return {
        f"{name}within_{word}_sigma": metrics.within_sigmas(error, nothing, std[..., found.valid], number)
        for word, number in values.items()
    }


@dataclass(frozen=True)
class Own:
    """What a variant of ours makes of a stack."""

    found: Separation
    observations: Observations
    factor: float
    """Looks of the grid of both."""
    removed: Rows
    """Rows -> (dates, rows, width) phase that is subtracted, radians."""
    whole: PhasePerDate
    """What the whole scene alone gives, on the same grid."""
    tiles: int = 0
    """Number of tiles of a wide scene."""


@dataclass(frozen=True)
class Pairs:
    """The arrays of a stack: phase and weight (pairs, length, width) and what belongs to them; pixels in metres."""

    phase: NDArray[np.float32]
    weight: NDArray[np.float32]
    pairs: NDArray[np.integer]
    dates: list[str]
    height: NDArray[np.float32]
    pixel: tuple[float, float]

    def separated(
        self,
        variant: Variant,
        settings: Settings,
        trainer: Trainer,
        clusterer: Clusterer | None = None,
        threads: int = 1,
    ) -> Own:
        """Separate as :mod:`mintpy_vae.workflow.learning` does, without files."""
        factor, ratio = looks(self.height.shape, self.pixel, settings.resolution)
        phase, weight = pool_pairs(self.phase, self.weight, factor)
        observations = Observations(phase, weight, self.pairs, self.dates, pool_map(self.height, factor))
        cells, whole = Cells(observations, NOTHING, ratio), observations.multilooked(ratio)
        known = None
        if ratio > 1:
            narrow = Narrow(cells, settings, variant.ablation)
            known = narrow.assembled(worked_on(narrow.work(), narrow.tasks(), Compute(), threads))
        how = {"ablation": variant.ablation, "clusterer": clusterer, "trainer": trainer, "narrow": known}
        found = separate(whole, settings, **how)
        removed, looked = subtracted(variant, found, whole), factor * ratio
        height = found.grid.profile(self.height)
        if ratio == 1 or variant.recipe:
            return Own(found, whole, looked, FullResolution(removed, height, looked), removed)
        wide = Wide(found, whole, cells, settings, variant.ablation)
        details = list(worked_on(wide.work(), wide.tasks(), Compute(), threads))
        frame = wide.assembled(details)
        full = FullResolution(frame.phase, height, factor)
        return Own(wide.summary(frame), whole, looked, full, removed, len(details))


def subtracted(variant: Variant, found: Separation, observations: Observations) -> PhasePerDate:
    """What a variant subtracts, given a separation and what that was given; ours may refuse, the recipe never does."""
    if variant.recipe:
        return sources_of_atmosphere(found, observations.pairs)
    safety.refuse(safety.diagnostics(found, observations))
    return found.atmosphere


def pool_pairs(
    phase: NDArray[np.float32], weight: NDArray[np.float32], factor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """:func:`mintpy_vae.stack.pool_pairs` of arrays: phase, and weight."""
    total = cell_sums(weight, factor)
    pooled = np.divide(cell_sums(weight * phase, factor), total, out=np.zeros_like(total), where=total > 0)
    return pooled.astype(np.float32), (total / factor**2).astype(np.float32)


def _deforming(scene: Scene, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Ground that deforms; where all of it does, all but the tenth that does least, which the rest is relative to."""
    if (valid & ~scene.deforming).any():
        return scene.deforming
    largest = np.abs(scene.displacement).max(axis=0)
    return np.asarray(largest > np.quantile(largest[valid], 0.1))


_PACKAGE = Path(str(metrics.__file__)).parent
# As they are when this process starts: a file that is edited during a run must not lend its hash to the old code.
_SOURCES = {
    str(file.relative_to(_PACKAGE).with_suffix("")): hashlib.sha256(file.read_bytes()).hexdigest()
    for pattern in ("*.py", "method/*.py", "simulate/*.py", "evaluation/baselines.py")
    for file in sorted(_PACKAGE.glob(pattern))
} | {__name__: hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}


def source_hash(own: bool) -> str:
    """Hash of the source that a result depends on: all for our `own` rows, without most of the method for others."""
    others = [name for name in _SOURCES if not name.startswith("method/") or Path(name).name in SHARED]
    return _hash_of(list(_SOURCES) if own else others)


def _hash_of(names: list[str]) -> str:
    return hashlib.sha256(repr([_SOURCES[n] for n in names]).encode()).hexdigest()[:16]


def case_id(stack: Stack, row: str, settings: Settings) -> str:
    """Name of a result: it changes with whatever the result depends on, but for the device."""
    settings = dataclasses.replace(settings, device="auto")
    own = row in OWN
    options = [*dataclasses.astuple(stack), row]
    options += [dataclasses.astuple(settings), repr(OWN[row])] if own else []
    digest = hashlib.sha256(repr([options, source_hash(own)]).encode()).hexdigest()[:16]
    return f"{stack.kind.replace(' ', '_')}-{stack.seed}-{row}-{digest}"
