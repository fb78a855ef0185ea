"""Whatever it is given, the command says in one sentence what is wrong, and leaves everything as it was."""

import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from conftest import shell, tree
from hostile import BAD, STACK
from mintpy_vae.cli.vae_correct import main
from mintpy_vae.stack import open_stack, pool_pairs
from tiny import make_project


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("tiny") / "WORK", n_dates=11)


@pytest.fixture
def project(tiny, tmp_path):
    return Path(shutil.copytree(tiny, tmp_path / "WORK"))


def everything(place):
    """What is there, pipes and links too."""
    return tree(place), sorted((str(p), p.is_symlink() and os.readlink(p)) for p in place.rglob("*"))


def refused(arguments, capsys, code=1):
    """Run the command; return its only line on stderr, an error."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert signal.getsignal(signal.SIGTERM) is handler
    printed = capsys.readouterr()
    if code == 2:  # argparse
        assert stop.value.code == 2 and "error:" in printed.err
        return printed.err
    assert isinstance(stop.value.code, str), stop.value.code  # which Python prints on stderr, with exit code 1
    assert printed.err == "" and "Traceback" not in printed.out
    return stop.value.code


def one_sentence(text):
    return text.startswith("ERROR: ") and text[-1] in ".?" and "\n" not in text and "--debug" not in text


# ------------------------------------------------------------------------------------------------------------- refused
def test_the_table_is_long_enough():
    assert len(BAD) >= 60 and len({id(spoil) for spoil, *_ in BAD.values() if spoil}) >= 60


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_refused_in_one_sentence_and_nothing_is_left(project, capsys, monkeypatch, case):
    spoil, arguments, expected = BAD[case]
    if spoil:
        spoil(project)
    monkeypatch.chdir(project.parent)
    before = everything(project.parent)
    arguments = [project / STACK, *(a.replace("{}", str(project.parent)) for a in arguments)]
    text = refused(arguments, capsys, 2 if expected == 2 else 1)
    assert everything(project.parent) == before
    if expected != 2:
        assert one_sentence(text) and re.search(expected, text), text
        assert len(text.replace(str(project.parent), "")) < 400


PROCESSES = ["stack: cut at 30.0%", "stack: second half lost", "template a stack", "GNSS table with a book"]


@pytest.mark.parametrize("case", PROCESSES)
def test_the_process_ends_with_the_same_sentence(project, case):
    spoil, arguments, expected = BAD[case]
    if spoil:
        spoil(project)
    before = everything(project.parent)
    arguments = [a.replace("{}", str(project.parent)) for a in arguments]
    done = shell(["vae_correct.py", project / STACK, *arguments])
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert one_sentence(done.stderr.rstrip("\n")) and re.search(expected, done.stderr), done.stderr
    assert everything(project.parent) == before


def test_random_bytes_in_the_stack(project, capsys):
    """Wherever a file is damaged: it is refused, or what is read is only other values."""
    rng = np.random.default_rng(5)
    stack = project / STACK
    whole = stack.read_bytes()
    headers = 4096  # where a byte says the most
    refusals = 0
    for k in range(150):
        spoilt = bytearray(whole)
        for place in rng.integers(0, headers if k % 2 else len(whole), size=8):
            spoilt[place] = rng.integers(256)
        stack.write_bytes(spoilt)
        try:
            opened = open_stack(stack)
            pool_pairs(opened, 3, 1.0)
        except Exception as error:
            refusals += 1
            assert type(error).__name__ == "InputError" and "\n" not in str(error), repr(error)
    assert refusals > 20
