"""Kill vae_correct.py at random moments and look at what is left: nothing lost, nothing half-done that looks done.

    python benchmarks/kill.py                   # 200 times; some 40 minutes on one core
    python benchmarks/kill.py -n 12 --seed 7

A small simulated project is corrected once undisturbed. Then the same command is killed by SIGKILL, SIGTERM and SIGINT
in turn, at moments drawn evenly from its processor time (so that they depend little on what else the machine does),
every other time with an earlier result (of another seed) in place. Whatever the moment, these must hold: the project
is as it was, to the byte; PROJECT_vae is absent, the earlier result, or the new one, whole; an unfinished one is done
again by ``--update`` and refused by the steps of vae_smallbaselineApp.py; an earlier result is in place again after the
next run at the latest; no traceback is printed. Every tenth time the command is run again to its end, with
``--update``: its phase must be that of the undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import psutil

from mintpy_vae import InputError, correct
from mintpy_vae.results.result import RESULT
from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.stack import COMPLETE, file_hash
from mintpy_vae.workflow.smallbaseline import VaeTimeSeriesAnalysis

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OPTIONS = """\
vae.trainSteps = 10
vae.numSeed = 2
mintpy.topographicResidual = no
"""
STAGES = ("start, reading, learning", "writing", "exchange", "MintPy's steps, report", "over")
STATES = ("absent", "earlier", "set aside", "pending", "whole")
_JITTER = 0.1  # s
_PATIENCE = 120  # s, after which a process that was told to end is one that hangs


class Violation(Exception):
    """Something that must never be."""


class Redone(Exception):
    """Raised out of a run as soon as it learns: it has found nothing that it could keep."""


@dataclass
class Case:
    """A project, what an undisturbed run makes of it, and an earlier result to begin with every other time.

    Attributes
    ----------
    stack, template : Path
    result, earlier : Path
        Copies of PROJECT_vae; the two may be the same.
    seconds : float
        Processor time of the undisturbed run.
    """

    stack: Path
    template: Path
    result: Path
    earlier: Path
    seconds: float

    @property
    def project(self) -> Path:
        """The original."""
        return self.stack.parents[1]

    @property
    def work(self) -> Path:
        """PROJECT_vae."""
        return self.project.with_name(self.project.name + "_vae")

    @property
    def part(self) -> Path:
        """Where PROJECT_vae is made."""
        return self.project.with_name(self.work.name + ".part")


@dataclass
class Outcome:
    """Of one kill."""

    number: int
    sent: str
    stage: str
    state: str
    rerun: bool
    violation: str = ""


def prepare(root: Path) -> Case:
    """Simulate a project and correct it undisturbed, with two seeds."""
    template = write_project(simulate("bowl", n_dates=10, size=(24, 24), seed=3), root / "WORK")
    with open(template, "a") as f:
        f.write(OPTIONS)
    case = Case(root / "WORK/inputs/ifgramStack.h5", template, root / "result", root / "earlier", 0.0)
    for place, seed in ((case.earlier, ["--seed", "2"]), (case.result, [])):
        case.seconds = processor_time(case, *seed)
        os.replace(case.work, place)
    return case


def processor_time(case: Case, *more: str) -> float:
    """Seconds that a run to the end takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _finish(case, *more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kill(case: Case, number: int, moment: tuple[float, float], rerun: bool) -> Outcome:
    """Kill one run and check what is left.

    Parameters
    ----------
    case : Case
    number : int
        Decides the signal, and whether there is an earlier result.
    moment : (float, float)
        Seconds of processor time, and seconds after that (or it would never be killed while it waits for the disk).
    rerun : bool
        Run the command again, to its end.
    """
    which = SIGNALS[number % len(SIGNALS)]
    with_earlier = number // len(SIGNALS) % 2 == 1
    clear(case)
    if with_earlier:
        shutil.copytree(case.earlier, case.work)
    project = tree(case.project)
    process = _start(case)
    _wait(process, *moment)
    stage = _stage(case) if process.poll() is None else "over"
    process.send_signal(which)
    outcome = Outcome(number, which.name, stage, "", rerun)
    try:
        _ended(process, which)
        outcome.state = _state(case)
        _expect(tree(case.project) == project, "the project has changed")
        _expect(with_earlier or outcome.state not in ("earlier", "set aside"), "an earlier result out of nowhere")
        _expect(not with_earlier or outcome.state != "absent", "the earlier result is lost")
        _check_unfinished(case, outcome.state)
        if rerun:
            _finish(case, "--update")
            _expect(_state(case) == "whole", "the rerun did not end with a whole result")
        else:
            _check_update(case, outcome.state)
        _expect(tree(case.project) == project, "the project has changed in the next run")
    except Violation as found:
        outcome.violation = str(found)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return outcome


def kills(case: Case, n: int, seed: int, every: int) -> Iterator[Outcome]:
    """Kill `n` runs, each `every`-th followed by one to the end."""
    moments = np.random.default_rng(seed).uniform(0, [case.seconds, _JITTER], (n, 2))
    for number, (used, more) in enumerate(moments):
        yield kill(case, number, (used, more), number % every == every - 1)


def clear(case: Case) -> None:
    """Remove what earlier runs have left."""
    for place in (case.work, case.part):
        shutil.rmtree(place, ignore_errors=True)


def tree(root: Path) -> dict[str, str]:
    """Every file below a directory with its hash, and every directory."""
    return {str(p.relative_to(root)): file_hash(p) if p.is_file() else "directory" for p in sorted(root.rglob("*"))}


def table(outcomes: list[Outcome]) -> str:
    """Counts by signal, by stage at the moment of the kill and by what was left."""
    stages = [stage for stage in STAGES if any(o.stage == stage for o in outcomes)]
    states = [state for state in STATES if any(o.state == state for o in outcomes)]
    rows = [["signal, killed while", *states, "violations"], ["---"] + ["--:"] * (len(states) + 1)]
    for name in [which.name for which in SIGNALS]:
        for stage in stages:
            some = [o for o in outcomes if (o.sent, o.stage) == (name, stage)]
            count = Counter(o.state for o in some)
            bad = sum(bool(o.violation) for o in some)
            if some:
                rows.append([f"{name}, {stage}", *(str(count[s] or "") for s in states), str(bad)])
    count, bad = Counter(o.state for o in outcomes), sum(bool(o.violation) for o in outcomes)
    rows.append([f"all {len(outcomes)}", *(str(count[s]) for s in states), str(bad)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _command(case: Case, *more: str) -> list[str]:
    run = "from mintpy_vae.cli.vae_correct import main; main()"
    return [sys.executable, "-c", run, str(case.stack), "-t", str(case.template), *more]


def _start(case: Case, *more: str) -> subprocess.Popen[str]:
    """In a session of its own, and to be interrupted even where this one is a job of a shell's background."""
    return subprocess.Popen(
        _command(case, *more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _wait(process: subprocess.Popen[str], used: float, more: float) -> None:
    """Until it has used so much processor time, or is over; then somewhat longer."""
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = psutil.Process(process.pid)
        while process.poll() is None and sum(watched.cpu_times()[:2]) < used:
            time.sleep(0.005)
    time.sleep(more)


def _finish(case: Case, *more: str) -> None:
    process = _start(case, *more)
    _, printed = process.communicate()
    _expect(process.returncode == 0, f"a run to the end failed: {printed[-300:]}")


def _ended(process: subprocess.Popen[str], which: signal.Signals) -> None:
    """It is gone, with all that it started, and without a traceback."""
    try:
        _, printed = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Violation(f"it goes on after {which.name}") from None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 0)
        raise Violation("it has left processes behind")
    _expect("Traceback" not in printed, f"a traceback: {printed[-600:]}")
    if process.returncode == 1:
        _expect(printed.startswith("Interrupted.") and printed.count("\n") == 1, f"it said: {printed[-600:]}")
    else:
        _expect(process.returncode in (0, -which), f"it ended with {process.returncode}: {printed[-600:]}")


def _stage(case: Case) -> str:
    """What the run is doing, by what it has written."""
    if not case.work.exists() and (case.part / ".vae_correct.earlier").exists():
        return "exchange"
    if _result_text(case.work) in ("", _result_text(case.earlier)):
        return "writing" if (case.part / "vae_model.pt").exists() else "start, reading, learning"
    return "over" if _mintpy_of(case.work) == "reference_date" else "MintPy's steps, report"


def _state(case: Case) -> str:
    """What is left; a violation if it is none of the things that may be."""
    if not case.work.exists():
        aside = case.part / ".vae_correct.earlier"
        if aside.exists():
            _expect(tree(aside) == tree(case.earlier), "the earlier result is not what it was")
            return "set aside"
        return "absent"
    if tree(case.work) == tree(case.earlier):
        return "earlier"
    _check_stack(case)
    mintpy = _mintpy_of(case.work)
    _expect(mintpy in ("pending", "not run", "reference_date"), f"a result that says {mintpy}")
    if mintpy == "reference_date":
        a, b = (_series(place) for place in (case.work, case.result))
        _expect(a == b, "the time series is not that of an undisturbed run")
    return "whole" if mintpy == "reference_date" else "pending"


def _check_stack(case: Case) -> None:
    """The corrected stack of a new result has the bytes of an undisturbed one, and belongs to its networks."""
    content = json.loads((case.work / RESULT).read_text())
    with h5py.File(case.work / "inputs/ifgramStack.h5") as a, h5py.File(case.result / "inputs/ifgramStack.h5") as b:
        marks = dict(a["unwrapPhase"].attrs)
        same = a["unwrapPhase"][:].tobytes() == b["unwrapPhase"][:].tobytes()
    _expect(same, "the corrected phase is not that of an undisturbed run")
    _expect(marks[COMPLETE] == "yes" and content["status"] == "corrected", "the stack is not marked as complete")
    model = file_hash(case.work / "vae_model.pt")
    _expect(model == marks["vae.model_sha256"], "other networks")
    _expect(model == content["model_sha256"], "vae_result.json is of other networks")


def _series(work: Path) -> bytes:
    with h5py.File(work / "timeseries.h5") as f:
        return f["timeseries"][:].tobytes()


def _result_text(work: Path) -> str:
    try:
        return (work / RESULT).read_text()
    except FileNotFoundError:
        return ""


def _mintpy_of(work: Path) -> str:
    return str(json.loads(_result_text(work) or "{}").get("mintpy"))


def _check_unfinished(case: Case, state: str) -> None:
    """The steps after the correction refuse to go on from what is no result."""
    if state not in ("absent", "set aside", "pending") or _mintpy_of(case.work) == "not run":
        return
    app = VaeTimeSeriesAnalysis(str(case.template), str(case.project))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            app.enter_corrected_directory()
    except InputError:
        return
    finally:
        os.chdir(app.cwd)
    raise Violation("the step after the correction goes on from an unfinished result")


def _check_update(case: Case, state: str) -> None:
    """What --update makes of it: only the whole new result is kept; all else is done again."""

    def learns(*progress: object) -> None:
        raise Redone

    keeps = state == "whole" or _mintpy_of(case.work) == "not run"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = correct(case.stack, template_file=case.template, update=True, invert=False, progress=learns)
        _expect(keeps and result.skipped, f"--update takes {state} for a result")
    except Redone:
        _expect(not keeps, "--update does not see that the result is whole")
    if state in ("earlier", "set aside"):
        _expect(tree(case.work) == tree(case.earlier), "the earlier result did not come back")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation(otherwise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200, help="kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--every", type=int, default=10, help="each so many kills, run again to the end")
    parser.add_argument("-o", "--output", type=Path, help="write the table here")
    inps = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        case = prepare(Path(scratch))
        print(f"an undisturbed run takes {case.seconds:.1f} s of processor time", flush=True)
        for outcome in kills(case, inps.n, inps.seed, inps.every):
            outcomes.append(outcome)
            print(" | ".join(str(v) for v in vars(outcome).values()), flush=True)
    print(table(outcomes))
    if inps.output:
        inps.output.write_text(table(outcomes) + "\n")
    return int(any(outcome.violation for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
