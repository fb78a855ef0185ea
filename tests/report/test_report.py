"""The report on a corrected project: its content, and how it behaves in a browser."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.image import imread
from mintpy.reference_date import change_timeseries_ref_date

from conftest import QUICK, check_in_browser, make_simulated, opened, read
from mintpy_vae import metrics, report
from mintpy_vae.method.atmosphere import Guarded
from mintpy_vae.report import REPORT, write_report
from mintpy_vae.report.charts import colour_map, pair_bars
from mintpy_vae.report.data import Data
from mintpy_vae.report.frame import hillshade
from mintpy_vae.results.evidence import EVIDENCE, pixel_size, read_evidence
from mintpy_vae.results.inverted import read_inverted
from mintpy_vae.stack import open_stack, pool_map
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow.correction import correct

SECTIONS = ["velocity", "series", "atmosphere", "pairs", "network", "latent", "clusters", "structure", "elevation"]
SECTIONS += ["found-from", "training", "settings"]


class Page(HTMLParser):
    """What the page would load, and its charts."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[k] for k in ("src", "href") if k in attrs and not attrs[k].startswith(("#", "data:"))]
        self.ids.append(attrs.get("id"))


@pytest.fixture(scope="module")
def page(mapped):
    return (mapped.work / REPORT).read_text(encoding="utf8")


# -------------------------------------------------------------------------------------------------------------- content
def test_the_correction_leaves_a_whole_report_that_loads_nothing(mapped, page):
    found = Page(page)
    assert found.loads == []
    assert [s for s in SECTIONS if s not in found.ids] == []
    assert "could not be made" not in page
    assert len(page) < 6e6
    result = json.loads((mapped.work / "vae_result.json").read_text())
    assert all(warning in page for warning in result["warnings"])
    assert result["versions"]["torch"] in page and result["stack_sha256"][:16] in page


def test_the_same_result_gives_the_same_page(mapped, page, tmp_path):
    work = Path(shutil.copytree(mapped.work, tmp_path / mapped.work.name))
    write_report(work)
    assert (work / REPORT).read_text(encoding="utf8") == page


def test_without_mintpy_s_inversion_the_training_grid_is_shown(mapped, tmp_path):
    work = Path(shutil.copytree(mapped.work, tmp_path / mapped.work.name))
    (work / "timeseries.h5").unlink()
    text = write_report(work).read_text(encoding="utf8")
    assert (
        "the training grid, because MintPy has not inverted the stack yet" in text and "could not be made" not in text
    )


def test_a_page_of_an_uncorrected_stack_says_why(tmp_path):
    template = make_simulated(tmp_path / "WORK", n_dates=8, size=(24, 24))
    result = correct(tmp_path / "WORK" / "inputs" / "ifgramStack.h5", template_file=template, invert=False)
    assert result.status == "uncorrected" and not (result.work_dir / EVIDENCE).exists()
    text = (result.work_dir / REPORT).read_text(encoding="utf8")
    assert "Left uncorrected" in text and result.reason in text and "could not be made" not in text


def test_a_report_that_fails_does_not_fail_the_correction(tmp_path, monkeypatch):
    def broken(work):
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "write_report", broken)
    template = make_simulated(tmp_path / "WORK", n_dates=8, size=(24, 24), text=QUICK)
    result = correct(tmp_path / "WORK" / "inputs" / "ifgramStack.h5", template_file=template, invert=False)
    assert [w for w in result.warnings if "no ink" in w]
    assert "no ink" in (result.work_dir / workflow.RESULT).read_text()


def test_a_section_that_fails_is_replaced_by_its_reason(mapped, tmp_path, monkeypatch):
    from mintpy_vae.report import sections

    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(sections, "embed", broken)
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    text = write_report(work).read_text(encoding="utf8")
    assert "This section could not be made (RuntimeError: no ink)" in text and 'id="velocity-0"' in text


