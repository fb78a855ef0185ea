"""GNSS rates from a table, as the stack would see them: where on the training grid, and how much phase a year."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from mintpy.objects.coord import coordinate
from mintpy.utils import readfile
from mintpy.utils import utils0 as ut

from .errors import InputError
from .knowledge import Station
from .stack import Stack, has_phase

__all__ = ["read_stations"]

_PLACE = ("station", "lat", "lon")
_LINE_OF_SIGHT = ("rate", "std")
_COMPONENTS = ("ve", "vn", "vu", "se", "sn", "su")
_FEWEST = 2  # rates of a stack are relative, so that one station says nothing
_NEAR = 3  # pixels that MintPy's search of the lookup table may be off


def read_stations(file: Path, stack: Stack, factor: int) -> tuple[list[Station], list[str]]:
    """Read ``station,lat,lon,rate,std`` or ``station,lat,lon,ve,vn,vu,se,sn,su``.

    Parameters
    ----------
    file : Path
        Comma-separated with a header; degrees and mm/yr. ``rate`` is along the line of sight, towards the satellite
        positive; east, north and up are projected with the angles of the geometry file, as MintPy does, their errors
        taken to be independent.
    stack : Stack
    factor : int
        Pixels of one pixel of the training grid, along both axes.

    Returns
    -------
    stations : list of Station
        Those on ground that the stack covers; none if there are fewer than two.
    warnings : list of str

    Raises
    ------
    InputError
        For a table that cannot be read, or a geometry that does not allow it.
    """
    table = _read_table(file)
    where = _coordinates(stack)
    stations, outside, empty = [], [], []
    for name, values in table:
        place = _pixel(where, stack, values["lat"], values["lon"])
        if place is None:
            outside.append(name)
            continue
        y, x = place
        row, column = y // factor, x // factor
        window = np.s_[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        if not has_phase(stack, *window):
            empty.append(name)
            continue
        rate, std = _line_of_sight(values, stack, y, x)
        to_phase = 4 * math.pi / stack.wavelength / 1000  # mm towards the satellite shorten the path
        y_coarse, x_coarse = ((k + 0.5) / factor - 0.5 for k in (y, x))
        stations.append(Station(name, y_coarse, x_coarse, -rate * to_phase, std * to_phase))
    notes = []
    if outside:
        notes.append(f"GNSS stations outside the scene are left out: {', '.join(outside)}.")
    if empty:
        notes.append(f"GNSS stations where the stack has no data are left out: {', '.join(empty)}.")
    if len(stations) < _FEWEST:
        notes.append(
            f"vae.gnssFile: {len(stations)} of {len(table)} stations can be used, and rates of a stack are relative; "
            f"with fewer than {_FEWEST} GNSS is not used."
        )
        stations = []
    return stations, notes


def _read_table(file: Path) -> list[tuple[str, dict[str, float]]]:
    """Name and numbers of each station."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"vae.gnssFile: {file} cannot be read as text.") from error
    numbered = [(k, line) for k, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    try:  # line by line: no quotation mark shall swallow the end of a line
        rows = [[word.strip() for word in next(csv.reader([line]))] for _, line in numbered]
    except csv.Error as error:
        raise InputError(f"vae.gnssFile: {file} is no table of comma-separated values: {error}.") from error
    header = [word.lower() for word in rows[0]] if rows else []
    rates = next((c for c in (_LINE_OF_SIGHT, _COMPONENTS) if {*_PLACE, *c} <= set(header)), None)
    if rates is None:
        forms = " or ".join(",".join(_PLACE + c) for c in (_LINE_OF_SIGHT, _COMPONENTS))
        raise InputError(f"vae.gnssFile: {file} needs a first line {forms}.")
    table = []
    for (k, _), row in zip(numbered[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise InputError(f"vae.gnssFile: line {k} of {file} has {len(row)} values, its header {len(header)}.")
        words = dict(zip(header, row, strict=True))
        values = {key: _number(file, k, key, words[key]) for key in (*_PLACE[1:], *rates)}
        if abs(values["lat"]) > 90 or abs(values["lon"]) > 360:
            raise InputError(f"vae.gnssFile: line {k} of {file}: lat and lon are in degrees.")
        if any(values[key] <= 0 for key in rates if key.startswith("s")):
            raise InputError(f"vae.gnssFile: line {k} of {file}: a standard deviation must be above 0.")
        table.append((words["station"], values))
    return table


def _number(file: Path, line: int, key: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"vae.gnssFile: line {line} of {file}: {key} = {word!r} is no number.")
    return value


def _coordinates(stack: Stack) -> Any:
    """MintPy's converter of latitude and longitude, with the lookup table that a stack in radar coordinates needs."""
    attributes = dict(stack.attributes)
    if "Y_FIRST" in attributes:
        return coordinate(attributes, lookup_file=str(stack.geometry_file))
    neighbours = [stack.file.with_name(name) for name in ("geometryRadar.h5", "geometryGeo.h5")]
    for path in (stack.geometry_file, *(p for p in neighbours if p.is_file())):
        if {"latitude", "azimuthCoord"} & set(readfile.get_dataset_list(str(path))):
            return coordinate(attributes, lookup_file=str(path))
    raise InputError(
        f"vae.gnssFile: {stack.geometry_file} has no latitude and longitude, nor is there a lookup table beside it, to "
        "find the stations in radar coordinates; load the geometry with them."
    )


def _pixel(where: Any, stack: Stack, lat: float, lon: float) -> tuple[int, int] | None:
    """Pixel (y, x) of a place, None outside the scene."""
    lon = (lon + 180) % 360 - 180  # the one convention that lookup tables and UTM know; on a map MintPy finds either
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # of an empty mean, before MintPy says that it found nothing
            y, x = (int(k) for k in where.geo2radar(lat, lon, print_msg=False)[:2])
    except (RuntimeError, IndexError, ValueError):
        return None
    if not (0 <= y < stack.shape[0] and 0 <= x < stack.shape[1]):
        return None
    return (y, x) if where.geocoded or _is_near(where, y, x, lat, lon) else None


def _is_near(where: Any, y: int, x: int, lat: float, lon: float) -> bool:
    """Whether MintPy's search of the lookup table ended at the place: beyond the edges it finds a pixel of the edge."""
    if (
        "Y_FIRST" in where.lut_metadata
    ):  # table over the map: its edges, where an index may wrap, and 0 outside the swath
        first = [float(where.lut_metadata[key]) for key in ("Y_FIRST", "X_FIRST")]
        step = [float(where.lut_metadata[key]) for key in ("Y_STEP", "X_STEP")]
        index = [(v - f) / s for v, f, s in zip((lat, lon), first, step, strict=True)]
        return all(0 <= k <= n - 1 for k, n in zip(index, where.lut_y.shape, strict=True)) and (y > 0 or x > 0)
    window = np.s_[max(y - _NEAR, 0) : y + _NEAR + 1, max(x - _NEAR, 0) : x + _NEAR + 1]
    tables = ((where.lut_y[window], lat), (where.lut_x[window], lon))
    return all(float(np.nanmin(values)) <= v <= float(np.nanmax(values)) for values, v in tables)


def _line_of_sight(values: Mapping[str, float], stack: Stack, y: int, x: int) -> tuple[float, float]:
    """Rate towards the satellite and its standard deviation, mm/yr."""
    if "rate" in values:
        return values["rate"], values["std"]
    east_north_up = ut.get_unit_vector4component_of_interest(*_angles(stack, y, x), comp="enu2los")
    rate = sum(values[key] * u for key, u in zip(_COMPONENTS[:3], east_north_up, strict=True))
    std = math.hypot(*(values[key] * u for key, u in zip(_COMPONENTS[3:], east_north_up, strict=True)))
    return float(rate), std


def _angles(stack: Stack, y: int, x: int) -> tuple[float, float]:
    """Incidence angle and azimuth of the line of sight (from the ground, anti-clockwise from north), degrees."""
    known = readfile.get_dataset_list(str(stack.geometry_file))
    angles = [
        float(readfile.read(str(stack.geometry_file), (x, y, x + 1, y + 1), name, print_msg=False)[0].item())
        if name in known
        else math.nan
        for name in ("incidenceAngle", "azimuthAngle")
    ]
    if math.isnan(angles[1]) and "HEADING" in stack.attributes:
        side = "left" if stack.attributes.get("ANTENNA_SIDE", "-1").strip().startswith("1") else "right"
        angles[1] = float(ut.heading2azimuth_angle(float(stack.attributes["HEADING"]), side))
    if not all(math.isfinite(a) for a in angles) or angles[0] == 0:
        raise InputError(
            f"vae.gnssFile: east, north and up cannot be projected, for {stack.geometry_file} lacks incidenceAngle or "
            "azimuthAngle at a station; give rates along the line of sight (station,lat,lon,rate,std)."
        )
    return angles[0], angles[1]
