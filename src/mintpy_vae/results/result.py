"""The outcome of a correction, which is returned, written to ``vae_result.json`` and printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..log import LOGGER

__all__ = [
    "MINTPY_AT_REST",
    "REPORT",
    "RESULT",
    "RESULT_OF",
    "STD",
    "MintpyState",
    "Result",
    "likely_pieces",
    "log_result",
    "read_result",
    "write_result",
]

RESULT, REPORT, STD = "vae_result.json", "vae_report.html", "vae_std.h5"
"""Files of a corrected directory that more than one package names."""


RESULT_OF = ("stack_sha256", "template_sha256")
"""Keys that what is made from a result repeats, so that it can be told whether the result is still the same."""


class MintpyState(StrEnum):
    """Progress of MintPy in the corrected directory."""

    NOT_RUN = "not run"
    PENDING = "pending"
    """MintPy is running, or was interrupted."""
    DONE = "reference_date"
    """All steps up to this one are done."""


MINTPY_AT_REST = (MintpyState.NOT_RUN, MintpyState.DONE)


@dataclass
class Result:
    """Outcome of a correction, as written to ``vae_result.json``.

    Attributes
    ----------
    status : str
        ``corrected`` or ``uncorrected``.
    reason : str
        Why the stack was left uncorrected; empty otherwise.
    work_dir : Path
    next_command : str
        Shell command that continues with MintPy.
    warnings : list of str
    details : dict
        Everything else in the file: versions, settings, hashes, timings, clusters, noise per pair and per date.
    skipped : bool
        True if an earlier result of the same input and settings was kept; not in the file.
    """

    status: str
    reason: str
    work_dir: Path
    next_command: str
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False


def read_result(directory: Path) -> dict[str, Any]:
    """Content of ``vae_result.json`` of a directory; empty if there is none or it cannot be read."""
    try:
        content = json.loads((directory / RESULT).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_result(directory: Path, result: Result) -> None:
    """Write ``vae_result.json`` completely or not at all. Raises InputError if it cannot be written."""
    content = {
        "status": result.status,
        "reason": result.reason,
        "next_command": result.next_command,
        "warnings": result.warnings,
        **result.details,
    }
    part = directory / (RESULT + ".part")
    try:
        part.write_text(json.dumps(content, indent=1))
        os.replace(part, directory / RESULT)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{directory / RESULT} could not be written: {error.strerror}.") from error


def log_result(result: Result, what: str = "the stack") -> None:
    """Log the outcome of a correction."""
    LOGGER.info("")
    if result.skipped:
        LOGGER.info("Nothing changed since the last run; %s in %s is left as it is.", what, result.work_dir)
    if result.status == "uncorrected":
        left = "contains the phase of the input" if what == "the stack" else "was not written"
        LOGGER.warning("UNCORRECTED, because %s.", result.reason)
        LOGGER.info("%s in %s %s.", what.capitalize(), result.work_dir, left)
    elif "clusters" in result.details:
        for line in _summary(result.details):
            LOGGER.info(line)
    for warning in result.warnings:
        LOGGER.warning(warning)
    if what == "the stack" and (page := result.work_dir / REPORT).is_file():
        LOGGER.info("report: %s", page)


def likely_pieces(details: Mapping[str, Any]) -> int:
    """Number of pieces of motion that are more likely motion than chance."""
    return sum(piece["probability"] > 0.5 for piece in details["deformation_pieces"])


def _summary(details: Mapping[str, Any]) -> Iterator[str]:
    """Lines that summarise clusters, noise and deformation."""
    yield "cluster  label        sources  energy  roughness  p-value  height correlation"
    for c in details["clusters"]:
        yield (
            f"{c['label']:7d}  {c['kind']:11s}  {c['sources']:7d}  {c['energy']:6.1%}  {c['roughness']:9.2f}"
            f"  {c['p_value']:7.4f}  {c['height_correlation']:18.2f}"
        )
    if prior := details.get("prior_delay"):
        shares = list(prior["coefficients"].values())
        yield (
            f"delay of {prior['file']}: mean coefficient over the dates {sum(shares) / len(shares):.2f}, from "
            f"{min(shares):.2f} to {max(shares):.2f}"
        )
    values = details["noise_per_pair_mm"].values()
    before, after = (sorted(v[k] for v in values)[len(values) // 2] for k in (0, 1))
    yield f"median spatial standard deviation of the pairs: {before:.1f} mm before, {after:.1f} mm after"
    yield f"pieces of local deformation (a place and a function of time each): {likely_pieces(details)}"
    if limits := details.get("found_from"):
        yield "found as motion from (median place, roughest tenth; weaker motion may be removed with the atmosphere):"
        yield "full width at half maximum [km]  rate [mm/yr]     step [mm]"
        for one in limits:
            rate = f"{one['mm_per_year']:.1f}, {one['mm_per_year_rough']:.1f}"
            step = f"{one['step_mm']:.1f}, {one['step_mm_rough']:.1f}"
            yield f"{one['width_km']:31.1f}  {rate:>12s}  {step:>12s}"
