"""Read prior information: functions of time of MintPy's velocity step, masks, bad dates, GNSS rates."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mintpy.cli.timeseries2velocity import read_template2inps
from mintpy.utils import ptime, readfile, time_func

from ..arrays import Array, Mask
from ..dates import moment
from ..errors import InputError
from ..method.knowledge import Knowledge, half_marked
from ..method.timefunctions import TimeFunction
from ..settings import PREFIX, Settings
from ..stack import Stack, pool_map, project_of, reason
from .gnss_rates import read_rates

__all__ = ["STABLE", "given_files", "read_functions", "read_knowledge", "read_mask"]

STABLE, _MOVING, _GNSS, _BAD = (f"{PREFIX}{key}" for key in ("stableMask", "movingMask", "gnssFile", "badDate"))
_TIME = "mintpy.timeFunc."
_EXAMPLES = {  # the options of MintPy's velocity step that name functions, in the order of its design matrix
    "polynomial": "2",
    "periodic": "1,0.5",
    "stepDate": "20110311,20170908",
    "exp": "20110311,60;20170908,120",
    "log": "20110311,60;20170908,120",
}
_TIMED = re.compile(r"\d{6,8}T\d{4}(\d{2})?")
_POWERS = {2: "quadratic", 3: "cubic"}
_PERIODS = {1.0: "annual", 0.5: "semiannual"}


def read_knowledge(
    template: Mapping[str, Any], settings: Settings, stack: Stack, dates: Sequence[str], factor: float
) -> Knowledge:
    """Read the user's prior information and bring it onto the training grid.

    Parameters
    ----------
    template : mapping
        MintPy's options, of which ``mintpy.timeFunc.*`` are read.
    settings : Settings
    stack : Stack
    dates : sequence of str
        YYYYMMDD, sorted; the dates given to :func:`~mintpy_vae.method.separation.separate`.
    factor : float
        Looks of the training grid along both axes.

    Raises
    ------
    InputError
        For input that cannot be read or is implausible, in one sentence.
    """
    files = given_files(settings, stack)
    functions, warnings = read_functions(template, dates, stack.attributes.get("CENTER_LINE_UTC", "0"))
    stable, moving, doubtful = _read_masks(files, stack, factor)
    stations, left_out = read_rates(files[_GNSS], stack, factor) if _GNSS in files else ([], [])
    bad_dates = _read_bad_dates(settings, files, stack, dates)
    return Knowledge(functions, stable, moving, bad_dates, stations, warnings + doubtful + left_out)


def given_files(settings: Settings, stack: Stack) -> dict[str, Path]:
    """Files given in the settings, by option; a relative path starts at the project directory.

    Raises
    ------
    InputError
        If one does not exist.
    """
    project = project_of(stack.file)
    named = [(STABLE, settings.stable_mask), (_MOVING, settings.moving_mask), (_GNSS, settings.gnss_file)]
    named += [(_BAD, name) for name in _dates_and_files(settings.bad_dates, project)[1]]
    files: dict[str, Path] = {}
    for option, name in named:
        path = project / os.path.expanduser(name)
        if name and not os.path.isfile(path):  # also if the name is too long for a file
            raise InputError(f"{option} = {name}: there is no file {path}.")
        if name and option in files:
            raise InputError(f"{option} = {settings.bad_dates}: give either dates or one file.")
        if name:
            files[option] = path
    return files


# --------------------------------------------------------------------------------------------------- functions of time
def read_functions(
    template: Mapping[str, Any], dates: Sequence[str], seconds: str | float = 0, number: int | None = None
) -> tuple[list[TimeFunction], list[str]]:
    """Functions of time of the options ``mintpy.timeFunc.*``: the columns of MintPy's own design matrix.

    A polynomial gives its degrees above 1, each made orthogonal to the lower ones: a trend is always searched for, and
    a plain parabola would be nearly the same function.

    Parameters
    ----------
    template : mapping
    dates : sequence of str
        YYYYMMDD, sorted.
    seconds : str or float
        Time of day of the acquisitions (CENTER_LINE_UTC), which MintPy uses to decide whether a date is after a step.
    number : int, optional
        A polynomial is orthogonal over the first so many dates, all by default: it goes on as it was given at these.

    Returns
    -------
    functions : list of TimeFunction
    warnings : list of str
        Warnings about functions that have no effect on these dates.

    Raises
    ------
    InputError
        For a value that MintPy's velocity step would refuse.
    """
    functions: list[TimeFunction] = []
    warnings: list[str] = []
    for key, example in _EXAMPLES.items():
        if (option := _TIME + key) not in template:
            continue
        try:
            model, outside = _read_model(key, template[option], dates)
            found = list(_columns(model, list(dates), seconds, slice(number)))
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".!")
            raise InputError(
                f"{option} = {template[option]}: {reason}; use no, or a value that MintPy reads, for example {example}."
            ) from error
        warnings += [
            f"{option} = {onset} lies outside the dates of the stack, {dates[0]} to {dates[-1]}, and is ignored; "
            "MintPy's velocity step will stop at it."
            for onset in outside
        ]
        for name, values in found:
            if np.ptp(values) > 0:
                functions.append(TimeFunction(name, values))
            else:
                warnings.append(f"{option}: {name} is constant over the dates of the stack and is ignored.")
    return functions, warnings


def _read_model(key: str, value: Any, dates: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """One option as a model of MintPy's ``time_func``, and the onsets outside the dates, which are left out."""
    last, first = (ptime.yyyymmdd2years(date) for date in (dates[-1], dates[0]))
    inps = Namespace(polynomial=1, periodic=[], stepDate=[], polyline=[], exp=[], log=[])
    inps.template_file = f"{_TIME}{key} = {value}\n"  # MintPy accepts text in place of a file
    with redirect_stdout(StringIO()):
        read_template2inps(inps.template_file, inps)
        if inps.polynomial < 0:
            raise ValueError("a degree cannot be negative")
        if inps.polynomial > max(len(dates) - 2, 1):  # a line is always searched for
            raise ValueError(f"{len(dates)} dates are too few to determine it")
        # MintPy refuses these, too, but only in its velocity step
        outside = [d for d in inps.stepDate if not first < ptime.yyyymmdd2years(d) < last]
        inps.stepDate = sorted(d for d in inps.stepDate if d not in outside)
        for name in ("exp", "log"):
            late = [term for term in getattr(inps, name) if ptime.yyyymmdd2years(term[0]) >= last]
            outside += [term[0] for term in late]
            setattr(inps, name, [term for term in getattr(inps, name) if term not in late])
        model: dict[str, Any] = time_func.inps2model(inps, list(dates), print_msg=False)
    if any(tau < 1 for name in ("exp", "log") for taus in model[name].values() for tau in taus):
        raise ValueError("a characteristic time is less than one day")
    return model, outside


