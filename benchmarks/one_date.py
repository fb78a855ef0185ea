"""Time of an update by the pairs of one new date, against the full run and a plain copy, in one run.

    python benchmarks/one_date.py                            # 240 pairs of some 60 dates x 180 x 180
    python benchmarks/one_date.py --size 2000 3000 --pairs 80 --repeats 1    # a scene of 18 km in fine pixels
    python benchmarks/one_date.py --frame --size 1600 1600 --pairs 157 --repeats 1   # pixels of 90 m, in tiles

Both are ``vae_correct.py --no-invert`` with the default settings, in processes of their own. The copies are of the new
pairs, and of all datasets that an update leaves behind (all of the stack's, the delay file's and its error's). Target:
at most 10 s for 180 x 180; 2.5 copies of the new pairs and 20 s for 2000 x 3000.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
from big_stacks import make_frame, make_project
from measured import VAE_CORRECT, machine, median, plain_copy, run, table

STAGES = ("checks", "read", "new dates", "write", "report", "total")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 180), metavar=("LENGTH", "WIDTH"))
    parser.add_argument("--frame", action="store_true", help="pixels of 90 m, of 200 pixels or more along each side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where the stack is made (default: the system's)")
    inps = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
        stack = (make_frame if inps.frame else make_project)(Path(scratch) / "PROJECT", inps.pairs, tuple(inps.size))
        grown, work = stack.with_name("grown.h5"), stack.parents[2] / "PROJECT_vae"
        stack.rename(grown)
        write_pairs(grown, stack, last=False)
        write_pairs(grown, new := stack.with_name("new.h5"), last=True)
        command = [*VAE_CORRECT, stack, "-t", stack.parents[1] / "benchmark.txt", "--no-invert"]
        full = run(command, inps.threads).seconds
        shutil.copytree(work, earlier := work.with_name("earlier"))
        grown.rename(stack)
        seconds: dict[str, list[float]] = {name: [] for name in STAGES}
        wall, copies, copies_of_new = [], [], []
        for _ in range(inps.repeats):
            shutil.rmtree(work)
            shutil.copytree(earlier, work)
            wall.append(run([*command, "--update", "--only-new"], inps.threads).seconds)
            timings = json.loads((work / "vae_result.json").read_text())["timings"]
            for name in STAGES:
                seconds[name].append(timings.get(name, 0.0))
            written = [work / "inputs" / "ifgramStack.h5", work / "inputs" / "VAE.h5", work / "vae_std.h5"]
            copies.append(plain_copy(written, stack.parent))
            copies_of_new.append(plain_copy([new], stack.parent))
    rows = [[name, f"{median(values):.1f}"] for name, values in seconds.items()]
    rows += [["the process, libraries loaded", f"{median(wall):.1f}"], ["the full run before", f"{full:.1f}"]]
    rows += [
        ["copy of the new pairs", f"{median(copies_of_new):.2f}"],
        ["copy of what was written", f"{median(copies):.1f}"],
    ]
    print(table(["stage of the update", "s"], rows))
    print(f"\n{inps.pairs} pairs x {inps.size[0]} x {inps.size[1]}; medians of {inps.repeats}. {machine(inps.threads)}")


def write_pairs(whole: Path, file: Path, last: bool) -> None:
    """Write the pairs of a stack that contain its ``last`` date, or the others."""
    with h5py.File(whole) as f, h5py.File(file, "w") as out:
        dates = f["date"][:].astype(str)
        some = np.flatnonzero((dates == max(dates.ravel())).any(axis=1) == last)
        out.attrs.update(f.attrs)
        for name, item in f.items():
            shape = (len(some), *item.shape[1:])
            new = out.create_dataset(name, shape, item.dtype, chunks=item.chunks, maxshape=item.maxshape)
            new.attrs.update(item.attrs)
            for k, row in enumerate(some):
                new[k] = item[row]


if __name__ == "__main__":
    main()
