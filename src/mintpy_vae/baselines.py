"""Corrections of a displacement time-series that users have today, to be measured against. Arrays only.

All share one call, :class:`Correction`: the series of an inverted stack goes in, a series of the same shape comes out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Series = NDArray[np.float32]


class Correction(Protocol):
    """Corrects a time-series."""

    def __call__(self, series: Array, years: Array, height: Array) -> Series:
        """Corrected series.

        Parameters
        ----------
        series : (dates, length, width)
            Displacement in metres, NaN where there is no data.
        years : (dates,)
            Acquisition times in years.
        height : (length, width)
            Metres, NaN where unknown.

        Returns
        -------
        (dates, length, width) float32
            Metres, NaN where `series` is. Pixels without data at some date, or without height where it is needed, do
            not take part in the estimate of a correction.
        """
        ...


@dataclass(frozen=True)
class Baseline:
    """A correction and its short name for tables."""

    correct: Correction
    label: str


def zero(series: Array, years: Array, height: Array) -> Series:
    """No motion anywhere: the smoothest map there is, without error on stable ground and without gain."""
    return np.asarray(0 * series, dtype=np.float32)


def uncorrected(series: Array, years: Array, height: Array) -> Series:
    """The series as it is."""
    return np.array(series, dtype=np.float32)


def line(series: Array, years: Array, height: Array) -> Series:
    """The straight line through the data of each pixel: nothing but its velocity."""
    design = np.stack([np.ones(len(years)), years - np.mean(years)], axis=1)
    fitted = design @ (np.linalg.pinv(design) @ np.asarray(series, np.float64).reshape(len(years), -1))
    return _like(fitted.reshape(series.shape), series)


def height_correlation(series: Array, years: Array, height: Array, looks: int = 8) -> Series:
    """MintPy's ``tropo_phase_elevation.py`` with its defaults: a line against height per date (Doin et al., 2009).

    MintPy's own functions; `looks` is its ``mintpy.troposphericDelay.looks``.
    """
    from mintpy import tropo_phase_elevation as mintpy

    whole = _whole(series) & np.isfinite(height)
    first = np.argwhere(whole)[0]
    dem = np.where(whole, height - height[tuple(first)], 0.0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        mask_file = Path(folder) / "mask.h5"  # it reads the mask from a file
        with h5py.File(mask_file, "w") as f:
            f["mask"] = whole
            f.attrs.update(FILE_TYPE="mask", LENGTH=str(whole.shape[0]), WIDTH=str(whole.shape[1]))
        options = argparse.Namespace(
            mask_file=str(mask_file),
            poly_order=1,
            num_multilook=looks,
            threshold=0.0,
            date_list=[f"{year:.3f}" for year in years],
        )
        slopes = mintpy.estimate_phase_elevation_ratio(dem, np.asarray(series, np.float32), options)
        where = {"REF_Y": str(first[0]), "REF_X": str(first[1])}
        delay = mintpy.estimate_tropospheric_delay(dem, slopes, where)
    return _like(series - delay, series)


BASELINES: dict[str, Baseline] = {
    "zero": Baseline(zero, "zero map"),
    "line": Baseline(line, "line per pixel"),
    "uncorrected": Baseline(uncorrected, "uncorrected"),
    "height_correlation": Baseline(height_correlation, "height correlation (MintPy)"),
}
"""Every correction by the name under which tables and options know it."""


def _whole(series: Array) -> NDArray[np.bool_]:
    """Pixels with data at every date, (length, width)."""
    return np.asarray(np.isfinite(series).all(axis=0))


def _like(corrected: Array, series: Array) -> Series:
    """As float32 with the gaps of `series`."""
    return np.where(np.isfinite(series), corrected, np.nan).astype(np.float32)
