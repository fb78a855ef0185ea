"""A small MintPy project for tests of files: known bowl and random delays on a short-baseline network."""

from datetime import date, timedelta
from pathlib import Path

import h5py
import numpy as np

WAVELENGTH = 0.0554658
REF_YX = (3, 5)
NO_DATA_ROW = 25  # NaN in some pairs
VARIANT = {"bridging": "unwrapPhase_bridging", "phase_closure": "unwrapPhase_phaseClosure"}

_COMMON = {
    "FILE_TYPE": "ifgramStack",
    "WAVELENGTH": str(WAVELENGTH),
    "ALOOKS": "2",
    "RLOOKS": "8",
    "PLATFORM": "Sen",
    "PROCESSOR": "isce",
    "HEADING": "-12.3",
    "HEIGHT": "698030.0",
    "STARTING_RANGE": "798988.0",
    "RANGE_PIXEL_SIZE": "18.6",
    "AZIMUTH_PIXEL_SIZE": "28.0",
    "EARTH_RADIUS": "6375868.0",
    "ANTENNA_SIDE": "-1",
    "ORBIT_DIRECTION": "ASCENDING",
    "PROJECT_NAME": "TinySenAT5",
    "CENTER_LINE_UTC": "2421.9",
    "relative_orbit": "5",
    "beam_mode": "IW",
    "REF_Y": str(REF_YX[0]),
    "REF_X": str(REF_YX[1]),
    **{f"LAT_REF{i}": "19.4" for i in (1, 2, 3, 4)},
    **{f"LON_REF{i}": "-99.1" for i in (1, 2, 3, 4)},
}
_GEO = {
    "X_FIRST": "-99.2",
    "Y_FIRST": "19.5",
    "X_STEP": "0.0014",
    "Y_STEP": "-0.0014",
    "X_UNIT": "degrees",
    "Y_UNIT": "degrees",
}


def make_project(
    root: Path,
    *,
    coord: str = "geo",
    n_dates: int = 9,
    size: tuple[int, int] = (30, 40),
    chunks: tuple[int, int, int] | None = (4, 7, 9),
    compression: str | None = None,
    unwrap_method: str | None = None,
    reference: bool = True,
    water: bool = False,
    connect: bool = False,
) -> Path:
    """Write ``root/inputs/ifgramStack.h5`` and its geometry; return ``root``."""
    rng = np.random.default_rng(7)
    length, width = size
    days = [date(2020, 1, 5) + timedelta(12 * i) for i in range(n_dates)]
    names = [f"{d:%Y%m%d}" for d in days]
    pairs = [(i, j) for i in range(n_dates) for j in range(i + 1, min(i + 4, n_dates))]
    y, x = np.mgrid[:length, :width]
    bowl = np.exp(-((y - length / 2) ** 2 + (x - width / 2) ** 2) / 40)
    delay = np.cumsum(rng.normal(size=(n_dates, length, width)), axis=2) * 0.1
    per_date = np.array([0.3 * i for i in range(n_dates)])[:, None, None] * bowl + delay
    phase = np.array([per_date[j] - per_date[i] for i, j in pairs], np.float32) + np.float32(0.7)
    coherence = rng.uniform(0.86, 0.99, size=phase.shape).astype(np.float32)
    phase[:, :, -3:] = 0
    phase[1::2, NO_DATA_ROW] = np.nan
    coherence[2, 10, 10] = np.nan

    attributes = {**_COMMON, "LENGTH": str(length), "WIDTH": str(width), **(_GEO if coord == "geo" else {})}
    if not reference:
        attributes = {k: v for k, v in attributes.items() if k not in ("REF_Y", "REF_X")}
    inputs = root / "inputs"
    inputs.mkdir(parents=True)
    with h5py.File(inputs / "ifgramStack.h5", "w") as f:
        f.attrs.update(attributes)
        f["date"] = np.array([[names[i], names[j]] for i, j in pairs], "S8")
        f["bperp"] = rng.normal(0, 50, len(pairs)).astype(np.float32)
        f["dropIfgram"] = np.array([k != 4 for k in range(len(pairs))])
        layers = {"unwrapPhase": phase, "coherence": coherence}
        if unwrap_method:
            # As MintPy leaves it: referenced, so that the reference pixel is 0 everywhere.
            reference_phase = phase[:, REF_YX[0], REF_YX[1]][:, None, None]
            layers[VARIANT[unwrap_method]] = np.where(phase == 0, phase, phase - reference_phase)
            f.attrs["mintpy.unwrapError.waterMaskFile"] = "waterMask.h5"
        for name, data in layers.items():
            f.create_dataset(name, data=data, chunks=chunks, compression=compression)
            f[name].attrs["MODIFICATION_TIME"] = "1600000000.0"
        if connect:
            components = (np.nan_to_num(phase) != 0).astype(np.int16)
            f.create_dataset("connectComponent", data=components, chunks=True, compression="lzf")

    geometry = inputs / ("geometryGeo.h5" if coord == "geo" else "geometryRadar.h5")
    with h5py.File(geometry, "w") as f:
        f.attrs.update({**attributes, "FILE_TYPE": "geometry"})
        f["height"] = (2000 + 10 * y).astype(np.float32)
        f["incidenceAngle"] = np.full(size, 38, np.float32)
        f["slantRangeDistance"] = np.full(size, 8e5, np.float32)
        if coord != "geo":
            f["latitude"] = (19.5 - 0.0014 * y).astype(np.float32)
            f["longitude"] = (-99.2 + 0.0014 * x).astype(np.float32)
        if water:
            f["waterMask"] = x > 2
    return root


def delays(n_dates: int, size: tuple[int, int], seed: int = 1) -> np.ndarray:
    """An atmosphere per date, radians, (dates, length, width)."""
    return np.random.default_rng(seed).normal(size=(n_dates, *size)).astype(np.float32)
