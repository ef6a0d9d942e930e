"""What each panel of the dashboard must show, as the database tells it.

A truth is a statement that gives a value, or a value for each label. A panel that shows a rate is asked for the last ten
minutes, which is longer than the installation has lived, so that rate times time is what happened since its start; it may be
off by a tenth, for Prometheus extrapolates to the ends of the window. What no row tells (how long a turn took, how many calls
were made) is between two bounds.
"""

from dataclasses import dataclass
from typing import Protocol

from e2e.releases import Prometheus
from manifests.test_dashboard import PANELS, QUERIES

WINDOW = 600
LEGENDS = {f"{panel['title']} {target['refId']}": target["legendFormat"] for panel in PANELS for target in panel["targets"]}


class Place(Protocol):
    """An installation, the Prometheus that watches it, and its database."""

    prometheus: Prometheus

    def sql(self, statement: str) -> str: ...


@dataclass(frozen=True)
class Truth:
    """A statement, by what the panel's value is to be multiplied, and how far it may be off."""

    statement: str
    times: float = 1
    relative: float = 0
    absolute: float = 0


@dataclass(frozen=True)
class Between:
    """Bounds of every value; there must be one."""

    low: float
    high: float


def state(statement: str) -> Truth:
    return Truth(statement)


def age(statement: str) -> Truth:
    """Seconds; some pass between looking there and looking here."""
    return Truth(statement, absolute=8)


def statistic(statement: str) -> Truth:
    """What the server itself knows only roughly, and somewhat later."""
    return Truth(statement, relative=0.3, absolute=60)


def count(statement: str) -> Truth:
    """What happened since the start, of a rate by the second."""
    return Truth(statement, WINDOW, 0.1, 0.4)


def increase(statement: str) -> Truth:
    """What happened since the start."""
    return Truth(statement, 1, 0.1, 0.4)


def as_sent(query: str) -> str:
    """A panel's query as Grafana would send it."""
    return query.replace("$__rate_interval", f"{WINDOW}s").replace("$namespace", ".*")


def differences(title: str, place: Place) -> list[str]:
    """Where what a panel shows is not what is so."""
    shown = _shown(title, place.prometheus.query(as_sent(QUERIES[title])))
    truth = ALL[title]
    if isinstance(truth, Between):
        wrong = {label: value for label, value in shown.items() if not truth.low <= value <= truth.high}
        return [f"{title} shows {wrong or 'nothing'}, not between {truth.low} and {truth.high}"] if wrong or not shown else []
    wanted = _rows(place.sql(truth.statement))
    found = {label: value * truth.times for label, value in shown.items()}
    if set(wanted) == {""}:  # the only series, whatever it is called
        found = dict(zip([""], found.values(), strict=False)) if len(found) == 1 else found
    off = [label for label in wanted.keys() | found.keys() if not _alike(truth, wanted.get(label), found.get(label))]
    return [f"{title} {label!r} shows {found.get(label)}, the database {wanted.get(label)}" for label in off]


def _alike(truth: Truth, wanted: float | None, found: float | None) -> bool:
    """A series that is not there is right where nothing is to be seen."""
    wanted, found = wanted or 0, found or 0
    return abs(found - wanted) <= max(truth.absolute, truth.relative * abs(wanted), 1e-6)


def _shown(title, series):
    def name(labels):
        text = LEGENDS[title]
        for label, value in labels.items():
            text = text.replace(f"{{{{{label}}}}}", value)
        return text

    # A quantile of nothing is not a number, and not drawn.
    return {name(each["metric"]): float(each["value"][1]) for each in series if each["value"][1] != "NaN"}


def _rows(text):
    rows = [line.rpartition("|") for line in text.splitlines()]
    return {label: float(value) for label, _, value in rows if value}


