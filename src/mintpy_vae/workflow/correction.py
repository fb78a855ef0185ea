"""Correct an interferogram stack into a MintPy directory: learn, write, run MintPy's steps, record the result."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..directory import current
from ..errors import InputError, NotEnoughEvidence
from ..log import LOG, LOGGER, ProgressLog, log_environment, log_to, stage, versions
from ..method.update import Unlike
from ..multilooking import multilooked_shape
from ..progress import Progress, Steps, steps_of
from ..project.known_delays import find_known_delays, space_needed
from ..project.staging import NETWORKS, staged
from ..project.steps import ensure_reference_point, next_command, run_to_reference_date
from ..project.templates import TROPOSPHERE, copy_templates
from ..project.work_dir import check_files, check_space, fill_work_dir
from ..results.covariance import write_covariance
from ..results.evidence import EVIDENCE, evidence_of, write_evidence
from ..results.learned import size_of_tiles
from ..results.result import MINTPY_AT_REST, RESULT, STD, MintpyState, Result, log_result, read_result, write_result
from ..settings import PREFIX, Settings
from ..stack import (
    Stack,
    file_hash,
    size_needed,
    write_corrected_stack,
    write_delay_file,
    write_std_file,
    write_velocity_std,
)
from .checkpoints import RememberedTraining, save_networks
from .job import Job, corrected_dir, dates_to_learn_from, log_job, looks_of, prepare, provenance, same_input, seen_from
from .learning import Learned, learn
from .update import COVARIANCE, MODEL, VELOCITY_STD, InFull, KeptTiles, cannot_grow, extend, remember, to_be_extended

Extending: TypeAlias = Callable[..., dict[str, Any] | None]
"""Adds new dates to an earlier result, with the parameters of ``_correct_into``; None if they are unlike the others."""


def correct(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    update: bool = False,
    only_new: bool = False,
    invert: bool = True,
    progress: Progress | None = None,
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
        Skip what is already done if `work_dir` contains the result of the same input and settings; changed options of
        MintPy are copied. If the stack only has later dates in addition, these are added to the result, as far as what
        was learned allows that.
    only_new : bool
        With `update`: raise an error where the whole stack would have to be corrected again.
    invert : bool
        Run MintPy's steps up to ``reference_date`` in `work_dir`.
    progress : callable, optional
        Called with (stage, done, total, message).

    Raises
    ------
    InputError
        With one sentence that says what is wrong. Nothing is left behind, except if MintPy failed on the corrected
        stack, which then stays in `work_dir`.
    """
    start = time.time()
    job = prepare(stack_file, geometry_file, template_file, settings, **overrides)
    project, template, stack = job.project, job.template, job.stack
    target = Path(os.path.abspath(work_dir)) if work_dir else corrected_dir(project)
    target = _check_target(target, project)
    fingerprint = job.fingerprint(read_result(target) if update else {})
    with staged(target) as (staging, publish), ExitStack() as logged:
        result = _earlier(target, fingerprint) if update else None
        new_options = result is not None and result.details.get("template_sha256") != _hash_of_options(template)
        to_invert = invert and (result is None or result.details["mintpy"] != MintpyState.DONE)
        if result is None or new_options or to_invert:
            logged.enter_context(log_to((staging if result is None else target) / LOG))
            log_environment()
            log_job(job, fingerprint)
        if result is None:
            _check_replaceable(target)
            timings = {"checks": time.time() - start}
            earlier = _to_be_extended(target, job, fingerprint, only_new) if update else None
            result = _make(staging, target, job, template_file, fingerprint, timings, ProgressLog(progress), earlier)
            result.details["template_sha256"] = _hash_of_options(template)
            write_result(staging, result)
            publish()
        elif new_options:
            _take_options(result, stack, project, template_file)
            result.details["template_sha256"] = _hash_of_options(template)
        timings = result.details["timings"]
        if invert and result.details["mintpy"] != MintpyState.DONE:
            _drive_mintpy(result, stack)
        if not result.skipped:
            with stage("report", timings):
                result.warnings += write_page(target)
            timings["total"] = time.time() - start
            write_result(target, result)
        log_result(result)
    return result


