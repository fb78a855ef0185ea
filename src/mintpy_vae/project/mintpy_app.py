"""The corrected project as a MintPy work directory: fill it, drive MintPy's own steps in it, say what comes next.

MintPy's ``smallbaselineApp.py --start velocity`` inverts nothing, so a corrected stack alone changes no velocity: the
steps from ``modify_network`` to ``reference_date`` are run here, by MintPy's own class. Nothing is ever written into
the original project.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from mintpy.cli.smallbaselineApp import STEP_LIST
from mintpy.objects import ifgramStack
from mintpy.smallbaselineApp import TimeSeriesAnalysis
from mintpy.utils import readfile

from ..directory import in_directory
from ..errors import InputError
from ..log import LOGGER, mintpy_logged
from ..settings import PREFIX
from ..stack import Stack, copy_file, existing, reason

__all__ = [
    "STEP",
    "STEPS",
    "at_work",
    "check_space",
    "copy_templates",
    "ensure_reference_point",
    "fill_work_dir",
    "fits",
    "is_on",
    "next_command",
    "read_templates",
    "run_to_reference_date",
]

STEP = "correct_vae"
STEPS = [name for step in STEP_LIST for name in ((STEP, step) if step == "invert_network" else (step,))]
"""MintPy's steps with ours between ``correct_unwrap_error`` and ``invert_network``."""

_CFG = "smallbaselineApp.cfg"
_TROPOSPHERE = "mintpy.troposphericDelay.method"
_UPDATE_MODE = "mintpy.load.updateMode"
_OFF = ("no", "n", "off", "false", "none")
_SPELLING = {  # loose spellings that smallbaselineApp.py allows in a custom template, TimeSeriesAnalysis._read_template
    **dict.fromkeys(("def", "default"), "auto"),
    **dict.fromkeys(("y", "on", "true"), "yes"),
    **dict.fromkeys(("n", "off", "false"), "no"),
}
# Of the results of the original project only these stay valid: the correction touches neither coherence nor masks.
_AUXILIARY = ("avgSpatialCoh.h5", "maskConnComp.h5", "waterMask.h5")
_SMALL_FILES = 10_000_000  # bytes: networks, evidence, report; MintPy's maps and the headers of its files
_RESULTS = ("maskTempCoh.h5", "temporalCoherence.h5")
# quick_overview crashes on stacks without unwrapping errors (mintpy/utils/plot.py:1153) and nothing needs it;
# correct_unwrap_error was done before the correction, whose result already bears the corrected dataset's name.
_SKIPPED = ("quick_overview", "correct_unwrap_error")

_Path = str | os.PathLike[str]


def is_on(options: Mapping[str, str], key: str) -> bool:
    """Whether an option that is off by default is given, and not as ``no``."""
    return options.get(key, "auto").lower() not in ("auto", "", *_OFF)


def fits(path: _Path, stack: Stack) -> bool:
    """Whether a file of MintPy is of the stack's pixels: not of the whole where the stack is a part, or the reverse.

    Files that say nothing of their pixels fit, and those in other coordinates (lookup tables).
    """
    own = stack.attributes
    try:
        with h5py.File(path) as f:
            other = {key: _number(f.attrs.get(key)) for key in ("LENGTH", "WIDTH", "Y_FIRST", "X_FIRST")}
            apart = ("Y_FIRST" in f.attrs) != ("Y_FIRST" in own)
    except OSError:
        return True
    if apart or other["LENGTH"] is None or other["WIDTH"] is None:
        return True
    if (other["LENGTH"], other["WIDTH"]) != stack.shape:
        return False
    for key, step in (("Y_FIRST", "Y_STEP"), ("X_FIRST", "X_STEP")):
        there, here, pixel = other[key], _number(own.get(key)), _number(own.get(step))
        if there is not None and here is not None and pixel is not None and abs(there - here) > abs(pixel) / 2:
            return False
    return True


