"""The job: from an interferogram stack to a corrected MintPy directory. The method is in :mod:`.separation`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import __version__, mintpy_app
from .correction import FullResolution
from .errors import InputError, NotEnoughEvidence
from .knowledge import Knowledge
from .knowledge_input import given_files, read_knowledge
from .network import islands
from .separation import Array, Report, Separation, separate
from .settings import PREFIX, Settings
from .stack import (
    Stack,
    content_hash,
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
        Skip what is done when `work_dir` holds the result of the same input and settings; other options of MintPy are
        taken over.
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
    job = prepare(stack_file, geometry_file, template_file, settings, **overrides)
    project, template, stack = job.project, job.template, job.stack
    target = Path(os.path.abspath(work_dir)) if work_dir else corrected_dir(project)
    target = _check_target(target, project)
    fingerprint = job.fingerprint(_read_result(target) if update else {})
    with staged(target) as (staging, publish):
        result = _earlier(target, fingerprint) if update else None
        if result is None:
            _check_replaceable(target)
            timings = {"checks": time.time() - start}
            result = _make(staging, target, job, template_file, fingerprint, timings, report)
            result.details["template_sha256"] = _hash_of_options(template)
            _write_result(staging, result)
            publish()
        elif result.details.get("template_sha256") != _hash_of_options(template):
            _take_options(result, stack, project, template_file)
            result.details["template_sha256"] = _hash_of_options(template)
        if invert and result.details["mintpy"] != "reference_date":
            _drive_mintpy(result)
        if not result.skipped:
            result.details["timings"]["total"] = time.time() - start
            _write_result(target, result)
    return result


@dataclass(frozen=True)
class Job:
    """What is to be corrected, checked.

    Attributes
    ----------
    project : Path
        The directory that holds ``inputs/``.
    template : dict
        MintPy's options and ours.
    settings : Settings
    stack : Stack
    knowledge : Knowledge
    """

    project: Path
    template: dict[str, str]
    settings: Settings
    stack: Stack
    knowledge: Knowledge

    def of_island(self, keep: NDArray[np.bool_]) -> Job:
        """The same with fewer pairs kept."""
        stack = replace(self.stack, keep=keep)
        dates, looks = _dates_to_learn_from(stack), _looks(stack, self.settings)
        return replace(self, stack=stack, knowledge=read_knowledge(self.template, self.settings, stack, dates, looks))

    def fingerprint(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """What decides the correction.

        Parameters
        ----------
        earlier : mapping
            Fingerprint of an earlier run: files that it knows by path, size and time are not read again.
        """
        files = {"stack": (self.stack.file, content_hash), "geometry": (self.stack.geometry_file, file_hash)}
        known: dict[str, Any] = {}
        for name, (path, digest) in files.items():
            state = f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"
            same = earlier.get(f"{name}_state") == state and f"{name}_sha256" in earlier
            known[f"{name}_state"] = state
            known[f"{name}_sha256"] = earlier[f"{name}_sha256"] if same else digest(path)
        return {
            **known,
            "knowledge_sha256": {key: file_hash(path) for key, path in given_files(self.settings, self.stack).items()},
            "functions": {key: value for key, value in self.template.items() if key.startswith("mintpy.timeFunc.")},
            "settings": self.settings.as_dict(),
            "dataset": self.stack.phase_name,
            "version": __version__,
        }


def prepare(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Job:
    """Read templates and stack, and check them; parameters as for :func:`correct`."""
    path = Path(os.path.abspath(stack_file))
    project = project_of(path)
    template = mintpy_app.read_templates(project, template_file)
    settings = settings or Settings.from_template(template, **overrides)
    choose_device(settings.device)  # a missing GPU shows now, not after minutes of reading
    stack = open_stack(path, geometry_file, template)
    knowledge = read_knowledge(template, settings, stack, _dates_to_learn_from(stack), _looks(stack, settings))
    return Job(project, template, settings, stack, knowledge)


def same_input(earlier: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of the same contents; where the files lie does not matter."""
    return all(earlier.get(key) == value for key, value in fingerprint.items() if not key.endswith("_state"))


