"""The demo: simulate, correct, compute velocities with MintPy before and after, and compare with the truth.

``make demo`` or ``python -m mintpy_vae.demo`` writes ``./demo``. It ends with exit status 1 if a step fails, or
if the correction is worse than the README says.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import metrics
from .dates import acquisition_years
from .simulate import simulate, write_project

HERE = Path("demo")
SEED = 1
GAIN = (0.85, 1.15)
DATASET = {"uncorrected": "", "height": "_tropHgt"}
COLUMNS = ("velocity_stable", "velocity_deforming", "displacement_stable", "displacement_deforming", "gain_velocity")
Scores = dict[str, dict[str, float]]


class Failure(Exception):
    """Why the demo stopped."""


@dataclass(frozen=True)
class Truth:
    """Simulated truth of a project: displacement (dates, length, width) in metres, and masks (length, width)."""

    displacement: NDArray[np.float64]
    years: NDArray[np.float64]
    deforming: NDArray[np.bool_]
    land: NDArray[np.bool_]

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Land that does not move."""
        return self.land & ~self.deforming

    def score(self, displacement: NDArray[np.float64]) -> dict[str, float]:
        """Scores of one method."""
        return metrics.compare(displacement, self.displacement, self.years, self.deforming, self.land)


def main() -> None:
    """Run the demo."""
    begin = time.time()
    try:
        _fresh(HERE)
        print("1. Bowls: 60 dates, 200 x 200 pixels, two or three places that subside by 20-40 mm/yr")
        bowl = _project("bowl", 60, (200, 200))
        truth, scores = _truth(bowl), {}
        scores["zero map"] = truth.score(np.zeros_like(truth.displacement))
        scores["uncorrected"] = truth.score(_series(bowl, "uncorrected"))
        scores["MintPy height correlation"] = truth.score(_series(bowl, "height"))
        scores["vae_correct.py"] = truth.score(_series(_corrected(bowl), "uncorrected"))
        print("\n2. Quiet: 40 dates, 120 x 120 pixels, no motion; none may appear")
        quiet = _project("quiet", 40, (120, 120))
        still, silence = _truth(quiet), {}
        silence["uncorrected"] = still.score(_series(quiet, "uncorrected"))
        silence["MintPy height correlation"] = still.score(_series(quiet, "height"))
        silence["vae_correct.py"] = still.score(_series(_corrected(quiet), "uncorrected"))
        picture = HERE / "demo.png"
        _draw(picture, bowl, truth, scores)
        _table("Bowls, against the truth (smaller is better; a gain of 1 keeps all of the signal, 0 none)", scores)
        _table("Quiet: all that is left is noise", silence)
        _files(picture, bowl)
        _judge(scores, silence)
    except Failure as failure:
        sys.exit(f"\nThe demo FAILED: {failure}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted.")
    minutes, seconds = divmod(time.time() - begin, 60)
    print(f"time used: {minutes:02.0f} mins {seconds:02.1f} secs.")


