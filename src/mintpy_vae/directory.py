"""The current directory: all threads share it, and it may have been deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

_ONE_AT_A_TIME = RLock()


def current() -> Path | None:
    """Return the current directory, or None if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


@contextmanager
def in_directory(path: str | os.PathLike[str]) -> Iterator[None]:
    """Change to a directory, then back, even if the earlier one is deleted meanwhile; threads wait for each other."""
    with _ONE_AT_A_TIME:
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        try:
            os.chdir(path)
            yield
        finally:
            os.fchdir(here)
            os.close(here)
