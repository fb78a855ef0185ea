"""The job: from an interferogram stack to a corrected MintPy directory. The method is in :mod:`.separation`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import __version__, mintpy_app
from .correction import FullResolution
from .errors import InputError, NotEnoughEvidence
from .evidence import EVIDENCE, write_evidence
from .knowledge import Knowledge
from .knowledge_input import given_files, read_knowledge
from .separation import Array, Report, Separation, separate
from .settings import PREFIX, Settings
from .stack import (
    Stack,
    file_hash,
    open_stack,
    pool_map,
    pool_pairs,
    project_of,
    write_corrected_stack,
    write_delay_file,
)
from .staging import staged
from .training import Fit, choose_device

RESULT = "vae_result.json"


@dataclass
class Result:
    """Outcome of a correction, as written to ``vae_result.json``.

    Attributes
    ----------
    status : str
        ``corrected`` or ``uncorrected``.
    reason : str
        Why the stack was left uncorrected; empty otherwise.
    work_dir : Path
    next_command : str
        What to type to go on with MintPy.
    warnings : list of str
    details : dict
        Everything else in the file: versions, settings, hashes, timings, clusters, noise per pair and per date.
    skipped : bool
        Nothing was done, because an earlier result is of the same input and settings; not in the file.
    """

    status: str
    reason: str
    work_dir: Path
    next_command: str
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False


def correct(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    update: bool = False,
    invert: bool = True,
    report: Report | None = None,
    **overrides: Any,
) -> Result:
    """Correct a MintPy stack into a sibling work directory; the input is only read.

    Parameters
    ----------
    stack_file : path
        ``PROJECT/inputs/ifgramStack.h5``.
    geometry_file : path, optional
        Its neighbour ``geometryGeo.h5`` or ``geometryRadar.h5`` by default.
    template_file : path, optional
        Custom template; ``smallbaselineApp.cfg`` of the project is read first, as MintPy does.
    work_dir : path, optional
        ``PROJECT_vae`` beside PROJECT by default. An earlier result of this tool there is replaced.
    settings : Settings, optional
        By default those of the template, with ``overrides`` by field name.
    update : bool
        Skip what is done when `work_dir` holds the result of the same input, settings and template.
    invert : bool
        Drive MintPy's steps up to ``reference_date`` in `work_dir`.
    report : callable, optional
        Called with (stage, done, total, message).

    Raises
    ------
    InputError
        With one sentence that says what is wrong. Nothing is left behind, unless it is MintPy that failed on the
        corrected stack, which then stays in `work_dir`.
    """
    start = time.time()
    stack_path = Path(os.path.abspath(stack_file))
    project = project_of(stack_path)
    target = Path(os.path.abspath(work_dir)) if work_dir else project.with_name(project.name + "_vae")
    template = mintpy_app.read_templates(project, template_file)
    settings = settings or Settings.from_template(template, **overrides)
    choose_device(settings.device)  # a missing GPU shows now, not after minutes of reading
    stack = open_stack(stack_path, geometry_file, template)
    target = _check_target(target, project)
    knowledge = what_is_known(template, settings, stack)
    fingerprint = {
        "stack_sha256": file_hash(stack.file),
        "geometry_sha256": file_hash(stack.geometry_file),
        "template_sha256": _hash_of_options(template),
        "knowledge_sha256": {key: file_hash(path) for key, path in given_files(settings, stack).items()},
        "settings": settings.as_dict(),
        "dataset": stack.phase_name,
        "version": __version__,
    }
    with staged(target) as (staging, publish):
        result = _earlier(target, fingerprint) if update else None
        if result is None:
            _check_replaceable(target)
            timings = {"checks": time.time() - start}
            result = _make(
                staging, target, project, stack, template_file, settings, knowledge, fingerprint, timings, report
            )
            _write_result(staging, result)
            publish()
        if invert and result.details["mintpy"] != "reference_date":
            _drive_mintpy(result)
        if not result.skipped:
            _write_page(result)
            result.details["timings"]["total"] = time.time() - start
            _write_result(target, result)
    return result


def _write_page(result: Result) -> None:
    """Write the report."""

    def write() -> None:
        from .report import write_report  # here: a broken Plotly must not keep anyone from correcting

        write_report(result.work_dir)

    begin = time.time()
    result.warnings += _spared("The report", write)
    result.details["timings"]["report"] = time.time() - begin


def _spared(what: str, write: Callable[[], None]) -> list[str]:
    """Write what nothing depends on; whatever goes wrong there must not cost the user the correction. Warnings."""
    try:
        write()
    except Exception as error:
        return [f"{what} could not be written ({type(error).__name__}: {error})."]
    return []


def _make(
    staging: Path,
    target: Path,
    project: Path,
    stack: Stack,
    template_file: str | os.PathLike[str] | None,
    settings: Settings,
    knowledge: Knowledge,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    report: Report | None,
) -> Result:
    """Fill the staging directory with everything but MintPy's own results."""
    template = mintpy_app.fill_work_dir(stack, project, staging, template_file).name
    try:
        details = _correct_into(staging, stack, settings, knowledge, fingerprint, timings, report)
        status, reason = "corrected", ""
    except NotEnoughEvidence as refusal:
        status, reason = "uncorrected", str(refusal)
        details = _leave_uncorrected(staging, stack, settings, fingerprint)
    warnings = knowledge.warnings + details.pop("warnings", [])
    details["knowledge"] = knowledge.summary(_dates_to_learn_from(stack))
    details.update(fingerprint, template=template, timings=timings, versions=_versions(), mintpy="not run")
    return Result(status, reason, target, mintpy_app.next_command(target, target / template), warnings, details)


