"""The benchmark that kills vae_correct.py at random moments, six times."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import kill


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return kill.prepare(tmp_path_factory.mktemp("kill"))


def test_killed_at_random_moments(case):
    outcomes = list(kill.kills(case, n=6, seed=11, every=6))
    assert not [outcome for outcome in outcomes if outcome.violation]
    assert {outcome.sent for outcome in outcomes} == {"SIGKILL", "SIGTERM", "SIGINT"}
    assert "all 6" in kill.table(outcomes)


def test_what_is_half_done_is_found_out(case):
    """The checks see what they are there for."""
    import shutil

    import h5py

    kill.clear(case)
    shutil.copytree(case.result, case.work)
    assert kill._state(case) == "whole"
    with h5py.File(case.work / "inputs" / "ifgramStack.h5", "r+") as f:
        f["unwrapPhase"][-1] = 0
    with pytest.raises(kill.Violation, match="not that of an undisturbed run"):
        kill._state(case)
    shutil.copy(case.result / "inputs" / "ifgramStack.h5", case.work / "inputs")
    (case.work / "vae_model.pt").write_bytes(b"other")
    with pytest.raises(kill.Violation, match="other networks"):
        kill._state(case)
