"""The step by name: MintPy's workflow with ``correct_vae`` in it; and the step by two lines of the template."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import mintpy.cli.smallbaselineApp
import numpy as np
import pytest
from mintpy.utils import readfile

from conftest import QUICK, make_simulated, read, shell, tree
from mintpy_vae import Settings, report
from mintpy_vae.cli import vae_correct
from mintpy_vae.cli.vae_smallbaselineApp import cmd_line_parse, create_parser, main
from mintpy_vae.project.steps import STEPS
from mintpy_vae.report import REPORT
from mintpy_vae.results.result import RESULT
from mintpy_vae.stack import COMPLETE, content_hash, file_hash
from mintpy_vae.workflow import smallbaseline
from mintpy_vae.workflow.delay import TEMPLATE_LINES
from tiny import make_project

APP = "mintpy_vae.cli.vae_smallbaselineApp"
MINTPY_STEPS = list(mintpy.cli.smallbaselineApp.STEP_LIST)


@pytest.fixture
def counted(remembered, monkeypatch):
    """How often the sources are separated anew."""
    from mintpy_vae.workflow import learning

    calls, separate = [], learning.separate
    monkeypatch.setattr(learning, "separate", lambda *a, **k: (calls.append(1), separate(*a, **k))[1])
    return calls


def failed(arguments, capsys):
    cwd = os.getcwd()
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert os.getcwd() == cwd and isinstance(stop.value.code, str)
    assert stop.value.code.startswith("ERROR: ") and "\n" not in stop.value.code
    capsys.readouterr()
    return stop.value.code


# --------------------------------------------------------------------------------------------------------- command line
def test_the_step_stands_where_it_belongs():
    assert STEPS.index("correct_vae") == STEPS.index("correct_unwrap_error") + 1 == STEPS.index("invert_network") - 1
    assert [s for s in STEPS if s != "correct_vae"] == MINTPY_STEPS


def test_help_lists_the_step_and_all_options_of_mintpy():
    ours, mintpy_s = create_parser(), mintpy.cli.smallbaselineApp.create_parser()
    assert "'correct_vae'" in ours.format_help()
    wanted = {o for action in mintpy_s._actions for o in action.option_strings or [action.dest]}
    assert wanted <= {o for action in ours._actions for o in action.option_strings or [action.dest]}


@pytest.mark.parametrize(
    "arguments, steps",
    [
        ([], STEPS),
        (["--dostep", "correct_vae"], ["correct_vae"]),
        (["--start", "correct_vae"], STEPS[STEPS.index("correct_vae") :]),
        (["--end", "correct_vae"], STEPS[: STEPS.index("invert_network")]),
        (["--start", "correct_unwrap_error", "--stop", "invert_network"], STEPS[4:7]),
        (["--plot"], []),
        (["-g"], []),
    ],
)
def test_steps_are_chosen_as_in_mintpy(tmp_path, monkeypatch, arguments, steps):
    (tmp_path / "smallbaselineApp.cfg").write_text("")
    monkeypatch.chdir(tmp_path)
    assert cmd_line_parse(arguments).runSteps == steps


def test_mintpy_itself_stays_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "smallbaselineApp.cfg").write_text("")
    monkeypatch.chdir(tmp_path)
    cmd_line_parse(["--dostep", "correct_vae"])
    assert MINTPY_STEPS == mintpy.cli.smallbaselineApp.STEP_LIST
    with pytest.raises(ValueError, match="Input step not found: correct_vae"):
        mintpy.cli.smallbaselineApp.cmd_line_parse(["--dostep", "correct_vae"])


def test_the_template_that_is_printed_has_the_section_in_its_place(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["-H"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    (tmp_path / "whole.cfg").write_text(text)
    options = readfile.read_template(str(tmp_path / "whole.cfg"))
    default = Path(mintpy.__file__).with_name("defaults") / "smallbaselineApp.cfg"
    assert {k: v for k, v in options.items() if k.startswith("mintpy.")} == readfile.read_template(str(default))
    assert {k for k in options if k.startswith("vae.")} == set(Settings().as_dict())
    order = [text.index(f"########## {name}") for name in ("4. correct_unwrap", "correct_vae", "5. invert_network")]
    assert order == sorted(order)


def test_the_template_that_is_generated_has_the_section_and_keeps_what_is_set(tmp_path, capsys):
    custom = tmp_path / "mine.txt"
    custom.write_text("vae.seed = 7\nmintpy.deramp = linear\n")
    for _ in range(2):
        main(["-g", str(custom), "--dir", str(tmp_path)])
        options = readfile.read_template(str(tmp_path / "smallbaselineApp.cfg"))
        assert options["vae.seed"] == "7" and options["vae.trainSteps"] == "auto"
        assert options["mintpy.deramp"] == "linear"
        custom.write_text("")  # as with MintPy's own options, the default template remembers
    text = (tmp_path / "smallbaselineApp.cfg").read_text()
    assert text.count("########## correct_vae") == 1
    (tmp_path / "smallbaselineApp.cfg").write_text(re.sub(r"(?m)^vae\.minPair.*\n", "", text))  # of an older version
    main(["-g", "--dir", str(tmp_path)])
    assert (tmp_path / "smallbaselineApp.cfg").read_text() == text


@pytest.mark.parametrize(
    "arguments, text, expected",
    [
        (["none.txt"], "", "none.txt does not exist"),
        (["my.txt", "--dostep", "correct_ave"], "", "Input step not found: correct_ave"),
        (["my.txt", "--start", "velocity", "--end", "correct_vae"], "", "CAN NOT be after"),
        (["my.txt"], "vae.sead = 3", "unknown; did you mean vae.seed"),
        (["my.txt"], "VAE.Seed = 3", "unknown; did you mean vae.seed"),
        (["my.txt"], "vae.trainSteps = many", "a whole number is needed"),
        (["my.txt", "--start", "velocity"], "", "no corrected stack in .*WORK_vae yet; run the step correct_vae"),
        (["my.txt", "--dostep", "correct_vae"], "", "ifgramStack.h5 does not exist"),
        (["my.txt", "--dostep", "modify_network"], "", r"MintPy failed in .*WORK \(step modify_network\)"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, capsys, monkeypatch, arguments, text, expected):
    (tmp_path / "WORK").mkdir()
    (tmp_path / "WORK" / "my.txt").write_text(text + "\n")
    monkeypatch.chdir(tmp_path / "WORK")
    assert re.search(expected, failed(arguments, capsys))
    assert os.listdir(tmp_path) == ["WORK"]
    assert text == "" or os.listdir(tmp_path / "WORK") == ["my.txt"]  # bad options are refused before MintPy begins


# ------------------------------------------------------------------------------------------------------------- the step
@pytest.mark.parametrize("coord", ["mapped", pytest.param("radar", marks=pytest.mark.slow)])
def test_the_step_gives_what_the_two_commands_give(coord, request, tmp_path):
    run = request.getfixturevalue(coord)
    project = Path(shutil.copytree(run.project, tmp_path / "WORK"))
    stack = file_hash(project / "inputs" / "ifgramStack.h5")
    end = "hdfeos5" if coord == "mapped" else "reference_date"
    done = shell([sys.executable, "-m", APP, run.template.name, "--start", "correct_vae", "--end", end], cwd=project)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "step - correct_vae" in done.stdout and "cluster  label" in done.stdout and "Normal end" in done.stdout
    assert file_hash(project / "inputs" / "ifgramStack.h5") == stack and not (project / "timeseries.h5").exists()
    products = {"timeseries.h5": "timeseries", "velocity.h5": "velocity"}
    for name, dataset in list(products.items())[: 2 if coord == "mapped" else 1]:
        assert np.array_equal(read(tmp_path / "WORK_vae" / name, dataset), read(run.work / name, dataset))


def test_from_the_first_step_and_again_in_update_mode(tmp_path, capsys, counted):
    """The second run skips; an option of MintPy is no reason to separate again, one of ours or a dropped pair is."""
    template = make_simulated(tmp_path / "WORK")
    stack, work = tmp_path / "WORK" / "inputs" / "ifgramStack.h5", tmp_path / "WORK_vae"

    def run(*arguments):
        before = len(counted)
        main([str(template), "--dir", str(template.parent), *arguments])
        return len(counted) - before, capsys.readouterr().out

    def add(text):
        template.write_text(template.read_text() + text + "\n")

    separated, printed = run("--end", "velocity")
    assert separated == 1 and printed.count("******************** step - ") == len(STEPS) - 3
    assert "MintPy has not inverted the stack yet" not in (work / REPORT).read_text(encoding="utf8")
    written = (work / "timeseries.h5").stat().st_mtime_ns
    separated, printed = run("--end", "velocity")
    assert separated == 0 and "Nothing changed since the last run" in printed
    assert (work / "timeseries.h5").stat().st_mtime_ns == written
    add("mintpy.deramp = linear")
    assert run("--end", "velocity")[0] == 0
    assert readfile.read_template(str(work / "smallbaselineApp.cfg"))["mintpy.deramp"] == "linear"
    assert (work / "timeseries_ramp_demErr.h5").is_file() and (work / "timeseries.h5").stat().st_mtime_ns == written
    add("mintpy.troposphericDelay.method = pyaps")  # done already: never a second time
    run("--dostep", "correct_troposphere")
    assert readfile.read_template(str(work / template.name))["mintpy.troposphericDelay.method"] == "no"
    assert not list(work.glob("timeseries_ERA5*"))
    add("vae.seed = 5")
    assert run("--dostep", "correct_vae")[0] == 1
    assert run("--dostep", "correct_vae")[0] == 0
    add("mintpy.network.excludeIfgIndex = 3")
    assert run("--start", "modify_network", "--end", "correct_vae")[0] == 1
    assert not read(work / "inputs" / "ifgramStack.h5", "dropIfgram")[3]
    add("mintpy.reference.yx = 20,30")
    assert run("--start", "reference_point", "--end", "correct_vae")[0] == 1
    os.utime(stack)  # newer, but with the same contents
    assert run("--dostep", "correct_vae")[0] == 0
    with h5py.File(stack, "r+") as f:
        f["unwrapPhase"][0, 5, 5] += 0.5
    assert run("--dostep", "correct_vae")[0] == 1
    assert json.loads((work / RESULT).read_text())["settings"]["vae.seed"] == 5


def test_the_step_writes_the_report_and_a_report_that_fails_stops_nothing(simulated, remembered, capsys, monkeypatch):
    stack, template, work = simulated
    main([str(template), "--dir", str(stack.parents[1]), "--dostep", "correct_vae"])
    assert "MintPy has not inverted the stack yet" in (work / REPORT).read_text(encoding="utf8")
    assert f"report: {work / REPORT}" in capsys.readouterr().out

    def broken(work):
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "write_report", broken)
    main([str(template), "--dir", str(stack.parents[1]), "--dostep", "invert_network"])
    printed = capsys.readouterr().out
    assert "WARNING: The report could not be written (RuntimeError: no ink)" in printed and "time used" in printed
    assert (work / "timeseries.h5").is_file()


def test_an_overview_that_fails_stops_nothing(tmp_path, capsys):
    """MintPy's quick_overview crashes on a stack without unwrapping errors."""
    make_project(tmp_path / "WORK")
    (tmp_path / "WORK" / "t.txt").write_text("mintpy.reference.yx = 3,5\n")
    main([str(tmp_path / "WORK" / "t.txt"), "--dir", str(tmp_path / "WORK"), "--end", "correct_unwrap_error"])
    printed = capsys.readouterr().out
    assert "WARNING: MintPy failed" in printed and "step - correct_unwrap_error" in printed


