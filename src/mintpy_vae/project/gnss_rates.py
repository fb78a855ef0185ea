"""Read GNSS rates from a table and convert them to positions on the training grid and phase per year."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from mintpy.utils import utils0 as ut

from ..errors import InputError
from ..method.knowledge import StationRate
from ..multilooking import cell_of, on_cells, pixels_of
from ..stack import Stack, has_phase
from ..stack.geometry import Places

__all__ = ["read_rates"]

_PLACE = ("station", "lat", "lon")
_LINE_OF_SIGHT = ("rate", "std")
_COMPONENTS = ("ve", "vn", "vu", "se", "sn", "su")
_FEWEST = 2  # rates of a stack are relative, so a single station is of no use


def read_rates(file: Path, stack: Stack, factor: float) -> tuple[list[StationRate], list[str]]:
    """Read ``station,lat,lon,rate,std`` or ``station,lat,lon,ve,vn,vu,se,sn,su``.

    Parameters
    ----------
    file : Path
        Comma-separated with a header; degrees and mm/yr. ``rate`` is along the line of sight, positive towards the
        satellite. East, north and up are projected with the angles of the geometry file, as in MintPy, and their errors
        are assumed to be independent.
    stack : Stack
    factor : float
        Looks of the training grid along both axes.

    Returns
    -------
    stations : list of StationRate
        Stations on ground that the stack covers; none if there are fewer than two.
    warnings : list of str

    Raises
    ------
    InputError
        If the table cannot be read, or the geometry lacks the coordinates or angles.
    """
    table = _read_table(file)
    places = Places(stack.attributes, stack.geometry_file, stack.file.parent)
    stations, outside, empty = [], [], []
    for name, values in table:
        place = places.pixel(values["lat"], values["lon"])
        if place is None:
            outside.append(name)
            continue
        y, x = place
        window = [pixels_of(cell_of(k, factor), size, factor) for k, size in zip(place, stack.shape, strict=True)]
        if not has_phase(stack, *window):
            empty.append(name)
            continue
        rate, std = _line_of_sight(values, places, y, x)
        to_phase = 4 * math.pi / stack.wavelength / 1000  # motion towards the satellite shortens the path
        y_coarse, x_coarse = (on_cells(k, factor) for k in (y, x))
        stations.append(StationRate(name, y_coarse, x_coarse, -rate * to_phase, std * to_phase))
    notes = []
    if outside:
        notes.append(f"GNSS stations outside the scene are left out: {', '.join(outside)}.")
    if empty:
        notes.append(f"GNSS stations where the stack has no data are left out: {', '.join(empty)}.")
    if len(stations) < _FEWEST:
        notes.append(
            f"vae.gnssFile: only {len(stations)} of {len(table)} stations can be used. The rates of a stack are "
            f"relative, so GNSS is not used with fewer than {_FEWEST} stations."
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
    try:  # line by line, so that a quotation mark cannot extend over the end of a line
        rows = [[word.strip() for word in next(csv.reader([line]))] for _, line in numbered]
    except csv.Error as error:
        raise InputError(f"vae.gnssFile: {file} is not a table of comma-separated values: {error}.") from error
    header = [word.lower() for word in rows[0]] if rows else []
    rates = next((c for c in (_LINE_OF_SIGHT, _COMPONENTS) if {*_PLACE, *c} <= set(header)), None)
    if rates is None:
        forms = " or ".join(",".join(_PLACE + c) for c in (_LINE_OF_SIGHT, _COMPONENTS))
        raise InputError(f"vae.gnssFile: {file} must begin with a line {forms}.")
    table = []
    for (k, _), row in zip(numbered[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise InputError(f"vae.gnssFile: line {k} of {file} has {len(row)} values, but the header {len(header)}.")
        words = dict(zip(header, row, strict=True))
        values = {key: _number(file, k, key, words[key]) for key in (*_PLACE[1:], *rates)}
        if abs(values["lat"]) > 90 or abs(values["lon"]) > 360:
            raise InputError(f"vae.gnssFile: line {k} of {file}: lat and lon must be in degrees.")
        if any(values[key] <= 0 for key in rates if key.startswith("s")):
            raise InputError(f"vae.gnssFile: line {k} of {file}: a standard deviation must be positive.")
        table.append((words["station"], values))
    return table


def _number(file: Path, line: int, key: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"vae.gnssFile: line {line} of {file}: {key} = {word!r} is not a number.")
    return value


def _line_of_sight(values: Mapping[str, float], places: Places, y: int, x: int) -> tuple[float, float]:
    """Rate towards the satellite and its standard deviation, mm/yr."""
    if "rate" in values:
        return values["rate"], values["std"]
    east_north_up = ut.get_unit_vector4component_of_interest(*places.angles(y, x), comp="enu2los")
    rate = sum(values[key] * u for key, u in zip(_COMPONENTS[:3], east_north_up, strict=True))
    std = math.hypot(*(values[key] * u for key, u in zip(_COMPONENTS[3:], east_north_up, strict=True)))
    return float(rate), std
