"""Time and memory of the correction against the number of pixels, of pairs and of dates, with fitted exponents.

    python benchmarks/scaling.py             # x1, x4, x16 pixels; 50, 150, 500 pairs; 40, 80, 160, 320 dates
    python benchmarks/scaling.py --sizes 100x150 200x300 --pairs 30 60 --train-steps 10

Each figure is the processor time and the largest memory of one ``vae_correct.py --no-invert`` in a process of its own.
Training has a fixed cost, whatever the stack: with few steps it hides less of the rest. Exponents are fitted to the
whole time and, more sternly, to what it is above that of a stack so small that little but the fixed cost is left.
Targets: time at most 1.05 in pixels and 1.2 in pairs and dates, memory flat. With the dates the pairs grow as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from big_stacks import make_project
from measured import VAE_CORRECT, Run, machine, run, table

SMALLEST = (40, 60)
"""All sizes are learnt from on a grid of 40 x 60; of this one little else is left than that, and loading libraries."""
PAIRS_PER_DATE = 3.9
FEWEST = 12
"""Dates of the stack whose time is called fixed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["320x480", "640x960", "1280x1920"], metavar="LENGTHxWIDTH")
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 150, 500])
    parser.add_argument("--dates", type=int, nargs="+", default=[40, 80, 160, 320])
    parser.add_argument("--train-steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where the stacks are made (default: the system's)")
    inps = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in inps.sizes]
    few = inps.pairs[0]
    rows = []
    fixed = measure(few, SMALLEST, inps)
    rows.append(line(few, SMALLEST, fixed))
    of_sizes = []
    for size in sizes:
        of_sizes.append(measure(few, size, inps))
        rows.append(line(few, size, of_sizes[-1]))
    of_pairs = [of_sizes[0]]
    for pairs in inps.pairs[1:]:
        of_pairs.append(measure(pairs, sizes[0], inps))
        rows.append(line(pairs, sizes[0], of_pairs[-1]))
    of_dates = []
    for dates in inps.dates:
        pairs = round(dates * PAIRS_PER_DATE)
        of_dates.append(measure(pairs, SMALLEST, inps, dates))
        rows.append(line(pairs, SMALLEST, of_dates[-1], dates))
    nothing = measure(round(FEWEST * PAIRS_PER_DATE), SMALLEST, inps, FEWEST)
    rows.append(line(round(FEWEST * PAIRS_PER_DATE), SMALLEST, nothing, FEWEST))
    print(table(["stack", "processor time, s", "largest memory, GB"], rows) + "\n")
    pixels = [length * width for length, width in sizes]
    print(table(["against", "time", "time above the fixed cost", "memory"], [
        exponents("pixels", pixels, of_sizes, fixed),
        exponents("pairs", inps.pairs, of_pairs, fixed),
        exponents("dates", inps.dates, of_dates, nothing),
    ]))  # fmt: skip
    print(f"\n{inps.train_steps} training steps, one seed. {machine(inps.threads)}")


def measure(pairs: int, size: tuple[int, ...], inps: argparse.Namespace, dates: int | None = None) -> Run:
    """The correction of one stack."""
    with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
        project = Path(scratch) / "PROJECT"
        stack = make_project(project, pairs, (size[0], size[1]), dates)
        template = project / "benchmark.txt"
        with open(template, "a") as f:
            f.write(f"vae.trainSteps = {inps.train_steps}\nvae.numSeed = 1\n")
        found = run([*VAE_CORRECT, stack, "-t", template, "--no-invert"], inps.threads)
    print(f"{pairs} x {size[0]} x {size[1]}: {found.processor:.1f} s, {found.peak:.2f} GB", file=sys.stderr)
    return found


def line(pairs: int, size: tuple[int, ...], found: Run, dates: int | None = None) -> list[str]:
    """A row of the table."""
    of = f" of {dates} dates" if dates else ""
    return [f"{pairs} x {size[0]} x {size[1]}{of}", f"{found.processor:.1f}", f"{found.peak:.2f}"]


def exponents(name: str, sizes: list[int], found: list[Run], fixed: Run) -> list[str]:
    """A row: slopes of straight lines through the logarithms."""

    def slope(values: list[float]) -> str:
        if min(values) <= 0:
            return "-"
        return f"{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.2f}"

    seconds = [f.processor for f in found]
    return [name, slope(seconds), slope([s - fixed.processor for s in seconds]), slope([f.peak for f in found])]


if __name__ == "__main__":
    main()
