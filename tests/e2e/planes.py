"""An operator on trial: a namespace, a database, a proxy between the operator and the API server, operator processes.

Each process runs under the ServiceAccount's name with the rules of operator/rbac.yaml and nothing else. What the proxy
saw of it is kept for the one test that compares all calls with these rules.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import yaml

from cluster import Access
from cluster.calls import Call
from cluster.proxy import Proxy
from cluster.waiting import until

ROOT = Path(__file__).parents[2]
RBAC = ROOT / "operator" / "rbac.yaml"
DEFINITIONS = sorted((ROOT / "crds").glob("*.yaml"))
FULL = os.environ.get("FIBFLOW_E2E") == "full"
ONLY_IN_FULL = pytest.mark.skipif(not FULL, reason="takes long; make e2e runs it")
CHANGES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|WITH|TRUNCATE|CREATE|DROP|ALTER)\b| FOR (UPDATE|SHARE)\b", re.IGNORECASE)
HARMLESS = re.compile(r"pg_stat_statements|^EXPLAIN \(FORMAT JSON\)")
"""Our own counting, and the plan of a statement that is not run."""
SEEN: list[Call] = []
"""Every call that an operator made in this run."""


def rules() -> list[dict[str, Any]]:
    """The rules of all roles of operator/rbac.yaml."""
    return rules_of("ClusterRole") + rules_of("Role")


def rules_of(kind: str) -> list[dict[str, Any]]:
    """The rules of the roles of a kind."""
    return [rule for role in yaml.safe_load_all(RBAC.read_text()) if role["kind"] == kind for rule in role["rules"]]


class Process:
    """One operator."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=ROOT)

    @property
    def memory(self) -> int:
        """Bytes, resident."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(20)

    def exit_code(self, seconds: float = 30) -> int:
        """The code with which it ends by itself."""
        return self._process.wait(seconds)

    @property
    def health(self) -> tuple[int, str]:
        """What /healthz answers: the status, and what is wrong; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    @property
    def running(self) -> bool:
        return self._process.poll() is None


