"""Refusals and warnings of a correction: diagnostics, and the limits that they are compared with. Arrays only.

The limits lie between the values of healthy and of corrupted simulated stacks; ``docs/limits.md`` gives both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..errors import NotEnoughEvidence
from .inversion import closure
from .observations import Observations
from .search import MAX_PIECES
from .separation import Separation
from .source_model import Fit

MAX_HEIGHT_CORRELATION = 0.35
"""Absolute correlation of the map of the motion found with the height."""
SHORT_SPAN = 1.0
"""Years within which a trend and the season of the atmosphere are the same slow change."""
FEW_DATES = 18
MOST_TRIPLETS = 300
"""Triplets that are looked at, so that their closures take no more memory than the pairs of a stack may."""
MAX_UNCLUSTERED = 0.5
"""Share of the sources that are in no cluster."""
MAX_LATE_FALL = 0.22
"""Share of the decrease of the loss in the second half of the steps."""
MAX_MISFIT, MISFIT_REFUSED = 0.02, 0.14
"""Share of the pairs' pixels that contradict the other pairs: limits of the warning and of the refusal. Above the
second limit the share no longer grows with the number of errors, and the wrong pairs cannot be identified."""
MAX_WORSE, WORSE_REFUSED = 0.1, 0.5
"""Share of the pairs that are noisier after the correction."""
MAX_WORSE_DATES = 0.1
LEAST_SPREAD = 0.1
"""Radians; the phase of a pair varies more than this within any scene, if only by noise."""
MIN_CLOSURES = 20
"""Number of closures near 1, on pixels of the training grid, from which the units are doubted."""
NOISIER = 1.05
"""Ratio of the noise after and before from which a date counts as noisier."""


@dataclass(frozen=True)
class Diagnostics:
    """Values that are compared with the limits and written to ``vae_result.json``.

    Attributes
    ----------
    pairs_worse, dates_worse : float
        Share of the pairs and of the dates that are noisier after the correction.
    unclustered_share : float
        Share of the sources that are in no cluster.
    misfit_share : float
        See :func:`misfit_share`.
    motion_height_correlation : float or None
        See :func:`height_correlation`; None without motion.
    late_fall : float
        See :func:`late_fall`.
    """

    pairs_worse: float
    dates_worse: float
    unclustered_share: float
    misfit_share: float
    motion_height_correlation: float | None
    late_fall: float


def diagnostics(found: Separation, observations: Observations) -> Diagnostics:
    """Diagnostics of a separation and the observations it was made from."""
    pairs, valid = observations.pairs, found.valid
    before, after = found.noise_of_pairs(pairs)
    date_before, date_after = found.noise.std(axis=2)
    phase, weight = observations.phase[:, valid], observations.weight[:, valid]
    return Diagnostics(
        pairs_worse=float((after > before).mean()),
        dates_worse=float((date_after > NOISIER * date_before).mean()),
        unclustered_share=found.unclustered,
        misfit_share=misfit_share(found.series, phase, weight, pairs),
        motion_height_correlation=height_correlation(found.deformation.series, found.grid.height),
        late_fall=late_fall(found.network.losses),
    )


def refuse(values: Diagnostics) -> None:
    """Raise NotEnoughEvidence if the :func:`diagnostics` exceed a limit of refusal."""
    if (share := values.misfit_share) > MISFIT_REFUSED:
        raise NotEnoughEvidence(
            f"unwrapping errors dominate: {share:.0%} of the pairs' pixels differ by more than half a cycle from the "
            f"inversion of all pairs ({MISFIT_REFUSED:.0%} at most); correct them (mintpy.unwrapError.method) or drop "
            "the worst pairs first"
        )
    if (worse := values.pairs_worse) > WORSE_REFUSED:
        raise NotEnoughEvidence(f"the correction would add noise to most pairs ({worse:.0%} of them)")


def warnings(values: Diagnostics, found: Separation, seed: int) -> list[str]:
    """One sentence for each of the :func:`diagnostics` beyond its limit; ``seed`` is the seed of the settings."""
    sentences = []
    if (n_dates := len(found.series)) < FEW_DATES:
        sentences.append(
            f"Only {n_dates} dates were learned from ({FEW_DATES} or more are safer): weak motion cannot be told from "
            "the atmosphere and is removed with it."
        )
    if (span := float(np.ptp(found.grid.years))) < SHORT_SPAN:
        sentences.append(
            f"The stack spans only {span:.1f} years: within a year slow motion looks like the season of the "
            "atmosphere, and weak motion is removed with it (vae_evaluate.py --inject measures how much)."
        )
    if (correlation := values.motion_height_correlation) is not None and abs(correlation) >= MAX_HEIGHT_CORRELATION:
        sentences.append(
            f"The map of the motion found has a correlation of {correlation:.2f} with the height (warning from "
            f"{MAX_HEIGHT_CORRELATION}): it may be tropospheric delay, or deformation partly removed with the delay."
        )
    if found.deformation.at_limit:
        sentences.append(
            f"The search for motion ended at its limit of {MAX_PIECES} pieces: the weakest motion may have been "
            "removed with the atmosphere."
        )
    if (share := values.unclustered_share) > MAX_UNCLUSTERED:
        which = f"{share:.0%} of the sources are in no cluster" if found.clusters else "No source is in a cluster"
        sentences.append(
            f"{which} (warning from {MAX_UNCLUSTERED:.0%}): motion that is neither a trend nor a step may have been "
            "missed."
        )
    sentences += _of_training(found.network, values.late_fall, seed)
    if (share := values.misfit_share) > MAX_MISFIT:
        sentences.append(
            f"{share:.1%} of the pairs' pixels differ by more than half a cycle from the inversion of all pairs "
            f"(warning from {MAX_MISFIT:.0%}): these unwrapping errors stay in the stack and make the estimate of the "
            "atmosphere less accurate."
        )
    if (worse := values.pairs_worse) > MAX_WORSE:
        sentences.append(
            f"{worse:.0%} of the pairs have more noise after the correction than before (warning from {MAX_WORSE:.0%})."
        )
    if (worse := values.dates_worse) > MAX_WORSE_DATES:
        sentences.append(
            f"{worse:.0%} of the dates have more noise after the correction than before (warning from "
            f"{MAX_WORSE_DATES:.0%})."
        )
    return sentences


def phase_units(observations: Observations) -> list[str]:
    """Warn of phase that is not in radians.

    Phase in metres hardly varies. In cycles an unwrapping error is 1, so the closures of triplets have a peak there;
    the closures of phase in radians have none.
    """
    phase, has_data = observations.phase, observations.weight > 0
    spread = [
        float(np.diff(np.quantile(x[w], (0.16, 0.84)))[0] / 2) for x, w in zip(phase, has_data, strict=True) if w.any()
    ]
    if spread and np.median(spread) < LEAST_SPREAD:
        return [
            f"The phase of most pairs varies by no more than {np.median(spread):.2g} within the scene (warning below "
            f"{LEAST_SPREAD:g} rad): is it in metres instead of radians?"
        ]
    closed = closure(np.where(has_data, phase, np.nan), observations.pairs, MOST_TRIPLETS)
    off = [np.abs(v - np.median(v)) for layer in closed if (v := layer[np.isfinite(layer)]).size]
    if not off:
        return []
    values = np.concatenate(off)
    below, one, cycle = (int((np.abs(values - at) < 0.2).sum()) for at in (0.6, 1.0, 2 * np.pi))
    if one > max(2 * below, 2 * cycle, MIN_CLOSURES):
        return [
            f"{one / len(values):.1%} of the closures of triplets differ from their median by 1, hardly any by 2 pi = "
            "6.28 rad: is the phase in cycles instead of radians?"
        ]
    return []


def _of_training(fit: Fit, late: float, seed: int) -> list[str]:
    sentences = []
    if fit.seed != seed:
        sentences.append(f"The training of the network diverged; seed {fit.seed} was used instead of {seed}.")
    if late > MAX_LATE_FALL:
        sentences.append(
            f"The training of the network was too short: {late:.0%} of the decrease of its loss came in the "
            f"second half of its {len(fit.losses)} steps (warning from {MAX_LATE_FALL:.0%}); raise vae.trainSteps."
        )
    return sentences


def misfit_share(
    series: Array, phase: NDArray[np.floating], weight: NDArray[np.floating], pairs: NDArray[np.integer]
) -> float:
    """Share of the pairs' pixels that differ by more than half a cycle from the robust inversion to dates.

    Parameters
    ----------
    series : (dates, pixels)
        Radians; an offset per date does not matter.
    phase, weight : (pairs, pixels)
    pairs : (pairs, 2) int
    """
    has_data = weight > 0
    off, known = 0, max(int(has_data.sum()), 1)
    for x, there, (first, second) in zip(phase, has_data, pairs, strict=True):
        residual = (x - (series[second] - series[first]))[there]
        off += int((np.abs(residual - np.median(residual)) > np.pi).sum()) if there.any() else 0
    return off / known


def height_correlation(motion: Array, height: NDArray[np.floating]) -> float | None:
    """Correlation of the principal map of ``motion`` (dates, pixels), positive upwards, with ``height`` (pixels,).

    The map of the motion is used, not that of a cluster, because the trend with height is removed before clustering.
    The sign is that of the displacement towards the satellite on the last date.
    """
    moves = motion - motion.mean(axis=0)
    if not moves.any() or height.std() == 0:
        return None
    left, _, maps = np.linalg.svd(moves, full_matrices=False)
    towards = -np.sign(left[-1, 0] - left[0, 0]) or 1.0
    return float(towards * np.corrcoef(maps[0], height)[0, 1])


def late_fall(losses: Array) -> float:
    """Share of the decrease of the losses (steps,) in the second half of a training, from means over a tenth of it.

    The learning rate ends at 0, so every loss ends flat; this share shows whether the training was too short.
    """
    n, tenth = len(losses), max(1, len(losses) // 10)
    start, middle, end = (float(losses[k : k + tenth].mean()) for k in (0, n // 2 - tenth, n - tenth))
    return (middle - end) / (start - end) if start > end else 1.0
