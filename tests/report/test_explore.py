"""The section Explore: what is embedded, and what a reader finds with mouse, finger and keys."""

import base64
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import opened, read
from mintpy_vae import metrics
from mintpy_vae.dates import acquisition_years
from mintpy_vae.report import REPORT, explore, write_report
from mintpy_vae.report.data import Data
from mintpy_vae.results.evidence import EVIDENCE, read_evidence

SHOWN = """name => { const all = document.getElementById('explore-series').data;
    return all.find(t => t.name === name).y; }"""
MAP = "name => document.getElementById('explore-' + name).data[0].z.map(row => row.map(v => v === null ? NaN : v))"
AT = """([name, row, column]) => { const d = document.getElementById('explore-' + name), f = d._fullLayout;
    const t = d.data[0], r = d.getBoundingClientRect();
    return [r.left + f.xaxis._offset + f.xaxis.d2p(t.x0 + column * t.dx),
            r.top + f.yaxis._offset + f.yaxis.d2p(t.y0 + row * t.dy)]; }"""


def data_of(work):
    return Data.read(Path(work), json.loads((Path(work) / "vae_result.json").read_text()), None)


def unpacked(content):
    numbers = np.frombuffer(base64.b64decode(content["packed"]), "<i2")
    sizes = [size for _, size in content["layout"]]
    assert len(numbers) == sum(sizes)
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return dict(zip((name for name, _ in content["layout"]), parts, strict=True))


@pytest.fixture(scope="module")
def desktop(browser, mapped):
    tab, said, asked = opened(browser, mapped.work / REPORT, 1280)
    yield tab
    assert said == [] and [u for u in asked if not u.startswith("data:")] == [(mapped.work / REPORT).as_uri()]
    tab.close()


def click(tab, name, row, column, **how):
    tab.locator(f"#explore-{name}").scroll_into_view_if_needed()
    x, y = tab.evaluate(AT, [name, row, column])
    tab.mouse.move(x - 2, y)
    tab.mouse.move(x, y)
    with_key = how.get("key")
    if with_key:
        tab.keyboard.down(with_key)
    tab.mouse.click(x, y)
    if with_key:
        tab.keyboard.up(with_key)


def middles(number, size, work):
    """Pixels of the stack along an axis of ``size`` that are in the middle of so many of the grid."""
    return np.minimum(((np.arange(number) + 0.5) * data_of(work).factor + 1e-3).astype(int), size - 1)


# ------------------------------------------------------------------------------------------------------------- embedded
def test_embedded_series_are_those_of_the_file_but_for_the_rounding(mapped):
    content, found = explore.explorer(data_of(mapped.work)), read_evidence(mapped.work)
    parts = unpacked(content)
    for name in ("before", "after"):
        series = parts[name].reshape(len(found.dates), -1) * content["unit"]
        np.testing.assert_allclose(series, 1000 * getattr(found, name), atol=content["unit"] / 2 + 1e-4)
    assert parts["index"].max() == content["pixels"] - 1 == found.valid.sum() - 1
    with h5py.File(mapped.work / "vae_std.h5") as f:
        series = f["timeseries"][:]
        middle = [middles(n, size, mapped.work) for n, size in zip(found.valid.shape, series.shape[1:], strict=True)]
        std = 1000 * series[:, *np.ix_(*middle)][:, found.valid]
    np.testing.assert_allclose(parts["std"].reshape(std.shape) * content["unit"], std, atol=0.051)


def test_motion_is_written_and_read(mapped):
    found = read_evidence(mapped.work)
    assert found.motion.shape == found.before.shape
    assert found.motion.mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert bool(np.abs(found.motion).max() > 0) == bool(
        json.loads((mapped.work / "vae_result.json").read_text())["deformation_pieces"]
    )


