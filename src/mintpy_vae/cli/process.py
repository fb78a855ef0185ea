"""What the commands share: errors and interruptions in one sentence, progress bars, how much is said."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INTERRUPTED = "Interrupted. The input is as it was; {}."


@contextmanager
def command(iargs: Sequence[str] | None) -> Iterator[None]:
    """Run a command line: end with one sentence, whatever goes wrong, or with the time used."""
    given = sys.argv if iargs is None else iargs
    start = time.time()
    with one_sentence("--debug" in given):
        yield
    if "--quiet" not in given:
        minutes, seconds = divmod(time.time() - start, 60)
        print(f"time used: {minutes:02.0f} mins {seconds:02.1f} secs.")


def add_switches(parser: Any) -> None:
    """How much is said."""
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--verbose", action="store_true", help="print all that goes into vae.log as well")
    how_much.add_argument("--quiet", action="store_true", help="print warnings, errors and the next command only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def level(inps: Namespace) -> int:
    """What is printed, as a level of :mod:`logging`."""
    return logging.WARNING if inps.quiet else logging.DEBUG if inps.verbose else logging.INFO


class Bars:
    """One of MintPy's progress bars per stage, a :data:`~mintpy_vae.separation.Report`."""

    def __init__(self) -> None:
        self.stage, self.bar = "", None

    def __call__(self, stage: str, done: int, total: int, message: str) -> None:
        """Move the bar of a stage."""
        from mintpy.utils import ptime

        if stage != self.stage:
            self.stage = stage
            self.bar = ptime.progressBar(maxValue=total, prefix=f"{stage}: ")
        assert self.bar is not None
        self.bar.update(done, suffix=message)
        if done >= total:
            self.bar.close()
            self.stage = ""


@contextmanager
def libraries_loading() -> Iterator[None]:
    """Within :func:`one_sentence`: an interruption ends the process at once.

    Loading takes seconds, in which there is nothing to tidy up, and in which an exception can abort PyTorch's own code.
    """

    def leave(number: int, frame: Any) -> None:
        os.write(2, f"{INTERRUPTED.format('the same command starts anew')}\n".encode())
        os._exit(1)

    with _handled_by(leave):
        yield


@contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
    """End the process with one sentence, whatever goes wrong inside; with ``debug``, let errors through."""
    from mintpy_vae.errors import InputError

    try:
        with _terminated_like_interrupted():
            yield
    except InputError as error:
        if debug:
            raise
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(INTERRUPTED.format(str(stop) or "the same command starts anew"))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno:  # of the disk or the system, not of ours
            sys.exit(f"ERROR: {f'{error.filename}: ' if error.filename else ''}{os.strerror(error.errno)}.")
        message = " ".join(str(error).split())
        sys.exit(f"ERROR: {type(error).__name__}: {message} (run again with --debug and report it)")


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, SIGTERM and SIGINT are handled so; SIGINT not where it is ignored, as in a shell's background."""
    caught = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Clean up after SIGTERM too, with which clusters and shells end a process; let neither get lost on its way."""
    received = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def once_more(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:  # Python drops what is raised while it tidies up; after that, then
            threading.Timer(0.05, os.kill, (os.getpid(), received[-1])).start()
        else:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, once_more
    try:
        with _handled_by(interrupt):
            yield
    except Exception:
        if received:  # a bare except in MintPy has made another error of it
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.unraisablehook = hook
