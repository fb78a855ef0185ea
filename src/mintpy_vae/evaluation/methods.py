"""The corrections that can be compared, by their names in ``--methods``.

Every correction here subtracts the difference of two fields, one per date, so it commutes with MintPy's inversion: all
corrections are applied to the same inverted time series (:mod:`~mintpy_vae.results.inverted`). They change neither
closure nor temporal coherence.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Mask
from ..errors import InputError, NotEnoughEvidence
from ..method.atmosphere import PhasePerDate
from ..method.clustering import Hdbscan
from ..method.covariance import fill
from ..method.profile import Profile
from ..method.upsampling import FullResolution
from ..project.prior_delay import read_prior_delay
from ..results.evidence import EVIDENCE, read_evidence
from ..results.inverted import Inverted, full_mask, geometry_file, read_delay
from ..stack import Rows, Stack, pool_map
from ..workflow.learning import phase_removed
from .baselines import BASELINES, Baseline
from .gnss_series import Station
from .rerun import Rerun

CDS = "cds.climate.copernicus.eu"
NO_DELAYS = ("ERA5.h5", "SET.h5")
"""Time series in ``inputs`` with a row of their own, and those that MintPy subtracts in any case."""

EVERYWHERE = "all of them"
"""Origin of the stable ground where hardly any is known: all pixels."""


class Unavailable(Exception):
    """The method cannot be run; the message is the reason."""


@dataclass(frozen=True)
class EvaluationData:
    """Input of the methods, and the data with which they are compared, all on one grid.

    Attributes
    ----------
    inverted : Inverted
    work, project : Path
        The corrected directory and the original one.
    pairs : (pairs, 2) int
        Kept pairs, indices into the dates of `inverted`.
    stable : (h, w) bool
        Ground that counts as not moving.
    source : str
        Origin of `stable`.
    template : mapping
        MintPy's options.
    truth : (dates, h, w) or None
        True displacement, metres.
    moves : (h, w) bool or None
        Ground that moves according to the truth.
    stations : list of Station
        GNSS stations on the grid; series are shown relative to the first.
    """

    inverted: Inverted
    work: Path
    project: Path
    pairs: NDArray[np.integer]
    stable: Mask
    source: str
    template: Mapping[str, str]
    truth: Floats | None = None
    moves: Mask | None = None
    stations: list[Station] = field(default_factory=list)

    @cached_property
    def baselines(self) -> dict[tuple[int, int], Floats]:
        """GNSS double difference of each two stations, the second minus the first, metres, (dates,)."""
        return {
            (i, j): self.stations[j].minus(self.stations[i], self.inverted.dates)
            for i, j in itertools.combinations(range(len(self.stations)), 2)
        }

    def noise_of_pairs(self, series: Floats) -> Floats:
        """Standard deviation on stable ground of each pair of a series (dates, h, w), (pairs,) metres."""
        first, second = self.pairs.T
        flat = series[:, self.stable & np.isfinite(series).all(axis=0)].astype(np.float64)
        return np.asarray((flat[second] - flat[first]).std(axis=1))

    @cached_property
    def noise_before(self) -> Floats:
        """The same without correction."""
        return self.noise_of_pairs(self.inverted.before)


@dataclass(frozen=True)
class Method:
    """A correction and its label in the table.

    Attributes
    ----------
    label : str
    correct : callable
        From the data and a rerun of the method to the corrected series (dates, h, w), metres.
    trains : bool
        The method trains a network, so it runs only on request.
    """

    label: str
    correct: Callable[[EvaluationData, Rerun], Floats]
    trains: bool = False


def vae(scene: EvaluationData, rerun: Rerun) -> Floats:
    """The correction by ``vae_correct.py``."""
    if not (scene.work / "inputs" / "VAE.h5").is_file():
        raise Unavailable("vae_correct.py left this stack uncorrected")
    return scene.inverted.after


def era5(scene: EvaluationData, rerun: Rerun) -> Floats:
    """Weather model ERA5, then a linear ramp in range, as in the comparison of Ghosh et al. (2025)."""
    from mintpy.objects.ramp import deramp

    left = _less_delay(scene, _era5_file(scene))
    with contextlib.redirect_stdout(io.StringIO()):
        maps = [deramp(np.nan_to_num(d), scene.inverted.valid, ramp_type="linear_range")[0] for d in left]
    flat = np.where(scene.inverted.valid, np.array(maps), np.nan)
    return scene.inverted.referenced(flat)


def _era5_file(scene: EvaluationData) -> Path:
    """ERA5 delay of the project, or else downloaded by MintPy with the user's key into the corrected directory."""
    files = [folder / "inputs" / "ERA5.h5" for folder in (scene.project, scene.work)]
    if there := [file for file in files if file.is_file()]:
        return there[0]
    if not Path("~/.cdsapirc").expanduser().is_file():
        raise Unavailable("there is no inputs/ERA5.h5, and no key in ~/.cdsapirc to download it from the CDS")
    try:
        if "https" not in getproxies():
            socket.create_connection(
                (CDS, 443), timeout=10
            ).close()  # without a connection the CDS client tries for hours
    except OSError as error:
        raise Unavailable(f"there is no inputs/ERA5.h5, and {CDS} cannot be reached to download it") from error
    from mintpy.cli import tropo_pyaps3

    weather = scene.template.get("mintpy.troposphericDelay.weatherDir", "auto")
    weather = os.environ.get("WEATHER_DIR", str(scene.work / "inputs")) if weather in ("auto", "") else weather
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "ERA5.h5"
        geometry = geometry_file(scene.work, scene.inverted.attributes)
        options = ["-f", scene.work / "timeseries.h5", "-g", geometry, "-w", weather]
        try:
            tropo_pyaps3.main([str(v) for v in (*options, "--tropo-file", made, "-o", Path(scratch) / "corrected.h5")])
        except (Exception, SystemExit) as error:  # any error of the service, the key or PyAPS
            raise Unavailable(f"MintPy could not download it ({type(error).__name__}: {error})") from error
        shutil.copyfile(made, files[1])
    return files[1]


