"""The sections of the report, each made from the files of a work directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Floats
from ..method.clustering import unsigned
from ..method.threads import single_threaded
from ..results.result import likely_pieces
from . import charts as draw
from .data import Data
from .explore import explorer
from .section import Section, Table, bold

TABLE_COLUMNS = 11
"""Largest number of columns of a table, so that it fits on paper; the scores of noise have as many."""
SHOWN_CLUSTERS = 6
SHOWN_DATES = 4
RECENT = 3
SHOWN_SOURCES = 400
SOME_OF_IT = 0.05


def lead(data: Data) -> str:
    """The result in a few sentences."""
    if data.result["status"] != "corrected":
        return f"{bold('Left uncorrected')}, because {bold(data.result['reason'] or 'there is no record of it')}."
    if data.evidence is None:
        return (
            f"{bold('Corrected')}. The maps and charts of the method are missing, because its evidence was not written."
        )
    before, after = (float(np.median(n)) * 1000 for n in data.found.noise)
    worse = data.result["pairs_worse"]
    return (
        f"The median spatial standard deviation of the pairs fell from {bold(f'{before:.1f} mm')} to "
        f"{bold(f'{after:.1f} mm')} (without steady motion); {bold(f'{worse:.0%}')} of the pairs got worse. "
        f"Local motion, described by {bold(likely_pieces(data.result))} pieces, was kept in the data."
    )


# ------------------------------------------------------------------------------------------------------------ sections
def explore(data: Data) -> Section | None:
    """Maps that lead to the series of each pixel."""
    content = explorer(data)
    step = content["step"]
    sampled = f", of which every {step}. row and column is embedded" if step > 1 else ""
    texts = [
        "Click or tap a pixel of any map to see its series. Shift-click a second one, or press Profile and click two, "
        "to see what lies between them. Drag to zoom: the maps zoom together; a double click shows the whole scene. "
        "The arrow keys move the pixel.",
        f"Displacement towards the satellite relative to the scene's mean, on the training grid (pixels of "
        f"{data.found.pixel[1]:.0f} x {data.found.pixel[0]:.0f} m){sampled}, rounded to {content['unit']:g} mm. The "
        "band is the stated standard deviation of the atmosphere. Outlined: where motion was found. Grey: relief.",
    ]
    return Section("explore", "Explore", texts, explorer=content)


def velocity(data: Data) -> Section | None:
    """Maps of the velocity."""
    before, after, _ = data.velocities
    limit = draw.robust_limit(before, after)
    moving = np.where(data.found.valid, data.found.moving, np.nan)
    source = (
        "MintPy's inversion" if data.inverted else "the training grid, because MintPy has not inverted the stack yet"
    )
    changes = draw.colour_map(before - after, data.frame, "difference (taken out)", "mm/yr", limit)
    where = draw.colour_map(moving, data.frame_of_grid(), "where motion was found (dark)", "", 1.0, marks=data.marks)
    text = (
        f"From {source}, relative to the scene's median, on one colour scale; blue is motion away from the satellite. "
        "Moving ground should look the same before and after; the third map should look like weather or relief, not "
        "like your signal."
    )
    return Section(
        "velocity",
        "Velocity before, after, and the difference",
        [text, *(["Numbers are those of the warnings at the head."] if data.marks else [])],
        [
            draw.colour_map(before, data.frame, "before", "mm/yr", limit),
            draw.colour_map(after, data.frame, "after", "mm/yr", limit, data.points, data.marks),
            changes,
            where.update_traces(showscale=False, selector={"type": "heatmap"}),
        ],
    )


def new_dates(data: Data) -> Section | None:
    """Maps of what is new on the dates that were added later."""
    found, of = data.found, data.result.get("update")
    if of is None:
        return None
    first = len(found.dates) - len(of["added_dates"])
    change = 1000 * (found.after[first:] - np.median(found.after[first - RECENT : first], axis=0))
    change -= np.median(change, axis=1, keepdims=True)
    shown = range(max(0, len(change) - SHOWN_DATES), len(change))
    limit = draw.robust_limit(change[shown.start :])
    maps = []
    for k in shown:
        date = found.dates[first + k]
        sentences = [sentence for sentence, alarm in data.alarms if alarm["date"] == date]
        marks = [mark for text, mark in data.warnings if mark and text in sentences]
        maps.append(draw.colour_map(found.on_grid(change[k]), data.frame_of_grid(), date, "mm", limit, marks=marks))
    texts = [
        f"Corrected displacement of the {'last ' if shown.start else ''}dates that were added, relative to the median "
        f"of the {RECENT} dates before them and of the scene, on the training grid. Numbers are those of the warnings: "
        f"changes that a date without motion has with a probability of {of['false_alarm_probability']:.0%}."
    ]
    return Section("new-dates", "New dates", texts, maps)


def atmosphere(data: Data) -> Section | None:
    """Maps of the atmosphere that is subtracted."""
    taken = 1000 * (data.found.before - data.found.after)
    order = np.argsort(-taken.std(axis=1))[:SHOWN_DATES]
    limit = draw.robust_limit(taken[order])
    ground, found = data.frame_of_grid(), data.found
    maps = [draw.colour_map(found.on_grid(taken[k]), ground, found.dates[k], "mm", limit) for k in order]
    return Section(
        "atmosphere",
        "Atmosphere of the largest dates",
        ["The atmosphere that is subtracted, on the training grid."],
        maps,
    )


def pairs(data: Data) -> Section | None:
    """Bars and table of the noise of each pair."""
    before, after = 1000 * data.found.noise
    text = "Spatial standard deviation of each pair, without steady motion. The menus sort the bars and the table."
    shown = [draw.pair_bars(data.names, before, after), draw.pair_table(data.names, before, after)]
    return Section("pairs", "Noise pair by pair", [text], wide=shown)


def network(data: Data) -> Section | None:
    """The network, coloured."""
    found = data.found
    reduction = 100 * (1 - found.noise[1] / found.noise[0])
    figure = draw.network(found.dates, found.pairs, found.bperp, reduction)
    return Section(
        "network", "Network of pairs, coloured by the noise removed", ["Each line is a pair."], wide=[figure]
    )


def latent_space(data: Data) -> Section | None:
    """Sources in two dimensions; no section if there are too few."""
    found = data.found
    if len(found.points) < 10:
        return None
    update = data.result.get("update", {})
    number = update.get("sources", 0)
    known = len(found.points) - number  # those of the dates added last are all shown
    chosen = np.arange(len(found.points))
    if known > SHOWN_SOURCES:
        chosen = np.r_[np.sort(np.random.default_rng(0).permutation(known)[:SHOWN_SOURCES]), chosen[known:]]
    places, method = embed(found.points[chosen])
    kinds = [c["kind"] for c in data.clusters]
    names = [f"{found.dates[i]}_{found.dates[j]}" for i, j in found.source_pairs[chosen]]
    text = (
        f"Each point is a source of one pair ({len(chosen)} of {len(found.points)} are shown). Near points have "
        f"similar maps, whatever their strength and sign ({method}; large distances mean little). Stars are "
        "deformation, circles atmosphere, squares undecided; crosses belong to no cluster."
    )
    texts = [text]
    if number:
        texts.append(
            f"The dates added last brought {number} sources, which are ringed; {update['sources_in_clusters']} of them "
            "joined a cluster. Their atmosphere does not depend on that."
        )
    figure = draw.latent(places, found.source_labels[chosen], kinds, names, chosen >= known)
    return Section("latent", "Latent space", texts, wide=[figure])


def clusters(data: Data) -> Section | None:
    """Maps, amplitudes and evidence of the clusters."""
    if not data.clusters:
        return None
    found, evidence = data.found, data.clusters
    rank = {"deformation": 0, "undecided": 1, "atmosphere": 2}
    order = sorted(range(len(evidence)), key=lambda k: (rank[evidence[k]["kind"]], -evidence[k]["energy"]))
    shown = order[:SHOWN_CLUSTERS]
    names = [f"{evidence[k]['label']}: {evidence[k]['kind']}" for k in shown]
    ground = data.frame_of_grid()
    maps = [
        draw.colour_map(found.on_grid(found.maps[k]), ground, name, "unit norm")
        for k, name in zip(shown, names, strict=True)
    ]
    series = draw.amplitudes(found.dates, found.amplitudes[shown], names)
    table = Table(
        ["cluster", "label", "sources", "energy", "roughness", "p-value", "height correlation"],
        [
            [
                str(c["label"]), c["kind"], str(c["sources"]), f"{c['energy']:.1%}", f"{c['roughness']:.2f}",
                f"{c['p_value']:.4f}", f"{c['height_correlation']:.2f}",
            ]
            for c in (evidence[k] for k in order)
        ],
    )  # fmt: skip
    texts = [
        "Deformation is smooth in time (roughness near 0, small p-value) and does not follow the height; atmosphere "
        "is independent from date to date (roughness near 1). Clusters determine which functions of time are searched "
        "for; they are not subtracted.",
    ]
    return Section("clusters", "Clusters and the evidence for their labels", texts, maps, [series], [table])


def structure_functions(data: Data) -> Section | None:
    """Semivariograms of velocity and pairs."""
    found = data.found
    before, after, pixel = data.velocities
    km = (pixel[0] / 1000, pixel[1] / 1000)
    rate = {name: metrics.semivariogram(m, km) for name, m in (("before", before), ("after", after))}
    coarse = (found.pixel[0] / 1000, found.pixel[1] / 1000)
    some = found.pairs[:: max(1, len(found.pairs) // 40)]
    pair = {
        name: tuple(
            np.mean(part, axis=0)
            for part in zip(
                *(metrics.semivariogram(found.on_grid(1000 * (s[j] - s[i])), coarse) for i, j in some), strict=True
            )
        )
        for name, s in (("before", found.before), ("after", found.after))
    }
    table = Table(
        ["", "range [km]", "sill"],
        [
            [f"{what} {name}", f"{reach:.1f}" if np.isfinite(reach) else "beyond the scene", f"{sill:.2f} {unit}"]
            for what, curves, unit in (("velocity", rate, "(mm/yr)^2"), ("pairs", pair, "mm^2"))
            for name, curve in curves.items()
            for reach, sill in [metrics.range_and_sill(*curve)]
        ],
    )
    return Section(
        "structure",
        "Structure functions",
        [
            "Semivariogram: half the mean squared difference of two pixels against their distance. The atmosphere "
            "makes it rise. The sill is the variance that is left, the range the distance over which it is correlated."
        ],
        [
            draw.lines({k: v[:2] for k, v in rate.items()}, "distance [km]", "velocity [(mm/yr)^2]"),
            draw.lines({k: (v[0], v[1]) for k, v in pair.items()}, "distance [km]", "pairs [mm^2]"),
        ],
        tables=[table],
    )


def phase_against_elevation(data: Data) -> Section | None:
    """Scatter plot of the pair with the highest correlation with height."""
    found = data.found
    height = found.height[found.valid]
    if np.nanstd(height) < 1:
        return Section("elevation", "Phase against elevation", ["The scene has hardly any relief."])
    first, second = found.pairs.T
    series = {"before": found.before, "after": found.after}
    values = {k: 1000 * (s[second] - s[first]) for k, s in series.items()}
    z = height - height.mean()
    correlation = {k: v @ z / np.maximum(len(z) * v.std(axis=1) * z.std(), 1e-12) for k, v in values.items()}
    worst = int(np.argmax(np.abs(correlation["before"])))
    step = max(1, len(height) // 800)
    curves = {k: (height[::step], v[worst][::step]) for k, v in values.items()}
    median = {k: float(np.median(np.abs(c))) for k, c in correlation.items()}
    return Section(
        "elevation",
        "Phase against elevation",
        [
            f"The pair with the highest correlation with height, {data.names[worst]}. Median absolute correlation of "
            f"all pairs: {median['before']:.2f} before, {median['after']:.2f} after."
        ],
        wide=[draw.lines(curves, "height [m]", "displacement [mm]", markers=True)],
    )


def gnss(data: Data) -> Section | None:
    """Map and tables of the GNSS stations that the correction was compared with, and of those that it was given."""
    evaluation = data.evaluation or {}
    compared = [row for row in evaluation.get("gnss", {}).get("rates", []) if row.get("after_rate") is not None]
    given = evaluation.get("stations_given", [])
    if not (compared or given) or data.inverted is None:
        return None
    before, after, _ = data.velocities
    limit = draw.robust_limit(before, after)
    factor = data.inverted.factor
    groups = [
        ("square", [(r["row"] // factor, r["column"] // factor) for r in given], [r["rate"] for r in given]),
        ("circle", [data.on_velocities(r["row"], r["column"]) for r in compared], [r["gnss_rate"] for r in compared]),
    ]
    names = [[row["station"] for row in rows] for rows in (given, compared)]
    maps = []
    for values, title in ((before, "velocity before"), (after, "velocity after")):
        maps.append(draw.colour_map(values, data.frame, title, "mm/yr", limit))
        for (symbol, places, rates), stations in zip(groups, names, strict=True):
            if not places:
                continue
            here = np.array([_near(values, *place) for place in places])
            shown = np.array(rates) + np.nanmean(here - rates)  # rates are relative
            texts = [f"{n}: GNSS {g:.1f}, map {v:.1f} mm/yr" for n, g, v in zip(stations, shown, here, strict=True)]
            draw.add_stations(maps[-1], [data.frame.at(*place) for place in places], shown, texts, symbol)
    texts, tables = [], []
    if compared:
        texts.append(
            "Circles are stations that the correction is compared with. Their rates are relative to the mean of the "
            "network, so that no station is the reference; the RMS of the difference is over the baselines of the "
            "station."
        )
        head = ["station", "GNSS [mm/yr]", "before", "after", "after minus GNSS", "RMS before [mm]", "RMS after"]
        columns = ("gnss_rate", "before_rate", "after_rate", "error", "before_rms", "after_rms")
        full = [row | {"error": row["after_rate"] - row["gnss_rate"]} for row in compared]
        tables.append(Table(head, [[row["station"], *(_number(row.get(key)) for key in columns)] for row in full]))
    if given:
        texts.append(
            "Squares are stations whose rates the correction was given (vae.gnssFile). It was anchored at them, so "
            "only the misfit of a station that is left out is evidence."
        )
        head = ["station given", "rate [mm/yr]", "std", "misfit without GNSS", "with all", "left out"]
        keys = ("rate", "std", "without", "with", "left_out")
        tables.append(Table(head, [[row["station"], *(_number(row[key]) for key in keys)] for row in given]))
    texts.append("The stations are filled with their GNSS rate on the scale of the map: one that agrees hardly shows.")
    return Section("gnss", "GNSS stations", texts, maps, tables=tables)


def time_series(data: Data) -> Section | None:
    """Displacement at GNSS stations and at the chosen pixels."""
    shown = []
    gnss = (data.evaluation or {}).get("gnss", {})
    for name, station in gnss.get("stations", {}).items():
        curves = {k: np.array(station[k], dtype=float) for k in ("before", "after") if k in station}
        curves["GNSS"] = np.array(station["gnss"], dtype=float)
        shown.append(draw.time_series(gnss["dates"], curves, f"{name} minus {gnss['reference']}, line of sight"))
    if data.inverted is not None:
        for name, (y, x) in data.points.items():
            series = {
                k: _centred(v[:, y, x], v)
                for k, v in (("before", data.inverted.before), ("after", data.inverted.after))
            }
            full = y * data.inverted.factor, x * data.inverted.factor
            shown.append(draw.time_series(data.inverted.dates, series, f"{name} (row {full[0]}, column {full[1]})"))
    if not shown:
        return None
    text = "Displacement towards the satellite, relative to the median of the scene on each date for single pixels."
    return Section("series", "Time series", [text], shown)


def training(data: Data) -> Section | None:
    """Loss curve."""
    losses = np.atleast_2d(data.found.losses)[0]  # a file of version 0.1 has two networks, of which this is the first
    steps = np.arange(len(losses), dtype=np.float64)
    step = max(1, len(steps) // 500)
    curves = {"separator": (steps[::step], losses[::step])}
    text = "Loss per pixel of the network that separates sources. It should decrease and level off."
    return Section("training", "Training", [text], wide=[draw.lines(curves, "step", "loss")])


def evaluation(data: Data) -> Section | None:
    """The table of vae_evaluate.py."""
    if data.evaluation is None:
        return None
    columns = list(data.evaluation["columns"].items())
    tables = []
    for part in (columns[k : k + TABLE_COLUMNS] for k in range(0, len(columns), TABLE_COLUMNS)):
        head = ["method", *(f"{c['title']} [{c['unit']}]" if c["unit"] else c["title"] for _, c in part)]
        rows = [[row["method"], *(_number(row.get(key)) for key, _ in part)] for row in data.evaluation["table"]]
        tables.append(Table(head, rows))
    skipped = [f"Left out: {s['method']}, because {s['reason']}." for s in data.evaluation.get("skipped", [])]
    return Section(
        "evaluation",
        "Comparison with other corrections",
        [*filter(None, [data.evaluation.get("verdict")]), data.evaluation["note"], *_same(data.evaluation), *skipped],
        tables=tables,
    )


def injection(data: Data) -> Section | None:
    """Gains of injected signals."""
    rows = (data.evaluation or {}).get("injection", [])
    if not rows:
        return None
    kinds = dict.fromkeys(r["kind"] for r in rows)
    text = "Known motion was added to copies of your pairs before the correction; the gain is the share that is kept."
    sentences = [text, " ".join(r["sentence"] for r in rows)]
    shown = [draw.gains(kind, [r for r in rows if r["kind"] == kind]) for kind in kinds]
    return Section("injection", "Injected signals: kept or lost", sentences, shown)


def found_from(data: Data) -> Section | None:
    """Amplitude from which motion is kept, as the search itself says."""
    rows = data.result.get("found_from")
    if not rows:
        return None
    text = (
        "Motion is kept from the amplitude at which it is more likely motion than chance. Weaker motion may be removed "
        "with the atmosphere: no motion on the map of the velocity does not mean stable ground. The first "
        "figure of each is for the median place and date, the second for the tenth where the sky is roughest, often "
        "high ground. vae_evaluate.py --detect measures it with known motion."
    )
    kinds = ["mm_per_year", "mm_per_year_rough", "step_mm", "step_mm_rough"]
    cells = [[f"{row['width_km']:.1f}", *(f"{row[kind]:.1f}" for kind in kinds)] for row in rows]
    head = ["full width at half maximum [km]", "rate of steady motion [mm/yr]", "roughest", "step [mm]", "roughest"]
    return Section("found-from", "Motion that is found from", [text], tables=[Table(head, cells)])


def detection(data: Data) -> Section | None:
    """Amplitude from which motion is found, and the curves behind it."""
    found = (data.evaluation or {}).get("detection")
    if not found or not found["rows"]:
        return None
    of = found["alarms"]
    texts = [
        "Known motion was added at several places of your pairs at a time. The table gives the amplitude (mm at the "
        "peak, at the end of the motion) from which at least half of it is regarded as motion, with a probability of "
        "90 %, and its 95 % interval.",
        f"Without added motion the method finds {of['pieces']} pieces of motion at {of['places']} places, "
        f"{of['moving_share']:.1%} of the scene: where nothing moves, these are false alarms. By chance there is one "
        f"in {found['significance']:.0%} of all searches.",
    ]
    durations = list(dict.fromkeys(row["duration"] for row in found["rows"]))
    widths = dict.fromkeys(row["width_km"] for row in found["rows"])
    of_width = {width: [row for row in found["rows"] if row["width_km"] == width] for width in widths}
    cells = [
        [f"{width:g} km", *({row["duration"]: _found_from(row) for row in rows}.get(d, "-") for d in durations)]
        for width, rows in of_width.items()
    ]
    table = Table(["width", *durations], cells)
    return Section("detection", "Motion that is found", texts, [*map(draw.detection, of_width.values())], [], [table])


def _found_from(row: dict[str, Any]) -> str:
    if row["amplitude"] is None:
        return f"above {max(amplitude for amplitude, *_ in row['trials']):.2g}"
    return f"{row['amplitude']:.2g} ({row['low']:.2g} to {row['high']:.2g})"


def left_to_mintpy(data: Data) -> Section | None:
    """Delays that MintPy's own steps subtract after the inversion."""
    rows = data.result.get("known_delays", [])
    if not rows:
        return None
    texts = [
        "MintPy subtracts these from the time-series. They were subtracted from the pairs before the training, so the "
        "correction does not contain them. The corrected stack still contains them, for MintPy to subtract: each is "
        "removed once. Noise of pairs and dates on this page is given without them."
    ]
    table = Table(
        ["delay", "MintPy's step", "source", "largest standard deviation of a date [mm]"],
        [
            [row["name"], row["step"], row["source"], f"{row['std_mm']:.1f}"]
            if row["subtracted"]
            else [row["name"], f"{row['step']}, switched off", f"unknown: {row['source']}", "-"]
            for row in rows
        ],
    )
    return Section("known-delays", "Left to MintPy", texts, tables=[table])


