#!/usr/bin/env python3
"""Command line of MintPy's workflow with the additional step ``correct_vae``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mintpy_vae.cli.process import Bars, add_switches, command, level, libraries_loading

EXAMPLE = """example:
  vae_smallbaselineApp.py TehranSenAT78.txt                       # MintPy's workflow with the correction in it
  vae_smallbaselineApp.py TehranSenAT78.txt --dostep correct_vae  # the correction only; writes PROJECT_vae
  vae_smallbaselineApp.py TehranSenAT78.txt --start correct_vae   # the correction and all after it, in PROJECT_vae
  vae_smallbaselineApp.py TehranSenAT78.txt --end invert_network
  vae_smallbaselineApp.py -H                                      # print    default template options
  vae_smallbaselineApp.py -g TehranSenAT78.txt                    # generate/update smallbaselineApp.cfg

  Steps up to correct_unwrap_error run in the project, those from invert_network on in PROJECT_vae beside it.
"""

REFERENCE = """reference:
  Ghosh, B., Motagh, M., Anvari, M. and Maghsudi, S. (2025), Remote Sensing, 17(18), 3189.
  Yunjun, Z., Fattahi, H. and Amelung, F. (2019), Computers & Geosciences, 133, 104331.
"""

HELP = """Command line options for steps processing with names chosen from the following list:

{}

In order to use either --start or --dostep, it is necessary that a
previous run was done using one of the steps options to process at least
through the step immediately preceding the starting step of the current run.
"""


@contextmanager
def _mintpy_s_command_line() -> Iterator[Any]:
    """MintPy's own command line, with the additional step in its list and its help."""
    from mintpy.cli import smallbaselineApp

    from mintpy_vae.project.steps import STEPS

    rows = "\n".join(str(STEPS[k : k + 5]) for k in range(0, len(STEPS), 5))
    names: dict[str, Any] = {
        "STEP_LIST": STEPS,
        "STEP_HELP": HELP.format(rows),
        "EXAMPLE": EXAMPLE,
        "REFERENCE": REFERENCE,
    }
    names["create_parser"] = lambda create=smallbaselineApp.create_parser: _with_switches(create())
    before = {name: getattr(smallbaselineApp, name) for name in names}
    vars(smallbaselineApp).update(names)
    try:
        yield smallbaselineApp
    finally:
        vars(smallbaselineApp).update(before)


def _with_switches(parser: ArgumentParser) -> ArgumentParser:
    parser.description = "Routine Time Series Analysis for Small Baseline InSAR Stack, with the step correct_vae"
    add_switches(parser)
    return parser


def create_parser(subparsers: Any = None) -> ArgumentParser:
    """Create the parser of ``smallbaselineApp.py`` with the step ``correct_vae``."""
    with _mintpy_s_command_line() as mintpy:
        return mintpy.create_parser()


def cmd_line_parse(iargs: Sequence[str] | None = None) -> Namespace:
    """Parse the command line; MintPy's own checks apply."""
    if create_parser().parse_args(args=iargs).print_template:
        from mintpy_vae.project.options import whole_template

        print(whole_template())
        sys.exit(0)
    with _mintpy_s_command_line() as mintpy:
        try:
            return mintpy.cmd_line_parse(iargs)
        except FileNotFoundError as error:
            sys.exit(f"ERROR: The template {error} does not exist.")
        except ValueError as error:
            sys.exit("ERROR: " + " ".join(str(error).split()))


def main(iargs: Sequence[str] | None = None) -> None:
    """Run the command; exit status 0 if done, 1 after one sentence that says what is wrong."""
    with command(iargs):
        inps = cmd_line_parse(iargs)
        with libraries_loading():
            from mintpy_vae.log import on_terminal
            from mintpy_vae.workflow.smallbaseline import run

        with on_terminal(level(inps)):
            run(inps.customTemplateFile, inps.workDir, inps.runSteps, inps.plot, None if inps.quiet else Bars())


if __name__ == "__main__":
    main(sys.argv[1:])
