"""A MintPy interferogram stack on disk: checked, read in slabs, written whole or not at all.

The only module that knows the HDF5 layout of ``ifgramStack.h5`` and of the geometry file. The input is only ever opened
for reading. No function here holds more of a stack in memory than it was allowed to.

Conventions of MintPy: no-data is exactly 0 or NaN; ``dropIfgram`` True means KEEP; ``waterMask`` True means land;
phase grows when the ground moves away, so displacement = -phase * wavelength / (4 pi).
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .errors import InputError

__all__ = [
    "COMPLETE",
    "METHOD",
    "Atmosphere",
    "Progress",
    "Stack",
    "file_hash",
    "has_phase",
    "open_stack",
    "pool_map",
    "pool_pairs",
    "project_of",
    "write_corrected_stack",
    "write_delay_file",
]

Progress = Callable[[int, int], None]  # (rows done, rows in all)
Atmosphere = Callable[[slice], np.ndarray]  # rows -> phase of the atmosphere (dates, rows, width), radians

METHOD = "VAE"  # root attribute atmos_correct_method of a corrected stack; save_hdfeos5 picks it up
COMPLETE = "vae.complete"  # attribute of the corrected dataset, the last thing written

_MAIN = "unwrapPhase"
_VARIANTS = {  # mintpy/cli/ifgram_inversion.py:156
    "bridging": "unwrapPhase_bridging",
    "phase_closure": "unwrapPhase_phaseClosure",
    "bridging+phase_closure": "unwrapPhase_bridging_phaseClosure",
}
_MANDATORY = ("FILE_TYPE", "LENGTH", "WIDTH", "WAVELENGTH", "ALOOKS", "RLOOKS", "PLATFORM", "PROCESSOR")
_MANDATORY_RADAR = ("HEADING", "HEIGHT", "STARTING_RANGE", "RANGE_PIXEL_SIZE", "AZIMUTH_PIXEL_SIZE")
_MANDATORY_GEO = ("X_FIRST", "Y_FIRST", "X_STEP", "Y_STEP", "X_UNIT", "Y_UNIT")
_REFERENCE = ("REF_Y", "REF_X", "REF_LAT", "REF_LON", "REF_DATE")
_HIGHEST = 1e4  # metres; beyond lie the fill values of elevation models (-32768, 1e20, ...)
_ALMOST_ZERO = np.float32(1e-6)  # radians; stands for an exact 0, which MintPy would take for no-data
_COPIES = 6  # arrays of the size of a slab alive at a time, an upper bound
_SCAN_MEMORY = 0.2  # GB, for the checks of open_stack
_HEADERS = 100_000  # bytes of a new file that are not values of its datasets, an upper bound


@dataclass(frozen=True, eq=False)
class Stack:
    """What there is to know about a stack without reading its phase.

    Attributes
    ----------
    file, geometry_file : Path
        Absolute paths.
    phase_name : str
        The dataset that MintPy would invert.
    pairs : (pairs, 2) int array
        Indices into `dates`, first < second; of all pairs, kept or dropped.
    dates : list of str
        YYYYMMDD, sorted, of all pairs.
    keep : (pairs,) bool array
        False for pairs that MintPy ignores in the inversion.
    shape : (int, int)
        Length and width.
    wavelength : float
        Metres.
    ref_yx : (int, int) or None
        Reference pixel, None if MintPy has not selected one yet.
    attributes : dict of str
        Root attributes.
    height : (length, width) float32 array
        Metres, NaN where unknown.
    land : (length, width) bool array or None
        True on land; None if the geometry file has no water mask.
    """

    file: Path
    geometry_file: Path
    phase_name: str
    pairs: np.ndarray
    dates: list[str]
    keep: np.ndarray
    shape: tuple[int, int]
    wavelength: float
    ref_yx: tuple[int, int] | None
    attributes: dict[str, str]
    height: np.ndarray
    land: np.ndarray | None


# ------------------------------------------------------------------------------------------------------------- reading
def open_stack(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template: Mapping[str, Any] | None = None,
) -> Stack:
    """Check a stack and its geometry.

    Parameters
    ----------
    stack_file : path
        ``PROJECT/inputs/ifgramStack.h5``.
    geometry_file : path, optional
        Default: the neighbour ``geometryGeo.h5`` or ``geometryRadar.h5``, by the coordinates of the stack.
    template : mapping, optional
        MintPy's options; ``mintpy.unwrapError.method`` decides which phase is read.

    Raises
    ------
    InputError
        For anything that a correction could not work with, in one sentence.
    """
    path = _existing(stack_file, "stack")
    phase_name = _phase_name(template or {})
    with _open(path) as f:
        attributes = _attributes(f)
        _check_attributes(path, attributes)
        shape = _whole(path, attributes, "LENGTH"), _whole(path, attributes, "WIDTH")
        _check_datasets(path, f, phase_name, shape)
        first, second, keep = _read_pairs(path, f)
        dates = sorted(set(first) | set(second))
        index = {date: i for i, date in enumerate(dates)}
        pairs = np.array([[index[a], index[b]] for a, b in zip(first, second, strict=True)], dtype=np.int64)
        _check_network(path, pairs, dates, keep)
        ref_yx = _reference(path, attributes, shape)
        wavelength = _wavelength(path, attributes)
        geometry_path = _geometry_file(path, geometry_file, attributes)
        height, land = _read_geometry(geometry_path, shape)
        _check_data(path, f, phase_name, keep, land)
        if ref_yx is not None:
            _check_reference(path, f, phase_name, keep, ref_yx)
    return Stack(
        path, geometry_path, phase_name, pairs, dates, keep, shape, wavelength, ref_yx, attributes, height, land
    )


def pool_pairs(
    stack: Stack, factor: int, max_memory: float, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Multilook the phase of all pairs, weighted with coherence squared.

    Parameters
    ----------
    stack : Stack
    factor : int
        Pixels of one coarse pixel, along both axes; the last row and column may have fewer.
    max_memory : float
        GB for the slabs read; the result, pairs * length * width / factor**2, comes on top.
    progress : callable, optional
        Called with rows done and rows in all.

    Returns
    -------
    phase : (pairs, h, w) float32 array
        Radians, relative to the reference pixel where there is one; 0 where weight is 0.
    weight : (pairs, h, w) float32 array
        Mean of coherence**2 over the factor x factor pixels, those without data counting as 0.
    """
    length, width = stack.shape
    n_pairs = len(stack.pairs)
    h, w = math.ceil(length / factor), math.ceil(width / factor)
    phase = np.zeros((n_pairs, h, w), np.float32)
    weight = np.zeros((n_pairs, h, w), np.float32)
    # Rows are added one after another into one coarse row, so that the result does not depend on the slabs.
    sum_weight = np.zeros((n_pairs, width))
    sum_phase = np.zeros((n_pairs, width))
    with _open(stack.file) as f:
        source, quality = f[stack.phase_name], f["coherence"]
        reference = _reference_phase(stack, source)
        for rows, blocks in _slabs(source, max_memory):
            water = None if stack.land is None else ~stack.land[rows]
            for block in blocks:
                p, c = _read(source, block, rows), _read(quality, block, rows)
                valid = _has_data(p)
                valid &= np.isfinite(c)
                if water is not None:
                    valid &= ~water
                c = np.where(valid, c, 0).astype(np.float32, copy=False)
                np.clip(c, 0, 1, out=c)
                c *= c
                p = np.where(valid, p - reference[block, None, None], 0).astype(np.float32, copy=False)
                p *= c
                for i, row in enumerate(range(rows.start, rows.stop)):
                    sum_weight[block] += c[:, i]
                    sum_phase[block] += p[:, i]
                    if row % factor == factor - 1 or row == length - 1:
                        total = _pool_columns(sum_weight[block], factor)
                        weighted = _pool_columns(sum_phase[block], factor)
                        weight[block, row // factor] = total / factor**2
                        phase[block, row // factor] = np.divide(
                            weighted, total, out=np.zeros_like(total), where=total > 0
                        )
                        sum_weight[block] = 0
                        sum_phase[block] = 0
            if progress:
                progress(rows.stop, length)
    return phase, weight


def pool_map(map2d: np.ndarray, factor: int) -> np.ndarray:
    """Mean of the finite values in factor x factor pixels of a (length, width) map; NaN where there is none."""
    valid = np.isfinite(map2d)
    total = _pool(np.where(valid, map2d, 0).astype(np.float64), factor)
    count = _pool(valid.astype(np.float64), factor)
    with np.errstate(invalid="ignore"):
        return (total / np.where(count > 0, count, np.nan)).astype(np.float32)


def has_phase(stack: Stack, rows: slice, columns: slice) -> bool:
    """Whether at least half of the kept pairs have phase somewhere in a window, on land of known height."""
    ground = np.isfinite(stack.height[rows, columns])
    if stack.land is not None:
        ground &= stack.land[rows, columns]
    if not ground.any():
        return False
    with _open(stack.file) as f, _damage(stack.file):
        phase = f[stack.phase_name][:, rows, columns][stack.keep]
    return bool((_has_data(phase) & ground).any(axis=(1, 2)).mean() >= 0.5)


def project_of(stack_file: str | os.PathLike[str]) -> Path:
    """MintPy's directory of a stack: where ``inputs`` lies, or that of the stack itself."""
    directory = Path(os.path.abspath(stack_file)).parent
    return directory.parent if directory.name == "inputs" else directory


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------- writing
def write_corrected_stack(
    stack: Stack,
    out_file: str | os.PathLike[str],
    atmosphere: Atmosphere,
    provenance: Mapping[str, str],
    max_memory: float,
    progress: Progress | None = None,
) -> None:
    """Write a copy of the stack with the atmosphere taken out of its phase.

    Every dataset and attribute is copied; of the phase, only the dataset that MintPy would invert. It becomes
    ``unwrapPhase`` and, if it had another name, is found under that name too, so that MintPy inverts it with the
    template unchanged. The pattern of no-data stays as it is, but for the reference pixel of a dataset that was
    referenced already: MintPy keeps 0 there although it is valid, and there it is corrected as any other.

    Parameters
    ----------
    stack : Stack
    out_file : path
        Appears only when it is complete; until then there is ``out_file + '.part'``.
    atmosphere : callable
        Rows -> (dates, rows, width) phase in radians; the correction of pair (i, j) is its difference j - i.
    provenance : mapping of str
        Becomes attributes ``vae.<key>`` of the phase, beside the input's MODIFICATION_TIME. With ``status`` =
        ``uncorrected`` nothing is corrected: all datasets are copied as they are, `atmosphere` is not called.
    max_memory : float
        GB.
    progress : callable, optional
        Called with rows done and rows in all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    marks = {key if key.startswith("vae.") else f"vae.{key}": str(value) for key, value in provenance.items()}
    uncorrected = marks.get("vae.status") == "uncorrected"
    with _open(stack.file) as source, _new_file(out_file, _size_needed(source, stack), [stack.file]) as out:
        out.attrs.update(source.attrs)
        for name in source:
            if uncorrected or not (name == stack.phase_name or _is_phase(name)):
                _copy(source, name, out, max_memory)
        if uncorrected:
            phase = out[stack.phase_name]
            if progress:
                progress(stack.shape[0], stack.shape[0])
        else:
            phase = _create_like(source[stack.phase_name], out, _MAIN)
            _write_difference(stack, source, phase, atmosphere, max_memory, progress)
            if stack.phase_name != _MAIN:
                out[stack.phase_name] = phase  # a hard link within the file: both names are one dataset
            out.attrs["atmos_correct_method"] = METHOD
        phase.attrs.update(marks)
        phase.attrs["vae.input_MODIFICATION_TIME"] = source[stack.phase_name].attrs.get("MODIFICATION_TIME", "none")
        # MintPy inverts again only if the dataset is newer than its time series: never keep the time of the source.
        phase.attrs["MODIFICATION_TIME"] = str(time.time())
        out.flush()
        phase.attrs[COMPLETE] = "yes"


def write_delay_file(
    stack: Stack,
    out_file: str | os.PathLike[str],
    atmosphere: Atmosphere,
    max_memory: float,
    progress: Progress | None = None,
) -> None:
    """Write the atmosphere per date as MintPy expects a weather model's delay: LOS displacement in metres.

    Parameters as for :func:`write_corrected_stack`. There is no reference pixel or date: MintPy references when it
    subtracts the file.
    """
    length, width = stack.shape
    n_dates = len(stack.dates)
    to_metres = np.float32(-stack.wavelength / (4 * np.pi))
    with _new_file(out_file, 4 * n_dates * length * width + _HEADERS, [stack.file]) as out:
        attributes = {key: value for key, value in stack.attributes.items() if key not in _REFERENCE}
        attributes |= {"FILE_TYPE": "timeseries", "UNIT": "m"}
        attributes |= {"START_DATE": stack.dates[0], "END_DATE": stack.dates[-1]}
        out.attrs.update(attributes)
        out["date"] = np.array(stack.dates, dtype="S8")
        delay = out.create_dataset("timeseries", (n_dates, length, width), np.float32)
        for rows, _ in _slabs(delay, max_memory, other_layers=n_dates):
            delay[:, rows] = _call(atmosphere, rows, stack) * to_metres
            if progress:
                progress(rows.stop, length)
        delay.attrs["MODIFICATION_TIME"] = str(time.time())


# -------------------------------------------------------------------------------------------------------------- checks
def _existing(path: str | os.PathLike[str], what: str) -> Path:
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"The {what} file {path} does not exist.")
    if not path.is_file():
        raise InputError(f"The {what} {path} is not a file.")
    return path


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """The file for reading; whatever HDF5 complains about meanwhile is the file's fault."""
    try:
        if not h5py.is_hdf5(path):
            with open(path, "rb"):  # a file that may not be read is no HDF5 file either: say which it is
                pass
            raise InputError(f"{path} is not an HDF5 file (or its beginning is lost).")
        f = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}.") from error
    with f:
        yield f


