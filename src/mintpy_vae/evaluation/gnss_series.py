"""Compare GNSS positions with a displacement time series, as line-of-sight double differences of two stations."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mintpy.utils import utils0 as ut
from numpy.typing import NDArray

from ..arrays import Floats
from ..errors import InputError

WINDOW = 1
"""Largest difference in days between a GNSS position and an acquisition."""


@dataclass(frozen=True)
class StationSeries:
    """Daily positions of one station.

    Attributes
    ----------
    name : str
    days : (days,) int
        Days since 1970-01-01.
    enu : (days, 3)
        East, north, up in metres, relative to any constant.
    latitude, longitude : float
        Degrees, NaN if not in the file.
    """

    name: str
    days: NDArray[np.int64]
    enu: NDArray[np.float64]
    latitude: float = float("nan")
    longitude: float = float("nan")

    def line_of_sight(self, incidence: float, azimuth: float) -> dict[int, float]:
        """Displacement towards the satellite (metres) by day, with MintPy's projection.

        Parameters
        ----------
        incidence, azimuth : float
            Degrees from the vertical, and of the vector from the ground to the satellite, anti-clockwise from north.
        """
        values = ut.enu2los(*self.enu.T, inc_angle=incidence, az_angle=azimuth)
        return dict(zip(self.days.tolist(), values.tolist(), strict=True))

    def joined(self, other: StationSeries) -> StationSeries:
        """The days of both."""
        days, enu = np.r_[self.days, other.days], np.vstack([self.enu, other.enu])
        place = self if np.isfinite(self.latitude + self.longitude) else other
        return StationSeries(self.name, days, enu, place.latitude, place.longitude)


@dataclass(frozen=True)
class Station:
    """A station on the grid of the evaluation.

    Attributes
    ----------
    name : str
    row, column : int
    sight : mapping
        Displacement towards the satellite (metres) by day, relative to any constant.
    """

    name: str
    row: int
    column: int
    sight: Mapping[int, float]

    def minus(self, other: Station, dates: Sequence[str]) -> Floats:
        """Double difference with another station at acquisitions, metres, (dates,)."""
        return double_difference(self.sight, other.sight, dates)


def read_series(files: Iterable[str | os.PathLike[str]], folder: Path | None = None) -> dict[str, StationSeries]:
    """Read stations from files of the Nevada Geodetic Laboratory (``.tenv3``) or from plain CSV.

    A CSV has a header ``station,date,e,n,u`` (date as YYYYMMDD or YYYY-MM-DD, metres), optionally with ``lat,lon``;
    lines that begin with # are ignored. If a name of four letters or digits is not a file, MintPy downloads the station
    of this name into ``folder``, if given.

    Raises
    ------
    InputError
        For a file of another format or without positions, and for a station that cannot be downloaded.
    """
    found: dict[str, StationSeries] = {}
    for file in files:
        path = Path(file)
        if folder is not None and not path.exists() and re.fullmatch("[A-Za-z0-9]{4}", str(file)):
            path = _download(str(file).upper(), folder)
        try:
            text = path.read_text(encoding="utf-8-sig")  # with the byte order mark of some editors
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The GNSS file {path} cannot be read as text: {error}.") from error
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        try:
            stations = _tenv3(lines) if path.suffix == ".tenv3" else _csv(lines)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            wanted = "of the tenv3 format" if path.suffix == ".tenv3" else "a CSV with the columns station,date,e,n,u"
            raise InputError(f"The GNSS file {path} is not {wanted}: {error}.") from error
        if not stations:
            raise InputError(f"The GNSS file {path} contains no positions.")
        for name, station in stations.items():  # one file per year, for example
            found[name] = found[name].joined(station) if name in found else station
    return found


def double_difference(first: Mapping[int, float], second: Mapping[int, float], dates: Sequence[str]) -> Floats:
    """Line-of-sight double difference, first minus second, at acquisitions.

    Parameters
    ----------
    first, second : mapping
        Metres by day, from :meth:`StationSeries.line_of_sight`.
    dates : sequence of str
        YYYYMMDD.

    Returns
    -------
    (dates,)
        Mean over the days within :data:`WINDOW` days that both stations have; NaN if there is none.
    """
    found = []
    for date in dates:
        days = range(_day(date) - WINDOW, _day(date) + WINDOW + 1)
        common = [d for d in days if d in first and d in second]
        found.append(np.mean([first[d] - second[d] for d in common]) if common else np.nan)
    return np.array(found)


def compare(insar: Floats, gnss: Floats, years: Floats) -> dict[str, float]:
    """Compare rate and scatter of an InSAR double difference with GNSS, on common dates.

    Parameters
    ----------
    insar, gnss : (dates,)
        Metres; NaN is ignored.
    years : (dates,)

    Returns
    -------
    dict
        ``rate`` and ``gnss_rate`` (mm/yr), ``rms`` of their difference with a constant removed (mm), ``dates``; NaN
        with fewer than three dates.
    """
    ok = np.isfinite(insar) & np.isfinite(gnss)
    if ok.sum() < 3:
        return {"rate": np.nan, "gnss_rate": np.nan, "rms": np.nan, "dates": int(ok.sum())}
    rate, gnss_rate = (float(np.polyfit(years[ok], v[ok], 1)[0]) for v in (insar, gnss))
    rms = float(np.std(insar[ok] - gnss[ok]))
    return {"rate": 1000 * rate, "gnss_rate": 1000 * gnss_rate, "rms": 1000 * rms, "dates": int(ok.sum())}


def near(series: Floats, row: int, column: int) -> Floats:
    """Median of the 3 x 3 pixels around a pixel on each date, (dates,); NaN without data."""
    top, left = max(row - 1, 0), max(column - 1, 0)
    window = series[:, top : row + 2, left : column + 2].reshape(len(series), -1)
    known = np.isfinite(window).all(axis=0)
    return np.median(window[:, known], axis=1) if known.any() else np.full(len(series), np.nan)


def _day(text: str) -> int:
    text = text.replace("-", "")
    return int(np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}", "D").astype(int))


def _csv(lines: list[str]) -> dict[str, StationSeries]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(lines):
        if all(np.isfinite(float(row[c])) for c in "enu"):
            rows.setdefault(row["station"].strip(), []).append(row)
    return {
        name: StationSeries(
            name,
            np.array([_day(r["date"].strip()) for r in some], dtype=np.int64),
            np.array([[float(r[c]) for c in "enu"] for r in some]),
            float(some[0].get("lat") or "nan"),
            float(some[0].get("lon") or "nan"),
        )
        for name, some in rows.items()
    }


def _download(name: str, folder: Path) -> Path:
    """File of a station from NGL; an existing one is used."""
    reason = "it is not there"
    try:
        from mintpy.objects.gnss import GNSS_UNR

        folder.mkdir(parents=True, exist_ok=True)
        site = GNSS_UNR(name, data_dir=str(folder))
        site.dload_site(print_msg=False)
    except Exception as error:  # also errors of a picture that MintPy downloads after the data
        reason = str(error)
    path = folder / f"{name}.tenv3"
    if not path.is_file():
        raise InputError(
            f"{name} is not a file, and cannot be downloaded as a station of the Nevada Geodetic Laboratory: {reason}."
        )
    return path


def _tenv3(lines: list[str]) -> dict[str, StationSeries]:
    """NGL's columns: site, date, year, MJD, week, day, meridian, e0, e, n0, n, u0, u, ..., latitude, longitude."""
    rows = [line.split() for line in lines if not line.lstrip().startswith("site")]
    if not rows:
        return {}
    days = np.array([int(r[3]) - 40587 for r in rows], dtype=np.int64)  # modified Julian day of 1970-01-01
    parts = np.array([[float(r[k]) for k in range(7, 13)] for r in rows])
    enu = parts[:, 0::2] + parts[:, 1::2]
    place = (float(rows[0][20]), float(rows[0][21])) if len(rows[0]) > 21 else (float("nan"), float("nan"))
    longitude = (place[1] + 180.0) % 360.0 - 180.0  # some files have longitudes down to -360
    return {rows[0][0]: StationSeries(rows[0][0], days, enu, place[0], longitude)}