# ------------------------------------------------------------------------------------------------ the numbers behind it
def test_the_evidence_is_what_the_correction_did(mapped):
    found, stack = read_evidence(mapped.work), open_stack(mapped.stack)
    result = json.loads((mapped.work / "vae_result.json").read_text())
    assert len(found.pairs) == stack.keep.sum() == len(found.bperp)
    recorded = np.array([result["noise_per_pair_mm"][f"{found.dates[i]}_{found.dates[j]}"] for i, j in found.pairs])
    np.testing.assert_allclose(1000 * found.noise.T, recorded, atol=1e-3)
    assert len(found.maps) == len(found.amplitudes) == len(result["clusters"])
    assert found.source_labels.max(initial=-1) + 1 == len(result["clusters"])
    for c in result["clusters"]:
        assert (found.source_labels == c["label"]).sum() == c["sources"]
    # before less after is the atmosphere that was written, but for the multilooking and the mean of each date
    layers = read(mapped.work / "inputs" / "VAE.h5", "timeseries")
    looks = float(found.pixel[0]) / pixel_size(stack.attributes)[0]
    delay = np.array([pool_map(m, looks) for m in layers])
    written, taken = delay[:, found.valid], found.before - found.after
    written, taken = (v - v.mean(axis=1, keepdims=True) - v.mean(axis=0) for v in (written, taken))
    assert metrics.gain(taken, written) == pytest.approx(1, abs=0.03)
    assert metrics.rmse(taken, written) < 0.1 * written.std()


def test_the_time_series_before_is_that_of_mintpy_alone(mapped, tmp_path):
    """Adding the atmosphere back to the inverted time-series is inverting the uncorrected stack."""
    from conftest import run_mintpy

    work = Path(shutil.copytree(mapped.project, tmp_path / "WORK"))
    run_mintpy(work / mapped.template.name, work, "reference_point", "invert_network")  # keeps what was dropped by hand
    alone = read(work / "timeseries.h5", "timeseries").astype(float)
    found = read_inverted(mapped.work)
    assert found.factor == 1 and found.valid.mean() > 0.5
    # MintPy takes phase that equals the reference pixel's, bit for bit, for no data: in one stack and not in the other
    with h5py.File(mapped.work / "inputs" / "ifgramStack.h5") as f:
        phase, row, column = f["unwrapPhase"][:], int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])
    equal = (phase == phase[:, row, column][:, None, None]).any(axis=0)
    assert equal.mean() < 0.01
    both = found.valid & (alone[-1] != 0) & ~equal
    assert both.sum() > 0.9 * found.valid.sum()
    assert (found.before - found.before[:1])[:, both] == pytest.approx((alone - alone[0])[:, both], abs=1e-6)


@pytest.mark.parametrize("date", [0, 5, -1])
def test_whatever_reference_date_mintpy_chooses_the_pixels_with_data_are_the_same(mapped, tmp_path, date):
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    file = work / "timeseries.h5"
    change_timeseries_ref_date(str(file), ref_date=read(file, "date")[date].decode(), outfile=str(file), force=True)
    before, found = read_inverted(mapped.work), read_inverted(work)
    np.testing.assert_array_equal(found.valid, before.valid)
    land = before.valid
    np.testing.assert_allclose(found.after[:, land], (before.after - before.after[date])[:, land], atol=1e-6)


def test_multilooked_time_series_keep_the_velocity(mapped):
    fine, coarse = read_inverted(mapped.work), read_inverted(mapped.work, max_pixels=800)
    assert coarse.valid.size <= 800 and coarse.pixel[0] == coarse.factor * fine.pixel[0]
    rates = [np.nanmean(metrics.velocity(d.after, d.years)) for d in (fine, coarse)]
    assert rates[0] == pytest.approx(rates[1], abs=2e-3)


@pytest.mark.parametrize("coord", ["geo", "radar"])
def test_the_size_of_a_pixel_is_the_simulated_one(coord):
    from mintpy_vae.simulate import simulate

    scene = simulate("quiet", n_dates=3, size=(30, 40), coord=coord)
    assert pixel_size(scene.attributes) == pytest.approx((scene.pixel, scene.pixel), rel=0.15)