def _reason(error: BaseException) -> str:
    """What an OSError says, without the traces of HDF5's insides."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = str(error)
    if "truncated" in text:
        return "it is truncated, part of it was lost when it was written or copied"
    if "lock" in text:
        return "another program has it open for writing"
    return " ".join(text.split()).rstrip(".")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """HDF5 meeting a damaged chunk while it reads."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {_reason(error)}.") from error


def _attributes(f: h5py.File) -> dict[str, str]:
    return {
        key: value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
        for key, value in f.attrs.items()
    }


def _phase_name(template: Mapping[str, Any]) -> str:
    method = str(template.get("mintpy.unwrapError.method", "auto")).lower().replace(" ", "")
    if method in ("auto", "no", "none", "false", ""):
        return _MAIN
    if method not in _VARIANTS:
        raise InputError(
            f"mintpy.unwrapError.method = {method} is no method of MintPy; choose no or one of {', '.join(_VARIANTS)}."
        )
    return _VARIANTS[method]


def _check_attributes(path: Path, attributes: Mapping[str, str]) -> None:
    kind = attributes.get("FILE_TYPE", "missing")
    if kind != "ifgramStack":
        raise InputError(f"{path} is no interferogram stack: its FILE_TYPE is {kind}, not ifgramStack.")
    wanted = _MANDATORY + (_MANDATORY_GEO if "Y_FIRST" in attributes else _MANDATORY_RADAR)
    missing = [key for key in wanted if not attributes.get(key, "").strip()]
    if missing:
        raise InputError(f"{path} lacks the attribute{'s' * (len(missing) > 1)} {', '.join(missing)}.")


