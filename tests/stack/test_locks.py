"""HDF5 files that another program has open, and file systems without locks: what is said, before any training."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from conftest import tree
from mintpy_vae.errors import InputError
from mintpy_vae.evaluation.scene import read_truth
from mintpy_vae.project.steps import at_work
from mintpy_vae.workflow.delay import write_delay
from mintpy_vae.workflow.job import prepare
from tiny import make_project

HOLD = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """With a mask and a delay file."""
    root = make_project(tmp_path_factory.mktemp("locks") / "WORK")
    for name, dataset in (("mask.h5", "mask"), ("inputs/VAE.h5", "timeseries")):
        with h5py.File(root / name, "w") as f:
            f.attrs.update({"FILE_TYPE": dataset, "LENGTH": "30", "WIDTH": "40"})
            f[dataset] = np.ones((30, 40), bool)
    return root


@contextmanager
def held(file):
    """Open for writing in another process."""
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "open\n"
        yield
        other.communicate("\n")


def with_mintpy(stack):
    with at_work("a step", str(stack.parent)):
        h5py.File(stack)


READERS = {
    "stack": ("inputs/ifgramStack.h5", prepare),
    "geometry": ("inputs/geometryGeo.h5", prepare),
    "mask": ("mask.h5", lambda stack: prepare(stack, stable_mask="mask.h5")),
    "delay file": ("inputs/VAE.h5", write_delay),
    "truth": ("mask.h5", lambda stack: read_truth(stack.parents[1] / "mask.h5", SimpleNamespace(), np.ones((2, 2)))),
    "in a step of MintPy": ("inputs/ifgramStack.h5", with_mintpy),
}


@pytest.mark.parametrize("what", READERS)
def test_a_file_open_for_writing_elsewhere_is_said_to_be(project, what):
    name, read = READERS[what]
    before = tree(project)
    with (
        held(project / name),
        pytest.raises(InputError, match=r"another program has it open .* HDF5_USE_FILE_LOCKING=FALSE"),
    ):
        read(project / "inputs" / "ifgramStack.h5")
    assert tree(project) == before


NO_LOCKS = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int flock(int fd, int op) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  readlink(link, path, sizeof path - 1);
  if (!strstr(path, getenv("NO_LOCKS_IN"))) return 0;
  errno = atoi(getenv("FLOCK_SAYS"));
  return -1;
}
"""
USE = """
import sys
from pathlib import Path
from mintpy_vae.errors import InputError
from mintpy_vae.stack import open_stack
from mintpy_vae.project.staging import staged

def work(stack):
    open_stack(stack)
    with staged(stack.parents[1].with_name("WORK_vae")):
        print("began")

try:
    work(Path(sys.argv[1]))
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory):
    """A library that makes ``flock`` fail in some directory."""
    if sys.platform != "linux" or not (compiler := shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("there is no C compiler to make a file system without locks")
    folder = tmp_path_factory.mktemp("no_locks")
    (folder / "no_locks.c").write_text(NO_LOCKS)
    command = [compiler, "-w", "-shared", "-fPIC", "-o", folder / "no_locks.so", folder / "no_locks.c"]
    subprocess.run(command, check=True)
    return folder / "no_locks.so"


@pytest.mark.parametrize(
    ("where", "number", "locking", "said"),
    [
        ("WORK/inputs", "ENOLCK", "TRUE", "ifgramStack.h5 cannot be read: its file system does not support locks"),
        ("WORK/inputs", "EOPNOTSUPP", "TRUE", "ifgramStack.h5 cannot be read: its file system does not support locks"),
        ("WORK_vae.part", "ENOLCK", "TRUE", "no HDF5 file can be written: its file system does not support locks"),
        ("WORK", "ENOLCK", "FALSE", "began"),
    ],
)
def test_a_file_system_without_locks_is_said_to_be_one_before_the_work(project, no_locks, where, number, locking, said):
    import errno

    own = {"LD_PRELOAD": no_locks, "NO_LOCKS_IN": where, "FLOCK_SAYS": getattr(errno, number)}
    env = {**os.environ, **{k: str(v) for k, v in own.items()}, "HDF5_USE_FILE_LOCKING": locking}
    command = [sys.executable, "-c", USE, project / "inputs" / "ifgramStack.h5"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert said in done.stdout and done.stderr == ""
    assert said == "began" or "HDF5_USE_FILE_LOCKING=FALSE" in done.stdout
    assert os.listdir(project.parent) == ["WORK"]
