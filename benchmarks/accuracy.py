"""Accuracy against known truth: our correction, its variants and what users have today, on simulated stacks.

    python benchmarks/accuracy.py --jobs 2 -o docs/accuracy.md --data benchmarks/results/accuracy.csv   # everything
    python benchmarks/accuracy.py --seeds 21 22 --presets bowl quiet --sky real --train-steps 200   # while developing

Every stack is inverted once to a displacement time-series by weighted least squares; every row corrects that series and
is judged by the same figures on the same pixels at full resolution. Each result is kept in the cache directory as it
comes, so that an interrupted run goes on where it was; rows share the networks they train.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPORTING_SEEDS = {"real": (201, 202, 203, 204, 205), "stationary": (101, 102, 103, 104, 105)}
"""Seeds of the published table for each sky, never looked at while developing; the five after them are theirs too."""
DEVELOPMENT_SEEDS = tuple(range(1, 41))
"""Seeds that the method and the baselines were tuned on."""
PRESETS = ("bowl", "quake", "transient", "seasonal", "quiet", "weak", "broad", "topo", "sparse", "dirty")
SITES = ("mashhad", "tehran", "acapulco")
BROAD_WIDTHS = (0.05, 0.1, 0.15, 0.2, 0.3)
ABLATED = ("bowl", "quake", "quiet")
ABLATION_SEEDS = 3
BASELINE_ROWS = ("zero", "line", "uncorrected", "height_correlation", "gaussian", "pca", "ica")


def main(arguments: list[str] | None = None) -> int:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy and torch are imported, here and in the processes started below
    inps = parse(arguments)
    begin = time.time()
    tasks = plan(inps)
    todo = sum(len(rows) for _, rows in tasks)
    results: list[dict[str, Any]] = []
    failed = 0
    for done in _run(tasks, inps):
        results.append(done)
        if "error" in done:
            failed += 1
            print(f"FAILED {done['kind']}, seed {done['seed']}, {done['row']}:\n{done['error']}", file=sys.stderr)
    order = [*PRESETS, *SITES]
    results.sort(key=lambda r: (inps.sky.index(r["sky"]), order.index(r["preset"]), r["width"] or 0, r["seed"]))
    import pages
    import table

    steps = f", {inps.train_steps} training steps" if inps.train_steps else ""
    seeds = "; ".join(f"{sky} sky {' '.join(str(seed) for seed in _seeds(inps, sky))}" for sky in inps.sky)
    developed = any(set(_seeds(inps, sky)) & set(DEVELOPMENT_SEEDS) for sky in inps.sky)
    known = "Development seeds" if developed else "Seeds not used in development"
    text = table.markdown(results, f"{known}: {seeds}; sites: the first {inps.site_seeds}{steps}.\n")
    if inps.output:
        pages.write(inps.output, accuracy=text)
        inps.output.with_suffix(".json").write_text(json.dumps(results, indent=1))
    else:
        print(text)
    if inps.data:
        with open(inps.data, "w", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows([table.FIGURES, *table.figures(results)])
    print(f"{todo} cases, {failed} failed, {(time.time() - begin) / 60:.1f} minutes", file=sys.stderr)
    return 1 if failed else 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--presets", nargs="+", choices=[*PRESETS, *SITES], default=[*PRESETS, *SITES], metavar="NAME")
    add("--sky", nargs="+", choices=list(REPORTING_SEEDS), default=list(REPORTING_SEEDS), help="default: both")
    add("--seeds", nargs="+", type=int, metavar="INT", help="default: the reporting seeds of each sky")
    add("--number", type=int, metavar="N", help="so many of them (default: all)")
    add("--site-seeds", type=int, default=1, metavar="N", help="so many of the seeds for the sites (default: 1)")
    add("--rows", nargs="+", metavar="NAME", help="default: all, and the ablations on bowl, quake and quiet")
    add("--jobs", type=int, default=1, metavar="N", help="processes, one thread each (default: 1)")
    add("--train-steps", type=int, metavar="N", help="optimisation steps of each network, for quick checks")
    add("--size", type=int, default=200, metavar="N", help="pixels along each side, for quick checks (default: 200)")
    add("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    add("--cache", type=Path, default=HERE / ".cache", metavar="DIR", help="default: %(default)s")
    add("-o", "--output", type=Path, metavar="FILE", help="targets and summary, with all results as .json beside it")
    add("--data", type=Path, metavar="FILE", help="every figure of the table as CSV")
    inps = parser.parse_args(arguments)
    from cases import LABELS

    for row in inps.rows or ():
        if row not in LABELS:
            parser.error(f"row {row!r} is unknown; choose from {', '.join(LABELS)}")
    return inps


def plan(inps: argparse.Namespace) -> list[tuple[Any, list[str]]]:
    """Stacks and the rows to be run on each, the largest stacks first."""
    from cases import ABLATIONS, VARIANTS, Stack

    tasks = []
    presets = [*(s for s in SITES if s in inps.presets), *(p for p in PRESETS if p in inps.presets)]
    for preset, sky in itertools.product(presets, inps.sky):
        seeds = _seeds(inps, sky)
        for k, seed in enumerate(seeds[: inps.site_seeds] if preset in SITES else seeds):
            rows = inps.rows or [*BASELINE_ROWS, *VARIANTS]
            if inps.rows is None and preset in ABLATED and k < ABLATION_SEEDS:
                rows = [*rows, *ABLATIONS]
            for width in BROAD_WIDTHS if preset == "broad" else (None,):
                tasks.append((Stack(preset, seed, width, inps.size, sky), rows))
    return tasks


def _seeds(inps: argparse.Namespace, sky: str) -> Sequence[int]:
    return (inps.seeds or REPORTING_SEEDS[sky])[: inps.number]


def _run(tasks: list[tuple[Any, list[str]]], inps: argparse.Namespace) -> Iterator[dict[str, Any]]:
    jobs = [(stack, rows, inps.train_steps, inps.device, inps.cache) for stack, rows in tasks]
    if inps.jobs == 1:
        for job in jobs:
            yield from run_stack(job)
        return
    with multiprocessing.get_context("spawn").Pool(inps.jobs) as pool:
        for results in pool.imap_unordered(run_stack, jobs):
            yield from results


def run_stack(job: tuple[Any, list[str], int | None, str, Path]) -> list[dict[str, Any]]:
    """All rows of one stack; a row that is in the cache is read from it."""
    from cases import Bench, case_id, remembered

    from mintpy_vae.settings import Settings

    stack, rows, train_steps, device, cache = job
    settings = Settings(device=device, **({"train_steps": train_steps} if train_steps else {}))
    folder = cache / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    bench = functools.cache(lambda: Bench(stack, settings, cache / "networks"))
    results = []
    for row in rows:
        identity = {"kind": stack.kind, "preset": stack.preset, "width": stack.width, "sky": stack.sky}
        identity |= {"seed": stack.seed, "row": row}
        file = folder / f"{case_id(stack, row, settings)}.json"
        result, new = remembered(file, identity, lambda row=row: bench().run(row))
        results.append(result)
        if new:
            print(_line(result), flush=True)
    return results


def _line(result: dict[str, Any]) -> str:
    text = f"{result['kind']:27s} {result['seed']:4d} {result['row']:22s}"
    if "error" in result:
        return text + " failed"
    names = ("velocity_stable", "velocity_deforming", "displacement_stable", "displacement_deforming")
    cells = " ".join(f"{result[n]:7.2f}" if result[n] is not None else "      -" for n in names)
    gain = result["gain_displacement"]
    return f"{text} {cells} gain {'-' if gain is None else format(gain, '.3f')} {result['seconds']:6.1f} s"


if __name__ == "__main__":
    sys.exit(main())
