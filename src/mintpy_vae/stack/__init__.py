"""A MintPy interferogram stack on disk: checked, read in slabs, written completely or not at all.

Only this package depends on the HDF5 layout of ``ifgramStack.h5`` and of the geometry file. The input is opened for
reading only. No function exceeds the memory that it is given.

Conventions of MintPy: no-data is exactly 0 or NaN; ``dropIfgram`` True means KEEP; ``waterMask`` True means land;
phase grows when the ground moves away, so displacement = -phase * wavelength / (4 pi).
"""

from ..arrays import Rows
from .checks import COMPLETE, METHOD, check_phase
from .copying import files_of
from .growth import DIGITS, EarlierLayers, names_of_pairs, pair_hashes
from .hdf5 import content_hash, damage, existing, file_hash, layer_hashes, linked, open_hdf5, project_of, reason
from .pooling import has_phase, pool_components, pool_map, pool_pairs
from .reading import Stack, open_stack
from .writing import (
    copy_file,
    size_needed,
    write_corrected_stack,
    write_delay_file,
    write_std_file,
    write_velocity_std,
)

__all__ = [
    "COMPLETE",
    "DIGITS",
    "METHOD",
    "EarlierLayers",
    "Rows",
    "Stack",
    "check_phase",
    "content_hash",
    "copy_file",
    "damage",
    "existing",
    "file_hash",
    "files_of",
    "has_phase",
    "layer_hashes",
    "linked",
    "names_of_pairs",
    "open_hdf5",
    "open_stack",
    "pair_hashes",
    "pool_components",
    "pool_map",
    "pool_pairs",
    "project_of",
    "reason",
    "size_needed",
    "write_corrected_stack",
    "write_delay_file",
    "write_std_file",
    "write_velocity_std",
]