def _make(
    staging: Path,
    target: Path,
    job: Job,
    template_file: str | os.PathLike[str] | None,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    progress: Progress,
    extending: Extending | None = None,
) -> Result:
    """Fill the staging directory with everything but MintPy's own results."""
    copied, series = space_needed(job.stack, job.project, job.template)
    check_space(staging, job.stack, size_needed(job.stack) + copied + _size_of_tiles(job), 2 + series)
    template = fill_work_dir(job.stack, job.project, staging, template_file).name
    with stage("known delays", timings):
        job = replace(job, known=find_known_delays(job.stack, job.project, job.template, staging))
    if job.known.off:
        copy_templates(job.project, staging, template_file, off=job.known.off)
    try:
        added = extending and extending(staging, job, fingerprint, timings, progress)
        details = added or _correct_into(staging, job, fingerprint, timings, progress)
        status, reason = "corrected", ""
    except NotEnoughEvidence as refusal:
        status, reason = "uncorrected", str(refusal)
        details = _leave_uncorrected(staging, job.stack, job.settings, fingerprint)
        if job.template.get(TROPOSPHERE, "auto").lower() != "no":
            details["warnings"] = [
                f"{TROPOSPHERE} is no in {target}; for MintPy's own tropospheric correction go on in {job.project}."
            ]
    job.check_unchanged(fingerprint)
    details["method_warnings"] = details.pop("warnings", [])
    warnings = job.warnings + job.known.warnings + details["method_warnings"]
    details["known_delays"], details["switched_off"] = job.known.summary, job.known.off
    details["input_files"] = [seen_from(job.project, path) for path in (job.stack.file, job.stack.geometry_file)]
    details["knowledge"] = job.knowledge.summary(dates_to_learn_from(job.stack))
    details.update(fingerprint, template=template, timings=timings, versions=versions(), mintpy=MintpyState.NOT_RUN)
    return Result(status, reason, target, next_command(target, target / template), warnings, details)


def _size_of_tiles(job: Job) -> int:
    """Bytes that the tiles of a wide scene take at most."""
    factor, ratio = looks_of(job.stack, job.settings)
    rows, columns = multilooked_shape(job.stack.shape, factor)
    return size_of_tiles(len(job.stack.dates), rows * columns) if ratio > 1 else 0


def _to_be_extended(target: Path, job: Job, fingerprint: Mapping[str, Any], only_new: bool) -> Extending | None:
    """How to add new dates to the earlier result in ``target``; None if the stack has to be corrected in full."""

    def in_full(reason: Exception) -> None:
        if only_new:
            raise InputError(f"{target} cannot be extended by new dates alone, because {reason}.") from reason
        LOGGER.info("The stack is corrected in full, because %s.", reason)

    try:
        earlier = to_be_extended(target, job, fingerprint)
    except InFull as reason:
        if only_new or read_result(target):
            in_full(reason)
        return None

    def extending(staging: Path, job: Job, *how: Any) -> dict[str, Any] | None:
        try:
            return extend(staging, job, how[0], earlier, how[1], how[2])
        except Unlike as reason:
            in_full(reason)
            return None

    return extending


def _take_options(result: Result, stack: Stack, project: Path, template_file: str | os.PathLike[str] | None) -> None:
    """Update the templates of an earlier result; MintPy's own update mode detects what they change."""
    check_files(stack, project, result.work_dir, template_file)  # an error in an option leaves the result as it is
    result.skipped = False
    result.details["mintpy"] = MintpyState.PENDING
    write_result(result.work_dir, result)
    off = result.details["switched_off"]
    copy = fill_work_dir(stack, project, result.work_dir, template_file, off)
    result.details.update(template=copy.name, mintpy=MintpyState.NOT_RUN)
    result.next_command = next_command(result.work_dir, copy)


def _drive_mintpy(result: Result, stack: Stack) -> None:
    """Run MintPy's steps in the work directory; the state ``pending`` marks an interrupted run."""
    result.skipped = False
    result.details["mintpy"] = MintpyState.PENDING
    write_result(result.work_dir, result)
    template = result.work_dir / result.details["template"]
    check_space(result.work_dir, stack, 0, series=6)
    with stage("mintpy", result.details["timings"]):
        ensure_reference_point(result.work_dir, template)
        run_to_reference_date(result.work_dir, template)
    result.details["mintpy"] = MintpyState.DONE


def write_page(work_dir: Path) -> list[str]:
    """Write the report of a corrected directory. A failure is returned as a warning, so the correction is kept."""

    def write() -> None:
        from ..report import write_report  # imported here, so that a broken Plotly does not prevent the correction

        write_report(work_dir)

    return _without_failing("The report", write)


def _without_failing(what: str, write: Callable[[], None]) -> list[str]:
    """Write an optional file; return an exception as a warning, so that the correction is kept."""
    try:
        write()
    except Exception as error:
        return [f"{what} could not be written ({type(error).__name__}: {error})."]
    return []


