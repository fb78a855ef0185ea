"""Charts of the report: arrays in, Plotly figures out, without files.

Colours are suitable for colour-blind readers: Okabe and Ito's eight for categories, cividis for amounts, a vik-like
scale (Crameri et al., 2020) for signed values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from numpy.typing import NDArray

from ..arrays import Floats
from ..dates import moments
from .frame import Frame, Mark

BEFORE, AFTER, THIRD = "#E69F00", "#0072B2", "#009E73"
OKABE_ITO = (AFTER, BEFORE, THIRD, "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "rgb(36, 36, 36)")
VIK = ("#001261", "#033E7D", "#1E6F9D", "#71A8C4", "#EBE5E0", "#D39774", "#BE6533", "#8B2706", "#590008")
KINDS = {"deformation": ("#D55E00", "star"), "undecided": ("#CC79A7", "square"), "atmosphere": ("#56B4E9", "circle")}
NONE = ("#BBBBBB", "x")  # sources in no cluster
ALARM = "#D55E00"
"""Of warnings."""

CONFIG = {
    **{"responsive": True, "displaylogo": False},
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    "showSendToCloud": False,  # Plotly 7 offers to upload every chart
}
"""Of all charts of the page."""
_INK = "rgb(36, 36, 36)"
"""Of text, axes and what is black: the page replaces this colour, and no other, on a dark screen."""
_CLEAR = "rgba(0,0,0,0)"
_STRIP = 30
"""Height above every chart that is left to the toolbar, pixels."""
_LEGEND = 32
_MENU = 44
_BESIDE_MAP = 66
"""Width beside every map for its axis, pixels."""
_BELOW_MAP = 104
"""Height below every map for its axis and its colour bar, pixels."""
OPACITY = 0.82
"""Of what is drawn above the hillshade."""
MAP_WIDTH = 330
"""Width for which the height of a map is given; the page keeps the ratio."""
_AXIS = {
    **{"showgrid": False, "showline": True, "linecolor": _INK, "ticks": "outside", "automargin": True},
    **{"zerolinecolor": _INK, "title": {"standoff": 15}},
}
_STYLE = {
    **{"xaxis": _AXIS, "yaxis": _AXIS, "colorway": OKABE_ITO, "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR},
    **{
        "autotypenumbers": "strict",
        "hovermode": "closest",
        "modebar": {"bgcolor": _CLEAR, "color": "rgb(130,130,130)", "activecolor": AFTER},
        "annotationdefaults": {"arrowwidth": 1},
    },
    "font": {"color": _INK},
    "coloraxis": {"colorbar": {"outlinewidth": 1, "tickcolor": _INK, "ticks": "outside"}},
    "shapedefaults": {"fillcolor": "black", "line": {"width": 0}, "opacity": 0.3},
}
"""The parts of Plotly's ``simple_white`` that are used; the full template would be copied into every figure."""
_TEMPLATE = "mintpy-vae"
pio.templates[_TEMPLATE] = go.layout.Template(layout=_STYLE)


