"""Command line of the correction, in MintPy's style."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from mintpy_vae.cli.process import Bars, add_switches, command, level, libraries_loading

REFERENCE = """reference:
  Ghosh, B., Motagh, M., Anvari, M. and Maghsudi, S. (2025), Remote Sensing, 17(18), 3189.
  This software follows the idea of that paper; network architecture and labelling are our own.
"""

TEMPLATE = """template options:
  vae.device, vae.seed, vae.maxMemory, vae.trainSteps, ...; see configs/mintpy_vae.cfg
"""

EXAMPLE = """example:
  vae_correct.py inputs/ifgramStack.h5                         # writes PROJECT_vae beside the project
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt --update  # skip if nothing changed, add new dates
  vae_correct.py inputs/ifgramStack.h5 --stable-mask bedrock.h5 --gnss gnss.csv --bad-date 20190103 20190210
  vae_correct.py inputs/ifgramStack.h5 -t Tehran.txt --delay-file  # inputs/VAE.h5 only, for your own project
  vae_correct.py inputs/ifgramStack.h5 -o /data/Tehran_vae --device cpu --seed 3

  # then, with the unmodified MintPy:
  smallbaselineApp.py Tehran_vae/Tehran.txt --dir Tehran_vae --start velocity
"""


def create_parser(subparsers: Any = None) -> Any:
    """Create the parser of the command line."""
    from mintpy.utils.arg_utils import create_argument_parser

    synopsis = "Remove the atmosphere from a stack of interferograms with a variational autoencoder and clustering"
    epilog = REFERENCE + "\n" + TEMPLATE + "\n" + EXAMPLE
    name = __name__.split(".")[-1]
    parser = create_argument_parser(name, synopsis=synopsis, description=synopsis, epilog=epilog, subparsers=subparsers)
    parser.add_argument("stack_file", help="stack of interferograms, PROJECT/inputs/ifgramStack.h5 (read only)")
    parser.add_argument("-g", "--geometry", dest="geometry_file", help="geometry file (default: beside the stack)")
    parser.add_argument("-t", "--template", dest="template_file", help="MintPy template with vae.* options")
    parser.add_argument("-o", "--outdir", dest="work_dir", help="corrected directory (default: PROJECT_vae)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="device for the training (default: auto)")
    parser.add_argument("--seed", type=int, help="random seed (default: 1)")
    parser.add_argument("--ram", "--memory", dest="max_memory", type=float, help="memory for input and output, in GB")
    known = parser.add_argument_group("prior information", "mintpy.timeFunc.* of the template are read as well")
    known.add_argument("--stable-mask", metavar="FILE", help="mask of ground known not to move (MintPy's format)")
    known.add_argument("--moving-mask", metavar="FILE", help="mask of ground known to move")
    known.add_argument("--gnss", dest="gnss_file", metavar="FILE", help="table: station,lat,lon,rate,std in mm/yr")
    known.add_argument(
        "--bad-date", dest="bad_dates", metavar="DATE", nargs="+", help="dates known to be bad, or a file"
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="skip if nothing changed since the last run; add new dates to its result where it allows that",
    )
    parser.add_argument(
        "--only-new",
        action="store_true",
        help="as --update, but an error where the whole stack would have to be corrected again",
    )
    parser.add_argument(
        "--no-invert",
        dest="invert",
        action="store_false",
        help="write the corrected stack only, without running MintPy",
    )
    parser.add_argument(
        "--delay-file",
        action="store_true",
        help="write only PROJECT/inputs/VAE.h5, which smallbaselineApp.py subtracts",
    )
    add_switches(parser)
    return parser


def cmd_line_parse(iargs: Sequence[str] | None = None) -> Namespace:
    """Parse the command line."""
    parser = create_parser()
    parsed: Namespace = parser.parse_args(args=iargs)
    if parsed.delay_file and parsed.work_dir:
        parser.error("--delay-file writes into the project; it cannot be combined with --outdir")
    if parsed.delay_file and parsed.only_new:
        parser.error("--delay-file learns from all dates; it cannot be combined with --only-new")
    return parsed


def main(iargs: Sequence[str] | None = None) -> None:
    """Run the command. Exit status 0 if corrected or left uncorrected with a reason, 1 for an error or interruption."""
    with command(iargs):
        inps = cmd_line_parse(iargs)
        with libraries_loading():
            import mintpy_vae.workflow.delay  # noqa: F401
            from mintpy_vae.log import on_terminal

        with on_terminal(level(inps)):
            result = _run(inps)
        if inps.delay_file and result.status == "corrected":
            from mintpy_vae.workflow.delay import TEMPLATE_LINES

            off = "".join(f"{option} = no\n" for option in result.details.get("switched_off", ()))
            print(f"\nAdd to the template:\n{TEMPLATE_LINES}{off}", end="")
        if not inps.delay_file or result.status == "corrected":
            print(f"\nNext:\n  {result.next_command}\n")


def _run(inps: Namespace) -> Any:
    given = (inps.stack_file, inps.geometry_file, inps.template_file)
    options: dict[str, Any] = {
        "update": inps.update or inps.only_new,
        "progress": None if inps.quiet else Bars(),
        "device": inps.device,
        "seed": inps.seed,
        "max_memory": inps.max_memory,
        "stable_mask": _from_here(inps.stable_mask),
        "moving_mask": _from_here(inps.moving_mask),
        "gnss_file": _from_here(inps.gnss_file),
        "bad_dates": None if inps.bad_dates is None else " ".join(_from_here(word) or "" for word in inps.bad_dates),
    }
    if inps.delay_file:
        from mintpy_vae.workflow.delay import write_delay

        return write_delay(*given, **options)
    from mintpy_vae.workflow.correction import correct

    return correct(*given, inps.work_dir, only_new=inps.only_new, invert=inps.invert, **options)


def _from_here(word: str | None) -> str | None:
    """Make a path from the shell absolute; dates stay unchanged, and ``no`` means no file."""
    if word is None or re.fullmatch(r"[\dT,]+", word):
        return word
    return "" if word == "no" else os.path.abspath(os.path.expanduser(word))


if __name__ == "__main__":
    main(sys.argv[1:])