def _number(path: Path, attributes: Mapping[str, str], key: str) -> float:
    try:
        return float(attributes[key])
    except ValueError:
        raise InputError(f"{path}: the attribute {key} = {attributes[key]!r} is no number.") from None


def _whole(path: Path, attributes: Mapping[str, str], key: str) -> int:
    value = _number(path, attributes, key)
    if not (math.isfinite(value) and value == int(value)):
        raise InputError(f"{path}: the attribute {key} = {attributes[key]} is no whole number.")
    return int(value)


def _wavelength(path: Path, attributes: Mapping[str, str]) -> float:
    value = _number(path, attributes, "WAVELENGTH")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{path}: WAVELENGTH = {attributes['WAVELENGTH']}; a positive number of metres is needed.")
    return value


def _check_datasets(path: Path, f: h5py.File, phase_name: str, shape: tuple[int, int]) -> None:
    for name in dict.fromkeys([_MAIN, phase_name, "coherence", "date", "dropIfgram", "bperp"]):
        if isinstance(f.get(name), h5py.Dataset):
            continue
        if name in _VARIANTS.values():
            raise InputError(
                f"{path} has no dataset {name}, which MintPy would invert by mintpy.unwrapError.method; run "
                "smallbaselineApp.py --dostep correct_unwrap_error first."
            )
        raise InputError(f"{path} has no dataset {name}.")
    if f[phase_name].attrs.get(COMPLETE) and f.attrs.get("atmos_correct_method") == METHOD:
        raise InputError(f"{path} has been corrected already; give the stack of the original project.")
    n_pairs = f["date"].shape[0] if f["date"].ndim else 0
    expected = {
        **{name: (n_pairs, *shape) for name in (_MAIN, phase_name, "coherence")},
        "date": (n_pairs, 2),
        "dropIfgram": (n_pairs,),
        "bperp": (n_pairs,),
    }
    if n_pairs == 0:
        raise InputError(f"{path} holds no pair.")
    for name, size in expected.items():
        if f[name].shape != size:
            raise InputError(
                f"{path}: {name} has shape {f[name].shape}, but date, LENGTH and WIDTH ask for {size}; load it again."
            )
    kinds = {_MAIN: "f", phase_name: "f", "coherence": "f", "bperp": "fiu", "dropIfgram": "b", "date": "SO"}
    for name, letters in kinds.items():
        if f[name].dtype.kind not in letters:
            raise InputError(f"{path}: {name} has the wrong type {f[name].dtype}; load it again.")


