"""Multilooked time series from MintPy's inversion of a corrected directory, after and before the correction.

The correction of a pair is the difference of two fields, one per date, so it commutes with MintPy's inversion: the time
series before the correction is the corrected one plus ``inputs/VAE.h5``. One inversion serves every such correction.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..dates import acquisition_years
from ..errors import InputError
from ..stack import open_hdf5, pool_map
from ..stack.geometry import geometry_name, pixel_size

PIXELS = 40_000


@dataclass(frozen=True)
class Inverted:
    """Time-series on one grid.

    Attributes
    ----------
    dates : list of str
    years : (dates,)
    before, after : (dates, h, w)
        Line-of-sight displacement in metres, 0 on MintPy's reference date, NaN outside `valid`.
    valid : (h, w) bool
        Pixels with data that MintPy's temporal coherence mask keeps.
    height : (h, w)
        Metres, NaN where unknown.
    incidence : (h, w)
        Incidence angle, degrees from the vertical; NaN where the geometry file does not give it.
    factor : int
        Looks of the grid along both axes.
    pixel : (float, float)
        Size of a pixel on the ground, metres.
    ref_yx : (int, int)
        Reference pixel at full resolution.
    attributes : dict
        Attributes of the time-series file, at full resolution.
    """

    dates: list[str]
    years: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    valid: NDArray[np.bool_]
    height: NDArray[np.float64]
    incidence: NDArray[np.float64]
    factor: int
    pixel: tuple[float, float]
    ref_yx: tuple[int, int]
    attributes: dict[str, str]

    def referenced(self, maps: Floats) -> NDArray[np.float64]:
        """Maps (dates, h, w) relative to that of MintPy's reference date."""
        return np.asarray(maps - maps[self.dates.index(self.attributes.get("REF_DATE", self.dates[0]))])


def read_inverted(work_dir: str | os.PathLike[str], max_pixels: int = PIXELS) -> Inverted:
    """Read a directory that ``vae_correct.py`` has written and MintPy has inverted.

    Parameters
    ----------
    work_dir : path
    max_pixels : int
        Largest number of pixels of the multilooked maps.

    Raises
    ------
    InputError
        If MintPy has not inverted the directory.
    """
    work = Path(work_dir)
    series, delay = work / "timeseries.h5", work / "inputs" / "VAE.h5"
    if not series.is_file():
        raise InputError(f"{series} does not exist; run vae_correct.py without --no-invert.")
    with open_hdf5(series) as f:
        attributes = {key: str(value) for key, value in f.attrs.items()}
        dates = [date.decode() for date in f["date"][:]]
        shape = f["timeseries"].shape[1:]
        factor = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / max_pixels)))
        good = _mask(work, f)
        after = np.array(
            [pool_map(np.where(good, layer, np.nan), factor) for layer in f["timeseries"]], dtype=np.float64
        )
    ref = int(attributes["REF_Y"]), int(attributes["REF_X"])
    added = read_delay(delay, dates, ref, good, factor) if delay.is_file() else np.zeros_like(after)
    before = after + added
    valid = np.asarray(np.isfinite(before).all(axis=0))
    if not valid.any():
        raise InputError(f"{series} has no pixel with data that the temporal coherence mask keeps.")
    for values in (before, after):
        values[:, ~valid] = np.nan
        values -= values[dates.index(attributes.get("REF_DATE", dates[0]))].copy()
    with open_hdf5(geometry_file(work, attributes)) as f:
        height = f["height"][:].astype(np.float32)
        incidence = f["incidenceAngle"][:] if "incidenceAngle" in f else np.full(shape, np.nan, np.float32)
    height[~(np.abs(height) < 1e4)] = np.nan
    pixel = pixel_size(attributes)
    return Inverted(
        dates,
        acquisition_years(dates),
        before,
        after,
        valid,
        pool_map(height, factor).astype(np.float64),
        pool_map(incidence, factor).astype(np.float64),
        factor,
        (pixel[0] * factor, pixel[1] * factor),
        ref,
        attributes,
    )


def read_delay(
    file: Path, dates: list[str], ref: tuple[int, int], good: NDArray[np.bool_], factor: int
) -> NDArray[np.float64]:
    """Delay of each date in metres of displacement, relative to the reference pixel, multilooked, (dates, h, w).

    Raises
    ------
    InputError
        If the file lacks a date, or has another size.
    """
    with open_hdf5(file) as f:
        rows = {date.decode(): k for k, date in enumerate(f["date"][:])}
        if missing := [date for date in dates if date not in rows]:
            raise InputError(f"{file} does not contain the date {missing[0]}.")
        if f["timeseries"].shape[1:] != good.shape:
            raise InputError(f"{file} has maps of {f['timeseries'].shape[1:]}, not of {good.shape}.")
        maps = []
        for date in dates:
            layer = f["timeseries"][rows[date]]
            maps.append(pool_map(np.where(good, layer - layer[ref], np.nan), factor))
    return np.array(maps, dtype=np.float64)


def full_mask(work_dir: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Valid pixels (length, width) at full resolution, as in :func:`read_inverted`."""
    work = Path(work_dir)
    with open_hdf5(work / "timeseries.h5") as f:
        return _mask(work, f)


def _mask(work: Path, series: h5py.File) -> NDArray[np.bool_]:
    reference = str(series.attrs.get("REF_DATE", ""))
    layer = series["timeseries"][0 if series["date"][-1].decode() == reference else -1]  # that of the reference is 0
    good = np.isfinite(layer) & (layer != 0)
    for name in ("maskTempCoh.h5", "waterMask.h5"):
        if (work / name).is_file():
            with open_hdf5(work / name) as f:
                keep = f[name.split(".")[0] if name.split(".")[0] in f else "mask"][:]
            if keep.shape == good.shape:
                good &= keep.astype(bool)
    return good


def geometry_file(work: Path, attributes: Mapping[str, str]) -> Path:
    """Geometry file of a MintPy directory on the grid of the attributes; there may be another one beside it."""
    path = work / "inputs" / geometry_name(attributes)
    if not path.is_file():
        raise InputError(f"There is no geometry file {path}.")
    return path
