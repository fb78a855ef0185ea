"""Add new dates to an earlier result, where it allows that; its dates and pairs keep their bytes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import Array, Float32, Floats, Mask
from ..errors import DamagedFile, InputError
from ..log import LOGGER, stage
from ..method.alarm import FALSE_ALARM, Alarm, distinct
from ..method.atmosphere import PhasePerDate
from ..method.clustering import Fishdbc
from ..method.inversion import islands
from ..method.knowledge import Knowledge
from ..method.safety import NOISIER
from ..method.source_update import NewSources, new_sources, no_sources
from ..method.threads import single_threaded
from ..method.tile_update import HALF, WideUpdate
from ..method.tiles import Frame
from ..method.timefunctions import without
from ..method.update import MANY, TileMemory, Unlike, Update, functions_at, update
from ..method.update import Learned as Memory
from ..method.upsampling import Bilinear, FullResolution
from ..method.vae import SEPARATOR_SLOTS
from ..multilooking import on_pixels
from ..progress import Progress, steps_of
from ..project.knowledge_input import read_functions
from ..project.prior_delay import delay_hashes
from ..results.covariance import write_covariance
from ..results.evidence import EVIDENCE, Evidence, baselines, read_evidence, write_evidence
from ..results.learned import LEARNED, TILES, number_of_tiles, read_learned, read_tile, write_learned, write_tile
from ..results.result import MINTPY_AT_REST, STD, read_result
from ..settings import Settings
from ..stack import (
    EarlierLayers,
    Rows,
    Stack,
    damage,
    file_hash,
    names_of_pairs,
    open_hdf5,
    pair_hashes,
    write_corrected_stack,
    write_delay_file,
    write_std_file,
    write_velocity_std,
)
from ..stack.geometry import pixel_size
from .checkpoints import read_network
from .job import Job, dates_to_learn_from, full_width_km, provenance, same_input
from .learning import Learned, TrainingData, coefficients_by_date, kept, of_all_dates, on_tiles, training_data

MODEL, VELOCITY_STD, COVARIANCE = "vae_model.pt", "velocity_vae_std.h5", "vae_covariance.csv"


class InFull(Exception):
    """The new dates cannot be added; the text says why."""


@dataclass(frozen=True)
class Earlier:
    """An earlier result to which dates can be added.

    Attributes
    ----------
    work : Path
    content : dict
        Of ``vae_result.json``.
    memory : Memory
    evidence : Evidence
    hashes : dict
        Of the pairs of the grown stack, and of the dates of a weather model's delay.
    """

    work: Path
    content: dict[str, Any]
    memory: Memory
    evidence: Evidence
    hashes: dict[str, dict[str, str]]


# ------------------------------------------------------------------------------------------------- after a full run
class KeptTiles:
    """Writes what the tiles of a full run remember, until the first that cannot be written."""

    def __init__(self, staging: Path) -> None:
        self.staging = staging
        self.failed: OSError | None = None
        shutil.rmtree(staging / TILES, ignore_errors=True)  # of an interrupted run

    def __call__(self, number: int, tile: TileMemory) -> None:
        """Write one tile."""
        if self.failed is None:
            try:
                write_tile(self.staging, number, tile)
            except OSError as error:
                self.failed = error
                shutil.rmtree(self.staging / TILES, ignore_errors=True)


def remember(staging: Path, job: Job, learned: Learned, tiles: KeptTiles) -> dict[str, Any]:
    """Write what dates added later need; return what ``vae_result.json`` has to say about that."""
    if reason := cannot_grow(job):
        return {"in_full_because": reason}
    if tiles.failed:
        raise tiles.failed
    try:
        write_learned(staging / LEARNED, learned.memory)
    except BaseException:
        (staging / LEARNED).unlink(missing_ok=True)  # an incomplete file would look complete
        raise
    return {**_hashes(job), "dropped_pairs": _dropped(job.stack)}


def _hashes(job: Job) -> dict[str, dict[str, str]]:
    """Hashes by the name of the pair, and by the date of a weather model's delay."""
    delays = {} if job.prior is None else delay_hashes(job.prior, job.stack)
    return {"pair_sha256": pair_hashes(job.stack, job.layers()), "delay_sha256": delays}


