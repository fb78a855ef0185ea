"""Disks that are full, of a quota, read-only, shared: the real command says so in one sentence and damages nothing."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import make_simulated, tree

ON_A_DISK = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from mintpy_vae import learning
from mintpy_vae.cli.vae_correct import main

stack, template, disk, prepare, *more = sys.argv[1:]
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

learning.separate = once
usage = shutil.disk_usage
if "filled meanwhile" in more:  # by others, after it was asked for its space
    more.remove("filled meanwhile")
    shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1e12, 0, 1e12)
os.chdir(Path(stack).parents[2])
run(Path(disk) / "before", "--no-invert")  # the networks are trained once for all
found = []
for size in json.loads(prepare):
    if isinstance(size, int):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", disk], check=True)
    read, write = os.pipe()
    if not (child := os.fork()):  # a process that HDF5 may take down
        os.write(write, json.dumps(run(Path(disk) / "WORK_vae", *more)).encode())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    os.close(write)
    said = os.read(read, 5000).decode()
    left = {str(p.relative_to(disk)): p.stat().st_size for p in Path(disk).rglob("*")}
    result = Path(disk, "WORK_vae", "vae_result.json")
    found.append([size, status, said and json.loads(said), left, json.loads(result.read_text()) if result.exists() else {}])
    if isinstance(size, int):
        subprocess.run(["umount", disk], check=True)
print("FOUND" + json.dumps(found))
"""
