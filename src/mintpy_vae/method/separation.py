"""The method: from multilooked pairs to the atmosphere of each date, after Ghosh et al. (2025). Arrays only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..dates import acquisition_years
from ..errors import NotEnoughEvidence
from ..settings import Settings
from .atmosphere import Atmosphere, estimate
from .clustering import Clusterer, Fishdbc, Sources, axes_of, unsigned
from .covariance import (
    Flattener,
    basis_maps,
    date_strength,
    source_weights,
    without_height,
)
from .deformation import Deformation, make_bells
from .inversion import invert_to_dates
from .joint import estimate_jointly, statistics_of, without
from .knowledge import NOTHING, Knowledge
from .labels import Cluster, attribute, confirm
from .local_sky import LocalSky, estimate_local_sky, no_local_sky
from .prior_mean import coefficients, relative
from .threads import single_threaded
from .timefunctions import MIN_NEW_GIVEN, TimeFunction, adds_to, annual, lasts, recognise, scanned, trend
from .training import Fit, draw_pairs, train
from .vae import SEPARATOR_SLOTS

Report = Callable[[str, int, int, str], None]
"""Progress of a stage: its name, steps done, steps in all, a short message."""
Trainer = Callable[..., Fit]
"""Called as :func:`~mintpy_vae.method.training.train` is."""

MIN_PIXELS = 200
MAX_PERSISTENT = 0.25
"""Largest number of persistent functions, a share of the dates; each takes one from what tells sky from motion."""


@dataclass(frozen=True)
class Stages:
    """Which stages of the method run: all, but for an ablation.

    Attributes
    ----------
    conditional_prior : bool
        Priors of the separator's slots depend on the dates of the pair; else all are free.
    clustering : bool
        Clusters of sources give functions of time; else only a trend, a year and scanned functions are searched.
    robust : bool
        Pairs with unwrapping errors lose their weight.
    slow_sky : bool
        The sky of persistent functions has a covariance of its own; else that of independent dates.
    local_sky : bool
        The covariance of the other dates is added to the stationary one.
    """

    conditional_prior: bool = True
    clustering: bool = True
    robust: bool = True
    slow_sky: bool = True
    local_sky: bool = True


@dataclass(frozen=True)
class Separation:
    """What the method found on the training grid.

    Attributes
    ----------
    atmosphere : Atmosphere
    deformation : Deformation
    functions : list of TimeFunction
        Those it was searched with.
    clusters : list of Cluster
    flatten : Flattener
        What the separator's maps went through, without their trend with height.
    noise_share : float
        Share of the sources that belong to no cluster.
    separator : Fit
        The network.
    local : LocalSky
    valid : (height, width) bool
        Pixels of the training grid that took part.
    mean_height : float
        Height (metres) to which the stratified part refers.
    series : (dates, pixels)
        Coarse phase of each date on the valid pixels, radians.
    corrected : (dates, pixels)
        The same, corrected.
    noise : (2, dates, pixels)
        Both without the trend and the other functions of time of the whole stack.
    sources : Sources
        What was clustered.
    prior : (dates,)
        Coefficient of the delay that is known beforehand; what it makes of it is removed besides ``atmosphere``.
    """

    atmosphere: Atmosphere
    deformation: Deformation
    functions: list[TimeFunction]
    clusters: list[Cluster]
    flatten: Flattener
    noise_share: float
    separator: Fit
    local: LocalSky
    valid: NDArray[np.bool_]
    mean_height: float
    series: Array
    corrected: Array
    noise: Array
    sources: Sources
    prior: Array

    def noise_of_pairs(self, pairs: NDArray[np.integer]) -> Array:
        """Spatial standard deviation of pairs (pairs, 2) before and after, (2, pairs) radians; see ``noise``."""
        first, second = pairs.T
        return np.asarray((self.noise[:, second] - self.noise[:, first]).std(axis=2))


@single_threaded()
def separate(
    phase: NDArray[np.floating],
    weight: NDArray[np.floating],
    pairs: NDArray[np.integer],
    dates: Sequence[str],
    height: NDArray[np.floating],
    settings: Settings,
    report: Report | None = None,
    clusterer: Clusterer | None = None,
    stages: Stages = Stages(),
    knowledge: Knowledge = NOTHING,
    trainer: Trainer = train,
    prior: Array | None = None,
) -> Separation:
    """Separate the atmosphere of each date from deformation.

    Parameters
    ----------
    phase, weight : (pairs, height, width)
        Multilooked unwrapped phase (radians) of the pairs to learn from, and its weight.
    pairs : (pairs, 2) int
        Date indices.
    dates : sequence of str
        YYYYMMDD, sorted.
    height : (height, width)
        Metres, NaN where unknown.
    settings : Settings
    report : callable, optional
        Told of the progress.
    clusterer : Clusterer, optional
        FISHDBC by default.
    stages : Stages
        All by default.
    knowledge : Knowledge
        Nothing by default.
    trainer : callable
        Trains a network; one that remembers lets variants share networks.
    prior : (dates, height, width), optional
        Delay of a weather model, radians; NaN on dates that it does not have. What the data bear out of it is taken
        for part of the atmosphere.

    Raises
    ------
    NotEnoughEvidence
        When the data do not allow it, with the reason.
    """
    years, n_dates, shape = acquisition_years(dates), len(dates), height.shape
    rng = np.random.default_rng(settings.seed)
    good = np.setdiff1d(np.arange(n_dates), knowledge.bad_dates)
    if len(good) < settings.min_dates:
        which = "dates that are not bad" if len(good) < n_dates else "dates"
        raise NotEnoughEvidence(f"the stack has {len(good)} {which}; {settings.min_dates} are needed (vae.minDate)")
    if len(pairs) < settings.min_pairs:
        raise NotEnoughEvidence(f"the stack has {len(pairs)} kept pairs; {settings.min_pairs} are needed (vae.minPair)")

    # 1. Pairs to dates; each date relative to its spatial mean.
    flat_phase, flat_weight = phase.reshape(len(pairs), -1), weight.reshape(len(pairs), -1)
    series, connected = invert_to_dates(flat_phase, flat_weight, pairs, n_dates, robust=stages.robust)
    valid = (connected & np.isfinite(height).ravel()).reshape(shape)
    if valid.sum() < MIN_PIXELS:
        raise NotEnoughEvidence(
            f"only {int(valid.sum())} pixels of the {shape[0]} x {shape[1]} training grid are covered well enough; "
            f"{MIN_PIXELS} are needed"
        )
    seen = series[:, valid.ravel()]
    seen = seen - seen.mean(axis=1, keepdims=True)
    mean_height = float(height[valid].mean())
    z = np.asarray(height[valid] - mean_height, dtype=np.float64)

    def as_maps(values: Array) -> Array:
        maps = np.zeros((len(values), *shape))
        maps[:, valid] = values
        return maps

    def progress(stage: str) -> Callable[[int, int, str], None] | None:
        return (lambda done, total, message: report(stage, done, total, message)) if report else None

    # 1b. Of a delay known beforehand, what the data bear out; all that follows is about the rest.
    statistics = statistics_of(z, valid, good, knowledge.bad_dates)
    x, share = seen, np.zeros(n_dates)
    if prior is not None:
        delay = relative(prior[:, valid])
        steady_functions = [f for f in _functions_of_time([], years, dates, knowledge.functions) if not f.family]
        share = coefficients(seen, delay, steady_functions, statistics, settings.significance)
        x = seen - share[:, None] * delay

    # 2. The network separates sources, FISHDBC clusters them, and a cluster that is smooth in time gives a function.
    level = without_height(x, z)
    steady = without(level, [trend(years)])
    flatten = Flattener((steady / date_strength(steady)[:, None])[good], valid)
    flat = as_maps(flatten(level))
    slots = SEPARATOR_SLOTS if stages.conditional_prior else [("free", size) for _, size in SEPARATOR_SLOTS]
    separator = trainer(flat[good], valid, years[good], slots, settings, progress("separating sources"))
    between = pairs[np.isin(pairs, good).all(axis=1)]
    clusters, noise_share, sources = _find_clusters(
        separator, flat, valid, between, good, years, z, settings, clusterer, rng
    )
    found = clusters if stages.clustering else []
    functions = _functions_of_time(found, years, dates, knowledge.functions)
    persistent = [f for f in functions if not f.family]

    # 3. Local deformation and the sky with its slowness, estimated together.
    bells = make_bells(valid, z, knowledge.stable)
    searching = progress("searching local deformation")
    joint = estimate_jointly(x, functions, bells, statistics, settings.significance, rng, stages.slow_sky, searching)
    deformation, sky = joint.deformation, joint.sky
    clusters = confirm(clusters, flatten(without_height(deformation.series, z)))

    # 4. Weather that clings to places, which a stationary sky cannot hold: the other dates show it.
    local = estimate_local_sky(sky, good) if stages.local_sky else no_local_sky(sky)

    # 5. The atmosphere of each date: what these statistics explain of the data.
    atmosphere = estimate(x, joint, local, valid, years, knowledge)
    corrected = x - atmosphere.turbulent[:, valid] - atmosphere.slope[:, None] * z
    corrected -= corrected.mean(axis=1, keepdims=True)
    return Separation(
        atmosphere,
        deformation,
        functions,
        clusters,
        flatten,
        noise_share,
        separator,
        local,
        valid,
        mean_height,
        seen,
        corrected,
        np.stack([without(seen, persistent), without(corrected, persistent)]),
        sources,
        share,
    )


def spread(one: Separation, other: Array) -> float:
    """Root mean square difference to another's ``corrected`` (dates, pixels), over this one's standard deviation."""
    difference = one.corrected - other
    difference = difference - difference.mean(axis=0)
    return float(np.sqrt((difference**2).mean() / (one.atmosphere.std[:, one.valid] ** 2).mean()))


def _functions_of_time(
    clusters: list[Cluster], years: Array, dates: Sequence[str], given: Sequence[TimeFunction]
) -> list[TimeFunction]:
    """A trend, a year, what the clusters of deformation follow and the user expects, and what is scanned."""
    functions = [trend(years)]
    if years[-1] - years[0] >= 1.0:
        functions += annual(years)
    for cluster in clusters:
        if cluster.kind == "deformation":
            for function in recognise(cluster.amplitude, years, dates):
                if adds_to(functions, function) and lasts(functions, function):
                    functions.append(function)
    functions = functions[: max(3, int(MAX_PERSISTENT * len(dates)))]
    for function in given:
        if adds_to(functions, function, MIN_NEW_GIVEN):
            functions.append(function)
    return functions + scanned(dates)


def _find_clusters(
    fit: Fit,
    maps: Array,
    valid: NDArray[np.bool_],
    pairs: NDArray[np.integer],
    good: NDArray[np.intp],
    years: Array,
    height: Array,
    settings: Settings,
    clusterer: Clusterer | None,
    rng: np.random.Generator,
) -> tuple[list[Cluster], float, Sources]:
    """Cluster the sources of the pairs of good dates and of as many of every baseline, and label the clusters."""
    extra = draw_pairs(rng, years[good], max(len(pairs), 400)).T
    both = np.sort(np.concatenate([np.searchsorted(good, pairs), extra]), axis=1)
    mean, noise = source_weights(fit, maps[good], both[:, 0], both[:, 1])
    # coordinates in an orthonormal basis of the decoder's maps, where distance is distance between maps
    basis = basis_maps(fit)[:, valid.ravel()]
    left, singular, orthonormal = np.linalg.svd(basis, full_matrices=False)
    sources = mean @ (left * singular)
    uncertainty = noise @ (left * singular)
    clear = np.linalg.norm(sources, axis=2) > np.linalg.norm(uncertainty, axis=2)
    labels = np.full(clear.shape, -1, dtype=np.intp)
    points = axes_of(sources[clear]) if clear.any() else np.zeros((0, 1))
    if clear.any():
        find = clusterer or Fishdbc(settings.min_samples, settings.min_cluster_size)
        labels[clear] = find(unsigned(points))
    which = np.nonzero(clear)[1]
    record = Sources(points, good[both[which]], labels[clear], mean[clear], which < len(pairs), good)
    clusters = attribute(sources, labels, orthonormal, maps[:, valid], good, height, settings.significance, rng)
    return clusters, float((labels[clear] < 0).mean()) if clear.any() else 1.0, record
