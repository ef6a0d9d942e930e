"""What the tests of the pool run in its children: module-level functions, since a child imports them by name.

As a program it is a parent: it runs `spin` in a pool and prints the child's pid, until it is killed.
"""

import asyncio
import os
import subprocess
import sys
from typing import Any

from fibflow import errors
from fibflow_worker.child import Link


def double(_link: Link, argument: int) -> int:
    return 2 * argument


def pid(_link: Link, _argument: Any) -> int:
    return os.getpid()


def surroundings(_link: Link, _argument: Any) -> tuple[str, list[str], str]:
    return os.getcwd(), sys.path, sys.modules["__main__"].__dict__.get("__file__", "")


def fail(_link: Link, argument: str) -> None:
    raise ValueError(argument)


def fail_unpicklably(_link: Link, argument: str) -> None:
    class Local(Exception):
        pass

    raise Local(argument)


def retry(_link: Link, argument: float) -> None:
    raise errors.Retry("not yet", after=argument)


def leave(_link: Link, argument: int) -> None:
    os._exit(argument)


def fork(_link: Link, argument: str) -> str:
    copy = os.fork()
    return f"the copy {argument}" if copy == 0 else f"its parent {argument}"


def note_from_a_fork(link: Link, _argument: Any) -> str:
    told, answer = os.pipe()
    if os.fork() == 0:
        try:
            link.note("from the copy")
        except RuntimeError as error:
            os.write(answer, str(error).encode())
        os._exit(0)
    os.close(answer)
    return os.read(told, 1000).decode()


def start_and_leave(link: Link, _argument: Any) -> None:
    link.note(subprocess.Popen(["sleep", "60"]).pid)
    os._exit(3)


def note(link: Link, argument: list[Any]) -> str:
    for value in argument:
        link.note(value)
    return "noted"


def note_refused(link: Link, argument: Any) -> tuple[str, str, object]:
    try:
        link.note(argument)
    except errors.LeaseLost as error:
        return type(error).__name__, str(error), error.fence
    return "taken", "", None


def spin(link: Link, _argument: Any) -> None:
    link.note(os.getpid())
    while True:
        pass


def until_cancelled(link: Link, _argument: Any) -> str:
    link.note(os.getpid())
    while link.cancelled is None:
        pass
    return link.cancelled


def unpicklable(_link: Link, _argument: Any) -> Any:
    return lambda: None


async def parent() -> None:
    import child_entries  # by the name under which a child can import it
    from fibflow_worker.processes import Processes

    async def tell(child: int) -> None:
        print(child, flush=True)

    await Processes(1).run(child_entries.spin, None, tell)


if __name__ == "__main__":
    asyncio.run(parent())
