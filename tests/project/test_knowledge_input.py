"""What the user knows, read from real project files; MintPy, the truth and brute force say what is right."""

import dataclasses
import shutil
from datetime import date, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest
import utm
from mintpy.cli.timeseries2velocity import cmd_line_parse as velocity_parse
from mintpy.utils import time_func, writefile

from conftest import make_simulated, read, two_pixels
from mintpy_vae import InputError, Settings
from mintpy_vae.cli import vae_correct
from mintpy_vae.method.knowledge import Knowledge
from mintpy_vae.method.separation import separate
from mintpy_vae.method.timefunctions import adds_to, annual, trend
from mintpy_vae.project.knowledge_input import read_functions, read_knowledge
from mintpy_vae.project.templates import read_templates
from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.stack import open_stack, pool_map
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.correction import correct

FACTOR = 3
SIZE = (47, 61)  # no multiple of the factor
SECONDS = 2421.9  # time of day of the simulated acquisitions, 00:40
NOISELESS = {
    "turbulence": 0.0, "stratified": 0.0, "stratified_annual": 0.0, "orbit": 0.0, "texture": (0.0, 0.0),
    "unwrap_errors": 0.0, "looks": 4e6, "decay": (1e5, 1e6),
}  # fmt: skip


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """Without atmosphere, so that the phase itself says what a rate is."""
    roots = {}
    for coord in ("geo", "radar"):
        roots[coord] = tmp_path_factory.mktemp("known") / "WORK"
        write_project(simulate("bowl", 14, SIZE, seed=4, coord=coord, **NOISELESS), roots[coord])
    return roots


@pytest.fixture(params=["geo", "radar"])
def stack(request, projects, tmp_path):
    return own_stack(projects[request.param], tmp_path)


@pytest.fixture
def mapped_stack(projects, tmp_path):
    return own_stack(projects["geo"], tmp_path)


def own_stack(project, tmp_path):
    copy = Path(shutil.copytree(project, tmp_path / "WORK"))
    return open_stack(copy / "inputs" / "ifgramStack.h5")


def root(stack):
    return stack.file.parents[1]


def known(stack, template=None, dates=None, **settings):
    return read_knowledge(template or {}, Settings(**settings), stack, dates or stack.dates, FACTOR)


def refusal(stack, template=None, **settings):
    """One sentence that fits on the screen."""
    with pytest.raises(InputError) as error:
        known(stack, template, **settings)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


def write_mask(stack, mask, name="mask.h5"):
    attributes = {**stack.attributes, "FILE_TYPE": "mask", "LENGTH": mask.shape[0], "WIDTH": mask.shape[1]}
    writefile.write({"mask": mask}, str(root(stack) / name), metadata=attributes, print_msg=False)
    return name


def write_table(stack, lines, header="station,lat,lon,rate,std", name="gnss.csv"):
    (root(stack) / name).write_text("\n".join([header, *lines]) + "\n")
    return name


def lat_lon(stack):
    """Centres of the pixels, from the files."""
    if "Y_FIRST" not in stack.attributes:
        return read(stack.geometry_file, "latitude"), read(stack.geometry_file, "longitude")
    first, step = ([float(stack.attributes[f"{axis}_{end}"]) for axis in "YX"] for end in ("FIRST", "STEP"))
    y, x = np.indices(stack.shape)
    return first[0] + step[0] * (y + 0.5), first[1] + step[1] * (x + 0.5)


def years_of(stack):
    return np.array([(date.fromisoformat(d) - date.fromisoformat(stack.dates[0])).days / 365.25 for d in stack.dates])


def covered_pixels(stack, number, margin=2):
    """Pixels on land, away from the sides, as far from each other as luck has it."""
    inner = np.zeros(stack.shape, bool)
    inner[margin:-margin, margin:-margin] = True
    return np.random.default_rng(1).permutation(np.argwhere(stack.land & inner))[:number]


# --------------------------------------------------------------------------------------------------- functions of time
ALL = {
    "mintpy.timeFunc.polynomial": "1",
    "mintpy.timeFunc.periodic": "[1, 0.5; 0.3]",
    "mintpy.timeFunc.stepDate": "20180501;20180304",
    "mintpy.timeFunc.exp": "20171001,60;20180304,40,100.7",
    "mintpy.timeFunc.log": "20180304,60|20180501, 20",
}
NAMES = [
    "annual cosine", "annual sine", "semiannual cosine", "semiannual sine", "0.3 yr cosine", "0.3 yr sine",
    "step 20180304", "step 20180501",
    "exp 20171001 60 days", "exp 20180304 40 days", "exp 20180304 100 days",
    "log 20180304 60 days", "log 20180501 20 days",
]  # fmt: skip


def as_text(options):
    return "".join(f"{key} = {value}\n" for key, value in options.items())


