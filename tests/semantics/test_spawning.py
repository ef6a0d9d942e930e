"""What a spawn stores: the children, what they inherit, and, when something is wrong with it, nothing."""

from fibflow import Options, Status, child
from fibflow.store.tasktypes import Declaration
from fix_semantics import serving


async def echo(ctx, n):
    return n


def kids(*payloads):
    return [child("kid", {"n": payload}) for payload in payloads]


def test_a_single_child_needs_no_list(workplace):
    async def parent(ctx, payload):
        return ctx.spawn(child("kid", {"n": 1})) if ctx.stage == 0 else [part.result for part in ctx.children]

    workplace.start(serving(parent=parent, kid=echo))
    assert workplace.outcome("parent", max_attempts=1).result == [1]


FORGETFUL = {
    "to spawn": (lambda ctx: kids(1), "holds children; return ctx.spawn(…) of them"),
    "to spawn the only one": (lambda ctx: child("kid", {"n": 1}), "holds children; return ctx.spawn(…) of them"),
    "to return it alone": (lambda ctx: [ctx.spawn(kids(1))], "holds what ctx.spawn or ctx.suspend gave; return that alone"),
}


def test_a_handler_that_forgets_to_spawn_fails(workplace):
    def forget(ctx, what: str):
        return FORGETFUL[what][0](ctx)

    async def forget_in_the_loop(ctx, what: str):
        return FORGETFUL[what][0](ctx)

    workplace.start(serving(forget=forget, forget_in_the_loop=forget_in_the_loop, kid=echo))
    for name in ("forget", "forget_in_the_loop"):
        for what, (_, said) in FORGETFUL.items():
            done = workplace.outcome(name, {"what": what})
            assert (what, done.status, done.attempt) == (what, Status.PERMANENTLY_FAILED, 1)
            assert said in done.error
    assert workplace.client.tasks(type="kid").total == 0


OPTIONS = ("priority", "timeout", "max_attempts", "backoff")
CHILD, RESOURCE, CODE, PARENT = ((n, 10.0 + n, 10 + n, 20.0 + n) for n in (1, 2, 3, 4))
GLOBAL = (0, 60.0, 3, 0.0)
WON = [
    ("declared", CHILD, PARENT, CHILD),
    ("applied", None, PARENT, RESOURCE),
    ("declared", None, PARENT, CODE),
    ("plain", None, PARENT, PARENT),
    ("plain", None, None, GLOBAL),
]
"""A child's type, what the child itself says, what its parent was given, and what holds."""


def options(values):
    return dict(zip(OPTIONS, values or (), strict=False))


def test_a_child_inherits_what_it_does_not_set(workplace):
    async def parent(ctx, type, own):
        return ctx.spawn([child(type, {"n": 1}, tag="own", **options(own))]) if ctx.stage == 0 else None

    app = serving(parent=parent, plain=echo)
    app.add("declared", echo, **options(CODE))
    app.add("applied", echo, **options(CODE))
    workplace.start(app)
    workplace.client.declare_types([Declaration("applied", Options(**options(RESOURCE)))], source="resource")
    for type, own, parents, expected in WON:
        done = workplace.outcome("parent", {"type": type, "own": own}, tag="parent's", **options(parents))
        (task,) = workplace.client.tasks(parent_id=done.id).items
        assert tuple(getattr(task, name) for name in OPTIONS) == expected
        assert task.tag == "own"


def test_a_child_may_be_due_later(workplace):
    async def parent(ctx, payload):
        return ctx.spawn([child("kid", {"n": 1}, delay=60)])

    workplace.start(serving(parent=parent, kid=echo))
    parent_id = workplace.client.enqueue("parent")
    workplace.becomes(parent_id, Status.SUSPENDED)
    (task,) = workplace.client.tasks(parent_id=parent_id).items
    assert (task.run_at - task.created_at).total_seconds() == 60


def test_a_context_belongs_to_one_task(workplace):
    seen = []

    async def parent(ctx, payload):
        seen.append(ctx.context)
        return ctx.spawn(kids(1), context=[b"first", None][ctx.stage]) if ctx.stage < 2 else "done"

    async def kid(ctx, n):
        return [ctx.context, ctx.tag]

    workplace.start(serving(parent=parent, kid=kid))
    done = workplace.outcome("parent", {"only": "mine"}, tag="mine")
    assert seen == [None, b"first", b"first"]
    for task in workplace.client.tasks(parent_id=done.id).items:
        assert (task.result, task.context, task.tag, task.payload) == ([None, None], None, None, {"n": 1})


BAD = [
    (lambda ctx: ctx.spawn([*kids(1), child("nobody")]), "'nobody' is not a task type"),
    (lambda ctx: ctx.spawn([*kids(1), child("kid", {"n": float("nan")})]), "payload: {'n': nan}"),
    (lambda ctx: ctx.spawn([*kids(1), "kid"]), "'kid' is not a task"),
    (lambda ctx: ctx.spawn([child(**{})]), "missing 1 required positional argument: 'type'"),
    (lambda ctx: ctx.spawn([]), "children: [] is empty"),
    (lambda ctx: ctx.spawn(kids(1), context="text"), "context: 'text' is not bytes"),
]
"""What a handler may return by mistake, and what the error says then."""


def test_a_bad_spawn_fails_the_attempt_and_creates_nothing(workplace):
    async def parent(ctx, case):
        return BAD[case][0](ctx)

    workplace.start(serving(parent=parent, kid=echo))
    for case, (_, said) in enumerate(BAD):
        done = workplace.outcome("parent", {"case": case}, max_attempts=1)
        assert (done.status, done.last_outcome) == (Status.PERMANENTLY_FAILED, "failed")
        assert said in done.error
        assert workplace.events(done.id) == ["created", "claimed", "started", "failed", "permanently_failed"]
    assert workplace.client.tasks().total == len(BAD)
