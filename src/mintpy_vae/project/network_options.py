"""Find the pairs that the options ``mintpy.network.*`` keep, as in MintPy's step ``modify_network``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mintpy.cli.modify_network import cmd_line_parse
from mintpy.modify_network import get_date12_to_drop
from mintpy.objects import ifgramStack
from mintpy.utils import writefile
from numpy.typing import NDArray

from ..stack import Stack
from .steps import at_work
from .templates import is_on, options_set

__all__ = ["network_options", "pairs_kept"]

_PREFIX = "mintpy.network."
_FILES = ("maskFile", "referenceFile")


def network_options(template: Mapping[str, str]) -> dict[str, str]:
    """Options ``mintpy.network.*`` that a template sets, also to ``no``."""
    return options_set(template, _PREFIX)


def pairs_kept(stack: Stack, project: Path, template: Mapping[str, str]) -> NDArray[np.bool_]:
    """Pairs that are kept in the stack and by the template, (pairs,).

    MintPy's step would restore pairs that were dropped by hand or by an earlier template; here they stay dropped.

    Raises
    ------
    InputError
        With MintPy's message, for options that it cannot apply or that leave no pair.
    """
    given = network_options(template)
    if not any(is_on(given, key) for key in given):
        return stack.keep
    with TemporaryDirectory() as scratch:
        _bring_files(stack, project, Path(scratch), given)
        options = Path(scratch, "network.txt")
        options.write_text("".join(f"{key} = {value}\n" for key, value in given.items()), encoding="utf8")
        with at_work("the options mintpy.network.*", scratch), redirect_stdout(StringIO()):
            dropped = get_date12_to_drop(cmd_line_parse([str(stack.file), "-t", str(options)]))
            pairs = ifgramStack(str(stack.file)).get_date12_list(dropIfgram=False)
    # None: the template drops the same pairs as the stack
    return stack.keep & np.array([pair not in (dropped or ()) for pair in pairs])


def _bring_files(stack: Stack, project: Path, scratch: Path, given: Mapping[str, str]) -> None:
    """Provide the files that MintPy expects in its current directory (not the project, because MintPy writes there)."""
    named = [given[_PREFIX + key] for key in _FILES if _PREFIX + key in given]
    for name in ("inputs", "waterMask.h5", *named):
        link = scratch / os.path.normpath(name)
        inside = not os.path.isabs(name) and ".." not in link.parts and (project / name).exists()
        if inside and not link.exists():  # a file in inputs is there with its directory
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(project / name)
    if stack.land is not None and not (scratch / "waterMask.h5").exists():  # the step makes it itself
        ground = stack.land & np.isfinite(stack.height)
        with redirect_stdout(StringIO()):
            writefile.write(
                ground, out_file=str(scratch / "waterMask.h5"), metadata={**stack.attributes, "FILE_TYPE": "waterMask"}
            )
    for averages in project.glob("coherence*.txt"):  # results of an earlier run of the step, which it reuses
        shutil.copy2(averages, scratch)
