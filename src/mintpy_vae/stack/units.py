"""Detect wrong units: wavelength in centimetres, height in feet, coherence in per cent, angles in radians."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError
from .hdf5 import damage, has_data, open_hdf5, read

SHORTEST, LONGEST = 0.005, 1.0
"""Wavelengths in metres from Ka to P band. C band in centimetres would be 5.5, its frequency in GHz 5.4."""
HIGHEST = 9000.0
"""Metres; no ground is higher."""
FLATTEST = 9.0
"""Range of heights in metres below which they may be in kilometres, unless they are all equal."""
MOST_ABOVE = 0.5
"""Largest share of coherence above 1 that is attributed to damage; in other units nearly all values are above 1."""
_PAIRS, _DISTINCT = 16, 10


def check_wavelength(path: Path, value: float) -> None:
    """Refuse a wavelength that is not in metres."""
    if not SHORTEST <= value <= LONGEST:
        raise InputError(
            f"{path}: WAVELENGTH = {value:g}, but radars have {SHORTEST:g} to {LONGEST:g} m; give it in metres."
        )


def check_coherence(path: Path, f: h5py.File, phase_name: str) -> None:
    """Refuse coherence from 0 to 255 or in per cent; some rows of the first and the last pairs are read."""
    n_pairs, length, _ = f["coherence"].shape
    found = []
    for start in sorted({0, max(0, n_pairs - _PAIRS)}):
        block = slice(start, min(start + _PAIRS, n_pairs))
        for row in sorted({length // 4, length // 2, 3 * length // 4}):
            rows = slice(row, row + 1)
            quality = read(f["coherence"], block, rows)
            found.append(quality[has_data(read(f[phase_name], block, rows)) & np.isfinite(quality)])
    values = np.concatenate(found)
    if values.size and (values > 1.001).mean() > MOST_ABOVE:
        raise InputError(f"{path}: coherence goes up to {values.max():g}, not to 1; scale it to 0..1.")


def check_height(path: Path, height: np.ndarray) -> list[str]:
    """Refuse heights above all mountains, which may be in feet; warn of heights that may be in kilometres.

    Fill values are ignored: they are one number, not many.
    """
    high = height[np.isfinite(height) & (height > HIGHEST)]
    if high.size > 0.001 * height.size and len(np.unique(high)) > _DISTINCT:
        raise InputError(
            f"{path}: height goes up to {high.max():g}, but no ground is higher than {HIGHEST:g} m; give it in metres."
        )
    ground = height[np.isfinite(height) & (np.abs(height) <= HIGHEST) & (height != 0)]
    if ground.size == 0 or not 0 < np.ptp(ground) < FLATTEST or np.abs(ground).max() > FLATTEST:
        return []
    return [
        f"All heights in {path.name} lie between {ground.min():g} and {ground.max():g} m: if they are in "
        "kilometres, convert them to metres."
    ]


def incidence_warnings(path: Path) -> list[str]:
    """Warn of incidence angles that are not in degrees."""
    with open_hdf5(path) as f, damage(path):
        item = f.get("incidenceAngle")
        if not isinstance(item, h5py.Dataset) or item.dtype.kind != "f" or not item.shape:
            return []
        angle = item[...]
    angle = angle[np.isfinite(angle) & (angle != 0)]
    if not angle.size or np.pi / 2 < np.median(angle) < 90:
        return []
    return [
        f"The median incidence angle in {path.name} is {np.median(angle):.3g}, but MintPy expects degrees; convert it "
        "to degrees."
    ]
