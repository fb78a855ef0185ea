"""Run ``vae_evaluate.py``: compare corrections of a project and write the table; scores are in :mod:`.comparison`."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError, NotEnoughEvidence
from ..method.inversion import closure
from ..method.observations import Observations
from ..project.knowledge_input import STABLE, given_files
from ..project.known_delays import find_known_delays
from ..project.network_options import network_options
from ..project.templates import read_templates
from ..report import write_report
from ..results.evidence import read_evidence
from ..results.inverted import Inverted, read_inverted
from ..results.result import RESULT, RESULT_OF
from ..settings import Settings
from ..stack import Stack, content_hash, open_hdf5, pool_map
from ..workflow.job import (
    Job,
    corrected_dir,
    dates_to_learn_from,
    open_with_network,
    read_prior_information,
    time_functions,
    with_prior,
)
from . import gnss_series
from .comparison import compare
from .detection import alarms, detect, parse_wanted
from .injection import inject, parse_signals, unsafe
from .methods import METHODS, delay_methods
from .rerun import Rerun
from .scene import evaluation_data, locate, pixel_of
from .stations import circular, leave_out, sentence

TABLE = "evaluation"
SAME = "The same for every row: temporal coherence {temporal_coherence:.3f}, closure misfit {closure_misfit:.3f} rad"


def evaluate(
    project: str | os.PathLike[str],
    work_dir: str | os.PathLike[str] | None = None,
    template_file: str | os.PathLike[str] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    *,
    methods: Sequence[str] | None = None,
    mask_file: Path | None = None,
    truth_file: Path | None = None,
    gnss_files: Sequence[str] = (),
    gnss_ref: str | None = None,
    sites: Sequence[str] = (),
    signals: Sequence[str] = (),
    detection: str | None = None,
    points: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare corrections of a stack; write ``evaluation.json``, ``evaluation.csv`` and the report.

    Parameters
    ----------
    project : path
        The original MintPy directory, which is only read.
    work_dir : path, optional
        The corrected directory, ``PROJECT_vae`` by default.
    template_file : path, optional
    out_dir : path, optional
        `work_dir` by default.
    methods : sequence of str, optional
        Keys of :data:`~mintpy_vae.evaluation.methods.METHODS`; by default all that need no training.
    mask_file : Path, optional
        Mask of stable ground; without it and without a truth, ``vae.stableMask`` of the correction or the template.
    truth_file : Path, optional
        Truth file of a simulated project.
    gnss_files : sequence of path
        See :func:`~mintpy_vae.evaluation.gnss_series.read_series`.
    gnss_ref : str, optional
        Reference station.
    sites : sequence of str
        ``NAME:LAT:LON`` of stations whose files have no coordinates.
    signals : sequence of str
        Signals to inject, see :func:`~mintpy_vae.evaluation.injection.parse_signals`.
    detection : str, optional
        Widths and durations of the detection curve, see :func:`~mintpy_vae.evaluation.detection.parse_wanted`; an empty
        text gives the default ones, None no curve.
    points : sequence of str
        ``NAME:LAT:LON`` of points whose time series the report shows.
    say : callable
        Called with lines of progress, and with the table.

    Returns
    -------
    dict
        Content of ``evaluation.json``.

    Raises
    ------
    InputError
        With one sentence that says what is wrong.
    """
    source = Path(os.path.abspath(project))
    work = Path(os.path.abspath(work_dir)) if work_dir else corrected_dir(source)
    target = Path(os.path.abspath(out_dir)) if out_dir else work
    if not (work / RESULT).is_file():
        raise InputError(f"{work} contains no result of vae_correct.py; run it first.")
    if target == source:
        raise InputError(f"{target} is the original project, which is only read; choose another directory with -o.")
    result = json.loads((work / RESULT).read_text())
    settings = Settings.from_template(result["settings"])
    template = _template_of(result, source, work, template_file)
    wanted = parse_signals(signals)
    curves = None if detection is None else parse_wanted(detection)
    stack_file, geometry = result.get("input_files", ("inputs/ifgramStack.h5", None))
    stack = open_with_network(source / stack_file, geometry and source / geometry, template)
    if stack.phase_name != result["dataset"]:
        raise InputError(
            f"{result['dataset']} was corrected, not {stack.phase_name}; give the template of that correction with -t."
        )
    inverted, evidence = read_inverted(work), read_evidence(work)
    # refuse what cannot be done before the work starts
    dates = dates_to_learn_from(stack)
    for signal in wanted:
        signal.course(dates)
    shown = {name: pixel_of(work, inverted, *place, name) for name, place in map(_site, points)}
    found = gnss_series.read_series(gnss_files, target / "GNSS-UNR")
    places, outside = locate(found, gnss_ref, work, inverted, dict(_site(s) for s in sites)) if found else ([], [])
    mask = _stable_mask(mask_file, truth_file, template, settings, stack)
    scene = evaluation_data(stack, source, work, inverted, evidence, template, mask, truth_file, places)
    with _writing_to(target), tempfile.TemporaryFile(dir=target):
        pass
    template_here = template | dict.fromkeys(result.get("switched_off", ()), "no")
    job = with_prior(Job(source, template_here, settings, stack, read_prior_information(template, settings, stack)))
    rerun = Rerun(replace(job, known=find_known_delays(stack, source, template_here, work)))
    available = METHODS | delay_methods(source, stack)
    chosen = methods or [name for name, method in available.items() if not method.trains]
    say(f"comparing on {' x '.join(map(str, inverted.valid.shape))} pixels:")
    outcome = compare(scene, chosen, rerun, say, available)
    parts: dict[str, tuple[str, Callable[[], Any]]] = {
        "stations_given": ("No GNSS station was left out", lambda: leave_out(rerun, say)),
        "injection": ("Nothing was injected", lambda: inject(rerun, wanted, evidence, say) if wanted else []),
        "detection": ("There is no detection curve", lambda: detect(rerun, curves, say) if curves else {}),
    }
    for key, (lost, part) in parts.items():
        try:
            outcome[key] = part()
        except NotEnoughEvidence as reason:  # the table is still written
            outcome[key] = []
            outcome["warnings"].append(f"{lost}, because {reason}.")
    outcome["warnings"] += [f"Not compared: {', '.join(outside)}, outside the scene."] if outside else []
    outcome["warnings"] += circular(outcome["stations_given"], [station.name for station in places])
    outcome["warnings"] += unsafe(outcome["injection"])
    outcome |= {"version": __version__, "project": source.name} | {key: result.get(key) for key in RESULT_OF}
    outcome["stack"] = consistency(work, rerun.data.observations, inverted)
    outcome["points"] = shown
    if content_hash(stack.file) != result["stack_sha256"]:
        outcome["warnings"].append(f"The stack in {source.name} has changed since it was corrected; correct it again.")
    say(text_table(outcome))
    _write(outcome, target)
    say(f"report: {write_report(work, target)}")
    return outcome


