"""Dates that arrive one by one, on real epochs with known motion: an update against a full run of all dates.

    python benchmarks/updates.py DATA --cases lengai_null_0 lengai_step_0 lengai_bowl_0   # DATA: docs/real_skies.md

The first dates are learned from, and the others added one by one, each with the pairs that end at it; after as many
as an update allows, all are learned from again. Errors are those of the added dates relative to the mean of the dates
learned from, on the training grid. Where nothing moves, a step or a transient is added from one date on, at many
places, and must be seen. Arrays only; networks are kept in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STEP, WIDTH = 20.0, 0.066
"""Size in mm and width (share of the scene) of the motion that is added."""
DECAY = 0.1
"""Years in which a transient reaches 63 % of its size."""
PLACES = 20
"""Number of places at which they are."""
DATES = 5
"""Number of dates within which they are looked for."""


def main(arguments: list[str] | None = None) -> int:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy and torch are imported
    inps = parse(arguments)
    results = []
    for project in sorted(p.parent.parent for p in inps.data.glob("*/inputs/ifgramStack.h5")):
        if project.name in inps.cases:
            results.append({"case": project.name} | run_case(project, inps))
            print(json.dumps(results[-1]), flush=True)
    print(table(results))
    return 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of MintPy projects")
    add("--cases", nargs="+", metavar="NAME", required=True)
    add("--first", type=int, default=40, metavar="N", help="dates that are learned from (default: 40)")
    add("--train-steps", type=int, metavar="N", help="optimisation steps of each network, for quick checks")
    add("--every", type=int, metavar="N", help="also a full run on every N-th added date, of the dates until then")
    add("--cache", type=Path, default=HERE / ".cache", metavar="DIR", help="networks (default: %(default)s)")
    return parser.parse_args(arguments)


def run_case(project: Path, inps: argparse.Namespace) -> dict[str, Any]:
    """Figures of one case, displacements in mm."""
    import h5py
    import numpy as np
    from cases import Trainer, pool_pairs

    from mintpy_vae.method.observations import Observations, looks
    from mintpy_vae.method.separation import separate
    from mintpy_vae.method.threads import single_threaded
    from mintpy_vae.method.update import MANY
    from mintpy_vae.settings import Settings
    from mintpy_vae.stack import pool_map
    from mintpy_vae.stack.geometry import pixel_size

    with h5py.File(project / "inputs/ifgramStack.h5") as f:
        phase, coherence, names = f["unwrapPhase"][:], f["coherence"][:], f["date"][:].astype(str)
    with h5py.File(project / "inputs/geometryGeo.h5") as f:
        height, pixel = f["height"][:].astype(np.float64), pixel_size(f.attrs)
    with h5py.File(project / "truth.h5") as f:
        displacement, known = f["displacement"][:].astype(np.float64), f["valid"][:]
    dates, pairs = np.unique(names, return_inverse=True)
    dates, pairs = [str(d) for d in dates], pairs.reshape(names.shape)
    factor, _ = looks(height.shape, pixel)
    phase, weight = pool_pairs(phase, np.where(phase != 0, coherence, 0.0).astype(np.float32) ** 2, factor)
    height = pool_map(height, factor)
    truth = np.stack([pool_map(m, factor) for m in displacement])
    known = pool_map(known.astype(np.float64), factor) > 0.5
    settings = Settings(device="cpu", **({"train_steps": inps.train_steps} if inps.train_steps else {}))
    trainer = Trainer(inps.cache / "networks")

    def until(n: int) -> Observations:
        some = (pairs < n).all(axis=1)
        return Observations(phase[some], weight[some], pairs[some], dates[:n], height)

    legs, n = [], inps.first
    with single_threaded():
        early = separate(until(n), settings, trainer=trainer)
        while n < len(dates):
            end = min(int(n * (1 + MANY)), len(dates))
            full = separate(until(end), settings, trainer=trainer)
            legs.append(leg := Leg(early, full, n, end, until, truth, known, settings.significance))
            for k in range(n + inps.every - 1, end, inps.every) if inps.every else ():
                leg.compare(k, separate(until(k + 1), settings, trainer=trainer))
            early, n = full, end
    return figures(legs, dates)


class Leg:
    """Dates ``n`` to ``end`` one by one, after a full run of the first ``n``, and a full run of all of them."""

    def __init__(
        self, early: Any, full: Any, n: int, end: int, until: Any, truth: Any, known: Any, significance: float
    ) -> None:
        import numpy as np

        from mintpy_vae.method.update import Learned, Statistics, new_series

        dates = until(end).dates
        self.n, self.known = n, known
        self.learned = first = Learned.of(early, dates[:n])
        begin = time.process_time()
        self.statistics = Statistics(first, significance=significance)
        once = time.process_time() - begin
        rows, self.alarms, self.misfit, seconds = [], {}, [], []
        last = np.array(known.shape) - 1
        for k in range(n, end):
            begin = time.process_time()
            values, covered = new_series(until(k + 1), self.learned)
            values = values[:, covered[first.grid.valid]]
            values -= values.mean(axis=1, keepdims=True)
            done = self.statistics.explain(values, dates[: k + 1], self.learned)
            seconds.append(time.process_time() - begin)
            self.learned = done.learned
            rows.append(done.corrected[0])
            self.misfit.append(float(done.misfit[0]))
            here = [
                a for a in done.alarms if a.raised and known[tuple(np.clip(a.place[:2].round().astype(int), 0, last))]
            ]
            self.alarms[dates[k]] = here
        self.seconds = once + float(np.median(seconds))
        self.both = full.valid & first.grid.valid & known
        self.truth = truth[:end, self.both] * 1e3
        largest = np.abs(self.truth - self.truth.mean(axis=0)).max(axis=0)
        self.null = largest.max() == 0
        self.still = largest <= 0 if self.null else largest < 0.03 * largest.max()
        self.moving = largest > 0.15 * largest.max()
        self.errors = {
            "raw": self.error(full.series, full.valid),
            "full": self.error(full.corrected, full.valid),
            "update": self.error(np.vstack([early.corrected, rows]), first.grid.valid),
        }
        self.of_day: list[dict[str, Any]] = []

    def error(self, corrected: Any, valid: Any) -> Any:
        """Errors of the added dates (dates, pixels), mm, of a series of all dates or of the first ones."""
        import numpy as np
        from cases import METRES

        kept = np.isin(np.flatnonzero(self.both), np.flatnonzero(valid))
        e = np.full((len(corrected), len(kept)), np.nan)
        e[:, kept] = corrected[:, self.both[valid]] * 1e3 * METRES - self.truth[: len(corrected), kept]
        e -= np.nanmedian(e[:, self.still], axis=1)[:, None]
        return e[self.n :] - e[: self.n].mean(axis=0)

    def compare(self, k: int, full: Any) -> None:
        """Keep the errors of date ``k`` in a full run of the dates until then, and in the others."""
        rows = {name: errors[k - self.n] for name, errors in self.errors.items()}
        self.of_day.append(rows | {"of_day": self.error(full.corrected, full.valid)[-1]})


def root_mean_square(errors: Any) -> float | None:
    import numpy as np

    return round(float(np.sqrt(np.nanmean(errors**2))), 3) if errors.size else None


def figures(legs: list[Leg], dates: list[str]) -> dict[str, Any]:
    """Root mean squares over all added dates, and the alarms."""
    import numpy as np
    from cases import METRES

    result: dict[str, Any] = {}
    for name in ("still", "moving"):
        for row in ("raw", "full", "update"):
            parts = [leg.errors[row][:, getattr(leg, name)].ravel() for leg in legs]
            all_of = np.concatenate(parts)
            result[f"{name}_{row}"] = root_mean_square(all_of)
        for row in ("of_day", "update", "full"):
            parts = [one[row][getattr(leg, name)] for leg in legs for one in leg.of_day]
            if parts:
                result[f"{name}_{row}_same_dates"] = root_mean_square(np.concatenate(parts))
    mm = 1e3 * METRES
    result["alarms"] = {
        date: [
            [*a.place[:2].round(1).tolist(), round(a.amplitude * mm, 1), round(abs(a.amplitude / a.std), 1), a.score]
            for a in some
        ]
        for leg in legs
        for date, found in leg.alarms.items()
        if (some := [a for a in found if not a.cycles()])
    }
    result["cycles"] = sum(any(a.cycles() for a in found) for leg in legs for found in leg.alarms.values())
    result["dates"] = len(dates) - legs[0].n
    result["misfit"] = [round(m, 1) for leg in legs for m in leg.misfit]
    result["seconds"] = legs[-1].seconds
    if legs[0].null:
        result |= motion_seen(legs) | {"transients": motion_seen(legs, DECAY)["seen"]}
    return result


def motion_seen(legs: list[Leg], decay: float = 0.0) -> dict[str, Any]:
    """Shares of steps that raise the alarm at their place, after so many dates, and the sizes they are first given.

    With ``decay``, years, of transients that begin on the date before.

    ``known``: share that exceeds 2.6 standard deviations on the first date at their true place and width, of which
    alone 1 % would by chance.
    """
    from dataclasses import replace

    import numpy as np
    from cases import METRES

    from mintpy_vae.method.bells import bell_map
    from mintpy_vae.method.update import going_on

    rng = np.random.default_rng(1)
    seen, known, sizes = [], [], []
    for leg in legs:
        learned, grid = leg.learned, leg.learned.grid
        pixels = np.array(np.nonzero(grid.valid), dtype=np.float64)
        width = WIDTH * min(grid.valid.shape)
        number, motion = len(learned.dates), going_on(learned, learned.dates)[0].series
        for k in range(leg.n, number):
            years = learned.grid.years[k:] - learned.grid.years[k - 1]
            course = 1 - np.exp(-years / decay) if decay else np.ones_like(years)
            for _ in range(PLACES):
                centre = pixels[:, rng.choice(np.flatnonzero(leg.known[grid.valid]))]
                bell = bell_map(np.array([*centre, np.log(width), 0, 0]), pixels)
                series = learned.series.copy()
                series[k:] += STEP / (1e3 * METRES) * np.outer(course, bell - bell.mean())
                after = DATES + 1
                for j in range(k, min(k + DATES, number)):
                    before = replace(learned.until(j), series=series[:j])
                    new = (series[j : j + 1], learned.dates[: j + 1], before, motion[: j + 1])
                    if j == k:
                        known.append(clear(leg, leg.statistics.innovation(*new)[0][-1], bell))
                    found = leg.statistics.search(*new)[0]
                    near = [a for a in found if a.raised and np.hypot(*(a.place[:2] - centre)) < 1.5 * width]
                    if near:
                        after = j - k + 1
                        sizes.append(near[0].amplitude * 1e3 * METRES)
                        break
                if number - k >= DATES:
                    seen.append(after)
    return {
        "seen": [float(np.mean(np.array(seen) <= d)) for d in range(1, DATES + 1)],
        "known": float(np.mean(known)),
        "sizes": [round(float(q), 1) for q in np.quantile(sizes, [0.1, 0.5, 0.9])] if sizes else [],
    }


def clear(leg: Leg, unit: Any, bell: Any) -> bool:
    """Whether a bell at a known place stands out of the sky of a date, at the level of one test in a hundred."""
    import numpy as np

    metric = leg.statistics.judge.metric
    whitened = metric.whiten(bell[None])[0]
    return bool(abs(whitened @ unit) / np.sqrt(whitened @ bell) > 2.576)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown table."""
    lines = [
        "| case | still: raw, full, update | moving | the same, on dates of full runs: of that day, update, full "
        "| dates with an alarm | with one of whole cycles "
        "| steps seen after 1, 2, ... dates | on the first at a known place | transients | seconds |"
    ]
    lines.append("|" + "---|" * 10)
    for r in results:
        cells = [r["case"]]
        cells += [", ".join(str(r[f"{k}_{row}"]) for row in ("raw", "full", "update")) for k in ("still", "moving")]
        some = ", ".join(str(r.get(f"moving_{row}_same_dates", "")) for row in ("of_day", "update", "full"))
        cells += [
            some,
            f"{len(r['alarms'])} of {r['dates']}",
            str(r["cycles"]),
            ", ".join(f"{share:.0%}" for share in r.get("seen", [])),
            f"{r['known']:.0%}" if "known" in r else "",
            ", ".join(f"{share:.0%}" for share in r.get("transients", [])),
            f"{r['seconds']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
