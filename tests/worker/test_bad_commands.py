"""Bad input, as a person meets it: real commands, exit code 2, one message that helps, nothing stored, no traceback."""

import json

import pytest

from fix_commands import HEAD, POOL, content, refused

BIG = b'{"a": "' + b"x" * (1 << 20) + b'"}'
NOT_JSON = ("payload: ", "is not JSON", 'write it as {"name": "value"}')
IN_THE_DATABASE = {
    "an unknown task type": (["enqueue", "resiz"], "type: 'resiz'", "start a worker that has its handler"),
    "a payload that is not JSON": (["enqueue", "resize", "{x"], *NOT_JSON, "'{x'"),
    "a payload that is NaN": (["enqueue", "resize", "NaN"], *NOT_JSON, "'NaN'"),
    "a NUL": (["enqueue", "resize", r'{"a": ["\u0000"]}'], "payload: ", r"'\x00'", "holds a NUL character; remove it"),
    "half a surrogate pair": (["enqueue", "resize", r'{"a": "\ud800"}'], *NOT_JSON, "low surrogate"),
    "bytes that are no text": (["enqueue", "resize", b'{"a": "\xff"}'], *NOT_JSON, r"\udcff"),
    "a tag that is no text": (["enqueue", "resize", "--tag", b"\xff"], "tag: ", r"'\udcff'", "remove it"),
    "a negative priority": (["enqueue", "resize", "--priority", "-21"], "priority: -21", "not between -20 and 20"),
    "a negative delay": (["enqueue", "resize", "--delay", "-1"], "delay: -1", "not between 0 and"),
    "a negative timeout": (["enqueue", "resize", "--timeout", "-1"], "timeout: -1", "not between 0.001 and"),
    "negative attempts": (["enqueue", "resize", "--max-attempts", "-1"], "max_attempts: -1", "not between 1 and"),
    "a negative age": (["prune", "--age", "-1"], "age: -1", "not between 0.001 and"),
    "a negative limit": (["list", "--limit", "-1"], "'--limit': -1", "not in the range"),
    "an endless wait": (["migrate", "--wait", "inf"], "wait: inf", "is not a number between 0 and"),
    "a wait that is no number": (["migrate", "--wait", "nan"], "wait: nan", "is not a number between 0 and"),
    "a negative wait": (["migrate", "--wait", "-1"], "wait: -1", "is not between 0 and"),
    "an empty installation": (["migrate", "--installation", ""], "installation: ''", "give it a value"),
    "a namespace that is no text": (["list", "--namespace", b"\xff"], "namespace: ", r"'\udcff'", "remove it"),
    "an empty namespace": (["list", "--namespace", ""], "namespace: ''", "give it a value"),
    "a cron task's name that is no text": (["cron", "pause", b"\xff"], "name: ", r"'\udcff'", "remove it"),
    "a type's name that is no text": (["pause-type", b"\xff"], "type: ", r"'\udcff'", "remove it"),
    "a number beyond 64 bits": (
        ["enqueue", "resize", '{"a": 12345678901234567890123}'],
        "payload: {'a': 123",
        "exceeds 64-bit",
    ),
    "a payload that is too deep": (
        ["enqueue", "resize", "[" * 9000 + "]" * 9000],
        "payload: '[[[",
        "nested",
        "make it flatter",
    ),
    "a task that is not there": (["show", "7"], "no task 7 in namespace 'default'; see `fibflow list`", "--namespace"),
    "a type that is not there": (["pause-type", "resiz"], "no task type resiz in namespace 'default'; see `fibflow types`"),
    "a cron task that is not there": (["cron", "pause", "a"], "no cron task a in namespace 'default'; see `fibflow cron list`"),
    "a task that cannot go on": (
        ["resume", "1"],
        "pending does not become pending; resume takes one that is paused or suspended",
    ),
    "an id that is no number": (["show", "abc"], "'ID': 'abc' is not a valid whole number"),
    "an id that is long": (["show", "x" * 5000], f"'ID': '{'x' * 79}... is not a valid whole number"),
}


@pytest.mark.parametrize(("arguments", "fragments"), [(c[0], c[1:]) for c in IN_THE_DATABASE.values()], ids=IN_THE_DATABASE)
def test_bad_input_is_refused_and_changes_nothing(fibflow, arguments, fragments, resizing, folder):
    before = content(resizing)
    refused(fibflow(*arguments, "--database", f"sqlite:///{resizing}"), *fragments)
    assert content(resizing) == before


def test_a_payload_from_stdin_that_is_no_text_is_refused(fibflow, resizing, folder):
    before = content(resizing)
    refused(
        fibflow("enqueue", "resize", "-", "--database", f"sqlite:///{resizing}", stdin=b'"\xff"'), "payload: ", "is not JSON"
    )
    assert content(resizing) == before


