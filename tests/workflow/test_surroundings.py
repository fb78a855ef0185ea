"""Where commands run: in threads, notebooks and workers, on poor terminals or none, in directories that are gone."""

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import shell, tree
from mintpy_vae.cli import vae_correct, vae_evaluate, vae_simulate, vae_smallbaselineApp
from mintpy_vae.errors import InputError
from mintpy_vae.project.steps import at_work
from mintpy_vae.stack import COMPLETE
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.delay import write_delay
from mintpy_vae.workflow.job import corrected_dir
from mintpy_vae.workflow.smallbaseline import VaeTimeSeriesAnalysis

BAD = {  # of each command, and what it says
    vae_correct: (["none.h5"], "does not exist"),
    vae_evaluate: (["none"], "contains no result"),
    vae_simulate: ([os.path.dirname(__file__)], "is not empty"),
    vae_smallbaselineApp: (["none.txt"], "does not exist"),
}


def end_of(main, arguments):
    """What a command ends with."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return str(stop.code)
    return "done"


def in_a_thread(*call):
    ended = []
    thread = threading.Thread(target=lambda: ended.append(end_of(*call)))
    thread.start()
    thread.join()
    return ended[0]


def in_a_notebook(*call):
    """The main thread, with an event loop that runs."""

    async def cell():
        return end_of(*call)

    return asyncio.run(cell())


def in_a_dask_worker(*call):
    from dask.distributed import Client

    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        return client.submit(end_of, *call).result()


HOSTS = [in_a_thread, in_a_notebook, in_a_dask_worker]


class OutStream(io.TextIOBase):
    """Standard output of a notebook: no file, no buffer, nothing to be configured."""

    encoding = "UTF-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)


def handlers():
    return [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("host", HOSTS)
def test_each_command_ends_with_its_sentence_wherever_it_is_called(host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = handlers()
    for command, (arguments, said) in BAD.items():
        ended = host(command.main, arguments)
        assert said in ended and "--debug" not in ended, ended
    assert handlers() == before and os.listdir(tmp_path) == []


@pytest.mark.parametrize("host", [in_a_thread, in_a_notebook])
def test_the_work_is_done_wherever_it_is_called(host, simulated, remembered, monkeypatch):
    stack, template, _ = simulated
    monkeypatch.setattr(sys, "stdout", OutStream())
    before = handlers()
    assert host(vae_correct.main, [stack, "-t", template, "--delay-file"]) == "done"
    assert handlers() == before and whole(stack.with_name("VAE.h5"))
    assert f"--dir {stack.parents[1]} --start" in sys.stdout.text and "loss" in sys.stdout.text


def test_mintpy_is_at_work_in_one_directory_at_a_time(tmp_path):
    """The current directory is of the whole process: two threads must not write into each other's."""
    seen = []

    def work(name):
        (tmp_path / name).mkdir()
        for _ in range(50):
            with at_work("a step", str(tmp_path / name)):
                seen.append(Path.cwd().name == name)
                Path("file").write_text(name)
                seen.append(Path("file").read_text() == name)

    here = os.getcwd()
    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200 and all(seen) and os.getcwd() == here


# ------------------------------------------------------------------------------------------------------------ terminals
def whole(file):
    with h5py.File(file) as f:
        return f["timeseries"].attrs[COMPLETE] == "yes" and bool(np.isfinite(f["timeseries"][:]).all())