def corrected_dir(project: Path) -> Path:
    """Where the corrected directory of a project is, unless another place is asked for."""
    return project.with_name(project.name + "_vae")


def _make(
    staging: Path,
    target: Path,
    job: Job,
    template_file: str | os.PathLike[str] | None,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    report: Report | None,
) -> Result:
    """Fill the staging directory with everything but MintPy's own results."""
    template = mintpy_app.fill_work_dir(job.stack, job.project, staging, template_file).name
    try:
        details = _correct_into(staging, job, fingerprint, timings, report)
        status, reason = "corrected", ""
    except NotEnoughEvidence as refusal:
        status, reason = "uncorrected", str(refusal)
        details = _leave_uncorrected(staging, job.stack, job.settings, fingerprint)
    warnings = job.knowledge.warnings + details.pop("warnings", [])
    details["knowledge"] = job.knowledge.summary(_dates_to_learn_from(job.stack))
    details.update(fingerprint, template=template, timings=timings, versions=_versions(), mintpy="not run")
    return Result(status, reason, target, mintpy_app.next_command(target, target / template), warnings, details)


def _take_options(result: Result, stack: Stack, project: Path, template_file: str | os.PathLike[str] | None) -> None:
    """Bring the templates of an earlier result up to date; MintPy's own update mode finds what they change."""
    result.skipped = False
    result.details["mintpy"] = "pending"
    _write_result(result.work_dir, result)
    copy = mintpy_app.fill_work_dir(stack, project, result.work_dir, template_file)
    result.details.update(template=copy.name, mintpy="not run")
    result.next_command = mintpy_app.next_command(result.work_dir, copy)


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
class Learned:
    """The atmosphere of a stack, and what there is to say of it."""

    atmosphere: Callable[[slice], NDArray[np.float32]]
    fits: dict[str, Fit]
    details: dict[str, Any]


def learn(job: Job, timings: dict[str, float], report: Report | None = None) -> Learned:
    """Read the stack and separate its atmosphere.

    Where no kept pair joins some dates with the others, each such island of the network is a stack of its own, with all
    other pairs dropped; what is too small for it stays as it is.

    Raises
    ------
    NotEnoughEvidence
        When the data do not allow it, on no island.
    """
    stack = job.stack
    label = islands(stack.pairs[stack.keep], len(stack.dates))
    sizes = Counter(label[stack.pairs[stack.keep][:, 0]].tolist())
    if len(sizes) == 1:
        return _learn(job, timings, report)
    learned, left = [], []
    for k, _ in sizes.most_common():
        part = stack.keep & (label[stack.pairs] == k).all(axis=1)
        try:
            learned.append(_learn(job.of_island(part), timings, report))
        except NotEnoughEvidence as refusal:
            dates = [date for date, own in zip(stack.dates, label, strict=True) if own == k]
            left.append((f"The dates {dates[0]} to {dates[-1]} were left uncorrected, because {refusal}.", refusal))
    if not learned:
        raise left[0][1]
    return _joined(learned, [f"The network has {len(sizes)} islands that no pair joins.", *(text for text, _ in left)])


def _joined(learned: list[Learned], warnings: list[str]) -> Learned:
    """The islands of a network as one; details that are numbers are those of the first, which has most pairs."""

    def atmosphere(rows: slice) -> NDArray[np.float32]:
        return np.asarray(sum(island.atmosphere(rows) for island in learned))

    details = dict(learned[0].details)
    for other in learned[1:]:
        for key, value in other.details.items():
            if isinstance(value, list) and key != "training_grid":
                details[key] = details[key] + value
            elif key.startswith("noise_per_"):
                details[key] = details[key] | value
    details["warnings"] = warnings + details["warnings"]
    fits = {f"{name}_{k}" if k else name: fit for k, island in enumerate(learned) for name, fit in island.fits.items()}
    return Learned(atmosphere, fits, details)


