"""The real Mexico City stack: corrections against GNSS and each other, and which injected signals come back.

    python benchmarks/mexico_city.py DATA     # a MintPy project; makes the tables of docs/real_skies.md

Works on a copy in a temporary directory; every row goes through the same MintPy inversion. The first table is of
MintPy's files as they are: line-of-sight double difference MMX1 - ICMX, median of 3 x 3 pixels at each station, against
the mean of the GNSS days within one day of each acquisition, with a constant removed. The others are what
``vae_evaluate.py`` says.
Seeds: mean [smallest to largest], where they differ; signals are injected with the first seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mintpy.utils import readfile

from mintpy_vae.evaluation.comparison import COLUMNS
from mintpy_vae.evaluation.gnss_series import compare, near, read_series
from mintpy_vae.evaluation.methods import METHODS
from mintpy_vae.evaluation.scene import locate
from mintpy_vae.results.inverted import read_inverted

SITES = {"ICMX": (19.40564128, -99.17085339), "MMX1": (19.43165380, -99.06839002)}
SIGNALS = ("bowl:1,3,10:20", "ramp:20", "step:3:20", "season:3:20")
SHOWN = ("velocity_std", "velocity_uncertainty", "pair_std", "pairs_worse", "date_std", "pair_range", "pair_sill")
SHOWN += ("height_correlation", "height_correlation_high_pass", "gnss_rate_error", "gnss_rms")
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--inject", nargs="*", default=SIGNALS, metavar="KIND:...", help="default: %(default)s")
    inps = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work, log = Path(scratch) / "WORK", Path(scratch) / "log"
        shutil.copytree(inps.data, work, copy_function=shutil.copyfile)
        template = next(work.glob("*.txt"))
        with template.open("a") as f:
            f.write("vae.numSeed = 1\n")  # the second seed only checks the first; the phase is the same
        app = ("smallbaselineApp.py", str(template), "--dir")
        run(*app, str(work), "--start", "modify_network", "--end", "invert_network", log=log)
        plain = work / "timeseries.h5"
        tropo = ("tropo_phase_elevation.py", str(plain), "-g", str(work / "inputs" / "geometryGeo.h5"))
        run(*tropo, "-m", str(work / "maskTempCoh.h5"), "-o", str(work / "height.h5"), log=log)
        corrected, outcomes = [], []
        for seed in inps.seeds:
            out = Path(scratch) / f"seed{seed}"
            stack = str(work / "inputs" / "ifgramStack.h5")
            run("vae_correct.py", stack, "-t", str(template), "-o", str(out), "--seed", str(seed), log=log)
            corrected.append(out)
            outcomes.append(evaluated(work, out, () if outcomes else inps.inject, log))
        against_gnss(work, corrected)
        side_by_side(outcomes)
        injected(outcomes[0])


def run(*command: str, log: Path) -> None:
    with log.open("a") as out:
        done = subprocess.run([str(BIN / command[0]), *command[1:]], stdout=out, stderr=out, cwd=log.parent)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")


def evaluated(work: Path, out: Path, signals: Sequence[str], log: Path) -> dict[str, Any]:
    """What vae_evaluate.py says of a correction."""
    sites = [f"{name}:{lat}:{lon}" for name, (lat, lon) in SITES.items()]
    options = ["--gnss", str(work / "gnss_ngl.csv"), "--gnss-ref", "ICMX", "--site", *sites, "--methods", *METHODS]
    options += ["--inject", *signals] if signals else []
    run("vae_evaluate.py", str(work), str(out), *options, log=log)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return found


def against_gnss(work: Path, corrected: Sequence[Path]) -> None:
    """The first table."""
    mask = readfile.read(str(work / "maskTempCoh.h5"))[0] > 0
    inverted = read_inverted(corrected[0])
    years = inverted.years
    (first, second), _ = locate(read_series([work / "gnss_ngl.csv"]), "ICMX", corrected[0], inverted, SITES)
    truth = second.minus(first, inverted.dates)
    known = compare(truth, truth, years)

    def double(maps: np.ndarray) -> np.ndarray:
        return near(maps, second.row, second.column) - near(maps, first.row, first.column)

    print(f"GNSS rate {known['gnss_rate']:.1f} mm/yr, {known['dates']} of {len(years)} dates\n")
    print("| | rate mm/yr | RMS mm | minimum velocity mm/yr |\n|---|---|---|---|")
    rows = {"uncorrected": [work / "timeseries.h5"], "MintPy height correlation": [work / "height.h5"]}
    for name, files in (rows | {"vae_correct.py": [c / "timeseries.h5" for c in corrected]}).items():
        series = [readfile.read(str(file), datasetName="timeseries")[0] for file in files]
        for label, maps in ((name, series), ("&nbsp; a line per pixel through it", [_line(s, years) for s in series])):
            found = [compare(double(m), truth, years) for m in maps]
            rates = [np.polyfit(years, m.reshape(len(years), -1), 1)[0].reshape(mask.shape) for m in maps]
            lowest = [1e3 * float(np.nanmin(r[mask])) for r in rates]
            cells = [spread([f[k] for f in found], form) for k, form in (("rate", ".1f"), ("rms", ".2f"))]
            print(f"| {label} | {cells[0]} | {cells[1]} | {spread(lowest, '.1f')} |")


def _line(series: np.ndarray, years: np.ndarray) -> np.ndarray:
    line = np.polynomial.polynomial.polyfit(years, series.reshape(len(years), -1), 1)
    return np.polynomial.polynomial.polyval(years, line).T.reshape(series.shape)


def side_by_side(outcomes: Sequence[dict[str, Any]]) -> None:
    """The second table."""
    print(f"\nSeed by seed: {' '.join(o['note'] for o in outcomes)}")
    print("".join(f"\nLeft out: {s['method']}, because {s['reason']}." for s in outcomes[0]["skipped"]), "\n")
    print("| |", " | ".join(f"{COLUMNS[c]['title']} {COLUMNS[c]['unit']}".strip() for c in SHOWN), "|")
    print("|---" * (len(SHOWN) + 1) + "|")
    for rows in zip(*(o["table"] for o in outcomes), strict=True):
        forms = [".0f" if c == "pairs_worse" else ".2f" for c in SHOWN]
        cells = [spread([r.get(c) for r in rows], form) for c, form in zip(SHOWN, forms, strict=True)]
        print(f"| {rows[0]['method']} | {' | '.join(cells)} |")


def injected(outcome: dict[str, Any]) -> None:
    """The third table, of the first seed."""
    print("\n| injected | comes back at |\n|---|---|")
    for row in outcome["injection"]:
        print(f"| {row['name']} | {'-' if row['gain'] is None else format(row['gain'], '.0%')} |")


def spread(values: Sequence[float | None], form: str) -> str:
    """Mean [smallest to largest], or the one value that all round to."""
    known = [float(v) for v in values if v is not None]
    if not known:
        return "-"
    if len({format(v, form) for v in known}) == 1:
        return format(known[0], form)
    return f"{sum(known) / len(known):{form}} [{min(known):{form}} to {max(known):{form}}]"


if __name__ == "__main__":
    main()
