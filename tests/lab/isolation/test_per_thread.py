"""Each thread has one of its own, a lost one is replaced, and the end reaches those of all
threads.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from mini_transformer.isolation.per_thread import OnePerThread


class Thing:
    """Something that can be lost, and is told when it ends."""

    lost = False
    ended = False

    def end(self) -> None:
        self.ended = True


def make_pool() -> OnePerThread[Thing]:
    return OnePerThread(Thing, end=Thing.end, is_lost=lambda thing: thing.lost)


def test_a_thread_keeps_its_own_and_another_thread_has_another():
    pool, together = make_pool(), Barrier(2)

    def get_twice(_) -> tuple[Thing, Thing]:
        together.wait(timeout=60)
        return pool.get(), pool.get()

    with ThreadPoolExecutor(2) as threads:
        (first, again), (other, other_again) = threads.map(get_twice, range(2))
    assert first is again
    assert other is other_again
    assert first is not other
    pool.close()
    assert first.ended
    assert other.ended


def test_a_lost_one_is_replaced():
    pool = make_pool()
    first = pool.get()
    first.lost = True
    assert pool.get() is not first


def test_after_the_end_a_thread_gets_a_new_one():
    pool = make_pool()
    first = pool.get()
    pool.close()
    assert pool.get() is not first
