"""Write a simulated scene as a MintPy project in its state after load_data, with the truth."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import h5py
import numpy as np

from ..arrays import Raster
from ..errors import InputError
from .scene import Scene

TEMPLATE = """\
# MintPy template of a simulated project (run after load_data: --start modify_network)
mintpy.load.processor           = {processor}
mintpy.reference.yx             = {y},{x}
mintpy.troposphericDelay.method = no
mintpy.save.kmz                 = no
mintpy.save.hdfEos5             = yes
mintpy.plot                     = no
"""


def write_project(scene: Scene, outdir: str | Path, reference: bool = True) -> Path:
    """Write a scene as a MintPy project with its truth.

    ``inputs/ifgramStack.h5``, ``inputs/geometryGeo.h5`` or ``inputs/geometryRadar.h5``, ``<preset>.txt`` (template) and
    ``truth.h5``: a MintPy time-series whose `timeseries` is the true displacement, with `atmosphere` (dates, length,
    width), both in metres of displacement towards the satellite, and `deforming` (length, width).

    Parameters
    ----------
    scene : Scene
    outdir : path
        A new or empty directory.
    reference : bool
        Whether the stack has a reference point, as it has after MintPy's reference_point step.

    Returns
    -------
    Path
        The template.

    Raises
    ------
    InputError
        If `outdir` is not empty or cannot be written.
    """
    outdir = Path(outdir)
    _claim(outdir)
    attributes = dict(scene.attributes)
    latitude, longitude = _lat_lon(scene)
    if scene.coord == "radar":
        attributes |= _corners(latitude, longitude)
    y, x = scene.ref_yx
    # MintPy's writer announces each file
    with contextlib.redirect_stdout(io.StringIO()):
        _write_geometry(scene, outdir / "inputs", attributes, latitude, longitude)
        if reference:
            attributes |= {"REF_Y": str(y), "REF_X": str(x)}
            attributes |= {"REF_LAT": str(latitude[y, x]), "REF_LON": str(longitude[y, x])}
        _write_stack(scene, outdir / "inputs" / "ifgramStack.h5", attributes)
        _write_truth(scene, outdir / "truth.h5", attributes)
    template = outdir / f"{scene.name}.txt"
    template.write_text(TEMPLATE.format(processor=attributes["PROCESSOR"], y=y, x=x))
    return template


def check_unused(outdir: Path) -> None:
    """Refuse a directory that is not empty."""
    try:
        if outdir.exists() and any(outdir.iterdir()):
            raise InputError(f"{outdir} is not empty; choose another directory.")
    except OSError as error:
        raise InputError(f"{outdir} cannot be written ({error.strerror}); choose another directory.") from None


def _claim(outdir: Path) -> None:
    check_unused(outdir)
    try:
        (outdir / "inputs").mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{outdir} cannot be written ({error.strerror}); choose another directory.") from None


def _lat_lon(scene: Scene) -> tuple[Raster, Raster]:
    """Latitude and longitude of the pixels' centres, degrees; (length, width) each.

    In radar coordinates the grid is rotated by the heading of an ascending orbit; lines increase northwards.
    """
    length, width = scene.land.shape
    lat0, lon0 = float(scene.attributes["LAT_REF3"]), float(scene.attributes["LON_REF3"])
    step = scene.pixel / 111_000.0
    line = np.arange(length)[:, None] + 0.5
    column = np.arange(width)[None, :] + 0.5
    if scene.coord == "geo":
        return lat0 - step * line + 0 * column, lon0 + step * column + 0 * line
    heading = np.deg2rad(float(scene.attributes["HEADING"]))
    north = line * np.cos(heading) - column * np.sin(heading)
    east = line * np.sin(heading) + column * np.cos(heading)
    return lat0 + step * (north - length), lon0 + step * east


def _corners(latitude: Raster, longitude: Raster) -> dict[str, str]:
    """Corners in MintPy's order: first line near and far, last line near and far."""
    corners = enumerate(((0, 0), (0, -1), (-1, 0), (-1, -1)), start=1)
    return {
        f"{name}_REF{k}": str(grid[corner])
        for k, corner in corners
        for name, grid in (("LAT", latitude), ("LON", longitude))
    }


def _write_geometry(
    scene: Scene, inputs: Path, attributes: dict[str, str], latitude: Raster, longitude: Raster
) -> None:
    from mintpy.utils import writefile

    shape = scene.land.shape
    across = np.broadcast_to(np.linspace(0, 1, shape[1], dtype=np.float32), shape)
    slant = float(attributes["STARTING_RANGE"]) + across * shape[1] * float(attributes["RANGE_PIXEL_SIZE"])
    data = {
        "height": scene.height,
        "incidenceAngle": scene.incidence,
        "slantRangeDistance": slant.astype(np.float32),
        # of the vector from the ground to the satellite, anti-clockwise from north
        "azimuthAngle": np.full(shape, 90.0 - float(attributes["HEADING"]), np.float32),
        "waterMask": scene.land,
    }
    name = "geometryGeo.h5"
    if scene.coord == "radar":
        name = "geometryRadar.h5"
        data |= {"latitude": latitude.astype(np.float32), "longitude": longitude.astype(np.float32)}
    writefile.write(data, str(inputs / name), metadata=attributes | {"FILE_TYPE": "geometry"}, print_msg=False)


def _write_stack(scene: Scene, out_file: Path, attributes: dict[str, str]) -> None:
    from mintpy.utils import writefile

    dates = np.array(scene.dates, "S8")
    data = {
        "date": dates[scene.pairs],
        "bperp": scene.bperp[scene.pairs[:, 1]] - scene.bperp[scene.pairs[:, 0]],
        "dropIfgram": np.ones(len(scene.pairs), bool),
        "unwrapPhase": scene.phase,
        "coherence": scene.coherence,
        "connectComponent": scene.component,
    }
    writefile.write(data, str(out_file), metadata=attributes | {"FILE_TYPE": "ifgramStack"}, print_msg=False)
    with h5py.File(out_file, "r+") as f:
        for name in ("unwrapPhase", "coherence"):
            f[name].attrs["MODIFICATION_TIME"] = str(time.time())


def _write_truth(scene: Scene, out_file: Path, attributes: dict[str, str]) -> None:
    from mintpy.utils import writefile

    data = {
        "date": np.array(scene.dates, "S8"),
        "bperp": scene.bperp,
        "timeseries": scene.displacement,
        "atmosphere": scene.atmosphere,
        "deforming": scene.deforming,
    }
    meta = attributes | {"FILE_TYPE": "timeseries", "UNIT": "m", "REF_DATE": scene.dates[0]}
    writefile.write(data, str(out_file), metadata=meta, print_msg=False)
