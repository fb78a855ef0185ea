"""A job: templates, stack and prior information, read and checked, with the fingerprint that identifies its result."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import InputError
from ..log import LOGGER
from ..method.bells import FULL_WIDTH
from ..method.knowledge import Knowledge
from ..method.observations import looks
from ..method.training import choose_device
from ..project.knowledge_input import given_files, read_knowledge
from ..project.known_delays import NOTHING, KnownDelays, inputs, options
from ..project.network_options import network_options, pairs_kept
from ..project.prior_delay import PriorDelay, find_prior_delay
from ..project.templates import options_set, read_templates
from ..settings import Settings
from ..stack import Stack, content_hash, file_hash, files_of, layer_hashes, open_stack, project_of
from ..stack.geometry import pixel_size


@dataclass(frozen=True)
class Job:
    """The checked input of one correction.

    Attributes
    ----------
    project : Path
        The directory that contains ``inputs/``.
    template : dict
        Options of MintPy and ``vae.*`` options.
    settings : Settings
    stack : Stack
    knowledge : Knowledge
    known : KnownDelays
        Delays that MintPy will subtract itself.
    prior : PriorDelay or None
        Delay of a weather model.
    prior_warnings : list of str
        About delay files that are not used, and dates without a delay.
    hashed : dict
        What :meth:`layers` has found, by the state of the file.
    """

    project: Path
    template: dict[str, str]
    settings: Settings
    stack: Stack
    knowledge: Knowledge
    known: KnownDelays = NOTHING
    prior: PriorDelay | None = None
    prior_warnings: list[str] = field(default_factory=list)
    hashed: dict[str, dict[str, list[str]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the stack and the prior information."""
        return self.stack.warnings + self.knowledge.warnings + self.prior_warnings

    def of_island(self, keep: NDArray[np.bool_]) -> Job:
        """The same job for one island of the network: only the pairs ``keep`` are kept."""
        stack = replace(self.stack, keep=keep)
        return replace(self, stack=stack, knowledge=read_prior_information(self.template, self.settings, stack))

    def fingerprint(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that determines the correction, for comparison with other runs.

        Parameters
        ----------
        earlier : mapping
            Fingerprint of an earlier run; files with the same path, size and time are not read again.
        """
        known: dict[str, Any] = {}
        for name, (path, digest) in self._files().items():
            state = _state(path)
            same = earlier.get(f"{name}_state") == state and f"{name}_sha256" in earlier
            known[f"{name}_state"] = state
            known[f"{name}_sha256"] = earlier[f"{name}_sha256"] if same else digest(path)
        return {
            **known,
            "knowledge_sha256": {key: file_hash(path) for key, path in given_files(self.settings, self.stack).items()},
            "functions": time_functions(self.template),
            "delay_options": [options(self.template), sorted(self._files())],
            "network": network_options(self.template),
            "settings": self.settings.as_dict(),
            "dataset": self.stack.phase_name,
            "version": __version__,
        }

    def layers(self) -> dict[str, list[str]]:
        """SHA-256 of each layer of the stack, see :func:`~mintpy_vae.stack.layer_hashes`; it is read once."""
        state = _state(self.stack.file)
        if state not in self.hashed:
            self.hashed[state] = layer_hashes(self.stack.file)
        return self.hashed[state]

    def _files(self) -> dict[str, tuple[Path, Callable[[Path], str]]]:
        """Files that determine the correction, each with the function that computes its hash."""
        own: dict[str, tuple[Path, Callable[[Path], str]]]
        own = {
            "stack": (self.stack.file, lambda path: content_hash(path, self.layers())),
            "geometry": (self.stack.geometry_file, file_hash),
        }
        if self.prior is not None:
            own["prior_delay"] = self.prior.file, file_hash
        return own | inputs(self.stack, self.project, self.template)

    def check_unchanged(self, fingerprint: Mapping[str, Any]) -> None:
        """Raise an error if another program has changed a file since its fingerprint was taken."""
        for name, (path, _) in self._files().items():
            if not path.is_file() or _state(path) != fingerprint.get(f"{name}_state"):
                raise InputError(
                    f"{path} was changed by another program during the run; run this again when that program has ended."
                )


def _state(path: Path) -> str:
    """Path, size and time of a file, and of the other files that contain values of its datasets."""
    return " ".join(f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files_of(path))


def prepare(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Job:
    """Read templates and stack, and check them; parameters as for :func:`mintpy_vae.correct`."""
    path = Path(os.path.abspath(stack_file))
    project = project_of(path)
    template = read_templates(project, template_file)
    settings = settings or Settings.from_template(template, **overrides)
    choose_device(settings.device)  # report a missing GPU now, not after minutes of reading
    stack = open_with_network(path, geometry_file, template)
    job = Job(project, template, settings, stack, read_prior_information(template, settings, stack))
    return with_prior(job)


def with_prior(job: Job) -> Job:
    """Add the delay of a weather model to the job, if there is one."""
    prior, warnings = find_prior_delay(job.template, job.settings, job.stack)
    return replace(job, prior=prior, prior_warnings=warnings)


def open_with_network(
    stack_file: Path, geometry_file: str | os.PathLike[str] | None, template: Mapping[str, str]
) -> Stack:
    """Open a stack and drop the pairs that ``mintpy.network.*`` of the template drop."""
    stack = open_stack(stack_file, geometry_file, template)
    keep = pairs_kept(stack, project_of(stack_file), template)
    if dropped := int((stack.keep & ~keep).sum()):
        LOGGER.info("The template's mintpy.network.* drop %d pairs; the method does not use them.", dropped)
    if not keep.any():
        raise InputError(f"{stack_file}: mintpy.network.* and the pairs dropped before (dropIfgram) leave no pair.")
    return replace(stack, keep=keep)


def read_prior_information(
    template: Mapping[str, str], settings: Settings, stack: Stack, factor: float | None = None
) -> Knowledge:
    """Read the user's prior information onto the grid with ``factor`` looks, by default that of the whole scene."""
    own = factor or math.prod(looks_of(stack, settings))
    return read_knowledge(template, settings, stack, dates_to_learn_from(stack), own)


def seen_from(project: Path, file: Path) -> str:
    """Path of a file, relative to the project if it is inside."""
    return str(file.relative_to(project)) if file.is_relative_to(project) else str(file)


def time_functions(template: Mapping[str, str]) -> dict[str, str]:
    """Options ``mintpy.timeFunc.*`` that a template sets."""
    return options_set(template, "mintpy.timeFunc.")


def looks_of(stack: Stack, settings: Settings) -> tuple[float, int]:
    """Stack pixels per cell, and cells per pixel of the whole scene's grid, along both axes; see :func:`looks`."""
    return looks(stack.shape, pixel_size(stack.attributes), settings.resolution)


def full_width_km(stack: Stack, factor: float, width: float) -> float:
    """Full width at half maximum, km, of a bell with this standard deviation in pixels of so many looks."""
    return 1e-3 * FULL_WIDTH * width * factor * float(np.sqrt(np.prod(pixel_size(stack.attributes))))


def dates_to_learn_from(stack: Stack) -> list[str]:
    """Dates of at least one kept pair."""
    return [stack.dates[k] for k in np.unique(stack.pairs[stack.keep])]


def same_input(earlier: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> bool:
    """Whether an earlier run had the input of this fingerprint."""
    before = what_matters(earlier)
    return all(before.get(key) == value for key, value in what_matters(fingerprint).items())


def what_matters(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint without what makes no difference to the result: the paths of files, and the memory to use."""
    kept = {key: value for key, value in fingerprint.items() if not key.endswith("_state")}
    if "settings" in kept:
        kept["settings"] = {key: value for key, value in kept["settings"].items() if key != "vae.maxMemory"}
    return kept


def corrected_dir(project: Path) -> Path:
    """Default corrected directory of a project."""
    if not project.name:
        raise InputError(f"{project} is the root of the file system; choose a directory with -o.")
    return project.with_name(project.name + "_vae")


def provenance(status: str, stack: Stack, settings: Settings, fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """Attributes that record the input and the settings of a file."""
    return {
        "status": status,
        "version": __version__,
        "dataset": stack.phase_name,
        "stack_sha256": str(fingerprint["stack_sha256"]),
        "geometry_sha256": str(fingerprint["geometry_sha256"]),
        **{key: str(value) for key, value in settings.as_dict().items()},
    }


def log_job(job: Job, fingerprint: Mapping[str, Any]) -> None:
    """Log the stack, the prior information and the settings."""
    stack, settings = job.stack, job.settings
    span = f"{len(stack.dates)} dates, {stack.dates[0]} to {stack.dates[-1]}"
    size = " x ".join(map(str, stack.shape))
    LOGGER.debug("stack: %s, dataset %s, SHA-256 %s", stack.file, stack.phase_name, fingerprint["stack_sha256"])
    LOGGER.debug("stack: %d pairs, %d kept, %s, %s pixels", len(stack.pairs), int(stack.keep.sum()), span, size)
    LOGGER.debug("geometry: %s, SHA-256 %s", stack.geometry_file, fingerprint["geometry_sha256"])
    given = {key: fingerprint[key] for key in ("knowledge_sha256", "functions") if fingerprint[key]}
    LOGGER.debug("prior information: %s", given or "nothing")
    LOGGER.debug("settings: %s", ", ".join(f"{key} = {value}" for key, value in settings.as_dict().items()))
    seeds = [settings.seed + k for k in range(settings.num_seeds)]
    LOGGER.debug("seeds: %s; device: %s; workers: %s", seeds, choose_device(settings.device), stack.compute)
