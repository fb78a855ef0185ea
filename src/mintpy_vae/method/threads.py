"""Linear algebra in one thread, so that no result depends on the number of cores; independent work side by side."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import Any, Generic, TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["InBackground", "of_each", "side_by_side", "single_threaded"]

T = TypeVar("T")
Item = TypeVar("Item")
MOST_THREADS = 8
"""Largest number of pieces of work side by side; each has memory of its own."""
_THREADS: ContextVar[int] = ContextVar("threads", default=1)  # a thread that works on a tile or a seed has its own


@contextmanager
def single_threaded(idle: int | None = None) -> Iterator[None]:
    """Limit torch and NumPy's linear algebra to one thread within the context.

    The others are left for :func:`of_each`, ``idle`` of them if that is given. The last bits of sums depend on the
    number of threads, and training amplifies the difference. The networks are too small to gain from a second thread,
    and become much slower if another process uses the core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    token = _THREADS.set(max(before, _THREADS.get()) if idle is None else idle)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
        _THREADS.reset(token)


def of_each(function: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
    """What a function makes of each item, side by side in the threads that :func:`single_threaded` leaves idle."""
    if (threads := min(_THREADS.get(), MOST_THREADS)) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1,)) as pool:  # OpenMP's are per thread
        return list(pool.map(function, items))


def side_by_side(*work: Callable[[], Any]) -> list[Any]:
    """What each piece of work returns, see :func:`of_each`; they are begun in their order."""
    return of_each(lambda one: one(), work)


class InBackground(Generic[T]):
    """Work in a second thread while a ``with`` block runs; an exception that ends the block ends the thread, too.

    Parameters
    ----------
    work : callable
        Called without arguments.
    now : bool
        Start with the block; otherwise the work runs in :meth:`result`, without a second thread.
    """

    def __init__(self, work: Callable[[], T], now: bool = True) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True) if now else None
        self.awaited = not now

    def __enter__(self) -> InBackground[T]:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._thread and self._thread.is_alive():
            # takes effect between two steps of Python, as a signal does in the main thread
            ident = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
            self._thread.join(0.1)

    def result(self) -> T:
        """Wait for the work; what it raised is raised here."""
        self.awaited = True
        if not self._thread:
            return self._work()
        while self._thread.is_alive():
            self._thread.join(0.5)  # with a timeout, so that signals are handled on every system
        if self._error:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
