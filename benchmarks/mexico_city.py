"""The real Mexico City stack against GNSS: uncorrected, a line per pixel, MintPy's height correlation, vae_correct.py.

    python benchmarks/mexico_city.py ../shared/data/mexico_city_s1

Works on a copy in a temporary directory. Every row goes through the same MintPy inversion and the same comparison: the
line-of-sight double difference MMX1 - ICMX, median of 3 x 3 pixels at each station, against the mean of the GNSS days
within one day of each acquisition, with a constant removed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from mintpy.utils import readfile

from mintpy_vae import gnss_series as gnss
from mintpy_vae.comparison import Stations
from mintpy_vae.evaluation_inputs import locate
from mintpy_vae.inverted import read_inverted

SITES = {"ICMX": (19.40564128, -99.17085339), "MMX1": (19.43165380, -99.06839002)}
BIN = Path(sys.executable).parent


def run(*command: str, log: Path) -> None:
    with log.open("a") as out:
        subprocess.run([str(BIN / command[0]), *command[1:]], check=True, stdout=out, stderr=out, cwd=log.parent)


def row(name: str, series: np.ndarray, years: np.ndarray, stations: Stations, mask: np.ndarray) -> str:
    (_, y, x, _), (_, v, u, truth) = stations
    found = gnss.compare(gnss.near(series, v, u) - gnss.near(series, y, x), truth, years)
    velocity = np.polyfit(years, series.reshape(len(years), -1), 1)[0].reshape(mask.shape)
    return f"{name:24s}{found['rate']:12.1f}{found['rms']:12.2f}{1e3 * np.nanmin(velocity[mask]):16.1f}"


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
        inverted = read_inverted(out)
        years = inverted.years
        stations = locate(gnss.read_stations([inps.data / "gnss_ngl.csv"]), "ICMX", out, inverted, SITES)
        truth = gnss.compare(stations[1][3], stations[1][3], years)
        print(f"GNSS rate {truth['gnss_rate']:.1f} mm/yr, {truth['dates']} of {len(years)} dates")
        print(f"{'':24s}{'rate mm/yr':>12s}{'RMS mm':>12s}{'minimum mm/yr':>16s}")
        for name, file in files.items():
            series = readfile.read(str(file), datasetName="timeseries")[0]
            print(row(name, series, years, stations, mask))
            line = np.polynomial.polynomial.polyfit(years, series.reshape(len(years), -1), 1)
            fitted = np.polynomial.polynomial.polyval(years, line).T.reshape(series.shape)
            print(row("  a line per pixel", fitted, years, stations, mask))


if __name__ == "__main__":
    main()
