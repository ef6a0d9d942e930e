"""Slots: which attempts run here, which have ended and wait to be settled, and how many more fit.

An attempt holds a slot from the claim until the transaction that settles it has committed. A turn (turns.py) reserves what
it may fill before it asks the database, so two turns at once never claim more than there is room for. A handler in a
thread that outlives its attempt lingers, and keeps its slot until it returns. So does a result that others' locks keep
from being settled: it is blocked, and waits apart from what has ended since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fibflow.store.ending import Key
from fibflow_worker.execution import Attempt, Result


class Slots:
    """Room for `size` attempts at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.running: dict[Key, Attempt] = {}
        self.ended: list[Result] = []
        self.blocked: list[Result] = []
        self.lingering: set[Attempt] = set()
        self._reserved = 0
        self._taken: Counter[int] = Counter()

    @property
    def free(self) -> int:
        """Slots that a turn may fill."""
        return self.size - self.busy - self._reserved

    @property
    def unsettled(self) -> int:
        """How many have ended and wait to be settled."""
        return len(self.ended) + len(self.blocked)

    @property
    def busy(self) -> int:
        """Slots that attempts hold: they run, linger, or have ended and wait to be settled, also if they are blocked.

        What a turn has reserved is not counted: nothing runs there yet, and mostly nothing will.
        """
        return len(self.running) + self.unsettled + len(self.lingering)

    def of_type(self, type_id: int) -> int:
        """How many slots tasks of this type hold, or may be about to fill."""
        return self._taken[type_id]

    def reserve(self, slots: int, by_type: Mapping[int, int]) -> None:
        """Keep room for a turn that is under way."""
        self._reserved += slots
        self._taken.update(by_type)

    def give_back(self, slots: int, by_type: Mapping[int, int]) -> None:
        """The turn is over."""
        self._reserved -= slots
        self._taken.subtract(by_type)

    def fill(self, attempt: Attempt) -> None:
        """An attempt begins."""
        self.running[attempt.key] = attempt
        self._taken[attempt.type_id] += 1

    def end(self, attempt: Attempt, result: Result) -> None:
        """An attempt has ended and waits to be settled; only its first end counts."""
        if self.running.pop(attempt.key, None) is attempt:
            self.ended.append(result)

    def take_away(self, key: Key) -> Attempt | None:
        """An attempt is no longer ours: nothing will be settled."""
        attempt = self.running.pop(key, None)
        if attempt is not None:
            self._taken[attempt.type_id] -= 1
        return attempt

    def take_ended(self, most: int) -> Sequence[Result]:
        """The results that a turn settles now; `settled` or `put_back` follows."""
        batch, self.ended = self.ended[:most], self.ended[most:]
        return batch

    def take_blocked(self) -> Sequence[Result]:
        """The results that were blocked, to be tried again; `settled` or `put_back` follows."""
        batch, self.blocked = self.blocked, []
        for result in batch:
            result.blocked = False
        return batch

    def put_back(self, batch: Sequence[Result]) -> None:
        """They are settled later: after what has ended meanwhile, or, if blocked, apart from it."""
        self.ended += [result for result in batch if not result.blocked]
        self.blocked += [result for result in batch if result.blocked]

    def settled(self, batch: Iterable[Result]) -> None:
        self._taken.subtract(result.attempt.type_id for result in batch)

    def known(self) -> set[Key]:
        """The attempts that run here or wait to be settled."""
        return set(self.running) | {result.ending.key for result in self.ended + self.blocked}

    def clear(self) -> list[Attempt]:
        """Let go of everything, without settling it; what was running."""
        let_go = [attempt for key in list(self.running) if (attempt := self.take_away(key)) is not None]
        self.settled(self.ended + self.blocked)
        self.ended, self.blocked = [], []
        return let_go