def _read_pairs(path: Path, f: h5py.File) -> tuple[list[str], list[str], np.ndarray]:
    with _damage(path):
        table, keep = f["date"][:], f["dropIfgram"][:]
    texts = [[_text(value) for value in row] for row in table]
    for text in (text for row in texts for text in row):
        if not _is_date(text):
            raise InputError(f"{path}: {text!r} in the dataset date is no date of the form YYYYMMDD.")
    for a, b in texts:
        if a == b:
            raise InputError(f"{path}: the pair {a}_{b} joins a date with itself.")
        if a > b:
            raise InputError(f"{path}: the dates of the pair {a}_{b} are reversed; MintPy wants the earlier one first.")
    doubles = [f"{a}_{b}" for (a, b), n in Counter(map(tuple, texts)).items() if n > 1]
    if doubles:
        raise InputError(f"{path} holds pairs more than once: {_some(doubles)}.")
    if not keep.any():
        raise InputError(f"{path}: all pairs are dropped (dropIfgram); reset with modify_network.py --reset.")
    return [a for a, _ in texts], [b for _, b in texts], keep.astype(bool)


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _is_date(text: str) -> bool:
    if len(text) != 8 or not (text.isascii() and text.isdigit()):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _check_network(path: Path, pairs: np.ndarray, dates: list[str], keep: np.ndarray) -> None:
    """The kept pairs must join all dates that have a kept pair; a date without any is left out, as in MintPy."""
    i, j = pairs[keep].T
    used = np.unique(pairs[keep])
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(dates), len(dates)))
    labels = connected_components(graph, directed=False)[1]
    main = np.bincount(labels[used]).argmax()
    islands = [dates[k] for k in used if labels[k] != main]
    if islands:
        raise InputError(
            f"{path}: the network of kept pairs is not connected; no pair joins {_some(islands)} with the other dates."
            " Drop these dates or keep a pair that joins them."
        )