def _template_of(
    result: Mapping[str, Any], source: Path, work: Path, template_file: str | os.PathLike[str] | None
) -> dict[str, str]:
    """Options of the correction: of its template, by default of the copy that it left in its directory.

    Raises
    ------
    InputError
        If the options that decide what was learned are others.
    """
    copy = work / str(result.get("template"))
    template = read_templates(source, template_file or (copy if copy.is_file() else None))
    for key, options in (("network", network_options(template)), ("functions", time_functions(template))):
        known = result.get(key, options)
        for name in sorted({*known, *options}):
            here, there = options.get(name, "auto"), known.get(name, "auto")
            if here != there:
                raise InputError(
                    f"{name} is {here}, but was {there} in the correction; give the template of that correction with "
                    "-t, or correct again."
                )
    return template


@contextmanager
def _writing_to(target: Path) -> Iterator[None]:
    """Make a directory, and refuse it if it cannot be written to."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written to: {error.strerror}. Choose another directory with -o."
        ) from error


def _stable_mask(
    mask_file: Path | None, truth_file: Path | None, template: Mapping[str, str], settings: Settings, stack: Stack
) -> tuple[str, Path] | None:
    """User's mask of stable ground and its option; with a truth, ``vae.stableMask`` is not used."""
    if mask_file is not None:
        return "--mask", mask_file
    named = given_files(Settings.from_template(template), stack) | given_files(settings, stack)
    return (STABLE, named[STABLE]) if STABLE in named and truth_file is None else None


