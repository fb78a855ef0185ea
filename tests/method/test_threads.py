"""Seeds side by side: the same result as one after the other, and no thread that outlives what it works for."""

import threading
import time

import numpy as np
import pytest
import torch

from mintpy_vae.method.threads import InBackground, of_each, single_threaded
from mintpy_vae.settings import Settings
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn


@pytest.mark.parametrize("now", [True, False])
def test_work_aside_gives_its_result_or_its_error(now):
    with InBackground(lambda: threading.get_ident(), now) as aside:
        assert (aside.result() != threading.get_ident()) == now
    with pytest.raises(ZeroDivisionError), InBackground(lambda: 1 / 0, now) as aside:
        aside.result()


def test_what_ends_the_block_ends_the_thread():
    """Even where what the thread calls swallows exceptions, as libraries do."""
    begun = threading.Event()

    def work():
        for _ in range(3):
            try:
                while True:
                    begun.set()
                    np.ones((300, 300)) @ np.ones((300, 300))
            except BaseException:
                pass

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), InBackground(work):
        begun.wait(10)
        begin = time.time()
        raise KeyboardInterrupt
    assert threading.active_count() == threads and time.time() - begin < 2


def test_independent_work_uses_the_threads_that_are_idle_and_no_more():
    def work(item):
        if item == 7:
            raise ZeroDivisionError
        time.sleep(0.05)
        return item**2, threading.get_ident()

    def threads_of(items):
        values, idents = zip(*of_each(work, items), strict=True)
        assert values == tuple(item**2 for item in items)
        return set(idents)

    here, before = {threading.get_ident()}, torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert threads_of(range(6)) == here  # the linear algebra may use them all
        with single_threaded():
            assert len(threads_of(range(6)) - here) == 3
            with single_threaded(), pytest.raises(ZeroDivisionError):
                assert len(threads_of(range(6)) - here) == 3
                of_each(work, [6, 7, 8])
            with InBackground(lambda: (threading.get_ident(), threads_of(range(6)))) as aside:  # as a tile or a seed
                ident, used = aside.result()
                assert used == {ident}
        torch.set_num_threads(1)
        with single_threaded():
            assert threads_of(range(6)) == here
    finally:
        torch.set_num_threads(before)


def test_work_that_nobody_asked_for_is_not_done():
    done = []
    with InBackground(lambda: done.append(1), now=False) as aside:
        assert aside.awaited
    assert not done


def test_seeds_side_by_side_are_the_same_as_one_after_the_other(mapped):
    job = prepare(mapped.stack, settings=Settings(train_steps=10, num_seeds=3, resolution=0.75))
    before, found, told = torch.get_num_threads(), [], []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            seen = []
            found.append(learn(job, {}, lambda stage, *_, seen=seen: seen.append((threading.active_count(), stage))))
            told.append(seen)
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert one.details["seed_spread"] == two.details["seed_spread"] and len(one.details["seed_spread"]) == 2
    np.testing.assert_array_equal(one.found.corrected, two.found.corrected)
    threads = [max(count for count, stage in seen if stage == "separating sources") for seen in told]
    assert threads[1] == threads[0] + 1
    for seen in told:
        assert seen[-1][1].startswith("seed 3: ")  # of what the run is waiting for
        stages = [stage for _, stage in seen]
        assert not any(stage.startswith("seed") for stage in stages[: stages.index("searching local deformation")])