def chart(height: int = 340, title: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the style of the page, which writes the title above it and not into it.

    What is known of the ``layout`` is best given here: Plotly takes several times as long to update a figure.
    """
    own = {
        "template": _TEMPLATE,
        "height": height,
        "meta": {"title": title},
        "margin": {"l": 55, "r": 15, "t": _STRIP + (_LEGEND if layout.get("showlegend", True) else 0), "b": 45},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "hoverlabel": {"namelength": -1},
    }
    return go.Figure(layout=own | layout)


def colour_map(
    values: Floats,
    frame: Frame,
    title: str,
    unit: str,
    limit: float | None = None,
    points: Mapping[str, tuple[float, float]] = {},
    marks: Sequence[Mark] = (),
) -> go.Figure:
    """A map (length, width) above the hillshade, with its colour bar below; the hillshade shows where it is NaN.

    ``limit`` is the end of a symmetric scale, shared by maps that are compared; ``points``, (row, column) by name, and
    the ``marks`` of warnings are drawn.
    """
    length, width = values.shape
    x, y = frame.axes["x"], frame.axes["y"]
    ratio = length * abs(y["step"]) * y["metres"] / (width * abs(x["step"]) * x["metres"])
    (left, top), (right, bottom) = frame.at(-0.5, -0.5), frame.at(length - 0.5, width - 0.5)
    place = {"x": left, "y": top, "sizex": abs(right - left), "sizey": abs(top - bottom)}
    look = {"mirror": True, "nticks": 4, "ticklen": 3, "tickfont": {"size": 10}, "constrain": "domain"}
    look |= {"ticksuffix": "\u00b0" if frame.axes["degrees"] else "", "zeroline": False, "automargin": False}
    named = {"standoff": 4, "font": {"size": 11}}
    along = {"scaleanchor": "x", "scaleratio": y["metres"] / x["metres"]}
    figure = chart(
        height=int(np.clip((MAP_WIDTH - _BESIDE_MAP) * ratio, 150, 400)) + _STRIP + _BELOW_MAP,
        title=title,
        images=[{"source": frame.ground, "xref": "x", "yref": "y", "sizing": "stretch", "layer": "below", **place}],
        xaxis={"range": [left, right], "title": {"text": x["title"], **named}, **look},
        yaxis={"range": [bottom, top], "title": {"text": y["title"], **named}, **along, **look},
        margin={"l": _BESIDE_MAP - 10, "r": 10, "t": _STRIP, "b": _BELOW_MAP},
        showlegend=False,
    )
    limit = limit or robust_limit(values)
    bar = {"orientation": "h", "thickness": 10, "title": {"text": unit, "side": "bottom"}, "tickfont": {"size": 11}}
    figure.add_heatmap(
        z=values.astype(np.float32), x0=x["first"], dx=x["step"], y0=y["first"], dy=y["step"],
        zmin=-limit, zmax=limit, colorscale=list(VIK), opacity=OPACITY,
        colorbar=bar | {"yref": "container", "y": 0, "yanchor": "bottom"},
        hovertemplate=f"%{{x}}, %{{y}}<br>%{{z:.2f}} {unit}<extra></extra>",
    )  # fmt: skip
    for name, (row, column) in points.items():
        text_box = {"bgcolor": "white", "opacity": 0.85, "font": {"size": 11}, "arrowhead": 2, "arrowcolor": _INK}
        side = "left" if column < width / 4 else "right" if column > 3 * width / 4 else "center"
        ay = -24 if row > length / 4 else 24
        x_at, y_at = frame.at(row, column)
        figure.add_annotation(x=x_at, y=y_at, text=name, ax=0, ay=ay, xanchor=side, **text_box)
    for mark in marks:
        figure.add_scatter(
            x=[x for x, _ in mark.places], y=[y for _, y in mark.places], text=[str(mark.number)] * len(mark.places),
            mode="markers+text", textfont={"color": "white", "size": 11}, marker={"size": 18, "color": ALARM},
            hovertext=mark.text, hoverinfo="text",
        )  # fmt: skip
    return figure


def add_stations(
    figure: go.Figure, places: Sequence[tuple[float, float]], rates: Floats, texts: Sequence[str], symbol: str
) -> None:
    """Draw stations on a map of velocities, filled with their rate on the scale of the map."""
    scale = figure.data[0]
    look = {"colorscale": list(VIK), "cmin": scale.zmin, "cmax": scale.zmax, "symbol": symbol}
    look["size"] = 17 if symbol == "square" else 11  # a circle inside a square shows
    figure.add_scatter(
        x=[x for x, _ in places], y=[y for _, y in places], mode="markers", hovertext=list(texts), hoverinfo="text",
        marker={"color": rates, "line": {"color": "black", "width": 1.5}, **look},
    )  # fmt: skip


def robust_limit(*maps: Floats) -> float:
    """Common end of a colour scale: the 99th percentile of the absolute values."""
    values = np.abs(np.concatenate([m[np.isfinite(m)].ravel() for m in maps]))
    return float(np.quantile(values, 0.99)) or 1.0 if values.size else 1.0


def pair_bars(names: Sequence[str], before: Floats, after: Floats) -> go.Figure:
    """Bar chart of the noise of each pair before and after (mm), with a menu that sorts it."""
    figure = chart(yaxis={"title": "standard deviation [mm]"}, barmode="overlay")
    figure.add_bar(x=list(names), y=before, name="before", marker={"color": BEFORE})
    figure.add_bar(x=list(names), y=after, name="after", marker={"color": AFTER}, width=0.5)
    figure.update_xaxes(type="category", showticklabels=len(names) <= 40, tickangle=-90)
    figure.update_layout(updatemenus=[_sorter(_orders(names, before, after), "xaxis.categoryarray")])
    # strip of the toolbar, menu, legend, one below the other
    figure.update_layout(height=390, margin={"t": _STRIP + _MENU + _LEGEND})
    return figure


def pair_table(names: Sequence[str], before: Floats, after: Floats) -> go.Figure:
    """Table of the same values, with a menu that sorts it."""
    columns = [np.array(names), np.round(before, 2), np.round(after, 2), np.round(100 * (1 - after / before), 1)]
    figure = chart()
    head = ["pair", "before [mm]", "after [mm]", "removed [%]"]
    figure.add_table(
        columnwidth=[2, 1, 1, 1],
        header={"values": head, "fill": {"color": "#DDE6ED"}, "align": "left"},
        cells={"values": [c.tolist() for c in columns], "align": "left", "height": 22, "font": {"size": 11}},
    )
    orders = {
        key: [[c[order].tolist() for c in columns]]
        for key, order in _orders(names, before, after, as_index=True).items()
    }
    buttons = [{"label": k, "method": "restyle", "args": [{"cells.values": v}]} for k, v in orders.items()]
    figure.update_layout(updatemenus=[_menu(buttons)], margin={"l": 5, "r": 5, "t": _STRIP + _MENU, "b": 5})
    return figure


def network(dates: Sequence[str], pairs: NDArray[np.integer], bperp: Floats, reduction: Floats) -> go.Figure:
    """Network of pairs, coloured by the share of noise removed (per cent)."""
    figure = chart(xaxis={"title": "date"}, yaxis={"title": "perpendicular baseline [m]"}, showlegend=False)
    days, baseline = _days(dates), _date_baselines(pairs, bperp, len(dates))
    first, second = pairs.T
    edges = np.linspace(0, 100, 9)
    colours = _cividis(len(edges) - 1)
    which = np.clip(np.digitize(reduction, edges) - 1, 0, len(colours) - 1)
    for k, colour in enumerate(colours):
        here = which == k
        x = [v for i, j in zip(first[here], second[here], strict=True) for v in (days[i], days[j], None)]
        y = [v for i, j in zip(first[here], second[here], strict=True) for v in (baseline[i], baseline[j], None)]
        figure.add_scatter(x=x, y=y, mode="lines", line={"color": colour, "width": 1.5}, hoverinfo="skip")
    middle = [days[i] + (days[j] - days[i]) / 2 for i, j in pairs]
    figure.add_scatter(
        x=middle,
        y=(baseline[first] + baseline[second]) / 2,
        mode="markers",
        marker={
            "color": reduction, "colorscale": "Cividis", "cmin": 0, "cmax": 100, "size": 6,
            "colorbar": {"title": {"text": "removed [%]"}, "thickness": 10},
        },
        text=[f"{dates[i]}_{dates[j]}" for i, j in pairs],
        hovertemplate="%{text}<br>%{marker.color:.0f} % removed<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(x=days, y=baseline, mode="markers", marker={"color": _INK, "size": 7}, text=list(dates),
                       hovertemplate="%{text}<extra></extra>")  # fmt: skip
    return figure


def latent(
    places: Floats,
    labels: NDArray[np.integer],
    kinds: Sequence[str],
    names: Sequence[str],
    ringed: NDArray[np.bool_],
) -> go.Figure:
    """Sources in two dimensions (sources, 2), coloured by cluster or by label; hovering shows the pair.

    Those that are ``ringed`` (sources,) bool stand out.
    """
    figure = chart(height=460, xaxis={"visible": False}, yaxis={"visible": False})
    by_cluster, by_kind = [], []
    for label in range(-1, len(kinds)):
        here = labels == label
        if not here.any():
            continue
        colour, symbol = KINDS[kinds[label]] if label >= 0 else NONE
        name = f"{label}: {kinds[label]}" if label >= 0 else "no cluster"
        by_cluster.append(OKABE_ITO[label % len(OKABE_ITO)] if label >= 0 else colour)
        by_kind.append(colour)
        figure.add_scatter(
            x=places[here, 0].astype(np.float32),
            y=places[here, 1].astype(np.float32),
            mode="markers",
            name=name,
            marker={"color": by_cluster[-1], "symbol": symbol, "size": 6, "line": {"width": 0}},
            text=np.array(names)[here].tolist(),
            hovertemplate=f"%{{text}}<br>{name}<extra></extra>",
        )
        if ringed[here].any():
            figure.data[-1].marker.update(size=6 + 4 * ringed[here], line={"width": 2 * ringed[here], "color": _INK})
    buttons = [
        {"label": text, "method": "restyle", "args": [{"marker.color": colours}]}
        for text, colours in (("colour by cluster", by_cluster), ("by label", by_kind))
    ]
    figure.update_layout(updatemenus=[_menu(buttons)], margin={"t": _STRIP + _MENU}, showlegend=False)
    return figure


def amplitudes(dates: Sequence[str], series: Floats, names: Sequence[str]) -> go.Figure:
    """Amplitude series (clusters, dates) at unit standard deviation."""
    figure = chart(height=380, yaxis={"title": "amplitude (scaled)"})
    figure.update_layout(margin={"t": _STRIP}, legend={"y": -0.15, "yanchor": "top"})  # of several lines on a phone
    for k, (values, name) in enumerate(zip(series, names, strict=True)):
        scaled = (values - values.mean()) / max(float(values.std()), 1e-12)
        colour = OKABE_ITO[k % len(OKABE_ITO)]
        figure.add_scatter(x=_days(dates), y=scaled, name=name, mode="lines+markers", line={"color": colour})
    return figure


def lines(
    curves: Mapping[str, tuple[Floats, Floats]], x: str, y: str, markers: bool = False, log: bool = False
) -> go.Figure:
    """Curves (x, y) by name, in the order: before, after, others."""
    figure = chart(xaxis={"title": x}, yaxis={"title": y})
    if log:
        figure.update_yaxes(type="log")
    for (name, (a, b)), colour in zip(curves.items(), (BEFORE, AFTER, *OKABE_ITO[2:]), strict=False):
        mode = "markers" if markers else "lines+markers" if len(a) < 60 else "lines"
        marker = {"color": colour, "size": 4 if markers else 6, "opacity": 0.5 if markers else 1.0}
        figure.add_scatter(x=a, y=b, name=name, mode=mode, line={"color": colour}, marker=marker)
    return figure


def time_series(dates: Sequence[str], curves: Mapping[str, Floats], title: str) -> go.Figure:
    """Displacement (mm) over the dates, by name; a curve named GNSS is drawn in black."""
    figure = chart(yaxis={"title": "displacement [mm]"}, title=title)
    for (name, values), colour in zip(curves.items(), (BEFORE, AFTER, *OKABE_ITO[2:]), strict=False):
        colour = _INK if name == "GNSS" else colour
        figure.add_scatter(x=_days(dates), y=values, name=name, mode="lines+markers", line={"color": colour})
    return figure


def coefficients(dates: Sequence[str], values: Floats) -> go.Figure:
    """Bar chart of a coefficient from 0 to 1 on each date."""
    figure = chart(height=260, yaxis={"title": "coefficient", "range": [0, 1.05]}, showlegend=False)
    figure.add_bar(
        x=_days(dates), y=values, marker={"color": AFTER}, hovertemplate="%{x|%Y-%m-%d}<br>%{y:.2f}<extra></extra>"
    )
    return figure


def gains(kind: str, rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Heat map of the gain of injected signals, width against amplitude; light where the signal is kept completely."""
    widths, sizes = (sorted({float(r[key]) for r in rows}) for key in ("width_km", "amplitude"))
    table = np.full((len(sizes), len(widths)), np.nan)
    for r in rows:
        table[sizes.index(float(r["amplitude"])), widths.index(float(r["width_km"]))] = (
            np.nan if r["gain"] is None else 100 * r["gain"]
        )
    figure = chart(height=150 + 50 * len(sizes), title=f"{kind}: gain [%]")
    figure.add_heatmap(
        x=[f"{w:g} km" for w in widths], y=[f"{s:g} {rows[0]['unit']}" for s in sizes], z=table,
        text=[["-" if np.isnan(g) else f"{g:.0f} %" for g in row] for row in table], texttemplate="%{text}",
        colorscale=list(VIK), zmin=50, zmax=150,
        colorbar={"orientation": "h", "thickness": 10, "y": -0.25, "yanchor": "top"},
        hovertemplate="%{x}, %{y}: %{text}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(tickangle=0)
    figure.update_layout(margin={"b": 70})
    return figure


def detection(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Share of the added motions of one width that were found against their amplitude, and the fitted curves."""
    figure = chart(xaxis={"title": "amplitude [mm]", "type": "log"}, yaxis={"title": "found [%]", "range": [-3, 103]})
    figure.update_layout(meta={"title": f"{rows[0]['width_km']:g} km wide"})
    for row, colour in zip(rows, OKABE_ITO, strict=False):
        amplitude, found, tried = np.array(row["trials"], dtype=float).T
        x = np.geomspace(amplitude.min(), amplitude.max(), 60)
        y = 100 / (1 + np.exp(-(np.log(x) - row["middle"]) / row["scale"]))
        figure.add_scatter(x=x, y=y, mode="lines", name=row["duration"], line={"color": colour}, hoverinfo="skip")
        figure.add_scatter(
            x=amplitude, y=100 * found / tried, mode="markers", marker={"color": colour, "size": 7}, showlegend=False,
            text=[f"{n:g} of {m:g}" for n, m in zip(found, tried, strict=True)],
            hovertemplate="%{x:.2g} mm: %{text}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=90, line={"color": _INK, "width": 1, "dash": "dot"})
    return figure


# ------------------------------------------------------------------------------------------------------------- helpers
def _days(dates: Sequence[str]) -> NDArray[np.datetime64]:
    return moments(dates)


def _date_baselines(pairs: NDArray[np.integer], bperp: Floats, n_dates: int) -> Floats:
    """Perpendicular baseline of each date relative to the first, by least squares."""
    design = np.zeros((len(pairs), n_dates))
    design[np.arange(len(pairs)), pairs[:, 0]], design[np.arange(len(pairs)), pairs[:, 1]] = -1, 1
    found = np.linalg.lstsq(design, bperp, rcond=None)[0]
    return np.asarray(found - found[0])


def _cividis(number: int) -> list[str]:
    from plotly.colors import sample_colorscale

    return list(sample_colorscale("Cividis", [(k + 0.5) / number for k in range(number)]))


def _orders(names: Sequence[str], before: Floats, after: Floats, as_index: bool = False) -> dict[str, Any]:
    ranks = {
        "by date": np.arange(len(names)),
        "by noise before": np.argsort(-before),
        "by noise after": np.argsort(-after),
        "least removed first": np.argsort(-after / before),
    }
    return ranks if as_index else {key: [names[k] for k in rank] for key, rank in ranks.items()}


def _sorter(orders: Mapping[str, list[str]], target: str) -> dict[str, Any]:
    buttons = [{"label": key, "method": "relayout", "args": [{target: v}]} for key, v in orders.items()]
    return _menu(buttons, above=_LEGEND + 4)


def _menu(buttons: list[dict[str, Any]], above: int = 4) -> dict[str, Any]:
    """A menu on the left, that many pixels above the plot."""
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"t": 0, "b": above}}
    return {"type": "dropdown", "buttons": buttons, "font": {"size": 12}, "bgcolor": "white", **place}