def _reference(path: Path, attributes: Mapping[str, str], shape: tuple[int, int]) -> tuple[int, int] | None:
    given = [key for key in ("REF_Y", "REF_X") if attributes.get(key, "None") != "None"]
    if not given:
        return None
    if len(given) == 1:
        raise InputError(f"{path} has {given[0]} but only half of a reference pixel; run reference_point.py again.")
    y, x = _whole(path, attributes, "REF_Y"), _whole(path, attributes, "REF_X")
    if not (0 <= y < shape[0] and 0 <= x < shape[1]):
        raise InputError(f"{path}: the reference pixel y/x {y}, {x} lies outside the scene of {shape[0]} x {shape[1]}.")
    return y, x


def _geometry_file(path: Path, given: str | os.PathLike[str] | None, attributes: Mapping[str, str]) -> Path:
    """By MintPy's rule, ``mintpy.utils.utils.check_loaded_dataset``."""
    if given is not None:
        return _existing(given, "geometry")
    name = "geometryGeo.h5" if "Y_FIRST" in attributes else "geometryRadar.h5"
    neighbour = path.with_name(name)
    if not neighbour.is_file():
        raise InputError(f"There is no geometry file {name} beside {path}; name it with -g.")
    return neighbour


def _read_geometry(path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    with _open(path) as f, _damage(path):
        if not isinstance(f.get("height"), h5py.Dataset):
            raise InputError(f"The geometry file {path} has no dataset height.")
        for name in ("height", "latitude", "waterMask"):
            if name in f and f[name].shape != shape:
                raise InputError(f"{name} in {path} has shape {f[name].shape}, but the stack has {shape}.")
            if name in f and f[name].dtype.kind not in "fiub":
                raise InputError(f"{name} in {path} has the wrong type {f[name].dtype}.")
        height = f["height"][:].astype(np.float32)
        unknown = ~(np.abs(height) < _HIGHEST)
        if "latitude" in f:
            latitude = f["latitude"][:]
            unknown |= ~np.isfinite(latitude) | (latitude == 0)  # MintPy's mark of pixels that the DEM does not cover
        land = np.nan_to_num(f["waterMask"][:]).astype(bool) if "waterMask" in f else None
    height[unknown] = np.nan
    if unknown.all():
        raise InputError(f"height in {path} holds no valid value.")
    if land is not None and not land.any():
        raise InputError(f"waterMask in {path} marks the whole scene as water.")
    return height, land


def _check_data(path: Path, f: h5py.File, phase_name: str, keep: np.ndarray, land: np.ndarray | None) -> None:
    """Stops at the first slab that holds a usable value."""
    seen = ""
    with _damage(path):
        for rows, blocks in _slabs(f[phase_name], _SCAN_MEMORY):
            for block in blocks:
                valid = _has_data(f[phase_name][block, rows])[keep[block]]
                if not valid.any():
                    continue
                if land is not None:
                    valid &= land[rows]
                    seen = seen or "under water"
                quality = f["coherence"][block, rows][keep[block]]
                if (np.isfinite(quality) & (quality > 0) & valid).any():
                    return
                seen = "without coherence" if valid.any() else seen
    if not seen:
        raise InputError(f"{path}: {phase_name} holds no data, every value of the kept pairs is 0 or NaN.")
    what = "its water mask leaves none of it" if seen == "under water" else "coherence is 0 or NaN wherever it has data"
    raise InputError(f"{path}: {phase_name} cannot be used, {what}.")


def _check_reference(path: Path, f: h5py.File, phase_name: str, keep: np.ndarray, yx: tuple[int, int]) -> None:
    with _damage(path):
        values = f[phase_name][:, yx[0], yx[1]][keep]
        quality = f["coherence"][:, yx[0], yx[1]][keep]
    if np.all(values == 0) and np.all(quality > 0):
        return  # referenced already: 0 there is a value
    empty = int(np.sum(~_has_data(values)))
    if empty:
        raise InputError(
            f"{path}: the reference pixel y/x {yx[0]}, {yx[1]} has no data in {empty} of {len(values)} kept pairs; "
            "choose another one with reference_point.py."
        )


# --------------------------------------------------------------------------------------------------------------- slabs
def _has_data(phase: np.ndarray) -> np.ndarray:
    return np.isfinite(phase) & (phase != 0)


def _read(dataset: h5py.Dataset, block: slice, rows: slice) -> np.ndarray:
    with _damage(Path(dataset.file.filename)):
        return dataset[block, rows]


def _slabs(dataset: h5py.Dataset, max_memory: float, other_layers: int = 0) -> Iterator[tuple[slice, list[slice]]]:
    """Cut a (pairs, length, width) dataset along its chunks into slabs that fit into memory.

    Parameters
    ----------
    dataset : h5py.Dataset
    max_memory : float
        GB for everything that has to do with one slab.
    other_layers : int
        Layers of the same rows that are held besides (the atmosphere of all dates).

    Yields
    ------
    rows : slice
    blocks : list of slice
        Of pairs, to be read one after another. Rows are cut across chunks only if one chunk is too large already.
    """
    n_pairs, length, width = dataset.shape
    chunk_pairs, chunk_rows, _ = dataset.chunks or (1, 1, width)
    layers = max(1.0, max_memory * 1e9 / (4 * width))  # rows of all layers together that fit
    block = n_pairs
    if (_COPIES * n_pairs + 2 * other_layers) * chunk_rows > layers:
        room = (layers / chunk_rows - 2 * other_layers) / _COPIES
        block = min(n_pairs, max(1, int(room // chunk_pairs)) * chunk_pairs)
    step = int(layers / (_COPIES * block + 2 * other_layers))
    step = max(1, step // chunk_rows * chunk_rows or step)
    blocks = [slice(k, min(k + block, n_pairs)) for k in range(0, n_pairs, block)]
    for start in range(0, length, step):
        yield slice(start, min(start + step, length)), blocks


def _reference_phase(stack: Stack, phase: h5py.Dataset) -> np.ndarray:
    """Phase of each pair at the reference pixel, (pairs,) float32, 0 where there is none."""
    if stack.ref_yx is None:
        return np.zeros(len(stack.pairs), np.float32)
    values = phase[:, stack.ref_yx[0], stack.ref_yx[1]]
    return np.where(np.isfinite(values), values, 0).astype(np.float32)


def _pool_columns(data: np.ndarray, factor: int) -> np.ndarray:
    """Sum each `factor` columns of (..., width); added one by one, so in one order."""
    w = math.ceil(data.shape[-1] / factor)
    total = np.zeros((*data.shape[:-1], w))
    for k in range(min(factor, data.shape[-1])):
        part = data[..., k::factor]
        total[..., : part.shape[-1]] += part
    return total


def _pool(data: np.ndarray, factor: int) -> np.ndarray:
    return _pool_columns(_pool_columns(data, factor).T, factor).T


# -------------------------------------------------------------------------------------------------------------- output
@contextmanager
def _new_file(out_file: str | os.PathLike[str], size: int, inputs: list[Path]) -> Iterator[h5py.File]:
    """An HDF5 file that takes its name only when it is complete and on the disk."""
    out = Path(os.path.abspath(out_file))
    part = out.with_name(out.name + ".part")
    for source in inputs:
        if any(p.exists() and p.samefile(source) for p in (out, part)):
            raise InputError(f"{out} is the input itself, which is never written to; choose another place.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if size > free:
            raise InputError(f"{out} needs {size / 1e9:.3g} GB, but its disk has only {free / 1e9:.3g} GB left.")
        _reserve(part, size)
        with h5py.File(part, "r+") as f:
            yield f
        with open(part, "rb+") as done:
            os.fsync(done.fileno())
        os.replace(part, out)
        _sync_directory(out.parent)
    except OSError as error:
        raise InputError(f"{out} could not be written: {_reason(error)}.") from error
    finally:
        with suppress(OSError):  # there may be nothing, or no directory
            part.unlink()


def _reserve(path: Path, size: int) -> None:
    """Make an empty HDF5 file that has its place on the disk already; HDF5 cuts what is left over when it closes.

    A disk (or quota, or ``ulimit -f``) that is too small must show here: if HDF5 meets it, it cannot close the file any
    more, and the process ends in a segmentation fault.
    """
    with h5py.File("empty", "w", driver="core", backing_store=False) as empty:
        empty.flush()
        image = empty.id.get_file_image()
    with open(path, "wb") as f:
        f.write(image)
        f.flush()
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(f.fileno(), 0, size)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _size_needed(f: h5py.File, stack: Stack) -> int:
    """Bytes: the file as it is, plus what lies outside it, plus what the phase takes more if it does not compress."""
    size = stack.file.stat().st_size
    size += sum(item.nbytes for item in f.values() if isinstance(item, h5py.Dataset) and not _in_file(item))
    phase = f[stack.phase_name]
    if phase.compression and _in_file(phase):
        chunks = math.prod(math.ceil(n / c) for n, c in zip(phase.shape, phase.chunks, strict=True))
        size += max(0, chunks * math.prod(phase.chunks) * phase.dtype.itemsize - phase.id.get_storage_size())
    return int(size + size // 50 + _HEADERS)


def _is_phase(name: str) -> bool:
    return name == _MAIN or name in _VARIANTS.values()


def _in_file(dataset: h5py.Dataset) -> bool:
    """Not virtual and not in an external file: then HDF5 copies the values, not the pointers to them."""
    return not dataset.is_virtual and not dataset.external


def _create_like(source: h5py.Dataset, out: h5py.File, name: str) -> h5py.Dataset:
    """An empty dataset with the type, chunks, compression and attributes of another."""
    if _in_file(source):
        properties = source.id.get_create_plist()
        h5py.h5d.create(out.id, name.encode(), source.id.get_type(), source.id.get_space(), properties)
        new = out[name]
    else:
        new = out.create_dataset(name, source.shape, source.dtype, chunks=True if source.ndim == 3 else None)
    new.attrs.update(source.attrs)
    return new


def _copy(source: h5py.File, name: str, out: h5py.File, max_memory: float) -> None:
    item = source[name]
    if not isinstance(item, h5py.Dataset) or _in_file(item):
        source.copy(item, out, name)
        return
    new = _create_like(item, out, name)
    if item.ndim == 3:
        for rows, blocks in _slabs(new, max_memory):
            for block in blocks:
                new[block, rows] = _read(item, block, rows)
    else:
        new[...] = item[...]


def _call(atmosphere: Atmosphere, rows: slice, stack: Stack) -> np.ndarray:
    values = np.asarray(atmosphere(rows), np.float32)
    expected = (len(stack.dates), rows.stop - rows.start, stack.shape[1])
    if values.shape != expected:
        raise ValueError(f"the atmosphere of rows {rows.start}:{rows.stop} has shape {values.shape}, not {expected}")
    if not np.isfinite(values).all():
        raise ValueError(f"the atmosphere of rows {rows.start}:{rows.stop} is not finite")
    return values


def _write_difference(
    stack: Stack,
    source: h5py.File,
    out: h5py.Dataset,
    atmosphere: Atmosphere,
    max_memory: float,
    progress: Progress | None,
) -> None:
    phase = source[stack.phase_name]
    referenced = _is_referenced(stack, source)
    for rows, blocks in _slabs(phase, max_memory, other_layers=len(stack.dates)):
        delay = _call(atmosphere, rows, stack)
        for block in blocks:
            data = _read(phase, block, rows)
            valid = _has_data(data)
            if referenced[block].any() and stack.ref_yx and rows.start <= stack.ref_yx[0] < rows.stop:
                valid[:, stack.ref_yx[0] - rows.start, stack.ref_yx[1]] |= referenced[block]
            first, second = stack.pairs[block].T
            corrected = data - (delay[second] - delay[first])
            corrected[corrected == 0] = _ALMOST_ZERO
            out[block, rows] = np.where(valid, corrected, data)
        if progress:
            progress(rows.stop, stack.shape[0])


def _is_referenced(stack: Stack, f: h5py.File) -> np.ndarray:
    """(pairs,) bool: the phase is 0 at the reference pixel because it was subtracted, not because it is missing.

    MintPy's corrections of unwrapping errors leave it so, and ``reference_point.py --write-data``. Were 0 kept there,
    MintPy would find no data at the reference pixel and refuse it, and the other pixels would be shifted by the
    atmosphere at the reference pixel.
    """
    if stack.ref_yx is None:
        return np.zeros(len(stack.pairs), bool)
    y, x = stack.ref_yx
    zero = f[stack.phase_name][:, y, x] == 0
    return zero & (f["coherence"][:, y, x] > 0) if zero[stack.keep].all() else np.zeros(len(zero), bool)
