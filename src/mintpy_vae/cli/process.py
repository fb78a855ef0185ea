"""Functions shared by the commands: errors and interruptions in one sentence, progress bars, verbosity."""

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
    """Run a command line; it ends with the time used or, after any error, with one sentence."""
    given = sys.argv if iargs is None else iargs
    start = time.time()
    with one_sentence("--debug" in given), _steady_streams():
        if current() is None:  # MintPy and MKL cannot be loaded there
            raise InputError(_NOWHERE)
        yield
        if "--quiet" not in given:
            minutes, seconds = divmod(time.time() - start, 60)
            print(f"time used: {minutes:02.0f} mins {seconds:02.1f} secs.")


def add_switches(parser: Any) -> None:
    """Add --verbose, --quiet and --debug."""
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--verbose", action="store_true", help="print everything that is written to vae.log")
    how_much.add_argument("--quiet", action="store_true", help="print only warnings, errors and the next command")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def level(inps: Namespace) -> int:
    """Level of :mod:`logging` from which messages are printed."""
    return logging.WARNING if inps.quiet else logging.DEBUG if inps.verbose else logging.INFO


@contextmanager
def _steady_streams() -> Iterator[None]:
    """Within the context, no problem with the terminal can stop the work."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next opened file would get this number and become standard output
            os.open(os.devnull, os.O_RDWR)
    out, err = _Steady(sys.stdout), _Steady(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


class _Steady:
    """A stream that escapes characters outside its encoding and ignores a closed terminal or a broken pipe."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream: Any = stream or io.TextIOBase()  # which accepts no text

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
                os.dup2(nowhere.fileno(), self.stream.fileno())  # for output that Python flushes at exit
        self.stream = io.TextIOBase()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Bars:
    """A :data:`~mintpy_vae.progress.Progress` that shows one of MintPy's progress bars per stage."""

    def __init__(self) -> None:
        self.stage, self.bar = "", None

    def __call__(self, stage: str, done: int, total: int, message: str) -> None:
        """Update the bar of a stage."""
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
    """Within the context, an interruption ends the process at once; to be used within :func:`one_sentence`.

    Loading takes seconds; there is nothing to clean up yet, and an exception could abort PyTorch's own code.
    """

    def leave(number: int, frame: Any) -> None:
        os.write(2, f"{INTERRUPTED.format('the same command starts again')}\n".encode())
        os._exit(1)

    with _handled_by(leave):
        yield


@contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
    """End the process with one sentence after any error; with ``debug``, let errors pass."""
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
        if isinstance(error, OSError) and error.errno:  # an error of the disk or the system, not of this package
            from mintpy_vae.stack import reason

            sys.exit(f"ERROR: {f'{error.filename}: ' if error.filename else ''}{reason(error)}.")
        message = " ".join(str(error).split())
        sys.exit(f"ERROR: {type(error).__name__}: {message} (run again with --debug and report it)")


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within the context, ``handler`` handles SIGTERM and SIGINT, which only the main thread receives.

    A signal is left alone if it is ignored, as SIGINT is in a shell's background, or if Python cannot restore its
    handler.
    """
    before = {}
    with suppress(ValueError):  # in another thread
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
    """Treat SIGTERM, with which clusters end a process, like Ctrl-C; make sure that no signal is lost."""
    received = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def once_more(unraisable: Any) -> None:
        if (
            unraisable.exc_type is KeyboardInterrupt and received
        ):  # Python drops exceptions raised during garbage collection; send the signal again afterwards
            threading.Timer(0.05, os.kill, (os.getpid(), received[-1])).start()
        else:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, once_more
    try:
        with _handled_by(interrupt):
            yield
    except Exception:
        if received:  # a bare except in MintPy has replaced the interruption by another error
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.unraisablehook = hook
