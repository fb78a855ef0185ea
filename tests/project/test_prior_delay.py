"""A weather model's delay is believed, date by date, as far as the stack bears it out, and no further."""

import json
import shutil

import h5py
import numpy as np
import pytest

from conftest import grid_of, make_simulated, read, shortened, tree
from mintpy_vae.dates import acquisition_years
from mintpy_vae.errors import InputError
from mintpy_vae.method import observations
from mintpy_vae.method.prior_mean import coefficients, relative
from mintpy_vae.method.timefunctions import trend
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.delay import write_delay
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn, training_data

SIZE, N = (40, 44), 14
QUICK = "vae.trainSteps = 10\nvae.numSeed = 1\nvae.resolution = 1.1\n"
PHASE = -4 * np.pi / WAVELENGTH


def write_series(file, stack, values, dates=None):
    """A delay file as MintPy's tropo_*.py leave it: absolute, so large and alike on all dates but for what differs."""
    with h5py.File(stack) as f, h5py.File(file, "w") as out:
        dates = sorted({d.decode() for d in f["date"][:].ravel()}) if dates is None else dates
        out.attrs.update({k: v for k, v in f.attrs.items() if not k.startswith("REF_")})
        out.attrs.update({"FILE_TYPE": "timeseries", "UNIT": "m"})
        out["date"] = np.array(dates, "S8")
        out["timeseries"] = values.astype(np.float32)
    return file


@pytest.fixture(scope="module")
def scene():
    return simulate("bowl", n_dates=N, size=SIZE, seed=3)


@pytest.fixture(scope="module")
def delays(scene):
    """Metres by name."""
    static = -2.3 + 1e-4 * scene.height
    true = scene.atmosphere + static + np.linspace(0, 0.2, N)[:, None, None]
    other = simulate("bowl", n_dates=N, size=SIZE, seed=53).atmosphere
    wrong = np.arange(N) % 2 == 1
    half = np.where(wrong[:, None, None], other, true)
    return {"true": true, "other": other + static, "half": half, "double": 2 * true, "part": 0.5 * true}


@pytest.fixture(scope="module")
def project(tmp_path_factory, delays):
    """A project whose inputs hold no delay, and beside it the files; return stack and template."""
    root = tmp_path_factory.mktemp("prior") / "WORK"
    template = make_simulated(root, n_dates=N, size=SIZE, text=QUICK)
    stack = root / "inputs" / "ifgramStack.h5"
    for name, values in delays.items():
        write_series(root.parent / f"{name}.h5", stack, values)
    return stack, template


@pytest.fixture
def own(project, tmp_path):
    """A copy of one's own."""
    root = shutil.copytree(project[0].parents[1], tmp_path / "WORK")
    return root / "inputs" / "ifgramStack.h5", root / project[1].name


@pytest.fixture(scope="module")
def learned(project):
    """What is learned with each of the files, or without."""
    found = {}

    def of(name):
        if name not in found:
            choice = "auto" if name == "none" else str(project[0].parents[2] / f"{name}.h5")
            found[name] = learn(prepare(project[0], template_file=project[1], prior_delay=choice), {})
        return found[name]

    return of


def shares(learned):
    return np.array(list(learned.details["prior_delay"]["coefficients"].values()))


def relative_to_means(maps, land):
    values = maps[:, land] - maps[:, land].mean(axis=0)
    return values - values.mean(axis=1, keepdims=True)


def error(learned, scene):
    """Of the atmosphere on the stack's own grid, standard deviation in millimetres."""
    rows = learned.atmosphere(slice(0, SIZE[0])) / PHASE
    return 1e3 * relative_to_means(rows - scene.atmosphere, scene.land).std()


# ----------------------------------------------------------------------------------------------------- the coefficients
def test_the_true_delay_gets_1_and_the_error_goes(learned, scene):
    assert shares(learned("true")).min() > 0.95
    assert error(learned("true"), scene) < 0.5 * error(learned("none"), scene)


def test_a_random_delay_gets_0_and_changes_hardly_anything(learned, scene):
    assert shares(learned("other")).max() < 0.02
    rows = slice(0, SIZE[0])
    difference = learned("other").atmosphere(rows) - learned("none").atmosphere(rows)
    assert difference.std() < 0.02 * learned("none").atmosphere(rows).std()
    assert "prior_delay" not in learned("none").details


