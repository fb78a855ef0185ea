"""Each pair, and each connected component of a pair, is known but for a constant: none of them decides anything."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import job_of, read
from mintpy_vae import Settings, correct
from mintpy_vae.method.components import level_components
from mintpy_vae.method.inversion import invert_to_dates
from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack import open_stack
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn, training_data

TO_PHASE = -4 * np.pi / WAVELENGTH
SETTINGS = Settings(train_steps=15, num_seeds=1, device="cpu", resolution=1.0)
RNG = np.random.default_rng(5)
CONSTANTS = {
    "broken cycles": lambda n: RNG.uniform(-10, 10, n),
    "whole cycles": lambda n: 2 * np.pi * RNG.integers(-200, 201, n),
    "thousands of cycles": lambda n: 2 * np.pi * RNG.uniform(-3000, 3000, n),
    "of one sign, growing": lambda n: 30.0 * np.arange(n),
}


def level(series):
    """Without the arbitrary constant of each date."""
    return series - np.median(series, axis=1, keepdims=True)


# --------------------------------------------------------------------------------------------------------- of the pairs
@pytest.mark.parametrize("kind", CONSTANTS)
@pytest.mark.parametrize("coverage", ["whole", "parts"])
def test_the_inversion_does_not_depend_on_them(kind, coverage):
    scene = simulate("dirty", n_dates=16, size=(30, 36), seed=4, constants=0, orbit=0.01)
    phase, n = scene.phase.copy(), len(scene.pairs)
    rng = np.random.default_rng(1)
    for k in range(n if coverage == "parts" else 0):  # half of the pairs end somewhere in the scene
        edge = int(rng.integers(12, 24))
        phase[k, :, [slice(0), slice(0), slice(edge, None), slice(edge)][rng.integers(4)]] = 0
    weight = np.where(phase != 0, scene.coherence**2, 0).reshape(n, -1)
    dates = (scene.pairs, len(scene.dates))
    plain, valid = invert_to_dates(phase.reshape(n, -1), weight, *dates)
    shifted = np.where(phase == 0, 0, phase + CONSTANTS[kind](n)[:, None, None]).reshape(n, -1)
    found, same = invert_to_dates(shifted, weight, *dates)
    assert (same == valid).all() and valid.mean() > 0.5
    np.testing.assert_allclose(level(found[:, valid]), level(plain[:, valid]), atol=1e-6)
    true = TO_PHASE * (scene.displacement + scene.atmosphere).reshape(len(plain), -1)[:, valid]
    wrong = level(found[:, valid] - true)
    assert np.median(np.abs(wrong - wrong.mean(axis=0))) < 0.3


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A project without any constant, with its reference pixel, and what is learned of it."""
    root = tmp_path_factory.mktemp("plain") / "WORK"
    template = write_project(simulate("bowl", n_dates=14, size=(40, 48), seed=3, constants=0), root)
    template.write_text(template.read_text() + "vae.trainSteps = 15\nvae.numSeed = 1\nvae.resolution = 1.0\n")
    return root, learned(root)


def learned(root):
    stack = open_stack(root / "inputs" / "ifgramStack.h5")
    found = learn(prepare(stack.file, settings=SETTINGS), {})
    return found.atmosphere(slice(0, stack.shape[0])), found


def shifted(plain, place, constants, reference="kept"):
    """A copy of the project whose pairs have constants; the reference pixel is kept, missing, or spoiled somehow."""
    root = Path(shutil.copytree(plain, place / "WORK"))
    with h5py.File(root / "inputs" / "ifgramStack.h5", "r+") as f:
        y, x = int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])
        phase = f["unwrapPhase"][:]
        n = len(phase)
        phase = np.where(phase == 0, 0, phase + constants(n)[:, None, None])
        if reference == "missing":
            for key in ("REF_Y", "REF_X", "REF_LAT", "REF_LON"):
                del f.attrs[key]
        elif reference in ("noisy", "moving"):
            f["coherence"][:, y, x] = 0.02  # of its own little weight, so that only the reference could spoil the rest
        if reference == "noisy":
            phase[:, y, x] += np.random.default_rng(1).normal(0, 20, n)
        elif reference == "moving":
            phase[:, y, x] += 10 * np.arange(n)
        elif reference == "without data in some pairs":
            phase[::4, y, x] = 0
        elif reference == "NaN in some pairs":
            phase[::5, y, x] = np.nan
        f["unwrapPhase"][:] = phase
    return root


@pytest.mark.parametrize(
    "kind, reference",
    [
        ("broken cycles", "missing"),
        ("whole cycles", "missing"),
        ("thousands of cycles", "kept"),
        ("broken cycles", "noisy"),
        ("of one sign, growing", "moving"),
        ("whole cycles", "without data in some pairs"),
        ("broken cycles", "NaN in some pairs"),
    ],
)
def test_what_is_learned_does_not_depend_on_them(plain, tmp_path, kind, reference):
    root, (expected, before) = plain
    other = shifted(root, tmp_path, CONSTANTS[kind], reference)
    found, after = learned(other)
    strength = expected.std()
    assert np.abs(found - expected).max() < 0.05 * strength and np.std(found - expected) < 0.005 * strength
    assert after.details["misfit_share"] == pytest.approx(before.details["misfit_share"], abs=2e-3)
    assert [text[:40] for text in after.details["warnings"]] == [text[:40] for text in before.details["warnings"]]
    said = [text for text in open_stack(other / "inputs" / "ifgramStack.h5").warnings if "has no data in" in text]
    assert len(said) == ("in some pairs" in reference)


