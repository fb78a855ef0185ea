"""Covariance of the residual of each date, as source models need it: nugget, sill and range of an exponential model."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from ..arrays import Floats
from ..metrics import semivariogram

__all__ = ["exponential_model", "write_covariance"]

HEADER = """\
# Residual of the corrected displacement of each date, without the motion found, on pixels of {0:.3f} x {1:.3f} km.
# Semivariogram: nugget + sill (1 - exp(-3 h / range)). Covariance of two pixels h > 0 apart: sill exp(-3 h / range).
# A pair of dates has the sum of the two. Nugget and sill are those of multilooked pixels.
"""
RANGES = 100
"""Number of ranges that are tried, from a third of the shortest distance to three times the longest."""


def exponential_model(distance: Floats, gamma: Floats, number: Floats) -> tuple[float, float, float]:
    """Nugget, sill and range of ``nugget + sill (1 - exp(-3 distance / range))`` (Chiles, Delfiner, 2012).

    Weighted least squares with weights ``number / distance**2``, nugget and sill not negative. Parameters as
    :func:`~mintpy_vae.metrics.semivariogram` returns them; all three are NaN with fewer than three distances.
    """
    if len(distance) < 3:
        return float("nan"), float("nan"), float("nan")
    root = np.sqrt(number) / distance
    best = (np.inf, 0.0, 0.0, float("nan"))
    for reach in np.geomspace(distance.min() / 3, 3 * distance.max(), RANGES):
        design = np.stack([np.ones_like(distance), 1 - np.exp(-3 * distance / reach)], axis=1)
        (nugget, sill), misfit = nnls(design * root[:, None], gamma * root)
        best = min(best, (float(misfit), float(nugget), float(sill), float(reach)))
    return best[1:]


def write_covariance(
    file: str | os.PathLike[str], dates: Sequence[str], residual: Floats, pixel: Floats | Sequence[float]
) -> None:
    """Write the table as CSV, one line a date.

    Parameters
    ----------
    file : path
    dates : sequence of str
        YYYYMMDD.
    residual : (dates, h, w)
        Millimetres, NaN where there is no data.
    pixel : (2,)
        Size of a pixel along rows and columns, kilometres.
    """
    with open(Path(file), "w", newline="") as f:
        f.write(HEADER.format(*pixel))
        table = csv.writer(f, lineterminator="\n")
        table.writerow(["date", "variance_mm2", "nugget_mm2", "sill_mm2", "range_km"])
        for date, layer in zip(dates, residual, strict=True):
            model = exponential_model(*semivariogram(layer, (float(pixel[0]), float(pixel[1]))))
            table.writerow([date, *(f"{value:.4g}" for value in (float(np.nanvar(layer)), *model))])