def _dropped(stack: Stack) -> list[str]:
    """Names of the pairs that are not kept."""
    return [name for name, kept in zip(names_of_pairs(stack), stack.keep, strict=True) if not kept]


def cannot_grow(job: Job) -> str:
    """Why dates cannot be added to the result of a job; empty if they can."""
    stack = job.stack
    if len(set(islands(stack.pairs[stack.keep], len(stack.dates))[stack.pairs[stack.keep][:, 0]])) > 1:
        return "the pairs form islands"
    return "MintPy subtracts other delays itself" if job.known.summary else ""


# ---------------------------------------------------------------------------------------------------- before an update
def to_be_extended(work: Path, job: Job, fingerprint: Mapping[str, Any]) -> Earlier:
    """The earlier result in ``work``, if the stack of the job is that of this result with new dates.

    Raises
    ------
    InFull
        If not, or if what was learned does not suffice.
    """
    content, stack = read_result(work), job.stack
    if content.get("status") != "corrected":
        raise InFull("there is no earlier result of a corrected stack")
    if reason := content.get("in_full_because") or cannot_grow(job):
        raise InFull(reason)
    grown = ("stack_sha256", "prior_delay_sha256")  # compared pair by pair and date by date
    rest = {key: value for key, value in fingerprint.items() if key not in grown}
    if not same_input(content, rest):
        changed = [key for key, value in rest.items() if not same_input(content, {key: value})]
        raise InFull(f"something besides the stack has changed ({', '.join(changed)})")
    if [f.name for f in job.knowledge.functions] != content.get("knowledge", {}).get("functions"):
        raise InFull("other functions of time are given than before")
    files = [work / "inputs" / "ifgramStack.h5", work / "inputs" / "VAE.h5", work / STD]
    try:
        memory, evidence = read_learned(work), read_evidence(work)
        earlier_dates = [_dates_of(file) for file in files if file.is_file()]
    except DamagedFile as error:
        raise InFull(f"a file of the earlier result cannot be used ({str(error).rstrip('.')})") from error
    whole = len(earlier_dates) == len(files) and number_of_tiles(work) == content.get("tiles", 0)
    if memory is None or evidence is None or not whole or not (work / MODEL).is_file():
        raise InFull("files of the earlier result are missing")
    if file_hash(work / MODEL) != content.get("model_sha256"):
        raise InFull(f"{MODEL} is not that of the result")
    dates, known = dates_to_learn_from(stack), content.get("pair_sha256", {})
    new = dates[len(memory.dates) :]
    if dates == list(memory.dates) and content.get("mintpy") not in MINTPY_AT_REST:
        raise InFull("MintPy was interrupted on the earlier result and may have damaged it")
    if dates[: len(memory.dates)] != list(memory.dates) or not new:
        raise InFull("the stack does not just have later dates than before")
    if len(dates) - memory.number > MANY * memory.number:
        raise InFull(f"{len(dates) - memory.number} dates were not learned from, and {memory.number} were")
    hashes = _hashes(job)
    pairs, delays = hashes["pair_sha256"], hashes["delay_sha256"]
    if altered := [name for name, digest in known.items() if pairs.get(name) != digest]:
        raise InFull(f"the pair {altered[0]} has changed")
    if switched := set(content.get("dropped_pairs", [])) ^ (set(_dropped(stack)) & set(known)):
        raise InFull(f"the pair {min(switched)} was dropped before or is dropped now")
    late = set(new) | (set(stack.dates) - set(earlier_dates[0]))
    if other := [name for name in pairs if name not in known and not late & set(name.split("_"))]:
        raise InFull(f"the pair {other[0]} of earlier dates is new")
    if altered := [date for date, digest in content.get("delay_sha256", {}).items() if delays.get(date) != digest]:
        raise InFull(f"the weather model's delay on {altered[0]} has changed")
    return Earlier(work, content, memory, evidence, hashes)


