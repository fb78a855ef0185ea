"""Places in degrees on every kind of grid: the same for the rates of a correction and the series of an evaluation."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from pyproj import Transformer

from conftest import read
from mintpy_vae.errors import InputError
from mintpy_vae.evaluation.gnss_series import StationSeries
from mintpy_vae.evaluation.scene import locate, pixel_of
from mintpy_vae.project import gnss_rates
from mintpy_vae.stack import open_stack
from tiny import WAVELENGTH, make_project

PIXELS = [(2, 3), (14, 20), (24, 35)]
METRES = {"X_STEP": "90.0", "Y_STEP": "-90.0", "X_UNIT": "meters", "Y_UNIT": "meters"}


def given(project, **attributes):
    """The stack after a change of its attributes, None for none, as in its geometry."""
    for file in (project / "inputs").glob("*.h5"):
        with h5py.File(file, "r+") as f:
            for key, value in attributes.items():
                f.attrs.pop(key, None)
                if value is not None:
                    f.attrs[key] = value
    return open_stack(project / "inputs" / "ifgramStack.h5")


def by_both(stack, tmp_path, places, enu=(0.0, 0.0, 1.0)):
    """Pixels of places, and the line of sight of all but the first (metres of `enu`), as the two commands see them."""
    lines = ["station,lat,lon,ve,vn,vu,se,sn,su"]
    for k, (latitude, longitude) in enumerate(places):
        motion = ",".join(str(1000 * v * (k > 0)) for v in enu)
        lines.append(f"S{k},{latitude:.9f},{longitude:.9f},{motion},1,1,1")
    (tmp_path / "rates.csv").write_text("\n".join(lines))
    rates, notes = gnss_rates.read_rates(tmp_path / "rates.csv", stack, 1)
    day = int(np.datetime64(f"{stack.dates[1][:4]}-{stack.dates[1][4:6]}-{stack.dates[1][6:]}", "D").astype(int))
    stations = {
        f"S{k}": StationSeries(f"S{k}", np.array([day]), np.array([enu]) * (k > 0), *place)
        for k, place in enumerate(places)
    }
    grid = SimpleNamespace(attributes=stack.attributes, factor=1, dates=stack.dates)
    series, _ = locate(stations, None, stack.file.parents[1], grid)
    assert [s.name for s in rates] == [s.name for s in series]
    pixels = [[(s.row, s.column) for s in some] for some in (rates, series)]
    double = [float(s.minus(series[0], stack.dates)[1]) for s in series[1:]]
    seen = [[-s.rate * WAVELENGTH / (4 * np.pi) for s in rates[1:]], double]
    return pixels, seen, notes


def in_all_counts(places):
    """Their longitudes folded to 180 and to 360 degrees, and between -360 and 0."""
    turns = (lambda v: (v + 180) % 360 - 180, lambda v: v % 360, lambda v: v % 360 - 360)
    return [(latitude, turn(longitude)) for turn, (latitude, longitude) in zip(turns, places, strict=True)]


@pytest.mark.parametrize("first", [-99.2, 260.8, -280.7, 179.97, -180.03, 359.97])
def test_longitudes_of_a_map_in_degrees_in_any_count(tmp_path, first):
    stack = given(make_project(tmp_path / "WORK"), X_FIRST=str(first))
    places = [(19.5 - 0.0014 * (y + 0.5), first + 0.0014 * (x + 0.5)) for y, x in PIXELS]
    pixels, _, notes = by_both(stack, tmp_path, in_all_counts(places))
    assert pixels == [PIXELS, PIXELS] and notes == []


@pytest.mark.parametrize(("first", "folded"), [(-280.7, False), (260.8, False), (179.97, False), (179.97, True)])
def test_longitudes_of_a_lookup_table_in_any_count(tmp_path, first, folded):
    project = make_project(tmp_path / "WORK", coord="radar")
    with h5py.File(project / "inputs" / "geometryRadar.h5", "r+") as f:
        longitude = f["longitude"][:].astype(float) + 99.2 + first
        f["longitude"][:] = (longitude + 180) % 360 - 180 if folded else longitude
        f["latitude"][0, :2] = 0  # not covered by the elevation model
        f["longitude"][0, :2] = 0
    stack = given(project)
    places = [(19.5 - 0.0014 * y, first + 0.0014 * x) for y, x in PIXELS]
    pixels, _, notes = by_both(stack, tmp_path, in_all_counts(places))
    assert np.abs(np.array(pixels) - PIXELS).max() <= 2 and notes == []  # MintPy's search is a pixel or two off


@pytest.mark.parametrize(
    ("code", "attributes", "corner"),
    [
        ("EPSG:32614", {"EPSG": "32614"}, (480_000, 2_150_000)),
        ("EPSG:32614", {"EPSG": "EPSG:32614", "UTM_ZONE": ""}, (480_000, 2_150_000)),
        ("EPSG:32614", {"UTM_ZONE": "14N"}, (480_000, 2_150_000)),
        ("EPSG:32719", {"EPSG": "32719.0"}, (345_000, 6_290_000)),
        ("EPSG:2154", {"EPSG": "2154"}, (652_000, 6_862_000)),
        ("EPSG:3413", {"EPSG": "3413", "UTM_ZONE": "None"}, (-200_000, -2_200_000)),
        ("EPSG:32760", {"EPSG": "32760"}, (832_000, 8_000_000)),  # across 180 degrees
    ],
)
def test_maps_in_metres(tmp_path, code, attributes, corner):
    first = {"X_FIRST": str(corner[0]), "Y_FIRST": str(corner[1])}
    stack = given(make_project(tmp_path / "WORK"), **METRES, **first, **attributes)
    to_degrees = Transformer.from_crs(code, "EPSG:4326").transform
    places = [to_degrees(corner[0] + 90 * (x + 0.5), corner[1] - 90 * (y + 0.5)) for y, x in PIXELS]
    pixels, _, notes = by_both(stack, tmp_path, in_all_counts(places))
    assert pixels == [PIXELS, PIXELS] and notes == []


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (METRES, "is in meters, without an attribute UTM_ZONE or EPSG"),
        ({**METRES, "EPSG": "None", "X_UNIT": "m"}, "is in m, without"),
        ({**METRES, "EPSG": "999999"}, "EPSG = 999999, an unknown code"),
        ({**METRES, "EPSG": "Lambert"}, "EPSG = Lambert, an unknown code"),
    ],
)
def test_a_map_of_an_unknown_projection_is_refused(tmp_path, attributes, reason):
    stack = given(make_project(tmp_path / "WORK"), **attributes)
    with pytest.raises(InputError, match=reason):
        by_both(stack, tmp_path, [(19.4, -99.1), (19.4, -99.1)])
    with pytest.raises(InputError, match=reason):
        pixel_of(tmp_path / "WORK", SimpleNamespace(attributes=stack.attributes, factor=1), 19.4, -99.1, "P")


@pytest.mark.parametrize(
    ("coord", "side", "azimuth"),
    [("geo", "-1", "NaN"), ("geo", "1", "NaN"), ("geo", "1", "none"), ("radar", "1", "NaN"), ("radar", None, "none")],
)
def test_the_side_of_the_antenna_counts_where_the_azimuth_angle_is_not_known(tmp_path, coord, side, azimuth):
    """Against the vector to the satellite: to the left of the flight of a radar that looks right."""
    project = make_project(tmp_path / "WORK", coord=coord)
    stack = given(project, ANTENNA_SIDE=side)
    if azimuth == "NaN":
        with h5py.File(stack.geometry_file, "r+") as f:
            f["azimuthAngle"] = np.full(stack.shape, np.nan, np.float32)
    heading, incidence = np.deg2rad(float(stack.attributes["HEADING"])), np.deg2rad(38)
    to_left = np.array([-np.cos(heading), np.sin(heading)]) * (-1 if side == "1" else 1)
    sight = [*np.sin(incidence) * to_left, np.cos(incidence)]
    places = [(19.5 - 0.0014 * (y + 0.5), -99.2 + 0.0014 * (x + 0.5)) for y, x in PIXELS]
    enu = (0.02, -0.03, 0.011)
    _, seen, _ = by_both(stack, tmp_path, places, enu)
    assert np.array(seen) == pytest.approx(np.full((2, 2), np.dot(enu, sight)), abs=1e-7)


@pytest.mark.parametrize("coord", ["geo", "radar"])
def test_what_lies_beyond_an_edge_is_in_neither(tmp_path, coord):
    stack = given(make_project(tmp_path / "WORK", coord=coord))
    inside = [(19.5 - 0.0014 * (y + 0.5), -99.2 + 0.0014 * (x + 0.5)) for y, x in PIXELS]
    middle = inside[1]
    beyond = [(19.5 + 0.0014 * n, middle[1]) for n in (2, 8)] + [(middle[0], -99.2 - 0.0014 * n) for n in (2, 100)]
    pixels, _, notes = by_both(stack, tmp_path, [*inside, *beyond])
    assert len(pixels[0]) == len(pixels[1]) == len(inside) and "S3, S4, S5, S6" in notes[0]
    grid = SimpleNamespace(attributes=stack.attributes, factor=1)
    for place in beyond:
        with pytest.raises(InputError, match="P at .* lies outside the scene"):
            pixel_of(tmp_path / "WORK", grid, *place, "P")


def test_a_station_outside_the_swath_costs_no_other(tmp_path):
    """In a corner of a map, where the geometry is unknown; the reference station is needed."""
    project = make_project(tmp_path / "WORK")
    with h5py.File(project / "inputs" / "geometryGeo.h5", "r+") as f:
        f["incidenceAngle"][:5, :5] = np.nan
    stack = given(project)
    corner, *others = [(19.5 - 0.0014 * (y + 0.5), -99.2 + 0.0014 * (x + 0.5)) for y, x in PIXELS]
    stations = {
        f"S{k}": StationSeries(f"S{k}", np.array([0]), np.zeros((1, 3)), *p) for k, p in enumerate((corner, *others))
    }
    grid = SimpleNamespace(attributes=stack.attributes, factor=1, dates=stack.dates)
    found, outside = locate(stations, "S1", project, grid)
    assert [station.name for station in found] == ["S1", "S2"] and outside == ["S0"]
    with pytest.raises(InputError, match="lacks incidenceAngle"):
        locate(stations, "S0", project, grid)


def test_the_geometry_is_the_one_of_the_grid_where_the_lookup_table_lies_beside_it(tmp_path):
    """As of Gamma: geometryGeo.h5 with the table, geometryRadar.h5 with the angles of the stack's own grid."""
    project = make_project(tmp_path / "WORK", coord="radar")
    rows, columns = np.indices((30, 40))
    with h5py.File(project / "inputs" / "geometryRadar.h5", "r+") as f:
        del f["latitude"], f["longitude"]
        f["incidenceAngle"][:] = 30 + 0.1 * columns
        attributes = dict(f.attrs)
    with h5py.File(project / "inputs" / "geometryGeo.h5", "w") as f:  # two rows and columns wider on each side
        f.attrs.update({**attributes, "LENGTH": "34", "WIDTH": "44", "Y_FIRST": "19.5028", "X_FIRST": "260.7972"})
        f.attrs.update({"Y_STEP": "-0.0014", "X_STEP": "0.0014", "X_UNIT": "degrees", "Y_UNIT": "degrees"})
        f["azimuthCoord"] = np.pad(rows, 2).astype(np.float32)
        f["rangeCoord"] = np.pad(columns, 2).astype(np.float32)
        f["incidenceAngle"] = np.full((34, 44), 10, np.float32)
    stack = given(project)
    places = [(19.5 - 0.0014 * y, -99.2 + 0.0014 * x) for y, x in PIXELS]
    pixels, seen, _ = by_both(stack, tmp_path, places)
    angles = read(stack.geometry_file, "incidenceAngle")
    assert pixels == [PIXELS, PIXELS]
    assert np.array(seen) == pytest.approx(np.array(2 * [[np.cos(np.deg2rad(angles[p])) for p in PIXELS[1:]]]))
