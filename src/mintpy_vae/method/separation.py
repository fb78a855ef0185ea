"""The method: estimate the atmosphere of each date from multilooked pairs, after Ghosh et al. (2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Floats, Mask, Pairs
from ..dates import acquisition_years
from ..errors import NotEnoughEvidence
from ..progress import Progress, Steps, steps_of
from ..settings import Settings
from .atmosphere import Atmosphere, estimate
from .bells import make_bells
from .clustering import Clusterer, Fishdbc, Sources, on_axes, unsigned
from .covariance import Flattener, date_strength, without_height
from .deformation import Deformation
from .inversion import invert_to_dates
from .joint import PASSES, Joint, estimate_jointly
from .knowledge import NOTHING, Knowledge
from .labels import Cluster, attribute, confirm
from .local_sky import LocalSky, estimate_local_sky, no_local_sky
from .observations import Grid, Observations
from .prior_mean import coefficients, relative
from .profile import Profile, fit_profile
from .search import Dictionary, FoundFrom
from .sky import Slowness
from .source_model import Fit, Trainer, sources_of_pairs
from .threads import single_threaded
from .timefunctions import (
    TimeFunction,
    annual,
    course,
    extended,
    persistent_of,
    scanned,
    trend,
    without,
)
from .training import draw_pairs, train
from .vae import SEPARATOR_SLOTS

MIN_PIXELS = 200
FEWEST_SOURCES = 400
"""Number of pairs drawn for the clustering if the stack has fewer."""


@dataclass(frozen=True)
class Ablation:
    """Parts of the method that can be switched off one by one, to measure their effect.

    Attributes
    ----------
    conditional_prior : bool
        The priors of the network's slots depend on the dates of the pair; otherwise all are free.
    clustering : bool
        Clusters of sources give functions of time; otherwise only a trend, an annual cycle and scanned functions are
        searched for.
    robust : bool
        Pairs with unwrapping errors are down-weighted.
    slow_sky : bool
        The sky has its own covariance in each persistent function; otherwise that of independent dates.
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
    """Result of the method on the training grid.

    Attributes
    ----------
    grid : Grid
        Pixels and dates that took part.
    series : (dates, pixels)
        Phase of each date, radians, relative to its mean.
    network : Fit
        The variational autoencoder.
    flatten : Flattener
        Filter applied to the maps of the network, which have no trend with height.
    sources : Sources
        Sources that were clustered.
    clusters : list of Cluster
    unclustered : float
        Share of the sources that belong to no cluster.
    functions : list of TimeFunction
        Functions that were searched for deformation, the persistent ones first.
    deformation : Deformation
    found_from : list of FoundFrom
        Amplitude from which motion of each width is found.
    slow : list of Slowness
        Slowness of the sky in each persistent function.
    local : LocalSky
    atmosphere : Atmosphere
    delay_share : (dates,)
        Coefficient of a weather model's delay, which is removed in addition to ``atmosphere``.
    corrected : (dates, pixels)
        ``series`` without atmosphere.
    noise : (2, dates, pixels)
        ``series`` and ``corrected`` without the trend and the other persistent functions of time.
    """

    grid: Grid
    series: Array
    network: Fit
    flatten: Flattener
    sources: Sources
    clusters: list[Cluster]
    unclustered: float
    functions: list[TimeFunction]
    deformation: Deformation
    found_from: list[FoundFrom]
    slow: list[Slowness]
    local: LocalSky
    atmosphere: Atmosphere
    delay_share: Array
    corrected: Array
    noise: Array

    @property
    def valid(self) -> Mask:
        """Pixels of the training grid that took part, (height, width)."""
        return self.grid.valid

    @property
    def explained(self) -> Array:
        """``series`` without the confirmed part of a weather model's delay."""
        if not self.delay_share.any():
            return self.series
        removed = self.atmosphere.turbulent[:, self.valid] + self.atmosphere.slope[:, None] * self.grid.height
        found = self.corrected + removed
        return np.asarray(found - found.mean(axis=1, keepdims=True))

    def noise_of_pairs(self, pairs: Pairs) -> Array:
        """Spatial standard deviation of pairs (pairs, 2) before and after, (2, pairs) radians; see ``noise``."""
        first, second = pairs.T
        return np.asarray((self.noise[:, second] - self.noise[:, first]).std(axis=2))


