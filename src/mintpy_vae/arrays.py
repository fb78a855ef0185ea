"""Type aliases of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
"""Floating-point numbers of any precision."""
Float32 = NDArray[np.float32]
Raster = NDArray[Any]
"""Numbers or booleans."""
Mask = NDArray[np.bool_]
Pairs = NDArray[np.integer]
"""Indices (pairs, 2) of the first and the second date."""
Rows = Callable[[slice], Float32]
"""Rows of the stack -> values on them, (n, rows, width)."""
