"""Read MintPy's templates as MintPy does, and copy them with the changes that the corrected directory needs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mintpy.utils import readfile

from ..errors import InputError
from ..settings import PREFIX
from ..stack import existing

__all__ = ["CFG", "TROPOSPHERE", "copy_templates", "is_on", "options_set", "read_templates"]

CFG = "smallbaselineApp.cfg"
TROPOSPHERE = "mintpy.troposphericDelay.method"
_UPDATE_MODE = "mintpy.load.updateMode"
_UNSET = ("auto", "")
_OFF = ("no", "n", "off", "false", "none")
_SPELLING = {  # spellings that smallbaselineApp.py allows in a custom template, TimeSeriesAnalysis._read_template
    **dict.fromkeys(("def", "default"), "auto"),
    **dict.fromkeys(("y", "on", "true"), "yes"),
    **dict.fromkeys(("n", "off", "false"), "no"),
}

_Path = str | os.PathLike[str]


def options_set(template: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    """Options of these prefixes that a template sets, also to ``no``."""
    return {k: v for k, v in template.items() if k.startswith(prefixes) and v.lower() not in _UNSET}


def is_on(options: Mapping[str, str], key: str) -> bool:
    """Whether an option that is off by default is switched on."""
    return options.get(key, "auto").lower() not in (*_UNSET, *_OFF)


def read_templates(project_dir: _Path, template_file: _Path | None = None) -> dict[str, str]:
    """Options that MintPy would read: ``smallbaselineApp.cfg`` of the project, overlaid with the custom template.

    Raises
    ------
    InputError
        If `template_file` does not exist or is not text.
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


def copy_templates(
    project_dir: _Path, work_dir: _Path, template_file: _Path | None = None, new: str = "", off: Sequence[str] = ()
) -> Path:
    """Update the adapted copies of the project's templates in `work_dir`; unchanged files are not written.

    Parameters
    ----------
    project_dir, work_dir, template_file, off
        As for :func:`fill_work_dir`.
    new : str
        Text to write (adapted, too) if the project has no template.

    Returns
    -------
    template : Path
        Copy of the custom template in `work_dir`, or of ``smallbaselineApp.cfg`` if there is no other.
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


def _template_files(project: Path, template_file: _Path | None) -> list[Path]:
    """The default template of the project, if it has one, then the custom one, if one is given."""
    default = project / CFG
    if template_file is None:
        return [default] if default.is_file() else []
    custom = existing(template_file, "template")
    # MintPy regards a template of this name as the default one in any directory.
    return [default, custom] if default.is_file() and custom.name != CFG else [custom]


def _check_lines(path: Path) -> None:
    """Refuse a ``vae.*`` line that is not ``key = value``, which MintPy would ignore silently."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.lstrip("\ufeff \t")  # byte order mark that some editors write
        if words.lower().startswith(PREFIX) and (line.startswith("\ufeff") or "=" not in words.split("#")[0]):
            raise InputError(
                f"The template {path} cannot be understood: line {number} is not of the form option = value."
            )


def _read_text(path: Path) -> str:
    with open(path, encoding="utf8", errors="surrogateescape", newline="") as f:
        return f.read()


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf8", errors="surrogateescape", newline="") as f:
        f.write(text)


def _adapted(text: str, off: Sequence[str]) -> str:
    """A template with the options that the corrected directory needs; all other lines are unchanged."""
    text, found = _set_option(text, TROPOSPHERE, "no")
    if not found:
        ending = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text or text.endswith("\n") else ending
        text += f"{gap}{TROPOSPHERE} = no{ending}"
    for key in off:
        text = _set_option(text, key, "no")[0]
    return _set_option(text, _UPDATE_MODE, "yes", only=_OFF)[0]


def _set_option(text: str, key: str, value: str, only: tuple[str, ...] | None = None) -> tuple[str, bool]:
    """Set an option wherever the text has it (with ``only``, only these values); return whether the text has it."""
    pattern = re.compile(rf"^([ \t]*{re.escape(key)}[ \t]*=[ \t]*)([^#\r\n]*?)([ \t]*(?:#[^\r\n]*)?\r?)$", re.MULTILINE)

    def replace(match: re.Match[str]) -> str:
        before, old, after = match.groups()
        return match[0] if only and old.lower() not in only else f"{before}{value}{after}"

    text, count = pattern.subn(replace, text)
    return text, count > 0