def read_templates(project_dir: _Path, template_file: _Path | None = None) -> dict[str, str]:
    """Options that MintPy would read: ``smallbaselineApp.cfg`` of the project, overlaid with the custom template.

    Raises
    ------
    InputError
        If `template_file` does not exist or is no text.
    """
    options: dict[str, str] = {}
    for path in _template_files(Path(project_dir), template_file):
        try:
            found = readfile.read_template(str(path))
            _check_lines(path)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The template {path} cannot be read as text (UTF-8): {error}.") from error
        options |= {key: _SPELLING.get(value.lower(), value) for key, value in found.items()}
    return options


def fill_work_dir(
    stack: Stack, project_dir: _Path, work_dir: _Path, template_file: _Path | None = None, off: Sequence[str] = ()
) -> Path:
    """Put into `work_dir` all that MintPy needs there besides the stack itself.

    These are the geometry files (with the lookup table), the masks and the average coherence where present, files that
    the template names (as far as they are of the stack's pixels), and the templates: as they are, but with MintPy's
    tropospheric correction off, because it is done, and without a forced reload, which would overwrite the corrected
    stack. Files, never links.

    Parameters
    ----------
    stack : Stack
    project_dir : path
        The original project, read only.
    work_dir : path
        Made if it does not exist.
    template_file : path, optional
        The custom template.
    off : sequence of str
        Options of steps that cannot work here, to be set to ``no``.

    Returns
    -------
    template : Path
        In `work_dir`: the custom template's copy, that of ``smallbaselineApp.cfg`` if there is no other, or a new one
        if there is none at all.

    Raises
    ------
    InputError
        If a file cannot be copied or does not fit although the template names it, or the place will not do.
    """
    project, work = Path(os.path.abspath(project_dir)), Path(os.path.abspath(work_dir))
    if work.exists() and project.exists() and work.samefile(project):
        raise InputError(f"{work} is the original project; choose another directory for the corrected one.")
    options = read_templates(project, template_file)
    _check_place(work, stack, options)
    _check_reference(stack, options)
    copied = _files_that_fit(options, project, stack)
    try:
        (work / "inputs").mkdir(parents=True, exist_ok=True)
        for geometry in sorted(stack.file.parent.glob("geometry*.h5")):
            if fits(geometry, stack):
                _copy(geometry, work / "inputs" / geometry.name)
        _copy(stack.geometry_file, work / "inputs" / _geometry_name(stack))
        for name in copied:
            _copy(project / name, work / name)
    except OSError as error:
        raise InputError(f"{work} could not be filled: {error.strerror or error} ({error.filename}).") from error
    processor = stack.attributes.get("PROCESSOR")
    new = f"mintpy.load.processor = {processor}\n" if processor else ""
    return copy_templates(project, work, template_file, new, off)


def check_space(work_dir: _Path, stack: Stack, size: int, series: int) -> None:
    """Refuse a disk that is too small now, rather than after minutes, or by HDF5, which may take the process down.

    Parameters
    ----------
    work_dir : path
    stack : Stack
    size : int
        Bytes that will be written there in any case.
    series : int
        Time series of the stack's dates that will be written besides.

    Raises
    ------
    InputError
        With what is needed and what there is.
    """
    work = Path(os.path.abspath(work_dir))
    needed = size + 4 * series * len(stack.dates) * stack.shape[0] * stack.shape[1] + _SMALL_FILES
    free = shutil.disk_usage(work).free
    if needed > free:
        raise InputError(
            f"{work} needs about {needed / 1e9:.3g} GB, but its disk has only {free / 1e9:.3g} GB left; make room, or "
            "choose another place with -o."
        )


def copy_templates(
    project_dir: _Path, work_dir: _Path, template_file: _Path | None = None, new: str = "", off: Sequence[str] = ()
) -> Path:
    """Bring the templates in `work_dir` up to date with the project's, adapted; what is the same is not touched.

    Parameters
    ----------
    project_dir, work_dir, template_file, off
        As for :func:`fill_work_dir`.
    new : str
        What to write, adapted too, if the project has no template at all.

    Returns
    -------
    template : Path
        In `work_dir`: the custom template's copy, or that of ``smallbaselineApp.cfg`` if there is no other.
    """
    project, work = Path(os.path.abspath(project_dir)), Path(os.path.abspath(work_dir))
    try:
        texts = {path.name: _read_text(path) for path in _template_files(project, template_file)}
        for name, text in (texts or {f"{project.name or 'project'}.txt": new}).items():
            copy, adapted = work / name, _adapted(text, off)
            if not copy.is_file() or _read_text(copy) != adapted:
                _write_text(copy, adapted)
    except OSError as error:
        raise InputError(f"{work} could not be filled: {error.strerror or error} ({error.filename}).") from error
    return copy


