"""Largest resident memory of the whole correction against the size of the stack and ``--ram``.

    python benchmarks/memory.py                                 # up to 100 x 2000 x 3000 pixels; some 15 GB of disk
    python benchmarks/memory.py --sizes 400x600 --ram 1 --train-steps 10
    python benchmarks/memory.py --frame --pairs 500 --sizes 2000x3000 --ram 4   # pixels of 90 m, in tiles; 70 GB

Each figure is one ``vae_correct.py --no-invert`` in a process of its own, its report included, on a simulated stack
with data in every pixel. The target is ``--ram`` + 1.5 GB, whatever the size. With ``--frame`` the time and memory of
``vae_simulate.py`` are printed as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from big_stacks import make_frame, make_project
from measured import VAE_CORRECT, machine, run, table

ROOM = 1.5  # GB beside --ram


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--sizes", nargs="+", default=["500x750", "1000x1500", "2000x3000"], metavar="LENGTHxWIDTH")
    parser.add_argument("--ram", type=float, nargs="+", default=[1, 2, 4], help="GB")
    parser.add_argument("--frame", action="store_true", help="pixels of 90 m, of 200 pixels or more along each side")
    parser.add_argument("--train-steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where the stacks are made (default: the system's)")
    inps = parser.parse_args()
    rows, met = [], True
    for size in inps.sizes:
        length, width = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
            project = Path(scratch) / "PROJECT"
            stack = (make_frame if inps.frame else make_project)(project, inps.pairs, (length, width))
            template = project / "benchmark.txt"
            with open(template, "a") as f:
                f.write(f"vae.trainSteps = {inps.train_steps}\n")
            row = [f"{inps.pairs} x {length} x {width}", f"{stack.stat().st_size / 1e9:.2f}"]
            for ram in inps.ram:
                of = run([*VAE_CORRECT, stack, "-t", template, "--no-invert", "--ram", str(ram)], inps.threads)
                met &= of.peak <= ram + ROOM
                row.append(f"{of.peak:.2f}")
                print(f"{row[0]}, --ram {ram:g}: {of.peak:.2f} GB, {of.seconds:.0f} s", file=sys.stderr)
            rows.append(row)
    print(table(["stack", "its file, GB", *(f"peak with --ram {ram:g}, GB" for ram in inps.ram)], rows))
    print(f"\nTarget, at most --ram + {ROOM} GB: {'met' if met else 'NOT met'}. {machine(inps.threads)}")


if __name__ == "__main__":
    main()