# ---------------------------------------------------------------------------------------------------------- the steps
def _fresh(folder: Path) -> None:
    """Create an empty folder; one of an earlier demo, recognised by its log, is removed."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "mintpy.log").exists():
        raise Failure(f"{folder.resolve()} exists and was not made by this demo; move it away.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "mintpy.log").touch()


def _project(preset: str, dates: int, size: tuple[int, int]) -> Path:
    """Simulate a project and compute its velocity with MintPy: uncorrected, height-corrected and corrected."""
    project = HERE / preset
    with _step(f"simulating the project {project}"):
        template = write_project(simulate(preset, dates, size, SEED), project)
        # MintPy's hdfeos5 step fails below a directory with 'geo' in its name, and is not needed here
        template.write_text(re.sub(r"(mintpy.save.hdfEos5\s*=).*", r"\1 no", template.read_text()))
    with _step("uncorrected: smallbaselineApp.py as it is"):
        steps = ["--start", "modify_network", "--end", "velocity"]
        _quietly(["smallbaselineApp.py", template.name, *steps], project)
    with _step("MintPy's height correlation: tropo_phase_elevation.py"):
        source, result = "timeseries_demErr.h5", "timeseries_demErr_tropHgt.h5"
        geometry = ["-g", "inputs/geometryGeo.h5", "-m", "maskTempCoh.h5"]
        _quietly(["tropo_phase_elevation.py", source, *geometry, "-o", result], project)
        _quietly(["timeseries2velocity.py", result, "-o", "velocity_tropHgt.h5"], project)
    command = ["vae_correct.py", f"{project}/inputs/ifgramStack.h5", "-t", str(template)]
    print(f"   {shlex.join(command)}", flush=True)
    _showing(command)
    outcome = json.loads((_corrected(project) / "vae_result.json").read_text())
    if outcome["status"] != "corrected":
        raise Failure(f"vae_correct.py left {project} uncorrected, because {outcome['reason']}.")
    following = [*shlex.split(outcome["next_command"]), "--end", "velocity"]
    with _step("the next command, with --end velocity"):
        _quietly(following)
    return project


def _corrected(project: Path) -> Path:
    return project.with_name(project.name + "_vae")


class _step:
    """Print the name of a step and the time it took."""

    def __init__(self, name: str) -> None:
        print(f"   {name} ... ", end="", flush=True)

    def __enter__(self) -> None:
        self.begin = time.time()

    def __exit__(self, kind: Any, *_: Any) -> None:
        print(f"{time.time() - self.begin:.0f} s" if kind is None else "failed", flush=True)


def _command(command: list[str]) -> list[str]:
    """The command with the path of its script, which is beside the running interpreter."""
    script = Path(sys.executable).parent / command[0]
    if not script.is_file():
        raise Failure(f"{command[0]} is not installed beside {sys.executable}.")
    return [sys.executable, str(script), *command[1:]]


def _environment() -> dict[str, str]:
    return os.environ | {"MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"}


def _quietly(command: list[str], folder: Path = Path()) -> None:
    """Run a command of MintPy and write its output to the log."""
    with open(HERE / "mintpy.log", "a", encoding="utf8") as log:
        log.write(f"\n$ cd {folder}; {shlex.join(command)}\n")
        log.flush()
        done = subprocess.run(_command(command), cwd=folder, stdout=log, stderr=log, env=_environment(), check=False)
    if done.returncode:
        raise Failure(f"{shlex.join(command)} ended with exit status {done.returncode}; see {HERE / 'mintpy.log'}.")


def _showing(command: list[str]) -> None:
    """Run the correction; its progress and summary are shown, and all of its output is written to a log."""
    place = HERE / "vae_correct.log"
    with (
        open(place, "a", encoding="utf8") as log,
        subprocess.Popen(
            _command(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment()
        ) as process,
    ):
        assert process.stdout is not None
        show = _Filter(sys.stdout.isatty())
        for piece in _pieces(process.stdout):
            log.write(piece + "\n")
            show(piece)
    if process.returncode:
        raise Failure(f"{shlex.join(command)} ended with exit status {process.returncode}; see {place}.")


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    """Lines of the output, and each state of a progress bar."""
    rest = b""
    while data := os.read(stream.fileno(), 4096):
        *whole, rest = re.split(rb"[\r\n]", rest + data)
        yield from (piece.decode(errors="replace") for piece in whole if piece.strip())
    if rest.strip():
        yield rest.decode(errors="replace")


class _Filter:
    """Shows the output of the correction itself, without that of the MintPy steps that it runs."""

    stages = ("separating sources:", "searching local deformation:")
    hidden = re.compile(
        r"Project name:|read (custom|default) template|Go to work directory|Run routine processing|\*{10,} step"
    )
    shown = re.compile(r"cluster +label|UNCORRECTED|ERROR|Next:")

    def __init__(self, terminal: bool) -> None:
        self.terminal, self.on, self.bar, self.last = terminal, True, False, 0.0

    def __call__(self, piece: str) -> None:
        if piece.startswith(self.stages):
            # a moving bar on a terminal, otherwise a line now and then
            if self.terminal:
                print(f"\r   {piece}", end="", flush=True)
                self.bar = True
            elif time.time() - self.last > 15 or " 100%" in piece:
                print(f"   {piece}", flush=True)
                self.last = time.time()
            return
        if self.bar:
            print()
            self.bar = False
        if self.shown.match(piece):
            self.on = True
        elif self.hidden.match(piece):
            self.on = False
        if self.on:
            print(f"   {piece}", flush=True)


# ---------------------------------------------------------------------------------------------------------- the figures
def _truth(project: Path) -> Truth:
    with h5py.File(project / "truth.h5") as f:
        displacement, deforming = f["timeseries"][:].astype(np.float64), f["deforming"][:] > 0
        dates = [d.decode() for d in f["date"][:]]
    with h5py.File(project / "inputs" / "geometryGeo.h5") as f:
        land = f["waterMask"][:] > 0
    return Truth(displacement, acquisition_years(dates), deforming, land)


def _series(project: Path, method: str) -> NDArray[np.float64]:
    """Displacement (dates, length, width) in metres, from the file of which MintPy computes the velocity."""
    with h5py.File(project / f"timeseries_demErr{DATASET[method]}.h5") as f:
        return f["timeseries"][:].astype(np.float64)


def _table(title: str, scores: Scores) -> None:
    print(f"\n{title}")
    print(f"{'':27s}{'velocity RMSE [mm/yr]':^24s}{'displacement RMSE [mm]':^25s}{'gain':>6s}")
    print(f"{'':27s}{'stable':>11s}{'deforming':>12s} {'stable':>12s}{'deforming':>12s}")
    for name, row in scores.items():
        cells = ["-" if math.isnan(row[c]) else f"{row[c]:.2f}" for c in COLUMNS]
        print(f"{name:27s}{cells[0]:>11s}{cells[1]:>12s} {cells[2]:>12s}{cells[3]:>12s}{cells[4]:>6s}")


def _judge(scores: Scores, silence: Scores) -> None:
    """Fail with a reason if the correction is worse than the README says."""
    for case, table in (("bowls", scores), ("quiet", silence)):
        for column in ("velocity_stable", "displacement_stable"):
            before, after = table["uncorrected"][column], table["vae_correct.py"][column]
            if not after < before:
                raise Failure(f"{case}: {column.replace('_', ' ')} RMSE went from {before:.2f} to {after:.2f}.")
    kept = scores["vae_correct.py"]["gain_velocity"]
    if not GAIN[0] <= kept <= GAIN[1]:
        raise Failure(f"bowls: the gain is {kept:.2f}, outside {GAIN[0]}-{GAIN[1]}.")


def _files(picture: Path, project: Path) -> None:
    view = "view.py" if shutil.which("view.py") else str(_near(Path(sys.executable).parent / "view.py"))
    tsview = view.replace("view.py", "tsview.py")
    after = _corrected(project)
    print("\nOpen (velocity before, with MintPy's height correlation, after; displacement of any pixel; atmosphere):")
    for file in (project / "velocity.h5", project / "velocity_tropHgt.h5", after / "velocity.h5"):
        print(f"  {view} {file} velocity -m {project}/waterMask.h5 -u mm -v -40 40")
    print(f"  {tsview} {after}/timeseries_demErr.h5 -m {after}/maskTempCoh.h5")
    print(f"  {view} {after}/inputs/VAE.h5 -m {project}/waterMask.h5 --noverbose")
    print(f"Picture: {picture}   MintPy's output: {HERE}/mintpy.log, {HERE}/vae_correct.log")


def _near(path: Path) -> Path:
    """The path relative to the current directory, if it is inside."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _draw(picture: Path, project: Path, truth: Truth, scores: Scores) -> None:
    """Velocity maps side by side on one scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def read(file: Path) -> NDArray[np.float64]:
        with h5py.File(file) as f:
            values = f["velocity"][:].astype(np.float64)
        return np.asarray(values - np.median(values[truth.stable]))

    def caption(name: str) -> str:
        return f"noise {scores[name]['velocity_stable']:.1f} mm/yr, gain {scores[name]['gain_velocity']:.2f}"

    panels = {
        "truth\n ": metrics.velocity(metrics.referenced(truth.displacement, truth.stable), truth.years),
        f"uncorrected\n{caption('uncorrected')}": read(project / "velocity.h5"),
        f"height correlation (MintPy)\n{caption('MintPy height correlation')}": read(project / "velocity_tropHgt.h5"),
        f"vae_correct.py\n{caption('vae_correct.py')}": read(_corrected(project) / "velocity.h5"),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.6), layout="constrained")
    limit = 5 * math.ceil(1000 * float(np.abs(next(iter(panels.values()))[truth.land]).max()) / 5)
    colours = plt.get_cmap("RdBu").with_extremes(bad="0.6")
    for axis, (title, rate) in zip(axes, panels.items(), strict=True):
        shown = np.where(truth.land, 1000 * rate, np.nan)
        image = axis.imshow(shown, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(image, ax=axes, label="velocity towards the satellite [mm/yr]", shrink=0.9)
    figure.savefig(picture, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