def _correct_into(
    staging: Path,
    job: Job,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    progress: Progress,
) -> dict[str, Any]:
    """Learn, correct and write stack, delay file, its error, networks and evidence; return the details."""
    stack, settings = job.stack, job.settings

    def rows_of(what: str) -> Steps | None:
        return steps_of(progress, f"writing {what}")

    keep = KeptTiles(staging)
    trainer = RememberedTraining(staging / NETWORKS)
    learned = learn(job, timings, progress, trainer, None if cannot_grow(job) else keep)
    with stage("write", timings):
        model_file = staging / MODEL
        save_networks(model_file, learned.networks, settings)
        marks = provenance("corrected", stack, settings, fingerprint) | {"model_sha256": file_hash(model_file)}
        memory, inputs = settings.max_memory, staging / "inputs"
        write_corrected_stack(stack, inputs / "ifgramStack.h5", learned.atmosphere, marks, memory, rows_of("the stack"))
        write_delay_file(stack, inputs / "VAE.h5", learned.atmosphere, memory, marks, rows_of("VAE.h5"))
        write_std_file(stack, staging / STD, learned.std, memory, marks, rows_of(STD))
        write_velocity_std(stack, staging / VELOCITY_STD, learned.rate_std, marks)
        failed = _without_failing("The evidence", lambda: _write_evidence(staging, learned))
        remembered: dict[str, Any] = {}
        failed += _without_failing(
            "What new dates need", lambda: remembered.update(remember(staging, job, learned, keep))
        )
    warnings = learned.details["warnings"] + failed
    return learned.details | remembered | {"model_sha256": marks["model_sha256"], "warnings": warnings}


def _write_evidence(staging: Path, learned: Learned) -> None:
    """Write the evidence, and the covariance of what is left, which follows from it."""
    data = learned.data
    evidence = evidence_of(learned.found, data.observations, learned.noise, data.factor, learned.stack)
    files = (staging / EVIDENCE, staging / COVARIANCE)
    try:
        write_evidence(files[0], evidence)
        write_covariance(files[1], evidence.dates, evidence.left, evidence.pixel / 1000)
    except BaseException:
        for file in files:  # an incomplete file would look complete
            file.unlink(missing_ok=True)
        raise


def _leave_uncorrected(
    staging: Path, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the stack with the phase of the input, without a delay file."""
    marks = provenance("uncorrected", stack, settings, fingerprint)

    def nothing(rows: slice) -> NDArray[np.float32]:
        raise AssertionError("an uncorrected stack is a copy")

    write_corrected_stack(stack, staging / "inputs" / "ifgramStack.h5", nothing, marks, settings.max_memory)
    return {}


def _hash_of_options(template: Mapping[str, str]) -> str:
    """SHA-256 of MintPy's options; the ``vae.*`` options are compared by value, and comments do not matter."""
    options = sorted((key, value) for key, value in template.items() if not key.startswith(PREFIX))
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def _check_target(target: Path, project: Path) -> Path:
    """Refuse a work directory that contains something other than an earlier result; follow a link."""
    try:
        target = target.resolve() if target.is_symlink() else target
        if project.resolve().is_relative_to(target.resolve()):
            raise InputError(f"{target} is the project itself or contains it; choose another directory with -o.")
        if target.exists() and not target.is_dir():
            raise InputError(f"{target} exists and is not a directory; choose another one with -o.")
        if target.is_mount():
            raise InputError(
                f"{target} is the root of a file system and cannot be replaced; choose a directory in it with -o."
            )
        occupied = target.is_dir() and any(target.iterdir()) and not (target / RESULT).is_file()
    except (OSError, RuntimeError) as error:  # up to Python 3.12, circular links raise a RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{target} cannot be used: {reason}. Choose another one with -o.") from error
    if occupied:
        raise InputError(
            f"{target} contains something other than a result of vae_correct.py; choose another one with -o."
        )
    return target


def _check_replaceable(target: Path) -> None:
    """Refuse to replace the current directory: the user's shell would be left in a deleted directory."""
    here = current()
    if here and target.is_dir() and here.is_relative_to(target.resolve()):
        raise InputError(f"{target} would be replaced, but is the current directory; run this from another directory.")


def _earlier(target: Path, fingerprint: Mapping[str, Any]) -> Result | None:
    """Return the finished result in ``target`` if it has the same input and settings."""
    content = read_result(target)
    whole = (target / "inputs" / "ifgramStack.h5").is_file() and content.get("mintpy") in MINTPY_AT_REST
    if not whole or not same_input(content, fingerprint):
        return None
    own = {key: content.pop(key) for key in ("status", "reason", "next_command", "warnings")}
    return Result(work_dir=target, details=content, skipped=True, **own)
