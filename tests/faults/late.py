"""Late writes without processes: every verb by every cause, drawn from a seed, and each of them refused.

A write is as promised when it is refused and named, when the database's record of stale writes and the metric rise by
exactly one for it, and when nothing else in the database has changed. In the batches of a settle there may be an attempt
that is still its worker's: that one must stand.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from faults.course import POSTGRESQL, SQLITE, Course, Place
from faults.rows import Row
from faults.scenes import CAUSES, Attempt, Scene, begin
from faults.writes import SETTLES, WRITES, Dump, Write, dump, stale_counts
from fibflow.errors import LeaseLost
from fibflow.metrics import STALE_WRITES
from fibflow.store.database import Database

Say = Callable[[str], None]
SHOWN = 5
"""Faults that are kept in words; the rest are counted."""


@dataclass(slots=True)
class Tally:
    """What was tried, and what was seen of it, in each of the three places that tell."""

    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: int = 0
    recorded: int = 0
    metric: int = 0
    changed: int = 0
    beside: int = 0
    broken: list[str] = field(default_factory=list)

    def fault(self, words: str) -> None:
        if len(self.broken) < SHOWN:
            self.broken.append(words)


WRITES_IN_ALL = 10_000


def measure(course: Course) -> Row:
    """Half of the late writes on either database."""
    writes = course.size(WRITES_IN_ALL, 300)
    tallies: dict[str, Tally] = {}
    for kind in (POSTGRESQL, SQLITE):
        with course.place(kind) as place:
            tallies[kind] = _try_all(place, Random(f"{course.seed} {kind}"), writes // 2, course.say)
    return _row(tallies, course.seed, writes)


def _try_all(place: Place, random: Random, writes: int, say: Say) -> Tally:
    tally = Tally()
    for number, (cause, verbs) in enumerate(_drawn(random, writes)):
        if number % 50 == 0:
            say(f"{place.kind}: {tally.tried.total():,} of {writes:,} late writes, {len(tally.broken)} faults")
        _play(place.database, random, cause, verbs, tally)
    return tally


def _drawn(random: Random, writes: int) -> Iterator[tuple[str, list[str]]]:
    """Causes, each with the verbs of one scene; every pair equally often, in an order that the seed decides."""
    pairs = list(itertools.product(CAUSES, WRITES))
    whole, rest = divmod(writes, len(pairs))
    chosen = pairs * whole + random.sample(pairs, rest)
    random.shuffle(chosen)
    verbs: dict[str, list[str]] = {cause: [verb for drawn, verb in chosen if drawn == cause] for cause in CAUSES}
    while left := [cause for cause in CAUSES if verbs[cause]]:
        cause = random.choice(left)
        size = random.randint(8, 20)
        yield cause, verbs[cause][:size]
        del verbs[cause][:size]


def _play(database: Database, random: Random, cause: str, verbs: Sequence[str], tally: Tally) -> None:
    scene = begin(database, random, cause)
    ids = [attempt.task_id for attempt in scene.late]
    but = [attempt.task_id for attempt in scene.company]
    before = database.call(dump, ids, but)
    expected: Counter[tuple[int, int, str]] = Counter()
    for verb, targets in _batches(random, scene, verbs):
        where = f"{verb} after {cause}, tasks {[one.task_id for one in targets]}"
        tally.tried[verb, cause] += len(targets)
        refused = _try(database, WRITES[verb], targets, scene, where, tally)
        expected.update((one.task_id, one.fence, one.verb) for one in refused)
        _compare(before, database.call(dump, ids, but), where, tally)
    recorded = database.call(stale_counts, ids)
    tally.recorded += sum(recorded.values())
    if recorded != expected:
        tally.fault(f"after {cause}: refused {dict(expected)}, but recorded {recorded}")
    scene.close()


def _batches(random: Random, scene: Scene, verbs: Sequence[str]) -> Iterator[tuple[str, list[Attempt]]]:
    """Each verb with an attempt that it names; equal settles of different attempts are often one write."""
    left = list(verbs)
    while left:
        verb = left.pop(0)
        targets = [random.choice(scene.late)]
        others = [attempt for attempt in scene.late if attempt not in targets]
        while others and verb in SETTLES and verb in left:
            left.remove(verb)
            targets.append(others.pop())
        yield verb, targets


def _try(
    database: Database, write: Write, targets: Sequence[Attempt], scene: Scene, where: str, tally: Tally
) -> list[LeaseLost]:
    """The refusals, which are exactly those of the targets."""
    beside = scene.company if write in SETTLES.values() and scene.company_kept else []
    before = _metric()
    try:
        refused = write(database, [*targets, *beside])
    except Exception as error:
        tally.fault(f"{where}: {type(error).__name__}: {error}")
        return []
    tally.refused += len(refused)
    tally.metric += _metric() - before
    wanted = sorted((one.task_id, one.fence) for one in targets)
    if sorted((one.task_id, one.fence) for one in refused) != wanted:
        tally.fault(f"{where}: refused {[str(one) for one in refused]}")
    _see_company(scene, beside, where, tally)
    return refused


def _see_company(scene: Scene, beside: Sequence[Attempt], where: str, tally: Tally) -> None:
    """The attempt that is still its worker's was settled, though others in its batch were refused."""
    if beside:
        tally.beside += 1
        scene.company_kept = False
        if scene.statuses(beside) == ["running"]:
            tally.fault(f"{where}: task {beside[0].task_id} in the same batch was not settled")


def _compare(before: Dump, after: Dump, where: str, tally: Tally) -> None:
    different = [name for name in before if before[name] != after[name]]
    tally.changed += bool(different)
    for name in different:
        tally.fault(f"{where}: {name} changed from {before[name]} to {after[name]}")


def _metric() -> int:
    samples = [sample for family in STALE_WRITES.collect() for sample in family.samples]
    return round(sum(sample.value for sample in samples if sample.name.endswith("_total")))


def _row(tallies: dict[str, Tally], seed: int, writes: int) -> Row:
    broken = [f"{kind}: {fault}" for kind, tally in tallies.items() for fault in _faults(tally)]
    tried = sum((tally.tried for tally in tallies.values()), Counter[tuple[str, str]]())
    if tried.total() != writes:
        broken.append(f"{tried.total()} writes were tried instead of {writes}")
    broken += [
        f"{verb} after {cause} was not tried" for verb, cause in itertools.product(WRITES, CAUSES) if not tried[verb, cause]
    ]
    figures: dict[str, Any] = {name: sum(getattr(tally, name) for tally in tallies.values()) for name in SEEN}
    for kind, tally in tallies.items():
        figures[kind] = {"tried": tally.tried.total()} | {name: getattr(tally, name) for name in SEEN}
    figures["pairs"] = {f"{verb} after {cause}": number for (verb, cause), number in sorted(tried.items())}
    return Row(
        "late",
        "every verb × every cause",
        " + ".join(tallies),
        seed,
        broken,
        stale_tried=tried.total(),
        stale_refused=figures["refused"],
        figures=figures,
    )


SEEN = ("refused", "recorded", "metric", "changed", "beside")
"""What was seen of the writes: refusals, the database's record of them, the metric, and what they left."""


def _faults(tally: Tally) -> list[str]:
    tried = tally.tried.total()
    wrong = [f"{tried} tried, but {getattr(tally, name)} {name}" for name in SEEN[:3] if getattr(tally, name) != tried]
    return [*tally.broken, *wrong]
