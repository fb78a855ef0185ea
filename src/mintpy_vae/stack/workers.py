"""Process blocks of a stack one after another, or with the workers of MintPy's Dask cluster."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

from ..errors import InputError

Piece = TypeVar("Piece")
Found = TypeVar("Found")

_KEYS = ("mintpy.compute.cluster", "mintpy.compute.numWorker", "mintpy.compute.config")


@dataclass(frozen=True)
class Compute:
    """Options ``mintpy.compute.*``, interpreted as in MintPy.

    Attributes
    ----------
    cluster : str
        ``local``, ``slurm``, ``pbs`` or ``lsf``; empty for this process alone.
    num_worker : str
        A number, or for ``local`` also ``all`` or a percentage of the cores.
    config : str or None
        Section of Dask's configuration, by default named as the cluster.
    """

    cluster: str = ""
    num_worker: str = "1"
    config: str | None = None

    @classmethod
    def from_template(cls, template: Mapping[str, Any]) -> Compute:
        """Read the options of a template.

        Raises
        ------
        InputError
            For a cluster or a number of workers that MintPy does not know.
        """
        from mintpy.objects.cluster import CLUSTER_LIST, DaskCluster
        from mintpy.utils import utils1

        options = utils1.check_template_auto_value({key: str(template.get(key, "auto")) for key in _KEYS})
        cluster, workers, config = (options[key] for key in _KEYS)
        if not cluster:
            return cls()
        if cluster not in CLUSTER_LIST:
            raise InputError(f"{_KEYS[0]} = {cluster} is unknown; choose none or one of {', '.join(CLUSTER_LIST)}.")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                number = DaskCluster.format_num_worker(cluster, str(workers))
        except ValueError:
            raise InputError(f"{_KEYS[1]} = {workers} is not a number of workers for the cluster {cluster}.") from None
        return cls(cluster, str(number), config or None) if number > 1 else cls()


def worked_on(
    function: Callable[[Piece], Found], pieces: Iterable[Piece], compute: Compute, threads: int = 1
) -> Iterator[tuple[Piece, Found]]:
    """Apply `function` to pieces in order; the result does not depend on the number of workers.

    Parameters
    ----------
    function : callable
        Function of one piece; with a cluster it is sent to the workers, so it must not depend on later changes here.
    pieces : iterable
    compute : Compute
    threads : int
        Number of workers without a cluster.

    Notes
    -----
    Each worker has one piece at a time, and as many results are waiting here as there are workers. Without a cluster
    threads are the workers: they read and compute while the caller writes the previous piece.
    """
    rest = iter(pieces)
    first = list(islice(rest, 2))
    pieces = chain(first, rest)
    if not compute.cluster or len(first) < 2:
        pool = ThreadPoolExecutor(max_workers=threads)
        try:
            yield from _in_order(lambda piece: pool.submit(function, piece), pieces, threads)
        finally:
            pool.shutdown(cancel_futures=True)  # an interruption waits for one piece per thread at most
        return
    with _workers(compute) as (client, number):
        shared = client.scatter(function, broadcast=True)
        yield from _in_order(partial(client.submit, _apply, shared, pure=False), pieces, number)


def _in_order(submit: Callable[[Piece], Any], pieces: Iterable[Piece], number: int) -> Iterator[tuple[Piece, Any]]:
    """Yield pieces with their results, while ``number`` more are processed."""
    waiting: deque[tuple[Piece, Any]] = deque()
    for piece in pieces:
        waiting.append((piece, submit(piece)))
        if len(waiting) > number:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def _apply(function: Callable[[Piece], Found], piece: Piece) -> Found:
    return function(piece)


@contextmanager
def _workers(compute: Compute) -> Iterator[tuple[Any, int]]:
    from dask.distributed import Client
    from mintpy.objects.cluster import DaskCluster

    dask = DaskCluster(compute.cluster, compute.num_worker, config_name=compute.config)
    dask.open()
    # not dask.close(), which also moves all files *.o and *.e of the current directory
    with dask.cluster:
        dask.cluster.scale(dask.num_worker)
        with Client(dask.cluster) as client:
            yield client, dask.num_worker