def _columns(
    model: Mapping[str, Any], dates: list[str], seconds: str | float, some: slice
) -> Iterator[tuple[str, Array]]:
    """Name and values (dates,) of each function of a model, except a line; powers orthogonal over ``some`` dates."""

    def design(term: Mapping[str, Any]) -> Array:
        # in MintPy an exponential overflows before its onset, and inf * 0 gives NaN instead of 0
        with np.errstate(over="ignore", invalid="ignore"):
            columns = time_func.get_design_matrix4time_func(dates, term, seconds=seconds)
        return np.nan_to_num(np.asarray(columns, dtype=np.float64), nan=0.0)

    powers = design({"polynomial": model["polynomial"]}) if model["polynomial"] > 1 else np.empty((len(dates), 0))
    for degree in range(2, powers.shape[1]):
        lower, values = powers[:, :degree], powers[:, degree]
        left = values - lower @ np.linalg.lstsq(lower[some], values[some], rcond=None)[0]
        yield _POWERS.get(degree, f"polynomial {degree}"), left
    for period in model["periodic"]:
        name = _PERIODS.get(period, f"{period:g} yr")
        columns = design({"polynomial": 0, "periodic": [period]})
        yield f"{name} cosine", columns[:, 1]
        yield f"{name} sine", columns[:, 2]
    for onset in model["stepDate"]:
        yield f"step {onset}", design({"polynomial": 0, "stepDate": [onset]})[:, 1]
    for kind in ("exp", "log"):
        for onset, taus in model[kind].items():
            for tau in taus:
                yield f"{kind} {onset} {tau} days", design({"polynomial": 0, kind: {onset: [tau]}})[:, 1]