def test_of_large_series_only_some_pixels_are_embedded_and_the_page_says_so(mapped, tmp_path, monkeypatch):
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    monkeypatch.setattr(explore, "LARGEST", 30_000)
    content = explore.explorer(data_of(work))
    assert content["step"] == 2 and len(content["packed"]) < 4 / 3 * 30_000 + 10_000
    assert "every 2. row and column is embedded" in write_report(work).read_text(encoding="utf8")
    full = 2 * 4 * 60 * 6400  # bytes of the largest training grid, with 60 dates
    assert full / explore.sampling(full) ** 2 <= explore.LARGEST


def test_without_motion_deviation_and_attributes_there_is_less_to_see(mapped, tmp_path):
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    with h5py.File(work / EVIDENCE, "r+") as f:
        del f["motion"]
    (work / "vae_std.h5").unlink()
    shutil.rmtree(work / "inputs")
    (work / "timeseries.h5").unlink()
    content = explore.explorer(data_of(work))
    assert "std" not in unpacked(content) and "motion" not in unpacked(content)
    assert content["axes"]["x"]["title"] == "column" and not content["axes"]["north"]
    assert "could not be made" not in write_report(work).read_text(encoding="utf8")


def test_axes_are_those_of_the_stack(mapped):
    data = data_of(mapped.work)
    attributes, found = data.attributes, data.frame_of_grid().axes
    assert found["x"]["title"] == "longitude" and found["north"]
    edge = float(attributes["X_FIRST"]), float(attributes["X_STEP"])
    assert found["x"]["first"] == pytest.approx(edge[0] + data.factor / 2 * edge[1])
    assert found["x"]["step"] == pytest.approx(data.factor * edge[1])
    assert found["y"]["metres"] == pytest.approx(111_195, rel=1e-3)
    vars(data)["attributes"] = {k: v for k, v in attributes.items() if k not in ("X_FIRST", "Y_FIRST")}
    found = data.frame_of_grid().axes
    assert found["x"]["title"] == "range [pixel]" and found["y"]["first"] == data.factor / 2 and not found["north"]