def as_mintpy(stack, options):
    """Design matrix (dates, parameters) that MintPy's velocity step makes of a template."""
    template = root(stack) / "velocity.txt"
    template.write_text(as_text(options))
    inps = velocity_parse([str(root(stack) / "truth.h5"), "-t", str(template)])
    model = time_func.inps2model(inps, stack.dates, print_msg=False)
    seconds = stack.attributes["CENTER_LINE_UTC"]
    return time_func.get_design_matrix4time_func(stack.dates, model, seconds=seconds)


def values_of(functions):
    return np.stack([f.values for f in functions], axis=1)


def test_functions_are_the_columns_of_the_velocity_step(mapped_stack):
    found = known(mapped_stack, ALL)
    assert [f.name for f in found.functions] == NAMES and found.warnings == []
    assert not any(f.family for f in found.functions)
    np.testing.assert_array_equal(values_of(found.functions), as_mintpy(mapped_stack, ALL)[:, 2:])


@pytest.mark.parametrize(("option", "value", "expected"), [
    ("periodic", "1", lambda t, day: np.cos(2 * np.pi * t / 365.25)),
    ("stepDate", "20180304", lambda t, day: (t > day("20180304")) * 1.0),
    ("exp", "20180304,60", lambda t, day: 1 - np.exp(-np.clip(t - day("20180304"), 0, None) / 60)),
    ("log", "20171001,60", lambda t, day: np.log1p((t - day("20171001")) / 60)),
])  # fmt: skip
def test_functions_are_what_their_names_say(mapped_stack, option, value, expected):
    first = date.fromisoformat(mapped_stack.dates[0])

    def day(text):
        return (date.fromisoformat(text) - first).days - SECONDS / 86400  # since the first acquisition

    times = np.array([(date.fromisoformat(d) - first).days for d in mapped_stack.dates])
    found = known(mapped_stack, {f"mintpy.timeFunc.{option}": value}).functions[0]
    # MintPy counts a year from 1 January as 365.25 days long, whatever its length
    assert found.values == pytest.approx(expected(times, day), abs=0.02)


def test_annual_functions_are_those_that_the_method_knows(mapped_stack):
    found = known(mapped_stack, {"mintpy.timeFunc.periodic": "1"})
    ours = annual(years_of(mapped_stack))
    assert {f.name for f in found.functions} == {f.name for f in ours}
    assert not any(adds_to([trend(years_of(mapped_stack)), *ours], f) for f in found.functions)


def test_a_polynomial_spans_what_mintpy_fits_and_is_no_trend(mapped_stack):
    options = {"mintpy.timeFunc.polynomial": "4"}
    functions = known(mapped_stack, options).functions
    assert [f.name for f in functions] == ["quadratic", "cubic", "polynomial 4"]
    line = np.stack([np.ones(14), years_of(mapped_stack)], axis=1)
    ours, theirs = np.hstack([line, values_of(functions)]), as_mintpy(mapped_stack, options)
    left = theirs - ours @ np.linalg.lstsq(ours, theirs, rcond=None)[0]
    assert np.abs(left).max() < 1e-4 * np.abs(theirs).max()
    for f in functions:
        assert adds_to([trend(years_of(mapped_stack))], f)
    assert known(mapped_stack, {"mintpy.timeFunc.polynomial": "0"}).functions == []


def test_the_time_of_day_says_which_date_follows_a_step(mapped_stack):
    """The first acquisition after a quake may be of the same day."""
    third = mapped_stack.dates[3]
    for onset, since in ((third, 3), (f"{third}T0039", 3), (f"{third}T0041", 4)):
        (step,) = known(mapped_stack, {"mintpy.timeFunc.stepDate": onset}).functions
        assert step.values.tolist() == [0.0] * since + [1.0] * (14 - since)
    (at_midnight,), _ = read_functions({"mintpy.timeFunc.stepDate": third}, mapped_stack.dates)
    assert at_midnight.values.sum() == 10


def test_a_short_decay_is_finite_before_its_onset():
    """MintPy's own column is not: its exponential overflows years before the onset."""
    dates = [f"{date(2015, 1, 1) + timedelta(120 * k):%Y%m%d}" for k in range(20)]
    (decay,), _ = read_functions({"mintpy.timeFunc.exp": "20200601,1"}, dates)
    assert np.isfinite(decay.values).all() and set(decay.values) == {0.0, 1.0}


@pytest.mark.parametrize("value", ["no", "auto", "none"])
def test_without_options_nothing_is_known(mapped_stack, value):
    assert known(mapped_stack) == Knowledge()
    assert known(mapped_stack, dict.fromkeys(ALL, value)) == Knowledge()
    options = {f"vae.{key}": value for key in ("stableMask", "movingMask", "gnssFile", "badDate")}
    assert Settings.from_template(options) == Settings()


