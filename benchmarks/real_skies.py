"""Accuracy under real skies: real epochs with known motion added, and what each correction makes of them.

    python benchmarks/real_skies.py DATA --jobs 2 -o docs/real_skies.md               # DATA: as that page describes
    python benchmarks/real_skies.py DATA --cases lengai_null_0 --rows ours            # while developing

A case is a MintPy project DATA/NAME. With ``truth.h5`` (displacement, metres) errors and gain are known; with
``truth_velocity.h5`` (mm/yr, of a longer series) the velocity is; with neither, only what is removed from successive
dates and how far the velocity is kept. Arrays only, as in ``accuracy.py``: every row corrects the least-squares series
of the pairs and is judged alike. Results and networks are kept in the cache directory.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BASELINE_ROWS = ("zero", "raw", "h", "height_correlation", "common_scene_stacking", "line", "pca", "ica")
OWN_ROWS = ("vae_sources", "ours", "no_clustering", "no_local_sky", "no_slow_sky")
SEEDS = (1, 2, 3)


def main(arguments: list[str] | None = None) -> int:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy and torch are imported, here and in the processes started below
    inps = parse(arguments)
    begin = time.time()
    jobs = plan(inps)
    results: list[dict[str, Any]] = []
    for done in _run(jobs, inps.jobs):
        results.append(done)
        if "error" in done:
            print(f"FAILED {done['case']}, {done['row']}:\n{done['error']}", file=sys.stderr)
    import pages
    from real_skies_table import figures, summary

    results.sort(key=lambda r: (r["case"], r["seed"]))
    parts = {"summary": summary(results), "figures": figures(results)}
    if inps.output:
        pages.write(inps.output, **parts)
    else:
        print(*parts.values(), sep="\n\n")
    failed = sum("error" in r for r in results)
    print(f"{len(results)} results, {failed} failed, {(time.time() - begin) / 60:.1f} minutes", file=sys.stderr)
    return 1 if failed else 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of MintPy projects")
    add("--cases", nargs="+", metavar="NAME", help="default: all in DATA")
    add("--rows", nargs="+", default=[*BASELINE_ROWS, *OWN_ROWS], metavar="NAME", help="default: %(default)s")
    add("--seeds", nargs="+", type=int, default=[1], metavar="INT", help="of the row ours (default: 1)")
    add("--jobs", type=int, default=1, metavar="N", help="processes, one thread each (default: 1)")
    add("--train-steps", type=int, metavar="N", help="optimisation steps of each network, for quick checks")
    add("--cache", type=Path, default=HERE / ".cache", metavar="DIR", help="default: %(default)s")
    add("-o", "--output", type=Path, metavar="FILE", help="page with the markers; default: print the tables")
    return parser.parse_args(arguments)


def plan(inps: argparse.Namespace) -> list[tuple[Any, ...]]:
    """One job per case, those with most pairs first."""
    projects = [p.parent.parent for p in inps.data.glob("*/inputs/ifgramStack.h5")]
    if inps.cases and (unknown := set(inps.cases) - {p.name for p in projects}):
        sys.exit(f"{inps.data} has no case {', '.join(sorted(unknown))}")
    chosen = [p for p in projects if not inps.cases or p.name in inps.cases]
    chosen.sort(key=lambda p: -(p / "inputs/ifgramStack.h5").stat().st_size)
    return [(p, inps.rows, inps.seeds, inps.train_steps, inps.cache) for p in chosen]


def _run(jobs: list[tuple[Any, ...]], processes: int) -> Iterator[dict[str, Any]]:
    if processes == 1:
        for job in jobs:
            yield from run_case(job)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for results in pool.imap_unordered(run_case, jobs):
            yield from results


def run_case(job: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All rows of one case; a row that is in the cache is read from it."""
    from cases import OWN, remembered, source_hash

    project, rows, seeds, train_steps, cache = job
    folder = cache / "real_skies"
    folder.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256((project / "inputs/ifgramStack.h5").read_bytes()).hexdigest()[:16]
    case, results = functools.cache(lambda: Case(project, cache / "networks")), []
    for row in rows:
        for seed in seeds if row == "ours" else seeds[:1]:
            identity = {"case": project.name, "row": row, "seed": seed}
            own = row in OWN
            depends = [content, row, source_hash(own)]
            depends += [seed, train_steps, repr(OWN[row])] if own else []
            digest = hashlib.sha256(repr(depends).encode()).hexdigest()[:16]
            file = folder / f"{project.name}-{row}-{seed}-{digest}.json"
            result, new = remembered(file, identity, lambda row=row, seed=seed: case().run(row, seed, train_steps))
            results.append(result)
            if new and "error" not in result:
                print(_line(result), flush=True)
    return results


