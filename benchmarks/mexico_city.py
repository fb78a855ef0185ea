"""The real Mexico City stack against GNSS: uncorrected, a line per pixel, MintPy's height correlation, vae_correct.py.

    python benchmarks/mexico_city.py ../shared/data/mexico_city_s1

Works on a copy in a temporary directory. Every row goes through the same MintPy inversion and the same comparison: the
line-of-sight double difference MMX1 - ICMX, median of 3 x 3 pixels at each station, against the mean of the GNSS days
within one day of each acquisition, with a constant removed.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from mintpy.utils import readfile
from mintpy.utils import utils0 as ut

STATIONS = {"MMX1": (14, 88), "ICMX": (32, 14)}  # row, column; the second is the reference
BIN = Path(sys.executable).parent


def run(*command: str, log: Path) -> None:
    with log.open("a") as out:
        subprocess.run([str(BIN / command[0]), *command[1:]], check=True, stdout=out, stderr=out, cwd=log.parent)


def days(text: str) -> int:
    return int(np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}", "D").astype(int))


def gnss_double_difference(data: Path, dates: list[str]) -> np.ndarray:
    """Line-of-sight double difference (dates,) in metres; NaN without a common GNSS day within one day."""
    attributes = readfile.read_attribute(str(data / "inputs" / "ifgramStack.h5"))
    azimuth = ut.heading2azimuth_angle(float(attributes["HEADING"]))
    incidence = readfile.read(str(data / "inputs" / "geometryGeo.h5"), datasetName="incidenceAngle")[0]
    los: dict[str, dict[int, float]] = {name: {} for name in STATIONS}
    lines = (line for line in (data / "gnss_ngl.csv").open() if not line.startswith("#"))
    for row in csv.DictReader(lines):
        e, n, u = (float(row[c]) for c in "enu")
        angle = float(incidence[STATIONS[row["station"]]])
        los[row["station"]][days(row["date"])] = float(ut.enu2los(e, n, u, inc_angle=angle, az_angle=azimuth))
    first, second = (los[name] for name in STATIONS)
    found = []
    for date in dates:
        common = [d for d in first if d in second and abs(d - days(date)) <= 1]
        found.append(np.mean([first[d] - second[d] for d in common]) if common else np.nan)
    return np.array(found)


def row(name: str, series: np.ndarray, dates: list[str], truth: np.ndarray, mask: np.ndarray) -> str:
    years = np.array([days(d) for d in dates]) / 365.25
    near = [np.nanmedian(series[:, y - 1 : y + 2, x - 1 : x + 2], axis=(1, 2)) for y, x in STATIONS.values()]
    ok = np.isfinite(truth)
    double = (near[0] - near[1])[ok]
    difference = double - truth[ok]
    rate = np.polyfit(years[ok], double, 1)[0]
    velocity = np.polyfit(years, series.reshape(len(years), -1), 1)[0].reshape(mask.shape)
    rms = np.std(difference)
    return f"{name:24s}{1e3 * rate:12.1f}{1e3 * rms:12.2f}{1e3 * np.nanmin(velocity[mask]):16.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    inps = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work, log = Path(scratch) / "WORK", Path(scratch) / "log"
        shutil.copytree(inps.data, work, copy_function=shutil.copyfile)
        template = next(work.glob("*.txt"))
        app = ("smallbaselineApp.py", str(template), "--dir")
        run(*app, str(work), "--start", "modify_network", "--end", "invert_network", log=log)
        plain = work / "timeseries.h5"
        tropo = ("tropo_phase_elevation.py", str(plain), "-g", str(work / "inputs" / "geometryGeo.h5"))
        run(*tropo, "-m", str(work / "maskTempCoh.h5"), "-o", str(work / "height.h5"), log=log)
        files = {"uncorrected": plain, "MintPy height correlation": work / "height.h5"}
        for seed in inps.seeds:
            out = Path(scratch) / f"seed{seed}"
            stack = str(work / "inputs" / "ifgramStack.h5")
            run("vae_correct.py", stack, "-t", str(template), "-o", str(out), "--seed", str(seed), log=log)
            files[f"vae_correct, seed {seed}"] = out / "timeseries.h5"
        mask = readfile.read(str(work / "maskTempCoh.h5"))[0] > 0
        with h5py.File(plain) as f:
            dates = [d.decode() for d in f["date"][:]]
        truth = gnss_double_difference(inps.data, dates)
        years = np.array([days(d) for d in dates]) / 365.25
        ok = np.isfinite(truth)
        print(f"GNSS rate {1e3 * np.polyfit(years[ok], truth[ok], 1)[0]:.1f} mm/yr, {ok.sum()} of {len(ok)} dates")
        print(f"{'':24s}{'rate mm/yr':>12s}{'RMS mm':>12s}{'minimum mm/yr':>16s}")
        for name, file in files.items():
            series = readfile.read(str(file), datasetName="timeseries")[0]
            print(row(name, series, dates, truth, mask))
            line = np.polynomial.polynomial.polyfit(years, series.reshape(len(years), -1), 1)
            fitted = np.polynomial.polynomial.polyval(years, line).T.reshape(series.shape)
            print(row("  a line per pixel", fitted, dates, truth, mask))


if __name__ == "__main__":
    main()
