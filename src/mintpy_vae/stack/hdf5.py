"""Reading of HDF5 files: open with clear errors, detect damage, divide into slabs that fit into memory."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DamagedFile, InputError
from .workers import Compute, worked_on

_LOCKED = (errno.EAGAIN, errno.EACCES)  # error numbers of a lock that another process holds
_TRUNCATED = "it is truncated: part of it was lost when it was written or copied"
_COPIES = 6  # upper bound of the arrays of a slab's size that exist at a time
_ENOUGH = 0.5  # GB; larger slabs are not faster, because they overflow the processor's caches


def project_of(stack_file: str | os.PathLike[str]) -> Path:
    """MintPy directory of a stack: the parent of ``inputs``, or the directory of the stack itself."""
    directory = Path(os.path.abspath(stack_file)).parent
    return directory.parent if directory.name == "inputs" else directory


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def layer_hashes(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """SHA-256 of each layer of the datasets (layers, length, width) of a file, by name, in hexadecimal."""
    found = {}
    with open_hdf5(Path(path)) as f, damage(Path(path)):
        for name in sorted(f):
            item = linked(f, name)
            if not isinstance(item, h5py.Dataset) or item.ndim != 3:
                continue
            digests = [hashlib.sha256() for _ in range(len(item))]
            pieces = [(block, rows) for rows, blocks in slabs(item, _ENOUGH) for block in blocks]
            for (block, _), values in worked_on(item.__getitem__, pieces, Compute()):
                for digest, layer in zip(digests[block], values, strict=True):
                    digest.update(layer.data)
            found[name] = [digest.hexdigest() for digest in digests]
    return found


def content_hash(path: str | os.PathLike[str], layers: Mapping[str, Sequence[str]] | None = None) -> str:
    """SHA-256 of the datasets of a stack and of its own root attributes, in hexadecimal.

    Unlike :func:`file_hash` it does not change if MintPy's ``load_data`` writes template options (names with a dot)
    into the attributes, or if a step rewrites the same data. ``layers`` is the result of :func:`layer_hashes`, if it is
    known.
    """
    digest = hashlib.sha256()
    layers = layer_hashes(path) if layers is None else layers
    with open_hdf5(Path(path)) as f, damage(Path(path)):
        own = {key: str(value) for key, value in f.attrs.items() if "." not in key}
        digest.update(repr(sorted(own.items())).encode())
        for name in sorted(f):
            if not isinstance(item := linked(f, name), h5py.Dataset):
                continue
            digest.update(f"{name} {item.shape} {item.dtype}".encode())
            if item.ndim == 3:
                digest.update("".join(layers[name]).encode())
            elif item.shape is not None:
                value = np.asarray(item[()])
                # variable-length text is stored as pointers
                digest.update(repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes())
    return digest.hexdigest()


def existing(path: str | os.PathLike[str], what: str) -> Path:
    """Absolute path of a file that has to exist."""
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"The {what} file {path} does not exist.")
    if not path.is_file():
        raise InputError(f"The {what} {path} is not a file.")
    return path


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; an error of HDF5 becomes an InputError."""
    try:
        if not h5py.is_hdf5(path):
            with open(path, "rb"):  # distinguish a file without read permission from one that is not HDF5
                pass
            raise DamagedFile(f"{path} is not an HDF5 file (or its beginning is missing).")
        f = h5py.File(path, "r")
    except OSError as error:
        text = reason(error)
        kind = DamagedFile if text == _TRUNCATED else InputError
        raise kind(f"{path} cannot be read: {text}.") from error
    with f:
        yield f


def reason(error: BaseException) -> str:
    """Text of an OSError without HDF5's internal details."""
    text, number = str(error), getattr(error, "errno", None)
    if "truncated" in text:
        return _TRUNCATED
    if "lock file" in text and number not in (None, *_LOCKED):  # mostly NFS and Lustre without a lock daemon
        return (
            f"its file system does not support locks ({os.strerror(number)}); set the environment variable "
            "HDF5_USE_FILE_LOCKING=FALSE and run this again"
        )
    if "lock file" in text or "already open" in text:
        return (
            "another program has it open for writing, or was killed while it had it open (h5clear -s frees it then); "
            "otherwise set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
        )
    if number:
        return os.strerror(number)
    return " ".join(text.split()).rstrip(".")


