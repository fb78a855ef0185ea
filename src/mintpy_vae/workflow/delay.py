"""Write the correction as a delay file into the user's project; MintPy subtracts it with two lines in the template."""

from __future__ import annotations

import json
import os
import shlex
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from ..errors import InputError, NotEnoughEvidence
from ..log import ProgressLog, log_environment, stage
from ..progress import Progress, steps_of
from ..project.known_delays import find_known_delays, space_needed
from ..project.staging import NETWORKS, staged
from ..project.work_dir import check_space
from ..results.result import Result, log_result
from ..settings import Settings
from ..stack import COMPLETE, reason, write_delay_file
from .checkpoints import RememberedTraining
from .job import log_job, prepare, provenance, what_matters
from .learning import learn

NAME = "VAE.h5"
"""File that MintPy reads from ``inputs`` with ``weatherModel = VAE``; the name has to be in capitals."""
TEMPLATE_LINES = """\
mintpy.troposphericDelay.method       = pyaps
mintpy.troposphericDelay.weatherModel = VAE
"""


def write_delay(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    update: bool = False,
    progress: Progress | None = None,
    **overrides: Any,
) -> Result:
    """Write the atmosphere of each date to ``PROJECT/inputs/VAE.h5``, and nothing else.

    Parameters
    ----------
    stack_file, geometry_file, template_file, settings, progress, **overrides
        As for :func:`mintpy_vae.correct`.
    update : bool
        Keep the file if it was made from the same input and settings.

    Returns
    -------
    Result
        Its `work_dir` is the project. If the stack is left uncorrected no file is written and an earlier one is
        removed, because MintPy would continue to subtract it.

    Raises
    ------
    InputError
        With one sentence that says what is wrong, for example that VAE.h5 was not written by this tool.
    """
    start = time.time()
    job = prepare(stack_file, geometry_file, template_file, settings, **overrides)
    if job.stack.file.parent.name != "inputs":
        raise InputError(f"{job.stack.file} is not in a directory named inputs, where MintPy looks for {NAME}.")
    out = job.stack.file.with_name(NAME)
    earlier = _marks(out)
    fingerprint = job.fingerprint({})
    marks = provenance("corrected", job.stack, job.settings, fingerprint)
    marks["made_of"] = json.dumps(what_matters(fingerprint), sort_keys=True)
    result = Result("corrected", "", job.project, _next_command(job.project, template_file))
    if update and earlier.get("vae.made_of") == marks["made_of"]:
        said = json.loads(earlier.get("vae.said", "{}"))
        result.skipped, result.warnings = True, said.get("warnings", [])
        result.details = {"switched_off": said.get("switched_off", [])}
        log_result(result, "the delay file")
        return result
    timings = {"checks": time.time() - start}
    log_environment()
    log_job(job, fingerprint)
    watched = ProgressLog(progress)
    # beside the file: the networks of an interrupted run, and a lock against a concurrent run
    with staged(out.with_suffix("")) as (scratch, _):
        check_space(scratch, job.stack, *space_needed(job.stack, job.project, job.template))
        with stage("known delays", timings):
            known = find_known_delays(job.stack, job.project, job.template, scratch, inside=True)
        job = replace(job, known=known)
        result.warnings = job.warnings + known.warnings
        try:
            learned = learn(job, timings, watched, RememberedTraining(scratch / NETWORKS))
        except NotEnoughEvidence as refusal:
            out.unlink(missing_ok=True)
            result.status, result.reason = "uncorrected", str(refusal)
        else:
            result.warnings += learned.details.pop("warnings")
            marks["said"] = json.dumps({"switched_off": list(known.off), "warnings": result.warnings})
            write_delay_file(
                job.stack, out, learned.atmosphere, job.settings.max_memory, marks, steps_of(watched, f"writing {NAME}")
            )
            result.details = learned.details | fingerprint | {"timings": timings | {"total": time.time() - start}}
            result.details |= {"known_delays": known.summary, "switched_off": known.off}
    log_result(result, "the delay file")
    return result


def _marks(file: Path) -> dict[str, str]:
    """Attributes of the file of an earlier run; a file of another origin is refused."""
    if not os.path.lexists(file):
        return {}
    marks: dict[str, Any] = {}
    if file.is_file() and not file.is_symlink():  # opening a pipe would block
        try:
            with suppress(KeyError, RuntimeError), h5py.File(file, "r") as f:
                marks = dict(f["timeseries"].attrs)
        except OSError as error:
            if h5py.is_hdf5(file):  # damaged or locked: its origin is unknown
                raise InputError(
                    f"{file} cannot be read: {reason(error)}. If it is not needed, move it elsewhere."
                ) from error
    if marks.get(COMPLETE) != "yes":
        raise InputError(f"{file} was not written by vae_correct.py; move it elsewhere.")
    return marks


def _next_command(project: Path, template_file: str | os.PathLike[str] | None) -> str:
    start = "correct_troposphere" if (project / "timeseries.h5").is_file() else "modify_network"
    template = [os.path.abspath(template_file)] if template_file else []
    return shlex.join(["smallbaselineApp.py", *template, "--dir", str(project), "--start", start])
