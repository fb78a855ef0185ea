"""Delay of a weather model or another source as prior information: find, check and read it, convert it to phase.

Unlike the delays that MintPy subtracts itself (:mod:`.known_delays`), it becomes part of the atmosphere, as far as the
stack confirms it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32
from ..errors import InputError
from ..method.covariance import fill
from ..method.upsampling import Bilinear
from ..multilooking import strips
from ..settings import PREFIX, Settings
from ..stack import COMPLETE, DIGITS, Rows, Stack, damage, linked, open_hdf5, pool_map, project_of
from .known_delays import to_phase
from .work_dir import fits

__all__ = ["PriorDelay", "PriorOfDates", "delay_hashes", "find_prior_delay", "read_prior_delay"]

OPTION = f"{PREFIX}priorDelay"
NAMES = ("ERA5", "MERRA", "NARR", "ERAI", "GACOS", "OPERA")
"""Names of MintPy's delay files in ``inputs``; the first that exists is used."""
ENOUGH = 0.9
"""Least share of a date's pixels with a delay; the others are filled with the nearest."""
FEWEST = 2
_COPIES = 4  # arrays of the size of a block that exist at a time
_WEATHER_MODEL = "mintpy.troposphericDelay.weatherModel"


@dataclass(frozen=True)
class PriorDelay:
    """A time series of delays in MintPy's format.

    Attributes
    ----------
    file : Path
    layers : dict of int to int
        Layer of the file by the index of the stack's date; dates without a layer are missing.
    unit : float
        Phase in radians for one metre of displacement.
    """

    file: Path
    layers: dict[int, int]
    unit: np.float32

    def __call__(self, rows: slice, dates: NDArray[np.integer]) -> Float32:
        """Phase (dates, rows, width) of these dates of the stack, radians; NaN where it is unknown.

        The delay is treated as an apparent displacement, as in MintPy.
        """
        with open_hdf5(self.file) as f, damage(self.file):
            data = f["timeseries"][:, rows]
        data[:, (data == 0).all(axis=0)] = np.nan  # no data, as MintPy writes it
        phase = np.full((len(dates), *data.shape[1:]), np.nan, np.float32)
        for k, date in enumerate(dates):
            if (layer := self.layers.get(int(date))) is not None:
                phase[k] = self.unit * data[layer]
        phase[~np.isfinite(phase)] = np.nan
        return phase


def find_prior_delay(
    template: Mapping[str, str], settings: Settings, stack: Stack
) -> tuple[PriorDelay | None, list[str]]:
    """Find the delay that the settings select, and warnings.

    Raises
    ------
    InputError
        If a file given by name does not exist or does not fit the stack.
    """
    choice, project = settings.prior_delay.strip(), project_of(stack.file)
    if choice.lower() in ("no", "false", "none", ""):
        return None, []
    if choice.lower() != "auto":
        file = project / os.path.expanduser(choice)
        if not file.is_file():
            raise InputError(f"{OPTION} = {choice}: there is no file {file}.")
        try:
            found = read_prior_delay(file, stack)
        except InputError as error:
            raise InputError(f"{OPTION} = {choice}: {error}") from error
        return found, _lacking(found, stack)
    names = list(dict.fromkeys([template.get(_WEATHER_MODEL, "auto").upper(), *NAMES]))
    warnings = []
    for name in names:
        file = stack.file.parent / f"{name}.h5"
        if name in ("AUTO", "VAE") or not file.is_file():
            continue
        try:
            found = read_prior_delay(file, stack)
        except InputError as error:
            warnings.append(f"{file.name} in inputs is not used ({OPTION}), because {str(error).rstrip('.')}.")
        else:
            return found, warnings + _lacking(found, stack)
    return None, warnings


def read_prior_delay(file: Path, stack: Stack) -> PriorDelay:
    """Find the stack's dates in a delay file. Raises InputError for a file that is no delay of the stack's grid."""
    with open_hdf5(file) as f, damage(file):
        series, dates = linked(f, "timeseries"), linked(f, "date")
        if series is None or dates is None or len(series.shape) != 3 or len(series) != len(dates):
            raise InputError(f"{file} is not a time series of MintPy.")
        if series.attrs.get(COMPLETE):
            raise InputError(f"{file} was written by vae_correct.py itself.")
        if series.shape[1:] != stack.shape or not fits(file, stack):
            size = " x ".join(map(str, series.shape[1:]))
            raise InputError(f"{file} has {size} pixels and does not fit the grid of the stack.")
        index = {_text(date): k for k, date in enumerate(dates[:])}
    layers = {k: index[date] for k, date in enumerate(stack.dates) if date in index}
    if len(layers) < FEWEST:
        raise InputError(f"{file} contains {len(layers) or 'none'} of the dates of the stack.")
    return PriorDelay(file, layers, to_phase(stack))


