"""Logging: one logger that writes to a file beside the result and, as far as requested, to the terminal.

``DEBUG`` messages go to the file (and to the terminal with ``--verbose``); ``INFO`` and ``WARNING`` go to both.
"""

from __future__ import annotations

import logging
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import torch

from .directory import current
from .progress import Progress

__all__ = [
    "LOG",
    "LOGGER",
    "ProgressLog",
    "log_environment",
    "log_to",
    "mintpy_logged",
    "on_terminal",
    "stage",
    "versions",
]

LOG = "vae.log"
LOGGER = logging.getLogger("mintpy_vae")
LOGGER.addHandler(logging.NullHandler())  # a library prints nothing unless the application asks for it
_MINTPY = LOGGER.getChild("mintpy")
_PACKAGES = ("mintpy-vae", "mintpy", "torch", "numpy", "scipy", "h5py", "fishdbc", "hdbscan", "scikit-learn")


class _File(logging.FileHandler):
    """A log file whose write errors, such as a full disk, do not stop the correction."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors while a record is written."""


@contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Append all records to a file, which may be moved meanwhile, and the error that ends the context, if any."""
    try:
        handler: logging.Handler = _File(file, encoding="utf-8", errors="backslashreplace")
    except OSError:  # the next step reports what is wrong with the directory
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    with _handled_by(handler):
        try:
            yield
        except BaseException as error:
            LOGGER.debug("stopped by %s", type(error).__name__, exc_info=True)
            raise
        finally:
            with suppress(OSError):
                handler.close()


@contextmanager
def on_terminal(level: int) -> Iterator[None]:
    """Print records of ``level`` or above; if ``level`` is ``WARNING``, MintPy's own output is not shown."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(level)
    handler.addFilter(lambda record: record.name != _MINTPY.name)  # MintPy prints these lines itself
    handler.setFormatter(_Plain())
    with _handled_by(handler):
        if level < logging.WARNING:
            yield
        else:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield


@contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOGGER.setLevel(before)
        LOGGER.removeHandler(handler)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The message alone, with a prefix for warnings."""
        prefix = "WARNING: " if record.levelno >= logging.WARNING else ""
        return prefix + record.getMessage()


@contextmanager
def mintpy_logged() -> Iterator[None]:
    """Copy everything printed into the log as well, line by line."""
    with redirect_stdout(_Tee(sys.stdout)), redirect_stderr(_Tee(sys.stderr)):
        yield


class _Tee:
    def __init__(self, stream: TextIO) -> None:
        self.stream, self.line = stream, ""

    def write(self, text: str) -> int:
        self.stream.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            if last := line.rsplit("\r", 1)[-1].strip():  # only the last state of a progress bar
                _MINTPY.debug("MintPy: %s", last)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def stage(name: str, timings: dict[str, float]) -> Iterator[None]:
    """Log start, time and memory of a stage, and add its seconds to ``timings[name]``."""
    begin = time.time()
    LOGGER.debug("stage %s", name)
    try:
        yield
    finally:
        seconds = time.time() - begin
        timings[name] = timings.get(name, 0.0) + seconds
        LOGGER.debug("stage %s: %.1f s, %s", name, seconds, _peak_memory())


class ProgressLog:
    """Passes progress on to a callable, and logs the start and the end of each stage.

    Parameters
    ----------
    progress : callable or None
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.stage, self.begin = progress, "", 0.0

    def __call__(self, stage: str, done: int, total: int, message: str) -> None:
        """See :data:`~mintpy_vae.progress.Progress`."""
        if stage != self.stage:
            self.stage, self.begin = stage, time.time()
            LOGGER.debug("%s", stage)
        if self.progress:
            self.progress(stage, done, total, message)
        if done >= total:
            suffix = f", {message}" if message else ""
            LOGGER.debug("%s: %.1f s, %s%s", stage, time.time() - self.begin, _peak_memory(), suffix)
            self.stage = ""


def log_environment() -> None:
    """Log the command, the versions and the machine."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    LOGGER.debug("command: %s (in %s)", shlex.join(command), current())
    LOGGER.debug("versions: %s", ", ".join(f"{name} {version}" for name, version in versions().items()))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    LOGGER.debug("platform: %s; %s, %s cores, %.0f GB", platform.platform(), _processor(), os.cpu_count(), memory)
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    LOGGER.debug("GPU: %s", ", ".join(gpus) or "none")
    threads = {key: os.environ[key] for key in os.environ if key.endswith("_NUM_THREADS")}
    LOGGER.debug("threads: %s %s", torch.get_num_threads(), threads or "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the result depends on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _peak_memory() -> str:
    """Peak memory of this process so far, as text."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    text = f"peak memory {peak / 1e6:.0f} MB"
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        text += f", of the GPU {torch.cuda.max_memory_allocated() / 1e6:.0f} MB"
    return text
