"""Presets of the simulator: one frozen description per kind of scene."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """One kind of scene. Lengths of deformation are fractions of the scene's shorter side; the rest is in SI and years.

    Any field can be replaced by keyword in :func:`mintpy_vae.simulate.simulate`.
    """

    # acquisitions and network
    dates: int = 60
    pairs: int = 235
    """Number of pairs at `dates` dates; with another number of dates it scales in proportion."""
    start: str = "20180103"
    end: str | None = None
    """Fixed last date (about); None: every 12 days from `start` with a share `gaps` of them missing."""
    gaps: float = 0.04

    # deformation, towards the satellite
    kind: str = "bowls"
    """none, bowls, quake, transient or summit."""
    number: tuple[int, int] = (2, 3)
    width: float | tuple[float, float] = (0.03, 0.08)
    """Gaussian sigma, geometric mean of both axes; drawn from this range."""
    rate: tuple[float, float] = (-0.040, -0.020)
    """Peak rate of bowls and summits, m/yr."""
    annual: float = 0.0
    """Peak amplitude of an annual cycle, as a share of the yearly rate."""
    size: tuple[float, float] = (0.060, 0.100)
    """Peak of a step or of a transient, metres."""
    elongation: tuple[float, float] = (1.0, 1.5)
    """Ratio of the long to the short axis."""
    event: str | None = None
    """Date of the quake; None: drawn from the middle third."""
    postseismic: float = 0.10
    """Postseismic motion one year after the step, as a share of it."""

    # atmosphere, metres of LOS delay
    turbulence: float = 0.010
    """Typical (root mean square over dates) standard deviation of one date's turbulence within the scene."""
    turbulence_spread: float = 0.4
    """Standard deviation of the logarithm of a date's turbulence strength; only in a stationary sky."""
    stratified: float = 0.065
    """Standard deviation over the dates of the stratified delay at height 0."""
    stratified_annual: float = 0.100
    """Amplitude of its annual cycle. A real sky has the same total variance, with a random annual share."""
    scale_height: float = 2500.0
    orbit: float = 0.0015
    """Typical standard deviation within the scene of one date's orbital ramp."""
    texture: tuple[float, float] = (0.0004, 0.0009)
    """RMS of the fine texture that grows with time, m/yr; drawn from this range. Not in a stationary sky."""

    # ground and noise
    relief: tuple[float, float] = (0.0, 1500.0)
    water: float = 0.05
    """Share of the scene under water."""
    coast: bool = False
    """The water is along one side of the scene instead of in the hollows."""
    looks: float = 40.0
    coherence: tuple[float, float] = (0.55, 0.97)
    """Coherence at zero temporal baseline, of the worst and of the best ground."""
    decay: tuple[float, float] = (60.0, 900.0)
    """Days in which coherence falls to 1/e, of the worst and of the best ground."""
    unwrap_errors: float = 0.02
    """Share of pairs with a patch that is offset by 2 pi; at least 3 pairs unless 0."""
    unwrap_patch: tuple[float, float] = (0.04, 0.15)
    """Share of the scene that such a patch covers; drawn from this range."""
    constants: float = 20.0
    """Largest offset of each pair in cycles; in every second pair a whole number. The connected components have other
    ones in addition, of up to 3 whole cycles. 0: no offsets."""
    holes: float = 0.0
    """Share of the land that is masked (phase 0) pair by pair."""


_BOWL = Preset()

PRESETS: dict[str, Preset] = {
    "bowl": _BOWL,
    "seasonal": Preset(annual=0.35),
    "quake": Preset(kind="quake", number=(1, 1), width=(0.08, 0.12)),
    "transient": Preset(kind="transient", number=(2, 3), width=(0.03, 0.05), size=(0.025, 0.030)),
    "quiet": Preset(kind="none"),
    "weak": Preset(rate=(-0.015, -0.010)),
    "broad": Preset(number=(1, 1), width=0.15, rate=(-0.030, -0.030), elongation=(1.0, 1.2)),
    "topo": Preset(kind="summit", number=(1, 1), rate=(0.020, 0.030)),
    "sparse": Preset(dates=20, pairs=45, gaps=0.6),
    "dirty": Preset(
        unwrap_errors=0.08, holes=0.12, water=0.12, coherence=(0.35, 0.90), decay=(25.0, 250.0), looks=20.0
    ),
    "mashhad": Preset(
        dates=170, pairs=500, start="20150105", end="20211228", number=(1, 2), width=(0.04, 0.06),
        rate=(-0.150, -0.110), elongation=(2.5, 3.5), relief=(900.0, 2600.0), water=0.0, decay=(100.0, 1200.0),
    ),
    "tehran": Preset(
        dates=120, pairs=500, start="20180104", end="20211220", number=(2, 3), width=(0.04, 0.08),
        rate=(-0.120, -0.060), annual=0.15, elongation=(1.2, 2.2), relief=(900.0, 3500.0), water=0.0,
    ),
    "acapulco": Preset(
        dates=38, pairs=100, start="20210105", end="20220406", kind="quake", number=(1, 1), width=(0.09, 0.13),
        size=(0.080, 0.120), event="20210908", postseismic=0.20, turbulence=0.014, stratified=0.080,
        water=0.22, coast=True, coherence=(0.45, 0.93), decay=(40.0, 400.0),
    ),
}  # fmt: skip