PENDING = "state IN ('ready', 'scheduled')"
RUNNING = "SELECT count(*) FROM fibflow.task WHERE state = 'running'"
SLOTS = "SELECT sum(slots) FROM fibflow.worker WHERE status = 'active'"
WORKERS = "SELECT count(*) FROM fibflow.worker WHERE status = 'active'"
BY_TYPE = "SELECT k.name, count(t.id) FROM fibflow.task_type k LEFT JOIN fibflow.{} t ON t.type_id = k.id AND {} GROUP BY 1"
OLDEST = (
    "SELECT {} (fibflow.fibflow_now() - min(t.run_at)) / 1e6 FROM fibflow.task t JOIN fibflow.task_type k ON k.id = t.type_id"
)
OLDEST += " WHERE t.state = 'ready' GROUP BY {}"
ENDED = "SELECT count(*) FROM fibflow.attempt"
FAILED = "SELECT count(*) FROM fibflow.task_final WHERE status = 'permanently_failed'"
BAD = "outcome IN ('failed', 'timeout')"
TABLES = "SELECT relname, {} FROM pg_stat_user_tables WHERE schemaname = 'fibflow' ORDER BY 2 DESC {}"
ALL: dict[str, Truth | Between] = {
    "Pending A": state(f"SELECT count(*) FROM fibflow.task WHERE {PENDING}"),
    "Oldest A": age(OLDEST.format("", "k.namespace")),
    "Running A": state(RUNNING),
    "Workers A": state(WORKERS),
    "Slots busy A": state(f"SELECT ({RUNNING})::float / ({SLOTS})"),
    "Leader A": state("SELECT count(*) FROM fibflow.installation"),
    "Pending by type A": state(BY_TYPE.format("task", PENDING)),
    "Oldest by type A": age(OLDEST.format("k.name,", "k.name")),
    "Arrivals and ends A": count(f"SELECT ({ENDED}) + ({RUNNING})"),
    "Arrivals and ends B": count(ENDED),
    "Slots A": state(SLOTS),
    "Slots B": state(RUNNING),
    "Slots C": state("SELECT 0"),
    "Workers that take tasks A": state(WORKERS),
    "Workers that take tasks B": state("SELECT 0"),
    "Pickup A": Between(0.0005, 1),
    "Pickup B": Between(0.0005, 5),
    "Attempt duration, 95 % A": Truth(
        "SELECT k.name, percentile_cont(0.95) WITHIN GROUP (ORDER BY (a.ended_at - a.started_at) / 1e6) FROM fibflow.attempt a"
        " JOIN fibflow.task_final t ON t.id = a.task_id JOIN fibflow.task_type k ON k.id = t.type_id GROUP BY 1",
        absolute=4,
    ),
    "Turn duration A": Between(0.0001, 1),
    "Turn duration B": Between(0.0001, 5),
    "Workers wanted and ready A": state(
        "SELECT namespace || '/' || name, replicas FROM fibflow.worker_pool WHERE name <> 'scaled'"
    ),
    "Workers wanted and ready B": state(
        "SELECT namespace || '/' || pool || ' ready', count(*) FROM fibflow.worker WHERE status = 'active' GROUP BY 1"
    ),
    "Slots of active workers A": state("SELECT namespace, sum(slots) FROM fibflow.worker WHERE status = 'active' GROUP BY 1"),
    "Decisions A": Between(0, 20),
    "Attempts by outcome A": count("SELECT outcome, count(*) FROM fibflow.attempt GROUP BY 1"),
    "Failing types A": Truth(
        f"SELECT k.name, avg((a.{BAD})::int) FROM fibflow.attempt a JOIN fibflow.task_final t ON t.id = a.task_id"
        " JOIN fibflow.task_type k ON k.id = t.type_id GROUP BY 1",
        absolute=0.02,
    ),
    "Retries and failures for good A": count(f"{ENDED} WHERE {BAD} AND became = 'pending'"),
    "Retries and failures for good B": count(FAILED),
    "Failed tasks that are kept A": state(BY_TYPE.format("task_final", "status = 'permanently_failed'")),
    "Database errors A": Between(0, 0.1),
    "Workers lost A": increase(
        "SELECT status, count(*) FROM fibflow.worker WHERE status IN ('reaped', 'superseded') GROUP BY 1"
    ),
    "Tasks taken back A": increase("SELECT 'reaped', sum(interruptions) FROM fibflow.task_final"),
    "Tasks taken back B": increase("SELECT 0"),
    "Late writes refused A": increase("SELECT verb, sum(count) FROM fibflow.stale_write GROUP BY 1"),
    "Lease age A": age("SELECT max(fibflow.fibflow_now() - renewed_at) / 1e6 FROM fibflow.worker WHERE status = 'active'"),
    "Instants decided A": increase("SELECT 'run', count(*) FROM fibflow.cron_tick WHERE decision = 'run'"),
    "Lag A": Between(0.001, 5),
    "Overdue A": state("SELECT 0"),
    "Paused by a failure A": state("SELECT count(*) FROM fibflow.cron_task WHERE paused_reason IS NOT NULL"),
    "Keys worked on A": Between(0, 50),
    "Keys waiting A": Between(0, 5),
    "Keys waiting B": Between(0, 5),
    "Batch duration, 95 % A": Between(0, 5),
    "Calls of the API server A": Between(0, 100),
    "What the leader reaches A": state("SELECT 1"),
    "What the leader reaches B": state("SELECT 1"),
    "Lead A": state("SELECT epoch FROM fibflow.installation"),
    "Lead B": state("SELECT refused FROM fibflow.installation"),
    "Oldest transaction A": Between(0, 30),
    "Dead rows A": statistic(TABLES.format("n_dead_tup", "LIMIT 5")),
    "Live rows A": statistic(TABLES.format("n_live_tup", "LIMIT 5")),
    "Size A": statistic(TABLES.format("pg_total_relation_size(relid)", "")),
    "Connections A": Truth("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'", absolute=6),
    "Connections B": state("SELECT current_setting('max_connections')"),
    "Claims use their index A": state("SELECT 1"),
    "Pruned A": count("SELECT 0"),
}
"""By a panel's title and the letter of its query."""