def _dates_of(file: Path) -> list[str]:
    """Dates of a stack or of a time series."""
    with open_hdf5(file) as f, damage(file):
        return sorted(set(f["date"][:].astype(str).ravel()))


# ---------------------------------------------------------------------------------------------------------- the update
def extend(
    staging: Path,
    job: Job,
    fingerprint: Mapping[str, Any],
    earlier: Earlier,
    timings: dict[str, float],
    progress: Progress,
) -> dict[str, Any]:
    """Write everything but MintPy's own results into the staging directory; return the details.

    Raises
    ------
    Unlike
        Before anything is written, if the new dates are unlike those learned from.
    """
    stack, settings, work = job.stack, job.settings, earlier.work
    with stage("read", timings):
        # the pixels of a pair depend on whether any pair has several components
        every = earlier.content.get("several_components", True)
        data = training_data(job, progress, None if every else _with_new_dates(stack, earlier.memory.dates))
    with stage("new dates", timings):
        wide = data.cells is not None
        false_alarm = FALSE_ALARM * (HALF if wide else 1.0)
        again = not wide  # tiles know the motion of the whole scene as it was
        knowledge, significance = _knowledge(job, earlier), settings.significance
        done = update(data.observations, earlier.memory, knowledge, significance, false_alarm, again)
        sources = _new_sources(earlier, done, data, settings)
        learned = done.learned  # later dates need it without what the tiles add
        done, frame = _in_detail(staging, job, data, done, work, progress)
    new = list(done.learned.dates[done.new])
    LOGGER.info("Added to the earlier result: %s.", ", ".join(new))
    with stage("write", timings):
        shutil.copyfile(work / MODEL, staging / MODEL)
        marks = provenance("corrected", stack, settings, fingerprint) | {
            "model_sha256": earlier.content["model_sha256"],
            "learned_from_stack_sha256": _learned_from(earlier.content),
            "added_dates": " ".join(done.learned.dates[done.learned.number :]),
        }
        _write(staging, job, data, done, frame, work, marks, progress)
        evidence = _grown_evidence(earlier, data, done, sources, stack)
        write_evidence(staging / EVIDENCE, evidence)
        write_learned(staging / LEARNED, learned)
        write_covariance(staging / COVARIANCE, evidence.dates, evidence.left, evidence.pixel / 1000)
    return _details(earlier, fingerprint, job, data, done, sources, evidence)


def _knowledge(job: Job, earlier: Earlier) -> Knowledge:
    """Prior information of a job, with functions of time that go on as they were at the dates learned from."""
    dates, seconds = dates_to_learn_from(job.stack), job.stack.attributes.get("CENTER_LINE_UTC", "0")
    functions, _ = read_functions(job.template, dates, seconds, earlier.memory.number)
    return replace(job.knowledge, functions=functions)


def _with_new_dates(stack: Stack, earlier: Sequence[str]) -> NDArray[np.bool_]:
    """Kept pairs that contain a date which is not among the ``earlier`` ones, (pairs,) bool."""
    return stack.keep & ~np.isin(stack.dates, list(earlier))[stack.pairs].all(axis=1)


def _in_detail(
    staging: Path, job: Job, data: TrainingData, done: Update, work: Path, progress: Progress
) -> tuple[Update, Frame | None]:
    """Refine the new dates of a wide scene in tiles, and write what these have learned."""
    if data.cells is None:
        return done, None
    threads = torch.get_num_threads()
    wide = WideUpdate(done, data.observations, data.cells, partial(_remembered, work))
    with single_threaded():
        details = kept(on_tiles(job, wide.work(), wide.tasks(), threads), partial(write_tile, staging))
        frame, alarms = wide.assembled(details, steps_of(progress, "fine scales"))
    return wide.summary(frame, alarms), frame


def _remembered(work: Path, number: int) -> TileMemory | None:
    try:
        return read_tile(work, number)
    except InputError as error:
        raise Unlike(str(error).rstrip(".")) from error


