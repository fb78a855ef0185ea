"""Command line of the evaluation, in MintPy's style."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mintpy_vae.cli.process import command, libraries_loading

REFERENCE = """references:
  docs/evaluate.md explains each figure, with unit and source.
"""

TEMPLATE = """methods:
  zero, line, uncorrected, height_correlation, local_height_correlation, gaussian, common_scene_stacking, pca, ica, nmf,
  era5 (PROJECT/inputs/ERA5.h5, or downloaded by MintPy with your key in ~/.cdsapirc), gacos (with .ztd files),
  NAME and NAME_weighted for any other delay series PROJECT/inputs/NAME.h5 (GACOS, OPERA, HRRR, ...),
  vae_sources, vae; and vae_hdbscan, which trains again

signals to inject, KIND:WIDTH_KM:AMPLITUDE, lists separated by commas:
  bowl:3:10        a Gaussian bowl, 3 km wide at half its depth, 10 mm/yr
  ramp:20          a plane across the scene, 20 mm/yr from edge to edge
  step:5:15        a step of 15 mm in the middle of the time span; step:5:15:20190701 on a date
  season:5:10      an annual cycle of amplitude 10 mm

motion to detect, WIDTHS_KM:DAYS, lists separated by commas:
  --detect               0.05, 0.1 and 0.2 of the scene wide; a step, 60 days and the whole time span
  --detect 1,3:0,60,all  1 and 3 km wide; 0 days are a step, all is the whole time span
"""

EXAMPLE = """example:
  vae_evaluate.py PROJECT                                        # against PROJECT_vae
  vae_evaluate.py PROJECT --truth PROJECT/truth.h5               # of a simulated project
  vae_evaluate.py PROJECT --gnss ICMX.tenv3 MMX1.tenv3 --gnss-ref ICMX
  vae_evaluate.py PROJECT --inject bowl:1,3,10:2,10 ramp:10      # one training each
  vae_evaluate.py PROJECT --detect                               # amplitude of the smallest motion that is found
"""


def create_parser(subparsers: Any = None) -> Any:
    """Create the parser of the command line."""
    from mintpy.utils.arg_utils import create_argument_parser

    synopsis = "Compare corrections of a stack: noise removed and signal kept"
    epilog = TEMPLATE + "\n" + REFERENCE + "\n" + EXAMPLE
    name = __name__.split(".")[-1]
    parser = create_argument_parser(name, synopsis=synopsis, description=synopsis, epilog=epilog, subparsers=subparsers)
    parser.add_argument("project", metavar="PROJECT", help="MintPy directory of the original stack (read only)")
    parser.add_argument("work_dir", metavar="PROJECT_vae", nargs="?", help="output of vae_correct.py for it")
    parser.add_argument(
        "-t",
        "--template",
        dest="template_file",
        help="MintPy template of the correction (default: the copy it has left)",
    )
    parser.add_argument("--methods", nargs="+", help="methods to compare (default: all but vae_hdbscan)")
    parser.add_argument("--mask", dest="mask_file", type=Path, help="mask of stable ground (default: vae.stableMask)")
    parser.add_argument("--truth", dest="truth_file", type=Path, help="truth.h5 of a simulated project")
    parser.add_argument(
        "--gnss",
        dest="gnss_files",
        nargs="+",
        default=[],
        help="NGL .tenv3 files, CSV files, or names of stations to download",
    )
    parser.add_argument("--gnss-ref", dest="gnss_ref", metavar="NAME", help="reference station (default: the first)")
    parser.add_argument("--site", nargs="+", default=[], metavar="NAME:LAT:LON", help="coordinates of GNSS stations")
    parser.add_argument(
        "--point", nargs="+", default=[], metavar="NAME:LAT:LON", help="points whose time series the report shows"
    )
    parser.add_argument("--inject", nargs="+", default=[], metavar="KIND:...", help="signals to inject, see below")
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="WIDTHS_KM:DAYS",
        help="amplitude from which motion is found, see below",
    )
    parser.add_argument("-o", "--outdir", dest="out_dir", type=Path, help="output directory (default: PROJECT_vae)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def cmd_line_parse(iargs: Sequence[str] | None = None) -> Namespace:
    """Parse the command line."""
    parsed: Namespace = create_parser().parse_args(args=iargs)
    return parsed


def main(iargs: Sequence[str] | None = None) -> None:
    """Run the command; exit status 0 when done, 1 for bad input or an interruption."""
    with command(iargs):
        inps = cmd_line_parse(iargs)
        with libraries_loading():
            from mintpy_vae.evaluation.run import evaluate

        evaluate(
            inps.project,
            inps.work_dir,
            inps.template_file,
            inps.out_dir,
            methods=inps.methods,
            mask_file=inps.mask_file,
            truth_file=inps.truth_file,
            gnss_files=inps.gnss_files,
            gnss_ref=inps.gnss_ref,
            sites=inps.site,
            signals=inps.inject,
            detection=inps.detect,
            points=inps.point,
            say=print,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
