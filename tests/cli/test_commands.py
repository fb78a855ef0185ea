"""The command: what it refuses, how it is interrupted, what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

from conftest import refused, shell, tree
from mintpy_vae.cli.vae_correct import main
from mintpy_vae.errors import InputError
from mintpy_vae.project.staging import NETWORKS
from mintpy_vae.results.result import RESULT
from mintpy_vae.stack import COMPLETE
from mintpy_vae.workflow.correction import correct
from tiny import make_project

LOCK = ".vae_correct.lock"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("tiny") / "WORK")


@pytest.fixture
def project(tiny, tmp_path):
    return Path(shutil.copytree(tiny, tmp_path / "WORK"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported_before_anything_is_read(project, capsys):
    before = tree(project.parent)
    for stack in (project / "inputs" / "ifgramStack.h5", project / "none.h5"):
        assert "finds no CUDA GPU" in refused([stack, "--device", "cuda"], capsys)
    assert tree(project.parent) == before


def test_the_current_directory_is_not_replaced(project, capsys, monkeypatch):
    work = project.with_name("WORK_vae")
    work.mkdir()
    (work / RESULT).write_text("{}")
    monkeypatch.chdir(work)
    before = tree(project.parent)
    assert "is the current directory" in refused(["../WORK/inputs/ifgramStack.h5"], capsys)
    assert tree(project.parent) == before


@pytest.mark.parametrize("arguments, code", [(["none.h5"], 1), ([], 2), (["WORK/inputs/geometryGeo.h5"], 1)])
def test_the_command_itself_ends_with_one_line(project, arguments, code):
    done = shell(["vae_correct.py", *arguments], cwd=project.parent)
    assert done.returncode == code and "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("ERROR: ") and done.stderr.count("\n") == 1
    assert os.listdir(project.parent) == ["WORK"]


def test_what_nobody_foresaw_is_one_line_too(project, capsys, monkeypatch):
    from mintpy_vae.workflow import job

    def fail(*args, **kwargs):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(job, "open_stack", fail)
    with pytest.raises(SystemExit) as stop:
        main([str(project / "inputs" / "ifgramStack.h5")])
    assert stop.value.code.startswith("ERROR: ZeroDivisionError: first line second line (")
    assert os.listdir(project.parent) == ["WORK"]
    with pytest.raises(ZeroDivisionError):
        main([str(project / "inputs" / "ifgramStack.h5"), "--debug"])


# ------------------------------------------------------------------------------------------------------ options at work
def test_without_inversion_and_with_update(simulated, capsys):
    stack, template, work = simulated
    arguments = [str(stack), "-t", str(template), "--no-invert"]
    main(arguments)
    printed = capsys.readouterr().out
    assert "loss" in printed and "time used" in printed and f"--dir {work} --start velocity" in printed
    assert not (work / "timeseries.h5").exists() and "Nothing changed" not in printed
    assert json.loads((work / RESULT).read_text())["mintpy"] == "not run"
    main([*arguments, "--update"])
    again = capsys.readouterr().out
    assert "Nothing changed since the last run" in again and f"--dir {work} --start velocity" in again


# ------------------------------------------------------------------------------------------------------- cut off, twice
PAUSED = """
import os, sys, time
from pathlib import Path
import mintpy_vae.workflow.correction as workflow
from mintpy_vae.cli import vae_correct

def pause(function=None):
    def paused(*args, **kwargs):
        print("\\nPAUSED", flush=True)
        time.sleep(100)
    return paused

replace = os.replace
def exchange(source, target):
    if Path(source).name == "WORK_vae.part":
        pause()()
    replace(source, target)

moment = sys.argv[1]
if moment == "start":
    workflow.fill_work_dir = pause()
elif moment == "training":
    vae_correct.Bars.__call__ = pause()
elif moment == "writing":
    workflow.write_delay_file = pause()
elif moment == "exchange":
    os.replace = exchange
elif moment == "mintpy":
    workflow.run_to_reference_date = pause()