def run_to_reference_date(work_dir: _Path, template_file: _Path) -> None:
    """Drive MintPy's steps on the corrected stack, from ``modify_network`` to ``reference_date``.

    Afterwards ``smallbaselineApp.py TEMPLATE --dir WORKDIR --start velocity`` runs on.

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
        With MintPy's message, if it finds none.
    """
    file = Path(work_dir, "inputs", "ifgramStack.h5")
    if (found := _reference_point(file)) is None:
        _run(work_dir, template_file, ["modify_network", "reference_point"])
        found = _reference_point(file)
    if found is None:
        raise InputError(f"MintPy selected no reference point in {file}; set mintpy.reference.yx in {template_file}.")
    return found


def next_command(work_dir: _Path, template_file: _Path) -> str:
    """The shell command that makes velocity and everything after it."""
    template, work = os.path.abspath(template_file), os.path.abspath(work_dir)
    return shlex.join(["smallbaselineApp.py", template, "--dir", work, "--start", "velocity"])


def _template_files(project: Path, template_file: _Path | None) -> list[Path]:
    """The default template of the project, if it has one, then the custom one, if one is given."""
    default = project / _CFG
    if template_file is None:
        return [default] if default.is_file() else []
    custom = existing(template_file, "template")
    # MintPy takes a template of this name for the default one, wherever it lies.
    return [default, custom] if default.is_file() and custom.name != _CFG else [custom]


def _check_lines(path: Path) -> None:
    """MintPy passes over a line that is no ``key = value``; of our own options none shall be lost so."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.lstrip("\ufeff \t")  # the mark that some editors put before the first line
        if words.lower().startswith(PREFIX) and (line.startswith("\ufeff") or "=" not in words.split("#")[0]):
            raise InputError(f"The template {path} cannot be understood: line {number} is no option = value.")


def _check_place(work: Path, stack: Stack, options: Mapping[str, str]) -> None:
    """MintPy looks for geocoded files as soon as ``geo`` occurs in the path (``smallbaselineApp.py:884``)."""
    wants_hdfeos5 = options.get("mintpy.save.hdfEos5", "auto").lower() == "yes"
    if wants_hdfeos5 and "Y_FIRST" in stack.attributes and "geo" in str(work):
        raise InputError(
            f"The path {work} contains the letters 'geo', with which MintPy's step hdfeos5 fails on a geocoded stack; "
            "choose another directory or set mintpy.save.hdfEos5 = no."
        )


def _geometry_name(stack: Stack) -> str:
    return "geometryGeo.h5" if "Y_FIRST" in stack.attributes else "geometryRadar.h5"


def _check_reference(stack: Stack, options: Mapping[str, str]) -> None:
    """MintPy would stop after the correction at a reference point outside the scene, as that of the whole in a part."""
    if not is_on(options, key := "mintpy.reference.yx"):
        return
    point = [_number(text) for text in re.split(r"[\s,;]+", options[key].strip("[] "))]
    inside = [value is not None and 0 <= value < size for value, size in zip(point, stack.shape, strict=False)]
    if not all(inside):
        raise InputError(
            f"{key} = {options[key]} lies outside the scene of {stack.shape[0]} x {stack.shape[1]} pixels; "
            "choose another one."
        )


def _files_that_fit(options: Mapping[str, str], project: Path, stack: Stack) -> list[str]:
    """Masks and the like that are of the stack's pixels; the others are made by MintPy, or must not be asked for."""
    named = dict(_named_files(options, project))
    chosen: list[str] = []
    left: list[str] = []
    for name in dict.fromkeys((*_AUXILIARY, *named)):
        if (project / name).is_file():
            (chosen if fits(project / name, stack) else left).append(name)
    made = [name for name in _AUXILIARY if name != "waterMask.h5" or stack.land is not None]
    for name in left:
        if name in named and name not in made:
            raise InputError(
                f"{named[name]} = {name} is not of the same pixels as {stack.file.name}; cut it with subset.py, or set "
                "the option to auto."
            )
    if left:
        LOGGER.warning("%s: not of the pixels of %s, and not copied.", ", ".join(left), stack.file.name)
    return chosen