def _drive_mintpy(result: Result) -> None:
    """Run MintPy's steps in the work directory; a result that says ``pending`` was cut off in them."""
    begin = time.time()
    result.skipped = False
    result.details["mintpy"] = "pending"
    _write_result(result.work_dir, result)
    template = result.work_dir / result.details["template"]
    mintpy_app.ensure_reference_point(result.work_dir, template)
    mintpy_app.run_to_reference_date(result.work_dir, template)
    result.details["timings"]["mintpy"] = time.time() - begin
    result.details["mintpy"] = "reference_date"


@dataclass(frozen=True)
class TrainingData:
    """What the method is given of a stack: kept pairs, multilooked by ``factor`` along both axes.

    ``phase`` and ``weight`` (pairs, h, w), ``pairs`` (pairs, 2) as indices into ``dates``, ``height`` (h, w); ``used``
    are the indices of ``dates`` into the dates of the stack.
    """

    phase: NDArray[np.float32]
    weight: NDArray[np.float32]
    pairs: NDArray[np.integer]
    dates: list[str]
    used: NDArray[np.integer]
    height: NDArray[np.float32]
    factor: int


def training_data(stack: Stack, settings: Settings) -> TrainingData:
    """Read the stack onto the training grid."""
    factor = _looks(stack, settings)
    phase, weight = pool_pairs(stack, factor, settings.max_memory)
    kept = stack.keep
    used, pairs = np.unique(stack.pairs[kept], return_inverse=True)
    pairs = pairs.reshape(-1, 2)  # numpy 2.0 and others disagree on the shape of the inverse
    dates = _dates_to_learn_from(stack)
    return TrainingData(phase[kept], weight[kept], pairs, dates, used, pool_map(stack.height, factor), factor)


