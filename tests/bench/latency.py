"""P3: how soon an idle worker starts a task while 100 a second come one by one, beside the bare loop and the peer."""

from functools import partial

from bench import lap
from bench.course import Course
from bench.figures import middle, percentile
from bench.report import Row, row

CONTESTANTS = {"ours": "ours", "bare": "floor_latency", "pgqueuer": "pgqueuer_peer"}
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
RATE = 100


def measure(course: Course) -> list[Row]:
    n = course.size(3_000, 500)
    runners = {name: partial(_percentiles, course, module, n) for name, module in CONTESTANTS.items()}
    runs = course.in_turns(course.rounds(5, 3), runners)
    at = {name: {share: middle([run[share] for run in of]) for share in SHARES} for name, of in runs.items()}
    detail = {"tasks": n, "medians": at, "runs": runs}
    beside_bare = [row(f"P3.{share}", at["ours"][share], at["bare"][share], **detail) for share in ("p50", "p99")]
    return beside_bare + [row(f"P3.{share}.peer", at["ours"][share], at["pgqueuer"][share]) for share in SHARES]


def _percentiles(course: Course, contestant: str, n: int) -> dict[str, float]:
    with course.database(contestant) as url, lap.begun(contestant, "watch", url=url, n=n) as worker:
        worker.wait_until_ready()
        lap.run(contestant, "enqueue_paced", url=url, n=n, rate=RATE)
        waits = worker.result()
    return {name: percentile(waits, share) for name, share in SHARES.items()}