def test_after_mintpys_own_reference_point_the_result_is_the_same(plain, tmp_path):
    from mintpy.cli import reference_point
    from mintpy.objects import ifgramStack

    results = []
    for name, reference, constants in (("a", "kept", np.zeros), ("b", "missing", CONSTANTS["broken cycles"])):
        root = shifted(plain[0], tmp_path / name, constants, reference)
        done = correct(root / "inputs" / "ifgramStack.h5", template_file=next(root.glob("*.txt")), invert=False)
        file = done.work_dir / "inputs" / "ifgramStack.h5"
        before = [read(f, "unwrapPhase") for f in (root / "inputs" / "ifgramStack.h5", file)]
        if reference == "missing":
            with h5py.File(file) as f:
                assert "REF_Y" not in f.attrs
            reference_point.main([str(file), "-y", str(results[0][1]), "-x", str(results[0][2])])
        stack = ifgramStack(str(file))
        relative = stack.read("unwrapPhase", print_msg=False) - stack.get_reference_phase()[:, None, None]
        valid = before[0] != 0
        results.append((np.where(valid, relative, 0), stack.refY, stack.refX))
        assert (valid == (before[1] != 0)).all() and np.std((before[1] - before[0])[valid]) > 0.5
    assert results[0][1:] == results[1][1:]
    assert np.abs(results[1][0] - results[0][0]).max() < 0.02 * np.std(results[0][0])


# ---------------------------------------------------------------------------------------------------- of the components
STEPS = {
    "none": (lambda rng, n: np.zeros(n), 0.001),
    "some pairs": (lambda rng, n: np.where(rng.random(n) < 0.1, 2 * np.pi * rng.integers(1, 4, n), 0), 0.01),
    "whole cycles": (lambda rng, n: 2 * np.pi * rng.integers(-100, 101, n), 0.1),
    "broken cycles": (lambda rng, n: rng.uniform(-100, 100, n), 0.25),
}


def in_two(scene, gap=1):
    """Phase without constants of a scene that a river cuts in two, and the components."""
    phase, parts = scene.without_constants(), np.ones(scene.phase.shape, np.int16)
    middle = scene.phase.shape[2] // 2 + 3
    parts[:, :, middle:] = 2
    phase[:, :, middle : middle + gap] = 0
    parts[phase == 0] = 0
    return phase, parts


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("preset", ["bowl", "acapulco"])
def test_components_are_brought_to_one_level(preset, steps):
    scene = simulate(preset, n_dates=30, size=(50, 50), seed=2, unwrap_errors=0)
    phase, parts = in_two(scene)
    n, rng = len(phase), np.random.default_rng(3)
    weight = np.where(phase != 0, scene.coherence**2, 0)
    make, limit = STEPS[steps]
    off = make(rng, n)[:, None, None] * (parts == 2) + rng.uniform(-50, 50, n)[:, None, None]
    levelled = level_components(np.where(phase == 0, 0, phase + off), weight, parts, scene.pairs, len(scene.dates))
    wrong = []
    for values in (phase, levelled):
        series, valid = invert_to_dates(values.reshape(n, -1), weight.reshape(n, -1), scene.pairs, len(scene.dates))
        wrong.append(level(series[:, valid]))
    assert np.std(wrong[1] - wrong[0]) < limit * np.std(wrong[0])


@pytest.mark.parametrize("name", ["unwrapPhase", "unwrapPhase_bridging"])
def test_components_of_a_file_do_not_reach_what_is_learned(tmp_path, name):
    """The gap between them is narrower than a pixel of the training grid."""
    scene = simulate("bowl", n_dates=14, size=(60, 60), seed=3, unwrap_errors=0, sky="stationary")
    phase, parts = in_two(scene)
    write_project(scene, tmp_path / "WORK")
    file, grids = tmp_path / "WORK" / "inputs" / "ifgramStack.h5", []
    off = 2 * np.pi * RNG.integers(-50, 51, len(phase))[:, None, None] * (parts == 2)
    template = {"mintpy.unwrapError.method": "bridging" if "bridging" in name else "no"}
    for values in (phase, phase + off) if name == "unwrapPhase" else (phase, phase):
        with h5py.File(file, "r+") as f:
            f.require_dataset(name, values.shape, np.float32)[:] = values
            # bridged phase is in one piece whatever the components say
            f["connectComponent"][:] = parts if name == "unwrapPhase" or grids else np.minimum(parts, 1)
        data = training_data(job_of(open_stack(file, template=template), SETTINGS))
        grids.append(data.observations)
    assert data.factor > 1 and (grids[0].weight == grids[1].weight).all()
    difference = grids[1].phase - grids[0].phase
    difference -= np.nanmedian(np.where(grids[0].weight > 0, difference, np.nan), axis=(1, 2), keepdims=True)
    assert np.abs(difference[grids[0].weight > 0]).max() < 1e-3


def test_the_simulator_has_constants_by_default(tmp_path):
    scene = simulate("acapulco", n_dates=12, size=(48, 60), seed=3)
    cycles = scene.constant[:, 0] / (2 * np.pi)
    whole = np.abs(cycles - np.round(cycles)) < 1e-9
    assert whole[::2].all() and not whole[1::2].any() and np.abs(cycles).max() > 5
    assert simulate("acapulco", n_dates=12, size=(48, 60), seed=3, constants=0).phase.tobytes() == (
        simulate("acapulco", n_dates=12, size=(48, 60), seed=3, constants=0).without_constants().tobytes()
    )
    write_project(scene, tmp_path / "WORK")
    parts = read(tmp_path / "WORK" / "inputs" / "ifgramStack.h5", "connectComponent")
    np.testing.assert_array_equal(parts, scene.component)
    assert not parts[scene.phase == 0].any()