@pytest.mark.parametrize("custom", [True, False])
def test_a_stack_without_reference_point_gets_one_in_the_corrected_directory(tmp_path, remembered, custom):
    """With a template of one's own, and with smallbaselineApp.cfg alone."""
    template = make_simulated(tmp_path / "WORK", reference=False)
    template.write_text(template.read_text().replace("mintpy.reference.yx", "#mintpy.reference.yx"))
    if not custom:
        template.rename(template.with_name("smallbaselineApp.cfg"))
    smallbaseline.run(str(template) if custom else None, str(template.parent), ["correct_vae", "invert_network"])
    with h5py.File(tmp_path / "WORK_vae" / "timeseries.h5") as f:
        assert "REF_Y" in f.attrs
    assert (tmp_path / "WORK_vae" / template.name).exists() == custom
    options = readfile.read_template(str(tmp_path / "WORK_vae" / "smallbaselineApp.cfg"))
    assert options["mintpy.troposphericDelay.method"] == "no" and options["vae.trainSteps"] == "10"


# --------------------------------------------------------------------------------------------------- the step in a file
@pytest.fixture(scope="module")
def delayed(mapped, tmp_path_factory):
    """The project after ``--delay-file`` and the plain ``smallbaselineApp.py`` with the two lines."""
    project = Path(shutil.copytree(mapped.project, tmp_path_factory.mktemp("delayed") / "WORK"))
    before = tree(project)
    template = project / mapped.template.name
    done = shell(["vae_correct.py", "inputs/ifgramStack.h5", "-t", template.name, "--delay-file"], cwd=project)
    assert done.returncode == 0, done.stderr[-2000:]
    assert os.listdir(project.parent) == ["WORK"]
    assert {k: v for k, v in tree(project).items() if k != "inputs/VAE.h5"} == before
    assert TEMPLATE_LINES in done.stdout and f"--dir {project} --start modify_network" in done.stdout
    template.write_text(template.read_text().replace("mintpy.troposphericDelay", "#") + TEMPLATE_LINES)
    done = shell(["smallbaselineApp.py", template.name, "--start", "reference_point", "--end", "velocity"], cwd=project)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return project


