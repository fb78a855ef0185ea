"""What the commands share: errors and interruptions in one sentence, progress bars, how much is said."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

from mintpy_vae.directory import current
from mintpy_vae.errors import InputError

INTERRUPTED = "Interrupted. The input is unchanged; {}."
_NOWHERE = "The current directory has been deleted; change to another directory and run this again."


@contextmanager
def command(iargs: Sequence[str] | None) -> Iterator[None]:
    """Run a command line: end with one sentence, whatever goes wrong, or with the time used."""
    given = sys.argv if iargs is None else iargs
    start = time.time()
    with one_sentence("--debug" in given), _steady_streams():
        if current() is None:  # in which neither MintPy nor MKL can be loaded
            raise InputError(_NOWHERE)
        yield
        if "--quiet" not in given:
            minutes, seconds = divmod(time.time() - start, 60)
            print(f"time used: {minutes:02.0f} mins {seconds:02.1f} secs.")


def add_switches(parser: Any) -> None:
    """How much is said."""
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--verbose", action="store_true", help="print everything that is written to vae.log")
    how_much.add_argument("--quiet", action="store_true", help="print only warnings, errors and the next command")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def level(inps: Namespace) -> int:
    """What is printed, as a level of :mod:`logging`."""
    return logging.WARNING if inps.quiet else logging.DEBUG if inps.verbose else logging.INFO


@contextmanager
def _steady_streams() -> Iterator[None]:
    """Within, nothing that is wrong with the terminal can stop what is worked on."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or else the next file that is opened, the result perhaps, is taken for standard output
            os.open(os.devnull, os.O_RDWR)
    out, err = _Steady(sys.stdout), _Steady(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


class _Steady:
    """A stream that escapes what its encoding lacks, and is silent where nobody listens (closed, a pipe that broke)."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream: Any = stream or io.TextIOBase()  # which takes nothing

    def write(self, text: str) -> int:
        if encoding := getattr(self.stream, "encoding", None):
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            self.stream.write(text)
        except (OSError, ValueError):
            self._leave()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._leave()

    def _leave(self) -> None:
        if self.stream in (sys.__stdout__, sys.__stderr__):
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())  # what Python still has to write when it ends
        self.stream = io.TextIOBase()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Bars:
    """One of MintPy's progress bars per stage, a :data:`~mintpy_vae.progress.Progress`."""

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
        os.write(2, f"{INTERRUPTED.format('the same command starts again')}\n".encode())
        os._exit(1)

    with _handled_by(leave):
        yield


@contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
    """End the process with one sentence, whatever goes wrong inside; with ``debug``, let errors through."""
    try:
        with _terminated_like_interrupted():
            yield
    except InputError as error:
        if debug:
            raise
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(INTERRUPTED.format(str(stop) or "the same command starts again"))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, FileNotFoundError) and not error.filename and current() is None:
            sys.exit(f"ERROR: {_NOWHERE}")
        if isinstance(error, OSError) and error.errno:  # of the disk or the system, not of ours
            from mintpy_vae.stack import reason

            sys.exit(f"ERROR: {f'{error.filename}: ' if error.filename else ''}{reason(error)}.")
        message = " ".join(str(error).split())
        sys.exit(f"ERROR: {type(error).__name__}: {message} (run again with --debug and report it)")


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, SIGTERM and SIGINT are handled so, in the main thread, where alone they arrive.

    SIGINT not where it is ignored, as in a shell's background; neither where a handler is not Python's to put back.
    """
    before = {}
    with suppress(ValueError):  # of another thread
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
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
        if (
            unraisable.exc_type is KeyboardInterrupt and received
        ):  # Python drops what is raised while it tidies up; after that, then
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