@pytest.mark.parametrize("options", [
    {"mintpy.timeFunc.stepDate": "20180304,20110311"},
    {"mintpy.timeFunc.stepDate": "{first},20180304"},
    {"mintpy.timeFunc.stepDate": "20180304;{last}"},
    {"mintpy.timeFunc.log": "20180304,60;{last},60"},
    {"mintpy.timeFunc.exp": "20300101T1200,60;20180304,60"},
])  # fmt: skip
def test_what_lies_outside_the_dates_is_ignored_with_a_warning(mapped_stack, options):
    dates = {"first": mapped_stack.dates[0], "last": mapped_stack.dates[-1]}
    options = {key: value.format(**dates) for key, value in options.items()}
    found = known(mapped_stack, options)
    assert len(found.functions) == len(found.warnings) == 1
    assert "20180304" in found.functions[0].name
    assert "lies outside the dates of the stack" in found.warnings[0]
    with pytest.raises(ValueError):
        as_mintpy(mapped_stack, options)  # which the warning says


def test_a_constant_is_no_function(mapped_stack):
    found = known(mapped_stack, {"mintpy.timeFunc.stepDate": f"{mapped_stack.dates[0]}T0010"})
    assert found.functions == [] and "is constant over the dates" in found.warnings[0]


@pytest.mark.parametrize(("key", "value"), [
    ("polynomial", "two"), ("polynomial", "1.5"), ("polynomial", "-1"), ("polynomial", "13"),
    ("periodic", "annual"), ("periodic", "0"), ("periodic", "1,-0.5"), ("periodic", "1,,2"),
    ("stepDate", "2018-13-04"), ("stepDate", "quake"), ("stepDate", "201803041"), ("stepDate", "20180304,"),
    ("stepDate", "20180304, 20180501"),
    ("exp", "20180304"), ("exp", "60"), ("exp", "20180304,sixty"), ("exp", "20180304,0"),
    ("log", "20180304,-60"), ("log", "20180304,0.4"), ("log", "20180399,60"), ("log", "yes"),
])  # fmt: skip
def test_a_bad_function_is_refused_by_its_option(mapped_stack, key, value):
    text = refusal(mapped_stack, {f"mintpy.timeFunc.{key}": value})
    assert text.startswith(f"mintpy.timeFunc.{key} = {value}: ") and "for example" in text