@single_threaded()
def separate(
    observations: Observations,
    settings: Settings,
    knowledge: Knowledge = NOTHING,
    ablation: Ablation = Ablation(),
    clusterer: Clusterer | None = None,
    trainer: Trainer = train,
    progress: Progress | None = None,
    narrow: Deformation | None = None,
) -> Separation:
    """Separate the atmosphere of each date from deformation.

    Parameters
    ----------
    observations : Observations
    settings : Settings
    knowledge : Knowledge
        Prior information; none by default.
    ablation : Ablation
        All parts by default.
    clusterer : Clusterer, optional
        FISHDBC by default.
    trainer : Trainer
        Trains the network; a trainer with a memory lets variants share networks.
    progress : callable, optional
    narrow : Deformation, optional
        Motion that :mod:`.narrow` has found, on all pixels of the grid. These are coarse ones of a wide scene then,
        which :mod:`.tiles` refines: other motion too may be as narrow as a pixel.

    Raises
    ------
    NotEnoughEvidence
        If the data do not allow a correction, with the reason.
    """
    rng = np.random.default_rng(settings.seed)

    # 1. Invert pairs to dates; subtract the part of a weather model's delay that the data confirm.
    phase, grid = to_dates(observations, settings, knowledge, ablation.robust)
    phase = phase - phase.mean(axis=1, keepdims=True)
    delay_share, delay = _confirmed_delay(phase, observations, grid, knowledge, settings)
    series = phase - delay
    if delay_share.any():  # what a weather model leaves has another profile
        grid = refitted(grid, series, observations.height)

    # 2. The network separates sources, FISHDBC clusters them, and clusters that are smooth in time give functions.
    flatten, maps = flattened(series, grid)
    slots = SEPARATOR_SLOTS if ablation.conditional_prior else [("free", size) for _, size in SEPARATOR_SLOTS]
    training = steps_of(progress, "separating sources")
    network = trainer(grid.maps(maps)[grid.good], grid.valid, grid.years[grid.good], slots, settings, training)
    clusters, unclustered, sources = _find_clusters(network, maps, observations.pairs, grid, settings, clusterer, rng)
    of_clusters = clusters if ablation.clustering else []
    functions = _functions_of_time(of_clusters, grid, observations.dates, knowledge.functions)

    # 3. to 5. Estimate local deformation, the statistics of the sky, and the atmosphere of each date.
    searching = steps_of(progress, "searching local deformation")
    dictionary = Dictionary(functions, make_bells(grid.valid, grid.height, knowledge.stable, wide=narrow is not None))
    known = None if narrow is None else narrow.on(grid.valid.ravel())
    joint, local, atmosphere = explain(
        series, dictionary, grid, settings, knowledge, ablation, rng, known, progress=searching
    )
    clusters = confirm(clusters, flatten(without_height(joint.deformation.series, grid.height)))
    corrected = series - atmosphere.turbulent[:, grid.valid] - atmosphere.slope[:, None] * grid.height
    corrected -= corrected.mean(axis=1, keepdims=True)
    persistent = persistent_of(functions)
    return Separation(
        grid=grid,
        series=phase,
        network=network,
        flatten=flatten,
        sources=sources,
        clusters=clusters,
        unclustered=unclustered,
        functions=functions,
        deformation=joint.deformation,
        found_from=joint.found_from,
        slow=joint.slow,
        local=local,
        atmosphere=atmosphere,
        delay_share=delay_share,
        corrected=corrected,
        noise=np.stack([without(phase, persistent), without(corrected, persistent)]),
    )


