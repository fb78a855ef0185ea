"""What the section Explore embeds: the series of the training grid as 16-bit integers, and where they lie."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..dates import acquisition_years, moments
from ..results.result import STD
from ..stack import open_hdf5
from . import charts as draw
from .data import Data

LARGEST = 1_700_000
"""Bytes of the embedded series; of larger ones only some of the pixels are embedded."""
UNIT = 0.1
"""Millimetres that series are rounded to."""
NOTHING = -(2**15)
"""No data."""


def explorer(data: Data) -> dict[str, Any]:
    """Content of the section for ``explore.js``: what is packed, how, and the axes of the maps."""
    series = series_of(data)
    n_dates, n_pixels = series["before"].shape
    step = sampling(2 * len(series) * n_dates * n_pixels)
    chosen = np.zeros_like(data.found.valid)
    chosen[step // 2 :: step, step // 2 :: step] = True
    kept = chosen[data.found.valid]
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    valid = data.found.valid[grid]
    index = np.where(valid, np.cumsum(valid.ravel()).reshape(valid.shape) - 1, NOTHING)
    largest = max(float(np.nanmax(np.abs(v), initial=0.0)) for v in series.values())
    unit = UNIT * max(1, math.ceil(1000 * largest / UNIT / (2**15 - 1)))  # of metres of motion, coarser
    shown = data.frame_of_grid(step)
    parts = {"index": index, "moving": data.found.moving[grid], "height": counts(data.found.height[grid], 1.0)}
    parts |= {name: counts(1000 * values[:, kept], unit) for name, values in series.items()}
    return {
        "dates": [str(day)[:16] for day in moments(data.found.dates)],
        "names": list(data.found.dates),
        "years": np.round(acquisition_years(list(data.found.dates)), 6).tolist(),
        "pairs": data.found.pairs.tolist(),
        "pairNames": data.names,
        "shape": list(valid.shape),
        "pixels": int(valid.sum()),
        "step": step,
        "unit": unit,
        "nothing": NOTHING,
        "axes": shown.axes,
        "ground": shown.ground,
        "opacity": draw.OPACITY,
        "marks": [asdict(mark) for mark in data.marks],
        "colours": {
            "alarm": draw.ALARM,
            "scale": draw.VIK,
            "before": draw.BEFORE,
            "after": draw.AFTER,
            "motion": draw.THIRD,
        },
        "config": draw.CONFIG,
        "layout": [[name, values.size] for name, values in parts.items()],
        "packed": packed(parts),
    }


def series_of(data: Data) -> dict[str, Floats]:
    """Series (dates, pixels) in metres about the scene's mean, by name; the standard deviation, if it is known."""
    found = data.found
    series: dict[str, Floats] = {"before": found.before, "after": found.after}
    if found.motion is not None:
        series["motion"] = found.motion - found.motion.mean(axis=1, keepdims=True)
    std = std_on_grid(data)
    return series if std is None else {**series, "std": std}


def sampling(size: int) -> int:
    """Every how many rows and columns are embedded of series of that many bytes."""
    return max(1, math.ceil(math.sqrt(size / LARGEST)))


def counts(values: Floats, unit: float) -> NDArray[np.int16]:
    """Values as multiples of the unit."""
    known = np.isfinite(values)
    return np.where(known, np.rint(np.where(known, values, 0) / unit), NOTHING).astype(np.int16)


def packed(parts: dict[str, NDArray[Any]]) -> str:
    """All parts one after the other as little-endian 16-bit integers, in base64."""
    return base64.b64encode(b"".join(values.astype("<i2").tobytes() for values in parts.values())).decode()


def std_on_grid(data: Data) -> Floats | None:
    """Standard deviation of the atmosphere (dates, pixels) in metres from the middle of each pixel of the grid."""
    file = data.work / STD
    if not file.is_file():
        return None
    with open_hdf5(file) as f:
        series = f["timeseries"]
        rows = {date.decode(): k for k, date in enumerate(f["date"][:])}
        if any(date not in rows for date in data.found.dates):
            return None
        middle = [_middles(n, data.factor, k) for n, k in zip(series.shape[1:], data.found.valid.shape, strict=True)]
        maps = np.array([_sampled(series, rows[date], *middle) for date in data.found.dates])
    return maps[:, data.found.valid]


def aspect(content: dict[str, Any]) -> float:
    """Width over height of a map with its margins, at the width of a map beside another one."""
    (length, width), (y, x) = content["shape"], (content["axes"]["y"], content["axes"]["x"])
    height = length * abs(y["step"]) * y["metres"] / (width * abs(x["step"]) * x["metres"])
    return 340 / (270 * float(np.clip(height, 0.4, 1.6)) + 74)


def embedded(content: dict[str, Any]) -> str:
    """The content as text of a script element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _middles(size: int, factor: float, number: int) -> NDArray[np.intp]:
    return np.minimum(((np.arange(number) + 0.5) * factor + 0.01).astype(np.intp), size - 1)


def _sampled(series: h5py.Dataset, date: int, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """A map row by row: h5py is slow where columns are left out."""
    return np.array([series[date, row][columns] for row in rows], dtype=np.float64)
