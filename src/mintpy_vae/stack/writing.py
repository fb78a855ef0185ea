"""Write the corrected stack, the delay file and its standard deviation, completely or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ..arrays import Rows
from ..errors import InputError
from ..progress import Steps
from .checks import COMPLETE, MAIN, METHOD, VARIANTS
from .copying import Copy, files_of, in_file, outside, room
from .growth import EarlierLayers
from .hdf5 import open_hdf5, read, reason, runs, slabs
from .reading import Stack
from .workers import worked_on

_REFERENCE = ("REF_Y", "REF_X", "REF_LAT", "REF_LON", "REF_DATE")
_ALMOST_ZERO = np.float32(1e-6)  # radians; replaces an exact 0, which MintPy would treat as no-data
_ROWS = 256  # of a map that is written
_MEMORY = 0.2  # GB, for copies of geometries and masks
_HEADERS = 100_000  # upper bound of the bytes of a new file that are not values of its datasets


def write_corrected_stack(
    stack: Stack,
    out_file: str | os.PathLike[str],
    atmosphere: Rows,
    provenance: Mapping[str, str],
    max_memory: float,
    progress: Steps | None = None,
    earlier: EarlierLayers | None = None,
) -> None:
    """Write a copy of the stack with the atmosphere subtracted from its phase.

    All datasets and attributes are copied by :class:`~mintpy_vae.stack.copying.Copy`, except that only the phase
    dataset that MintPy would invert is written. It becomes ``unwrapPhase`` and, if it had another name, is also linked
    under that name, so that MintPy inverts it with an unchanged template. The pattern of no-data is unchanged, except
    at the reference pixel of a dataset that is already referenced: MintPy stores 0 there although the pixel is valid,
    and it is corrected like any other pixel.

    Parameters
    ----------
    stack : Stack
    out_file : path
        Appears when it is complete; until then it is ``out_file + '.part'``.
    atmosphere : callable
        Rows -> (dates, rows, width) phase in radians; the correction of pair (i, j) is its difference j - i.
    provenance : mapping of str
        Becomes attributes ``vae.<key>`` of the phase, beside the input's MODIFICATION_TIME. With ``status`` =
        ``uncorrected`` all datasets are copied unchanged and `atmosphere` is not called.
    max_memory : float
        GB.
    progress : callable, optional
        Called with rows done and rows in all.
    earlier : EarlierLayers, optional
        Corrected pairs that are taken as they are; the others alone are read and corrected.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    marks = _marks(provenance)
    uncorrected = marks.get("vae.status") == "uncorrected"
    with open_hdf5(stack.file) as source, _new_file(out_file, size_needed(stack), [stack.file]) as out:
        copy = Copy(source, out, max_memory)
        if uncorrected:
            copy.contents()
            copy.finish()
            phase = out[stack.phase_name]
            if progress:
                progress(stack.shape[0], stack.shape[0], "")
        else:
            phase = copy.dataset(source[stack.phase_name], MAIN)
            copy.contents(leave=(MAIN, *VARIANTS.values()))
            copy.finish()
            _write_difference(stack, source, phase, atmosphere, max_memory, progress, earlier)
            if stack.phase_name != MAIN:
                out[stack.phase_name] = phase  # a hard link within the file: both names are one dataset
            out.attrs["atmos_correct_method"] = METHOD
        out["dropIfgram"][:] = stack.keep
        phase.attrs.update(marks)
        phase.attrs["vae.input_MODIFICATION_TIME"] = source[stack.phase_name].attrs.get("MODIFICATION_TIME", "none")
        # MintPy inverts again only if the dataset is newer than its time series, so do not copy the time of the source
        phase.attrs["MODIFICATION_TIME"] = str(time.time())
        out.flush()
        phase.attrs[COMPLETE] = "yes"


def copy_file(source: Path, target: Path) -> None:
    """Copy any file with its time; values that an HDF5 file stores in other files are included."""
    if not h5py.is_hdf5(source) or files_of(source) == [source]:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        return
    with open_hdf5(source) as old, _new_file(target, _size_of_copy(old), [source]) as new:
        copy = Copy(old, new, _MEMORY)
        copy.contents()
        copy.finish()
    shutil.copystat(source, target)


def write_delay_file(
    stack: Stack,
    out_file: str | os.PathLike[str],
    atmosphere: Rows,
    max_memory: float,
    provenance: Mapping[str, str] | None = None,
    progress: Steps | None = None,
    earlier: EarlierLayers | None = None,
) -> None:
    """Write the atmosphere per date in MintPy's format of a weather model's delay: LOS displacement in metres.

    Parameters as for :func:`write_corrected_stack`; the provenance goes to the dataset ``timeseries``. There is no
    reference pixel or date: MintPy references the delay when it subtracts the file.
    """
    to_metres = stack.metres_per_radian
    values = partial(_call, atmosphere, stack)
    _write_series(stack, out_file, values, to_metres, max_memory, provenance or {}, progress, earlier)


