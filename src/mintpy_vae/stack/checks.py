"""Checks of a stack and its geometry; an InputError says in one sentence what is wrong."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..dates import moment
from ..errors import InputError
from . import units
from .geometry import geometry_name
from .hdf5 import damage, existing, has_data, linked, lost_source, open_hdf5, refers, slabs

METHOD = "VAE"  # root attribute atmos_correct_method of a corrected stack; save_hdfeos5 reads it
COMPLETE = "vae.complete"  # attribute of the corrected dataset, written last

MAIN = "unwrapPhase"
VARIANTS = {  # mintpy/cli/ifgram_inversion.py:156
    "bridging": "unwrapPhase_bridging",
    "phase_closure": "unwrapPhase_phaseClosure",
    "bridging+phase_closure": "unwrapPhase_bridging_phaseClosure",
}
_MANDATORY = ("FILE_TYPE", "LENGTH", "WIDTH", "WAVELENGTH", "ALOOKS", "RLOOKS", "PLATFORM")
_MANDATORY_RADAR = ("HEADING", "HEIGHT", "STARTING_RANGE", "RANGE_PIXEL_SIZE", "AZIMUTH_PIXEL_SIZE")
_MANDATORY_GEO = ("X_FIRST", "Y_FIRST", "X_STEP", "Y_STEP")
_WORDS = ("FILE_TYPE", "PLATFORM")  # of the mandatory ones; all others are numbers
_NOT_ZERO = ("X_STEP", "Y_STEP", "RANGE_PIXEL_SIZE", "AZIMUTH_PIXEL_SIZE", "ALOOKS", "RLOOKS", "STARTING_RANGE")
_LOWEST, _HIGHEST = -1e3, 1e4  # metres; others are fill values of elevation models (-32768, -9999, 1e20, ...)
_FIRST_YEAR, _LAST_YEAR = 1978, 2099  # from Seasat on; other years are typing errors
_HIGHEST_PHASE = 5e3  # radians, about 20 m in C band; larger values are fill values or damage
_SCAN_MEMORY = 0.2  # GB, for the checks of open_stack


def attributes(f: h5py.File) -> dict[str, str]:
    """Root attributes as text, without references, which are invalid in another file."""
    try:
        return {key: _text(value) for key, value in f.attrs.items() if not refers(f.attrs.get_id(key))}
    except (KeyError, OSError, RuntimeError, TypeError) as error:
        raise InputError(f"{f.filename} is damaged: its attributes cannot be read.") from error


def phase_name(template: Mapping[str, Any]) -> str:
    """Name of the dataset that MintPy would invert, from ``mintpy.unwrapError.method``."""
    method = str(template.get("mintpy.unwrapError.method", "auto")).lower().replace(" ", "")
    if method in ("auto", "no", "none", "false", ""):
        return MAIN
    if method not in VARIANTS:
        raise InputError(
            f"mintpy.unwrapError.method = {method} is not a method of MintPy; use no or one of {', '.join(VARIANTS)}."
        )
    return VARIANTS[method]


def check_attributes(path: Path, attributes: Mapping[str, str]) -> None:
    """Refuse a file that is not a stack, or lacks attributes that MintPy needs."""
    kind = attributes.get("FILE_TYPE", "missing")
    if kind != "ifgramStack":
        raise InputError(f"{path} is not an interferogram stack: its FILE_TYPE is {kind}, not ifgramStack.")
    wanted = _MANDATORY + (_MANDATORY_GEO if "Y_FIRST" in attributes else _MANDATORY_RADAR)
    missing = [key for key in wanted if not attributes.get(key, "").strip()]
    if missing:
        raise InputError(f"{path} lacks the attribute{'s' * (len(missing) > 1)} {', '.join(missing)}.")
    for key in (key for key in wanted if key not in _WORDS):
        if _number(path, attributes, key) == 0 and key in _NOT_ZERO:
            raise InputError(f"{path}: the attribute {key} is 0; load the stack again.")


def _number(path: Path, attributes: Mapping[str, str], key: str) -> float:
    try:
        value = float(attributes[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}: the attribute {key} = {_short(attributes[key])} is not a number.")
    return value


def whole(path: Path, attributes: Mapping[str, str], key: str) -> int:
    """Value of an attribute that has to be a whole number."""
    value = _number(path, attributes, key)
    if value != int(value):
        raise InputError(f"{path}: the attribute {key} = {_short(attributes[key])} is not a whole number.")
    return int(value)


def size(path: Path, attributes: Mapping[str, str]) -> tuple[int, int]:
    """Length and width in pixels."""
    shape = whole(path, attributes, "LENGTH"), whole(path, attributes, "WIDTH")
    if not all(0 < n < 10**9 for n in shape):
        length, width = (_short(attributes[key]) for key in ("LENGTH", "WIDTH"))
        raise InputError(f"{path}: LENGTH = {length} and WIDTH = {width} are not a valid scene size in pixels.")
    return shape


def wavelength(path: Path, attributes: Mapping[str, str]) -> float:
    """Wavelength in metres."""
    value = _number(path, attributes, "WAVELENGTH")
    if value <= 0:
        raise InputError(f"{path}: WAVELENGTH = {attributes['WAVELENGTH']}; a positive number of metres is needed.")
    units.check_wavelength(path, value)
    return value


def check_datasets(path: Path, f: h5py.File, phase_name: str, shape: tuple[int, int]) -> None:
    """Check names, shapes and types of the datasets."""
    for name in dict.fromkeys([MAIN, phase_name, "coherence", "date", "dropIfgram", "bperp"]):
        if isinstance(item := linked(f, name), h5py.Dataset):
            _check_sources(path, item)
            continue
        if name in VARIANTS.values():
            raise InputError(
                f"{path} has no dataset {name}, which mintpy.unwrapError.method makes MintPy invert; run "
                "smallbaselineApp.py --dostep correct_unwrap_error first."
            )
        raise InputError(f"{path} has no dataset {name}.")
    if f[phase_name].attrs.get(COMPLETE) and f.attrs.get("atmos_correct_method") == METHOD:
        raise InputError(f"{path} has been corrected already; use the stack of the original project.")
    n_pairs = f["date"].shape[0] if f["date"].ndim else 0
    expected = {
        **{name: (n_pairs, *shape) for name in (MAIN, phase_name, "coherence")},
        "date": (n_pairs, 2),
        "dropIfgram": (n_pairs,),
        "bperp": (n_pairs,),
    }
    if n_pairs == 0:
        raise InputError(f"{path} contains no pairs.")
    for name, size in expected.items():
        if f[name].shape != size:
            raise InputError(
                f"{path}: {name} has shape {f[name].shape}, but date, LENGTH and WIDTH imply {size}; load it again."
            )
    kinds = {MAIN: "f", phase_name: "f", "coherence": "f", "bperp": "fiu", "dropIfgram": "b", "date": "SO"}
    for name, letters in kinds.items():
        if f[name].dtype.kind not in letters:
            raise InputError(f"{path}: {name} has the wrong type {f[name].dtype}; load it again.")


def read_pairs(path: Path, f: h5py.File) -> tuple[list[str], list[str], np.ndarray]:
    """First and second date of each pair, and which pairs are kept."""
    with damage(path):
        table, keep = f["date"][:], f["dropIfgram"][:]
    texts = [[_text(value) for value in row] for row in table]
    for text in (text for row in texts for text in row):
        try:
            moment(text)
        except ValueError:
            raise InputError(
                f"{path}: {text!r} in the dataset date is not a date of the form YYYYMMDD or YYYYMMDDTHHMM."
            ) from None
        if not _FIRST_YEAR <= int(text[:4]) <= _LAST_YEAR:
            raise InputError(f"{path}: {text} in the dataset date is not a possible acquisition date.")
    forms = {len(text): text for row in texts for text in row}
    if len(forms) > 1:
        some = " and ".join(forms.values())
        raise InputError(
            f"{path}: the dataset date contains dates of several forms, such as {some}; MintPy reads only one form."
        )
    for a, b in texts:
        if a == b:
            raise InputError(f"{path}: the pair {a}_{b} connects a date with itself.")
    doubles = [f"{a}_{b}" for (a, b), n in Counter(tuple(sorted(pair)) for pair in texts).items() if n > 1]
    if doubles:
        raise InputError(f"{path} contains pairs more than once: {_some(doubles)}.")
    if not keep.any():
        raise InputError(f"{path}: all pairs are dropped (dropIfgram); reset with modify_network.py --reset.")
    return [a for a, _ in texts], [b for _, b in texts], keep.astype(bool)


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _short(value: str, limit: int = 60) -> str:
    return repr(value if len(value) <= limit else value[:limit] + "...")


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def reference_pixel(path: Path, attributes: Mapping[str, str], shape: tuple[int, int]) -> tuple[int, int] | None:
    """Row and column of the reference pixel; None if there is none yet."""
    given = [key for key in ("REF_Y", "REF_X") if attributes.get(key, "None") != "None"]
    if not given:
        return None
    if len(given) == 1:
        raise InputError(f"{path} has {given[0]}, only half of a reference pixel; run reference_point.py again.")
    y, x = whole(path, attributes, "REF_Y"), whole(path, attributes, "REF_X")
    if not (0 <= y < shape[0] and 0 <= x < shape[1]):
        raise InputError(f"{path}: the reference pixel y/x {y}, {x} lies outside the scene of {shape[0]} x {shape[1]}.")
    return y, x


def geometry_file(path: Path, given: str | os.PathLike[str] | None, attributes: Mapping[str, str]) -> Path:
    """Find the geometry file by MintPy's rule, ``mintpy.utils.utils.check_loaded_dataset``."""
    if given is not None:
        return existing(given, "geometry")
    name = geometry_name(attributes)
    neighbour = path.with_name(name)
    if not neighbour.is_file():
        raise InputError(f"There is no geometry file {name} beside {path}; give it with -g.")
    return neighbour


