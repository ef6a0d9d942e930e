"""Cron tasks in the database: every instant is decided once, whoever decides and whatever the clock does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from fibflow.errors import InvalidInput, NotFound, UnknownTaskType
from fibflow.model import ConcurrencyPolicy, MissedRunPolicy, Options
from fibflow.store import deciding
from fibflow.store.cron import (
    CronDeclaration,
    delete_cron,
    pause_after_failure,
    pause_cron,
    put_cron,
    resume_cron,
)
from fibflow.store.cron_reading import crons, ticks
from fibflow.store.database import Database, Session, write
from fibflow.store.deciding import decide_ticks
from fibflow.store.tables import cron_task, task, task_type
from fibflow.store.tasktypes import Declaration, declare_types
from fix_database import move_clock

HOURLY = CronDeclaration("report", "make_report", "0 * * * *", {"kind": "short"}, tag="reports")
HOUR = 3600


@pytest.fixture
def database(database):
    """With the task type, and a clock that stands half an hour past an hour: no test meets an instant by chance."""
    database.call(declare_types, [Declaration("make_report")])
    move_clock(database, HOUR / 2 - _now(database) / 1_000_000 % HOUR)
    return database


def _now(database: Database) -> int:
    return database.call(Session.now)


def _tasks(database):
    with database.engine.connect() as connection:
        return connection.execute(sa.select(task).order_by(task.c.id)).all()


def _only(database):
    (one,) = database.call(crons)
    return one


def _decisions(database, name="report"):
    return [(tick.decision, tick.reason, tick.count) for tick in database.call(ticks, name, order="asc").items]


def _late(database, seconds=1):
    """A moment after the next instant, well within what counts as on time."""
    due = _only(database).next_at.timestamp()
    move_clock(database, due + seconds - _now(database) / 1_000_000)


def _end(database):
    """Every task ends."""
    with database.engine.begin() as connection:
        connection.execute(sa.delete(task))


def test_a_new_cron_task_starts_at_the_databases_now(database):
    before = _now(database)
    cron_id = database.call(put_cron, HOURLY)
    stored = _only(database)
    assert stored.id == cron_id
    assert before <= stored.decided_through.timestamp() * 1_000_000 <= _now(database)
    assert stored.next_at - stored.decided_through < timedelta(hours=1)
    assert database.call(decide_ticks) == 0


def test_a_due_instant_becomes_a_task(database):
    declared = replace(HOURLY, options=Options(priority=3, timeout=2.5))
    cron_id = database.call(put_cron, declared)
    instant = _only(database).next_at
    _late(database)
    assert database.call(decide_ticks) == 1
    (made,) = _tasks(database)
    assert (made.cron_id, made.tick, made.state) == (cron_id, instant.timestamp() * 1_000_000, "ready")
    assert (made.payload, made.tag, made.priority, made.timeout) == ('{"kind":"short"}', "reports", 3, 2_500_000)
    (tick,) = database.call(ticks, "report").items
    assert (tick.decision, tick.instant, tick.through, tick.task_id) == ("run", instant, instant, made.id)
    assert _only(database).next_at == instant + timedelta(hours=1)


def test_an_instant_is_decided_once_however_often_it_is_asked_for(database):
    database.call(put_cron, HOURLY)
    _late(database)
    assert [database.call(decide_ticks) for _ in range(3)] == [1, 0, 0]
    assert len(_tasks(database)) == 1


def test_racing_sessions_decide_an_instant_once(database):
    for number in range(5):
        database.call(put_cron, replace(HOURLY, name=f"report_{number}"))
    move_clock(database, HOUR)
    start = threading.Barrier(4)

    def race(_):
        start.wait(10)
        return database.call(decide_ticks)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4))) == 5
    assert len({row.cron_id for row in _tasks(database)}) == len(_tasks(database)) == 5


def test_a_row_that_another_session_decides_is_skipped_without_waiting(database):
    if not database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    database.call(put_cron, HOURLY)
    _late(database)
    with database.engine.begin() as other:
        assert decide_ticks(Session(other)) == 1
        assert database.call(decide_ticks) == 0
    assert database.call(decide_ticks) == 0
    assert len(_tasks(database)) == 1


def test_a_decision_that_is_rolled_back_leaves_the_instant_to_the_next(database):
    database.call(put_cron, HOURLY)
    _late(database)
    with database.engine.connect() as dying:
        assert decide_ticks(Session(dying)) == 1
        dying.rollback()
    assert _tasks(database) == []
    assert database.call(decide_ticks) == 1
    assert len(_tasks(database)) == 1


def test_a_clock_that_steps_back_repeats_nothing(database):
    database.call(put_cron, replace(HOURLY, concurrency_policy=ConcurrencyPolicy.ALLOW))
    _late(database)
    database.call(decide_ticks)
    decided = _only(database).decided_through
    for step in (-2 * HOUR, HOUR, HOUR):  # back, and up to the instant again
        move_clock(database, step)
        assert database.call(decide_ticks) == 0
        assert _only(database).decided_through == decided
    move_clock(database, HOUR)
    assert database.call(decide_ticks) == 1
    assert len(_tasks(database)) == 2


def test_run_latest_runs_the_last_of_the_missed_instants(database):
    database.call(put_cron, HOURLY)
    move_clock(database, 5 * HOUR)
    database.call(decide_ticks)
    assert _decisions(database) == [("skip", "missed", 4), ("run", None, 1)]
    missed, run = database.call(ticks, "report", order="asc").items
    assert missed.through - missed.instant == timedelta(hours=3)
    assert run.instant - missed.through == timedelta(hours=1)


def test_skip_runs_none_of_the_missed_instants(database):
    database.call(put_cron, replace(HOURLY, missed_run_policy=MissedRunPolicy.SKIP))
    move_clock(database, 5 * HOUR)
    database.call(decide_ticks)
    assert _decisions(database) == [("skip", "missed", 5)]
    assert _tasks(database) == []


def test_more_missed_instants_than_are_counted_are_one_range(database):
    database.call(put_cron, replace(HOURLY, schedule="* * * * * *", missed_run_policy=MissedRunPolicy.SKIP))
    move_clock(database, HOUR)
    database.call(decide_ticks)
    assert _decisions(database)[0] == ("skip", "missed", None)


def test_forbid_skips_an_instant_while_a_tick_is_not_final(database):
    database.call(put_cron, HOURLY)
    for _ in range(2):
        _late(database)
        database.call(decide_ticks)
    assert _decisions(database) == [("run", None, 1), ("skip", "overlap", 1)]
    _end(database)
    _late(database)
    database.call(decide_ticks)
    assert _decisions(database)[-1] == ("run", None, 1)


def test_allow_runs_an_instant_whatever_runs_already(database):
    database.call(put_cron, replace(HOURLY, concurrency_policy=ConcurrencyPolicy.ALLOW))
    for _ in range(2):
        _late(database)
        database.call(decide_ticks)
    assert len(_tasks(database)) == 2


@pytest.mark.parametrize("how", ["paused", "suspended"])
def test_held_back_it_decides_nothing_and_later_what_was_missed(database, how):
    database.call(put_cron, replace(HOURLY, suspended=how == "suspended"))
    if how == "paused":
        database.call(pause_cron, "report")
    move_clock(database, 2 * HOUR)
    assert database.call(decide_ticks) == 0
    database.call(put_cron, HOURLY)
    if how == "paused":
        assert _only(database).paused, "a declaration un-pauses nothing"
        database.call(resume_cron, "report")
    assert database.call(decide_ticks) == 1
    assert _decisions(database) == [("skip", "missed", 1), ("run", None, 1)]


def test_a_tick_that_fails_for_good_pauses_its_cron_task(database):
    report = database.call(put_cron, HOURLY)
    other = database.call(put_cron, replace(HOURLY, name="other", pause_on_failure=False))
    database.call(write(pause_after_failure), [(report, 17), (other, 18)])
    by_name = {each.name: each for each in database.call(crons)}
    assert (by_name["report"].paused, by_name["report"].paused_reason) == (True, "task 17 failed for good")
    assert (by_name["other"].paused, by_name["other"].paused_reason) == (False, None)
    database.call(resume_cron, "report")
    assert {each.paused for each in database.call(crons)} == {False}
    assert {each.paused_reason for each in database.call(crons)} == {None}


def test_a_changed_schedule_begins_now(database):
    database.call(put_cron, HOURLY)
    move_clock(database, 3 * HOUR)
    before = _now(database)
    database.call(put_cron, replace(HOURLY, schedule="0 */2 * * *"))
    assert _only(database).decided_through.timestamp() * 1_000_000 >= before
    assert database.call(decide_ticks) == 0


def test_what_nobody_decided_of_a_schedule_before_it_changed_was_missed(database):
    database.call(put_cron, HOURLY)
    move_clock(database, 3 * HOUR)
    database.call(put_cron, replace(HOURLY, schedule="0 */2 * * *"))
    (gap,) = database.call(ticks, "report").items
    assert (gap.decision, gap.reason, gap.count, gap.task_id) == ("skip", "missed", 3, None)


def test_a_changed_schedule_never_moves_decided_through_back(database):
    database.call(put_cron, HOURLY)
    decided = _only(database).decided_through
    move_clock(database, -3 * HOUR)
    database.call(put_cron, replace(HOURLY, schedule="0 */2 * * *"))
    assert _only(database).decided_through == decided


def test_other_changes_keep_what_is_undecided(database):
    database.call(put_cron, HOURLY)
    before = _only(database)
    move_clock(database, 3 * HOUR)
    database.call(put_cron, replace(HOURLY, payload={"kind": "long"}))
    after = _only(database)
    assert after.payload == {"kind": "long"}
    assert (after.decided_through, after.next_at) == (before.decided_through, before.next_at)


def test_a_declaration_that_changes_nothing_writes_nothing(database):
    database.call(put_cron, HOURLY)
    written = []
    with database.engine.begin() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *call: written.append(call[2]))
        put_cron(Session(connection), HOURLY)
    assert written
    assert all(statement.lstrip().startswith("SELECT") for statement in written)


def test_code_does_not_change_what_a_resource_declares(database):
    cron_id = database.call(put_cron, HOURLY, "resource")
    assert database.call(put_cron, replace(HOURLY, schedule="5 * * * *")) == cron_id
    assert (_only(database).schedule, _only(database).source) == (HOURLY.schedule, "resource")


def test_a_rebuilt_cron_task_is_a_new_one(database):
    first = database.call(put_cron, HOURLY)
    _late(database)
    database.call(decide_ticks)
    database.call(delete_cron, "report")
    move_clock(database, 5 * HOUR)
    assert database.call(put_cron, HOURLY) > first
    assert database.call(decide_ticks) == 0
    assert database.call(ticks, "report").total == 0


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"schedule": "61 * * * *"}, "schedule"),
        ({"schedule": None}, "schedule"),
        ({"payload": {"x": float("nan")}}, "payload"),
        ({"tag": "\x00"}, "tag"),
        ({"options": Options(priority=21)}, "priority"),
        ({"missed_run_policy": "Never"}, "missed_run_policy"),
        ({"concurrency_policy": "Perhaps"}, "concurrency_policy"),
        ({"pause_on_failure": "yes"}, "pause_on_failure"),
        ({"suspended": 1}, "suspended"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(database, changed, field):
    with pytest.raises(InvalidInput) as refused:
        database.call(put_cron, replace(HOURLY, **changed))
    assert refused.value.field == field
    assert database.call(crons) == []


def test_an_unknown_task_type_is_refused(database):
    with pytest.raises(UnknownTaskType):
        database.call(put_cron, replace(HOURLY, type="nobody"))


@pytest.mark.parametrize("verb", [delete_cron, pause_cron, resume_cron, ticks])
def test_a_cron_task_that_is_not_there_is_not_found(database, verb):
    with pytest.raises(NotFound, match="cron task nobody"):
        database.call(verb, "nobody")


def test_a_cron_task_that_cannot_be_decided_does_not_stop_the_others(database, caplog):
    database.call(declare_types, [Declaration("doomed")])
    database.call(put_cron, replace(HOURLY, name="a", type="doomed"))
    database.call(put_cron, replace(HOURLY, name="b"))
    with database.engine.begin() as connection:
        connection.execute(sa.delete(task_type).where(task_type.c.name == "doomed"))
    before = {each.name: each for each in database.call(crons)}
    move_clock(database, HOUR)
    assert database.call(decide_ticks) == 2
    told = [record.msg for record in caplog.records]
    assert [(entry["level"], entry["event"], entry["cron"]) for entry in told] == [("error", "cron_not_decided", "a")]
    assert [decision for decision, _, _ in _decisions(database, "b")] == ["run"]
    stuck = {each.name: each for each in database.call(crons)}["a"]
    assert stuck.decided_through == before["a"].decided_through, "its instants stay undecided"
    assert database.call(decide_ticks) == 0, "it is left alone for a while"
    move_clock(database, deciding.TRIED_AGAIN_AFTER / 1_000_000 + 1)
    database.call(declare_types, [Declaration("doomed")])
    database.call(put_cron, replace(HOURLY, name="a", type="doomed"))
    assert database.call(decide_ticks) == 1


def test_ticks_come_in_pages(database):
    database.call(put_cron, replace(HOURLY, concurrency_policy=ConcurrencyPolicy.ALLOW))
    for _ in range(3):
        _late(database)
        database.call(decide_ticks)
    page = database.call(ticks, "report", 2, 0)
    assert (page.total, len(page.items), page.has_more) == (3, 2, True)
    assert page.items[0].instant > page.items[1].instant
    (last,) = database.call(ticks, "report", 2, 2).items
    assert last.instant < page.items[1].instant


def test_namespaces_decide_their_own(database):
    database.call(put_cron, HOURLY)
    _late(database)
    with database.engine.begin() as connection:
        assert decide_ticks(Session(connection, "elsewhere")) == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(cron_task)).scalar_one() == 1
    assert database.call(decide_ticks) == 1