def test_a_payload_above_its_bound_is_refused(fibflow, resizing, folder):
    before = content(resizing)
    done = fibflow("enqueue", "resize", "-", "--database", f"sqlite:///{resizing}", stdin=BIG)
    refused(done, "payload: '1048584 bytes'", "longer than 1048576 bytes; store it elsewhere and pass a reference")
    assert content(resizing) == before


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("61 * * * *", "minute '61' is refused: write 0 to 59"),
        ("* * *", "schedule '* * *' has 3 fields: write five"),
        ("0 0 30 2 *", "schedule '0 0 30 2 *' can never fire: day of month 30 does not come in month 2; correct one"),
    ],
)
def test_a_bad_schedule_is_refused(fibflow, schedule, said, folder):
    refused(fibflow("cron", "next", schedule), said)


# ── manifests ─────────────────────────────────────────────────────────────────────────────────────────────────────

CRON = HEAD.format("CronTask")
TYPE = HEAD.format("TaskType")
MANIFESTS = {
    "an unknown key": (TYPE + "{timeoutSecond: 5}", "spec.timeoutSecond", "did you mean timeoutSeconds?"),
    "a syntax error": (
        TYPE + "{priority: 5",
        "it.yaml, line 4, column 19: 'spec: {priority: 5' is not YAML: expected ',' or '}'",
        "; mend the brackets or the indentation, or put text in quotes",
    ),
    "a tag of Python's": (
        TYPE + "{description: !!python/object/apply:os.getcwd []}",
        "line 4",
        "has the tag tag:yaml.org,2002:python/object/apply:os.getcwd, which is not obeyed here; remove it",
    ),
    "an anchor within itself": (TYPE + "&a {description: *a}", "line 4", "contains itself by an alias; write it out"),
    "an anchor that is not there": (TYPE + "{description: *a}", "line 4", "undefined alias"),
    "a negative number": (TYPE + "{timeoutSeconds: -1}", "spec.timeoutSeconds: -1", "is less than 1"),
    "a bad schedule": (CRON + "{taskTypeRef: {name: a}, schedule: '61 * * * *'}", "spec.schedule: '61 * * * *'", "minute"),
    "a schedule that never fires": (
        CRON + "{taskTypeRef: {name: a}, schedule: '0 0 30 2 *'}",
        "spec.schedule: '0 0 30 2 *'",
        "can never fire",
        "correct one of the two",
    ),
    "a NUL": (TYPE + r'{description: "a\0"}', "spec.description", r"'a\x00'", "remove it"),
    "a NUL in the environment": (
        HEAD.format("WorkerPool") + r"""{app: "a:b", env: [{name: A, value: "\0"}]}""",
        "spec.env[0].value",
        "remove it",
    ),
    "a name twice": (f"{POOL}---\n{POOL}", "metadata.name: 'it'", "names a WorkerPool already", "give it another name"),
    "a pool that is not there": (TYPE + "{workerPoolRef: {name: x}}", "spec.workerPoolRef.name: 'x'", "there is none"),
    "a kind that is not there": (POOL.replace("WorkerPool", "Pool"), "kind: 'Pool'", "is not one of CronTask, TaskType"),
    "another namespace": (POOL.replace("name: it", "name: it, namespace: x"), "metadata.namespace: 'x'", "--namespace"),
}


@pytest.mark.parametrize(("text", "fragments"), [(case[0], case[1:]) for case in MANIFESTS.values()], ids=MANIFESTS)
def test_a_bad_manifest_is_refused_before_anything_is_made(fibflow, text, fragments, folder):
    (folder / "it.yaml").write_text(text)
    refused(fibflow("dev", "-f", "it.yaml"), "it.yaml", *fragments)
    assert [each.name for each in folder.iterdir()] == ["it.yaml"]


def test_a_place_of_manifests_that_cannot_be_read_is_refused(fibflow, folder):
    (folder / "loop.yaml").symlink_to("loop.yaml")
    refused(fibflow("dev", "-f", "loop.yaml"), "file: ", "loop.yaml' does not exist", "give a YAML file or a folder of them")
    refused(fibflow("dev", "-f", "."), "folder: ", "holds no .yaml or .yml file; put manifests there")
    refused(fibflow("dev", "-f", ""), "file: '' is empty; give it a value")


# ── what is told on the way ───────────────────────────────────────────────────────────────────────────────────────


def test_what_a_command_did_is_told_as_json_where_nobody_reads_and_on_stderr_alone(fibflow, resizing, folder):
    place = ["--database", f"sqlite:///{resizing}"]
    quiet = fibflow(*place, "pause-type", "resize")
    told = fibflow("--log-level", "info", *place, "resume-type", "resize")
    assert (quiet.returncode, quiet.stderr, told.returncode) == (0, b"", 0)
    assert told.stdout == b"resume-type: resize\n"
    (event,) = map(json.loads, told.stderr.splitlines())
    assert (event["event"], event["type"], event["level"]) == ("type_resumed", "resize", "info")
