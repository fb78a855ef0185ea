"""The job: from an interferogram stack to a corrected MintPy directory. The method is in :mod:`.separation`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
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
from .separation import Array, Report, Separation, separate
from .settings import Settings
from .stack import Stack, file_hash, open_stack, pool_map, pool_pairs, write_corrected_stack, write_delay_file
from .training import Fit

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
    """

    status: str
    reason: str
    work_dir: Path
    next_command: str
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


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
        Skip when `work_dir` holds the result of the same input and settings.
    invert : bool
        Drive MintPy's steps up to ``reference_date`` in `work_dir`.
    report : callable, optional
        Called with (stage, done, total, message).

    Raises
    ------
    InputError
        With one sentence that says what is wrong; nothing is left behind.
    """
    start = time.time()
    stack_path = Path(os.path.abspath(stack_file))
    project = stack_path.parent.parent if stack_path.parent.name == "inputs" else stack_path.parent
    target = Path(os.path.abspath(work_dir)) if work_dir else project.with_name(project.name + "_vae")
    template = mintpy_app.read_templates(project, template_file)
    settings = settings or Settings.from_template(template, **overrides)
    stack = open_stack(stack_path, geometry_file, template)
    _check_target(target, project)
    fingerprint = {
        "stack_sha256": file_hash(stack.file),
        "geometry_sha256": file_hash(stack.geometry_file),
        "settings": settings.as_dict(),
        "dataset": stack.phase_name,
        "version": __version__,
    }
    if update and (earlier := _earlier(target, fingerprint)):
        return earlier
    staging = target.with_name(target.name + ".part")
    try:
        _make_staging(staging, target)
        copied = mintpy_app.fill_work_dir(stack, project, staging, template_file)
        timings = {"checks": time.time() - start}
        try:
            details = _correct_into(staging, stack, settings, fingerprint, timings, report)
            status, reason = "corrected", ""
        except NotEnoughEvidence as refusal:
            status, reason = "uncorrected", str(refusal)
            details = _leave_uncorrected(staging, stack, settings, fingerprint)
        command = mintpy_app.next_command(target, target / copied.name)
        result = Result(status, reason, target, command, details.pop("warnings", []), details)
        details.update(fingerprint, timings=timings, versions=_versions(), mintpy="pending")
        _write_result(staging, result)
        _publish(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if invert:
        begin = time.time()
        mintpy_app.ensure_reference_point(target, target / copied.name)
        mintpy_app.run_to_reference_date(target, target / copied.name)
        timings["mintpy"] = time.time() - begin
        details["mintpy"] = "reference_date"
    timings["total"] = time.time() - start
    _write_result(target, result)
    return result


def _correct_into(
    staging: Path,
    stack: Stack,
    settings: Settings,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    report: Report | None,
) -> dict[str, Any]:
    """Learn, correct and write stack, delay file and networks into the staging directory; return the details."""
    begin = time.time()
    factor = max(1, int(np.ceil(np.sqrt(stack.shape[0] * stack.shape[1] / settings.coarse_pixels))))
    phase, weight = pool_pairs(stack, factor, settings.max_memory)
    timings["read"] = time.time() - begin

    begin = time.time()
    kept = stack.keep
    used, pairs = np.unique(stack.pairs[kept], return_inverse=True)
    dates = [stack.dates[k] for k in used]
    found = separate(
        phase[kept], weight[kept], pairs.reshape(-1, 2), dates, pool_map(stack.height, factor), settings, report
    )
    before, after = _noise_of_pairs(found, pairs.reshape(-1, 2))
    if np.median(after) > np.median(before):
        raise NotEnoughEvidence("the correction would add noise to most pairs")
    timings["separate"] = time.time() - begin

    begin = time.time()
    full = FullResolution(found.atmosphere, stack.height - found.mean_height, factor)
    model_file = staging / "vae_model.pt"
    _save_networks(model_file, found.fits, settings)

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
    return _details(found, dates, pairs.reshape(-1, 2), before, after, stack, provenance["model_sha256"])


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
        "input_MODIFICATION_TIME": stack.attributes.get("MODIFICATION_TIME", "none"),
        **{key: str(value) for key, value in settings.as_dict().items()},
    }


def _noise_of_pairs(found: Separation, pairs: NDArray[np.integer]) -> tuple[Array, Array]:
    """Spatial standard deviation of each pair before and after, (pairs,) radians, on the training grid."""
    first, second = pairs.T
    return (
        (found.series[second] - found.series[first]).std(axis=1),
        (found.corrected[second] - found.corrected[first]).std(axis=1),
    )


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
    moving = float(found.atmosphere.moving[found.valid].mean())
    if moving > 0.5:
        warnings.append(f"Motion was found on {moving:.0%} of the scene; the atmosphere there comes from far away.")
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
            for date, b, a in zip(dates, found.series.std(axis=1), found.corrected.std(axis=1), strict=True)
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


def _check_target(target: Path, project: Path) -> None:
    """Refuse a work directory that holds something else than an earlier result."""
    if target == project:
        raise InputError(f"{target} is the project itself; choose another directory with -o.")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} exists and is no directory; choose another one with -o.")
    if target.is_dir() and any(target.iterdir()) and not (target / RESULT).is_file():
        raise InputError(f"{target} holds something else than a result of vae_correct.py; choose another one with -o.")


def _earlier(target: Path, fingerprint: Mapping[str, Any]) -> Result | None:
    """The finished result in ``target`` if it has the same input and settings."""
    try:
        content = json.loads((target / RESULT).read_text())
    except (OSError, ValueError):
        return None
    whole = (target / "inputs" / "ifgramStack.h5").is_file() and content.get("mintpy") != "pending"
    if not whole or any(content.get(key) != value for key, value in fingerprint.items()):
        return None
    return Result(content["status"], content["reason"], target, content["next_command"], content["warnings"], content)


def _make_staging(staging: Path, target: Path) -> None:
    try:
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
    except OSError as error:
        reason = f"{target.parent} cannot be written to: {error.strerror}. Choose another place with -o."
        raise InputError(reason) from error


def _publish(staging: Path, target: Path) -> None:
    """Put the finished directory in place; an earlier result goes only when the new one is whole."""
    old = target.with_name(target.name + ".old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    os.replace(staging, target)
    shutil.rmtree(old, ignore_errors=True)


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