def gacos(scene: EvaluationData, rerun: Rerun) -> Floats:
    """Delays of the GACOS service, read by MintPy."""
    from mintpy.tropo_gacos import calculate_delay_timeseries

    named = scene.template.get("mintpy.troposphericDelay.gacosDir", "auto")
    folder = scene.project / (named if named not in ("auto", "") else "GACOS")
    lacking = [d for d in scene.inverted.dates if not any((folder / f"{d}{e}").is_file() for e in (".ztd", ".ztd.tif"))]
    if lacking:
        raise Unavailable(f"the directory {folder.name} has no .ztd file for {len(lacking)} dates")
    geometry = geometry_file(scene.work, scene.inverted.attributes)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        file = Path(scratch) / "GACOS.h5"
        calculate_delay_timeseries(str(file), str(scene.work / "timeseries.h5"), str(geometry), str(folder))
        return _less_delay(scene, file)


def vae_hdbscan(scene: EvaluationData, rerun: Rerun) -> Floats:
    """Our method with HDBSCAN in place of FISHDBC; it trains again."""
    settings = rerun.job.settings
    try:
        found = rerun(clusterer=Hdbscan(settings.min_samples, settings.min_cluster_size))
    except NotEnoughEvidence as reason:
        raise Unavailable(str(reason)) from reason
    return _less_phase(scene, rerun, phase_removed(found, rerun.stack, rerun.data), rerun.dates)


def vae_sources(scene: EvaluationData, rerun: Rerun) -> Floats:
    """The recipe of Ghosh et al. (2025), with the network and the clusters of ``vae_correct.py``."""
    evidence = read_evidence(scene.work)
    if evidence is None:
        raise Unavailable(f"{EVIDENCE}, which vae_correct.py writes beside a corrected stack, does not exist")
    if evidence.recipe is None or evidence.recipe_slope is None or evidence.profile is None:
        raise Unavailable(
            f"{EVIDENCE} lacks it, since dates were added or it is of an earlier version; a full run of vae_correct.py "
            "writes it"
        )
    if lacking := set(scene.inverted.dates) - set(evidence.dates):
        raise Unavailable(f"the network has several islands, and {len(lacking)} dates are not in the largest")
    metres = rerun.stack.metres_per_radian
    turbulent = fill(np.asarray(evidence.recipe / metres, dtype=np.float64), evidence.valid)
    removed = PhasePerDate(turbulent, np.asarray(evidence.recipe_slope / metres, dtype=np.float64))
    height = Profile(*evidence.profile)(rerun.stack.height)
    return _less_phase(scene, rerun, FullResolution(removed, height, rerun.factor), evidence.dates)


