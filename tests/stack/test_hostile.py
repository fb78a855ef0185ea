"""Whatever it is given, the command says in one sentence what is wrong, and leaves everything as it was."""

import os
import re
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile import BAD, GEOMETRY, STACK, attribute, dataset, edit

from conftest import make_simulated, one_sentence, refused, shell, tree
from mintpy_vae.errors import InputError
from mintpy_vae.stack import content_hash, open_stack, pool_pairs, write_corrected_stack
from tiny import delays, make_project


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("tiny") / "WORK", n_dates=11)


@pytest.fixture
def project(tiny, tmp_path):
    return Path(shutil.copytree(tiny, tmp_path / "WORK"))


def everything(place):
    """What is there, pipes and links too."""
    return tree(place), sorted((str(p), p.is_symlink() and os.readlink(p)) for p in place.rglob("*"))


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


PROCESSES = ["stack: second half lost", "template a stack"]


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


@pytest.mark.parametrize("file", [STACK, GEOMETRY])
def test_lost_sectors(project, file):
    """Wherever a disk has lost a piece of a file: it is refused, or what is read is only other values."""
    rng, whole, refusals = np.random.default_rng(5), (project / file).read_bytes(), 0
    for size in 30 * [512] + 15 * [4096]:
        start = size * int(rng.integers(len(whole) // size))
        (project / file).write_bytes(whole[:start] + bytes(size) + whole[start + size :])
        try:
            pool_pairs(open_stack(project / STACK), 3, 1.0)
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 1


# --------------------------------------------------------------------------------------------------------------- legal
def as_text(f):
    pairs = [[date.decode() for date in pair] for pair in f["date"][:]]
    del f["date"]
    f.create_dataset("date", data=pairs, dtype=h5py.string_dtype())


def some(value):
    """`value` in every seventh pixel."""

    def change(a):
        a = a.astype(np.float32)
        a.reshape(-1)[3::7] = value
        return a

    return change


LEGAL = {
    "phase of double precision": dataset(unwrapPhase=lambda a: a.astype(float)),
    "phase of the other byte order": dataset(unwrapPhase=lambda a: a.astype(">f4")),
    "dates as text of any length": edit(as_text),
    "size as whole numbers": attribute(LENGTH=30, WIDTH=40),
    "NaN in the coherence": dataset(coherence=some(np.nan)),
    "infinity in the coherence": dataset(coherence=some(np.inf)),
    "coherence beyond 1": dataset(coherence=some(1e30)),
    "infinity in the height": dataset(GEOMETRY, height=some(np.inf)),
    "a huge attribute": attribute(note="x" * 60_000),
    "many attributes": edit(lambda f: f.attrs.update({f"k{i}": "y" * 1000 for i in range(300)})),
    "an attribute without value": attribute(note=h5py.Empty("f4")),
    "an attribute that is a reference": edit(lambda f: f.attrs.update(r=f["date"].ref)),
    "a link to nothing beside": edit(lambda f: f.update({"x": h5py.SoftLink("/none")})),
    "links in a circle beside": edit(lambda f: f.update({"x": h5py.SoftLink("/y"), "y": h5py.SoftLink("/x")})),
    "a link to a lost file beside": edit(lambda f: f.update({"x": h5py.ExternalLink("gone.h5", "/x")})),
    "a dataset without value beside": edit(lambda f: f.update({"x": h5py.Empty("f4")})),
    "a group beside": edit(lambda f: f.create_group("x").create_dataset("y", data=3)),
    "other datasets beside": edit(lambda f: f.update({"x": 3, "y": np.zeros((2, 2, 2, 2)), "z": "text"})),
}


@pytest.mark.parametrize("case", LEGAL)
def test_what_is_only_unusual_works(project, tmp_path, case):
    LEGAL[case](project)
    before, out = tree(project), tmp_path / "out.h5"
    stack = open_stack(project / STACK)
    assert content_hash(stack.file) == content_hash(stack.file)
    phase, weight = pool_pairs(stack, 2, 1.0)
    assert np.isfinite(phase).all() and np.isfinite(weight).all() and (weight > 0).mean() > 0.5
    delay = delays(len(stack.dates), stack.shape)
    write_corrected_stack(stack, out, lambda rows: delay[:, rows], {}, 1.0)
    with h5py.File(stack.file) as a, h5py.File(out) as b:
        old, new = a["unwrapPhase"][:], b["unwrapPhase"][:]
        assert (a["date"][:] == b["date"][:]).all() and set(a.attrs) < set(b.attrs)
    first, second = stack.pairs.T
    valid = np.isfinite(old) & (old != 0)
    np.testing.assert_allclose((old - new)[valid], (delay[second] - delay[first])[valid], atol=1e-5)
    assert tree(project) == before


def test_paths_and_templates_that_are_only_unusual_work(tmp_path):
    """Blanks, letters of all languages, characters of the shell, links; with MintPy's steps, as real processes."""
    odd = tmp_path / "a b" / "Köln 東京 $(touch owned) ; 'x' & \"y\""
    template = make_simulated(odd / "WÖRK", n_dates=10, size=(24, 24))
    template = template.rename(template.with_name("my $HOME; téhran.txt"))
    with open(template, "a") as f:
        f.write("mintpy.topographicResidual = no\n# $(touch owned) `touch owned`\n\n = \nno sign\n")
    (tmp_path / "link").symlink_to(odd / "WÖRK" / "inputs")
    (odd / "WÖRK" / "inputs").rename(odd / "elsewhere")
    (odd / "WÖRK" / "inputs").symlink_to(odd / "elsewhere")
    before = everything(odd)
    done = shell(["vae_correct.py", "WÖRK/inputs/ifgramStack.h5", "-t", template], cwd=odd)
    assert done.returncode == 0, done.stderr
    command = shlex.split(re.search(r"^Next:\n +(.*)$", done.stdout, re.MULTILINE)[1])
    assert shell([*command, "--end", "velocity"]).returncode == 0
    assert (odd / "WÖRK_vae" / "velocity.h5").is_file() and sorted(os.listdir(tmp_path)) == ["a b", "link"]
    shutil.rmtree(odd / "WÖRK_vae")
    assert everything(odd) == before
