"""Bring the input of ``vae_evaluate.py`` to one grid: masks, truth, GNSS stations, points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..arrays import Floats, Mask
from ..errors import InputError
from ..project.knowledge_input import read_mask
from ..results.evidence import Evidence
from ..results.inverted import Inverted, full_mask, geometry_file
from ..stack import Stack, open_hdf5, pool_map
from ..stack.geometry import Places
from . import gnss_series
from .gnss_series import Station
from .methods import EVERYWHERE, EvaluationData

FEW_STABLE = 0.05
"""Share of stable ground in the scene below which all ground counts as stable."""


def stable_ground(
    stack: Stack, inverted: Inverted, evidence: Evidence | None, mask: tuple[str, Path] | None
) -> tuple[Mask, str]:
    """Ground that counts as stable, on the grid of `inverted`, and the origin of this information.

    It is the user's mask (the option and a file in MintPy's format, not 0 on stable ground), or else the ground on
    which the correction found no motion, or, if hardly any is left, all ground.

    Raises
    ------
    InputError
        For a mask of another size, or one that leaves too few pixels.
    """
    if mask is not None:
        option, file = mask
        found = inverted.valid & (pool_map(read_mask(option, file, stack).astype(np.float32), inverted.factor) > 0.5)
        if found.sum() < 10:
            raise InputError(f"{option}: {file} leaves fewer than 10 stable pixels with data.")
        return found, f"from {file.name} ({option})"
    if evidence is not None:
        rows, columns = (
            np.minimum((np.arange(n) + 0.5) * inverted.pixel[k] / evidence.pixel[k], evidence.valid.shape[k] - 1)
            for k, n in enumerate(inverted.valid.shape)
        )
        found = inverted.valid & ~evidence.moving[np.ix_(rows.astype(int), columns.astype(int))]
        if found.sum() > FEW_STABLE * inverted.valid.sum():
            return found, "where the correction found no motion"
    return inverted.valid.copy(), EVERYWHERE


def read_truth(file: Path, inverted: Inverted, good: Mask) -> tuple[Floats, Mask]:
    """True displacement (dates, h, w) in metres and deforming ground, from a truth file of ``vae_simulate.py``.

    Multilooked like the series, over its ``good`` pixels (length, width).

    Raises
    ------
    InputError
        If it does not fit the stack.
    """
    try:
        with open_hdf5(file) as f:
            rows = {date.decode(): k for k, date in enumerate(f["date"][:])}
            if f["timeseries"].shape[1:] != good.shape:
                raise InputError(f"{file} has another size than the stack.")
            layers = (np.where(good, f["timeseries"][rows[date]], np.nan) for date in inverted.dates)
            maps = np.array([pool_map(layer, inverted.factor) for layer in layers])
            moves = pool_map(np.where(good, f["deforming"][:], np.nan), inverted.factor) > 0
    except (OSError, KeyError) as error:
        raise InputError(f"{file} is not a truth file of this stack: {error}.") from error
    return inverted.referenced(maps), moves


def locate(
    stations: Mapping[str, gnss_series.StationSeries],
    reference: str | None,
    work: Path,
    inverted: Inverted,
    sites: Mapping[str, tuple[float, float]] = {},
) -> tuple[list[Station], list[str]]:
    """Stations on the grid, the reference station first, and the names of those outside the scene.

    Parameters
    ----------
    stations : mapping
    reference : str, optional
        The first station by default.
    work : Path
        Corrected directory, with the geometry.
    inverted : Inverted
    sites : mapping
        Latitude and longitude of stations whose files have no coordinates.

    Raises
    ------
    InputError
        If fewer than two stations are in the scene, or the coordinates of one are unknown.
    """
    names = list(stations)
    first = reference or names[0]
    if first not in stations:
        raise InputError(f"--gnss-ref {first}: there is no such station in the files, only {', '.join(names)}.")
    places = places_of(work, inverted)
    found: list[Station] = []
    outside: list[str] = []
    for name in [first, *(n for n in names if n != first)]:
        latitude, longitude = sites.get(name, (stations[name].latitude, stations[name].longitude))
        if not np.isfinite(latitude + longitude):
            raise InputError(f"The coordinates of the GNSS station {name} are unknown; give --site {name}:LAT:LON.")
        try:
            place = places.pixel(latitude, longitude)
            if place is None:
                raise _outside(name, latitude, longitude)
            angles = places.angles(*place)  # angles are unknown outside the swath
        except InputError:
            if name == first:
                raise
            outside.append(name)
            continue
        row, column = (axis // inverted.factor for axis in place)
        found.append(Station(name, row, column, stations[name].line_of_sight(*angles)))
    if len(found) < 2:
        raise InputError("A double difference needs two GNSS stations on the scene.")
    return found, outside


def places_of(work: Path, inverted: Inverted) -> Places:
    """Conversion of coordinates to pixels of `inverted` at full resolution."""
    return Places(inverted.attributes, geometry_file(work, inverted.attributes), work / "inputs")


def pixel_of(work: Path, inverted: Inverted, latitude: float, longitude: float, name: str) -> tuple[int, int]:
    """Row and column on the grid of `inverted`."""
    place = places_of(work, inverted).pixel(latitude, longitude)
    if place is None:
        raise _outside(name, latitude, longitude)
    return place[0] // inverted.factor, place[1] // inverted.factor


def _outside(name: str, latitude: float, longitude: float) -> InputError:
    return InputError(f"{name} at {latitude}, {longitude} lies outside the scene; choose other coordinates.")


def evaluation_data(
    stack: Stack,
    project: Path,
    work: Path,
    inverted: Inverted,
    evidence: Evidence | None,
    template: Mapping[str, str],
    mask: tuple[str, Path] | None = None,
    truth_file: Path | None = None,
    stations: list[Station] | None = None,
) -> EvaluationData:
    """Data with which the methods are compared; for the mask see :func:`stable_ground`."""
    index = {date: k for k, date in enumerate(inverted.dates)}
    names = [[stack.dates[i] for i in pair] for pair in stack.pairs[stack.keep]]
    pairs = np.array([[index[a], index[b]] for a, b in names if a in index and b in index])
    stable, source = stable_ground(stack, inverted, evidence, mask)
    truth, moves = None, None
    if truth_file is not None:
        truth, moves = read_truth(truth_file, inverted, full_mask(work))
        if mask is None:
            stable, source = inverted.valid & ~moves, f"from {truth_file.name}"
    return EvaluationData(inverted, work, project, pairs, stable, source, template, truth, moves, stations or [])
