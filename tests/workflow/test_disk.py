"""Disks that are full, limited, read-only; input that vanishes: one sentence, no damage, nothing half-done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from conftest import make_simulated, one_sentence, tree
from mintpy_vae.errors import InputError
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.correction import correct

SMALL = "vae.trainSteps = 10\nvae.numSeed = 1\nmintpy.topographicResidual = no\n"

# A process with file systems of its own. The networks are trained once; then the command runs in a child for each
# place, since HDF5 may take a process down with it.
IN_PLACES = """
import json, os, resource, shutil, subprocess, sys
from pathlib import Path
from conftest import read
from mintpy_vae.workflow import learning
from mintpy_vae.cli.vae_correct import main

stack, template, disk, places, foreseen = sys.argv[1:]
separate, known = learning.separate, []

def once(*args, **kwargs):
    known[:] = known or [separate(*args, **kwargs)]
    return known[0]

def run(place, *more):
    try:
        main([stack, "-t", template, "-o", str(place), *more])
    except SystemExit as end:
        return end.code
    return 0

def same(a, b):
    return read(a, "unwrapPhase").tobytes() == read(b, "unwrapPhase").tobytes()

learning.separate = once
before, work = Path(disk).with_name("before"), Path(disk) / "WORK_vae"
assert run(before, "--no-invert") == 0
if foreseen == "no":  # others fill the disk after it was asked for its room
    shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1e12, 0, 1e12)
found = []
for kind, size in json.loads(places):
    mounts = {
        "disk": [["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk]],
        "read-only": [["mount", "--bind", disk, disk], ["mount", "-o", "remount,ro,bind", disk]],
        "limit": [],
    }[kind]
    for command in mounts:
        subprocess.run(command, check=True)
    source, sink = os.pipe()
    if not (child := os.fork()):
        if kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * size, 1000 * size))
        os.write(sink, json.dumps(run(work)).encode())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    os.close(sink)
    said = os.read(source, 5000).decode()
    result = work / "vae_result.json"
    name = "inputs/ifgramStack.h5"
    found.append({
        "place": f"{kind} {size}",
        "status": status,
        "said": json.loads(said) if said else "",
        "left": sorted(str(p.relative_to(disk)) for p in Path(disk).rglob("*")),
        "result": json.loads(result.read_text()) if result.exists() else None,
        "whole": result.exists() and same(work / name, before / name),
    })
    shutil.rmtree(work, ignore_errors=True)
    if mounts:
        subprocess.run(["umount", disk], check=True)
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A project that takes no time: (stack, template)."""
    template = make_simulated(tmp_path_factory.mktemp("small") / "WORK", n_dates=10, size=(24, 24), text=SMALL)
    return template.parent / "inputs" / "ifgramStack.h5", template


def run_in(places, small, tmp_path, foreseen):
    stack, template = small
    disk = tmp_path / "disk"
    disk.mkdir()
    before = tree(template.parent)
    command = [sys.executable, "-c", IN_PLACES, str(stack), str(template), str(disk), json.dumps(places), foreseen]
    if any(kind != "limit" for kind, _ in places):
        own = ["unshare", "--mount", "--map-root-user"]
        if subprocess.run([*own, "mount", "-t", "tmpfs", "none", str(disk)], capture_output=True).returncode:
            pytest.skip("no right to mount a disk here")
        command = own + command
    # one thread: those of OpenMP do not live on in the children, which would wait for them for ever
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tree(template.parent) == before
    found = json.loads(done.stdout.split("FOUND")[1])
    for case in found:
        assert not [name for name in case["left"] if name.endswith(".part") or ".part/" in name], case
        if case["said"] not in (0, ""):
            assert one_sentence(case["said"]), case
        if case["result"] is None:
            assert case["left"] == [] and case["status"] == 0, case
        else:  # the corrected stack is whole, and what lacks is said
            assert case["whole"], case
            assert (case["said"] == 0) == (case["result"]["mintpy"] == "reference_date"), case
    return {case["place"]: case for case in found}


def test_a_disk_that_is_too_small_is_seen_before_the_training(small, tmp_path):
    found = run_in([("disk", 4), ("disk", 5000)], small, tmp_path, "yes")
    for case in found.values():
        assert "needs about" in case["said"] and "GB free" in case["said"] and case["left"] == []


def test_a_disk_that_fills_up_at_any_stage(small, tmp_path):
    """Kilobytes by what is being written: geometry, networks, stack, error, result, MintPy's part, report."""
    sizes = (4, 250, 600, 850, 900, 950, 1000, 1100, 1300)
    found = run_in([("disk", size) for size in sizes], small, tmp_path, "no")
    for case in found.values():
        if case["status"]:  # HDF5 on a full disk, in a step of MintPy
            assert os.WTERMSIG(case["status"]) and case["result"]["mintpy"] == "pending", case
        elif case["said"]:
            assert "No space left on device" in case["said"], case
        else:
            assert any("No space left on device" in text for text in case["result"]["warnings"]), case
    named = [str(case["said"]) for case in found.values()]
    assert all(any(name in text for text in named) for name in ("vae_model.pt", "ifgramStack.h5", "vae_result.json"))


def test_a_limit_on_the_size_of_files_at_any_stage(small, tmp_path):
    """As by a quota; kilobytes."""
    found = run_in([("limit", 20), ("limit", 200), ("limit", 2000)], small, tmp_path, "no")
    assert all("File too large" in found[f"limit {size}"]["said"] for size in (20, 200))
    assert "File too large" in "".join(found["limit 2000"]["result"]["warnings"])  # of the report, which is larger


def test_a_read_only_disk(small, tmp_path):
    found = run_in([("read-only", 0)], small, tmp_path, "no")
    assert "cannot be written to: Read-only file system" in found["read-only 0"]["said"]


# ------------------------------------------------------------------------------------------- input that does not stay
def other_phase(stack):
    with h5py.File(stack, "r+") as f:
        f["unwrapPhase"][...] *= 2


MEANWHILE = {
    "vanished": (lambda stack: stack.unlink(), "does not exist|No such file|changed by another program"),
    "cut": (lambda stack: os.truncate(stack, 1000), "truncated"),
    "text": (lambda stack: stack.write_text("text"), "is not an HDF5 file"),
    "other phase": (other_phase, "changed by another program during the run"),
    "geometry vanished": (lambda stack: next(stack.parent.glob("geometry*")).unlink(), "changed by another program"),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_input_that_is_changed_between_reading_and_writing(simulated, remembered, monkeypatch, case):
    stack, template, work = simulated
    separate, (change, expected) = learning.separate, MEANWHILE[case]

    def and_change(*args, **kwargs):
        found = separate(*args, **kwargs)
        change(stack)
        return found

    monkeypatch.setattr(learning, "separate", and_change)
    with pytest.raises(InputError, match=expected):
        correct(stack, template_file=template, invert=False)
    assert os.listdir(work.parent) == ["WORK"]