def explain(
    series: Array,
    dictionary: Dictionary,
    grid: Grid,
    settings: Settings,
    knowledge: Knowledge,
    ablation: Ablation,
    rng: np.random.Generator,
    known: Deformation | None = None,
    progress: Steps | None = None,
) -> tuple[Joint, LocalSky, Atmosphere]:
    """Explain the phase of each date by motion and atmosphere, sections 3 to 5 of the method.

    Parameters
    ----------
    series : (dates, pixels)
        Radians on the valid pixels of `grid`.
    dictionary : Dictionary
        Shapes of motion that are searched for.
    known : Deformation, optional
        Motion that was found before. It is not searched for again, and its shape is as uncertain as that of other
        motion.
    """
    # 3. Estimate local deformation and the statistics of the sky, including its slowness, together.
    how = (dictionary, grid, settings.significance, rng, ablation.slow_sky, progress)
    if known is None:
        joint = estimate_jointly(series, *how)
    else:  # a third pass would lower the factors of a sky that is free of motion already, and find motion in it
        joint = estimate_jointly(series - known.series, *how, passes=PASSES - 1)
        joint = replace(joint, deformation=joint.deformation.joined(known))

    # 4. Estimate from the other dates the weather that recurs at places, which a stationary sky cannot describe.
    persistent = persistent_of(joint.functions)
    local = estimate_local_sky(joint.sky, persistent, grid) if ablation.local_sky else no_local_sky(joint.sky)

    # 5. Estimate the atmosphere of each date: the part of the data that these statistics explain.
    return joint, local, estimate(series, joint, local, grid, knowledge)


def spread(one: Separation, other: Array) -> float:
    """RMS difference from the ``corrected`` (dates, pixels) of another result, over the stated standard deviation."""
    difference = one.corrected - other
    difference = difference - difference.mean(axis=0)
    return float(np.sqrt((difference**2).mean() / (one.atmosphere.std[:, one.valid] ** 2).mean()))


def enough_dates(number: int, settings: Settings, which: str = "dates") -> None:
    """Refuse a stack of too few dates."""
    if number < settings.min_dates:
        raise NotEnoughEvidence(f"the stack has {number} {which}; {settings.min_dates} are needed (vae.minDate)")


def to_dates(
    observations: Observations, settings: Settings, knowledge: Knowledge, robust: bool, profile: Profile | None = None
) -> tuple[Array, Grid]:
    """Phase of each date (dates, pixels), and the grid; a stack that is too small is refused.

    The vertical ``profile`` of the stratified delay is that of the stack itself by default.
    """
    pairs, height, n_dates = observations.pairs, observations.height, len(observations.dates)
    good = np.setdiff1d(np.arange(n_dates), knowledge.bad_dates)
    enough_dates(len(good), settings, "dates that are not bad" if len(good) < n_dates else "dates")
    if len(pairs) < settings.min_pairs:
        raise NotEnoughEvidence(f"the stack has {len(pairs)} kept pairs; {settings.min_pairs} are needed (vae.minPair)")
    flat_phase, flat_weight = (x.reshape(len(pairs), -1) for x in (observations.phase, observations.weight))
    series, connected = invert_to_dates(flat_phase, flat_weight, pairs, n_dates, robust=robust)
    valid = connected.reshape(height.shape) & np.isfinite(height)
    if valid.sum() < MIN_PIXELS:
        size = " x ".join(map(str, height.shape))
        finer = "" if valid.size >= MIN_PIXELS else " (a smaller vae.resolution gives more)"
        raise NotEnoughEvidence(
            f"only {int(valid.sum())} pixels of the {size} training grid are covered well enough; "
            f"{MIN_PIXELS} are needed{finer}"
        )
    series = series[:, valid.ravel()]
    ground, years = np.asarray(height[valid], dtype=np.float64), acquisition_years(observations.dates)
    profile = profile.centred(ground) if profile else fit_profile(series[good], ground, years[good])
    bad = np.asarray(knowledge.bad_dates, dtype=np.intp)
    grid = Grid(valid, profile(ground), profile, years, good=good, bad=bad)
    return series, grid