def _learned_from(content: Mapping[str, Any]) -> str:
    """SHA-256 of the stack that was learned from."""
    return str(content.get("update", {}).get("learned_from_stack_sha256", content["stack_sha256"]))


def _write(
    staging: Path,
    job: Job,
    data: TrainingData,
    done: Update,
    frame: Frame | None,
    work: Path,
    marks: Mapping[str, str],
    progress: Progress,
) -> None:
    stack, memory = job.stack, job.settings.max_memory
    height = done.learned.grid.profile(stack.height)
    new_phase: Rows
    if frame is None:
        found, new = done.atmosphere, done.new
        new_phase = FullResolution(PhasePerDate(found.turbulent[new], found.slope[new]), height, data.finest)
        std: tuple[Floats, Floats] = (found.std[new], found.rate_std[None])
    else:
        new_phase, std = FullResolution(frame.phase, height, data.finest), (frame.std, frame.rate_std[None])
    new_std, rate_std = (Bilinear(maps, stack.shape, data.finest) for maps in std)
    if data.delay is not None and done.learned.delay_share.any():
        of_model = data.delay.removed(done.learned.delay_share, done.learned.grid.valid, done.learned.number)
        new_phase = _with_model(new_phase, of_model, done.new)
    dates, files = np.array(stack.dates, "S"), ("inputs/ifgramStack.h5", "inputs/VAE.h5", STD)
    names = ("unwrapPhase", "timeseries", "timeseries")
    keys = (dates[stack.pairs], dates, dates)
    late = list(done.learned.dates[done.new])
    pairs, delay, earlier_std = (
        EarlierLayers.of(work / f, n, key, late) for f, n, key in zip(files, names, keys, strict=True)
    )
    used = np.searchsorted(stack.dates, late)
    phase_of_new = of_all_dates(new_phase, len(dates), used, 0.0)
    std_of_new = of_all_dates(new_std, len(dates), used, np.nan)
    per_metre = 1 / stack.metres_per_radian

    def phase_of_all(rows: slice) -> Float32:
        return delay.put(phase_of_new(rows), rows, per_unit=per_metre)

    def steps(what: str) -> Any:
        return steps_of(progress, f"writing {what}")

    write_corrected_stack(stack, staging / files[0], phase_of_all, marks, memory, steps("the stack"), pairs)
    write_delay_file(stack, staging / files[1], phase_of_new, memory, marks, steps("VAE.h5"), delay)
    write_std_file(stack, staging / files[2], std_of_new, memory, marks, steps(STD), earlier_std)
    write_velocity_std(stack, staging / VELOCITY_STD, rate_std, marks)


def _with_model(new: Rows, of_model: Rows, dates: slice) -> Rows:
    """Rows -> phase of the new ``dates`` with the confirmed delay of a weather model, which has all dates."""
    return lambda rows: np.asarray(new(rows) + of_model(rows)[dates], np.float32)


def _grown_evidence(earlier: Earlier, data: TrainingData, done: Update, sources: NewSources, stack: Stack) -> Evidence:
    """The earlier evidence with the new dates, pairs and sources, on the pixels that still take part."""
    old, memory, metres = earlier.evidence, done.learned, stack.metres_per_radian
    valid: Mask = memory.grid.valid
    some = valid[old.valid]
    corrected, moved = done.corrected, memory.motion[done.new]
    phase = memory.series[done.new] + memory.delay[done.new]
    maps = old.maps[:, some]
    before = np.vstack([old.before[:, some], metres * phase])
    after = np.vstack([old.after[:, some], metres * corrected])
    persistent, _ = functions_at(memory, memory.dates)
    still = np.stack([without(x, persistent) for x in (before, after)])
    pairs = np.sort(np.searchsorted(data.used, stack.pairs[stack.keep]), axis=1)
    first, second = pairs.T
    noise = (still[:, second] - still[:, first]).std(axis=2)
    where = {(old.dates[i], old.dates[j]): k for k, (i, j) in enumerate(old.pairs)}
    dates = data.observations.dates
    for k, (i, j) in enumerate(pairs):  # an earlier pair keeps its figures
        if (dates[i], dates[j]) in where:
            noise[:, k] = old.noise[:, where[dates[i], dates[j]]]
    return replace(
        old,
        dates=dates,
        pairs=pairs,
        bperp=baselines(stack),
        valid=valid,
        moving=old.moving & valid,
        before=before,
        after=after,
        noise=noise,
        maps=maps,
        amplitudes=np.hstack([old.amplitudes, maps @ sources.network_input[done.new].T]),
        points=np.vstack([old.points, sources.points]),
        source_pairs=np.vstack([old.source_pairs, sources.pairs]),
        source_labels=np.r_[old.source_labels, sources.labels],
        axes=None if old.axes is None else old.axes[:, some],
        recipe=None,
        recipe_slope=None,
        profile=None,
        motion=None if old.motion is None else np.vstack([old.motion[:, some], metres * moved]),
    )


