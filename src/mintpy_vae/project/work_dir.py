"""Fill the corrected directory with the files that MintPy needs from the original project, which is only read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from ..errors import InputError
from ..log import LOGGER
from ..stack import Stack, copy_file
from ..stack.geometry import geometry_name
from .templates import copy_templates, is_on, read_templates

__all__ = ["check_files", "check_space", "fill_work_dir", "fits"]

# Only these results of the original project stay valid, because the correction does not change coherence and masks.
_AUXILIARY = ("avgSpatialCoh.h5", "maskConnComp.h5", "waterMask.h5")
_SMALL_FILES = 10_000_000  # bytes: networks, evidence, report; MintPy's maps and the headers of its files
_RESULTS = ("maskTempCoh.h5", "temporalCoherence.h5")

_Path = str | os.PathLike[str]


def fits(path: _Path, stack: Stack) -> bool:
    """Whether a file of MintPy is on the stack's grid, for example not on that of a larger scene.

    Files without information about their grid fit, and so do files in other coordinates (lookup tables).
    """
    own = stack.attributes
    try:
        with h5py.File(path) as f:
            other = {key: _number(f.attrs.get(key)) for key in ("LENGTH", "WIDTH", "Y_FIRST", "X_FIRST")}
            apart = ("Y_FIRST" in f.attrs) != ("Y_FIRST" in own)
    except OSError:
        return True
    if apart or other["LENGTH"] is None or other["WIDTH"] is None:
        return True
    if (other["LENGTH"], other["WIDTH"]) != stack.shape:
        return False
    for key, step in (("Y_FIRST", "Y_STEP"), ("X_FIRST", "X_STEP")):
        there, here, pixel = other[key], _number(own.get(key)), _number(own.get(step))
        if there is not None and here is not None and pixel is not None and abs(there - here) > abs(pixel) / 2:
            return False
    return True


def fill_work_dir(
    stack: Stack, project_dir: _Path, work_dir: _Path, template_file: _Path | None = None, off: Sequence[str] = ()
) -> Path:
    """Copy to `work_dir` everything that MintPy needs there except the stack itself.

    These are the geometry files (with the lookup table), masks and average coherence if present, files that the
    template names (if they are on the stack's grid), and the templates. In these, MintPy's tropospheric correction is
    switched off, because it is done, and so is a forced reload, which would overwrite the corrected stack. Links are
    not used.

    Parameters
    ----------
    stack : Stack
    project_dir : path
        The original project, read only.
    work_dir : path
        Created if it does not exist.
    template_file : path, optional
        The custom template.
    off : sequence of str
        Options of steps that would fail here, to be set to ``no``.

    Returns
    -------
    template : Path
        Copy of the custom template in `work_dir`, of ``smallbaselineApp.cfg`` if there is no other, or a new template
        if there is none.

    Raises
    ------
    InputError
        If a file cannot be copied, a file that the template names does not fit, or the directory is unsuitable.
    """
    project, work = Path(os.path.abspath(project_dir)), Path(os.path.abspath(work_dir))
    copied, left = check_files(stack, project, work, template_file)
    if left:
        LOGGER.warning("%s: not copied, because it is not on the grid of %s.", ", ".join(left), stack.file.name)
    try:
        (work / "inputs").mkdir(parents=True, exist_ok=True)
        for geometry in sorted(stack.file.parent.glob("geometry*.h5")):
            if fits(geometry, stack):
                _copy(geometry, work / "inputs" / geometry.name)
        _copy(stack.geometry_file, work / "inputs" / geometry_name(stack.attributes))
        for name in copied:
            _copy(project / name, work / name)
    except OSError as error:
        raise InputError(f"{work} could not be filled: {error.strerror or error} ({error.filename}).") from error
    processor = stack.attributes.get("PROCESSOR")
    new = f"mintpy.load.processor = {processor}\n" if processor else ""
    return copy_templates(project, work, template_file, new, off)


def check_files(
    stack: Stack, project: Path, work: Path, template_file: _Path | None = None
) -> tuple[list[str], list[str]]:
    """The checks of :func:`fill_work_dir`; files that it copies besides geometry and templates, and those it leaves."""
    if work.exists() and project.exists() and work.samefile(project):
        raise InputError(f"{work} is the original project; choose another directory for the corrected one.")
    options = read_templates(project, template_file)
    _check_place(work, stack, options)
    _check_reference(stack, options)
    return _files_that_fit(options, project, stack)


def check_space(work_dir: _Path, stack: Stack, size: int, series: int) -> None:
    """Refuse a disk that is too small at the start; HDF5 could crash the process later.

    Parameters
    ----------
    work_dir : path
    stack : Stack
    size : int
        Bytes that will be written in addition to the time series.
    series : int
        Number of time series with all dates of the stack that will be written.

    Raises
    ------
    InputError
        With the space that is needed and the space that is free.
    """
    work = Path(os.path.abspath(work_dir))
    needed = size + 4 * series * len(stack.dates) * stack.shape[0] * stack.shape[1] + _SMALL_FILES
    free = shutil.disk_usage(work).free
    if needed > free:
        raise InputError(
            f"{work} needs about {needed / 1e9:.3g} GB, but its disk has only {free / 1e9:.3g} GB free; make room, or "
            "choose another directory with -o."
        )


def _check_place(work: Path, stack: Stack, options: Mapping[str, str]) -> None:
    """Refuse a path with ``geo``, in which MintPy would look for geocoded files (``smallbaselineApp.py:884``)."""
    wants_hdfeos5 = options.get("mintpy.save.hdfEos5", "auto").lower() == "yes"
    if wants_hdfeos5 and "Y_FIRST" in stack.attributes and "geo" in str(work):
        raise InputError(
            f"The path {work} contains the letters 'geo', which make MintPy's step hdfeos5 fail on a geocoded stack; "
            "choose another directory or set mintpy.save.hdfEos5 = no."
        )


def _check_reference(stack: Stack, options: Mapping[str, str]) -> None:
    """Refuse a reference point outside the scene, for example that of a larger scene; MintPy would stop at it later."""
    if not is_on(options, key := "mintpy.reference.yx"):
        return
    point = [_number(text) for text in re.split(r"[\s,;]+", options[key].strip("[] "))]
    inside = [value is not None and 0 <= value < size for value, size in zip(point, stack.shape, strict=False)]
    if not all(inside):
        raise InputError(
            f"{key} = {options[key]} lies outside the scene of {stack.shape[0]} x {stack.shape[1]} pixels; "
            "choose another one."
        )


def _files_that_fit(options: Mapping[str, str], project: Path, stack: Stack) -> tuple[list[str], list[str]]:
    """Files named by the template that are on the stack's grid, and others, which MintPy makes or which are refused."""
    named = dict(_named_files(options, project))
    chosen: list[str] = []
    left: list[str] = []
    for name in dict.fromkeys((*_AUXILIARY, *named)):
        if (project / name).is_file():
            (chosen if fits(project / name, stack) else left).append(name)
    made = [name for name in _AUXILIARY if name != "waterMask.h5" or stack.land is not None]
    for name in left:
        if name in named and name not in made:
            raise InputError(
                f"{named[name]} = {name} is not on the same grid as {stack.file.name}; cut it with subset.py, or set "
                "the option to auto."
            )
    return chosen, left


def _named_files(options: Mapping[str, str], project: Path) -> Iterator[tuple[str, str]]:
    """Files inside the project that the template names by a relative path (masks, lists of dates), with the option."""
    for key, value in options.items():
        if not key.startswith("mintpy.") or key.startswith("mintpy.load.") or os.path.isabs(value):
            continue
        path = Path(os.path.normpath(value))
        if ".." not in path.parts and path.name not in _RESULTS and (project / path).is_file():
            yield str(path), key


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _copy(source: Path, target: Path) -> None:
    old, new = source.stat(), target.stat() if target.exists() else None
    if new and (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
        return
    copy_file(source, target)  # with its time, because MintPy compares times to find outdated files