vae_correct.main(sys.argv[2:])
"""


def paused_at(moment, stack, template):
    """The command in a process of its own, waiting at some moment of its work."""
    command = [sys.executable, "-c", PAUSED, moment, str(stack), "-t", str(template)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("PAUSED"):
            return process
    raise AssertionError(process.communicate()[1])


def complete(work):
    """A stack with the mark of completeness and a result that speaks of it."""
    with h5py.File(work / "inputs" / "ifgramStack.h5") as f:
        marks = dict(f["unwrapPhase"].attrs)
    content = json.loads((work / RESULT).read_text())
    return marks.get(COMPLETE) == "yes" and content["status"] == marks["vae.status"] == "corrected"


@pytest.mark.parametrize("moment", ["start", "training", "writing", "exchange", "mintpy"])
def test_killed(simulated, remembered, moment):
    """The input is as it was; the work directory is absent or whole; the next run clears up and ends right."""
    stack, template, work = simulated
    before = tree(stack.parents[1])
    process = paused_at(moment, stack, template)
    with pytest.raises(InputError, match=r"Another vae_correct.py is writing .*WORK_vae"):
        correct(stack, template_file=template, invert=False)
    assert sorted(os.listdir(work.parent)) == sorted(["WORK", "WORK_vae" if moment == "mintpy" else "WORK_vae.part"])
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert tree(stack.parents[1]) == before
    assert complete(work) if moment == "mintpy" else not work.exists()
    assert not correct(stack, template_file=template, invert=False, update=True).skipped
    assert complete(work) and sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"]
    assert not [name for name in os.listdir(work) if name.startswith(".")]
    assert tree(stack.parents[1]) == before


@pytest.mark.parametrize("moment", ["writing", "exchange"])
def test_killed_while_an_earlier_result_is_replaced(simulated, remembered, moment):
    stack, template, work = simulated
    correct(stack, template_file=template, invert=False)
    before = tree(work)
    process = paused_at(moment, stack, template)
    process.kill()
    process.communicate()
    assert work.exists() == (moment == "writing")
    assert correct(stack, template_file=template, invert=False, update=True).skipped  # the earlier one is back
    assert tree(work) == before and sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"]


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("training", signal.SIGINT),
        ("writing", signal.SIGTERM),
        ("mintpy", signal.SIGINT),
        pytest.param("training", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("writing", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("mintpy", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted(simulated, moment, number):
    stack, template, work = simulated
    before = tree(stack.parents[1])
    process = paused_at(moment, stack, template)
    process.send_signal(number)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == 1 and printed.startswith("Interrupted.") and printed.count("\n") == 1, printed
    assert tree(stack.parents[1]) == before
    part = work.with_name("WORK_vae.part")
    if moment == "training":
        assert os.listdir(work.parent) == ["WORK"] and "starts again" in printed
    elif moment == "writing":
        assert sorted(os.listdir(work.parent)) == ["WORK", part.name] and sorted(os.listdir(part)) == [LOCK, NETWORKS]
        assert f"the trained networks are kept in {part}" in printed
    else:
        assert sorted(os.listdir(work.parent)) == ["WORK", work.name] and complete(work)
        assert not (work / LOCK).exists() and f"the trained networks are kept in {work}" in printed


LOST = """
import os, sys, time, weakref
from mintpy_vae.cli.process import one_sentence

def callback():
    class Thing: pass
    thing = Thing()
    kept = weakref.ref(thing, lambda _: (os.kill(os.getpid(), int(sys.argv[1])), time.sleep(0.01)))
    del thing

def bare():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(1)
    except:
        raise FileNotFoundError(2, "No such file", "another")

with one_sentence(False):
    callback() if sys.argv[2] == "callback" else bare()
    time.sleep(10)
    print("went on")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["callback", "bare"])
def test_an_interruption_is_not_lost_in_other_people_s_code(place, number):
    """Python drops what a callback raises, and MintPy's bare excepts make other errors of it."""
    done = shell([sys.executable, "-c", LOST, str(int(number)), place])
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("Interrupted.")
