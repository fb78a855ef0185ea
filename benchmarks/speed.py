"""Stages of the whole correction against a plain HDF5 copy and MintPy's inversion of the same stack, in one run.

    python benchmarks/speed.py                                            # 295 pairs x 600 x 800, some 20 minutes
    python benchmarks/speed.py --repeats 1 --pairs 60 --size 200 300 --mintpy-rows 40 --train-steps 50
    python benchmarks/speed.py --frame --repeats 1 --pairs 157 --size 1600 1600 --mintpy-rows 100   # 144 x 144 km

The correction is ``vae_correct.py --no-invert`` with the default settings, in a process of its own. The copy is of the
datasets that the stage "write" leaves behind (all of the stack's, the delay file's and its error's), some rows of whole
chunks at a time, until they are on the disk; a second one is of the stack alone. MintPy inverts with ``weightFunc``
``var``. A stack of any size covers some 18 km; with ``--frame`` it has pixels of 90 m, and is worked on in tiles. The
largest memory of the correction is printed too. Targets: writing at most 1.4 copies, the whole at most 0.35 of MintPy's
inversion (0.2 as a goal).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import h5py
from big_stacks import make_frame, make_project
from measured import VAE_CORRECT, machine, median, plain_copy, run, table

STAGES = {
    "checks": "check and hash the input",
    "read": "read and multilook",
    "narrow motion": "narrow motion of a wide scene",
    "separate": "train, cluster, separate",
    "fine scales": "tiles of a wide scene",
    "write": "apply and write",
    "report": "report",
    "total": "whole correction",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=295)
    parser.add_argument("--size", type=int, nargs=2, default=(600, 800), metavar=("LENGTH", "WIDTH"))
    parser.add_argument("--frame", action="store_true", help="pixels of 90 m, of 200 pixels or more along each side")
    parser.add_argument("--train-steps", type=int, help="fewer than the default only to try this out")
    parser.add_argument("--repeats", type=int, default=3, help="of the correction and of the copy")
    parser.add_argument("--mintpy-rows", type=int, help="invert so many rows only, and multiply; 0: do not invert")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where the stack is made (default: the system's)")
    inps = parser.parse_args()
    size = tuple(inps.size)
    with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
        make = make_frame if inps.frame else make_project
        stack = make(Path(scratch) / "PROJECT", inps.pairs, size)
        with h5py.File(stack) as f:
            number = len(f["date"])
        seconds, copies, copies_of_stack, wall, peak = correct(stack, inps)
        mintpy, rows = invert(stack, size, inps)
    copy, copy_of_stack = median(copies), median(copies_of_stack)

    def line(what: str, value: float) -> list[str]:
        against = f"{value / mintpy:.3f}" if mintpy else "-"
        return [what, f"{value:.1f}", f"{value / copy:.2f}", f"{value / copy_of_stack:.2f}", against]

    lines = [line(STAGES[name], median(values)) for name, values in seconds.items()]
    lines += [line("the process, libraries loaded", median(wall))]
    lines += [line("copy of what was written", copy), line("copy of the stack", copy_of_stack)]
    if mintpy:
        lines.append(line("MintPy's inversion" + (f", from {rows} rows" if rows < size[0] else ""), mintpy))
    print(table(["stage", "s", "/ copy", "/ copy of the stack", "/ MintPy"], lines))
    steps = f" {inps.train_steps} training steps." if inps.train_steps else ""
    print(f"\n{number} pairs x {size[0]} x {size[1]}; medians of {inps.repeats}.{steps} {machine(inps.threads)}")
    print(f"Largest memory of the correction: {peak:.1f} GB.")


def correct(
    stack: Path, inps: argparse.Namespace
) -> tuple[dict[str, list[float]], list[float], list[float], list[float], float]:
    """Seconds of each stage, of both copies and of the process, for each repeat; and the largest memory, GB."""
    project = stack.parents[1]
    template, work = project / "benchmark.txt", project.with_name("PROJECT_vae")
    if inps.train_steps:
        with open(template, "a") as f:
            f.write(f"vae.trainSteps = {inps.train_steps}\n")
    seconds: dict[str, list[float]] = {name: [] for name in STAGES}
    copies, copies_of_stack, wall, peak = [], [], [], 0.0
    for _ in range(inps.repeats):
        shutil.rmtree(work, ignore_errors=True)
        done = run([*VAE_CORRECT, stack, "-t", template, "--no-invert"], inps.threads)
        wall.append(done.seconds)
        peak = max(peak, done.peak)
        result = json.loads((work / "vae_result.json").read_text())
        if result["status"] != "corrected":
            sys.exit(f"The stack was left uncorrected: {result['reason']}")
        for name in STAGES:
            seconds[name].append(result["timings"][name])
        written = [work / "inputs" / "ifgramStack.h5", work / "inputs" / "VAE.h5", work / "vae_std.h5"]
        copies.append(plain_copy(written, project))
        copies_of_stack.append(plain_copy([stack], project))
        print(f"{wall[-1]:.0f} s, copies {copies[-1]:.1f} and {copies_of_stack[-1]:.1f} s", file=sys.stderr)
    shutil.rmtree(work)
    return seconds, copies, copies_of_stack, wall, peak


def invert(stack: Path, size: tuple[int, int], inps: argparse.Namespace) -> tuple[float, int]:
    """Seconds of MintPy's inversion of the stack, or of a stack like it with fewer rows, and how many rows."""
    rows = size[0] if inps.mintpy_rows is None else inps.mintpy_rows
    if not rows:
        return 0.0, 0
    if rows < size[0]:
        stack = make_project(stack.parents[2] / "FEWER", inps.pairs, (rows, size[1]))
    out = [stack.parents[1] / name for name in ("timeseries.h5", "temporalCoherence.h5", "numInvIfgram.h5")]
    command = [sys.executable, "-m", "mintpy.cli.ifgram_inversion", stack, "-w", "var", "-o", *out]
    return run(command, inps.threads, cwd=stack.parents[1]).seconds * size[0] / rows, rows


if __name__ == "__main__":
    main()