def _new_sources(earlier: Earlier, done: Update, data: TrainingData, settings: Settings) -> NewSources:
    """Sources of the pairs that contain a new date; none where the earlier result cannot tell."""
    old, learned, pairs = earlier.evidence, done.learned, data.observations.pairs
    pairs = pairs[(pairs >= done.new.start).any(axis=1)]
    if old.axes is None or not len(old.points):
        return no_sources(learned, old.points.shape[1])
    grid = learned.grid
    try:
        network = read_network(
            earlier.work / MODEL, "separator", SEPARATOR_SLOTS, grid.years[grid.good], grid.valid.shape
        )
    except InputError as error:
        raise Unlike(str(error).rstrip(".")) from error
    axes, cluster = old.axes[:, grid.valid[old.valid]], Fishdbc(settings.min_samples, settings.min_cluster_size)
    return new_sources(network, learned, pairs, old.points, old.source_labels, axes, cluster)


def _details(
    earlier: Earlier,
    fingerprint: Mapping[str, Any],
    job: Job,
    data: TrainingData,
    done: Update,
    sources: NewSources,
    evidence: Evidence,
) -> dict[str, Any]:
    """Content of ``vae_result.json``: that of the earlier run, with the new dates and pairs."""
    stack, content = job.stack, earlier.content
    own = ("status", "reason", "next_command", "warnings", "template_sha256", "update", *fingerprint)
    details = {key: value for key, value in content.items() if key not in own}
    dates, mm = evidence.dates, 1000.0
    names = [f"{dates[i]}_{dates[j]}" for i, j in evidence.pairs]
    noise = [[round(float(v * mm), 3) for v in pair] for pair in evidence.noise.T]
    details["noise_per_pair_mm"] = dict(zip(names, noise, strict=True)) | content["noise_per_pair_mm"]
    details["noise_per_date_mm"] = dict(content["noise_per_date_mm"])
    for date, values in zip(dates[done.new], _noise_of_dates(evidence, done), strict=True):
        details["noise_per_date_mm"][date] = [round(float(v * mm), 3) for v in values]
    details["pairs_worse"] = float((evidence.noise[1] > evidence.noise[0]).mean())
    of_dates = np.array(list(details["noise_per_date_mm"].values()))
    details["dates_worse"] = float((of_dates[:, 1] > NOISIER * of_dates[:, 0]).mean())
    ratio = 1 if data.cells is None else data.cells.ratio
    alarms = [_record(alarm, stack, data.factor, ratio) for alarm in distinct(done.alarms)]
    before = content.get("update", {})
    every = [*before.get("alarms", []), *alarms]
    added, number = list(done.learned.dates[done.learned.number :]), done.learned.number
    if data.delay is not None:
        coefficients = coefficients_by_date(done.learned.dates, done.learned.delay_share)
        details["prior_delay"] = content["prior_delay"] | {"coefficients": coefficients}
    details["update"] = {
        "learned_from_dates": number,
        "learned_from_stack_sha256": _learned_from(content),
        "earlier_stack_sha256": content["stack_sha256"],
        "added_dates": added,
        "new_dates": list(done.learned.dates[done.new]),
        "misfit": [round(float(m), 2) for m in done.misfit],
        "sources_in_clusters": int((sources.labels >= 0).sum()),
        "sources": len(sources.labels),
        "false_alarm_probability": FALSE_ALARM,
        "alarms": every,
    }
    details |= earlier.hashes | {"dropped_pairs": _dropped(stack), "several_components": data.several_components}
    said = before.get("sentences", [])
    sentences = [_sentence(one) for one in every]
    which = f"date {added[0]} was" if len(added) == 1 else f"dates {', '.join(added)} were"
    sentences.insert(0, f"The {which} added to what the first {number} say; those keep their atmosphere.")
    details["update"]["sentences"] = sentences
    told = [text for text, one in zip(sentences[1:], every, strict=True) if not _seen_again(one, every, stack)]
    kept = [text for text in content["method_warnings"] if text not in said]
    return details | {"warnings": [sentences[0], *told, *kept]}


