"""The parts of tests/cluster that need no cluster: what is left out and why, the cache, and what a request asks for."""

import os
import sys

import pytest

import fix_cluster
from cluster import __main__ as command
from cluster import cache, calls
from cluster.calls import Call
from cluster.faults import Answer, Rule

NOBODY = Call("list", "", "pods", "default", "", "nobody", "/api/v1/namespaces/default/pods")


@pytest.fixture
def not_root(monkeypatch):
    """As somebody else than root, of whom nothing is known beyond that."""
    for name in ("CI", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_without_the_means_the_tests_are_skipped_for_one_reason(not_root):
    with pytest.raises(pytest.skip.Exception, match="no cluster can be had here: only root may"):
        fix_cluster.leave_out()


def test_without_the_means_ci_fails(not_root, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="only root may"):
        fix_cluster.leave_out()


def test_with_another_cluster_what_needs_our_own_is_skipped(not_root, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    with pytest.raises(pytest.skip.Exception, match="KUBECONFIG is set"):
        fix_cluster.leave_out()


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_the_build_says_in_one_line_what_is_left_out(not_root, monkeypatch, capsys, ci, code):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(sys, "argv", ["cluster", "build"])
    assert command.main() == code
    (line,) = capsys.readouterr().out.splitlines()
    assert "left out: only root may make namespaces" in line


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A cache with nothing in it."""
    monkeypatch.setenv("FIBFLOW_CACHE", str(tmp_path / "cache"))


def test_an_entry_is_made_once_for_the_same_sources(empty_cache, tmp_path):
    source = tmp_path / "source"
    source.write_text("one")
    made = []

    def make(path):
        made.append(path)
        path.write_text(source.read_text())

    paths = [cache.entry("thing", [source], make) for _ in range(2)]
    source.write_text("two")
    paths.append(cache.entry("thing", [source], make))
    assert len(made) == 2 and paths[0] == paths[1] != paths[2]
    assert [path.read_text() for path in paths] == ["one", "one", "two"]


def test_an_entry_that_failed_is_not_there(empty_cache):
    def fail(path):
        path.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.entry("thing", "x", fail)
    with pytest.raises(FileNotFoundError):
        cache.entry("thing", "x", fail, build=False)


CRONS = "/apis/fibflow.dev/v1alpha1"


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/a/pods", {"watch": "true"}, ("watch", "", "pods", "a", "")),
        ("GET", "/api/v1/namespaces/a/pods/b", {}, ("get", "", "pods", "a", "b")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", {}, ("get", "", "pods/log", "a", "b")),
        ("POST", "/api/v1/namespaces/a/pods/b/eviction", {}, ("create", "", "pods/eviction", "a", "b")),
        ("GET", "/api/v1/namespaces", {"watch": "1"}, ("watch", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/a", {}, ("get", "", "namespaces", "", "a")),
        ("PUT", "/api/v1/namespaces/a/finalize", {}, ("update", "", "namespaces/finalize", "", "a")),
        ("PATCH", f"{CRONS}/namespaces/a/crontasks/b/status", {}, ("patch", "fibflow.dev", "crontasks/status", "a", "b")),
        ("DELETE", f"{CRONS}/namespaces/a/crontasks/b", {}, ("delete", "fibflow.dev", "crontasks", "a", "b")),
        ("DELETE", f"{CRONS}/namespaces/a/crontasks", {}, ("deletecollection", "fibflow.dev", "crontasks", "a", "")),
        ("GET", "/readyz", {}, ("get", "", "", "", "")),
        ("GET", "/apis/apps/v1", {}, ("get", "", "", "", "")),
    ],
)
def test_a_request_is_read_in_the_words_of_rbac(method, path, query, expected):
    call = calls.read(method, path, query, "ann")
    assert (call.verb, call.group, call.resource, call.namespace, call.name) == expected


def test_a_caller_is_known_by_certificate_then_by_token():
    subject = ((("organizationName", "testers"),), (("commonName", "ann"),))
    assert calls.caller({"subject": subject}, "") == calls.Caller("ann", ("testers",), certified=True)
    assert calls.caller(None, "Bearer x.eyJzdWIiOiJzeXN0ZW06bWUifQ.y").user == "system:me"
    assert calls.caller(None, "Bearer nonsense").user == "unknown token"
    assert calls.caller(None, "").user == calls.ANONYMOUS


def test_a_fault_befalls_so_many_calls_that_fit():
    rule = Rule(Answer(500), {"verb": "list"}, times=1)
    assert [rule.takes(calls.read(method, NOBODY.path, {}, "x")) for method in ("POST", "GET", "GET")] == [False, True, False]
