"""One thread for the learning, so that its result is the same on every number of cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["single_threaded"]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch and the linear algebra under NumPy use one thread; afterwards they have as many as before.

    Sums over threads depend on their number in the last bits, and training carries that on. The networks are too small
    to gain from a second thread, and lose much where another process has the core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
