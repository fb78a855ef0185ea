"""The current directory, which belongs to the whole process, and may have been deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

_ONE_AT_A_TIME = RLock()


def current() -> Path | None:
    """The current directory, None where it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


@contextmanager
def in_directory(path: str | os.PathLike[str]) -> Iterator[None]:
    """Be in a directory, then where one was before, even if that is deleted meanwhile; threads wait for each other."""
    with _ONE_AT_A_TIME:
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        try:
            os.chdir(path)
            yield
        finally:
            os.fchdir(here)
            os.close(here)
