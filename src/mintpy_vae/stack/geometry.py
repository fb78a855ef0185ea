"""Geometry of a stack by MintPy's rules: pixel of a place in degrees, line of sight, pixel size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from mintpy.objects.coord import coordinate
from mintpy.utils import readfile
from mintpy.utils import utils0 as ut
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from ..errors import InputError

__all__ = ["Places", "geometry_name", "pixel_size"]

_GEOMETRY = ("geometryRadar.h5", "geometryGeo.h5")
_NEAR = 3  # pixels; tolerance of MintPy's search in the lookup table
_NOT_GIVEN = ("", "None")

Projection = Callable[[float, float], tuple[float, float]]  # latitude, longitude -> northing, easting


def geometry_name(attributes: Mapping[str, str]) -> str:
    """MintPy's name of the geometry file on the grid of these attributes."""
    return _GEOMETRY["Y_FIRST" in attributes]


class Places:
    """Conversion of places to pixels of a stack in degrees, metres, or radar coordinates.

    Longitudes may differ from those of the grid by whole turns: -280, 80 and 440 degrees are the same place.

    Parameters
    ----------
    attributes : mapping of str
        Attributes of the stack, or of a full-resolution product of MintPy.
    geometry_file : Path
        Geometry on the same grid.
    inputs : Path
        Directory in which the lookup table may be in another geometry file, as for Gamma and ROI_PAC.

    Raises
    ------
    InputError
        For a grid in metres of an unknown projection, or radar coordinates without a lookup table.
    """

    def __init__(self, attributes: Mapping[str, str], geometry_file: Path, inputs: Path) -> None:
        self.attributes, self.geometry_file = attributes, geometry_file
        self.shape = int(attributes["LENGTH"]), int(attributes["WIDTH"])
        self._geocoded = "Y_FIRST" in attributes
        table = geometry_file if self._geocoded else _lookup_table(geometry_file, inputs)
        # coordinates are projected here, so MintPy must not project them again
        self._where = coordinate({k: v for k, v in attributes.items() if k != "UTM_ZONE"}, lookup_file=str(table))
        self._where.open()
        self._project: Projection | None = None
        over = attributes if self._geocoded else self._where.lut_metadata
        if not self._geocoded:
            self._where.read_lookup_table(print_msg=False)
        self._of_map = "Y_FIRST" in over
        if self._of_map:
            self._project = _projection(over, table)
            self._middle = float(over["X_FIRST"]) + float(over["X_STEP"]) * int(over["WIDTH"]) / 2
        else:
            latitude, longitude = (np.array(v, dtype=np.float64) for v in (self._where.lut_y, self._where.lut_x))
            known = np.isfinite(latitude) & np.isfinite(longitude)
            known &= latitude != 0  # MintPy marks pixels outside the elevation model with 0
            latitude[~known], longitude[~known] = np.nan, np.nan
            self._middle = float(np.median(longitude[known])) if known.any() else 0.0
            self._where.lut_y, self._where.lut_x = latitude, _turned(longitude, self._middle)

    def pixel(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """Row and column at full resolution of a place in degrees; None outside the scene."""
        try:
            if self._project:
                place = self._project(latitude, _turned(longitude, 0.0))
            else:
                place = latitude, _turned(longitude, self._middle)
            with redirect_stdout(StringIO()), warnings.catch_warnings():
                # the mean of an empty selection, before MintPy reports that it found nothing
                warnings.simplefilter("ignore", RuntimeWarning)
                y, x = (int(k) for k in self._search(*place))
        except (RuntimeError, IndexError, ValueError, OverflowError):
            return None
        if not (0 <= y < self.shape[0] and 0 <= x < self.shape[1]):
            return None
        return (y, x) if self._geocoded or self._is_near(y, x, *place) else None

    def angles(self, y: int, x: int) -> tuple[float, float]:
        """Incidence angle and azimuth of the line of sight (from the ground, anti-clockwise from north), degrees.

        Raises
        ------
        InputError
            If the geometry file does not contain them.
        """
        known = readfile.get_dataset_list(str(self.geometry_file))
        incidence, azimuth = (
            float(readfile.read(str(self.geometry_file), (x, y, x + 1, y + 1), name, print_msg=False)[0].item())
            if name in known
            else math.nan
            for name in ("incidenceAngle", "azimuthAngle")
        )
        if not math.isfinite(azimuth) and "HEADING" in self.attributes:
            left = self.attributes.get("ANTENNA_SIDE", "-1").strip().startswith("1")
            azimuth = float(ut.heading2azimuth_angle(float(self.attributes["HEADING"]), "left" if left else "right"))
        if not (math.isfinite(incidence) and math.isfinite(azimuth)) or incidence == 0:
            raise InputError(
                f"GNSS rates cannot be projected on the line of sight: {self.geometry_file} lacks incidenceAngle or "
                f"azimuthAngle at a station (y/x {y}, {x}); load the geometry with them, or leave the station out."
            )
        return incidence, azimuth

    def _search(self, y: float, x: float) -> tuple[Any, Any]:
        if self._geocoded:
            row, column = self._where.lalo2yx(y, x)
        else:
            row, column = self._where.geo2radar(y, x, print_msg=False)[:2]
        return row, column

    def _is_near(self, row: int, column: int, y: float, x: float) -> bool:
        """Whether the pixel that MintPy found in the lookup table is at the place; outside the edges it is not."""
        where = self._where
        if self._of_map:  # an index may wrap at the edges, and is 0 outside the swath
            first = [float(where.lut_metadata[key]) for key in ("Y_FIRST", "X_FIRST")]
            step = [float(where.lut_metadata[key]) for key in ("Y_STEP", "X_STEP")]
            index = [(v - f) / s for v, f, s in zip((y, x), first, step, strict=True)]
            return all(0 <= k <= n - 1 for k, n in zip(index, where.lut_y.shape, strict=True)) and (
                row > 0 or column > 0
            )
        window = np.s_[max(row - _NEAR, 0) : row + _NEAR + 1, max(column - _NEAR, 0) : column + _NEAR + 1]
        known = np.isfinite(where.lut_y[window])
        tables = ((where.lut_y[window][known], y), (where.lut_x[window][known], x))
        return bool(known.any()) and all(float(values.min()) <= v <= float(values.max()) for values, v in tables)


def _turned(longitude: Any, middle: float) -> Any:
    """Add whole turns to longitudes so that they are nearest to ``middle``; without a turn the value is unchanged."""
    return longitude + 360.0 * np.rint((middle - longitude) / 360.0)


def _projection(attributes: Mapping[str, str], file: Path) -> Projection | None:
    """Projection from degrees to the grid in metres; None for a grid in degrees.

    It is taken from ``UTM_ZONE``, as in MintPy, or else from ``EPSG``, which MintPy writes for any projection.
    """
    zone, code = (str(attributes.get(key, "")).strip() for key in ("UTM_ZONE", "EPSG"))
    if zone not in _NOT_GIVEN:
        return partial(ut.latlon2utm, {"UTM_ZONE": zone})
    if code not in _NOT_GIVEN:
        try:
            system = CRS.from_epsg(int(float(code.upper().removeprefix("EPSG:"))))
        except (CRSError, ValueError, OverflowError) as error:
            raise InputError(
                f"Coordinates cannot be converted: the grid of {file} has the attribute EPSG = {code}, an unknown code."
            ) from error
        if system.is_projected:
            to_metres = Transformer.from_crs("EPSG:4326", system, always_xy=True)
            return partial(_northing_easting, to_metres)
    if not attributes.get("X_UNIT", "degrees").strip().lower().startswith("deg"):
        raise InputError(
            f"Coordinates cannot be converted: the grid of {file} is in {attributes['X_UNIT']}, without an attribute "
            "UTM_ZONE or EPSG that gives the projection; add one of them to the stack."
        )
    return None


def _northing_easting(to_metres: Transformer, latitude: float, longitude: float) -> tuple[float, float]:
    easting, northing = to_metres.transform(longitude, latitude)
    return northing, easting


def _lookup_table(geometry_file: Path, inputs: Path) -> Path:
    """Find the geometry file with the lookup table of a stack in radar coordinates."""
    others: Iterable[Path] = (path for name in _GEOMETRY if (path := inputs / name).is_file())
    for path in (geometry_file, *others):
        if {"latitude", "azimuthCoord"} & set(readfile.get_dataset_list(str(path))):
            return path
    raise InputError(
        f"Coordinates cannot be converted: {geometry_file} has no latitude and longitude, and there is no lookup "
        "table beside the stack; load the geometry with one of them."
    )


def pixel_size(attributes: Mapping[str, str]) -> tuple[float, float]:
    """Size of a pixel on the ground in metres, along rows and along columns, from MintPy's attributes."""
    if "Y_FIRST" not in attributes:
        # MintPy knows the spacing along azimuth of three processors and fails on all others
        known = dict(attributes) | ({} if attributes.get("PROCESSOR") == "gamma" else {"PROCESSOR": "isce"})
        return float(ut.azimuth_ground_resolution(known)), float(ut.range_ground_resolution(known))
    dy, dx = abs(float(attributes["Y_STEP"])), abs(float(attributes["X_STEP"]))
    if attributes.get("Y_UNIT", "degrees").startswith("deg"):
        middle = float(attributes["Y_FIRST"]) + float(attributes["Y_STEP"]) * float(attributes["LENGTH"]) / 2
        return 111_195.0 * dy, 111_195.0 * dx * float(np.cos(np.deg2rad(middle)))
    return dy, dx
