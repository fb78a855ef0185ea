"""GNSS files and line-of-sight double differences."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mintpy_vae.dates import acquisition_years
from mintpy_vae.errors import InputError
from mintpy_vae.evaluation.gnss_series import StationSeries, compare, double_difference, near, read_series
from mintpy_vae.evaluation.scene import locate
from mintpy_vae.stack import open_stack

REAL = Path(__file__).parents[3] / "shared" / "data" / "mexico_city_s1"


def tenv3(folder, name="ABCD", east=0.0):
    """A file as NGL writes it; the integer part of the north component changes halfway."""
    lines = ["site YYMMMDD yyyy.yyyy __MJD week d reflon _e0(m) __east(m) ____n0(m) _north(m) u0(m) ____up(m) ..."]
    for k in range(40):
        north = 0.98 + 0.001 * k
        day = np.datetime64("2018-01-01") + k
        text = day.astype(object).strftime("%y%b%d").upper()
        mjd = int(day.astype("datetime64[D]").astype(int)) + 40587
        lines.append(
            f"{name} {text} {2018 + k / 365.25:.4f} {mjd} 1982 1 -99.2 -1 {east + 0.002 * k:.6f} {2145 + int(north)} "
            f"{north % 1:.6f} 2230 {0.3 - 0.003 * k:.6f} 0.0 0.001 0.001 0.003 0 0 0 19.4056412800 260.8291466 2230.1"
        )
    file = folder / f"{name}.tenv3"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_tenv3_file_is_read_as_mintpy_reads_it(tmp_path):
    from mintpy.objects.gnss import GNSS_UNR

    file = tenv3(tmp_path)
    found = read_series([file])["ABCD"]
    theirs = GNSS_UNR("ABCD", data_dir=str(tmp_path))
    theirs.file = str(file)
    dates, east, north, up, *_ = theirs.read_displacement(print_msg=False)
    assert [np.datetime64(d, "D").astype(int) for d in dates] == found.days.tolist()
    for k, values in enumerate((east, north, up)):
        jump = (np.diff(values) < -0.5).cumsum() if k == 1 else 0  # MintPy forgets the metres of the integer part
        assert np.diff(found.enu[:, k]) == pytest.approx(np.diff(values) + np.diff(np.r_[0, jump]), abs=1e-5)
    assert theirs.get_site_lat_lon() == pytest.approx((found.latitude, found.longitude))


def test_the_projection_is_mintpy_s_and_vertical_motion_counts_with_the_cosine():
    from mintpy.utils import utils0 as ut

    enu = np.array([[0.01, -0.02, 0.03], [0.0, 0.0, 0.05]])
    found = StationSeries("A", np.array([5, 9]), enu).line_of_sight(36.0, 102.0)
    assert found[9] == pytest.approx(0.05 * np.cos(np.deg2rad(36)))
    assert found[5] == pytest.approx(ut.enu2los(*enu[0], inc_angle=36.0, az_angle=102.0))


def test_plain_csv_in_both_spellings_of_dates(tmp_path):
    file = tmp_path / "g.csv"
    file.write_text(
        "# made by hand\nstation,date,e,n,u,lat,lon\nA,20180105,0,0,0.1,19.4,-99.1\nA,2018-01-06,0,0,0.2,,\n"
    )
    found = read_series([file])["A"]
    assert np.diff(found.days) == [1] and found.enu[:, 2].tolist() == [0.1, 0.2]
    assert (found.latitude, found.longitude) == (19.4, -99.1)


def test_one_file_per_year_with_a_byte_order_mark_and_a_day_without_data(tmp_path):
    for year, text in (("2018", "A,20180105,0,0,0.1\nA,20180106,nan,nan,nan\n"), ("2019", "A,20190105,0,0,0.3\n")):
        (tmp_path / f"{year}.csv").write_text("station,date,e,n,u\n" + text, encoding="utf-8-sig")
    found = read_series([tmp_path / "2018.csv", tmp_path / "2019.csv"])["A"]
    assert np.diff(found.days).tolist() == [365] and found.enu[:, 2].tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "place,day\n1,2\n", "not a CSV with the columns station,date,e,n,u"),
        ("a.csv", "station,date,e,n,u\nA,20180105,x,0,0\n", "could not convert"),
        ("a.csv", "station,date,e,n,u\n", "contains no position"),
        ("a.tenv3", "A B C\n", "not of the tenv3 format"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=reason):
        read_series([tmp_path / name])


def test_a_station_is_downloaded_by_mintpy_once(tmp_path, monkeypatch):
    from mintpy.objects import gnss

    asked = []

    def retrieve(url, file):
        asked.append(url)
        if not url.endswith(".tenv3"):
            raise OSError("no picture")  # MintPy fetches one after the data
        tenv3(Path(file).parent)

    monkeypatch.setattr(gnss, "urlretrieve", retrieve)
    for _ in range(2):
        found = read_series(["abcd"], tmp_path / "GNSS-UNR")
    assert list(found) == ["ABCD"] and len(found["ABCD"].days) == 40
    assert len([url for url in asked if url.endswith("ABCD.tenv3")]) == 1


def test_a_station_that_cannot_be_downloaded_is_refused(tmp_path, monkeypatch):
    from mintpy.objects import gnss

    def offline(url, file):
        raise OSError("no network")

    monkeypatch.setattr(gnss, "urlretrieve", offline)
    with pytest.raises(InputError, match="ABCD is not a file, and cannot be downloaded .*: no network"):
        read_series(["ABCD"], tmp_path)
    with pytest.raises(InputError, match="cannot be read"):  # nowhere to put it
        read_series(["ABCD"])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_series([tmp_path / "none.csv"])


def test_a_double_difference_uses_the_days_that_both_have():
    day = int(np.datetime64("2018-01-05").astype(int))
    first, second = {day - 1: 1.0, day: 2.0, day + 3: 9.0}, {day: 0.5, day + 1: 7.0, day + 3: 0.0}
    found = double_difference(first, second, ["20180105", "20180301"])
    assert found[0] == pytest.approx(1.5) and np.isnan(found[1])


def test_rate_and_rms_are_those_put_in():
    years = np.arange(10) / 10
    wiggle = 0.004 * np.array([1, -1] * 5)
    found = compare(-0.05 * years + 7 + wiggle, -0.04 * years, years)
    assert found["gnss_rate"] == pytest.approx(-40) and found["dates"] == 10
    assert found["rate"] == pytest.approx(-50 + 1000 * np.polyfit(years, wiggle, 1)[0])
    assert found["rms"] == pytest.approx(1000 * np.std(-0.01 * years + wiggle))
    assert np.isnan(compare(np.full(3, np.nan), np.ones(3), years[:3])["rms"])


def test_near_is_the_median_of_the_pixels_with_data():
    series = np.arange(2 * 5 * 5, dtype=float).reshape(2, 5, 5)
    assert near(series, 2, 2).tolist() == [12, 37]
    series[:, 1:3, 1:4] = np.nan
    assert near(series, 2, 2).tolist() == [17, 42]
    assert np.isnan(near(np.full((2, 5, 5), np.nan), 0, 0)).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real Mexico City stack is not beside this checkout")
def test_the_real_stations_lie_where_they_lie_and_move_as_published():
    stack = open_stack(REAL / "inputs" / "ifgramStack.h5")
    grid = SimpleNamespace(attributes=stack.attributes, factor=1, dates=stack.dates)
    sites = {"ICMX": (19.40564128, -99.17085339), "MMX1": (19.43165380, -99.06839002)}
    found, outside = locate(read_series([REAL / "gnss_ngl.csv"]), "ICMX", REAL, grid, sites)
    assert [(one.name, one.row, one.column) for one in found] == [("ICMX", 32, 14), ("MMX1", 14, 88)] and not outside
    double, years = found[1].minus(found[0], stack.dates), acquisition_years(stack.dates)
    known = np.isfinite(double)
    assert known.sum() == 12
    assert 1000 * np.polyfit(years[known], double[known], 1)[0] == pytest.approx(-252.7, abs=0.1)