def prior_delay(data: Data) -> Section | None:
    """Coefficient of a weather model's delay on each date."""
    found = data.result.get("prior_delay")
    if not found:
        return None
    values = np.array(list(found["coefficients"].values()), dtype=float)
    text = (
        f"Share of the delay of {found['file']} that the stack confirms and that was removed with the rest of the "
        f"atmosphere: mean {values.mean():.2f}, above {SOME_OF_IT:g} on {(values > SOME_OF_IT).sum()} of "
        f"{len(values)} dates. 0: the date does not confirm the map; 1: the map is removed completely."
    )
    return Section(
        "prior-delay", "Weather model", [text], wide=[draw.coefficients(list(found["coefficients"]), values)]
    )


def provenance(data: Data) -> Section:
    """Settings, versions and hashes."""
    result = data.result
    rows = [
        [k, str(v)] for k, v in {**result["settings"], **result["versions"], "device": result.get("device", "")}.items()
    ]
    hashes = [[k, str(result[k])[:16]] for k in ("stack_sha256", "geometry_sha256", "model_sha256") if k in result]
    texts = [f"Next command: {result['next_command']}"]
    return Section("settings", "Settings and versions", texts, tables=[Table(["", ""], rows + hashes)])


SECTIONS: tuple[Callable[[Data], Section | None], ...] = (
    *(
        explore,
        new_dates,
        velocity,
        evaluation,
        gnss,
        injection,
        found_from,
        detection,
        time_series,
        atmosphere,
        pairs,
        network,
        latent_space,
        clusters,
    ),
    *(structure_functions, phase_against_elevation, prior_delay, left_to_mintpy, training, provenance),
)
WITHOUT_EVIDENCE = (evaluation, injection, detection, left_to_mintpy, provenance)


