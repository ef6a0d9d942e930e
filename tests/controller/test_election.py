"""Who leads: the choice as a function, and two operators on a Lease in memory with a clock that the tests move.

`Shelf` is an in-memory stand-in for the API server's Lease; the real one is tried in tests/e2e/test_leaders.py.
"""

import asyncio
from dataclasses import replace

import pytest

from fibflow_operator.election import Choice, Election, Times, choose
from fibflow_operator.kube.api import ApiUnavailable
from fibflow_operator.kube.leases import Lease

HELD = Lease(holder="a", transitions=3, renewed="t", version="1")


@pytest.mark.parametrize(
    ("lease", "unchanged", "choice"),
    [
        (None, 0, Choice.TAKE),
        (replace(HELD, holder=""), 0, Choice.TAKE),
        (replace(HELD, holder="me"), 0, Choice.TAKE),
        (HELD, 0, Choice.WAIT),
        (HELD, 9.9, Choice.WAIT),
        (HELD, 10, Choice.TAKE),
    ],
    ids=["none", "free", "own", "held", "nearly over", "over"],
)
def test_a_lease_is_taken_when_it_is_free_or_has_not_changed_for_its_duration(lease, unchanged, choice):
    assert choose(lease, "me", unchanged, 10) is choice


class Shelf:
    """A Lease in memory: writes against another version fail, and it can be out of reach."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.away = False

    def read(self):
        if self.away:
            raise ApiUnavailable("away")
        return self.lease

    def write(self, before, holder):
        if self.away:
            raise ApiUnavailable("away")
        if (before.version if before else None) != (self.lease.version if self.lease else None):
            return None
        moved = before is not None and holder not in ("", before.holder)
        number = int(before.version) + 1 if before else 1
        self.lease = Lease(holder, (before.transitions if before else 0) + moved, str(number), str(number))
        return self.lease


class Calls:
    async def run(self, call, *arguments):
        return call(*arguments)


def election(shelf, name, clock) -> Election:
    return Election(Calls(), shelf, name, Times(10, 7, 2), clock)  # type: ignore[arg-type]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_one_of_two_wins_and_the_other_wins_when_the_first_is_silent():
    clock, shelf = Clock(), Shelf()
    first, second = election(shelf, "a", clock), election(shelf, "b", clock)

    async def scene():
        taken = await first._try()
        assert taken is not None and taken.holder == "a"
        assert await second._try() is None
        clock.now += 9
        assert await first.confirm()
        assert await second._try() is None  # it changed just now
        clock.now += 9.9
        assert await second._try() is None
        clock.now += 0.1
        won = await second._try()
        assert won is not None and (won.holder, won.transitions) == ("b", 1)
        assert not await first.confirm()

    asyncio.run(scene())


def test_who_gives_it_back_is_followed_at_once():
    clock, shelf = Clock(), Shelf()
    first, second = election(shelf, "a", clock), election(shelf, "b", clock)

    async def scene():
        await first._try()
        await first.give_back()
        followed = await second._try()
        assert followed is not None and followed.holder == "b"

    asyncio.run(scene())


def test_who_ends_during_a_renewal_gives_back_what_that_made_of_it():
    clock, shelf = Clock(), Shelf()
    first, second = election(shelf, "a", clock), election(shelf, "b", clock)

    async def scene():
        await first._try()
        shelf.write(shelf.lease, "a")  # nobody waited for its answer
        await first.give_back()
        followed = await second._try()
        assert followed is not None and followed.holder == "b"
        await first._try()
        first._lease = followed
        shelf.write(followed, "b")
        await first.give_back()
        assert shelf.lease is not None and shelf.lease.holder == "b", "another's is not given back"

    asyncio.run(scene())


def test_a_leader_that_cannot_renew_stops_before_another_may_begin():
    shelf, ended = Shelf(), []
    times = Times(duration=1.0, deadline=0.3, retry=0.05)

    async def lead(transitions):
        shelf.away = True
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(transitions)

    async def scene():
        loop = asyncio.get_running_loop()
        leader = Election(Calls(), shelf, "a", times, loop.time)  # type: ignore[arg-type]
        begin = loop.time()
        running = asyncio.ensure_future(leader.run(lead))
        while not ended:
            await asyncio.sleep(0)
        running.cancel()
        return loop.time() - begin

    assert 0.25 < asyncio.run(scene()) < 1.0
    assert ended == [0]


def test_a_renewal_whose_answer_was_lost_is_ours_all_the_same():
    clock, shelf = Clock(), Shelf()
    leader = election(shelf, "a", clock)

    async def scene():
        await leader._try()
        shelf.write(shelf.lease, "a")
        assert await leader.confirm() and await leader.confirm()

    asyncio.run(scene())