def _equals_the_reference(stack_file):
    """Pixels whose phase in some pair is by chance that of the reference pixel: MintPy takes it for missing there."""
    with h5py.File(stack_file) as f:
        phase, (y, x) = f["unwrapPhase"][:], (int(f.attrs[key]) for key in ("REF_Y", "REF_X"))
    equal = ((phase == phase[:, y, x][:, None, None]) & (phase != 0)).any(axis=0)
    equal[y, x] = False
    assert equal.sum() <= 3
    return equal


def test_the_delay_file_gives_what_the_corrected_stack_gives(mapped, delayed):
    """Within 1e-6 m at every date, and the velocity after all later steps too."""
    a = read(delayed / "timeseries_VAE.h5", "timeseries").astype(float)
    b = read(mapped.work / "timeseries.h5", "timeseries").astype(float)
    data = np.any(b != 0, axis=0) & ~_equals_the_reference(mapped.work / "inputs" / "ifgramStack.h5")
    assert data.mean() > 0.7 and np.abs(b[:, data]).max() > 0.01
    np.testing.assert_allclose((a - a[:1])[:, data], (b - b[:1])[:, data], rtol=0, atol=1e-6)
    moved = np.abs(a - read(delayed / "timeseries.h5", "timeseries"))
    assert moved[:, data].max() > 1e-3, "MintPy must have subtracted something"
    a, b = read(delayed / "velocity.h5", "velocity"), read(mapped.work / "velocity.h5", "velocity")
    np.testing.assert_allclose(a[data], b[data], rtol=0, atol=1e-6)