def test_a_delay_that_is_right_on_every_second_date_is_believed_there(learned):
    found = shares(learned("half"))
    assert found[::2].mean() > 0.85 and found[1::2].mean() < 0.3


def test_a_delay_too_strong_is_scaled_down_and_one_too_weak_taken_whole(learned, scene):
    assert shares(learned("double")) == pytest.approx(0.5, abs=0.03)
    assert shares(learned("part")).min() > 0.95
    assert error(learned("double"), scene) < 0.5 * error(learned("none"), scene)


class Arrays:
    """Series (dates, pixels), its sky's statistics, and coefficients of maps."""

    def __init__(self, n_dates=16, seed=4):
        self.scene = simulate("bowl", n_dates=n_dates, size=(24, 26), seed=seed, sky="stationary", water=0.0)
        self.valid = np.ones((24, 26), dtype=bool)
        self.height = (self.scene.height - self.scene.height.mean()).ravel().astype(float)
        years = acquisition_years(self.scene.dates)
        self.functions, self.grid = [trend(years)], grid_of(self.valid, self.height, years)

    def flat(self, maps):
        return relative(PHASE * maps.reshape(len(maps), -1).astype(float))

    def __call__(self, series, maps):
        noise = 0.001 * np.random.default_rng(0).normal(size=series.shape)
        return self.without_noise(series + noise, maps)

    def without_noise(self, series, maps):
        return coefficients(self.flat(series), self.flat(maps), self.functions, self.grid, 0.01)


def test_no_step_where_a_delay_comes_out_of_the_noise():
    case = Arrays()
    true, other = case.scene.atmosphere, simulate("quiet", n_dates=16, size=(24, 26), seed=90, water=0.0).atmosphere
    mixed = [case(true, a * true + (1 - a) * other) for a in np.linspace(0, 1, 9)]
    means = np.array([c.mean() for c in mixed])
    assert means[0] < 0.02 and means[-1] > 0.98 and np.diff(means).max() < 0.45
    near = [case(true, a * true + (1 - a) * other).mean() for a in (0.5, 0.501)]
    assert abs(near[1] - near[0]) < 0.02


def test_a_delay_without_any_error_or_of_no_date_is_no_trouble():
    case = Arrays()
    assert case.without_noise(case.scene.atmosphere, case.scene.atmosphere).min() > 0.99
    assert not case(case.scene.atmosphere, np.full_like(case.scene.atmosphere, np.nan)).any()


def test_a_purely_stratified_delay_counts_though_the_slope_with_height_can_hold_it():
    case = Arrays()
    rng = np.random.default_rng(1)
    stratified = 0.03 * np.outer(rng.normal(size=16), case.height / case.height.std()).reshape(16, 24, 26)
    turbulence = simulate(
        "quiet", n_dates=16, size=(24, 26), seed=8, sky="stationary", water=0.0, stratified=0.0, stratified_annual=0.0
    ).atmosphere
    assert case(turbulence + stratified, stratified).mean() > 0.8
    assert case(turbulence + stratified, rng.permutation(stratified)).max() < 0.1


def test_motion_that_follows_the_relief_is_no_evidence_for_a_model_with_the_same_trend():
    case = Arrays()
    course = np.linspace(0, 1, 16)[:, None, None]
    motion = 0.1 * course * case.scene.height / np.ptp(case.scene.height)
    random = simulate("quiet", n_dates=16, size=(24, 26), seed=91, water=0.0).atmosphere
    for model in (motion, motion + random):
        assert case(case.scene.atmosphere + motion, model).max() < 0.02


