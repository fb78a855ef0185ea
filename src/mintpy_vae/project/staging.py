"""Write a work directory in a locked place beside the target, and replace the target only when it is complete."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from ..errors import InputError
from ..stack import reason

__all__ = ["NETWORKS", "staged"]

NETWORKS = ".vae_correct.networks"
"""Folder in the new directory with the networks that an interrupted run leaves for the next one."""

_LOCK = ".vae_correct.lock"  # in the new directory, before and after it is renamed
_EARLIER = ".vae_correct.earlier"  # in the new directory: the earlier work directory during the exchange


@contextmanager
def staged(target: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Provide a place for a new work directory, and the function that moves it to the target.

    The place is ``target + '.part'`` and is removed at the end. If the process is interrupted (KeyboardInterrupt) or
    killed while the folder ``NETWORKS`` in it has files, this folder is kept, and the next process for the same target
    uses it; everything else that a killed process left is removed by the next one. Within the context, other processes
    for the same target are refused.

    Parameters
    ----------
    target : Path
        Absolute; may exist.

    Yields
    ------
    staging : Path
    publish : callable
        Puts `staging` in the place of `target`.

    Raises
    ------
    InputError
        If another process works on `target`, or it cannot be written to.
    """
    staging = target.with_name(target.name + ".part")
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        handle = _claim(staging, target)
        keep = False
        try:
            _tidy(staging, target)
            _try_hdf5(staging)
            yield staging, lambda: _publish(staging, target)
        except KeyboardInterrupt as stop:
            place = next((p for p in (staging, target) if any((p / NETWORKS).glob("*"))), None)
            if keep := place is not None:
                stop.args = (f"the trained networks are kept in {place}, and the same command continues with them",)
            raise
        finally:
            if _is(handle, staging / _LOCK):
                _tidy(staging, target)
                if not keep:
                    shutil.rmtree(staging, ignore_errors=True)
            else:
                shutil.rmtree(target / _EARLIER, ignore_errors=True)
                if not keep:
                    shutil.rmtree(target / NETWORKS, ignore_errors=True)
                (target / _LOCK).unlink(missing_ok=True)
            os.close(handle)
    finally:
        for parent in missing:
            with suppress(OSError):  # it contains the result, or was never made
                parent.rmdir()


def _claim(staging: Path, target: Path) -> int:
    """Make and lock the place; return the handle of the lock, which the kernel releases if the process is killed."""
    busy = InputError(
        f"Another vae_correct.py is writing {target}; wait until it ends, or choose another directory with -o."
    )
    try:
        foreign = staging.exists() and any(staging.iterdir()) and not (staging / _LOCK).exists()
        if foreign or staging.is_symlink():
            raise InputError(f"{staging} is in the way, but was not made by vae_correct.py; move it elsewhere.")
        while True:
            staging.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the other process has just renamed it
                handle = os.open(staging / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
                if not _lock(handle):
                    os.close(handle)
                    raise busy
                if _is(handle, staging / _LOCK):
                    break
                os.close(handle)
        if (target / _LOCK).exists():  # MintPy is running there, or was killed
            with open(target / _LOCK, "r+b") as other:
                if not _lock(other.fileno()):
                    shutil.rmtree(staging)
                    os.close(handle)
                    raise busy
                (target / _LOCK).unlink()
    except OSError as error:
        reason = f"{target.parent} cannot be written to: {error.strerror}. Choose another directory with -o."
        raise InputError(reason) from error
    return handle


def _try_hdf5(staging: Path) -> None:
    """Refuse a place where HDF5 cannot write, for example without locks, before the training."""
    trial = staging / ".vae_correct.trial"
    try:
        with h5py.File(trial, "w"):
            pass
        trial.unlink()
    except OSError as error:
        raise InputError(f"In {staging.parent} no HDF5 file can be written: {reason(error)}.") from error


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _tidy(staging: Path, target: Path) -> None:
    """Remove the remains of a killed or failed process; the lock and the networks stay."""
    if (staging / _EARLIER).exists() and not target.exists():
        os.replace(staging / _EARLIER, target)
    shutil.rmtree(target / _EARLIER, ignore_errors=True)
    if (target / NETWORKS).is_dir():  # killed after the exchange
        shutil.rmtree(staging / NETWORKS, ignore_errors=True)
        os.replace(target / NETWORKS, staging / NETWORKS)
    for item in staging.iterdir():
        if item.name not in (_LOCK, NETWORKS):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()


def _publish(staging: Path, target: Path) -> None:
    try:
        if target.exists():
            os.replace(target, staging / _EARLIER)
        os.replace(staging, target)
    except OSError as error:
        raise InputError(f"{target} cannot be replaced: {error.strerror}. Choose another directory with -o.") from error
    shutil.rmtree(target / _EARLIER, ignore_errors=True)
