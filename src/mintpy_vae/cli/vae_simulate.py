#!/usr/bin/env python3
"""Command line of the simulator."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mintpy_vae.cli.process import command, libraries_loading

PRESET = """presets:
  bowl       two or three subsidence bowls, 20-40 mm/yr
  seasonal   the same, with an annual cycle
  quake      a step of 60-100 mm and some postseismic motion
  transient  bells of 25-30 mm that rise within 60 days; half of the motion reverses
  quiet      no deformation
  weak       bowls of 10-15 mm/yr
  broad      one bowl of 30 mm/yr with a standard deviation of 0.15 of the scene
  topo       uplift that follows the relief of a summit
  sparse     bowls in 20 dates and 45 pairs
  dirty      bowls under unwrapping errors, holes and strong decorrelation
  mashhad    seven years, 500 pairs, elongated subsidence to -15 cm/yr
  tehran     four years, 500 pairs, subsidence with an annual cycle, high relief
  acapulco   15 months, 100 pairs, a step on 2021-09-08, coast, strong turbulence
"""

SKY = """sky:
  real        correlated in time, with a season and a local variance that differs from place to place, as in real stacks
  stationary  textbook turbulence, independent from date to date, with the same variance everywhere
"""

REFERENCE = """reference:
  Emardson, T. R., M. Simons, and F. H. Webb (2003), Neutral atmospheric delay in interferometric synthetic
    aperture radar applications, J. Geophys. Res., 108(B5), 2231.
  Hanssen, R. F. (2001), Radar interferometry: data interpretation and error analysis, Kluwer Academic
    Publishers, Dordrecht, chap. 4.7.
  Rodriguez, E., and J. M. Martin (1992), Theory and design of interferometric synthetic aperture radars,
    IEE Proc. F, 139(2), 147-159.
"""

TEMPLATE = """output:
  OUTDIR/inputs/ifgramStack.h5    stack of unwrapped interferograms
  OUTDIR/inputs/geometry*.h5      geometry
  OUTDIR/PRESET.txt               template
  OUTDIR/truth.h5                 true displacement (timeseries) and atmosphere per date, metres

  While it runs, OUTDIR's disk also holds up to 12 bytes per pixel and pair and 8 per pixel and date. The memory depends
  on the size only: some 0.2 GB per million pixels.
"""

EXAMPLE = """example:
  vae_simulate.py bowl
  vae_simulate.py quake --preset quake --seed 7
  vae_simulate.py small --preset seasonal --dates 30 --size 100 120 --coord radar

  # then, in OUTDIR
  smallbaselineApp.py bowl.txt --start modify_network
  view.py truth.h5 timeseries --noverbose
"""


def create_parser(subparsers: Any = None) -> ArgumentParser:
    """Create the parser of the command line."""
    from mintpy.utils.arg_utils import create_argument_parser

    synopsis = "Simulate a MintPy project with known deformation and atmosphere"
    epilog = "\n".join((PRESET, SKY, TEMPLATE, REFERENCE, EXAMPLE))
    name = __name__.split(".")[-1]
    parser: ArgumentParser = create_argument_parser(
        name, synopsis=synopsis, description=synopsis, epilog=epilog, subparsers=subparsers
    )
    parser.add_argument("outdir", metavar="OUTDIR", help="directory to write, new or empty")
    parser.add_argument(
        "--preset", default="bowl", metavar="NAME", help="kind of scene, see below (default: %(default)s)."
    )
    parser.add_argument("--dates", type=int, metavar="N", help="number of dates (default: the preset's, mostly 60).")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(200, 200), metavar=("LENGTH", "WIDTH"),
        help="size in pixels (default: 200 200).",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=1, help="random seed; the same seed gives the same data (default: %(default)s)."
    )
    parser.add_argument(
        "--coord", choices=("geo", "radar"), default="geo", help="coordinates of the stack (default: %(default)s)."
    )
    parser.add_argument(
        "--sky",
        choices=("real", "stationary"),
        default="real",
        help="kind of atmosphere, see below (default: %(default)s).",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def cmd_line_parse(iargs: Sequence[str] | None = None) -> Namespace:
    """Parse the command line."""
    return create_parser().parse_args(args=iargs)


def main(iargs: Sequence[str] | None = None) -> None:
    """Simulate and write a project; exit status 1 after one sentence if the request is impossible."""
    with command(iargs):
        inps = cmd_line_parse(iargs)
        with libraries_loading():
            from mintpy_vae.simulate import check_unused, simulate, write_project

        size, outdir = (inps.size[0], inps.size[1]), Path(inps.outdir).absolute()
        check_unused(outdir)  # now, not after minutes
        folder = next(p for p in (outdir, *outdir.parents) if p.is_dir())  # on the disk that is written to
        scene = simulate(inps.preset, inps.dates, size, inps.seed, inps.coord, inps.sky, folder)
        template = write_project(scene, outdir)
        print(f"preset {scene.name}: {len(scene.dates)} dates, {len(scene.pairs)} pairs, {size[0]} x {size[1]} pixels")
        print(f"reference point y/x: {scene.ref_yx[0]}/{scene.ref_yx[1]}")
        print(f"template: {template}")


if __name__ == "__main__":
    main(sys.argv[1:])