# ------------------------------------------------------------------------------------------------------------- helpers
def embed(points: Floats) -> tuple[Floats, str]:
    """Embed points in two dimensions (points, 2) so that near ones stay near: by UMAP if installed, else by t-SNE."""
    lifted = unsigned(points)
    try:
        from umap import UMAP
    except ImportError:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        # 500 rounds leave its misfit within 2 % of that after 1000
        model = TSNE(metric="cosine", init="pca", perplexity=perplexity, max_iter=500, random_state=0)
        with single_threaded():  # its threads wait for one another actively, which takes a minute on busy cores
            return np.asarray(model.fit_transform(lifted), dtype=np.float64), "t-SNE"
    return np.asarray(UMAP(metric="cosine", random_state=0).fit_transform(lifted), dtype=np.float64), "UMAP"


def _same(outcome: dict[str, Any]) -> list[str]:
    values = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in outcome["stack"].items() if value is not None]
    return [f"The same for every row: {', '.join(values)}."] if values else []


def _near(values: Floats, row: int, column: int) -> float:
    """Median of the 3 x 3 pixels around a pixel of a map; NaN without data."""
    window = values[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    known = window[np.isfinite(window)]
    return float(np.median(known)) if known.size else float("nan")


def _centred(series: Floats, maps: Floats) -> Floats:
    return 1000 * (series - np.nanmedian(maps, axis=(1, 2)))


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