# ------------------------------------------------------------------------------------------------------------ the files
def test_the_first_file_that_fits_is_taken_and_the_others_are_named(own, delays):
    stack, template = own
    inputs = stack.parent
    write_series(inputs / "ERA5.h5", stack, delays["true"][:, :-2])
    write_series(inputs / "GACOS.h5", stack, delays["true"])
    job = prepare(stack, template_file=template)
    assert job.prior.file == inputs / "GACOS.h5"
    (warning,) = job.prior_warnings
    assert "ERA5.h5" in warning and "pixels" in warning and "\n" not in warning
    write_series(inputs / "MERRA.h5", stack, delays["true"])
    with open(template, "a") as f:
        f.write("mintpy.troposphericDelay.weatherModel = MERRA\n")
    assert prepare(stack, template_file=template).prior.file == inputs / "MERRA.h5"
    assert prepare(stack, template_file=template, prior_delay="no").prior is None
    named = prepare(stack, template_file=template, prior_delay="inputs/GACOS.h5").prior
    assert named.file == inputs / "GACOS.h5"


def another_size(file, stack, true):
    write_series(file, stack, true[:, :, :-1])


def another_scene(file, stack, true):
    write_series(file, stack, true)
    with h5py.File(file, "r+") as f:
        f.attrs["Y_FIRST"] = "50.0"


def other_dates(file, stack, true):
    write_series(file, stack, true, [f"2001{k + 1:02d}01" if k < 12 else f"2002{k - 11:02d}01" for k in range(N)])


def no_series(file, stack, true):
    with h5py.File(file, "w") as f:
        f["velocity"] = true[0]


def no_hdf5(file, stack, true):
    file.write_text("nothing")


def ours(file, stack, true):
    write_series(file, stack, true)
    with h5py.File(file, "r+") as f:
        f["timeseries"].attrs["vae.complete"] = "yes"


@pytest.mark.parametrize("spoil", [another_size, another_scene, other_dates, no_series, no_hdf5, ours, None])
def test_a_file_asked_for_by_name_must_fit(own, delays, tmp_path, spoil):
    stack, template = own
    if spoil:
        spoil(stack.with_name("ERA5.h5"), stack, delays["true"])
        job = prepare(stack, template_file=template)
        assert job.prior is None and len(job.prior_warnings) == 1
    with open(template, "a") as f:
        f.write("vae.priorDelay = inputs/ERA5.h5\n")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="vae.priorDelay = inputs/ERA5.h5") as said:
        correct(stack, template_file=template)
    assert "\n" not in str(said.value) and tree(tmp_path) == before


def test_dates_without_a_delay_get_none_and_gaps_are_filled(own, delays):
    stack, template = own
    dates = sorted({d.decode() for d in read(stack, "date").ravel()})
    values = delays["true"].copy()
    values[2, :20] = np.nan  # half of the scene
    values[3, 5:8, 5:9] = np.nan
    values[4] = 0  # a download that failed
    file = write_series(stack.with_name("ERA5.h5"), stack, values[1:], dates[1:])
    job = prepare(stack, template_file=template)
    assert len(job.prior_warnings) == 1 and dates[0] in job.prior_warnings[0]
    data = training_data(job)
    delay = data.delay
    known = np.isfinite(delay.maps).all(axis=(1, 2))
    assert np.flatnonzero(~known).tolist() == [0, 2, 4] and not np.isfinite(delay.maps[~known]).any()
    removed = delay.removed(np.ones(N), np.isfinite(data.observations.height))
    whole = removed(slice(0, SIZE[0]))
    assert np.isfinite(whole).all() and (whole[~known] == 0).all()
    assert np.array_equal(removed(slice(7, 19)), whole[:, 7:19])
    clear = np.ones(SIZE, dtype=bool)
    clear[5:8, 5:9] = False
    wanted = PHASE * values[known][:, clear]
    wanted -= wanted.mean(axis=0)
    found = whole[known][:, clear]
    difference = found - wanted
    assert (difference - difference.mean(axis=1, keepdims=True)).std() < 0.02 * wanted.std()
    assert read(file, "timeseries").shape[0] == N - 1


def test_with_no_file_nothing_changes_and_with_no_neither(own, delays, learned):
    stack, template = own
    write_series(stack.with_name("ERA5.h5"), stack, delays["true"])
    found = learn(prepare(stack, template_file=template, prior_delay="no"), {})
    rows = slice(0, SIZE[0])
    assert np.array_equal(found.atmosphere(rows), learned("none").atmosphere(rows))
    assert found.details == learned("none").details


