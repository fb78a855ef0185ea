"""Where the large arrays of a simulated scene are kept: in memory, or on a disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Raster
from ..errors import InputError

Storage = Callable[[tuple[int, ...], Any], Raster]
"""Gives an array of zeros of a shape and a type."""


def in_memory(shape: tuple[int, ...], dtype: Any) -> Raster:
    """An array of zeros in memory."""
    return np.zeros(shape, dtype)


def in_files(folder: Path, shape: tuple[int, ...], dtype: Any) -> Raster:
    """An array of zeros in a file of ``folder`` that has no name, and is gone with the array or the process.

    Raises
    ------
    InputError
        If the disk is full or cannot be written.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # or a disk that fills up later would kill the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        needed = f"{size / 1e9:.1f} GB for one of the arrays that a simulation keeps on the disk"
        raise InputError(f"{folder} cannot take {needed} ({error.strerror}); choose another directory.") from None