# -------------------------------------------------------------------------------------------------------------- browser
def test_in_a_browser_a_click_shows_the_series_of_the_pixel(desktop, mapped):
    found = read_evidence(mapped.work)
    row, column = (int(k) for k in np.argwhere(found.valid)[len(found.before[0]) // 3])
    click(desktop, "after", row, column)
    for move in ((0, 0), (0, 1)):
        row, column = row + move[0], column + move[1]
        if move != (0, 0):
            desktop.locator("#explore-before").press("ArrowRight")
        for name, series in (("before", found.before), ("after", found.after)):
            pixel = 1000 * found.on_grid(series)[:, row, column]
            assert desktop.evaluate(SHOWN, name) == pytest.approx(pixel, abs=0.0501)
        assert desktop.evaluate(SHOWN, "motion found") is not None
    rate = 1000 * metrics.velocity(found.on_grid(found.after)[:, row, column], acquisition_years(found.dates))
    said = desktop.locator("#explore-readout").text_content()
    shown = float(re.search(r"before, (\S+) after", said)[1].replace("\N{MINUS SIGN}", "-"))
    assert shown == pytest.approx(rate, abs=0.3) and "latitude 19." in said
    upper, lower = (desktop.evaluate(f"document.getElementById('explore-series').data[{k}].y") for k in (1, 0))
    series = 1000 * read(mapped.work / "vae_std.h5", "timeseries")
    sizes = zip(found.valid.shape, series.shape[1:], (row, column), strict=True)
    std = series[:, *(middles(n, size, mapped.work)[k] for n, size, k in sizes)]
    assert (np.array(upper) - lower) / 2 == pytest.approx(std[np.isfinite(std)], abs=0.051)


def test_in_a_browser_the_slider_shows_before_atmosphere_after_of_each_pair_on_one_scale(desktop, mapped):
    found = read_evidence(mapped.work)
    desktop.locator("[name=mode][value=pair]").check()
    desktop.locator("#explore-slider").fill("5")
    desktop.wait_for_function("document.getElementById('explore-list').value === '5'")
    desktop.wait_for_timeout(200)  # a frame
    i, j = found.pairs[5]
    before, after = (1000 * found.on_grid(s[j] - s[i]) for s in (found.before, found.after))
    for name, expected in (("before", before), ("atmosphere", before - after), ("after", after)):
        np.testing.assert_allclose(np.array(desktop.evaluate(MAP, name), float), expected, atol=0.21)
    ends = desktop.evaluate(
        "['before','atmosphere','after'].map(n => document.getElementById('explore-' + n).data[0].zmax)"
    )
    assert len(set(ends)) == 1
    desktop.locator("[name=mode][value=velocity]").check()


def test_in_a_browser_maps_zoom_together_and_a_profile_lies_between_two_clicks(desktop, mapped):
    found = read_evidence(mapped.work)
    rows, columns = np.nonzero(found.valid)
    row = int(np.bincount(rows).argmax())
    first, last = columns[rows == row].min() + 2, columns[rows == row].max() - 4
    click(desktop, "before", row, int(first))
    click(desktop, "after", row, int(last), key="Shift")
    line = desktop.evaluate("document.getElementById('explore-line').data.find(t => t.name === 'after')")
    rate = 1000 * metrics.velocity(found.after, acquisition_years(found.dates))
    assert np.array(line["y"], float) == pytest.approx(found.on_grid(rate)[row, first : last + 1], abs=0.5, nan_ok=True)
    assert line["x"][-1] == pytest.approx((last - first) * found.pixel[1] / 1000, rel=0.01)
    desktop.evaluate("Plotly.relayout('explore-after', {'xaxis.range': [-99.15, -99.1], 'yaxis.range': [19.4, 19.45]})")
    charts = "['before', 'atmosphere', 'after', 'motion'].map(n => document.getElementById('explore-' + n))"
    ranges = f"{charts}.map(d => d._fullLayout.xaxis.range)"
    same = f"(() => {{ const r = {ranges}; return r.every(x => Math.abs(x[0] - r[2][0]) < 1e-6); }})()"
    desktop.wait_for_function(same)
    desktop.locator("#explore-whole").click()
    desktop.wait_for_function(f"Math.abs({ranges}[0][0] - -99.2) < 0.02 && {same}")


def test_in_a_browser_a_tap_on_a_phone_shows_the_series_in_sight_of_the_map(browser, mapped):
    phone = browser.new_context(viewport={"width": 375, "height": 720}, has_touch=True, is_mobile=True)
    tab = phone.new_page()
    tab.goto((mapped.work / REPORT).as_uri())
    tab.wait_for_function("document.querySelectorAll('.plotly-graph-div:not(.js-plotly-plot)').length == 0")
    said = tab.locator("#explore-readout").text_content()
    tab.evaluate("document.getElementById('explore-before').scrollIntoView({block: 'start'})")
    tab.touchscreen.tap(*tab.evaluate(AT, ["before", 4, 4]))
    tab.wait_for_function("t => document.getElementById('explore-readout').textContent !== t", arg=said)
    box = tab.locator("#explore-series").bounding_box()
    assert box["y"] > 0 and box["y"] + box["height"] <= 721
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    phone.close()


def test_in_a_browser_a_dark_screen_has_no_dark_ink(browser, mapped):
    tab = browser.new_page(color_scheme="dark")
    tab.goto((mapped.work / REPORT).as_uri())
    tab.wait_for_function("document.querySelectorAll('.plotly-graph-div:not(.js-plotly-plot)').length == 0")
    texts = "[...document.querySelectorAll('.xtick text, .ytick text, .legendtext')]"
    fills = tab.evaluate(texts + ".map(t => getComputedStyle(t).fill)")
    assert len(fills) > 100
    assert all(min(int(k) for k in re.findall(r"\d+", fill)[:3]) > 150 for fill in fills)
    tab.close()