# ------------------------------------------------------------------------------------------------------ from end to end
def test_stack_delay_file_result_and_report_say_the_same(own, delays, scene, tmp_path):
    stack, template = own
    write_series(stack.with_name("ERA5.h5"), stack, delays["true"])
    before = tree(tmp_path / "WORK")
    correct(stack, template_file=template, invert=False)
    assert tree(tmp_path / "WORK") == before
    work = tmp_path / "WORK_vae"
    written = json.loads((work / "vae_result.json").read_text())
    assert written["prior_delay"]["file"] == "inputs/ERA5.h5" and "prior_delay_sha256" in written
    assert list(written["prior_delay"]["coefficients"]) == scene.dates
    assert min(written["prior_delay"]["coefficients"].values()) > 0.95
    page = (work / "vae_report.html").read_text()
    assert "Weather model" in page and "inputs/ERA5.h5" in page
    removed = read(stack, "unwrapPhase") - read(work / "inputs" / "ifgramStack.h5", "unwrapPhase")
    series = PHASE * read(work / "inputs" / "VAE.h5", "timeseries")
    for layer, data, (first, second) in zip(removed, read(stack, "unwrapPhase"), scene.pairs, strict=True):
        np.testing.assert_allclose(layer[data != 0], (series[second] - series[first])[data != 0], atol=2e-4)
    assert correct(stack, template_file=template, invert=False, update=True).skipped
    write_series(stack.with_name("ERA5.h5"), stack, delays["other"])
    assert not correct(stack, template_file=template, invert=False, update=True).skipped


@pytest.mark.parametrize("tiles", [False, True])
def test_a_new_date_gets_its_share_of_the_delay(own, delays, scene, tmp_path, tiles, monkeypatch):
    stack, template = own
    if tiles:
        monkeypatch.setattr(observations, "LARGEST", 330)
        template.write_text(template.read_text().replace("vae.resolution = 1.1", "vae.resolution = 0.1"))
    first, whole = N - 2, shutil.copy(stack, tmp_path / "all.h5")
    shortened(stack, first)
    model = write_series(stack.with_name("ERA5.h5"), stack, delays["true"][:first], scene.dates[:first])
    work = correct(stack, template_file=template, invert=False).work_dir
    before = read(work / "inputs" / "VAE.h5", "timeseries")
    shutil.copy(whole, stack)
    write_series(model, stack, np.where(np.arange(N)[:, None, None] == 3, 2 * delays["true"], delays["true"]))
    with pytest.raises(InputError, match=f"delay on {scene.dates[3]} has changed"):
        correct(stack, template_file=template, invert=False, update=True, only_new=True)
    write_series(model, stack, delays["true"])
    done = correct(stack, template_file=template, invert=False, update=True, only_new=True)
    assert done.details["update"]["new_dates"] == scene.dates[first:]
    assert (done.details.get("tiles", 0) > 1) == tiles
    shares = done.details["prior_delay"]["coefficients"]
    assert list(shares) == scene.dates and min(shares.values()) > 0.9
    after = read(work / "inputs" / "VAE.h5", "timeseries")
    np.testing.assert_array_equal(after[:first], before)
    left = after - scene.atmosphere
    left = left[:, scene.land] - left[:first][:, scene.land].mean(axis=0)
    assert 1e3 * (left[first:] - left[first:].mean(axis=1, keepdims=True)).std() < 3.0
    assert all(noise[1] < 0.5 * noise[0] for noise in map(done.details["noise_per_date_mm"].get, scene.dates[first:]))


def test_inside_the_project_the_delay_file_holds_it(own, delays, scene):
    stack, template = own
    write_series(stack.with_name("ERA5.h5"), stack, delays["true"])
    before = tree(stack.parents[1])
    result = write_delay(stack, template_file=template)
    after = tree(stack.parents[1])
    assert {name for name in after if after[name] != before.get(name)} == {"inputs/VAE.h5"}
    assert min(result.details["prior_delay"]["coefficients"].values()) > 0.95
    series = read(stack.with_name("VAE.h5"), "timeseries")
    assert 1e3 * relative_to_means(series - scene.atmosphere, scene.land).std() < 3
    assert prepare(stack, template_file=template).prior.file.name == "ERA5.h5"