@pytest.mark.parametrize("processor", ["gamma", "isce", "gmtsar", "snap"])
def test_the_size_of_a_pixel_is_known_of_every_processor(processor):
    """MintPy's own function knows three of them."""
    attributes = {"PROCESSOR": processor, "AZIMUTH_PIXEL_SIZE": "14", "RANGE_PIXEL_SIZE": "10", "HEIGHT": "700000"}
    attributes |= {"STARTING_RANGE": "850000", "WIDTH": "100", "LENGTH": "100", "EARTH_RADIUS": "6371000"}
    along, across = pixel_size(attributes)
    assert along == pytest.approx(14 if processor == "gamma" else 14 * 6371 / 7071)
    assert 12 < across < 25


def test_buttons_hold_every_order():
    figure = pair_bars(["a", "b", "c"], np.array([1.0, 3.0, 2.0]), np.array([0.9, 0.3, 1.0]))
    orders = {b.label: b.args[0]["xaxis.categoryarray"] for b in figure.layout.updatemenus[0].buttons}
    assert orders["by noise before"] == ["b", "c", "a"] and orders["least removed first"] == ["a", "c", "b"]


# ----------------------------------------------------------------------------------------------------------------- maps
def data_of(work):
    return Data.read(Path(work), json.loads((Path(work) / "vae_result.json").read_text()), None)


def test_a_pixel_of_the_velocities_lies_where_the_stack_says(mapped):
    data = data_of(mapped.work)
    figure = colour_map(data.velocities[1], data.frame, "after", "mm/yr", points={"here": (5, 7)})
    (here,), grid = figure.layout.annotations, figure.data[0]
    with h5py.File(mapped.stack) as f:
        first, step = ([float(f.attrs[f"{axis}_{key}"]) for axis in "XY"] for key in ("FIRST", "STEP"))
    expected = [first[0] + 7.5 * step[0], first[1] + 5.5 * step[1]]  # middle of the pixel
    assert [here.x, here.y] == pytest.approx(expected, abs=1e-9)
    assert [grid.x0 + 7 * grid.dx, grid.y0 + 5 * grid.dy] == pytest.approx(expected, abs=1e-9)
    assert figure.layout.xaxis.title.text == "longitude" and figure.layout.images[0].source == data.frame.ground


def test_relief_is_lit_from_the_upper_left_and_unknown_ground_is_clear():
    y, x = np.mgrid[:30, :40]
    height = 2000.0 - 60 * np.hypot(y - 15, x - 20)  # a cone
    height[:3, :3] = np.nan
    image = imread(io.BytesIO(base64.b64decode(hillshade(height).split(",")[1])))
    assert image.shape[:2] == height.shape
    assert (image[..., -1] == np.isfinite(height)).all()
    assert image[10, 15, 0] > image[10, 25, 0] > image[20, 25, 0]


@pytest.fixture
def warned(mapped, tmp_path):
    """A result with a warning of broad motion, one of relief and one without a place."""
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    result = json.loads((work / "vae_result.json").read_text())
    piece = {"function": "trend", "probability": 0.9, "amplitude": 3.0, "std": 1.0, "width": 0.2, "relief": False}
    result["deformation_pieces"] = [
        piece | {"row": 6.0, "column": 9.0},
        piece | {"row": 3.0, "column": 4.0, "width": 0.05},  # narrow: its rate is sure
        piece | {"row": 12.0, "column": 20.0, "relief": True, "width": 0.35},
    ]
    kinds = ("broad motion", "broad sky", "relief")
    result["warnings"] = [Guarded(kind, 3.0, 1.0, 0.2).sentence(4.0) for kind in kinds]
    (work / "vae_result.json").write_text(json.dumps(result))
    return work


def test_warnings_stand_at_their_place_on_the_maps(warned):
    data = data_of(warned)
    at = data.frame_of_grid().at
    assert [(mark.number, mark.places) for mark in data.marks] == [(1, [at(6.0, 9.0)]), (2, [at(12.0, 20.0)])]
    assert [mark and mark.number for _, mark in data.warnings] == [1, None, 2]
    page = write_report(warned).read_text(encoding="utf8")
    assert re.findall(r'class="mark"[^>]*>(\d)</a> (Slow change that \w+)', page) == [
        ("1", "Slow change that is"),
        ("2", "Slow change that follows"),
    ]