def _noise_of_dates(evidence: Evidence, done: Update) -> Array:
    """Spatial standard deviation of the new dates before and after, (new dates, 2) metres."""
    persistent, _ = functions_at(done.learned, done.learned.dates)
    series = (np.asarray(x, dtype=np.float64) for x in (evidence.before, evidence.after))
    still = [without(x, persistent)[done.new].std(axis=1) for x in series]
    return np.stack(still, axis=1)


def _record(alarm: Alarm, stack: Stack, factor: float, ratio: int) -> dict[str, Any]:
    """Entry of an alarm: place on the stack's own grid, full width at half maximum, mm towards the satellite."""
    row, column = (
        min(max(round(on_pixels(float(k), factor)), 0), size - 1)  # the peak may lie beyond the edge
        for k, size in zip(alarm.place[:2], stack.shape, strict=True)
    )
    mm = 1000 * stack.metres_per_radian
    found = {
        "date": alarm.date,
        "since": alarm.since,
        "row": row,
        "column": column,
        "width_km": round(full_width_km(stack, factor, float(np.exp(alarm.place[2]))), 2),
        "mm": round(alarm.amplitude * mm, 1),
        "sigma": round(abs(alarm.amplitude) / alarm.std, 1),
        "probability": round(alarm.probability, 4),
        "cycles": alarm.cycles(ratio),
    }
    if all(key in stack.attributes for key in ("Y_FIRST", "X_FIRST", "Y_STEP", "X_STEP", "Y_UNIT")):
        first, step = ([float(stack.attributes[f"{axis}_{what}"]) for axis in "YX"] for what in ("FIRST", "STEP"))
        if stack.attributes["Y_UNIT"].startswith("deg"):
            found["latitude"] = round(first[0] + (row + 0.5) * step[0], 4)
            found["longitude"] = round(first[1] + (column + 0.5) * step[1], 4)
    return found


def _seen_again(alarm: Mapping[str, Any], every: Sequence[Mapping[str, Any]], stack: Stack) -> bool:
    """Whether a later date raised the alarm at the same place in the same direction, so that it need not be told."""
    kilometres = 1e-3 * np.array(pixel_size(stack.attributes))

    def again(later: Mapping[str, Any]) -> bool:
        away = kilometres * [later["row"] - alarm["row"], later["column"] - alarm["column"]]
        return bool(np.hypot(*away) < later["width_km"] and later["mm"] * alarm["mm"] > 0)

    return any(later["date"] > alarm["date"] and again(later) for later in every)


def _sentence(alarm: Mapping[str, Any]) -> str:
    where = f"row {alarm['row']}, column {alarm['column']}"
    if "latitude" in alarm:
        where += f" (latitude {alarm['latitude']}, longitude {alarm['longitude']})"
    what, when = "New motion", f"on {alarm['date']}"
    if (since := alarm.get("since", alarm["date"])) != alarm["date"]:
        when = f"since {since}, seen on {alarm['date']},"
    if cycles := alarm.get("cycles"):
        what += f" or an unwrapping error of {cycles} cycle{'s' if cycles > 1 else ''}"
    return f"{what} {when} at {where}: {alarm['mm']:.0f} mm, {alarm['sigma']:.0f} sigma."
