"""Render sections of figures and tables into one self-contained HTML file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ..results.result import REPORT, RESULT
from . import sections as content
from .charts import CONFIG, MAP_WIDTH
from .data import Data
from .explore import aspect, embedded
from .frame import Mark
from .section import Drawn, Section


def write_report(work_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str] | None = None) -> Path:
    """Write ``vae_report.html`` from the results of ``vae_correct.py`` and, if it was run, of ``vae_evaluate.py``.

    A section that cannot be made is replaced by the reason, and the page is still written.

    Parameters
    ----------
    work_dir : path
        Directory with ``vae_result.json``; ``vae_evidence.h5`` and MintPy's time series are used if present.
    out_dir : path, optional
        Directory of the page, and of ``evaluation.json`` if there is one; `work_dir` by default.

    Returns
    -------
    Path
        The page: one file without external resources.
    """
    work, out = Path(work_dir), Path(out_dir or work_dir)
    result = json.loads((work / RESULT).read_text())
    evaluation_file = out / "evaluation.json"
    evaluation = json.loads(evaluation_file.read_text()) if evaluation_file.is_file() else None
    data = Data.read(work, result, evaluation)
    wanted = content.SECTIONS if data.evidence else content.WITHOUT_EVIDENCE
    made = [section for make in wanted if (section := _attempt(make, data))]
    page = _render(f"mintpy-vae: {work.name}", content.lead(data), data.warnings, made)
    part = out / (REPORT + ".part")
    try:
        part.write_text(page, encoding="utf8")
        os.replace(part, out / REPORT)
    finally:
        part.unlink(missing_ok=True)  # on a full disk, free the space
    return out / REPORT


def _attempt(make: Callable[[Any], Section | None], data: Any) -> Section | None:
    try:
        return make(data)
    except Exception as error:  # a failing section must not prevent the others
        title = make.__name__.replace("_", " ")
        return Section(make.__name__, title, [f"This section could not be made ({type(error).__name__}: {error})."])


def _render(title: str, lead: str, warnings: Sequence[tuple[str, Mark | None]], sections: Sequence[Section]) -> str:
    loader = PackageLoader("mintpy_vae.report", ".")
    environment = Environment(loader=loader, autoescape=select_autoescape(default=True), trim_blocks=True)
    shown: list[Mapping[str, Any]] = []
    for section in sections:
        key = section.key
        figures = [_chart(figure, f"{key}-{k}") for k, figure in enumerate(section.figures)]
        wide = [_chart(figure, f"{key}-wide-{k}") for k, figure in enumerate(section.wide)]
        more: dict[str, Any] = {"figures": figures, "wide": wide, "columns": section.columns}
        if section.explorer:
            more |= {"embedded": Markup(embedded(section.explorer)), "ratio": aspect(section.explorer)}
        shown.append(vars(section) | more)
    template = environment.get_template("page.html.j2")
    js = _own("explore.js") + _own("page.js")
    inlined = {"plotly": get_plotlyjs(), "css": _own("page.css"), "js": js}
    return template.render(
        title=title,
        lead=Markup(lead),
        warnings=warnings,
        sections=shown,
        **{name: Markup(text) for name, text in inlined.items()},
    )


def _own(name: str) -> str:
    """Text of a file that stands beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf8")


def _chart(figure: go.Figure, name: str) -> Drawn:
    """Of a map the height follows from the width that the page gives it, of other charts it is fixed."""
    height, is_map = figure.layout.height, figure.layout.yaxis.scaleanchor is not None
    if is_map:
        figure.update_layout(height=None)
    text = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config=CONFIG,
        default_width="100%",
        default_height="auto" if is_map else f"{height}px",
    )
    return Drawn(figure.layout.meta["title"], Markup(text), MAP_WIDTH / height if is_map else None)
