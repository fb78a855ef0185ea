"""Training and the whole correction on a GPU, or on the CPU with the same script.

    python benchmarks/gpu.py                                             # on a machine with a GPU
    python benchmarks/gpu.py --device cpu --train-steps 20 --whole 60x200x300

The network is trained on the atmosphere of as many dates as 500 pairs have, on a training grid of the default size,
from several seeds, in single and in mixed precision (bfloat16). What a network has learnt is the covariance of its
maps; two are compared by the norm of their difference over that of the first. Mixed precision changes nothing that
matters where that is less than from seed to seed. How busy a GPU was is what nvidia-smi says meanwhile, in a longer
training of its own: it looks a few times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from big_stacks import make_project
from measured import VAE_CORRECT, machine, median, plain_copy, run, table

from mintpy_vae.method.observations import LARGEST
from mintpy_vae.method.source_model import basis_maps
from mintpy_vae.method.training import choose_device, train
from mintpy_vae.method.vae import SEPARATOR_SLOTS
from mintpy_vae.settings import Settings
from mintpy_vae.simulate.fields import turbulence

LONGER = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--dates", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-steps", type=int, default=Settings().train_steps)
    parser.add_argument(
        "--whole", default="500x2000x3000", metavar="PAIRSxLENGTHxWIDTH", help="stack of the correction"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where the stack is made (default: the system's)")
    inps = parser.parse_args()
    torch.set_num_threads(inps.threads)
    device = choose_device(inps.device)
    side = round(LARGEST**0.5)
    maps = turbulence(np.random.default_rng(0), inps.dates, (side, side), 300.0).astype(np.float64)
    rows, learnt = [], {}
    for name, mixed in (("single", False), ("mixed", True)):
        found = [trained(maps, seed, mixed, inps) for seed in range(1, inps.seeds + 1)]
        learnt[name] = [f["covariance"] for f in found]
        seconds = [f["seconds"] for f in found]
        busy: list[float] = []
        if device.type == "cuda":
            with watched(busy):
                trained(maps, 1, mixed, inps, LONGER)
        rows.append([
            name, f"{seconds[0]:.1f}", f"{median(seconds[1:] or seconds):.2f}",
            f"{Settings().batch_size * inps.train_steps / min(seconds):.0f}",
            f"{np.mean([f['loss'] for f in found]):.4f}", f"{np.std([f['loss'] for f in found]):.4f}",
            f"{median(busy):.0f} %" if busy else "-",
        ])  # fmt: skip
    head = ["precision", "first, s", "others, s", "pairs per second", "loss", "its spread over seeds", "GPU busy"]
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    steps = f"{inps.train_steps} steps"
    print(f"{device_name}: one network, {steps}, {inps.dates} dates, {side} x {side} pixels\n\n{table(head, rows)}\n")
    seeds = [distance(a, b) for a, b in combinations(learnt["single"], 2)]
    mixed_only = [distance(a, b) for a, b in zip(learnt["single"], learnt["mixed"], strict=True)]
    from_seeds = f"{median(seeds):.3f} from seed to seed, " if seeds else ""
    print(f"Difference of what was learnt: {from_seeds}{median(mixed_only):.3f} from single to mixed precision.\n")
    print(whole(inps, device))
    print(f"\n{machine(inps.threads)}")


def trained(maps: np.ndarray, seed: int, mixed: bool, inps: argparse.Namespace, longer: int = 1) -> dict[str, object]:
    """One training of ``longer`` times as many steps: seconds, final loss, covariance."""
    device = choose_device(inps.device)
    valid = np.ones(maps.shape[1:], bool)
    settings = Settings(device=inps.device, seed=seed, train_steps=longer * inps.train_steps)
    years = np.arange(len(maps)) * 12 / 365.25
    with torch.autocast(device.type, torch.bfloat16, mixed, cache_enabled=False):
        begin = time.time()
        fit = train(maps, valid, years, SEPARATOR_SLOTS, settings)
        seconds = time.time() - begin
    modes = basis_maps(fit)
    tail = fit.losses[-max(1, len(fit.losses) // 10) :]
    return {"seconds": seconds, "loss": tail.mean(), "covariance": modes.T @ modes}


@contextlib.contextmanager
def watched(busy: list[float]) -> Iterator[None]:
    """Fill in how busy the GPU is, in percent, ten times a second; empty where there is no nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        yield
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0", "-lms", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield
        finally:
            watch.terminate()
            busy += [float(word) for word in watch.communicate()[0].split()]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Relative Frobenius norm of a difference."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def whole(inps: argparse.Namespace, device: torch.device) -> str:
    """A table of the stages of the whole correction of a simulated stack, and of a plain copy of the stack."""
    pairs, length, width = map(int, inps.whole.split("x"))
    with tempfile.TemporaryDirectory(dir=inps.scratch) as scratch:
        project, work = Path(scratch) / "PROJECT", Path(scratch) / "PROJECT_vae"
        stack = make_project(project, pairs, (length, width))
        template = project / "benchmark.txt"
        with open(template, "a") as f:
            f.write(f"vae.trainSteps = {inps.train_steps}\n")
        command = [*VAE_CORRECT, stack, "-t", template, "--no-invert", "--device", device.type]
        process = run(command, inps.threads)
        timings = json.loads((work / "vae_result.json").read_text())["timings"]
        shutil.rmtree(work)
        copied = plain_copy([stack], project)
    head = ["whole correction", *timings, "the process", "largest memory", "plain copy of the stack"]
    row = [f"{value:.1f} s" for value in (*timings.values(), process.seconds)]
    return table(head, [[inps.whole, *row, f"{process.peak:.2f} GB", f"{copied:.1f} s"]])


if __name__ == "__main__":
    main()
