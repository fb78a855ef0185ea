"""Self-contained copies of HDF5 files: nothing in them points to another file or to a missing object.

Values in other files (virtual datasets, external links and storage) are copied; links, references and dimension scales
point to the copies. Anything that points to a missing object is left out.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from ..errors import InputError
from .hdf5 import linked, lost_source, open_hdf5, read, refers, slabs, source_file

Object: TypeAlias = Any  # a dataset, a group or a named type of HDF5

_LOGGER = logging.getLogger("mintpy_vae")
_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")  # attributes that HDF5 writes itself when a scale is attached


class Copy:
    """Copy from one open file into another: first the objects, then, with :meth:`finish`, references between them.

    Parameters
    ----------
    source, out : h5py.File
    max_memory : float
        Memory for values in other files, GB.
    """

    def __init__(self, source: h5py.File, out: h5py.File, max_memory: float) -> None:
        self.source, self.out, self.max_memory = source, out, max_memory
        self._places: dict[tuple[int, int], str] = {}  # names of the copies, by address in the source
        self._pairs: list[tuple[Object, Object]] = []
        self._soft: list[tuple[str, Object]] = []
        self._left_out: list[str] = []
        self._enter(source, out)

    def dataset(self, source: h5py.Dataset, name: str) -> h5py.Dataset:
        """Create an empty dataset with type, chunks and compression of another, for the caller to fill."""
        new = _create_like(source, self.out, name)
        self._enter(source, new)
        return new

    def contents(self, leave: Collection[str] = ()) -> None:
        """Copy everything except the names ``leave`` at the root and the datasets made by :meth:`dataset`."""
        self._group(self.source, "", leave)
        for place, item in self._soft:
            if target := self._places.get(_address(item)):
                self.out[place] = h5py.SoftLink(target)

    def finish(self) -> None:
        """Copy references, attributes and dimension scales of all copied objects."""
        for old, new in self._pairs:
            if isinstance(new, h5py.Dataset) and h5py.check_ref_dtype(new.dtype):
                new[...] = self._led_here(old[...], old)
            for key in old.attrs:
                self._attribute(key, old, new)
        for old, new in self._pairs:
            if "DIMENSION_LIST" in old.attrs:
                self._attach_scales(old, new)
        if self._left_out:
            names = ", ".join(self._left_out)
            _LOGGER.warning(
                "Not copied from %s, because they point to something outside the copy: %s.", self.source.filename, names
            )

    def _enter(self, old: Object, new: Object) -> None:
        self._places[_address(old)] = new.name
        self._pairs.append((old, new))

    def _group(self, group: h5py.Group, path: str, leave: Collection[str] = ()) -> None:
        for name in group:
            place, link = f"{path}/{name}", group.get(name, getlink=True)
            if name in leave or place in self.out:
                continue
            if (item := linked(group, name)) is None:
                self._left_out.append(place)
            elif isinstance(link, h5py.SoftLink):
                self._soft.append((place, item))  # its target may be copied later
            elif (there := self._places.get(_address(item))) is None:
                self._object(item, place)
            else:
                self.out[place] = self.out[there] if isinstance(link, h5py.HardLink) else h5py.SoftLink(there)

    def _object(self, item: Object, place: str) -> None:
        if isinstance(item, h5py.Group):
            self._enter(item, self.out.create_group(place))
            self._group(item, place)
            return
        references = isinstance(item, h5py.Dataset) and refers(item.id)
        if references and not h5py.check_ref_dtype(item.dtype):
            self._left_out.append(place)  # references within records and lists
        elif references:
            self._enter(item, self.out.create_dataset(place, item.shape, item.dtype))
        # HDF5 1.14 looks for a named type in the wrong file if the source is open twice
        elif not isinstance(item, h5py.Dataset) or in_file(item) and not item.id.get_type().committed():
            self.out.copy(item, self.out, place, without_attrs=True)
            self._enter(item, self.out[place])
        elif self._values(item, place):
            self._enter(item, self.out[place])
        else:
            self._left_out.append(place)

    def _values(self, item: h5py.Dataset, place: str) -> bool:
        """Copy values from outside the file; return False if some are missing."""
        if lost_source(item):
            return False
        new = _create_like(item, self.out, place)
        pieces: Any = [()]
        if item.ndim == 3:
            pieces = ((block, rows) for rows, blocks in slabs(new, self.max_memory) for block in blocks)
        try:
            for where in pieces:
                new[where] = read(item, *where)
        except InputError:  # external storage in a missing file
            del self.out[place]
            return False
        return True

    def _attribute(self, key: str, old: Object, new: Object) -> None:
        there = old.attrs.get_id(key)
        if refers(there) and (key in _SCALES or not h5py.check_ref_dtype(there.dtype)):
            return
        values = np.empty(() if there.shape is None else there.shape, there.dtype)
        if there.shape is not None:
            there.read(values)
        if refers(there):
            values = self._led_here(values, old)
            if not all(values.flat):
                return
        # with exactly the same type, by which HDF5 recognises a dimension scale
        here = h5py.h5a.create(new.id, key.encode(), there.get_type().copy(), there.get_space())
        if there.shape is not None:
            here.write(values)

    def _led_here(self, references: np.ndarray, old: Object) -> np.ndarray:
        """Convert references to references to the copies; empty ones if the target is not copied."""
        found = np.empty_like(references)
        for k, reference in np.ndenumerate(references):
            region = isinstance(reference, h5py.RegionReference)
            found[k] = h5py.RegionReference() if region else h5py.Reference()
            try:
                place = self._places.get(_address(old.file[reference])) if reference else None
            except (ValueError, KeyError, RuntimeError, OSError):  # the target was deleted
                continue
            if place and region:
                space = h5py.h5r.get_region(reference, old.id)
                found[k] = h5py.h5r.create(self.out.id, place.encode(), h5py.h5r.DATASET_REGION, space)
            elif place:
                found[k] = self.out[place].ref
        return found

    def _attach_scales(self, old: h5py.Dataset, new: h5py.Dataset) -> None:
        for dimension, copied in zip(old.dims, new.dims, strict=True):
            try:
                scales = dimension.values()
            except (ValueError, KeyError, RuntimeError, OSError):  # the source has lost its scales
                continue
            for scale in scales:
                if place := self._places.get(_address(scale)):
                    copied.attach_scale(self.out[place])


def in_file(dataset: h5py.Dataset) -> bool:
    """Whether all values are in the file itself (not virtual or external), so that HDF5 copies values, not pointers."""
    return not dataset.is_virtual and not dataset.external


def outside(f: h5py.File) -> list[h5py.Dataset]:
    """Datasets in any group whose values are in other files."""
    here = _address(f)[0]
    return [d for d in _datasets(f, set()) if not in_file(d) or _address(d)[0] != here]


def files_of(path: Path) -> list[Path]:
    """A file, and the existing other files that contain values of its datasets."""
    found = {path}
    with open_hdf5(path) as f:
        for dataset in outside(f):
            names = {Path(dataset.file.filename)}
            names |= {source_file(dataset, s) for s in (dataset.virtual_sources() if dataset.is_virtual else ())}
            names |= {Path(name) for name, *_ in dataset.external or ()}
            found |= {Path(os.path.abspath(name)) for name in names if name.is_file()}
    return sorted(found, key=lambda p: (p != path, p))


def room(dataset: h5py.Dataset) -> int:
    """Largest size of the values in bytes, without compression."""
    if not (dataset.chunks and in_file(dataset)):
        return int(dataset.nbytes)
    chunks = math.prod(math.ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    return int(chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize)


def _datasets(group: h5py.Group, seen: set[tuple[int, int]]) -> Iterator[h5py.Dataset]:
    seen.add(_address(group))
    for name in group:
        item: Any = linked(group, name)
        if item is None or _address(item) in seen:
            continue
        if isinstance(item, h5py.Group):
            yield from _datasets(item, seen)
        elif isinstance(item, h5py.Dataset):
            seen.add(_address(item))
            yield item


def _address(item: Object) -> tuple[int, int]:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _create_like(source: h5py.Dataset, out: h5py.File, name: str) -> h5py.Dataset:
    """Create an empty dataset with the type, chunks and compression of another."""
    if not in_file(source):
        return out.create_dataset(name, source.shape, source.dtype, chunks=True if source.ndim == 3 else None)
    properties = source.id.get_create_plist()
    h5py.h5d.create(out.id, name.encode(), source.id.get_type().copy(), source.id.get_space(), properties)
    return out[name]