def _line(result: dict[str, Any]) -> str:
    figures = (f"{k} {v:.3g}" for k, v in result.items() if isinstance(v, float))
    said = " ".join(result.get("warnings", ()))[:60] or result["refused"][:60]
    return f"{result['case']:20s} {result['row']:22s} " + "  ".join(figures) + f"  {said}"


class Case:
    """A project of real epochs, inverted once, on which every correction is run and judged alike.

    Parameters
    ----------
    project : Path
        MintPy project: ``inputs/ifgramStack.h5``, ``inputs/geometryGeo.h5``, perhaps a truth.
    networks : Path
        Folder of trained networks.
    """

    def __init__(self, project: Path, networks: Path) -> None:
        import h5py
        import numpy as np
        from cases import METRES, Trainer

        from mintpy_vae.method.inversion import invert_to_dates
        from mintpy_vae.method.timefunctions import acquisition_years
        from mintpy_vae.stack.geometry import pixel_size

        self.trainer = Trainer(networks)
        with h5py.File(project / "inputs/ifgramStack.h5") as f:
            self.phase, coherence = f["unwrapPhase"][:], f["coherence"][:]
            names = f["date"][:].astype(str)
        with h5py.File(project / "inputs/geometryGeo.h5") as f:
            height, self.incidence = f["height"][:].astype(np.float64), f["incidenceAngle"][:]
            self.pixel = pixel_size(f.attrs)
        dates, pairs = np.unique(names, return_inverse=True)
        self.dates, self.pairs = [str(d) for d in dates], pairs.reshape(names.shape)
        self.years = acquisition_years(self.dates)
        self.weight = np.where(self.phase != 0, coherence, 0.0).astype(np.float32) ** 2
        n, shape = len(self.pairs), height.shape
        series, connected = invert_to_dates(
            self.phase.reshape(n, -1), self.weight.reshape(n, -1), self.pairs, len(self.dates), robust=False
        )
        self.valid = connected.reshape(shape)
        self.series = np.where(self.valid, METRES * series.reshape(-1, *shape), np.nan).astype(np.float32)
        self.height = np.where(self.valid, height, np.nan)
        self.truth = self.long_velocity = None
        if (file := project / "truth.h5").exists():
            with h5py.File(file) as f:
                self.truth = f["displacement"][:].astype(np.float64)
                self.valid &= f["valid"][:]
        elif (file := project / "truth_velocity.h5").exists():
            with h5py.File(file) as f:
                self.long_velocity = f["velocity"][:].astype(np.float64)

    def run(self, row: str, seed: int, train_steps: int | None) -> dict[str, Any]:
        """Correct with one row and judge the result: figures by name, NaN as None."""
        from cases import OWN

        from mintpy_vae.errors import NotEnoughEvidence
        from mintpy_vae.evaluation.baselines import BASELINES, flattened, uncorrected

        begin, own, reason = time.process_time(), {}, ""
        self.trainer.seconds = 0.0
        if row == "raw":
            corrected = uncorrected(self.series, self.years, self.height)
        elif row == "h":
            corrected = flattened(self.series, self.height, self.valid)
        elif row in OWN:
            try:
                corrected, own = self._own(OWN[row], seed, train_steps)
            except NotEnoughEvidence as refusal:
                corrected, reason = self.series, str(refusal)
        else:
            corrected = BASELINES[row](self.series, self.years, self.height, self.incidence)
        seconds = time.process_time() - begin + self.trainer.seconds
        result = {"refused": reason, "seconds": seconds} | self._judge(corrected) | own
        return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in result.items()}

    def _own(self, variant: Any, seed: int, train_steps: int | None) -> tuple[Any, dict[str, Any]]:
        """As in :mod:`mintpy_vae.workflow.learning`, without files."""
        import numpy as np
        from cases import METRES, Pairs, coverage

        from mintpy_vae import metrics
        from mintpy_vae.method.atmosphere import sentences
        from mintpy_vae.settings import Settings
        from mintpy_vae.stack import pool_map

        settings = Settings(device="cpu", seed=seed, **({"train_steps": train_steps} if train_steps else {}))
        stack = Pairs(self.phase, self.weight, self.pairs, self.dates, self.height, self.pixel)
        ours = stack.separated(variant, settings, self.trainer)
        found, factor = ours.found, ours.factor
        corrected = self.series - np.float32(METRES) * ours.removed(slice(0, self.height.shape[0]))
        if variant.recipe:
            return corrected, {}
        own: dict[str, Any] = {
            "warnings": sentences(found.atmosphere.guarded, 1e3 * abs(METRES)),
            "pieces": len(found.deformation.pieces),
            "moves_as": sorted(found.deformation.functions),
            "functions": [f.name for f in found.functions if f.family in ("", "cluster")],
            "sigma": float(1e3 * abs(METRES) * np.sqrt((found.atmosphere.std[:, found.valid] ** 2).mean())),
        }
        if self.truth is not None:
            pooled = np.stack([pool_map(np.where(self.valid, m, np.nan), factor) for m in self.truth])
            truth = pooled[:, found.valid] / METRES
            truth = truth - truth.mean(axis=1, keepdims=True)
            error = found.corrected - truth
            error = error - error.mean(axis=0)
            own |= coverage(found, error, "")
            own |= coverage(found, metrics.velocity(error, self.years), "velocity_")
        return corrected, own

    def _judge(self, corrected: Any) -> dict[str, float]:
        """Figures in mm and mm/yr."""
        import numpy as np

        from mintpy_vae import metrics

        if self.truth is not None:
            return self._against_truth(corrected)
        v = 1e3 * metrics.velocity(corrected[:, self.valid], self.years)
        raw = 1e3 * metrics.velocity(self.series[:, self.valid], self.years)
        if self.long_velocity is None:
            steps = 1e3 * np.diff(corrected[:, self.valid], axis=0).std(axis=1)
            return {"successive": float(np.median(steps)), "correlation_raw": _correlation(v, raw)}
        known = np.isfinite(self.long_velocity[self.valid])
        v, w = v[known], self.long_velocity[self.valid][known]
        v, w = v - v.mean(), w - w.mean()
        return {
            "velocity_error_std": float((v - w).std()),
            "slope": float(v @ w / (w @ w)),
            "correlation": _correlation(v, w),
        }

    def _against_truth(self, corrected: Any) -> dict[str, float]:
        """Errors on ground that hardly moves and on ground that does, each date relative to the former's median."""
        import numpy as np

        from mintpy_vae import metrics

        truth = self.truth[:, self.valid]
        largest = np.abs(truth - truth.mean(axis=0)).max(axis=0)
        null = largest.max() == 0
        still = largest <= 0 if null else largest < 0.03 * largest.max()
        if still.sum() < 200:  # motion as broad as the scene: the tenth that moves least
            still = largest <= np.quantile(largest, 0.1)
        moving = largest > 0.15 * largest.max()

        def relative(series: Any) -> Any:
            series = series - np.median(series[:, still], axis=1)[:, None]
            return series - series.mean(axis=0)

        of, got = relative(truth), relative(corrected[:, self.valid].astype(np.float64))
        error = got - of
        v = metrics.velocity(error, self.years)
        rms = lambda x: float(1e3 * np.sqrt((x**2).mean())) if x.size else math.nan  # noqa: E731
        return {
            "velocity_stable": rms(v[still]),
            "velocity_moving": rms(v[moving]),
            "displacement_stable": rms(error[:, still]),
            "displacement_moving": rms(error[:, moving]),
            "gain": math.nan if null else metrics.gain(got[:, moving], of[:, moving]),
        }


def _correlation(a: Any, b: Any) -> float:
    import numpy as np

    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


if __name__ == "__main__":
    sys.exit(main())