def _learn(job: Job, timings: dict[str, float], report: Report | None) -> Learned:
    """The same for a network in one piece."""
    begin = time.time()
    stack, settings, knowledge = job.stack, job.settings, job.knowledge
    factor = _looks(stack, settings)
    phase, weight = pool_pairs(stack, factor, settings.max_memory)
    timings["read"] = timings.get("read", 0) + time.time() - begin

    begin = time.time()
    kept = stack.keep
    used, pairs = np.unique(stack.pairs[kept], return_inverse=True)
    pairs = pairs.reshape(-1, 2)  # numpy 2.0 and others disagree on the shape of the inverse
    dates, height = _dates_to_learn_from(stack), pool_map(stack.height, factor)
    found = separate(phase[kept], weight[kept], pairs, dates, height, settings, report, knowledge=knowledge)
    before, after = _noise_of_pairs(found, pairs)
    if np.median(after) > np.median(before):
        raise NotEnoughEvidence("the correction would add noise to most pairs")
    timings["separate"] = timings.get("separate", 0) + time.time() - begin
    full = FullResolution(found.atmosphere, stack.height - found.mean_height, factor)

    def atmosphere(rows: slice) -> NDArray[np.float32]:
        # dates that no kept pair reaches keep the mean atmosphere of all dates, which is 0
        values = np.zeros((len(stack.dates), rows.stop - rows.start, stack.shape[1]), dtype=np.float32)
        values[used] = full(rows)
        return values

    details = _details(found, dates, pairs, before, after, stack)
    details["warnings"] += _not_searched(knowledge, found)
    return Learned(atmosphere, found.fits, details)


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


def _correct_into(
    staging: Path,
    job: Job,
    fingerprint: Mapping[str, Any],
    timings: dict[str, float],
    report: Report | None,
) -> dict[str, Any]:
    """Learn, correct and write stack, delay file and networks into the staging directory; return the details."""
    stack, settings = job.stack, job.settings
    learned = learn(job, timings, report)
    begin = time.time()
    model_file = staging / "vae_model.pt"
    _save_networks(model_file, learned.fits, settings)
    marks = provenance("corrected", stack, settings, fingerprint) | {"model_sha256": file_hash(model_file)}
    memory = settings.max_memory
    write_corrected_stack(stack, staging / "inputs" / "ifgramStack.h5", learned.atmosphere, marks, memory)
    write_delay_file(stack, staging / "inputs" / "VAE.h5", learned.atmosphere, memory, marks)
    timings["write"] = time.time() - begin
    return learned.details | {"model_sha256": marks["model_sha256"]}


def _leave_uncorrected(
    staging: Path, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the stack with the phase of the input, and no delay file."""
    marks = provenance("uncorrected", stack, settings, fingerprint)

    def nothing(rows: slice) -> NDArray[np.float32]:
        raise AssertionError("an uncorrected stack is a copy")

    write_corrected_stack(stack, staging / "inputs" / "ifgramStack.h5", nothing, marks, settings.max_memory)
    return {}


def provenance(status: str, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """Attributes that say what a file was made of."""
    return {
        "status": status,
        "version": __version__,
        "dataset": stack.phase_name,
        "stack_sha256": str(fingerprint["stack_sha256"]),
        "geometry_sha256": str(fingerprint["geometry_sha256"]),
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
    content = _read_result(target)
    whole = (target / "inputs" / "ifgramStack.h5").is_file() and content.get("mintpy") in ("not run", "reference_date")
    if not whole or not same_input(content, fingerprint):
        return None
    own = {key: content.pop(key) for key in ("status", "reason", "next_command", "warnings")}
    return Result(work_dir=target, details=content, skipped=True, **own)


def _read_result(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / RESULT).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
