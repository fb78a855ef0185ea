"""Copies of HDF5 files that stand by themselves: nothing in them points to another file, or to what is not there.

Values that lie in other files (virtual datasets, external links and storage) are copied; links, references and
dimension scales lead to the copies. What leads nowhere is left out.
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
    """From one open file into another: first the objects, then, by :meth:`finish`, what points from one to the other.

    Parameters
    ----------
    source, out : h5py.File
    max_memory : float
        GB.
    """

    def __init__(self, source: h5py.File, out: h5py.File, max_memory: float) -> None:
        self.source, self.out, self.max_memory = source, out, max_memory
        self._places: dict[tuple[int, int], str] = {}  # of what is copied, by where it lies in the source
        self._pairs: list[tuple[Object, Object]] = []
        self._soft: list[tuple[str, Object]] = []
        self._left_out: list[str] = []
        self._enter(source, out)

    def dataset(self, source: h5py.Dataset, name: str) -> h5py.Dataset:
        """An empty dataset in the place of another, with its type, chunks and compression, for the caller to fill."""
        new = _create_like(source, self.out, name)
        self._enter(source, new)
        return new

    def contents(self, leave: Collection[str] = ()) -> None:
        """Copy all but some names at the root, and what was made by :meth:`dataset`."""
        self._group(self.source, "", leave)
        for place, item in self._soft:
            if target := self._places.get(_address(item)):
                self.out[place] = h5py.SoftLink(target)

    def finish(self) -> None:
        """References, attributes and dimension scales of all that was copied."""
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
                self._soft.append((place, item))  # what it leads to may come later
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
            self._left_out.append(place)  # in records and lists
        elif references:
            self._enter(item, self.out.create_dataset(place, item.shape, item.dtype))
        # of a type with a name HDF5 1.14 looks for the name in the wrong file, if the source is open twice
        elif not isinstance(item, h5py.Dataset) or in_file(item) and not item.id.get_type().committed():
            self.out.copy(item, self.out, place, without_attrs=True)
            self._enter(item, self.out[place])
        elif self._values(item, place):
            self._enter(item, self.out[place])
        else:
            self._left_out.append(place)

    def _values(self, item: h5py.Dataset, place: str) -> bool:
        """Copy what lies outside the file; False where it is not all there."""
        if lost_source(item):
            return False
        new = _create_like(item, self.out, place)
        pieces: Any = [()]
        if item.ndim == 3:
            pieces = ((block, rows) for rows, blocks in slabs(new, self.max_memory) for block in blocks)
        try:
            for where in pieces:
                new[where] = read(item, *where)
        except InputError:  # storage in a file that is gone
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
        # of the very type, by which HDF5 tells a dimension scale
        here = h5py.h5a.create(new.id, key.encode(), there.get_type().copy(), there.get_space())
        if there.shape is not None:
            here.write(values)

    def _led_here(self, references: np.ndarray, old: Object) -> np.ndarray:
        """References to the copies; empty ones to what is not copied."""
        found = np.empty_like(references)
        for k, reference in np.ndenumerate(references):
            region = isinstance(reference, h5py.RegionReference)
            found[k] = h5py.RegionReference() if region else h5py.Reference()
            try:
                place = self._places.get(_address(old.file[reference])) if reference else None
            except (ValueError, KeyError, RuntimeError, OSError):  # to what was deleted
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
            except (ValueError, KeyError, RuntimeError, OSError):  # of a file that has lost them before
                continue
            for scale in scales:
                if place := self._places.get(_address(scale)):
                    copied.attach_scale(self.out[place])


def in_file(dataset: h5py.Dataset) -> bool:
    """Not virtual and not in an external file: then HDF5 copies the values, not the pointers to them."""
    return not dataset.is_virtual and not dataset.external


def outside(f: h5py.File) -> list[h5py.Dataset]:
    """Datasets whose values lie in other files, wherever in the groups they are."""
    here = _address(f)[0]
    return [d for d in _datasets(f, set()) if not in_file(d) or _address(d)[0] != here]


def files_of(path: Path) -> list[Path]:
    """A file, and the other files where values of its datasets lie, as far as they exist."""
    found = {path}
    with open_hdf5(path) as f:
        for dataset in outside(f):
            names = {Path(dataset.file.filename)}
            names |= {source_file(dataset, s) for s in (dataset.virtual_sources() if dataset.is_virtual else ())}
            names |= {Path(name) for name, *_ in dataset.external or ()}
            found |= {Path(os.path.abspath(name)) for name in names if name.is_file()}
    return sorted(found, key=lambda p: (p != path, p))


def room(dataset: h5py.Dataset) -> int:
    """Bytes that the values take at most, where they do not compress."""
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
    """An empty dataset with the type, chunks and compression of another."""
    if not in_file(source):
        return out.create_dataset(name, source.shape, source.dtype, chunks=True if source.ndim == 3 else None)
    properties = source.id.get_create_plist()
    h5py.h5d.create(out.id, name.encode(), source.id.get_type().copy(), source.id.get_space(), properties)
    return out[name]
