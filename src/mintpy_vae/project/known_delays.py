"""Delays that MintPy subtracts after the inversion; they are excluded from the training, to be removed only once.

MintPy corrects the time-series for the oscillator drift of Envisat, for solid earth tides and for the ionosphere of the
split spectrum. Any part of them in the correction of the stack would be subtracted twice. Therefore they are computed
by MintPy's own functions and subtracted from the pairs before the training; the corrected stack still contains them,
for MintPy to subtract.
"""

from __future__ import annotations

import errno
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32
from ..dates import acquisition_years
from ..errors import InputError
from ..log import LOGGER
from ..stack import Rows, Stack, content_hash, damage, file_hash, open_hdf5
from .steps import at_work
from .templates import is_on, options_set
from .work_dir import fits

__all__ = ["NOTHING", "KnownDelays", "find_known_delays", "inputs", "options", "space_needed", "to_phase"]


_TIDES, _IONOSPHERE = "mintpy.solidEarthTides", "mintpy.ionosphericDelay.method"
_ENOUGH = 0.5  # least share of the scene on which a delay must be known
_SAMPLED = 64  # rows that are read to estimate size and share
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_Found = tuple[str, Rows, list[str]]  # source of a delay, its phase, dates without it


@dataclass(frozen=True)
class KnownDelays:
    """Delays that MintPy will subtract.

    Attributes
    ----------
    phase : callable or None
        Rows -> (dates, rows, width) phase in radians of all dates of the stack, 0 at the reference pixel if there is
        one; NaN where unknown, 0 on dates on which MintPy will subtract nothing. None if MintPy subtracts no delay.
    summary : list of dict
        Name, source and MintPy's step of each delay, for the result file and the report.
    off : list of str
        Options of MintPy whose step would fail, and that must be set to ``no``.
    warnings : list of str
    """

    phase: Rows | None = None
    summary: list[dict[str, Any]] = field(default_factory=list)
    off: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


NOTHING = KnownDelays()


def options(template: Mapping[str, str]) -> dict[str, str]:
    """MintPy's options that determine which delays it subtracts."""
    return options_set(template, _TIDES, "mintpy.ionosphericDelay.")


def inputs(stack: Stack, project: Path, template: Mapping[str, str]) -> dict[str, tuple[Path, Callable[[Path], str]]]:
    """Files of the project that determine these delays, each with the function that computes its hash."""
    found: dict[str, tuple[Path, Callable[[Path], str]]] = {}
    wanted = {kind.name: kind for kind in _KINDS if kind.wanted(stack, template)}
    if _tides.name in wanted:
        found["tides"] = project / "inputs" / "SET.h5", file_hash
    if _ionosphere.name in wanted:
        found["ionosphere"] = project / "inputs" / "ionStack.h5", content_hash
    return {name: (path, digest) for name, (path, digest) in found.items() if path.is_file()}


def space_needed(stack: Stack, project: Path, template: Mapping[str, str]) -> tuple[int, int]:
    """Upper bounds: bytes that :func:`find_known_delays` copies, and number of time series that it writes."""
    copied = [path for path, _ in inputs(stack, project, template).values()]
    return sum(path.stat().st_size for path in copied), sum(kind.wanted(stack, template) for kind in _KINDS)


@dataclass(frozen=True)
class _Task:
    """Stack, project directory, template, working directory, and whether MintPy runs in the project."""

    stack: Stack
    project: Path
    template: Mapping[str, str]
    place: Path
    inside: bool


def find_known_delays(
    stack: Stack, project: Path, template: Mapping[str, str], place: Path, inside: bool = False
) -> KnownDelays:
    """Compute the delays that MintPy will subtract, with MintPy's own functions.

    Parameters
    ----------
    stack : Stack
    project : path
    template : mapping of str
        MintPy's options.
    place : path
        A directory to work in. Files for MintPy's later steps are left there: ``inputs/SET.h5``,
        ``inputs/ionStack.h5`` and ``ion.h5``; existing ones are used.
    inside : bool
        MintPy's steps will run in the project itself, with its own files, and not in `place`.

    Raises
    ------
    InputError
        If MintPy would stop at one of these steps and no option switches it off.
    """
    task = _Task(stack, project, template, place, inside)
    wanted = [kind for kind in _KINDS if kind.wanted(stack, template)]
    found: list[Rows] = []
    summary, off, warnings = [], [], []
    (place / "inputs").mkdir(exist_ok=True)
    for kind in wanted:
        row = {"name": kind.name, "step": kind.step, "subtracted": True, "source": "", "std_mm": 0.0}
        try:
            row["source"], delay, lacking = kind.find(task)
            size, share = _size_and_share(delay, stack)
            if share < _ENOUGH:
                raise InputError(f"it is known on only {share:.0%} of the scene")
        except InputError as error:
            if kind.option is None or _is_full(error):
                raise
            reason = str(error).rstrip(".")
            row |= {"subtracted": False, "source": reason}
            off.append(kind.option)
            what = f"set {kind.option} = no" if inside else f"{kind.option} is no in the corrected directory"
            warnings.append(
                f"The {kind.name} cannot be subtracted by MintPy's step {kind.step}, because {reason}: {what}. Its "
                "variable part is removed with the atmosphere."
            )
            LOGGER.info("%s", warnings[-1])
        else:
            row["std_mm"] = round(1000 * size, 2)
            if lacking:
                dates = ", ".join(lacking[:3]) + ", ..." * (len(lacking) > 3)
                warnings.append(
                    f"{row['source']} lacks {dates}; on these dates MintPy will not subtract the {kind.name}."
                )
            found.append(delay)
            LOGGER.info("%s: up to %.1f mm, left to MintPy's step %s", kind.name, row["std_mm"], kind.step)
        summary.append(row)
    return KnownDelays(_Sum(found) if found else None, summary, off, warnings)