def test_in_a_browser_the_numbers_are_on_the_maps(browser, warned):
    write_report(warned)
    tab, said, _ = opened(browser, warned / REPORT, 1280)
    for chart in ("explore-after", "explore-motion", "velocity-1", "velocity-3"):
        assert tab.locator(f"#{chart} .scatterlayer .textpoint").all_text_contents() == ["1", "2"]
    assert said == [] and tab.evaluate(COVERED) == []
    tab.close()


# -------------------------------------------------------------------------------------------------------------- browser
@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (380, "screen"), (800, "print")])
def test_in_a_browser_all_is_drawn_and_nothing_leaves_the_file(browser, mapped, width, media):
    assert check_in_browser(browser, mapped.work / REPORT, width, media) > 12


def test_in_a_browser_bars_sort_and_hovering_shows_the_pair(browser, mapped):
    tab, said, _ = opened(browser, mapped.work / REPORT, 1000)
    bars = tab.locator("#pairs-wide-0")
    bars.locator(".updatemenu-header").click()
    bars.locator(".updatemenu-dropdown-button", has_text="by noise before").click()
    order = tab.evaluate("document.getElementById('pairs-wide-0')._fullLayout.xaxis._categories")
    noise = json.loads((mapped.work / "vae_result.json").read_text())["noise_per_pair_mm"]
    before = [noise[name][0] for name in order]
    assert len(before) == len(noise) and before == sorted(before, reverse=True)
    point = tab.locator("#latent-wide-0 .scatterlayer .point").first
    point.scroll_into_view_if_needed()
    place = point.bounding_box()
    tab.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    tab.mouse.move(place["x"] + place["width"] / 2 + 1, place["y"] + place["height"] / 2)
    shown = tab.locator("#latent-wide-0 .hoverlayer .hovertext")
    shown.first.wait_for()
    assert re.search(r"\d{8}_\d{8}", shown.first.text_content())
    assert said == []
    tab.close()


COVERED = """() => [...document.querySelectorAll('.plotly-graph-div')].flatMap(chart => {
    const bar = chart.querySelector('.modebar').getBoundingClientRect();
    const others = '.legend, .updatemenu-header, .annotation, .nsewdrag, .colorbar, .table';
    const titles = chart.closest('figure').querySelectorAll('figcaption, .keys');
    return [...chart.querySelectorAll(others), ...titles].filter(e => {
        const r = e.getBoundingClientRect();
        return r.width && r.left < bar.right && r.right > bar.left && r.top < bar.bottom && r.bottom > bar.top;
    }).map(e => chart.id + ' ' + (e.getAttribute('class') || e.textContent));
})"""


@pytest.mark.parametrize("width", [1280, 375])
def test_in_a_browser_the_toolbar_covers_nothing_and_figures_use_the_width(browser, mapped, width):
    tab, *_ = opened(browser, mapped.work / REPORT, width)
    assert tab.evaluate("document.querySelectorAll('.modebar').length") > 12
    assert tab.evaluate(COVERED) == []
    titles = tab.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert not [t for t in titles if "hare" in t]  # Plotly's button that uploads the chart
    rows = """[...document.querySelectorAll('section')].flatMap(s => {
        const right = s.getBoundingClientRect().right;
        return [...s.querySelectorAll('.figures, section > figure')].map(
            row => right - [...row.querySelectorAll('.plotly-graph-div')].at(-1).getBoundingClientRect().right);
    })"""
    gaps = tab.evaluate(rows)
    assert gaps and max(gaps) < 2  # of pixels: no row ends with a hole
    tab.close()


def test_in_a_browser_charts_are_drawn_again_for_paper_and_back(browser, mapped):
    tab, *_ = opened(browser, mapped.work / REPORT, 1280)
    widest = "Math.max(...[...document.querySelectorAll('.plotly-graph-div')].map(d => d._fullLayout.width))"
    assert tab.evaluate(widest) > 1000
    for media, fits in (("print", lambda w: w <= 700), ("screen", lambda w: w > 1000)):
        tab.emulate_media(media=media)
        tab.wait_for_function(
            f"document.documentElement.classList.contains('paper') === {str(media == 'print').lower()}"
        )
        assert fits(tab.evaluate(widest))
    tab.close()