def _lacking(delay: PriorDelay, stack: Stack) -> list[str]:
    dates = [date for k, date in enumerate(stack.dates) if k not in delay.layers]
    if not dates:
        return []
    some = ", ".join(dates[:3]) + ", ..." * (len(dates) > 3)
    return [f"{delay.file.name} lacks {some}; it is not used on these dates ({OPTION})."]


def delay_hashes(delay: PriorDelay, stack: Stack) -> dict[str, str]:
    """Begin of the SHA-256 of the layer of each date, YYYYMMDD."""
    found = {}
    with open_hdf5(delay.file) as f, damage(delay.file):
        for k, layer in sorted(delay.layers.items()):
            digest = hashlib.sha256(np.ascontiguousarray(f["timeseries"][layer]).data)
            found[stack.dates[k]] = digest.hexdigest()[:DIGITS]
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class PriorOfDates:
    """The delay of some dates on the training grid, and its removed part on the stack's own grid.

    Parameters
    ----------
    delay : PriorDelay
    stack : Stack
    dates : (dates,) int
        Indices into the dates of the stack.
    factor : float
        Looks of the training grid along both axes.
    max_memory : float
        GB for the data read at a time.

    Attributes
    ----------
    maps : (dates, h, w)
        Phase on the training grid, radians; NaN on dates with a delay on less than ``ENOUGH`` of the land, and filled
        from the nearest pixel on the others.
    """

    def __init__(
        self, delay: PriorDelay, stack: Stack, dates: NDArray[np.integer], factor: float, max_memory: float
    ) -> None:
        self.delay, self.dates, self.shape, self.factor = delay, dates, stack.shape, factor
        step = int(max_memory * 1e9 / (8 * _COPIES * len(dates) * stack.shape[1]))
        land = np.ones(stack.shape, bool) if stack.land is None else stack.land
        known, pooled, counted = np.zeros(len(dates)), [], 0
        for _, rows, parts in strips(stack.shape[0], factor, step):
            phase = delay(rows, dates)
            there = np.isfinite(phase) & land[rows]
            known += there[:, max(counted - rows.start, 0) :].sum(axis=(1, 2))  # a row may be in two strips
            counted = rows.stop
            pooled.append(np.array([pool_map(layer, factor, parts) for layer in phase], np.float64))
        self.maps = np.concatenate(pooled, axis=1)
        for k, layer in enumerate(self.maps):
            there = np.isfinite(layer)
            flat = np.ptp(layer[there]) == 0 if there.any() else True  # constant on a date whose download failed
            if flat or known[k] < ENOUGH * land.sum():
                layer[:] = np.nan
            else:
                layer[:] = fill(layer[there][None], there)[0]

    def removed(self, coefficients: NDArray[np.floating], valid: NDArray[np.bool_], number: int | None = None) -> Rows:
        """Removed part of the delay: rows -> (dates, rows, width) radians, relative to the mean over the dates.

        Parameters
        ----------
        coefficients : (dates,)
        valid : (h, w) bool
            Pixels of the training grid whose mean is 0 on each date, as in :mod:`~mintpy_vae.method.prior_mean`.
        number : int, optional
            The mean is that of the first so many dates, by default of all.
        """
        own = np.flatnonzero(np.isfinite(self.maps).all(axis=(1, 2)))
        first = len(own) if number is None else int((own < number).sum())
        share = np.asarray(coefficients[own], np.float32)[:, None, None]
        level = self.maps[own][:, valid].mean(axis=1).astype(np.float32)[:, None, None]
        filled = Bilinear(self.maps[own] - level, self.shape, self.factor)

        def of_rows(rows: slice) -> Float32:
            phase = self.delay(rows, self.dates[own]) - level
            unknown = np.isnan(phase)
            if unknown.any():
                phase[unknown] = filled(rows)[unknown]
            values = np.zeros((len(self.dates), *phase.shape[1:]), np.float32)
            values[own] = share * (phase - phase[:first].mean(axis=0))
            return values

        return of_rows
