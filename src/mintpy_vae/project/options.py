"""The ``vae.*`` section of a MintPy template, generated from the settings.

``python -m mintpy_vae.project.options`` prints it; ``configs/mintpy_vae.cfg`` is its output.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..settings import PREFIX, Settings

HEADER = """\
# vim: set filetype=cfg:
##------------------------ mintpy_vae.cfg ------------------------##
"""
_HEADING = "########## correct_vae"
TITLE = f"""\
{_HEADING} - atmospheric correction of the interferogram stack, before invert_network
## Copy the options that you want to change into your MintPy template; all others keep their defaults.
## vae_smallbaselineApp.py TEMPLATE runs MintPy's workflow with this step; vae_correct.py runs the step alone,
## where command line options take precedence: vae_correct.py inputs/ifgramStack.h5 -t TEMPLATE
## The corrected directory gets a copy of the template with mintpy.troposphericDelay.method = no,
## because MintPy would otherwise correct the atmosphere a second time.
## reference: Ghosh et al. (2025, Remote Sensing, https://doi.org/10.3390/rs17183189)
"""
_GROUPS = {  # by the first option of each group
    "device": "computing",
    "resolution": "grid and network",
    "minSamples": "clustering and detection of deformation",
    "stableMask": "prior information (paths relative to the project directory); mintpy.timeFunc.* are read, too",
    "minDate": "when to leave the stack uncorrected",
}
_BEFORE = "########## 5. invert_network"
_SPECIAL = {  # key: values, default and meaning that differ from those of the field
    "device": (
        "auto / cpu / cuda",
        "a GPU if there is one or else the CPU",
        "device for the training",
    ),
    **dict.fromkeys(("stableMask", "movingMask", "gnssFile"), ("file / no", None, None)),
    "priorDelay": ("file / no", "inputs/ERA5.h5 or the like", None),
    "badDate": ("20190103,20190210 / file / no", None, None),
    "maxMemory": (None, "mintpy.compute.maxMemory (4)", None),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """Description of one option."""

    key: str
    values: str
    default: str
    meaning: str
    group: str


def options() -> list[Option]:
    """All options of :class:`~mintpy_vae.settings.Settings`, in order."""
    found, group = [], ""
    for f in dataclasses.fields(Settings):
        key, low, high = (f.metadata[name] for name in ("key", "low", "high"))
        group = _GROUPS.get(key, group)
        values, default, meaning = _SPECIAL.get(key, (None, None, None))
        if values is None:
            values = "text / no" if low is None else f"{_plain(low)}-{_plain(high)}"
        default = default or _plain(f.default) or "no"
        found.append(Option(PREFIX + key, values, default, meaning or f.metadata["help"], group))
    return found


def section() -> str:
    """The section of a template with all options, each ``auto``."""
    lines, group = [TITLE.rstrip("\n")], ""
    width = max(len(option.key) for option in options())
    for option in options():
        if option.group != group:
            group = option.group
            lines.append(f"##---------{group}:")
        comment = f"#[{option.values}], auto for {option.default}, {option.meaning}"
        lines.append(f"{option.key:<{width}} = auto  {comment}")
    return "\n".join(lines) + "\n"


def whole_template() -> str:
    """MintPy's default template with the section in its place."""
    import mintpy

    return _with_section(Path(mintpy.__file__).with_name("defaults").joinpath("smallbaselineApp.cfg").read_text())


def own_options(template_file: str | os.PathLike[str]) -> dict[str, str]:
    """The ``vae.*`` options that a template sets; none if there is no such file."""
    from mintpy.utils import readfile

    found = readfile.read_template(str(template_file)) if os.path.isfile(template_file) else {}
    return {key: value for key, value in found.items() if key.startswith(PREFIX)}


def add_section(template_file: str | os.PathLike[str], values: Mapping[str, str]) -> None:
    """Put the section into a ``smallbaselineApp.cfg`` that lacks one of the options.

    Parameters
    ----------
    template_file : path
    values : mapping
        Options that were set before, in case MintPy has replaced the file by its newest version; they are set again.
    """
    from mintpy.utils import utils

    path = Path(template_file)
    values = {**values, **own_options(path)}
    if all(option.key in own_options(path) for option in options()):
        return
    text = path.read_text(encoding="utf8", errors="surrogateescape")
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(PREFIX)]
    path.write_text(_with_section("".join(kept)), encoding="utf8", errors="surrogateescape")
    utils.update_template_file(str(path), values)


def _with_section(text: str) -> str:
    """Text with the present section before the inversion and without any older one."""
    text = re.sub(rf"^{_HEADING}.*?(?=^########## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    if _BEFORE in text:
        return text.replace(_BEFORE, section() + "\n\n" + _BEFORE, 1)
    return text.rstrip("\n") + "\n\n\n" + section()


def _plain(value: Any) -> str:
    """A number without an exponent: 0.000001, not 1e-06."""
    if isinstance(value, float):
        return f"{value:f}".rstrip("0").rstrip(".")
    return str(value)


if __name__ == "__main__":
    print(HEADER + section(), end="")