# --------------------------------------------------------------------------------------------------------------- masks
def coarse_by_hand(mask):
    rows, columns = (-(-n // FACTOR) for n in mask.shape)
    out = np.zeros((rows, columns), bool)
    for i in range(rows):
        for j in range(columns):
            out[i, j] = mask[i * FACTOR : (i + 1) * FACTOR, j * FACTOR : (j + 1) * FACTOR].mean() >= 0.5
    return out


def test_a_coarse_pixel_is_what_half_of_its_pixels_are(stack):
    rng = np.random.default_rng(2)
    stable = rng.random(stack.shape) < 0.45
    moving = ~stable & (rng.random(stack.shape) < 0.7)
    found = known(stack, stable_mask=write_mask(stack, stable), moving_mask=write_mask(stack, moving, "m.h5"))
    assert found.warnings == []
    assert found.stable.shape == found.moving.shape == pool_map(stack.height, FACTOR).shape
    by_hand = coarse_by_hand(stable), coarse_by_hand(moving)
    both = by_hand[0] & by_hand[1]  # of two halves
    assert found.stable.tolist() == (by_hand[0] & ~both).tolist()
    assert found.moving.tolist() == (by_hand[1] & ~both).tolist()


def test_masks_of_all_kinds_are_read(mapped_stack):
    mask = np.arange(61) < 20 + np.zeros((47, 1))
    expected = coarse_by_hand(mask).tolist()
    for k, kind in enumerate((bool, np.uint8, np.int16, np.float32)):
        name = write_mask(mapped_stack, mask.astype(kind), f"{k}.h5")
        assert known(mapped_stack, stable_mask=name).stable.tolist() == expected
    holes = write_mask(mapped_stack, np.where(mask, 1, np.nan).astype(np.float32), "nan.h5")
    assert known(mapped_stack, stable_mask=str(root(mapped_stack) / holes)).stable.tolist() == expected
    assert known(mapped_stack, moving_mask=holes).moving.tolist() == expected


def test_where_both_masks_overlap_neither_is_believed(mapped_stack):
    columns = np.arange(61) + np.zeros((47, 1))
    stable, moving = write_mask(mapped_stack, columns < 30), write_mask(mapped_stack, columns >= 24, "m.h5")
    found = known(mapped_stack, stable_mask=stable, moving_mask=moving)
    assert found.stable.tolist() == coarse_by_hand(columns < 24).tolist()
    assert found.moving.tolist() == coarse_by_hand(columns >= 30).tolist()
    assert "9.8% of the scene is marked by both vae.stableMask and vae.movingMask" in found.warnings[0]


def test_halves_of_every_coarse_pixel_leave_nothing(mapped_stack):
    even = (np.arange(61) % 2 == 0) + np.zeros((47, 1), bool)
    even[:, -1] = False
    odd = ~even & (np.arange(61) < 60)
    masks = {"stable_mask": write_mask(mapped_stack, even), "moving_mask": write_mask(mapped_stack, odd, "m.h5")}
    with pytest.raises(InputError, match="marks nothing, except what vae.movingMask marks too"):
        read_knowledge({}, Settings(**masks), mapped_stack, mapped_stack.dates, 2)


def test_a_bad_mask_is_refused(mapped_stack):
    some = np.arange(61) < 20 + np.zeros((47, 1))
    speckle = np.zeros((47, 61), bool)
    speckle[1:45:3, 1:60:3] = True
    good = write_mask(mapped_stack, some, "good.h5")
    (root(mapped_stack) / "text.h5").write_text("no mask")
    (root(mapped_stack) / "text.msk").write_text("no mask")
    for key, field in (("vae.stableMask", "stable_mask"), ("vae.movingMask", "moving_mask")):
        for name, mask, expected in (
            ("none.h5", None, "there is no file"),
            ("inputs", None, "there is no file"),
            (300 * "x", None, "there is no file"),
            ("text.h5", None, "MintPy cannot read"),
            ("text.msk", None, "MintPy cannot read"),
            ("small.h5", some[1:], "has shape (46, 61), but the stack has (47, 61)"),
            ("empty.h5", some & False, "marks nothing that fills"),
            ("speckle.h5", speckle, "marks nothing that fills"),
        ):
            if mask is not None:
                write_mask(mapped_stack, mask, name)
            text = refusal(mapped_stack, **{field: name})
            assert text.startswith(key) and expected in text, text
    assert "marks nothing except what" in refusal(mapped_stack, stable_mask=good, moving_mask=good).replace(",", "")
    everything = write_mask(mapped_stack, some | True, "all.h5")
    assert "marks the whole scene" in refusal(mapped_stack, moving_mask=everything)
    assert known(mapped_stack, stable_mask=everything).stable.all()


# ---------------------------------------------------------------------------------------------------------------- GNSS
def test_stations_come_to_the_right_place(stack):
    pixels = covered_pixels(stack, 25)
    latitude, longitude = lat_lon(stack)
    turn = 360 * (np.arange(25) % 2)  # longitudes of either convention
    lines = [f"P{k},{latitude[y, x]:.8f},{longitude[y, x] + turn[k]:.8f},0,1" for k, (y, x) in enumerate(pixels)]
    found = known(stack, gnss_file=write_table(stack, lines))
    assert found.warnings == [] and [s.name for s in found.stations] == [f"P{k}" for k in range(25)]
    place = np.array([[s.row, s.column] for s in found.stations])
    expected = (pixels + 0.5) / FACTOR - 0.5
    # in radar coordinates MintPy searches the lookup table to about a pixel
    tolerance = 1e-9 if "Y_FIRST" in stack.attributes else 1.5 / FACTOR
    assert np.abs(place - expected).max() <= tolerance
    assert np.abs(np.mean(place - expected, axis=0)).max() <= tolerance / 2 + 1e-9


def test_the_true_rate_is_the_rate_of_the_phase(stack):
    """Truth in metres towards the satellite, phase as the stack holds it: sign, wavelength, units."""
    truth, years = read(root(stack) / "truth.h5", "timeseries"), years_of(stack)
    true_rate = (truth[-1] - truth[0]) / years[-1]  # bowls sink steadily
    spans = np.diff(years[stack.pairs], axis=1)[:, 0]
    phase = read(stack.file, "unwrapPhase")
    phase_rate = np.tensordot(spans, phase, 1) / (spans @ spans)
    full = (phase != 0).all(axis=0)
    fast = np.unravel_index(int(np.where(full, -true_rate, 0).argmax()), full.shape)
    still = tuple(np.argwhere(full & (np.abs(true_rate) < 1e-5))[50])
    latitude, longitude = lat_lon(stack)
    lines = [f"S,{latitude[p]:.8f},{longitude[p]:.8f},{1000 * true_rate[p]:.6f},2.0" for p in (fast, still)]
    found = known(stack, gnss_file=write_table(stack, lines)).stations
    assert true_rate[fast] < -0.01 and phase_rate[fast] - phase_rate[still] > 1
    assert found[0].rate - found[1].rate == pytest.approx(phase_rate[fast] - phase_rate[still], rel=0.01)
    assert found[0].std == pytest.approx(4 * np.pi / stack.wavelength * 0.002)


def test_east_north_up_is_projected(stack):
    """Against the vector to the satellite from the heading: a right-looking radar sees it to the left of its flight."""
    (y, x), (y2, x2) = covered_pixels(stack, 2)
    latitude, longitude = lat_lon(stack)
    heading = np.deg2rad(float(stack.attributes["HEADING"]))
    angles = np.deg2rad(read(stack.geometry_file, "incidenceAngle"))
    header = "Lon,Lat,Station,vE,vN,vU,sE,sN,sU,comment"
    for east, north, up in np.eye(3):
        lines = [
            f"{longitude[p]:.8f}, {latitude[p]:.8f}, S, {8 * east}, {8 * north}, {8 * up}, 1, 2, 3, from a paper"
            for p in ((y, x), (y2, x2))
        ]
        found = known(stack, gnss_file=write_table(stack, ["# made for a test", *lines], header)).stations
        for station, p in zip(found, ((y, x), (y2, x2)), strict=True):
            sight = [-np.sin(angles[p]) * np.cos(heading), np.sin(angles[p]) * np.sin(heading), np.cos(angles[p])]
            mm = np.dot(sight, [8 * east, 8 * north, 8 * up])
            # 4 degrees of incidence over 61 columns, and MintPy's search is a pixel or two off
            assert station.rate == pytest.approx(-4 * np.pi / stack.wavelength * mm / 1000, rel=0.01)
            std = np.hypot(np.hypot(sight[0], 2 * sight[1]), 3 * sight[2])
            assert station.std == pytest.approx(4 * np.pi / stack.wavelength * std / 1000, rel=0.01)


def test_the_heading_stands_in_for_the_azimuth_angle(mapped_stack):
    lines = [f"S,{lat_lon(mapped_stack)[0][p]},{lat_lon(mapped_stack)[1][p]},5,3,1,1,1,1"
             for p in map(tuple, covered_pixels(mapped_stack, 2))]  # fmt: skip
    table = write_table(mapped_stack, lines, "station,lat,lon,ve,vn,vu,se,sn,su")
    before = known(mapped_stack, gnss_file=table).stations
    with h5py.File(mapped_stack.geometry_file, "r+") as f:
        del f["azimuthAngle"]
    after = known(mapped_stack, gnss_file=table).stations
    assert [s.rate for s in after] == pytest.approx([s.rate for s in before], rel=1e-5)
    with h5py.File(mapped_stack.geometry_file, "r+") as f:
        del f["incidenceAngle"]
    assert "cannot be projected" in refusal(mapped_stack, gnss_file=table)


def test_stations_on_a_utm_grid(mapped_stack):
    """The same scene on a grid in metres."""
    east, north = utm.from_latlon(19.5, -99.2)[:2]
    attributes = {**mapped_stack.attributes, "UTM_ZONE": "14N", "X_FIRST": str(east), "Y_FIRST": str(north)}
    attributes |= {"X_STEP": "90.0", "Y_STEP": "-90.0", "X_UNIT": "meters", "Y_UNIT": "meters"}
    metres = dataclasses.replace(mapped_stack, attributes=attributes)
    pixels = covered_pixels(metres, 5)
    lines = []
    for y, x in pixels:
        lat, lon = utm.to_latlon(east + 90 * (x + 0.5), north - 90 * (y + 0.5), 14, "N")
        lines.append(f"S,{lat:.9f},{lon:.9f},0,1")
    found = known(metres, gnss_file=write_table(metres, lines)).stations
    assert [[s.row, s.column] for s in found] == pytest.approx((pixels + 0.5) / FACTOR - 0.5)


def test_stations_outside_or_in_water_are_left_out(stack):
    latitude, longitude = lat_lon(stack)
    inside = {f"IN{k}": tuple(p) for k, p in enumerate(covered_pixels(stack, 3))}
    places = {name: (latitude[p], longitude[p]) for name, p in inside.items()}
    rows, columns = (n - 1 for n in stack.shape)
    middle = rows // 2, columns // 2
    for name, edge, inner in (
        ("TOP", (0, middle[1]), (1, middle[1])),
        ("BOTTOM", (rows, middle[1]), (rows - 1, middle[1])),
        ("LEFT", (middle[0], 0), (middle[0], 1)),
        ("RIGHT", (middle[0], columns), (middle[0], columns - 1)),
    ):
        for pixels in (2, 6, 40, 4000):  # beyond the edge
            places[f"{name}{pixels}"] = tuple(g[edge] + pixels * (g[edge] - g[inner]) for g in (latitude, longitude))
    places["ANTIPODE"] = (-20.0, 81.0)
    water = pool_map(stack.land.astype(float), FACTOR) == 0
    wet = np.argwhere(water[1:-1, 1:-1])[0] + 1
    y, x = wet * FACTOR + 1
    places["WATER"] = (latitude[y, x], longitude[y, x])
    lines = [f"{name},{lat:.8f},{lon:.8f},1,1" for name, (lat, lon) in places.items()]
    found = known(stack, gnss_file=write_table(stack, lines))
    assert [s.name for s in found.stations] == list(inside)
    outside, empty = found.warnings
    assert outside.startswith("GNSS stations outside the scene are left out: TOP2, TOP6") and "ANTIPODE" in outside
    assert empty == "GNSS stations where the stack has no data are left out: WATER."

    alone = known(stack, gnss_file=write_table(stack, [lines[0], lines[-1]]))
    assert alone.stations == [] and len(alone.warnings) == 2
    assert "1 of 2 stations can be used" in alone.warnings[1]
    assert "0 of 0 stations" in known(stack, gnss_file=write_table(stack, [])).warnings[0]


def test_a_station_where_half_of_the_pairs_have_no_phase_is_left_out(mapped_stack):
    pixels = covered_pixels(mapped_stack, 4, margin=6)
    rows, columns = (pixels[0] // FACTOR) * FACTOR
    with h5py.File(mapped_stack.file, "r+") as f:
        phase, half = f["unwrapPhase"], len(mapped_stack.pairs) // 2
        phase[: half + 1, rows : rows + FACTOR, columns : columns + FACTOR] = 0
        y, x = pixels[1] // FACTOR * FACTOR
        phase[: half - 1, y : y + FACTOR, x : x + FACTOR] = np.nan
    latitude, longitude = lat_lon(mapped_stack)
    lines = [f"P{k},{latitude[y, x]},{longitude[y, x]},0,1" for k, (y, x) in enumerate(pixels)]
    found = known(mapped_stack, gnss_file=write_table(mapped_stack, lines))
    assert [s.name for s in found.stations] == ["P1", "P2", "P3"]


def test_radar_coordinates_need_a_lookup_table(projects, tmp_path):
    radar = own_stack(projects["radar"], tmp_path)
    with h5py.File(radar.geometry_file, "r+") as f:
        del f["latitude"], f["longitude"]
    assert "has no latitude and longitude" in refusal(radar, gnss_file=write_table(radar, ["A,19.4,-99.1,0,1"]))


def test_a_lookup_table_over_the_map_will_do(projects, tmp_path):
    """As Gamma and ROI_PAC have it: for every place its row and column, 0 outside the swath."""
    radar = own_stack(projects["radar"], tmp_path)
    latitude, longitude = lat_lon(radar)
    with h5py.File(radar.geometry_file, "r+") as f:
        del f["latitude"], f["longitude"]
    step = float(np.abs(np.diff(latitude, axis=0)).mean()) / 4
    first = float(latitude.max()) + 20 * step, float(longitude.min()) - 20 * step
    size = [int(np.ptp(g) / step) + 40 for g in (latitude, longitude)]
    lat, lon = first[0] - step * np.arange(size[0])[:, None], first[1] + step * np.arange(size[1])[None]
    rows, columns = np.indices(radar.shape)
    design = np.stack([np.ones(rows.size), latitude.ravel(), longitude.ravel()], axis=1)  # the grid is turned, not bent
    tables = []
    for index in (rows, columns):
        a, b, c = np.linalg.lstsq(design, index.ravel(), rcond=None)[0]
        tables.append(a + b * lat + c * lon)
    inside = (
        (tables[0] > -0.5) & (tables[0] < rows.max() + 0.5) & (tables[1] > -0.5) & (tables[1] < columns.max() + 0.5)
    )
    with h5py.File(root(radar) / "inputs" / "geometryGeo.h5", "w") as f:
        f.attrs.update({**radar.attributes, "FILE_TYPE": "geometry", "LENGTH": str(size[0]), "WIDTH": str(size[1])})
        f.attrs.update({"Y_FIRST": str(first[0]), "X_FIRST": str(first[1])})
        f.attrs.update({"Y_STEP": str(-step), "X_STEP": str(step), "X_UNIT": "degrees", "Y_UNIT": "degrees"})
        f["azimuthCoord"] = np.where(inside, tables[0], 0).astype(np.float32)
        f["rangeCoord"] = np.where(inside, tables[1], 0).astype(np.float32)
    pixels = covered_pixels(radar, 10)
    lines = [f"P{k},{latitude[y, x]:.8f},{longitude[y, x]:.8f},0,1" for k, (y, x) in enumerate(pixels)]
    corner = first[0] - 2 * step, first[1] + 2 * step  # on the table, outside the swath
    lines += [
        f"CORNER,{corner[0]:.8f},{corner[1]:.8f},0,1",
        f"ABOVE,{first[0] + size[0] // 2 * step:.8f},{np.median(longitude):.8f},0,1",
    ]
    found = known(radar, gnss_file=write_table(radar, lines))
    place = np.array([[s.row, s.column] for s in found.stations])
    assert np.abs(place - ((pixels + 0.5) / FACTOR - 0.5)).max() <= 1.0 / FACTOR
    assert found.warnings == ["GNSS stations outside the scene are left out: CORNER, ABOVE."]


@pytest.mark.parametrize(("text", "expected"), [
    ("", "must begin with a line"),
    ("A,19.4,-99.1,1,1", "must begin with a line"),
    ("station,lat,lon,rate\nA,19.4,-99.1,1", "must begin with a line station,lat,lon,rate,std or station,lat,lon,ve"),
    ("station,lat,lon,rate,std\nA,19.4,-99.1,1", "line 2 .* has 4 values, but the header 5"),
    ("# GNSS\n\nstation,lat,lon,rate,std\n\nA,19.4,-99.1,1,1\nB,19.4,-99.1,1,x", "std = 'x' is not a number"),
    ("station,lat,lon,rate,std\nA,19.4,-99.1,nan,1", "line 2 .*: rate = 'nan' is not a number"),
    ("station,lat,lon,rate,std\nA,19.4,-99.1,,1", "line 2 .*: rate = '' is not a number"),
    ("station,lat,lon,rate,std\nA,19.4,-99.1,1,0", "line 2 .*: a standard deviation must be positive"),
    ("station,lat,lon,ve,vn,vu,se,sn,su\nA,19.4,-99.1,1,1,1,1,-1,1", "line 2 .*: a standard deviation"),
    ("station,lat,lon,rate,std\nA,480000,2150000,1,1", "line 2 .*: lat and lon must be in degrees"),
    (b"\xff\xfe\x00\x81", "cannot be read as text"),
])  # fmt: skip
def test_a_bad_table_is_refused(mapped_stack, text, expected):
    (root(mapped_stack) / "gnss.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=expected):
        known(mapped_stack, gnss_file="gnss.csv")
    assert refusal(mapped_stack, gnss_file="gnss.csv").startswith("vae.gnssFile: ")
    assert "there is no file" in refusal(mapped_stack, gnss_file="none.csv")


# --------------------------------------------------------------------------------------------------------------- dates
def test_on_the_command_line_a_date_is_no_file():
    assert [vae_correct._from_here(x) for x in ("20190103", "20190103,20190115", "20190103T1200")] == [
        "20190103",
        "20190103,20190115",
        "20190103T1200",
    ]
    assert vae_correct._from_here("bad.txt") == str(Path("bad.txt").absolute()) and vae_correct._from_here("no") == ""


def test_bad_dates_are_found_however_they_are_written(mapped_stack):
    dates = mapped_stack.dates
    wanted = [dates[7], dates[2]]
    file = root(mapped_stack) / "bad dates.txt"
    file.write_text(f"# storms\n{dates[7]}  # the great one\n\n{dates[2]}\n")
    (root(mapped_stack) / "more.txt").write_text(dates[2])
    short = ",".join(d[2:] for d in wanted)
    for text in (",".join(wanted), " ".join(wanted), "; ".join(wanted), f"[{', '.join(wanted)}]", short,
                 file.name, str(file), f"{dates[7]}, more.txt", f"{dates[7]},{dates[2]},{dates[7]}"):  # fmt: skip
        assert known(mapped_stack, bad_dates=text).bad_dates == [2, 7], text
    every = ",".join(3 * dates)  # longer than the name of a file may be
    assert known(mapped_stack, bad_dates=every).bad_dates == list(range(14))


def test_indices_are_those_of_the_dates_that_are_used(mapped_stack):
    """A date that only dropped pairs reach is a date of the stack, and there is nothing to do about it."""
    used = mapped_stack.dates[:3] + mapped_stack.dates[4:]
    found = known(mapped_stack, dates=used, bad_dates=f"{mapped_stack.dates[3]},{mapped_stack.dates[4]}")
    assert found.bad_dates == [3]


def test_an_unknown_date_is_refused_with_the_nearest(mapped_stack):
    fifth = mapped_stack.dates[5]
    near = f"{date.fromisoformat(fifth) + timedelta(2):%Y%m%d}"
    assert refusal(mapped_stack, bad_dates=f"{mapped_stack.dates[1]},{near}") == (
        f"vae.badDate: {near} is not a date of the stack; the nearest is {fifth}."
    )
    assert mapped_stack.dates[-1] in refusal(mapped_stack, bad_dates="20991231")
    for text, expected in (("20180231", "not a date of the form"), ("2018", "not a date of the form"),
                           ("storm.txt", "there is no file"), ("2018-03-04", "there is no file")):  # fmt: skip
        assert expected in refusal(mapped_stack, bad_dates=text)
    for name in ("a.txt", "b.txt"):
        (root(mapped_stack) / name).write_text(fifth)
    assert "give either dates or one file" in refusal(mapped_stack, bad_dates="a.txt,b.txt")
    (root(mapped_stack) / "a.txt").write_bytes(b"\xff\x81")
    assert "cannot be read as text" in refusal(mapped_stack, bad_dates="a.txt")
    (root(mapped_stack) / "a.txt").write_text("stormy")
    assert "not a date of the form YYYYMMDD" in refusal(mapped_stack, bad_dates="a.txt")


# ------------------------------------------------------------------------------------------------------------- the job
@pytest.fixture
def project(tmp_path):
    template = make_simulated(tmp_path / "WORK")
    stack = open_stack(tmp_path / "WORK" / "inputs" / "ifgramStack.h5")
    return stack, template


def test_the_job_reads_it_and_passes_it_on(project, monkeypatch):
    """From the template to the separation, and the warnings to the result."""
    stack, template = project
    passed = []

    def spy(observations, settings, knowledge, **how):
        passed.append((knowledge, separate(observations, settings, knowledge, **how)))
        return passed[-1][1]

    monkeypatch.setattr(learning, "separate", spy)
    write_mask(stack, np.arange(stack.shape[1]) < 20 + np.zeros((stack.shape[0], 1)))
    with open(template, "a") as f:
        f.write(f"vae.stableMask = mask.h5\nvae.badDate = {stack.dates[4]}\n")
        f.write("mintpy.timeFunc.polynomial = 2\nmintpy.timeFunc.stepDate = 20180305,20180306,20110311\n")
        f.write(f"vae.resolution = {two_pixels(template.parent)!r}\n")  # no coarse pixel is marked in part
    result = correct(stack.file, template_file=template, invert=False)
    (knowledge, found), *_ = passed
    assert found.valid.shape == knowledge.stable.shape and knowledge.bad_dates == [4]
    assert [f.name for f in found.functions if not f.family] == ["trend", "quadratic", "step 20180305"]
    assert result.details["knowledge"] == {
        "functions": ["quadratic", "step 20180305", "step 20180306"], "stable_share": round(20 / 60, 4),
        "moving_share": None, "bad_dates": [stack.dates[4]], "stations": [],
    }  # fmt: skip
    assert "20110311 lies outside the dates of the stack" in result.warnings[0]
    assert any(w.startswith("The function step 20180306 (mintpy.timeFunc) hardly differs") for w in result.warnings)


def test_update_sees_a_file_that_changed(project, remembered):
    stack, template = project
    mask = np.arange(stack.shape[1]) < 20 + np.zeros((stack.shape[0], 1))
    write_mask(stack, mask)
    with open(template, "a") as f:
        f.write("vae.stableMask = mask.h5\n")

    def again():
        return correct(stack.file, template_file=template, invert=False, update=True)

    assert not again().skipped and again().skipped
    with h5py.File(root(stack) / "mask.h5", "r+") as f:
        f["mask"][0, 0] = not f["mask"][0, 0]
    assert not again().skipped and again().skipped


def test_nothing_is_left_of_a_refusal(project, tmp_path):
    stack, template = project
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"vae\.gnssFile = none\.csv: there is no file"):
        correct(stack.file, template_file=template, gnss_file="none.csv")
    assert sorted(tmp_path.rglob("*")) == before


def test_uncorrected_stacks_have_the_warnings_too(project):
    stack, template = project
    with open(template, "a") as f:
        f.write("vae.minDate = 100\nmintpy.timeFunc.stepDate = 20110311\n")
    result = correct(stack.file, template_file=template, invert=False)
    assert result.status == "uncorrected" and "20110311 lies outside" in result.warnings[0]


def test_the_shell_names_files_from_where_it_is(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(workflow, "correct", lambda *args, **how: given.update(how))
    monkeypatch.chdir(tmp_path)
    options = "--stable-mask a.h5 --moving-mask no --gnss sub/b.csv --bad-date 20180103,20180304 20180115 c.txt"
    vae_correct._run(vae_correct.cmd_line_parse(["stack.h5", *options.split()]))
    assert given["stable_mask"] == str(tmp_path / "a.h5") and given["gnss_file"] == str(tmp_path / "sub" / "b.csv")
    assert given["bad_dates"] == f"20180103,20180304 20180115 {tmp_path / 'c.txt'}" and given["moving_mask"] == ""
    given.clear()
    vae_correct._run(vae_correct.cmd_line_parse(["stack.h5"]))
    assert {given[key] for key in ("stable_mask", "moving_mask", "gnss_file", "bad_dates")} == {None}


def test_the_template_of_the_docs_works(mapped_stack):
    page = (Path(__file__).parents[2] / "docs" / "knowledge.md").read_text()
    (root(mapped_stack) / "known.txt").write_text(page.split("```cfg\n")[1].split("```")[0])
    template = read_templates(root(mapped_stack), root(mapped_stack) / "known.txt")
    settings = Settings.from_template(template)
    assert settings.stable_mask and settings.moving_mask and settings.gnss_file and settings.bad_dates
    dates = [f"{date(2018, 1, 3) + timedelta(12 * k):%Y%m%d}" for k in range(90)]
    functions, warnings = read_functions(template, dates)
    assert len(functions) >= 4 and warnings == [] and settings.bad_dates.split(",")[0] in dates