def read_geometry(path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return height in metres, NaN where unknown, and the land mask, (length, width) each, and warnings."""
    with open_hdf5(path) as f, damage(path):
        for name in ("height", "latitude", "waterMask"):
            if name in f or name == "height":
                _check_map(path, name, linked(f, name), shape)
        height = f["height"][:].astype(np.float32)
        warnings = units.check_height(path, height)
        unknown = ~((height > _LOWEST) & (height < _HIGHEST))
        if "latitude" in f:
            latitude = f["latitude"][:]
            unknown |= ~np.isfinite(latitude) | (latitude == 0)  # MintPy's mark of pixels that the DEM does not cover
        land = np.nan_to_num(f["waterMask"][:]).astype(bool) if "waterMask" in f else None
    height[unknown] = np.nan
    if unknown.all():
        raise InputError(f"height in {path} contains no valid value.")
    if land is not None and not land.any():
        raise InputError(f"waterMask in {path} marks the whole scene as water.")
    return height, land, warnings + units.incidence_warnings(path)


def _check_map(path: Path, name: str, item: Any, shape: tuple[int, int]) -> None:
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"The geometry file {path} has no dataset {name}.")
    if item.shape != shape:
        raise InputError(f"{name} in {path} has shape {item.shape}, but the stack has {shape}.")
    if item.dtype.kind not in "fiub":
        raise InputError(f"{name} in {path} has the wrong type {item.dtype}.")
    _check_sources(path, item)


def _check_sources(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a virtual dataset with a missing source, which HDF5 silently fills with 0."""
    if lost := lost_source(dataset):
        raise InputError(f"{path}: {dataset.name.lstrip('/')} is a virtual dataset, and its source {lost} is gone.")


def check_data(path: Path, f: h5py.File, phase_name: str, keep: np.ndarray, land: np.ndarray | None) -> None:
    """Refuse a stack without any usable value; stop reading at the first one."""
    unusable = ""
    with damage(path):
        for rows, blocks in slabs(f[phase_name], _SCAN_MEMORY):
            for block in blocks:
                valid = has_data(f[phase_name][block, rows])[keep[block]]
                if not valid.any():
                    continue
                if land is not None:
                    valid &= land[rows]
                    unusable = unusable or "under water"
                quality = f["coherence"][block, rows][keep[block]]
                if (np.isfinite(quality) & (quality > 0) & valid).any():
                    return
                unusable = "without coherence" if valid.any() else unusable
    if not unusable:
        raise InputError(f"{path}: {phase_name} contains no data: all values of the kept pairs are 0 or NaN.")
    what = (
        "the water mask leaves no pixel with data"
        if unusable == "under water"
        else "the coherence is 0 or NaN wherever there is phase"
    )
    raise InputError(f"{path}: {phase_name} cannot be used, {what}.")


def check_phase(path: Path, phase_name: str, pooled: np.ndarray, weight: np.ndarray) -> None:
    """Refuse values that cannot be phase, such as -9999: missing data in MintPy are 0 or NaN.

    The difference from the median of the pair is checked, because the constant of a pair is arbitrary.
    """
    for phase, there in zip(pooled, weight > 0, strict=True):
        if not len(values := phase[there].astype(np.float64)):
            continue
        off = np.abs(values - np.median(values))
        if not off.max() < _HIGHEST_PHASE or (off.max() == 0 and abs(values[0]) >= _HIGHEST_PHASE):
            raise InputError(
                f"{path}: {phase_name} contains impossible phase values such as {values[off.argmax()]:.3g} rad "
                f"(the median of the pair is {np.median(values):.3g} rad); missing data must be 0 or NaN."
            )


def check_reference(path: Path, f: h5py.File, phase_name: str, keep: np.ndarray, yx: tuple[int, int]) -> list[str]:
    """Refuse a reference pixel without any data; warn if some kept pairs have none, because MintPy needs them."""
    with damage(path):
        values = f[phase_name][:, yx[0], yx[1]][keep]
        quality = f["coherence"][:, yx[0], yx[1]][keep]
    if np.all(values == 0) and np.all(quality > 0):
        return []  # referenced already: 0 is a valid value there
    empty = int(np.sum(~has_data(values)))
    text = f"the reference pixel y/x {yx[0]}, {yx[1]} has no data in {empty} of {len(values)} kept pairs"
    if empty == len(values):
        raise InputError(f"{path}: {text}; choose another one with reference_point.py.")
    advice = (
        "MintPy cannot reference these pairs to it and inverts their constants; choose another with reference_point.py."
    )
    return [f"{text[0].upper()}{text[1:]}: {advice}"] if empty else []
