"""The operator's rights: what it did, as the proxy saw it in the whole run, is what operator/rbac.yaml allows.

This file's name makes it the last of those that start operators, and it does itself what needs a reason to be done.
"""

from cluster.calls import rules as needed
from e2e import planes
from e2e.planes import cron_task, resource, task_type


def allowed() -> set[tuple[str, str, str]]:
    return {
        (group, name, verb)
        for rule in planes.rules()
        for group in rule["apiGroups"]
        for name in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_calls_of_the_whole_run_are_the_rules_and_none_was_denied(plane):
    plane.apply(task_type("work"), resource("WorkerPool", "pool", app="a:b"), cron_task("wrong", schedule="0 0 30 2 *"))
    plane.start()
    plane.wait_condition("CronTask", "wrong", status="False")
    plane.wait_condition("WorkerPool", "pool", "Synced", status="True")
    plane.proxy.journal.wait_for(verb="create", resource="events", user=plane.user)
    plane.proxy.journal.wait_for(verb="update", resource="leases", user=plane.user)
    seen = [*planes.SEEN, *plane.proxy.journal.calls(user=plane.user)]
    assert [call for call in seen if call.status == 403 and not call.fault] == []
    assert needed(seen) == allowed()