def _named_files(options: Mapping[str, str], project: Path) -> Iterator[tuple[str, str]]:
    """Files inside the project that the template names by a relative path (masks, lists of dates), with the option."""
    for key, value in options.items():
        if not key.startswith("mintpy.") or key.startswith("mintpy.load.") or os.path.isabs(value):
            continue
        path = Path(os.path.normpath(value))
        if ".." not in path.parts and path.name not in _RESULTS and (project / path).is_file():
            yield str(path), key


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _copy(source: Path, target: Path) -> None:
    old, new = source.stat(), target.stat() if target.exists() else None
    if new and (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
        return
    copy_file(source, target)  # with its time: MintPy compares times to see what is out of date


def _read_text(path: Path) -> str:
    with open(path, encoding="utf8", errors="surrogateescape", newline="") as f:
        return f.read()


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf8", errors="surrogateescape", newline="") as f:
        f.write(text)


def _adapted(text: str, off: Sequence[str]) -> str:
    """A template as the corrected directory needs it; every other line stays as it is."""
    text, found = _set_option(text, _TROPOSPHERE, "no")
    if not found:
        ending = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text or text.endswith("\n") else ending
        text += f"{gap}{_TROPOSPHERE} = no{ending}"
    for key in off:
        text = _set_option(text, key, "no")[0]
    return _set_option(text, _UPDATE_MODE, "yes", only=_OFF)[0]


def _set_option(text: str, key: str, value: str, only: tuple[str, ...] | None = None) -> tuple[str, bool]:
    """Set an option wherever the text gives it (or only where it has one of some values); say whether it was there."""
    pattern = re.compile(rf"^([ \t]*{re.escape(key)}[ \t]*=[ \t]*)([^#\r\n]*?)([ \t]*(?:#[^\r\n]*)?\r?)$", re.MULTILINE)

    def replace(match: re.Match[str]) -> str:
        before, old, after = match.groups()
        return match[0] if only and old.lower() not in only else f"{before}{value}{after}"

    text, count = pattern.subn(replace, text)
    return text, count > 0


def _modify_network(app: TimeSeriesAnalysis, work: str) -> None:
    """MintPy's step, which would bring back pairs that were dropped by hand: the stack says already which are kept."""
    file = Path(work, "inputs", "ifgramStack.h5")
    if not file.is_file():
        return app.run(steps=["modify_network"])  # which says so
    with h5py.File(file) as f:
        keep = f["dropIfgram"][:]
    if keep.all() or not Path(work, "waterMask.h5").is_file():  # which the step makes, too
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
        app = TimeSeriesAnalysis(None if os.path.basename(template) == _CFG else template, work)
        app.open()
        method: Any = app.template[_TROPOSPHERE]
    if method:
        raise InputError(
            f"{template} has {_TROPOSPHERE} = {method}, but the atmosphere is corrected already; set it to no or use "
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
    """MintPy at work in `work`: whatever it raises becomes an InputError, and the directory before is entered again."""
    try:
        with in_directory(work), mintpy_logged():
            state = random.getstate()
            random.seed(1)  # by which MintPy selects a reference pixel: the same stack should get the same one
            try:
                yield
            finally:
                random.setstate(state)
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno:
            message = " ".join(filter(None, (reason(error), error.filename)))
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            message = f"it ended with exit code {error.code}, its output says why"
        raise InputError(f"MintPy failed in {work} ({what}): {message.rstrip('.')}.") from error