# --------------------------------------------------------------------------------------------------------------- masks
def _read_masks(files: Mapping[str, Path], stack: Stack, factor: float) -> tuple[Mask | None, Mask | None, list[str]]:
    """Stable and moving ground on the training grid, and warnings; where both masks are set, neither is used."""
    masks = {key: read_mask(key, files[key], stack) for key in (STABLE, _MOVING) if key in files}
    both = masks[STABLE] & masks[_MOVING] if len(masks) == 2 else np.zeros(stack.shape, bool)
    shares = {key: pool_map((mask & ~both).astype(np.float32), factor) for key, mask in masks.items()}
    stable, moving = half_marked(shares.get(STABLE), shares.get(_MOVING))
    for key, mask in ((STABLE, stable), (_MOVING, moving)):
        if mask is not None and not mask.any():
            besides = f", except what {_MOVING if key == STABLE else STABLE} marks too," if len(masks) == 2 else ""
            raise InputError(f"{key}: {files[key]} marks nothing{besides} that fills a pixel of the training grid.")
    if moving is not None and moving.all():
        raise InputError(f"{_MOVING} marks the whole scene: no other ground is left to estimate the atmosphere from.")
    note = f"{both.mean():.1%} of the scene is marked by both {STABLE} and {_MOVING}; neither mask is used there."
    return stable, moving, [note] if both.any() else []


def read_mask(key: str, path: Path, stack: Stack) -> Mask:
    """Pixels where a mask of the stack's size is not 0, (length, width); `key` is the option for the error message.

    Raises
    ------
    InputError
        For a file that MintPy cannot read as a mask, or of another size.
    """
    try:
        data = np.asarray(readfile.read(str(path), print_msg=False)[0])
        mask = np.nan_to_num(data.astype(np.float32)) != 0
    except (Exception, SystemExit) as error:  # any error of MintPy's readers means that the file is invalid
        why = f": {reason(error)}" if isinstance(error, OSError) and h5py.is_hdf5(path) else ""
        raise InputError(f"{key}: MintPy cannot read {path} as a mask{why}.") from error
    if mask.shape != stack.shape:
        raise InputError(f"{key}: {path} has shape {mask.shape}, but the stack has {stack.shape}.")
    return np.asarray(mask)


# --------------------------------------------------------------------------------------------------------------- dates
def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text.strip("[] ")) if word]


def _dates_and_files(text: str, project: Path) -> tuple[list[str], list[str]]:
    """Dates and names of files in ``vae.badDate``; a single file's name may contain blanks."""
    if os.path.isfile(project / os.path.expanduser(text)):
        return [], [text]
    words = _words(text)
    dates = [word for word in words if word.isdigit() or _TIMED.fullmatch(word)]
    return dates, [word for word in words if word not in dates]


def _read_bad_dates(settings: Settings, files: Mapping[str, Path], stack: Stack, dates: Sequence[str]) -> list[int]:
    """Indices of bad dates into `dates`; a date of the stack with dropped pairs only is ignored."""
    words = _dates_and_files(settings.bad_dates, project_of(stack.file))[0]
    if _BAD in files:
        try:
            lines = files[_BAD].read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{_BAD}: {files[_BAD]} cannot be read as text.") from error
        words += [word for line in lines for word in _words(line.split("#")[0])]
    bad = sorted(set(ptime.yyyymmdd(words)))
    for date in bad:
        if not any(_stands_for(date, d) for d in stack.dates):
            nearest = min(stack.dates, key=lambda d: abs(_moment(d) - _moment(date)))
            raise InputError(f"{_BAD}: {date} is not a date of the stack; the nearest is {nearest}.")
    return [k for k, d in enumerate(dates) if any(_stands_for(date, d) for date in bad)]


def _stands_for(bad: str, date: str) -> bool:
    """Whether a bad date is this date of the stack; a day without the time matches all acquisitions of the day."""
    return date == bad or date.startswith(f"{bad}T")


def _moment(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise InputError(f"{_BAD}: {error}.") from None
