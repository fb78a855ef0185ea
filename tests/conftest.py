"""What the tests of the whole job share: simulated projects, and two of them corrected and taken through MintPy."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in the commands that are run

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.stack import file_hash, open_stack
from mintpy_vae.stack.geometry import pixel_size

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job of a shell, whose commands would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

QUICK = "vae.trainSteps = 10\nvae.numSeed = 1\nvae.resolution = 0.75\n"
DROPPED = (2, 9)


LONGEST = ("workflow", "evaluation", "cli", "project")
"""Rooms whose tests run whole commands."""


def pytest_collection_modifyitems(items):
    """Files that take minutes begin first, or one process would be left alone with them at the end."""
    items.sort(key=lambda item: next((k for k, room in enumerate(LONGEST) if room in item.path.parts), len(LONGEST)))


def wide_scene(cells, ratio, settings, knowledge=None):
    """A wide scene on its cells, seen as a whole: narrow motion first, then all the rest on coarse pixels."""
    from mintpy_vae.method.cells import Cells
    from mintpy_vae.method.knowledge import NOTHING
    from mintpy_vae.method.narrow import Narrow
    from mintpy_vae.method.separation import separate
    from mintpy_vae.method.tiles import Wide
    from mintpy_vae.stack.workers import Compute, worked_on

    fine = Cells(cells, knowledge or NOTHING, ratio)
    narrow = Narrow(fine, settings)
    motion = narrow.assembled(worked_on(narrow.work(), narrow.tasks(), Compute()))
    whole = cells.multilooked(ratio)
    found = separate(whole, settings, fine.knowledge.multilooked(ratio), narrow=motion)
    return Wide(found, whole, fine, settings)


def tree(root):
    """Every file below a directory with its hash, and every directory."""
    return {
        str(p.relative_to(root)): file_hash(p) if p.is_file() else "directory"
        for p in sorted(root.rglob("*"))
        if p.is_file() or p.is_dir()
    }


def shell(arguments, **how):
    """Run a command of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path}
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, env=env, **how)


def run_mintpy(template, work, start, end=None):
    done = shell(["smallbaselineApp.py", template, "--dir", work, "--start", start, *(["--end", end] if end else [])])
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]


def refused(arguments, capsys, code=1):
    """Run the command; return its only line on stderr, an error."""
    from mintpy_vae.cli.vae_correct import main

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


def read(file, name):
    with h5py.File(file) as f:
        return f[name][:]


def two_pixels(project):
    """Size of two pixels, km."""
    return 2e-3 * float(np.sqrt(np.prod(pixel_size(open_stack(project / "inputs" / "ifgramStack.h5").attributes))))


def make_simulated(root, preset="bowl", n_dates=14, size=(48, 60), coord="geo", text=QUICK, reference=True, **changes):
    """A simulated project with two dropped pairs; return its template."""
    scene = simulate(preset, n_dates=n_dates, size=size, seed=3, coord=coord, **changes)
    template = write_project(scene, root, reference=reference)
    with h5py.File(root / "inputs" / "ifgramStack.h5", "r+") as f:
        keep = f["dropIfgram"][:]
        keep[list(DROPPED)] = False
        f["dropIfgram"][:] = keep
    with open(template, "a") as f:
        f.write(text)
    return template


def shortened(file, dates):
    """Leave only the pairs of the first ``dates`` dates in a stack."""
    with h5py.File(file) as f:
        names = f["date"][:].astype(str)
        some = np.isin(names, np.unique(names)[:dates]).all(axis=1)
        content = {name: (item[:][some], dict(item.attrs)) for name, item in f.items()}
        attributes = dict(f.attrs)
    with h5py.File(file, "w") as f:
        f.attrs.update(attributes)
        for name, (values, marks) in content.items():
            f[name] = values
            f[name].attrs.update(marks)


@dataclass
class Corrected:
    """A project, and what the two commands made of it."""

    project: Path
    template: Path
    work: Path
    before: dict
    printed: str
    next_command: list
    mintpy: subprocess.CompletedProcess

    @property
    def stack(self):
        return self.project / "inputs" / "ifgramStack.h5"


def correct_and_go_on(root, coord):
    project = root / "WORK"
    template = make_simulated(project, coord=coord)
    before = tree(project)
    done = shell(["vae_correct.py", project / "inputs" / "ifgramStack.h5", "-t", template])
    assert done.returncode == 0, done.stderr[-2000:]
    command = shlex.split(re.search(r"^Next:\n +(.*)$", done.stdout, re.MULTILINE)[1])
    mintpy = shell(command)
    return Corrected(project, template, root / "WORK_vae", before, done.stdout, command, mintpy)


