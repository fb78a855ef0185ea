"""What the benchmarks share: commands run in processes of their own, a plain copy to compare with, tables."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

VAE_CORRECT = (sys.executable, "-m", "mintpy_vae.cli.vae_correct")
VAE_SIMULATE = (sys.executable, "-m", "mintpy_vae.cli.vae_simulate")


@dataclass(frozen=True)
class Run:
    """One process: seconds, seconds of processor time, and its largest resident memory in GB."""

    seconds: float
    processor: float
    peak: float


def run(command: Sequence[str | Path], threads: int, **how: object) -> Run:
    """Run a command to its end.

    Raises
    ------
    SystemExit
        With the end of what it printed, if it fails.
    """
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MPLBACKEND": "Agg"}
    with tempfile.TemporaryFile("w+") as printed:
        begin = time.time()
        process = subprocess.Popen(list(map(str, command)), stdout=printed, stderr=printed, env=env, **how)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            sys.exit(f"{' '.join(map(str, command))} failed:\n{printed.read()[-2000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


def plain_copy(files: Iterable[Path], folder: Path) -> float:
    """Seconds to copy the datasets of HDF5 files, some rows of whole chunks at a time, until they are on the disk."""
    begin = time.time()
    for file in files:
        out = folder / f"copy_of_{file.name}"
        with h5py.File(file) as source, h5py.File(out, "w") as f:
            for name, item in source.items():
                if item.ndim < 3:
                    f[name] = item[()]
                    continue
                new = f.create_dataset(name, item.shape, item.dtype, maxshape=item.maxshape, chunks=item.chunks)
                step = item.chunks[1] if item.chunks else 32
                for start in range(0, item.shape[1], step):
                    new[:, start : start + step] = item[:, start : start + step]
        with open(out, "rb+") as done:
            os.fsync(done.fileno())
    seconds = time.time() - begin
    for file in files:
        (folder / f"copy_of_{file.name}").unlink()
    return seconds


def median(values: Iterable[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def machine(threads: int) -> str:
    """One sentence on where and when this was measured."""
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {threads} threads; load of the machine at "
        f"the end {load:.1f}; {time.strftime('%Y-%m-%d')}."
    )
