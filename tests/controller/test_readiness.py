"""An operator takes the place of a former one only when it has seen that the database is one for it."""

import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from cluster.waiting import until
from scraping import free_port

NO_API = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
"""


@pytest.fixture
def start(tmp_path):
    """Starts an operator on a database, without an API server; the process, and how it answers a path."""
    (tmp_path / "kubeconfig").write_text(NO_API)
    started = []

    def run(url):
        port = free_port()
        command = [sys.executable, "-m", "fibflow_operator", "--database", url, "--installation", "shop/fibflow"]
        command += ["--kubeconfig", str(tmp_path / "kubeconfig"), "--lease-namespace", "shop", "--port", str(port)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)

        def ask(path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return answer.status
            except urllib.error.HTTPError as refused:
                return refused.code
            except OSError:
                return 0

        return process, ask

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_an_operator_is_ready_when_it_has_seen_its_database_whether_or_not_there_is_an_api_server(start, postgres_url):
    _, ask = start(postgres_url)
    until(lambda: ask("/readyz") == 200, 30, "it is ready")
    assert ask("/healthz") == 200


def test_an_operator_whose_database_is_away_lives_and_is_not_ready(start):
    process, ask = start("postgresql://nobody@127.0.0.1:1/nowhere")
    until(lambda: ask("/healthz") == 200, 30, "it answers")
    line = next(line for line in process.stderr if "database_awaited" in line)
    assert "nowhere" in line
    assert (ask("/healthz"), ask("/readyz")) == (200, 503)


def test_an_operator_that_is_not_for_the_database_ends_without_ever_being_ready(start, postgres_url):
    server, _, _ = postgres_url.rpartition("/")
    process, ask = start(f"{server}/postgres")
    seen = set()
    while process.poll() is None:
        seen.add(ask("/readyz"))
    assert process.returncode == 2 and 200 not in seen