def _correct_into(
    staging: Path,
    stack: Stack,
    settings: Settings,
    knowledge: Knowledge,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    report: Report | None,
) -> dict[str, Any]:
    """Learn, correct and write stack, delay file and networks into the staging directory; return the details."""
    begin = time.time()
    data = training_data(stack, settings)
    used, pairs, dates, factor = data.used, data.pairs, data.dates, data.factor
    timings["read"] = time.time() - begin

    begin = time.time()
    found = separate(data.phase, data.weight, pairs, dates, data.height, settings, report, knowledge=knowledge)
    before, after = _noise_of_pairs(found, pairs)
    if np.median(after) > np.median(before):
        raise NotEnoughEvidence("the correction would add noise to most pairs")
    timings["separate"] = time.time() - begin

    begin = time.time()
    full = FullResolution(found.atmosphere, stack.height - found.mean_height, factor)
    model_file = staging / "vae_model.pt"
    _save_networks(model_file, found.fits, settings)
    evidence = (found, dates, pairs, np.stack([before, after]), data.height, factor, stack)
    said = _spared("The evidence", lambda: write_evidence(staging / EVIDENCE, *evidence))

    def atmosphere(rows: slice) -> NDArray[np.float32]:
        # dates that no kept pair reaches keep the mean atmosphere of all dates, which is 0
        values = np.zeros((len(stack.dates), rows.stop - rows.start, stack.shape[1]), dtype=np.float32)
        values[used] = full(rows)
        return values

    provenance = _provenance("corrected", stack, settings, fingerprint) | {"model_sha256": file_hash(model_file)}
    memory = settings.max_memory
    write_corrected_stack(stack, staging / "inputs" / "ifgramStack.h5", atmosphere, provenance, memory)
    write_delay_file(stack, staging / "inputs" / "VAE.h5", atmosphere, memory)
    timings["write"] = time.time() - begin
    details = _details(found, dates, pairs, before, after, stack, provenance["model_sha256"])
    details["warnings"] += _not_searched(knowledge, found) + said
    return details


def what_is_known(template: Mapping[str, str], settings: Settings, stack: Stack) -> Knowledge:
    """What the user knows of the ground, on the training grid."""
    return read_knowledge(template, settings, stack, _dates_to_learn_from(stack), _looks(stack, settings))


def _looks(stack: Stack, settings: Settings) -> int:
    """Pixels of one pixel of the training grid, along both axes."""
    return max(1, int(np.ceil(np.sqrt(stack.shape[0] * stack.shape[1] / settings.coarse_pixels))))


def _dates_to_learn_from(stack: Stack) -> list[str]:
    """Dates that a kept pair reaches."""
    return [stack.dates[k] for k in np.unique(stack.pairs[stack.keep])]


def _not_searched(knowledge: Knowledge, found: Separation) -> list[str]:
    searched = {f.name for f in found.functions}
    return [
        f"{f.name}, of mintpy.timeFunc, hardly differs from the other functions of time and was not searched for."
        for f in knowledge.functions
        if f.name not in searched
    ]


