"""What the database says after a run: what was lost, what was done twice, and how long each recovery took.

Everything is read from the rows themselves, not from what the workers or the client say of them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from faults.load import TREE, WIDTH, Plan
from fibflow.store.database import Database, Session, read
from fibflow.store.tables import attempt, event, task, task_final, worker


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost`: planned tasks that are not completed. `twice`: tasks with more than one completed attempt."""

    lost: int
    twice: int
    spawns: int
    retries: int
    broken: Sequence[str]


def verdict(database: Database, plan: Plan) -> Verdict:
    """Judge a run that is over."""
    statuses = database.call(count_by, task_final, task_final.c.status)
    open_tasks = database.call(count_by, task, task.c.state)
    attempts = database.call(completed_attempts)
    twice = sum(number > 1 for number in attempts.values())
    lost = plan.total - statuses["completed"]
    spawns = database.call(spawns_of)
    rules = {
        f"{lost} of {plan.total} tasks are not completed: {dict(statuses)}, {dict(open_tasks)}": lost == 0,
        f"{open_tasks.total()} tasks are not final": not open_tasks,
        f"{twice} tasks have several completed attempts": twice == 0,
        f"{statuses['completed'] - len(attempts)} completed tasks have no completed attempt": len(attempts)
        == statuses["completed"],
    }
    broken = [words for words, holds in rules.items() if not holds]
    broken += [*_spawn_faults(database, spawns), *_result_faults(database, plan)]
    failed = database.call(count_by, attempt, attempt.c.outcome)["failed"]
    return Verdict(lost, twice, sum(map(len, spawns.values())), failed, broken)


@read
def count_by(session: Session, table: sa.Table, column: sa.ColumnElement[str]) -> Counter[str]:
    rows = session.connection.execute(sa.select(column, sa.func.count()).select_from(table).group_by(column))
    return Counter({name: number for name, number in rows})


@read
def completed_attempts(session: Session) -> dict[int, int]:
    """How many attempts completed each task."""
    completed = sa.select(attempt.c.task_id, sa.func.count()).where(attempt.c.outcome == "completed")
    return {task_id: number for task_id, number in session.connection.execute(completed.group_by(attempt.c.task_id))}


@read
def spawns_of(session: Session) -> dict[int, list[int]]:
    """The attempts of each parent that ended by spawning."""
    query = sa.select(attempt.c.task_id, attempt.c.attempt).where(attempt.c.outcome == "suspended")
    found: dict[int, list[int]] = defaultdict(list)
    for task_id, number in session.connection.execute(query.order_by(attempt.c.task_id, attempt.c.attempt)):
        found[task_id].append(number)
    return dict(found)


@read
def resumes(session: Session) -> Counter[int]:
    """How often each parent was resumed."""
    resumed = sa.select(event.c.task_id, sa.func.count()).where(event.c.type == "task_resumed").group_by(event.c.task_id)
    return Counter({task_id: number for task_id, number in session.connection.execute(resumed)})


@read
def children_of_each_spawn(session: Session) -> dict[tuple[int, int], int]:
    family = (task_final.c.parent_id, task_final.c.generation)
    query = sa.select(*family, sa.func.count()).where(task_final.c.parent_id.is_not(None)).group_by(*family)
    return {(parent_id, generation): number for parent_id, generation, number in session.connection.execute(query)}


def _spawn_faults(database: Database, spawns: dict[int, list[int]]) -> list[str]:
    """Every spawn resumed its parent once and made its children once."""
    resumed = database.call(resumes)
    families = database.call(children_of_each_spawn)
    wrong = [task_id for task_id in {*spawns, *resumed} if len(spawns.get(task_id, [])) != resumed[task_id]]
    expected = {(task_id, number): WIDTH for task_id, numbers in spawns.items() for number in numbers}
    faults = [f"the spawns of {len(wrong)} parents did not resume them once each: {wrong[:5]}"] if wrong else []
    return faults + (["the children are not those that were spawned"] if families != expected else [])


def _result_faults(database: Database, plan: Plan) -> list[str]:
    """Every workflow counted all that is in it."""
    results = database.call(root_results)
    wrong = results != Counter({str(TREE): plan.roots})
    return [f"the results of {plan.roots} workflows are {dict(results)} instead of {TREE} each"] if wrong else []


@read
def root_results(session: Session) -> Counter[str]:
    roots = sa.select(task_final.c.result).where(task_final.c.parent_id.is_(None), task_final.c.spawned.is_not(None))
    return Counter(row.result for row in session.connection.execute(roots))


# ── recoveries ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one worker held came back: how many tasks, how many of them of workflows, when the last of them did, and when
    its successor registered.
    """

    tasks: int
    in_workflows: int
    at: int
    registered_at: int


@dataclass(frozen=True, slots=True)
class Told:
    """An event that tells of a recovery."""

    task_id: int
    at: int
    lost_worker: int
    recovered_by: int


@read
def recoveries(session: Session) -> dict[int, Recovery]:
    """By the worker that was lost; microseconds by the database's clock."""
    registered = {id: at for id, at in session.connection.execute(sa.select(worker.c.id, worker.c.registered_at))}
    grown = sa.or_(task_final.c.parent_id.is_not(None), task_final.c.spawned.is_not(None))
    in_workflows = set(session.connection.execute(sa.select(task_final.c.id).where(grown)).scalars())
    told: dict[int, list[Told]] = defaultdict(list)
    columns = (event.c.task_id, event.c.at, event.c.metadata)
    for task_id, at, metadata in session.connection.execute(sa.select(*columns).where(event.c.type == "task_recovered")):
        facts = orjson.loads(metadata)
        told[facts["lost_worker"]].append(Told(task_id, at, facts["lost_worker"], facts["recovered_by"]))
    return {lost: _recovery(of, registered, in_workflows) for lost, of in told.items()}


def _recovery(told: Sequence[Told], registered: dict[int, int], in_workflows: set[int]) -> Recovery:
    last = max(told, key=lambda one: one.at)
    grown = sum(one.task_id in in_workflows for one in told)
    return Recovery(len(told), grown, last.at, registered[last.recovered_by])