@pytest.fixture(scope="session")
def mapped(tmp_path_factory):
    """In map coordinates; no directory may be named after them, see ``project.work_dir``."""
    return correct_and_go_on(tmp_path_factory.mktemp("mapped"), "geo")


@pytest.fixture(scope="session")
def radar(tmp_path_factory):
    return correct_and_go_on(tmp_path_factory.mktemp("radar"), "radar")


@pytest.fixture
def simulated(mapped, tmp_path):
    """A project of one's own, not corrected yet: (stack, template, work directory to be)."""
    project = Path(shutil.copytree(mapped.project, tmp_path / "WORK"))
    return project / "inputs" / "ifgramStack.h5", project / mapped.template.name, tmp_path / "WORK_vae"


_SEPARATIONS: dict = {}


@pytest.fixture
def remembered(monkeypatch):
    """For tests of files: the same separation of the same stack is computed once."""
    from mintpy_vae.workflow import learning

    separate = learning.separate

    def once(observations, settings, *knowledge, **more):
        others = {name: value for name, value in more.items() if name not in ("trainer", "progress")}
        key = (observations.phase.tobytes(), str(settings), repr((knowledge, others)))
        if key not in _SEPARATIONS:
            _SEPARATIONS[key] = separate(observations, settings, *knowledge, **more)
        return _SEPARATIONS[key]

    monkeypatch.setattr(learning, "separate", once)


def job_of(stack, settings=None, **known):
    """The correction of an open stack, without template and prior information."""
    from mintpy_vae import Settings
    from mintpy_vae.method.knowledge import NOTHING
    from mintpy_vae.stack import project_of
    from mintpy_vae.workflow.job import Job

    return Job(project_of(stack.file), {}, settings or Settings(), stack, NOTHING, **known)


def grid_of(valid, height, years, good=None, bad=()):
    """A training grid; effective ``height`` of its valid pixels, zero mean."""
    from mintpy_vae.method.observations import Grid
    from mintpy_vae.method.profile import Profile

    good = np.arange(len(years)) if good is None else np.asarray(good)
    return Grid(valid, height, Profile(0.0), years, good=good, bad=np.array(bad, dtype=int))


def observed(scene, height=None):
    """A simulated scene on its own grid, as the method is given it."""
    from mintpy_vae.method import Observations

    weight = np.where(scene.phase != 0, scene.coherence**2, 0)
    height = scene.height if height is None else height
    return Observations(phase=scene.phase, weight=weight, pairs=scene.pairs, dates=scene.dates, height=height)


def velocity_std(work):
    velocity = read(work / "velocity.h5", "velocity")
    return float(np.nanstd(velocity[velocity != 0]))


# -------------------------------------------------------------------------------------------------------------- browser
@pytest.fixture(scope="module")
def browser():
    """A Chromium to open reports in."""
    required = bool(os.environ.get("BROWSER_REQUIRED"))  # set by .ci/run
    if not required:
        pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser test")
    from playwright import sync_api as playwright

    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next((p for p in found if p), None)
    with playwright.sync_playwright() as p:
        try:
            chromium = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            if required:
                raise
            pytest.skip(f"no Chromium to open the report with: {error.message.splitlines()[0]}")
        yield chromium
        chromium.close()


def opened(browser, file, width, media="screen"):
    """The page at a width, with what it said and asked for."""
    tab = browser.new_page(viewport={"width": width, "height": 800})
    said, asked = [], []
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.on("request", lambda r: asked.append(r.url))
    tab.emulate_media(media=media)
    tab.goto(Path(file).as_uri())
    tab.wait_for_function("document.querySelectorAll('.plotly-graph-div:not(.js-plotly-plot)').length == 0")
    return tab, said, asked


def check_in_browser(browser, file, width, media="screen"):
    """All charts are drawn, nothing is cut off, no error is said and nothing is asked for; number of charts."""
    tab, said, asked = opened(browser, file, width, media)
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [Path(file).as_uri()]
    drawn = tab.evaluate("[...document.querySelectorAll('.plotly-graph-div')].filter(d => d._fullData.length).length")
    assert drawn == len(re.findall(r'class="plotly-graph-div"', Path(file).read_text(encoding="utf8")))
    empty = "[...document.querySelectorAll('.plotly-graph-div .main-svg')].filter(s => s.clientWidth < 200).length"
    assert tab.evaluate(empty) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('.main-svg')].filter(s => s.getBoundingClientRect().right > innerWidth).length"
    )
    assert tab.evaluate(wide) == 0
    if media == "print":  # what is drawn must fit on A4 (718 pixels at 96 dpi, less its margins)
        drawn_widths = "[...document.querySelectorAll('.plotly-graph-div')].map(d => d._fullLayout.width)"
        assert max(tab.evaluate(drawn_widths)) <= 700
    tab.close()
    return drawn