def _leave_uncorrected(
    staging: Path, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the stack with the phase of the input, and no delay file."""
    provenance = _provenance("uncorrected", stack, settings, fingerprint)

    def nothing(rows: slice) -> NDArray[np.float32]:
        raise AssertionError("an uncorrected stack is a copy")

    write_corrected_stack(stack, staging / "inputs" / "ifgramStack.h5", nothing, provenance, settings.max_memory)
    return {}


def _provenance(status: str, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]) -> dict[str, str]:
    return {
        "status": status,
        "version": __version__,
        "dataset": stack.phase_name,
        "stack_sha256": str(fingerprint["stack_sha256"]),
        **{key: str(value) for key, value in settings.as_dict().items()},
    }


def _noise_of_pairs(found: Separation, pairs: NDArray[np.integer]) -> Array:
    """Spatial standard deviation of each pair before and after, (2, pairs) radians, without what moves steadily."""
    first, second = pairs.T
    return np.asarray((found.noise[:, second] - found.noise[:, first]).std(axis=2))


def _details(
    found: Separation,
    dates: list[str],
    pairs: NDArray[np.integer],
    before: Array,
    after: Array,
    stack: Stack,
    model_hash: str,
) -> dict[str, Any]:
    """What ``vae_result.json`` says of a correction; noise in millimetres of line-of-sight displacement."""
    mm = 1000 * stack.wavelength / (4 * np.pi)
    worse = float((after > before).mean())
    warnings = list(found.atmosphere.warnings)
    if worse > 0.1:
        warnings.append(f"{worse:.0%} of the pairs have more noise after the correction than before.")
    date_before, date_after = found.noise.std(axis=2)
    if (noisier := float((date_after > 1.05 * date_before).mean())) > 0.1:
        warnings.append(f"{noisier:.0%} of the dates have more noise after the correction than before.")
    moving = float(found.atmosphere.moving[found.valid].mean())
    return {
        "warnings": warnings,
        "model_sha256": model_hash,
        "device": str(found.fits["separator"].device),
        "training_grid": list(found.valid.shape),
        "clusters": [c.evidence() for c in found.clusters],
        "unclustered_share": found.noise_share,
        "network_share_of_prior": found.network_share,
        "held_out_misfit": {str(k): v for k, v in found.misfits.items()},
        "deformation_atoms": found.deformation.atoms,
        "moving_share": moving,
        "loss": {name: [round(float(v), 5) for v in fit.losses[::10]] for name, fit in found.fits.items()},
        "pairs_worse": worse,
        "noise_per_pair_mm": {
            f"{dates[i]}_{dates[j]}": [round(float(b * mm), 3), round(float(a * mm), 3)]
            for (i, j), b, a in zip(pairs, before, after, strict=True)
        },
        "noise_per_date_mm": {
            date: [round(float(b * mm), 3), round(float(a * mm), 3)]
            for date, b, a in zip(dates, date_before, date_after, strict=True)
        },
    }


def _save_networks(file: Path, fits: Mapping[str, Fit], settings: Settings) -> None:
    """Save both networks as plain tensors and numbers, so that they load with ``weights_only=True``."""
    torch.save(
        {
            "version": __version__,
            "settings": settings.as_dict(),
            "networks": {
                name: {
                    "state": {key: value.cpu() for key, value in fit.model.state_dict().items()},
                    "scale": fit.scale,
                    "seed": fit.seed,
                }
                for name, fit in fits.items()
            },
        },
        file,
    )


def _versions() -> dict[str, str]:
    packages = ("mintpy-vae", "mintpy", "torch", "numpy", "scipy", "h5py", "fishdbc", "hdbscan", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def _hash_of_options(template: Mapping[str, str]) -> str:
    """SHA-256 of MintPy's options; ours are compared by value, and comments do not matter."""
    options = sorted((key, value) for key, value in template.items() if not key.startswith(PREFIX))
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def _check_target(target: Path, project: Path) -> Path:
    """Refuse a work directory that holds something else than an earlier result; follow a link."""
    try:
        target = target.resolve() if target.is_symlink() else target
        if project.resolve().is_relative_to(target.resolve()):
            raise InputError(f"{target} is the project itself or holds it; choose another directory with -o.")
        if target.exists() and not target.is_dir():
            raise InputError(f"{target} exists and is no directory; choose another one with -o.")
        occupied = target.is_dir() and any(target.iterdir()) and not (target / RESULT).is_file()
    except OSError as error:
        raise InputError(f"{target} cannot be used: {error.strerror}. Choose another one with -o.") from error
    if occupied:
        raise InputError(f"{target} holds something else than a result of vae_correct.py; choose another one with -o.")
    return target


def _check_replaceable(target: Path) -> None:
    """The shell of a user who is in the directory that is replaced would be left in a deleted one."""
    if target.is_dir() and Path.cwd().is_relative_to(target.resolve()):
        raise InputError(f"{target} is to be replaced, but it is the current directory; run this from elsewhere.")


def _earlier(target: Path, fingerprint: Mapping[str, Any]) -> Result | None:
    """The finished result in ``target`` if it has the same input and settings."""
    try:
        content = json.loads((target / RESULT).read_text())
    except (OSError, ValueError):
        return None
    whole = (target / "inputs" / "ifgramStack.h5").is_file() and content.get("mintpy") in ("not run", "reference_date")
    if not whole or any(content.get(key) != value for key, value in fingerprint.items()):
        return None
    own = {key: content.pop(key) for key in ("status", "reason", "next_command", "warnings")}
    return Result(work_dir=target, details=content, skipped=True, **own)


def _write_result(directory: Path, result: Result) -> None:
    content = {
        "status": result.status,
        "reason": result.reason,
        "next_command": result.next_command,
        "warnings": result.warnings,
        **result.details,
    }
    part = directory / (RESULT + ".part")
    part.write_text(json.dumps(content, indent=1))
    os.replace(part, directory / RESULT)