def _size_and_share(delay: Rows, stack: Stack) -> tuple[float, float]:
    """Largest standard deviation of a date over the scene in metres, and share of the land with a known delay."""
    rows = np.unique(np.linspace(0, stack.shape[0] - 1, _SAMPLED).astype(int))
    values = np.concatenate([delay(slice(k, k + 1)) for k in rows], axis=1)
    values = values[:, np.ones_like(values[0], bool) if stack.land is None else stack.land[rows]]
    known = values[:, np.isfinite(values).all(axis=0)]
    size = known.std(axis=1).max() if known.size else 0.0
    return float(size * abs(stack.metres_per_radian)), known.shape[1] / max(values.shape[1], 1)


def _is_full(error: BaseException | None) -> bool:
    """Whether an error is due to a full disk, which is not a reason to switch a step off."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


# ------------------------------------------------------------------------------------------------------ the three kinds
@dataclass(frozen=True)
class _Kind:
    """One of MintPy's corrections: name, step, option, whether it is switched on, and the function that computes it."""

    name: str
    step: str
    option: str | None
    wanted: Callable[[Stack, Mapping[str, str]], bool]
    find: Callable[[_Task], _Found]


def _find_drift(task: _Task) -> _Found:
    """Drift of Envisat's oscillator: MintPy's range ramp, from its correction of zeros on the first and last date."""
    from mintpy.local_oscilator_drift import correct_local_oscilator_drift

    stack = task.stack
    with TemporaryDirectory() as scratch, at_work("step correct_LOD", scratch):
        dates = [stack.dates[0], stack.dates[-1]]
        zeros = _series_of_zeros(Path(scratch, "zeros.h5"), stack, dates)
        out = correct_local_oscilator_drift(str(zeros), str(stack.geometry_file), str(Path(scratch, "drift.h5")))
        with h5py.File(out) as f:
            ramp = -f["timeseries"][1]
    years = acquisition_years(stack.dates)
    share = (years - years[0]) / (years[-1] - years[0])
    return "MintPy's empirical model", _Ramp(to_phase(stack) * ramp, share.astype(np.float32)), []


def _find_tides(task: _Task) -> _Found:
    """Solid earth tides: ``SET.h5`` of the project, which MintPy uses again, or the result of MintPy's function."""
    stack = task.stack
    theirs, ours = (folder / "inputs" / "SET.h5" for folder in (task.project, task.place))
    there = theirs.is_file()
    if ours.is_file():
        return "inputs/SET.h5", *_from_file(ours, stack)
    if task.inside and there and not fits(theirs, stack):
        raise InputError(f"{theirs} belongs to another scene; delete it")
    if task.inside and there:
        return "inputs/SET.h5", *_from_file(theirs, stack)
    if there and fits(theirs, stack):
        shutil.copy2(theirs, ours)
        return "inputs/SET.h5", *_from_file(ours, stack)
    with TemporaryDirectory(dir=task.place) as scratch, at_work("step correct_SET", scratch):
        from mintpy import solid_earth_tides  # imported here, because PySolid may be missing
        from mintpy.cli.solid_earth_tides import cmd_line_parse

        zeros = _series_of_zeros(Path(scratch, "dates.h5"), stack, stack.dates)
        inps: Namespace = cmd_line_parse([str(zeros), "-g", str(stack.geometry_file)])
        made = Path(scratch, "SET.h5")
        solid_earth_tides.calc_solid_earth_tides_timeseries(
            ts_file=inps.dis_file, geom_file=inps.geom_file, set_comp=inps.set_comp, set_file=str(made)
        )
        os.replace(made, ours)
    return "computed by MintPy with PySolid", *_from_file(ours, stack)


