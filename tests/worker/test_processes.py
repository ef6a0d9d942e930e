"""The pool of children: what comes back from them, and that none outlives its call's end or its parent."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import psutil
import pytest

import child_entries
from fibflow.errors import InvalidInput, LeaseLost, Retry
from fibflow_worker.processes import ChildDied, ChildError, Processes


async def ignore(_value):
    pass


@asynccontextmanager
async def pool(size=1):
    processes = Processes(size)
    try:
        yield processes
    finally:
        await processes.close()


class Notes:
    """Takes notes, and lets a test wait for the first one: the pid of a child that is busy from then on."""

    def __init__(self):
        self.first = asyncio.get_running_loop().create_future()

    async def __call__(self, value):
        if not self.first.done():
            self.first.set_result(value)


@asynccontextmanager
async def running(processes, entry, key=None):
    """A call that is under way, and its child."""
    notes = Notes()
    call = asyncio.create_task(processes.run(entry, None, notes, key=key))
    yield call, psutil.Process(await notes.first)


def call_once(entry, argument, on_note=ignore):
    async def story():
        async with pool() as processes:
            return await processes.run(entry, argument, on_note)

    return asyncio.run(story())


def is_gone(process, within=2.0):
    """Whether it ends in time; nobody need have reaped it."""
    try:
        ending = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    with open(ending, "rb") as watched:
        return select.select([watched], [], [], within)[0] != []


def test_the_value_comes_back():
    assert call_once(child_entries.double, 21) == 42


def test_a_child_has_its_parents_folder_and_path_and_not_its_main_module():
    folder, path, main = call_once(child_entries.surroundings, None)
    assert (folder, path, main) == (os.getcwd(), sys.path, "")


def test_an_exception_comes_back_with_its_traceback():
    with pytest.raises(ChildError) as caught:
        call_once(child_entries.fail, "wrong")
    assert caught.value.type_name == "ValueError"
    assert isinstance(caught.value.original, ValueError)
    assert "in fail\n    raise ValueError(argument)" in caught.value.text
    assert "child.py" not in caught.value.text


def test_an_exception_that_does_not_pickle_comes_back_as_text():
    with pytest.raises(ChildError) as caught:
        call_once(child_entries.fail_unpicklably, "wrong")
    assert (caught.value.type_name, caught.value.original) == ("Local", None)
    assert "Local: wrong" in caught.value.text


def test_a_value_that_does_not_pickle_is_an_error_of_the_call():
    with pytest.raises(ChildError, match="pickle"):
        call_once(child_entries.unpicklable, None)


def test_retry_keeps_its_delay():
    with pytest.raises(ChildError) as caught:
        call_once(child_entries.retry, 2.5)
    assert isinstance(caught.value.original, Retry)
    assert caught.value.original.after == 2.5


def test_notes_arrive_in_order():
    notes = []

    async def take(value):
        notes.append(value)

    assert call_once(child_entries.note, [1, {"two": 2}, b"three"], take) == "noted"
    assert notes == [1, {"two": 2}, b"three"]


def test_a_refused_note_raises_in_the_child():
    async def refuse(_value):
        raise LeaseLost(7, 3, "progress")

    message = str(LeaseLost(7, 3, "progress"))
    assert call_once(child_entries.note_refused, 50, refuse) == ("LeaseLost", message, 3)


def test_a_child_is_used_again_also_after_an_error():
    async def story():
        async with pool() as processes:
            first = await processes.run(child_entries.pid, None, ignore)
            with pytest.raises(ChildError):
                await processes.run(child_entries.fail, "wrong", ignore)
            return first, await processes.run(child_entries.pid, None, ignore)

    first, second = asyncio.run(story())
    assert first == second != os.getpid()


def test_a_copy_that_a_call_forked_answers_nothing():
    async def story():
        async with pool() as processes:
            answers = [await processes.run(child_entries.fork, str(n), ignore) for n in range(3)]
            copies = psutil.Process(await processes.run(child_entries.pid, None, ignore)).children()
            return answers, [is_gone(copy) for copy in copies]

    answers, gone = asyncio.run(story())
    assert answers == [f"its parent {n}" for n in range(3)]
    assert all(gone)


def test_a_copy_that_a_call_forked_reports_nothing():
    taken = []

    async def take(value):
        taken.append(value)

    async def story():
        async with pool() as processes, asyncio.timeout(10):
            return await processes.run(child_entries.note_from_a_fork, None, take)

    assert "forked" in asyncio.run(story())
    assert taken == []


def test_the_second_call_waits_for_room():
    async def story():
        async with pool() as processes, running(processes, child_entries.until_cancelled, "one") as (first, _):
            second = asyncio.create_task(processes.run(child_entries.double, 1, ignore))
            assert processes.cancel("one", "drain")
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            assert first.done()
            return await first, await second

    assert asyncio.run(story()) == ("drain", 2)


def test_a_call_sees_the_reason_given_before_it_started():
    async def story():
        async with pool() as processes:
            call = asyncio.create_task(processes.run(child_entries.until_cancelled, None, ignore, key="one"))
            await asyncio.sleep(0)
            assert processes.cancel("one", "cancel")
            return await call, processes.cancel("one", "cancel")

    assert asyncio.run(story()) == ("cancel", False)


def test_cancelling_the_task_kills_a_child_that_spins_and_the_next_call_gets_another():
    async def story():
        async with pool() as processes, running(processes, child_entries.spin) as (call, child):
            call.cancel()
            await asyncio.wait([call], timeout=1)
            assert call.cancelled() and not child.is_running()
            assert await processes.run(child_entries.pid, None, ignore) != child.pid

    asyncio.run(story())


def test_a_killed_child_is_noticed_at_once():
    async def story():
        async with pool() as processes, running(processes, child_entries.spin) as (call, child):
            child.send_signal(signal.SIGKILL)
            with pytest.raises(ChildDied, match="SIGKILL") as caught:
                await asyncio.wait_for(call, 1)
            assert caught.value.status == -signal.SIGKILL
            assert await processes.run(child_entries.double, 1, ignore) == 2

    asyncio.run(story())


def test_a_child_that_died_while_idle_is_replaced():
    async def story():
        async with pool() as processes:
            child = psutil.Process(await processes.run(child_entries.pid, None, ignore))
            child.kill()
            await asyncio.gather(*(known.exit for known in processes._children))
            assert await processes.run(child_entries.double, 1, ignore) == 2

    asyncio.run(story())


def test_a_child_that_exits_tells_its_status():
    with pytest.raises(ChildDied, match="exited with status 3"):
        call_once(child_entries.leave, 3)


def test_what_a_child_started_goes_with_it_however_it_ends():
    async def story():
        async with pool() as processes:
            with pytest.raises(ChildDied):
                await processes.run(child_entries.start_and_leave, None, take)

    started = []

    async def take(pid):
        started.append(psutil.Process(pid))

    asyncio.run(story())
    assert [is_gone(process) for process in started] == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_child_leaves_the_polite_signals_to_its_parent(number):
    async def story():
        async with pool() as processes, running(processes, child_entries.until_cancelled, "one") as (call, child):
            child.send_signal(number)
            processes.cancel("one", "drain")
            return await call

    assert asyncio.run(story()) == "drain"


def test_closing_kills_busy_and_idle_children():
    async def story():
        processes = Processes(2)
        async with running(processes, child_entries.spin) as (call, busy):
            idle = psutil.Process(await processes.run(child_entries.pid, None, ignore))
            await processes.close()
            with pytest.raises(ChildDied):
                await call
            return busy, idle

    assert all(is_gone(child) for child in asyncio.run(story()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_spinning_child_does_not_outlive_its_parent(number):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, child_entries.__file__], stdout=subprocess.PIPE, env=environment) as parent:
        child = psutil.Process(int(next(iter(parent.stdout or ()))))
        parent.send_signal(number)
    assert is_gone(child)


def test_the_watcher_alone_ends_an_orphan():
    """Without the kernel's help, as on other systems: the parent's end of the socket is closed, and nothing else."""

    async def story():
        async with pool() as processes, running(processes, child_entries.spin) as (call, child):
            (known,) = processes._children
            known._hang_up()
            with pytest.raises(ChildDied, match="exited with status 1"):
                await call
            return child

    assert is_gone(asyncio.run(story()))


@pytest.mark.parametrize("function", [lambda link, argument: None, lambda *_: None, call_once.__get__(1)])
def test_a_function_that_a_child_cannot_import_is_refused(function):
    with pytest.raises(InvalidInput, match="cannot be imported by a child"):
        call_once(function, None)


def test_a_function_of_the_main_module_is_refused(monkeypatch):
    monkeypatch.setattr(child_entries.double, "__module__", "__main__")
    with pytest.raises(InvalidInput, match="main module"):
        call_once(child_entries.double, 1)


def test_an_argument_that_does_not_pickle_is_refused():
    with pytest.raises(InvalidInput, match="argument"):
        call_once(child_entries.double, lambda: None)