def linked(f: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """Object with this name; None if there is none, or if it is a broken link."""
    try:
        return f[name]
    except (KeyError, OSError, RuntimeError) as error:  # missing object, missing file, or circular links
        if isinstance(f.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{f.file.filename} is damaged: {name} cannot be read.") from error
        return None


def refers(part: h5py.h5d.DatasetID | h5py.h5a.AttrID) -> bool:
    """Whether a dataset or an attribute contains references, also within records or lists."""
    return bool(part.get_type().detect_class(h5py.h5t.REFERENCE))


def source_file(dataset: h5py.Dataset, source: Any) -> Path:
    """Path of one of the sources of a virtual dataset."""
    file = Path(dataset.file.filename)
    return file if source.file_name == "." else file.parent / source.file_name


def lost_source(dataset: h5py.Dataset) -> str:
    """Name of a missing direct or indirect source of a virtual dataset, which HDF5 silently fills with 0; or empty."""
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        if "%" in source.file_name + source.dset_name:  # a numbered series of files
            continue
        try:
            with h5py.File(source_file(dataset, source), "r") as f:
                lost = lost_source(f[source.dset_name])
        except (OSError, KeyError, RuntimeError):
            lost = source.file_name
        if lost:
            return str(lost)
    return ""


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Convert errors of HDF5 while reading into a DamagedFile."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise DamagedFile(f"{path} is damaged: {reason(error)}.") from error


def has_data(phase: np.ndarray) -> np.ndarray:
    """Where there is data: MintPy's no-data values are 0 and NaN."""
    return np.isfinite(phase) & (phase != 0)


def read(dataset: h5py.Dataset, *where: Any) -> np.ndarray:
    """Read values of a dataset, for example of some pairs and rows of (pairs, length, width)."""
    with damage(Path(dataset.file.filename)):
        return dataset[where]


def slabs(
    dataset: h5py.Dataset, max_memory: float, other_layers: int = 0, some: np.ndarray | None = None
) -> Iterator[tuple[slice, list[slice]]]:
    """Divide a (pairs, length, width) dataset along its chunks into slabs that fit into memory.

    Parameters
    ----------
    dataset : h5py.Dataset
    max_memory : float
        GB for everything that belongs to one slab; more than 0.5 is not used.
    other_layers : int
        Other layers of the same rows in memory (the atmosphere of all dates).
    some : (pairs,) bool array, optional
        Pairs that are wanted; chunks without any of them are left out.

    Yields
    ------
    rows : slice
    blocks : list of slice
        Blocks of pairs, to be read one after another. Chunks are divided only if a single one is too large.
    """
    n_pairs, length, width = dataset.shape
    chunk_pairs, chunk_rows, _ = dataset.chunks or (1, 1, width)
    layers = max(1.0, min(max_memory, _ENOUGH) * 1e9 / (4 * width))  # rows of all layers together that fit
    block = n_pairs
    if (_COPIES * n_pairs + 2 * other_layers) * chunk_rows > layers:
        room = (layers / chunk_rows - 2 * other_layers) / _COPIES
        block = min(n_pairs, max(1, int(room // chunk_pairs)) * chunk_pairs)
    step = int(layers / (_COPIES * block + 2 * other_layers))
    step = max(1, step // chunk_rows * chunk_rows or step)
    blocks = [slice(k, min(k + block, n_pairs)) for k in range(0, n_pairs, block)]
    if some is not None:
        blocks = [part for one in blocks for part in _with_some(one, some, chunk_pairs)]
    for start in range(0, length, step):
        yield slice(start, min(start + step, length)), blocks


def runs(numbers: np.ndarray) -> list[slice]:
    """Where consecutive numbers follow one another in an array (n,), so that they can be read at once."""
    edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1), len(numbers)]
    return [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False) if stop > start]


def _with_some(block: slice, some: np.ndarray, step: int) -> list[slice]:
    """Parts of a block of pairs, divided every ``step`` pairs, with at least one of ``some``."""
    parts: list[slice] = []
    for start in range(block.start, block.stop, step):
        stop = min(start + step, block.stop)
        if some[start:stop].any():
            begin = parts.pop().start if parts and parts[-1].stop == start else start
            parts.append(slice(begin, stop))
    return parts
