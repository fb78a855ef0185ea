"""What must not be believed: each case simulated, its sentence and figures, and the healthy case beside it silent."""

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from conftest import grid_of, job_of, shell
from mintpy_vae import Settings, correct
from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.evaluation.injection import Rerun, Signal, inject
from mintpy_vae.method import safety, search, training
from mintpy_vae.method.separation import separate
from mintpy_vae.method.sky import sky_statistics
from mintpy_vae.results.evidence import pixel_size
from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.stack import open_stack
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn

CALM = {"turbulence": 0.002, "stratified": 0.003, "stratified_annual": 0.003, "orbit": 0.0003, "unwrap_errors": 0.0}
LIMITS = ("warning from", "diverged", "more noise")


def project(root, preset="bowl", seed=11, n_dates=14, size=32, **changes):
    """The stack of a simulated project, under the sky that the method assumes: nothing is to be said of that."""
    scene = simulate(preset, n_dates=n_dates, size=(size, size), seed=seed, sky="stationary", **changes)
    write_project(scene, root / "WORK")
    return root / "WORK" / "inputs" / "ifgramStack.h5"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Details of a stack, learned once; or the reason why it was refused."""

    @cache
    def details(steps=60, settings=(), **stack):
        file = project(tmp_path_factory.mktemp("safety"), **dict(stack))
        try:
            return learn(prepare(file, settings=Settings(**options(steps), **dict(settings))), {}).details
        except NotEnoughEvidence as refusal:
            return str(refusal)

    return details


def options(steps):
    return {"train_steps": steps, "num_seeds": 1, "device": "cpu"}


def said(details, words):
    """The one warning with these words."""
    (text,) = (text for text in details["warnings"] if words in text)
    return text


def test_a_healthy_stack_is_silent(learned):
    assert not [text for text in learned(200)["warnings"] if any(words in text for words in LIMITS)]
    assert 0 < learned(200)["misfit_share"] < safety.MAX_MISFIT / 2


@pytest.mark.parametrize(
    "stack, reason",
    [
        ({"n_dates": 9, "pairs": 200}, "the stack has 9 dates; 10 are needed (vae.minDate)"),
        ({"n_dates": 14, "pairs": 80}, "the stack has 19 kept pairs; 20 are needed (vae.minPair)"),
    ],
)
def test_too_few(tmp_path, stack, reason):
    done = correct(project(tmp_path, **stack), invert=False, **options(10))
    assert (done.status, done.reason) == ("uncorrected", reason)


def test_on_few_dates_weak_motion_is_not_safe(learned):
    text = "Only 14 dates were learned from (18 or more are safer): weak motion cannot be told from the atmosphere"
    assert said(learned(60), "are safer").startswith(text)
    assert not [text for text in learned(30, n_dates=18)["warnings"] if "are safer" in text]


def test_a_stack_of_less_than_a_year_is_named(learned):
    for n_dates, spans in ((18, "0.6 years"), (36, None)):
        said = [text for text in learned(30, n_dates=n_dates)["warnings"] if "season of the atmosphere" in text]
        assert bool(said) == bool(spans) and all(spans in text for text in said)


def test_islands(learned, tmp_path):
    import h5py

    file = project(tmp_path, n_dates=28)
    stack = open_stack(file)
    with h5py.File(file, "r+") as f:
        f["dropIfgram"][:] = (stack.pairs < 14).all(axis=1) | (stack.pairs >= 14).all(axis=1)
    warnings = learn(prepare(file, settings=Settings(**options(10))), {}).details["warnings"]
    assert warnings[0].startswith("The pairs form 2 islands that no kept pair joins;")
    assert not any("islands" in text for text in learned(200)["warnings"])


def test_motion_that_follows_the_height(learned):
    stack = {"seed": 1, "n_dates": 30, "size": 36}
    summit = learned(preset="topo", rate=(0.06, 0.06), **stack)
    correlation = summit["motion_height_correlation"]
    assert correlation > safety.MAX_HEIGHT_CORRELATION  # it rises
    assert f"a correlation of {correlation:.2f} with the height (warning from 0.35)" in said(summit, "the motion found")
    bowl = learned(preset="bowl", rate=(-0.06, -0.06), **stack)
    assert bowl["deformation_pieces"] and not any("with the height" in text for text in bowl["warnings"])


def test_a_search_that_ends_at_its_limit(learned, monkeypatch):
    stack = {"seed": 1, "n_dates": 30, "size": 36, "preset": "bowl", "rate": (-0.06, -0.06)}
    whole = learned(**stack)
    assert len(whole["deformation_pieces"]) > 1 and not any("pieces" in text for text in whole["warnings"])
    for module in (search, safety):
        monkeypatch.setattr(module, "MAX_PIECES", 1)
    cut = learned(61, **stack)  # not the one that was learned before
    assert len(cut["deformation_pieces"]) == 1 and "limit of 1 pieces" in said(cut, "search for motion")


def test_an_injected_bowl_half_as_wide_as_the_scene_is_lost_and_a_narrow_one_is_not(tmp_path):
    stack = open_stack(project(tmp_path, "quiet", n_dates=20))
    scene = 32 * pixel_size(stack.attributes)[1] / 1000
    signals = [Signal("bowl", 0.5 * scene, 10.0), Signal("bowl", 0.12 * scene, 60.0)]
    wide, narrow = inject(Rerun(job_of(stack, Settings(**options(60)))), signals, None, say=lambda text: None)
    assert wide["gain"] < 0.5 and 0.7 < narrow["gain"] < 1.1


def test_most_sources_in_no_cluster(learned, monkeypatch):
    with monkeypatch.context() as lowered:  # no cluster size leaves more than half, but some, of this stack's sources
        lowered.setattr(safety, "MAX_UNCLUSTERED", 0.2)
        details = learned(50, settings=(("min_samples", 60), ("min_cluster_size", 60)))
    share = details["unclustered_share"]
    text = said(details, "sources")
    assert share > 0.2 and details["clusters"] and f"{share:.0%} of the sources are in no cluster" in text
    assert "(warning from 20%)" in text
    alone = learned(50, settings=(("min_cluster_size", 3000),))
    assert alone["clusters"] == [] and said(alone, "cluster").startswith("No source is in a cluster (warning from 50%)")


def test_too_short_a_training(learned):
    details = learned(30)
    late = details["late_fall"]
    text = said(details, "training of the network was")
    assert (
        late > safety.MAX_LATE_FALL
        and f"{late:.0%} of the decrease of its loss came in the second half of its 30 steps" in text
    )
    assert learned(200)["late_fall"] < safety.MAX_LATE_FALL


def test_training_that_diverges_starts_again_and_then_gives_up(tmp_path, monkeypatch):
    job = prepare(project(tmp_path), settings=Settings(**options(60)))
    run = training._run

    def too_fast(*arguments):
        monkeypatch.setattr(training, "LEARNING_RATE", 1e3 if arguments[3] in wild else 2e-3)
        return run(*arguments)

    monkeypatch.setattr(training, "_run", too_fast)
    wild = {1}
    learned = learn(job, {})
    assert learned.networks["separator"].seed == 1001
    assert "diverged; seed 1001 was used instead of 1" in said(learned.details, "network diverged")
    wild = {1, 1001, 2001}
    done = correct(job.stack.file, invert=False, **options(60))
    assert done.status == "uncorrected" and "diverged with 3 different seeds" in done.reason


def test_a_loss_that_exploded_at_once_is_no_start_to_have_fallen_from():
    losses = np.r_[2.2, 500.0, 1e6, np.linspace(10, 3, 57)]
    assert losses[-6:].mean() < losses[:6].mean() and not training._converged(losses)
    assert training._converged(np.linspace(2.2, 0.5, 60))


def test_unwrapping_errors_are_told_and_refused_where_they_dominate(learned, tmp_path):
    some = learned(unwrap_errors=0.3, unwrap_patch=(0.1, 0.3))
    share = some["misfit_share"]
    assert share > 0.02 and said(some, "half a cycle").startswith(f"{share:.1%} of the pairs' pixels")
    file = project(tmp_path, unwrap_errors=1.0, unwrap_patch=(0.4, 0.6))
    done = correct(file, invert=False, **options(60))
    assert done.status == "uncorrected"
    assert done.reason.startswith("unwrapping errors dominate: ") and "(14% at most)" in done.reason


def test_the_share_of_misfits_is_that_of_the_errors():
    errors = {"unwrap_errors": 0.2, "unwrap_patch": (0.2, 0.3)}
    scene = simulate("quiet", n_dates=20, size=(24, 24), seed=3, sky="stationary", water=0.0, **errors)
    pairs, n = scene.pairs, len(scene.dates)
    phase, wrong = scene.without_constants().reshape(len(pairs), -1), scene.unwrap_error.reshape(len(pairs), -1)
    truth = (scene.displacement + scene.atmosphere).reshape(n, -1) * (-4 * np.pi / 0.05546576)
    offset = truth + np.arange(n)[:, None]  # one per date does not matter
    share = safety.misfit_share(offset, phase, np.ones_like(phase), pairs)
    assert share == pytest.approx((wrong != 0).mean(), rel=0.05) and share > 0.02
    dry = np.where(wrong == 0, 1.0, 0.0)
    assert safety.misfit_share(offset, phase, dry, pairs) < 1e-3
    assert safety.misfit_share(offset, phase, np.zeros_like(phase), pairs) == 0


def test_noisier_pairs_are_told_and_refused_where_they_are_most(tmp_path, monkeypatch):
    # no stack is known that does it: three dates are made noisier
    def some_noisier(*arguments, **more):
        found = separate(*arguments, **more)
        before, after = found.noise
        return replace(found, noise=np.stack([before, np.where(np.arange(20)[:, None] < 3, 3 * before, after)]))

    monkeypatch.setattr(learning, "separate", some_noisier)
    done = correct(project(tmp_path, n_dates=20), invert=False, **options(10))
    worse = done.details["pairs_worse"]
    assert 0.1 < worse < 0.5
    sentence = f"{worse:.0%} of the pairs have more noise after the correction than before (warning from 10%)."
    assert said({"warnings": done.warnings}, "of the pairs have") == sentence
    written = json.loads((done.work_dir / "vae_result.json").read_text())
    assert sentence in written["warnings"] and sentence in (done.work_dir / "vae_report.html").read_text()

    def wrong_sign(*arguments, **more):
        found = separate(*arguments, **more)
        before, after = found.noise
        return replace(found, noise=np.stack([before, 2 * before - after]))

    monkeypatch.setattr(learning, "separate", wrong_sign)
    done = correct(project(tmp_path / "other"), invert=False, **options(10))
    assert done.status == "uncorrected"
    assert done.reason.startswith("the correction would add noise to most pairs (")


def test_white_noise_has_no_modes_and_is_no_traceback():
    valid = np.ones((20, 20), dtype=bool)
    white = np.random.default_rng(1).standard_normal((4000, 400))
    sky = sky_statistics(white, grid_of(valid, np.zeros(400), np.arange(4000) / 10))
    assert sky.modes.shape == (2, 400)  # constant and height
    assert sky.fine == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["training", pytest.param("few", marks=pytest.mark.slow)])
def test_a_picture_of_the_page_is_made_by_its_command(tmp_path, name):
    script = Path(__file__).parents[2] / "benchmarks" / "exceptions.py"
    done = shell([sys.executable, script, name, "-o", tmp_path])
    assert done.returncode == 0, done.stderr
    assert [f.name for f in tmp_path.iterdir()] == [f"{name}.png"]
    assert ("The training of the network was too short" in done.stdout) == (name == "training")
    assert f"images/exceptions/{name}.png" in (script.parents[1] / "docs" / "limits.md").read_text()
