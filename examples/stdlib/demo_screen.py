"""What a person sees of the demo: progress while it works, tables when it is over.

Only words and layout; what is true is decided in demo_claims.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo_claims import Claim, Recovery
from fibflow.model import Event, EventType, Task, TaskId
from fibflow.records import Tick
from inventory import Report

REMARKABLE = {
    EventType.FAILED: "[yellow]failed[/]",
    EventType.TIMED_OUT: "[yellow]timed out[/]",
    EventType.RETRY_STARTED: "was retried",
    EventType.RECOVERED: "[cyan]was recovered[/]",
    EventType.PERMANENTLY_FAILED: "[red]failed for good[/]",
}


class Screen:
    """A progress bar with lines above it; afterwards the findings."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._bar = self._progress.add_task("starting", total=None)
        self._told: set[tuple[int, int, EventType]] = set()
        self.waiting_for = "starting"

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def wait_for(self, what: str) -> None:
        self.waiting_for = what
        self._progress.update(self._bar, description=what)

    def progress(self, root: Task) -> None:
        if root.children:
            self._progress.update(self._bar, total=root.children, completed=root.children - root.open_children)

    def tell(self, events: Sequence[Event], tags: Mapping[TaskId, str | None]) -> None:
        """One line for each remarkable event that was not told yet."""
        for event in events:
            key = (event.task_id, event.attempt, event.type)
            if key not in self._told:
                self._told.add(key)
                name = tags.get(event.task_id) or event.task_type
                self.say(f"  {event.time:%H:%M:%S} [bold]{name}[/] (task {event.task_id}) {REMARKABLE[event.type]}")

    def report(self, report: Report) -> None:
        table = Table("package", title="The ten largest packages of the standard library", title_justify="left")
        for column in ("modules", "classes", "functions", "lines"):
            table.add_column(column, justify="right")
        for each in report.largest:
            table.add_row(each.name, *(f"{n:,}" for n in (each.modules, each.classes, each.functions, each.lines)))
        table.add_section()
        table.add_row("all", *(f"{n:,}" for n in (report.modules, report.classes, report.functions, report.lines)))
        self._console.print()
        self._console.print(table)
        if report.longest is not None:
            function = report.longest
            self.say(f"The longest function is {function.module}.{function.name} with {function.lines} lines.")

    def recovery(self, recovery: Recovery, events: Sequence[Event]) -> None:
        kill, start = recovery.kill, events[0].time
        title = f"What happened to task {events[0].task_id}"
        table = Table("seconds", "event", "attempt", "worker", title=title, title_justify="left")
        rows = [(event.time, str(event.type), str(event.attempt), str(event.worker_id or "")) for event in events]
        killed = (kill.time, "[red]SIGKILL[/]", "", str(kill.worker.id))
        for time, what, attempt, worker in sorted([*rows, killed], key=lambda row: row[0]):
            table.add_row(f"{(time - start).total_seconds():7.3f}", what, attempt, worker)
        self._console.print()
        self._console.print(table)
        by = recovery.recovered_by
        self.say(
            f"Worker {kill.worker.id} in pod {kill.worker.pod_id} lost it; "
            + (f"worker {by.id} in pod {by.pod_id}" if by else "another")
            + f" recovered it {recovery.after.total_seconds():.2f} s after the kill ({escape(recovery.cause)})."
        )

    def ticks(self, ticks: Sequence[Tick]) -> None:
        table = Table("instant", "decision", "task", title="Cron ticks beside it", title_justify="left")
        for tick in ticks:
            table.add_row(f"{tick.instant:%H:%M:%S}", tick.reason or tick.decision, str(tick.task_id or ""))
        self._console.print()
        self._console.print(table)

    def claims(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        self.say("")
        for claim in claims:
            mark = "[green]✓[/]" if claim.holds else "[red]✗[/]"
            self.say(f"{mark} {claim.sentence}: {claim.found}.")
        return claims

    def gave_up(self, reason: str, details: Sequence[str] = ()) -> int:
        self._console.print(f"\n[red]The demo failed:[/] {escape(reason)}", soft_wrap=True)
        for detail in details:
            self._console.print(detail, markup=False, soft_wrap=True)
        return 1

    def done(self) -> int:
        self.say(NEXT)
        return 0


NEXT = """
Try next, with .venv/bin on your PATH and FIBFLOW_DATABASE=sqlite:////tmp/stdlib.db in two terminals:
  fibflow dev -f examples/stdlib/manifests          run the same and keep it running
  fibflow enqueue index_stdlib '{"report_path": "/tmp/report.json"}'
  fibflow list, fibflow tree ID, fibflow show ID    look at it from the other terminal
  fibflow resume ID --reason "read and approved"    let it write its report"""
