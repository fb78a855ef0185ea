"""Scenes larger than the memory: the same arrays, on a disk."""

import errno
import os
import tracemalloc

import numpy as np
import pytest

from mintpy_vae import InputError
from mintpy_vae.simulate import simulate, write_project

LARGE = ("displacement", "atmosphere", "phase", "coherence", "unwrap_error", "component")


@pytest.mark.parametrize("sky", ["real", "stationary"])
def test_a_scene_on_the_disk_is_the_one_in_memory(tmp_path, sky):
    kept, on_disk = (simulate("dirty", 12, (40, 50), seed=2, sky=sky, folder=folder) for folder in (None, tmp_path))
    for name in (*LARGE, "constant", "height"):
        np.testing.assert_array_equal(getattr(on_disk, name), getattr(kept, name))
    assert not list(tmp_path.iterdir())  # the files have no names


def peak(folder, n_dates, n_pairs):
    """Largest memory of a simulation and of writing it, in bytes, and the size of its large arrays."""
    tracemalloc.start()
    try:
        folder.mkdir()
        scene = simulate("dirty", n_dates, (150, 160), folder=folder, dates=n_dates, pairs=n_pairs)
        write_project(scene, folder)
        return tracemalloc.get_traced_memory()[1], sum(getattr(scene, name).nbytes for name in LARGE)
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_area_and_not_with_dates_and_pairs(tmp_path):
    (few, small), (many, large) = peak(tmp_path / "few", 10, 30), peak(tmp_path / "many", 40, 150)
    assert large > 4 * small and many < 1.1 * few + 2e6 < 0.5 * large


def test_a_full_disk_is_one_sentence_before_the_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"cannot take 0\.0 GB .*No space left on device\); choose another"):
        simulate("bowl", 12, (40, 50), folder=tmp_path)
    assert not list(tmp_path.iterdir())
