"""The work directory on disk: made aside, locked meanwhile, put in place whole; what was there stays until then."""

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
"""In the directory that is being made: what a run that is interrupted leaves for the next one."""

_LOCK = ".vae_correct.lock"  # in the directory that is being made, under either of its names
_EARLIER = ".vae_correct.earlier"  # there too: the earlier work directory, for the moment of the exchange


@contextmanager
def staged(target: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A place to make a work directory in, and the function that puts it where it belongs.

    The place is ``target + '.part'``; it is gone at the end, unless the process is interrupted (KeyboardInterrupt) or
    killed while its folder ``NETWORKS`` holds something: then that folder is left, and the next process for the same
    target finds it in its own place. All else that one that was killed has left is cleared up by the next. Until
    the end of the context, any other one for the same target is refused.

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
        When another process works on `target`, or there is no right to write there.
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
            with suppress(OSError):  # it holds the result, or was never made
                parent.rmdir()


def _claim(staging: Path, target: Path) -> int:
    """Make and lock the place; return the handle of the lock, which the kernel lets go if the process is killed."""
    busy = InputError(
        f"Another vae_correct.py is writing {target}; wait until it ends, or choose another directory with -o."
    )
    try:
        foreign = staging.exists() and any(staging.iterdir()) and not (staging / _LOCK).exists()
        if foreign or staging.is_symlink():
            raise InputError(f"{staging} is in the way, but was not made by vae_correct.py; move it elsewhere.")
        while True:
            staging.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the other process has just put it in place
                handle = os.open(staging / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
                if not _lock(handle):
                    os.close(handle)
                    raise busy
                if _is(handle, staging / _LOCK):
                    break
                os.close(handle)
        if (target / _LOCK).exists():  # MintPy at work there, or killed
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
    """A place where HDF5 cannot work (for want of locks, say) shows now rather than after the training."""
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
    """Undo what a process that was killed or failed has left; the lock and the networks stay."""
    if (staging / _EARLIER).exists() and not target.exists():
        os.replace(staging / _EARLIER, target)
    shutil.rmtree(target / _EARLIER, ignore_errors=True)
    if (target / NETWORKS).is_dir():  # cut off after the exchange
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
