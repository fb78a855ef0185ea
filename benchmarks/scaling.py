"""Time and memory of the correction against the number of pixels and of pairs, with fitted exponents.

    python benchmarks/scaling.py                                     # x1, x4, x16 pixels; 50, 150, 500 pairs
    python benchmarks/scaling.py --sizes 100x150 200x300 --pairs 30 60 --train-steps 10

Each figure is the processor time and the largest memory of one ``vae_correct.py --no-invert`` in a process of its own.
Training has a fixed cost, whatever the stack: with few steps it hides less of the rest. Exponents are fitted to the
whole time and, more sternly, to what it is above that of a stack so small that little but the fixed cost is left.
Targets: time at most 1.05 in pixels and 1.2 in pairs, memory flat.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["320x480", "640x960", "1280x1920"], metavar="LENGTHxWIDTH")
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 150, 500])
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
    print(table(["stack", "processor time, s", "largest memory, GB"], rows) + "\n")
    pixels = [length * width for length, width in sizes]
    print(table(["against", "time", "time above the fixed cost", "memory"], [
        exponents("pixels", pixels, of_sizes, fixed),
        exponents("pairs", inps.pairs, of_pairs, fixed),
    ]))  # fmt: skip
    print(f"\n{inps.train_steps} training steps, one seed. {machine(inps.threads)}")


def measure(pairs: int, size: tuple[int, ...], inps: argparse.Namespace) -> Run:
    """The correction of one stack."""
    with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
        project = Path(scratch) / "PROJECT"
        stack = make_project(project, pairs, (size[0], size[1]))
        template = project / "benchmark.txt"
        with open(template, "a") as f:
            f.write(f"vae.trainSteps = {inps.train_steps}\nvae.numSeed = 1\n")
        found = run([*VAE_CORRECT, stack, "-t", template, "--no-invert"], inps.threads)
    print(f"{pairs} x {size[0]} x {size[1]}: {found.processor:.1f} s, {found.peak:.2f} GB", file=sys.stderr)
    return found


def line(pairs: int, size: tuple[int, ...], found: Run) -> list[str]:
    """A row of the table."""
    return [f"{pairs} x {size[0]} x {size[1]}", f"{found.processor:.1f}", f"{found.peak:.2f}"]


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