class Broken(io.StringIO):
    """A pipe whose reader has left, a disk that is full."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


TERMINALS = {
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "Latin-1": lambda: io.TextIOWrapper(io.BytesIO(), encoding="latin-1"),
    "GBK": lambda: io.TextIOWrapper(io.BytesIO(), encoding="gbk"),
    "none": lambda: None,
    "broken": Broken,
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_what_a_terminal_lacks_costs_nobody_the_result(simulated, remembered, monkeypatch, terminal):
    stack, _, _ = simulated
    project = stack.parents[1].rename(stack.parents[2] / "Wörk проект")
    stream = TERMINALS[terminal]()
    monkeypatch.setattr(sys, "stdout", stream)
    arguments = [project / "inputs" / "ifgramStack.h5", "-t", project / simulated[1].name, "--delay-file"]
    assert end_of(vae_correct.main, arguments) == "done"
    assert sys.stdout is stream and whole(project / "inputs" / "VAE.h5")
    if isinstance(stream, io.TextIOWrapper):
        printed = stream.buffer.getvalue().decode(stream.encoding)
        shown = "Wörk проект".encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        assert f"{shown}' --start" in printed and "loss" in printed


def test_a_name_that_is_no_text_is_printed_with_escapes(tmp_path, capsys):
    """Bytes that are no UTF-8, as older systems and archives leave them."""
    place = tmp_path / os.fsdecode(b"W\xfcRK")
    vae_simulate.main([str(place), "--dates", "10", "--size", "20", "20"])
    assert "W\\udcfcRK/bowl.txt" in capsys.readouterr().out and (place / "truth.h5").is_file()


STREAMS = [">&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full >&2", "| true"]


@pytest.mark.parametrize("redirected", STREAMS)
def test_a_process_without_streams_does_its_work(tmp_path, redirected):
    if "full" in redirected and not Path("/dev/full").exists():
        pytest.skip("there is no device that is always full")
    line = f"(vae_simulate.py new --dates 10 --size 20 20; echo $? > status) {redirected}"
    done = shell(["sh", "-c", line], cwd=tmp_path)
    assert (tmp_path / "status").read_text() == "0\n" and done.stderr == ""
    with h5py.File(tmp_path / "new" / "inputs" / "ifgramStack.h5") as f:
        assert f["unwrapPhase"].shape[1:] == (20, 20)


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Or else what a library prints would go into the result."""
    script = """
import os, sys
from mintpy_vae.cli.process import command
with command(["--quiet"]), open("file", "w") as f:
    os.write(1, b"to standard output")
    os.write(2, b"to standard error")
    sys.exit(f.fileno() < 3)
"""
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script], cwd=tmp_path)
        assert done.returncode == 0 and (tmp_path / "file").read_text() == ""


# ---------------------------------------------------------------------------------------------------------- directories
@pytest.mark.parametrize("command", BAD)
def test_from_a_deleted_directory_nothing_is_begun(tmp_path, command):
    name = command.__name__.rsplit(".", 1)[1]
    script = f"mkdir gone && cd gone && rmdir ../gone && exec {name}.py {BAD[command][0][0]}"
    done = shell(["sh", "-c", script], cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("ERROR: The current directory has been deleted; change to another directory")


def test_a_directory_that_is_deleted_meanwhile_costs_nobody_the_result(simulated, remembered, tmp_path, monkeypatch):
    stack, template, _ = simulated
    fleeting = tmp_path / "fleeting"
    fleeting.mkdir()
    monkeypatch.chdir(fleeting)

    def report(stage, *progress):
        if stage.startswith("writing"):
            shutil.rmtree(fleeting, ignore_errors=True)

    assert write_delay(stack, template_file=template, progress=report).status == "corrected"
    assert whole(stack.with_name("VAE.h5")) and not fleeting.exists()
    for k in range(2):  # one step of MintPy after the other
        with at_work("a step", str(tmp_path)):
            Path(f"step{k}").touch()
    assert (tmp_path / "step1").is_file()


def test_beside_the_root_of_a_file_system_there_is_no_place(simulated, monkeypatch, tmp_path):
    stack, template, _ = simulated
    root, said = Path("/"), "is the root of the file system; choose a directory with -o"
    with pytest.raises(InputError, match=said):
        corrected_dir(root)
    assert said in end_of(vae_evaluate.main, [root])
    app, entries = VaeTimeSeriesAnalysis(None, "/"), os.listdir("/")
    with pytest.raises(InputError, match=said):
        app.open()
    assert os.listdir("/") == entries
    prepare, before = workflow.prepare, tree(tmp_path)
    monkeypatch.setattr(workflow, "prepare", lambda *given, **more: replace(prepare(*given, **more), project=root))
    with pytest.raises(InputError, match=said):
        correct(stack, template_file=template)
    assert tree(tmp_path) == before


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="nothing is known to be mounted")
def test_what_is_mounted_is_not_replaced(simulated):
    with pytest.raises(InputError, match="/proc is the root of a file system and cannot be replaced"):
        correct(simulated[0], template_file=simulated[1], work_dir="/proc")
