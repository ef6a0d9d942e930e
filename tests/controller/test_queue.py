"""The queue of keys, on a clock that the tests move."""

import asyncio

import pytest

from fibflow_operator.queue import FIRST, LONGEST, Queue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock) -> Queue[str]:
    return Queue(clock, chance=lambda: 1.0)


def test_a_key_that_is_added_twice_is_taken_once(queue):
    queue.add(["a", "b", "a"])
    assert queue.take(10) == ["a", "b"]
    assert queue.take(10) == []


def test_no_more_than_asked_for_are_taken_the_oldest_first(queue):
    queue.add(["a", "b", "c"])
    assert queue.take(2) == ["a", "b"]
    assert queue.take(2) == ["c"]


def test_a_key_that_is_worked_on_is_not_taken_by_another(queue):
    queue.add(["a"])
    queue.take(1)
    queue.add(["a"])
    assert queue.take(1) == []
    queue.done("a")
    assert queue.take(1) == ["a"]


def test_a_key_that_went_well_does_not_come_again(queue, clock):
    queue.add(["a"])
    queue.take(1)
    queue.done("a")
    clock.now += 1000
    assert queue.take(1) == [] and len(queue) == 0


def waits(queue, clock, times: int) -> list[float]:
    """How long a key waits after each failure."""
    queue.add(["a"])
    found = []
    for _ in range(times):
        assert queue.take(1) == ["a"]
        queue.failed("a")
        assert queue.take(1) == []
        found.append(queue.due_in)
        clock.now += queue.due_in
    return found


def test_a_key_that_fails_waits_twice_as_long_each_time_up_to_a_bound(queue, clock):
    assert waits(queue, clock, 9) == [min(FIRST * 2**number, LONGEST) for number in range(9)]


def test_a_success_ends_the_doubling(queue, clock):
    waits(queue, clock, 5)
    queue.take(1)
    queue.done("a")
    assert waits(queue, clock, 1) == [FIRST]


def test_what_failed_together_is_not_tried_together(clock):
    chances = iter([0.0, 0.5, 1.0])
    queue: Queue[str] = Queue(clock, chance=lambda: next(chances))
    queue.add("abc")
    for key in queue.take(3):
        queue.failed(key)
    taken = []
    for _ in range(3):
        clock.now += queue.due_in or 0
        taken.append(queue.take(3))
    assert taken == [["a"], ["b"], ["c"]]


def test_a_server_that_says_when_to_come_again_is_obeyed(queue):
    queue.add(["a"])
    queue.take(1)
    queue.failed("a", at_least=120)
    assert queue.due_in == 120


def test_a_key_that_changed_does_not_wait(queue):
    queue.add(["a"])
    queue.take(1)
    queue.failed("a")
    queue.add(["a"])
    assert queue.take(1) == ["a"]


def test_a_change_while_it_failed_is_tried_at_once(queue):
    queue.add(["a"])
    queue.take(1)
    queue.add(["a"])
    queue.failed("a")
    assert queue.take(1) == ["a"]


def test_its_age_is_told(queue, clock):
    assert queue.oldest == 0
    queue.add(["a"])
    clock.now += 5
    queue.add(["b"])
    assert queue.oldest == 5
    queue.take(1)
    assert queue.oldest == 0


def test_a_queue_stalls_when_nobody_takes_and_not_while_the_work_is_slow(queue, clock):
    queue.add(["a", "b", "c"])
    clock.now += 100
    assert queue.take(1) == ["a"]
    clock.now += 50
    assert (queue.oldest, queue.stalled) == (150, 50)
    queue.take(5)
    clock.now += 50
    assert queue.stalled == 0
    queue.add(["d"])
    assert queue.stalled == 0


def test_who_waits_is_woken_by_a_key():
    async def scene():
        queue: Queue[str] = Queue()
        waiting = asyncio.ensure_future(queue.taking(1))
        await asyncio.sleep(0)
        queue.add(["a"])
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(scene()) == ["a"]


def test_who_waits_is_woken_when_a_wait_is_over():
    async def scene():
        queue: Queue[str] = Queue(chance=lambda: 0.0)
        queue.add(["a"])
        queue.take(1)
        waiting = asyncio.ensure_future(queue.taking(1))
        await asyncio.sleep(0)
        queue.failed("a")
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(scene()) == ["a"]


def test_a_wait_that_is_cancelled_at_the_moment_it_is_over_is_cancelled():
    """Else a leader that is to end would go on for ever."""

    async def scene():
        queue: Queue[str] = Queue()
        queue.add(["later"])
        queue.take(1)
        queue.failed("later", at_least=60)
        waiting = asyncio.ensure_future(queue.taking(1))
        for _ in range(5):
            await asyncio.sleep(0)
        queue.add(["a"])
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled(), queue.take(1)

    assert asyncio.run(scene()) == (True, ["a"])


def test_a_queue_is_drained_while_no_key_is_ready(queue):
    assert queue.drained.is_set()
    queue.add(["a", "b"])
    queue.take(1)
    assert not queue.drained.is_set()
    queue.take(1)
    assert queue.drained.is_set()
    queue.done("a")
    queue.failed("b")
    assert queue.drained.is_set(), "one that waits is not ready"
