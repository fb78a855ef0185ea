"""Which correction is best here, and how sure that is."""

import json
import re

import h5py
import numpy as np
import pytest

from conftest import shell
from mintpy_vae.evaluation.comparison import verdict

RNG = np.random.default_rng(3)
CLEAR = {"good": RNG.chisquare(4, 40) * 1e-6, "bad": RNG.chisquare(4, 40) * 4e-6}
CLOSE = {"one": RNG.chisquare(4, 40) * 1e-6, "other": RNG.chisquare(4, 40) * 1.02e-6}


def sure(text):
    return float(re.search(r"best in (\d+)%", text)[1])


def test_a_clear_winner_is_sure_and_a_tie_is_not():
    text = verdict(CLEAR, "the truth")
    assert text.startswith("Best here against the truth: good (RMS ") and sure(text) >= 99
    assert 50 <= sure(verdict(CLOSE, "GNSS")) < 95
    assert verdict(dict(reversed(CLEAR.items())), "the truth").split(";")[0] == text.split(";")[0]


@pytest.mark.parametrize("errors", [{}, {"only": np.ones(30)}, {k: np.full(30, np.nan) for k in "ab"}])
def test_noise_alone_tells_nothing(errors):
    assert verdict(errors, "").startswith("Noise alone cannot tell")


def test_delays_in_inputs_are_compared_whole_and_weighted(mapped, tmp_path):
    """A delay with the wrong sign on half of the dates: the weights leave those dates out."""
    with h5py.File(mapped.project / "truth.h5") as f:
        true = f["atmosphere"][:]
    file = mapped.project / "inputs" / "HRRR.h5"
    wrong = np.where(np.arange(len(true))[:, None, None] % 2, true, -true)
    with h5py.File(mapped.work / "inputs" / "VAE.h5") as f, h5py.File(file, "w") as out:
        out.attrs.update(f.attrs)
        out["date"] = f["date"][:]
        out["timeseries"] = wrong.astype(np.float32)
    try:
        options = ["--truth", mapped.project / "truth.h5", "-o", tmp_path / "out"]
        methods = ["uncorrected", "HRRR", "HRRR_weighted", "vae"]
        done = shell(["vae_evaluate.py", mapped.project, *options, "--methods", *methods])
    finally:
        file.unlink()
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = {row["name"]: row for row in outcome["table"]}
    assert list(rows) == methods and outcome["verdict"].startswith("Best here against the truth: ")
    assert (
        outcome["verdict"] in done.stdout and outcome["verdict"] in (tmp_path / "out" / "vae_report.html").read_text()
    )
    errors = [rows[name]["displacement_stable"] for name in ("HRRR_weighted", "uncorrected", "HRRR")]
    assert errors == sorted(errors) and errors[0] < 0.9 * errors[1]
    worse = outcome["pairs_worse"]
    assert len(worse["HRRR"]) > len(worse["HRRR_weighted"]) and not worse["uncorrected"]
    pairs = int(re.search(r"(\d+) pairs", outcome["note"])[1])
    assert len(worse["HRRR"]) == pytest.approx(rows["HRRR"]["pairs_worse"] / 100 * pairs, abs=0.5)