class Plane:
    """The control plane of one namespace."""

    def __init__(self, cluster: Access, proxy: Proxy, namespace: str, url: str, folder: Path) -> None:
        self.cluster, self.proxy, self.namespace, self.url = cluster, proxy, namespace, url
        self._folder = folder
        self._started: list[Process] = []
        self._without_rights = False
        self.user = f"system:serviceaccount:{namespace}:fibflow-operator"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        self.kubeconfig = proxy.kubeconfig(folder / "operator", self.user, groups)

    def grant(self) -> None:
        """Give the operator's account its rights in the namespace."""
        account = {"kind": "ServiceAccount", "name": "fibflow-operator", "namespace": self.namespace}
        bindings = [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"fibflow-operator-{kind.lower()}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "fibflow-operator"},
                "subjects": [account],
            }
            for kind in ("ClusterRole", "Role")
        ]
        self.cluster.apply("\n---\n".join([RBAC.read_text(), *map(json.dumps, bindings)]), self.namespace)
        until(self._granted, 30, "the API server has heard of the rights")

    def _granted(self) -> bool:
        """Whether both bindings are in force: a busy API server takes a moment to hear of what it has stored."""
        rights = (("list", "tasktypes"), ("get", "leases"))
        asked = ("--namespace", self.namespace, "--as", self.user)
        try:
            return all("yes" in self.cluster.kubectl("auth", "can-i", *right, *asked) for right in rights)
        except RuntimeError:  # kubectl says no by its exit code
            return False

    def start(self, *options: str, url: str | None = None, installation: str = "test/fibflow") -> Process:
        """Start an operator; it is ended with the test."""
        number, port = len(self._started) + 1, _free_port()
        command = [sys.executable, "-m", "fibflow_operator", "--database", url or self.url, "--installation", installation]
        command += ["--namespaces", self.namespace, "--lease-namespace", self.namespace, "--identity", f"operator-{number}"]
        command += ["--kubeconfig", str(self.kubeconfig), "--port", str(port), "--log-level", "DEBUG"]
        started = Process([*command, *options], port, self._folder / f"operator-{number}.log")
        self._started.append(started)
        return started

    def end(self) -> None:
        for process in self._started:
            with suppress(ProcessLookupError):
                process.send(signal.SIGCONT)
            process.end(signal.SIGKILL)
        SEEN.extend(call for call in self.proxy.journal.calls(user=self.user) if not self._doomed(call))

    def delete_namespace(self) -> None:
        """Delete the namespace, with the rights that were granted in it."""
        self._without_rights = True
        self.cluster.kubectl("delete", "namespace", self.namespace, "--timeout=60s")

    def _doomed(self, call: Call) -> bool:
        return self._without_rights and call.status == 403

    # ── resources ─────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, *resources: dict[str, Any]) -> None:
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources)}), self.namespace)

    def create(self, kind: str, resource: dict[str, Any]) -> None:
        """Create without kubectl, which would pay more attention to the text than we want."""
        self.cluster.api.call_api(*self._request("POST", f"{kind.lower()}s", resource)).read()

    def change(self, kind: str, name: str, **spec: Any) -> None:
        """Change some of a spec, and return as soon as the API server has answered, which kubectl does later."""
        request = self._request("PATCH", f"{kind.lower()}s/{name}", {"spec": spec}, "application/merge-patch+json")
        answer = self.cluster.api.call_api(*request)
        assert answer.status == 200, answer.read()

    def delete(self, kind: str, name: str) -> None:
        self.cluster.kubectl("delete", "--namespace", self.namespace, kind.lower(), name, "--wait=false")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        answer = self.cluster.api.call_api(*self._request("GET", f"{kind.lower()}s/{name}"))
        found: dict[str, Any] = json.loads(answer.read())
        return found

    def _request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        place = f"/apis/fibflow.dev/v1alpha1/namespaces/{self.namespace}/{path}"
        headers = {"Accept": "application/json", "Content-Type": content}
        return self.cluster.api.param_serialize(method, place, header_params=headers, body=body)

    def condition(self, kind: str, name: str, type_: str = "Ready") -> dict[str, Any]:
        """A condition of a resource, {} while it has none."""
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), {})

    def wait_condition(self, kind: str, name: str, type_: str = "Ready", seconds: float = 20, **fields: str) -> dict[str, Any]:
        """The condition once it has these fields."""

        def fits() -> bool:
            found = self.condition(kind, name, type_)
            return all(found.get(field) == value for field, value in fields.items()) and bool(found)

        try:
            until(fits, seconds, f"{kind} {name} has {type_} {fields}")
        except Exception as failure:
            failure.add_note(f"it is {self.get(kind, name).get('status')}\n{self.logs()}")
            raise
        return self.condition(kind, name, type_)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def sql(self, statement: str, *arguments: object) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def wait_sql(self, wanted: object, statement: str, *arguments: object, seconds: float = 20) -> None:
        """Return once a statement's only value is as wanted."""
        found: list[Any] = []

        def fits() -> bool:
            with suppress(psycopg.Error):
                found[:] = self.sql(statement, *arguments)
            return bool(found) and found[0][0] == wanted

        try:
            until(fits, seconds, f"{statement} {arguments} is {wanted!r}")
        except Exception as failure:
            failure.add_note(f"it is {found}\n{self.logs()}")
            raise

    def logs(self) -> str:
        """The end of each operator's log."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self._folder.glob("*.log")))

    def wait_log(self, text: str, number: int = 1, seconds: float = 20) -> None:
        """Return once an operator has said this."""
        log = self._folder / f"operator-{number}.log"
        until(lambda: text in log.read_text(), seconds, f"operator {number} says {text}")

    def api_writes(self) -> list[Call]:
        """What operators wrote, the Lease aside."""
        return [call for call in self.proxy.journal.calls(user=self.user) if call.writes and call.resource != "leases"]

    def statements(self) -> list[str]:
        """What was run since the last time that changes or locks anything; [] where the server does not keep count."""
        with suppress(psycopg.Error):
            self.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            here = "dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            found = [query for (query,) in self.sql(f"SELECT query FROM pg_stat_statements WHERE {here}")]
            self.sql("SELECT pg_stat_statements_reset()")
            return [query for query in found if CHANGES.search(query) and not HARMLESS.search(query)]
        return []

    def rows_written(self) -> int:
        """Rows that were inserted, changed or deleted in fibflow's tables, as the server counts them."""
        tables = "sum(n_tup_ins + n_tup_upd + n_tup_del)"
        return int(self.sql(f"SELECT {tables} FROM pg_stat_user_tables WHERE schemaname = 'fibflow'")[0][0])


@contextmanager
def plane(cluster: Access, proxy: Proxy, namespace: str, url: str, folder: Path) -> Iterator[Plane]:
    made = Plane(cluster, proxy, namespace, url, folder)
    made.grant()
    try:
        yield made
    finally:
        made.end()


def resource(kind: str, name: str, /, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "fibflow.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def task_type(name: str, /, **spec: Any) -> dict[str, Any]:
    return resource("TaskType", name, **spec)


def cron_task(name: str, type_: str = "work", /, schedule: str = "0 3 * * *", **spec: Any) -> dict[str, Any]:
    return resource("CronTask", name, taskTypeRef={"name": type_}, schedule=schedule, **spec)


def quiet(sample: Callable[[], object], seconds: float) -> bool:
    """Whether a sample stays as it is for so long."""
    before, begin = sample(), time.monotonic()
    while time.monotonic() - begin < seconds:
        if sample() != before:
            return False
        time.sleep(0.2)
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