def test_the_delay_file_says_what_it_was_made_of(mapped, delayed):
    with h5py.File(delayed / "inputs" / "VAE.h5") as f:
        marks = dict(f["timeseries"].attrs)
    assert marks["vae.stack_sha256"] == content_hash(mapped.stack) and marks[COMPLETE] == "yes"
    assert marks["vae.trainSteps"] == "10" and marks["vae.version"]


def test_update_and_refusal_of_the_delay_file(simulated, counted, capsys):
    stack, template, work = simulated
    file, before = stack.with_name("VAE.h5"), tree(stack.parents[1])
    arguments = [str(stack), "-t", str(template), "--delay-file", "--update"]
    vae_correct.main(arguments)
    written, said = file.stat().st_mtime_ns, capsys.readouterr()
    vae_correct.main(arguments)
    assert len(counted) == 1 and file.stat().st_mtime_ns == written
    again = capsys.readouterr()
    assert "Nothing changed since the last run" in again.out
    assert [x for x in again.out.splitlines() if "WARNING" in x] == [x for x in said.out.splitlines() if "WARNING" in x]
    told = [out.partition("Add to")[2].partition("time used")[0] for out in (said.out, again.out)]
    assert "WARNING" in said.out and "mintpy.troposphericDelay" in told[0] == told[1]
    vae_correct.main([*arguments, "--seed", "4"])
    assert len(counted) == 2
    capsys.readouterr()
    # too little data: no file, or MintPy would go on with the old one
    template.write_text(template.read_text() + "vae.minPair = 500\n")
    vae_correct.main(arguments)
    printed = capsys.readouterr().out
    assert "UNCORRECTED, because" in printed and "Next:" not in printed and not file.exists()
    template.write_text(template.read_text().replace("vae.minPair = 500\n", ""))
    assert tree(stack.parents[1]) == before and not work.exists()
    for foreign in ("not HDF5", None):
        file.write_text(foreign) if foreign else shutil.copy(stack, file)
        content = file_hash(file)
        with pytest.raises(SystemExit, match="was not written by vae_correct.py"):
            vae_correct.main(arguments)
        assert file_hash(file) == content
    with pytest.raises(SystemExit):
        vae_correct.main([*arguments, "-o", "elsewhere"])
    assert "cannot be combined with --outdir" in capsys.readouterr().err


def test_a_delay_file_that_is_cut_off_leaves_the_old_one(simulated, remembered, monkeypatch):
    from mintpy_vae.workflow import delay

    stack, template, _ = simulated
    delay.write_delay(stack, template_file=template)
    before = tree(stack.parents[1])

    def fail(rows):
        raise KeyboardInterrupt

    learn = delay.learn
    monkeypatch.setattr(delay, "learn", lambda *a: replace(learn(*a), atmosphere=fail))
    with pytest.raises(KeyboardInterrupt):
        delay.write_delay(stack, template_file=template)
    assert tree(stack.parents[1]) == before


def test_the_stack_must_lie_where_mintpy_looks(tmp_path):
    project = make_project(tmp_path / "WORK")
    (project / "inputs").rename(project / "elsewhere")
    with pytest.raises(SystemExit, match="is not in a directory named inputs"):
        vae_correct.main([str(project / "elsewhere" / "ifgramStack.h5"), "--delay-file"])
    assert QUICK and sorted(os.listdir(project / "elsewhere")) == ["geometryGeo.h5", "ifgramStack.h5"]
