"""The same seed gives the same bytes: in another process, with more threads, whatever the hash seed.

That the number of workers does not matter either is in test_cluster.py.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from conftest import read, shell
from mintpy_vae import Settings
from mintpy_vae.method import separation
from mintpy_vae.method.threads import single_threaded

POINTS = """
import numpy as np
from mintpy_vae.method.clustering import Fishdbc, unsigned
rng = np.random.default_rng(3)
points = np.concatenate([rng.normal(size=(150, 6)), rng.normal(size=(3, 1, 6)).repeat(50, 1).reshape(150, 6)])
points = unsigned(points + 0.1 * rng.normal(size=(300, 6)))
print(hash("a"), Fishdbc(5, 15)(points).tolist())
"""


def test_another_process_makes_the_same_bytes(mapped, simulated, monkeypatch):
    """With two threads in place of one, and another order of sets of strings."""
    stack, template, work = simulated
    for name, value in {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}.items():
        monkeypatch.setenv(name, value)
    done = shell(["vae_correct.py", stack, "-t", template, "--no-invert", "--quiet"])
    assert done.returncode == 0, done.stderr[-2000:]
    for name, dataset in (
        ("inputs/ifgramStack.h5", "unwrapPhase"),
        ("inputs/VAE.h5", "timeseries"),
        ("vae_std.h5", "timeseries"),
    ):
        assert read(work / name, dataset).tobytes() == read(mapped.work / name, dataset).tobytes(), name


def test_the_learning_has_one_thread_and_gives_the_others_back(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.linalg.inv(np.eye(3))
        given = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
        seen = []
        monkeypatch.setattr(separation, "to_dates", lambda *given: seen.append(threads()) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            separation.separate(None, Settings())
        assert seen == [{1}] and torch.get_num_threads() == 2
        assert [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()] == given
        with single_threaded():
            assert threads() == {1}
    finally:
        torch.set_num_threads(before)


def threads():
    return {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}


def test_fishdbc_gives_the_same_labels_in_every_process():
    printed = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", POINTS], capture_output=True, text=True, env=env, check=True)
        printed.append(done.stdout.split(" ", 1))
    assert printed[0][0] != printed[1][0] and printed[0][1] == printed[1][1]
    assert len(set(printed[0][1].strip(" []\n").split(", "))) > 2  # noise, and clusters
