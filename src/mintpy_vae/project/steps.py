"""Run MintPy's steps in the corrected directory with MintPy's own class.

MintPy's ``smallbaselineApp.py --start velocity`` does not invert the stack, so a corrected stack alone would not change
the velocity. Therefore the steps from ``modify_network`` to ``reference_date`` are run here. Nothing is written into
the original project.
"""

from __future__ import annotations

import os
import random
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from mintpy.cli.smallbaselineApp import STEP_LIST
from mintpy.objects import ifgramStack
from mintpy.smallbaselineApp import TimeSeriesAnalysis

from ..directory import in_directory
from ..errors import InputError
from ..log import LOGGER, mintpy_logged
from ..stack import reason
from .templates import CFG, TROPOSPHERE

__all__ = ["STEP", "STEPS", "at_work", "ensure_reference_point", "next_command", "run_to_reference_date"]

STEP = "correct_vae"
STEPS = [name for step in STEP_LIST for name in ((STEP, step) if step == "invert_network" else (step,))]
"""MintPy's steps with ``correct_vae`` between ``correct_unwrap_error`` and ``invert_network``."""
# quick_overview crashes on stacks without unwrapping errors (mintpy/utils/plot.py:1153) and nothing needs it;
# correct_unwrap_error was done before the correction, whose result already has the name of the corrected dataset.
_SKIPPED = ("quick_overview", "correct_unwrap_error")

_Path = str | os.PathLike[str]


def run_to_reference_date(work_dir: _Path, template_file: _Path) -> None:
    """Run MintPy's steps on the corrected stack, from ``modify_network`` to ``reference_date``.

    Afterwards ``smallbaselineApp.py TEMPLATE --dir WORKDIR --start velocity`` continues.

    Raises
    ------
    InputError
        With MintPy's message, if one of its steps fails or the template would correct the troposphere once more.
    """
    start, end = STEP_LIST.index("modify_network"), STEP_LIST.index("reference_date")
    _run(work_dir, template_file, [step for step in STEP_LIST[start : end + 1] if step not in _SKIPPED])


def ensure_reference_point(work_dir: _Path, template_file: _Path) -> tuple[int, int]:
    """Reference pixel (y, x) of the stack in `work_dir`; selected by MintPy, in `work_dir` only, if there is none.

    Raises
    ------
    InputError
        With MintPy's message, if it finds no reference point.
    """
    file = Path(work_dir, "inputs", "ifgramStack.h5")
    if (found := _reference_point(file)) is None:
        _run(work_dir, template_file, ["modify_network", "reference_point"])
        found = _reference_point(file)
    if found is None:
        raise InputError(f"MintPy found no reference point in {file}; set mintpy.reference.yx in {template_file}.")
    return found


def next_command(work_dir: _Path, template_file: _Path) -> str:
    """Shell command that computes the velocity and everything after it."""
    template, work = os.path.abspath(template_file), os.path.abspath(work_dir)
    return shlex.join(["smallbaselineApp.py", template, "--dir", work, "--start", "velocity"])


def _modify_network(app: TimeSeriesAnalysis, work: str) -> None:
    """Run MintPy's step without options: it would restore pairs dropped by hand, and the stack marks the kept pairs."""
    file = Path(work, "inputs", "ifgramStack.h5")
    if not file.is_file():
        return app.run(steps=["modify_network"])  # which reports it
    with h5py.File(file) as f:
        keep = f["dropIfgram"][:]
    if keep.all() or not Path(work, "waterMask.h5").is_file():  # the step makes it, too
        app.run(steps=["modify_network"])
        with h5py.File(file, "r+") as f:
            f["dropIfgram"][:] = keep


def _reference_point(file: Path) -> tuple[int, int] | None:
    stack = ifgramStack(str(file))
    stack.open(print_msg=False)
    return None if stack.refY is None else (stack.refY, stack.refX)


def _run(work_dir: _Path, template_file: _Path, steps: list[str]) -> None:
    work, template = os.path.abspath(work_dir), os.path.abspath(template_file)
    with at_work("opening the templates", work):
        app = TimeSeriesAnalysis(None if os.path.basename(template) == CFG else template, work)
        app.open()
        method: Any = app.template[TROPOSPHERE]
    if method:
        raise InputError(
            f"{template} has {TROPOSPHERE} = {method}, but the atmosphere is corrected already; set it to no or use "
            f"the template in {work}."
        )
    for step in steps:
        LOGGER.debug("MintPy's step %s", step)
        with at_work(f"step {step}", work):
            if step == "modify_network":
                _modify_network(app, work)
            else:
                app.run(steps=[step])


@contextmanager
def at_work(what: str, work: str) -> Iterator[None]:
    """Run MintPy in `work`: its errors become an InputError, and the previous directory is restored."""
    try:
        with in_directory(work), mintpy_logged():
            state = random.getstate()
            random.seed(1)  # MintPy selects a reference pixel at random; the same stack should get the same pixel
            try:
                yield
            finally:
                random.setstate(state)
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno:
            message = " ".join(filter(None, (reason(error), error.filename)))
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            message = f"it ended with exit code {error.code}; see its output for the reason"
        raise InputError(f"MintPy failed in {work} ({what}): {message.rstrip('.')}.") from error
