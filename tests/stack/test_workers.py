"""Two workers of MintPy's Dask cluster make the same bytes as this process."""

import threading

import numpy as np
import pytest
from mintpy.objects.cluster import DaskCluster

from mintpy_vae.errors import InputError
from mintpy_vae.stack import file_hash, open_stack, pool_pairs, write_corrected_stack, write_delay_file
from mintpy_vae.stack.workers import Compute, worked_on
from tiny import delays, make_project

TWO = {"mintpy.compute.cluster": "local", "mintpy.compute.numWorker": "2"}
MEMORY = 2e-4  # GB: several slabs of rows and blocks of pairs


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)


def contents(file):
    import h5py

    with h5py.File(file) as f:
        return {name: item[()].tobytes() for name, item in f.items()}


def test_two_workers_make_the_same_bytes(tmp_path, monkeypatch, two_cores):
    """All block-wise stages; the cluster is MintPy's own, and it was asked for two workers."""
    opened, started = [], DaskCluster.open
    monkeypatch.setattr(DaskCluster, "open", lambda self: (opened.append(self.num_worker), started(self))[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.o").touch()
    file = make_project(tmp_path / "p", water=True) / "inputs" / "ifgramStack.h5"
    before, delay = file_hash(file), delays(9, (30, 40))
    made = []
    for options in ({}, TWO):
        stack, place = open_stack(file, template=options), tmp_path / f"out{len(made)}"
        place.mkdir()
        progress = []
        phase, weight = pool_pairs(stack, 3, MEMORY, lambda *rows, p=progress: p.append(rows))
        write_corrected_stack(stack, place / "stack.h5", lambda rows: delay[:, rows], {}, MEMORY)
        write_delay_file(stack, place / "VAE.h5", lambda rows: delay[:, rows], MEMORY)
        made.append((phase.tobytes(), weight.tobytes(), contents(place / "stack.h5"), contents(place / "VAE.h5")))
        assert progress[-1] == (30, 30, "") and len(progress) > 1
    assert made[0] == made[1] and opened == [2, 2, 2]
    assert file_hash(file) == before and (tmp_path / "mine.o").exists()


def test_what_goes_wrong_at_a_worker_is_said_here(tmp_path, monkeypatch, two_cores):
    monkeypatch.chdir(tmp_path)
    stack = open_stack(make_project(tmp_path / "p") / "inputs" / "ifgramStack.h5", template=TWO)

    def fail(rows):
        raise InputError("The disk is gone.")

    with pytest.raises(InputError, match="The disk is gone"):
        write_corrected_stack(stack, tmp_path / "out.h5", fail, {}, MEMORY)
    assert not list(tmp_path.glob("out*"))


def test_the_next_piece_is_made_while_the_last_one_is_written():
    started = [threading.Event() for _ in range(4)]

    def make(k):
        started[k].set()
        return threading.get_ident()

    for k, made_by in worked_on(make, range(4), Compute()):
        assert made_by != threading.get_ident()
        assert started[min(k + 1, 3)].wait(10), "it waits for the caller"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_in_a_piece_is_raised_where_it_is_used(error):
    def make(k):
        if k == 2:
            raise error
        return k

    done = []
    with pytest.raises(error):
        for k, _ in worked_on(make, range(5), Compute()):
            done.append(k)
    assert done == [0, 1]


def test_one_piece_needs_no_cluster(monkeypatch):
    monkeypatch.setattr(DaskCluster, "open", lambda self: 1 / 0)
    assert list(worked_on(abs, [-1], Compute("local", "2"))) == [(-1, 1)]
    assert list(worked_on(abs, [], Compute("local", "2"))) == []


@pytest.mark.parametrize(
    "template, expected",
    [
        ({}, Compute()),
        ({"mintpy.compute.cluster": "none", "mintpy.compute.numWorker": "8"}, Compute()),
        ({"mintpy.compute.cluster": "local", "mintpy.compute.numWorker": "1"}, Compute()),
        ({"mintpy.compute.cluster": "local"}, Compute("local", "4")),
        ({"mintpy.compute.cluster": "local", "mintpy.compute.numWorker": "all"}, Compute("local", "4")),
        ({"mintpy.compute.cluster": "local", "mintpy.compute.numWorker": "50%"}, Compute("local", "2")),
        ({"mintpy.compute.cluster": "slurm"}, Compute("slurm", "40")),
        ({"mintpy.compute.cluster": "pbs", "mintpy.compute.config": "mine"}, Compute("pbs", "40", "mine")),
    ],
)
def test_options_mean_what_they_mean_in_mintpy(template, expected, two_cores):
    assert Compute.from_template(template) == expected


@pytest.mark.parametrize(
    "template, expected",
    [
        (
            {"mintpy.compute.cluster": "cloud"},
            "cluster = cloud is unknown; choose none or one of lsf, pbs, slurm, local",
        ),
        ({"mintpy.compute.cluster": "local", "mintpy.compute.numWorker": "many"}, "numWorker = many is not a number"),
        ({"mintpy.compute.cluster": "slurm", "mintpy.compute.numWorker": "all"}, "numWorker = all is not a number"),
    ],
)
def test_bad_options_are_refused(template, expected):
    with pytest.raises(InputError, match=expected):
        Compute.from_template(template)


def test_the_sums_do_not_depend_on_who_adds_them(tmp_path):
    file = make_project(tmp_path / "p") / "inputs" / "ifgramStack.h5"
    results = {tuple(a.tobytes() for a in pool_pairs(open_stack(file), 4, memory)) for memory in (1e-6, MEMORY, 1.0)}
    assert len(results) == 1 and np.isfinite(pool_pairs(open_stack(file), 4, 1.0)[0]).all()