def consistency(work: Path, data: Observations, inverted: Inverted) -> dict[str, float]:
    """Measures of the stack that do not change with a correction by one field per date.

    ``temporal_coherence``: mean of MintPy's file over the valid pixels. ``closure_misfit``: root mean square over the
    triplets of the multilooked kept pairs, each relative to its median, radians; NaN without triplets.
    """
    found = {"temporal_coherence": float("nan"), "closure_misfit": float("nan")}
    if (work / "temporalCoherence.h5").is_file():
        with open_hdf5(work / "temporalCoherence.h5") as f:
            found["temporal_coherence"] = float(
                pool_map(f["temporalCoherence"][:], inverted.factor)[inverted.valid].mean()
            )
    misfit = closure(np.where(data.weight > 0, data.phase, np.nan), data.pairs)
    # each pair is known up to a constant, which is not a misfit
    misfits = [closed - np.median(closed) for layer in misfit if (closed := layer[np.isfinite(layer)]).size]
    if misfits:
        found["closure_misfit"] = float(np.sqrt(np.mean(np.concatenate(misfits) ** 2)))
    return found


def text_table(outcome: Mapping[str, Any]) -> str:
    """The table for a terminal: a line per score and a column per method."""
    rows, columns = outcome["table"], outcome["columns"]
    names = [f"({k + 1})" for k in range(len(rows))]
    lines = [
        "",
        outcome["verdict"],
        outcome["note"],
        SAME.format(**outcome["stack"]),
        "",
        *(f"{n:>5s} {row['method']}" for n, row in zip(names, rows, strict=True)),
        "",
    ]
    lines.append(f"{'':44s}" + "".join(f"{n:>9s}" for n in names))
    for key, column in columns.items():
        title = f"{column['title']} [{column['unit']}]" if column["unit"] else column["title"]
        lines.append(f"{title:44s}" + "".join(f"{_short(row.get(key)):>9s}" for row in rows))
    lines += ["", *(f"left out: {s['method']}, because {s['reason']}" for s in outcome["skipped"])]
    lines += [f"WARNING: {text}" for text in outcome["warnings"]]
    lines += [sentence(outcome["stations_given"])] if outcome["stations_given"] else []
    lines += [r["sentence"] for r in outcome["injection"]]
    return "\n".join([*lines, *_detection_table(outcome["detection"])])


def _detection_table(found: Mapping[str, Any]) -> list[str]:
    """Lines with a column per duration and a row per width; none without a curve."""
    if not found or not found["rows"]:
        return []
    durations = list(dict.fromkeys(row["duration"] for row in found["rows"]))
    lines = ["", f"{'motion found with 90 % probability from, mm:':44s}" + "".join(f"{d:>12s}" for d in durations)]
    for width in dict.fromkeys(row["width_km"] for row in found["rows"]):
        values = {row["duration"]: row["amplitude"] for row in found["rows"] if row["width_km"] == width}
        cells = "".join(f"{_short(values.get(d)):>12s}" for d in durations)
        lines.append(f"{f'{width:g} km wide':44s}" + cells)
    return [*lines, alarms(found)]


def _short(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "-"
    return "inf" if np.isinf(value) else f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"


def _write(outcome: Mapping[str, Any], target: Path) -> None:
    with _writing_to(target):
        (target / f"{TABLE}.json").write_text(json.dumps(_plain(outcome), indent=1, allow_nan=False))
        with open(target / f"{TABLE}.csv", "w", newline="", encoding="utf8") as f:
            writer = csv.writer(f)
            columns = outcome["columns"]
            writer.writerow(["method", *(f"{c['title']} [{c['unit']}]".replace(" []", "") for c in columns.values())])
            for row in outcome["table"]:
                writer.writerow([row["method"], *(row.get(key) for key in columns)])


def _plain(value: Any) -> Any:
    """Convert a value for JSON, which has neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else "inf"
    return value


def _site(text: str) -> tuple[str, tuple[float, float]]:
    try:
        name, latitude, longitude = text.split(":")
        return name, (float(latitude), float(longitude))
    except ValueError:
        raise InputError(f"{text}: NAME:LATITUDE:LONGITUDE is needed, in degrees.") from None