def write_std_file(
    stack: Stack,
    out_file: str | os.PathLike[str],
    std: Rows,
    max_memory: float,
    provenance: Mapping[str, str] | None = None,
    progress: Steps | None = None,
    earlier: EarlierLayers | None = None,
) -> None:
    """Write the standard deviation of the atmosphere of each date as a time series of MintPy, in metres.

    Parameters as for :func:`write_delay_file`; ``std`` is in radians, NaN on dates that were not corrected. It
    refers to the date alone, not to its difference from a reference date or pixel.
    """
    to_metres = abs(stack.metres_per_radian)
    values = partial(_layers, std, stack)
    _write_series(stack, out_file, values, to_metres, max_memory, provenance or {}, progress, earlier)


def write_velocity_std(
    stack: Stack,
    out_file: str | os.PathLike[str],
    std: Rows,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write the standard deviation of the velocity as MintPy has it in ``velocity.h5``, metres per year.

    Parameters as for :func:`write_delay_file`; ``std`` gives (1, rows, width) radians per year.
    """
    with _new_file(out_file, 4 * stack.shape[0] * stack.shape[1] + _HEADERS, [stack.file]) as out:
        attributes = {key: value for key, value in stack.attributes.items() if key not in _REFERENCE}
        attributes |= {"FILE_TYPE": "velocity", "UNIT": "m/year"}
        attributes |= {"START_DATE": stack.dates[0], "END_DATE": stack.dates[-1]}
        out.attrs.update(attributes)
        values = out.create_dataset("velocityStd", stack.shape, np.float32)
        for start in range(0, stack.shape[0], _ROWS):
            rows = slice(start, min(start + _ROWS, stack.shape[0]))
            values[rows] = abs(stack.metres_per_radian) * std(rows)[0]
        values.attrs.update(_marks(provenance or {}))
        values.attrs["UNIT"] = "m/year"
        out.flush()
        values.attrs[COMPLETE] = "yes"


def _write_series(
    stack: Stack,
    out_file: str | os.PathLike[str],
    values_of: Rows,
    to_metres: float,
    max_memory: float,
    provenance: Mapping[str, str],
    progress: Steps | None,
    earlier: EarlierLayers | None,
) -> None:
    """Write a time series of MintPy in metres from values in radians, which are computed block by block."""
    length, width = stack.shape
    n_dates = len(stack.dates)
    with _new_file(out_file, 4 * n_dates * length * width + _HEADERS, [stack.file]) as out:
        attributes = {key: value for key, value in stack.attributes.items() if key not in _REFERENCE}
        attributes |= {"FILE_TYPE": "timeseries", "UNIT": "m"}
        attributes |= {"START_DATE": stack.dates[0], "END_DATE": stack.dates[-1]}
        out.attrs.update(attributes)
        out["date"] = np.array(stack.dates, dtype="S")
        series = out.create_dataset("timeseries", (n_dates, length, width), np.float32)
        pieces = [rows for rows, _ in slabs(series, max_memory, other_layers=n_dates)]
        for rows, values in worked_on(partial(_scaled, values_of, to_metres, earlier), pieces, stack.compute):
            series[:, rows] = values
            if progress:
                progress(rows.stop, length, "")
        series.attrs.update(_marks(provenance))
        series.attrs["MODIFICATION_TIME"] = str(time.time())
        out.flush()
        series.attrs[COMPLETE] = "yes"


def _marks(provenance: Mapping[str, str]) -> dict[str, str]:
    return {key if key.startswith("vae.") else f"vae.{key}": str(value) for key, value in provenance.items()}


@contextmanager
def _new_file(out_file: str | os.PathLike[str], size: int, inputs: list[Path]) -> Iterator[h5py.File]:
    """Create an HDF5 file that gets its name only when it is complete and on the disk."""
    out = Path(os.path.abspath(out_file))
    part = out.with_name(out.name + ".part")
    for source in inputs:
        if any(p.exists() and p.samefile(source) for p in (out, part)):
            raise InputError(f"{out} is the input file, which is never written to; choose another path.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if size > free:
            raise InputError(f"{out} needs {size / 1e9:.3g} GB, but its disk has only {free / 1e9:.3g} GB free.")
        _reserve(part, size)
        with h5py.File(part, "r+") as f:
            yield f
        with open(part, "rb+") as done:
            os.fsync(done.fileno())
        os.replace(part, out)
        _sync_directory(out.parent)
    except OSError as error:
        raise InputError(f"{out} could not be written: {reason(error)}.") from error
    finally:
        with suppress(OSError):  # the file or its directory may not exist
            part.unlink()


def _reserve(path: Path, size: int) -> None:
    """Create an empty HDF5 file with reserved space on the disk; HDF5 truncates it when it is closed.

    A disk (or quota, or ``ulimit -f``) that is too small must be detected here: later, HDF5 could not close the file
    and the process would end with a segmentation fault.
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


def size_needed(stack: Stack) -> int:
    """Bytes needed: the file, values outside it, and the additional size of the phase if it does not compress."""
    with open_hdf5(stack.file) as f:
        phase, size = f[stack.phase_name], _size_of_copy(f)
        if phase.compression and in_file(phase):
            size += max(0, room(phase) - phase.id.get_storage_size())
    return size


def _size_of_copy(f: h5py.File) -> int:
    """Size in bytes of a self-contained copy of a file."""
    size = os.path.getsize(f.filename) + sum(room(dataset) for dataset in outside(f))
    return int(size + size // 50 + _HEADERS)


def _layers(of_rows: Rows, stack: Stack, rows: slice) -> np.ndarray:
    values = np.asarray(of_rows(rows), np.float32)
    expected = (len(stack.dates), rows.stop - rows.start, stack.shape[1])
    if values.shape != expected:
        raise ValueError(f"the values of rows {rows.start}:{rows.stop} have shape {values.shape}, not {expected}")
    return values


def _scaled(of_rows: Rows, factor: float, earlier: EarlierLayers | None, rows: slice) -> np.ndarray:
    values = of_rows(rows) * np.float32(factor)
    return earlier.put(values, rows) if earlier else values


def _call(atmosphere: Rows, stack: Stack, rows: slice) -> np.ndarray:
    values = _layers(atmosphere, stack, rows)
    if not np.isfinite(values).all():
        raise ValueError(f"the atmosphere of rows {rows.start}:{rows.stop} is not finite")
    return values


def _write_difference(
    stack: Stack,
    source: h5py.File,
    out: h5py.Dataset,
    atmosphere: Rows,
    max_memory: float,
    progress: Steps | None,
    earlier: EarlierLayers | None,
) -> None:
    layers = slabs(source[stack.phase_name], max_memory, other_layers=len(stack.dates))
    pieces = [(rows, block) for rows, blocks in layers for block in blocks]
    difference = _Difference(stack, _is_referenced(stack, source), atmosphere, earlier)
    for (rows, block), corrected in worked_on(difference, pieces, stack.compute):
        out[block, rows] = corrected
        if progress and block.stop == len(stack.pairs):
            progress(rows.stop, stack.shape[0], "")


class _Difference:
    """Corrected phase of some rows of some pairs."""

    def __init__(self, stack: Stack, referenced: np.ndarray, atmosphere: Rows, earlier: EarlierLayers | None) -> None:
        self.stack, self.referenced, self.atmosphere, self.earlier = stack, referenced, atmosphere, earlier
        self.new = np.ones(len(stack.pairs), bool) if earlier is None else earlier.new
        self.last: tuple[slice, np.ndarray] | None = None  # the next block of pairs mostly has the same rows

    def __call__(self, piece: tuple[slice, slice]) -> np.ndarray:
        rows, block = piece
        stack, last, new = self.stack, self.last, np.flatnonzero(self.new[block])
        with open_hdf5(stack.file) as f:
            source = f[stack.phase_name]
            if self.earlier is None:
                data = read(source, block, rows)
            else:
                room = np.empty((block.stop - block.start, rows.stop - rows.start, stack.shape[1]), source.dtype)
                data = self.earlier.put(room, rows, block)
                for run in runs(new):
                    data[new[run]] = read(
                        source, slice(block.start + new[run][0], block.start + new[run][-1] + 1), rows
                    )
        if not len(new):
            return data
        delay = last[1] if last and last[0] == rows else _call(self.atmosphere, stack, rows)
        self.last = rows, delay
        y, x = stack.ref_yx if stack.ref_yx else (-1, -1)
        # pair by pair and in place, so that the arrays stay in the processor's cache
        for k in new:
            phase, (first, second), referenced = data[k], stack.pairs[block][k], self.referenced[block][k]
            empty = phase == 0  # NaN and infinity stay unchanged by the subtraction
            if referenced and rows.start <= y < rows.stop:
                empty[y - rows.start, x] = False
            phase -= delay[second] - delay[first]
            nothing_left = phase == 0
            if nothing_left.any():
                phase[nothing_left] = _ALMOST_ZERO
            if empty.any():
                phase[empty] = 0
        return data


def _is_referenced(stack: Stack, f: h5py.File) -> np.ndarray:
    """(pairs,) bool: the phase is 0 at the reference pixel because it was subtracted, not because it is missing.

    This is the case after MintPy's corrections of unwrapping errors and after ``reference_point.py --write-data``. If 0
    were kept there, MintPy would find no data at the reference pixel and refuse it, and the other pixels would be
    shifted by the atmosphere at the reference pixel.
    """
    if stack.ref_yx is None:
        return np.zeros(len(stack.pairs), bool)
    y, x = stack.ref_yx
    zero = f[stack.phase_name][:, y, x] == 0
    return zero & (f["coherence"][:, y, x] > 0) if zero[stack.keep].all() else np.zeros(len(zero), bool)