def refitted(grid: Grid, series: Array, height: Floats) -> Grid:
    """The grid with the vertical profile of this series (dates, pixels); ``height`` (height, width) in metres."""
    ground = np.asarray(height[grid.valid], dtype=np.float64)
    profile = fit_profile(series[grid.good], ground, grid.years[grid.good])
    return replace(grid, profile=profile, height=profile(ground))


def _confirmed_delay(
    phase: Array, observations: Observations, grid: Grid, knowledge: Knowledge, settings: Settings
) -> tuple[Array, Array]:
    """Coefficient of the weather model's delay on each date (dates,), and coefficient times delay (dates, pixels)."""
    if observations.delay is None:
        return np.zeros(len(phase)), np.zeros_like(phase)
    maps = relative(np.asarray(observations.delay[:, grid.valid], dtype=np.float64))
    persistent = persistent_of(_functions_of_time([], grid, observations.dates, knowledge.functions))
    share = coefficients(phase, maps, persistent, grid, settings.significance)
    return share, share[:, None] * maps


def flattened(series: Array, grid: Grid) -> tuple[Flattener, Array]:
    """The flattening filter, and the input of the network: flattened maps (dates, pixels) without trend with height."""
    level = without_height(series, grid.height)
    steady = without(level, [trend(grid.years)])
    flatten = Flattener((steady / date_strength(steady)[:, None])[grid.good], grid.valid)
    return flatten, flatten(level)


def _functions_of_time(
    clusters: list[Cluster], grid: Grid, dates: Sequence[str], given: Sequence[TimeFunction]
) -> list[TimeFunction]:
    """Functions of time: persistent ones, courses of deformation clusters, and scanned ones."""
    years, functions = grid.years, persistent_functions(grid.years, given)
    deforming = sorted((c for c in clusters if c.kind == "deformation"), key=lambda c: -c.energy)
    courses = (course(c.amplitude, years, dates, grid.good) for c in deforming)
    return functions + extended([], filter(None, courses)) + scanned(dates)


def persistent_functions(years: Array, given: Sequence[TimeFunction]) -> list[TimeFunction]:
    """Trend, annual cycle and those ``given`` by the user, of dates in ``years`` (dates,)."""
    functions = [trend(years)]
    if years[-1] - years[0] >= 1.0:
        functions += annual(years)
    return extended(functions, given)


def _find_clusters(
    network: Fit,
    maps: Array,
    pairs: Pairs,
    grid: Grid,
    settings: Settings,
    clusterer: Clusterer | None,
    rng: np.random.Generator,
) -> tuple[list[Cluster], float, Sources]:
    """Cluster the sources of the pairs of good dates and of as many random pairs, and label the clusters."""
    good, between = grid.good, pairs[np.isin(pairs, grid.good).all(axis=1)]
    extra = draw_pairs(rng, grid.years[good], max(len(between), FEWEST_SOURCES)).T
    both = np.sort(np.concatenate([np.searchsorted(good, between), extra]), axis=1)
    found = sources_of_pairs(network, grid.maps(maps)[good], both, grid.valid)
    clear = found.clear
    labels = np.full(clear.shape, -1, dtype=np.intp)
    points, axes = np.zeros((0, 1)), np.zeros((1, len(found.basis)))
    if clear.any():
        points, axes = on_axes(found.coordinates[clear])
        find = clusterer or Fishdbc(settings.min_samples, settings.min_cluster_size)
        labels[clear] = find(unsigned(points))
    which = np.nonzero(clear)[1]
    sources = Sources(
        points=points,
        pairs=good[both[which]],
        labels=labels[clear],
        weights=found.weights[clear],
        axes=axes @ found.basis,
        of_stack=which < len(between),
        seen=good,
    )
    clusters = attribute(found.coordinates, labels, found.basis, maps, grid, settings.significance, rng)
    return clusters, float((labels[clear] < 0).mean()) if clear.any() else 1.0, sources