def _find_ionosphere(task: _Task) -> _Found:
    """Ionosphere: MintPy's inversion of a copy of ``ionStack.h5``, which its step references and drops pairs of."""
    from mintpy.cli import iono_split_spectrum

    if (method := task.template[_IONOSPHERE]) != "split_spectrum":
        raise InputError(f"{_IONOSPHERE} = {method} is not a method of MintPy")
    source = task.project / "inputs" / "ionStack.h5"
    if not source.is_file():
        raise InputError(f"there is no {source}")
    if not fits(source, task.stack):
        raise InputError(f"{source} has another size than the stack, or belongs to another scene")
    if len(str(task.place).split()) > 1:
        raise InputError(f"the path {task.place} contains a blank, which MintPy's step does not support")
    copy, series, count = task.place / "inputs" / source.name, task.place / "ion.h5", task.place / "numInvIon.h5"
    if not (series.is_file() and count.is_file()):
        shutil.copy2(source, copy)
        with (
            TemporaryDirectory(dir=task.place) as scratch,
            at_work("step correct_ionosphere", str(task.place)),
        ):
            template = Path(scratch, "options.txt")
            template.write_text("".join(f"{key} = {value}\n" for key, value in task.template.items()), encoding="utf8")
            iono_split_spectrum.main(["-t", str(template), "--iono-stack-file", str(copy)])
    with open_hdf5(count) as f:
        unknown = f["mask"][:] == 0  # MintPy's series is 0 there
    return "inputs/ionStack.h5", *_from_file(series, task.stack, unknown)


_drift = _Kind(
    "drift of Envisat's oscillator",
    "correct_LOD",
    None,
    lambda stack, template: stack.attributes.get("PLATFORM", "").lower().startswith("env"),
    _find_drift,
)
_tides = _Kind(
    "solid earth tides",
    "correct_SET",
    _TIDES,
    lambda stack, template: is_on(template, _TIDES),
    _find_tides,
)
_ionosphere = _Kind(
    "ionosphere",
    "correct_ionosphere",
    _IONOSPHERE,
    lambda stack, template: is_on(template, _IONOSPHERE),
    _find_ionosphere,
)
_KINDS = (_drift, _tides, _ionosphere)  # in the order of MintPy's steps


def _series_of_zeros(file: Path, stack: Stack, dates: list[str]) -> Path:
    """A time series of zeros in MintPy's format without disk space, for functions that need one."""
    row, column = stack.ref_yx or (0, 0)
    with h5py.File(file, "w") as f:
        f.attrs.update(stack.attributes)
        f.attrs.update({"FILE_TYPE": "timeseries", "UNIT": "m", "REF_DATE": dates[0]})
        f.attrs.update({"REF_Y": str(row), "REF_X": str(column)})
        f["date"] = np.array(dates, dtype=np.bytes_)
        f.create_dataset("timeseries", (len(dates), *stack.shape), np.float32, chunks=True)
    return file


def to_phase(stack: Stack) -> np.float32:
    """Phase in radians for one metre of displacement."""
    return np.float32(1 / stack.metres_per_radian)


def _from_file(file: Path, stack: Stack, unknown: NDArray[np.bool_] | None = None) -> tuple[Rows, list[str]]:
    """Phase from a time series of MintPy, and the dates of the stack without data."""
    with open_hdf5(file) as f, damage(file):
        if not {"date", "timeseries"} <= set(f) or f["timeseries"].shape[1:] != stack.shape:
            raise InputError(f"{file} is not a time series on the pixels of the stack")
        index = {date.decode(): k for k, date in enumerate(f["date"][:])}
        level = np.zeros(len(index), np.float32)
        if stack.ref_yx is not None:
            level = np.nan_to_num(f["timeseries"][:, stack.ref_yx[0], stack.ref_yx[1]])
    there = [k for k, date in enumerate(stack.dates) if date in index]
    rows = [index[stack.dates[k]] for k in there]
    lacking = [date for date in stack.dates if date not in index]
    return _Series(file, len(stack.dates), there, rows, level, to_phase(stack), unknown), lacking


@dataclass(frozen=True, eq=False)
class _Series:
    """Phase of the dates ``there``, the layers ``rows`` of a file; 0 on the others, NaN where it is unknown."""

    file: Path
    n_dates: int
    there: list[int]
    rows: list[int]
    level: Float32
    to_phase: np.float32
    unknown: NDArray[np.bool_] | None

    def __call__(self, rows: slice) -> Float32:
        with open_hdf5(self.file) as f, damage(self.file):
            data = f["timeseries"][:, rows]
        phase = np.zeros((self.n_dates, *data.shape[1:]), np.float32)
        phase[self.there] = self.to_phase * (data - self.level[:, None, None])[self.rows]
        if self.unknown is not None:
            phase[:, self.unknown[rows]] = np.nan
        return phase


@dataclass(frozen=True, eq=False)
class _Ramp:
    """A map that grows with time."""

    ramp: Float32
    share: Float32

    def __call__(self, rows: slice) -> Float32:
        return np.asarray(self.share[:, None, None] * self.ramp[rows])


@dataclass(frozen=True, eq=False)
class _Sum:
    """All of them."""

    parts: list[Rows]

    def __call__(self, rows: slice) -> Float32:
        return np.asarray(sum(part(rows) for part in self.parts))