def _less_phase(scene: EvaluationData, rerun: Rerun, full: Rows, dates: Sequence[str]) -> Floats:
    """Series minus the phase of ``dates``, relative to the reference pixel."""
    inverted, stack = scene.inverted, rerun.stack
    good, step = full_mask(scene.work), inverted.factor * max(1, 2_000_000 // (inverted.factor * stack.shape[1]))
    at_reference = full(slice(inverted.ref_yx[0], inverted.ref_yx[0] + 1))[:, 0, inverted.ref_yx[1]]
    parts = []
    for top in range(0, stack.shape[0], step):
        rows = slice(top, min(top + step, stack.shape[0]))
        phase = np.where(good[rows], full(rows) - at_reference[:, None, None], np.nan)
        parts.append(np.array([pool_map(layer, inverted.factor) for layer in phase]))
    delay = np.concatenate(parts, axis=1) * stack.metres_per_radian
    index = [dates.index(date) for date in inverted.dates]
    return np.asarray(inverted.before - inverted.referenced(delay[index]))


def _less_delay(scene: EvaluationData, file: Path) -> Floats:
    inverted = scene.inverted
    delay = read_delay(file, inverted.dates, inverted.ref_yx, full_mask(scene.work), inverted.factor)
    return np.asarray(inverted.before - inverted.referenced(delay))


def delay_methods(project: Path, stack: Stack) -> dict[str, Method]:
    """A method for each delay series in ``PROJECT/inputs`` as MintPy writes it, whole and weighted date by date.

    RAiDER, HRRR, GACOS, OPERA and the weather models of PyAPS are all found so. ``ERA5.h5`` has a row of its own.
    """
    found: dict[str, Method] = {}
    for file in sorted((project / "inputs").glob("*.h5")):
        if file.name in NO_DELAYS:
            continue
        try:
            read_prior_delay(file, stack)
        except InputError:  # another kind of file, another grid, or our own
            continue
        found[file.stem] = Method(f"delay of {file.name}", partial(_whole_delay, file))
        found[f"{file.stem}_weighted"] = Method(f"delay of {file.name}, weighted by date", partial(_weighted, file))
    return found


def _whole_delay(file: Path, scene: EvaluationData, rerun: Rerun) -> Floats:
    return _less_delay(scene, file)


def _weighted(file: Path, scene: EvaluationData, rerun: Rerun) -> Floats:
    """Each date minus its delay times the least-squares coefficient on stable ground, 0 to 1."""
    inverted = scene.inverted
    delay = np.asarray(inverted.before - _less_delay(scene, file))
    ground = scene.stable & np.isfinite(delay).all(axis=0) & np.isfinite(inverted.before).all(axis=0)
    d, x = (
        np.asarray(maps[:, ground] - maps[:, ground].mean(axis=1, keepdims=True)) for maps in (delay, inverted.before)
    )
    weight = np.clip((d * x).sum(axis=1) / np.maximum((d**2).sum(axis=1), 1e-12), 0.0, 1.0)
    return np.asarray(inverted.before - inverted.referenced(weight[:, None, None] * delay))


def _simple(baseline: Baseline) -> Method:
    def correct(scene: EvaluationData, rerun: Rerun) -> Floats:
        inverted = scene.inverted
        if baseline.along_sight and not np.isfinite(inverted.incidence[inverted.valid]).all():
            raise Unavailable("the geometry file lacks the incidence angle, which MintPy needs")
        return baseline(inverted.before, inverted.years, inverted.height, inverted.incidence)

    return Method(baseline.label, correct)


RECIPE = "sources of the atmosphere clusters subtracted per pair (after Ghosh et al., 2025)"
METHODS: dict[str, Method] = {
    **{name: _simple(baseline) for name, baseline in BASELINES.items()},
    "era5": Method("ERA5, then a ramp in range", era5),
    "gacos": Method("GACOS", gacos),
    "vae_sources": Method(RECIPE, vae_sources),
    "vae": Method("vae_correct.py", vae),
    "vae_hdbscan": Method("the same with HDBSCAN", vae_hdbscan, trains=True),
}
"""All methods by their names in ``--methods``; tests compare it with the command's help and the documentation."""
