"""The keyed executor: calls about one key one at a time, about several side by side, and none is forgotten."""

import asyncio
from functools import partial

from fibflow_operator.keyed_executor import KeyedExecutor


class Stage:
    """An executor, what it ran, and how often it asked to look anew. A call ends when it is let go."""

    def __init__(self, most: int = 2) -> None:
        self.executor = KeyedExecutor(most, self._again)
        self.begun: list[str] = []
        self.anew = 0
        self.go = asyncio.Event()

    def _again(self) -> None:
        self.anew += 1

    async def act(self, name: str) -> None:
        self.begun.append(name)
        await self.go.wait()

    async def end(self) -> None:
        self.go.set()
        await self.executor.wait(10)
        await asyncio.sleep(0)


def told(story):
    asyncio.run(asyncio.wait_for(story(), 20))


def test_one_that_lasts_holds_no_other_up_but_what_is_beyond_the_most():
    async def story():
        stage = Stage(most=2)
        for name in ("one", "two", "three"):
            stage.executor.submit(name, partial(stage.act, name))
        await asyncio.sleep(0.01)
        assert stage.begun == ["one", "two"]
        await stage.end()
        assert stage.begun == ["one", "two", "three"]

    told(story)


def test_what_is_left_out_is_looked_at_anew_when_the_act_ends():
    async def story():
        stage = Stage()
        stage.executor.submit("one", partial(stage.act, "first"))
        await asyncio.sleep(0)
        stage.executor.submit("one", partial(stage.act, "second"))
        assert stage.anew == 0
        await stage.end()
        assert (stage.begun, stage.anew) == (["first"], 1)

    told(story)


def test_an_act_that_is_begun_as_soon_as_one_has_ended_is_done():
    async def story():
        stage = Stage()
        stage.go.set()

        async def ends_in_a_step():
            asyncio.get_running_loop().call_soon(stage.executor.submit, "one", partial(stage.act, "second"))

        stage.executor.submit("one", ends_in_a_step)
        while not stage.begun and not stage.anew:
            await asyncio.sleep(0)
        await stage.end()
        assert (stage.begun, stage.anew) == (["second"], 0)

    told(story)


def test_what_lasts_is_cancelled_at_the_end():
    async def story():
        stage = Stage()
        ended = asyncio.Event()

        async def lasts():
            try:
                await stage.act("one")
            finally:
                ended.set()

        stage.executor.submit("one", lasts)
        await asyncio.sleep(0)
        await stage.executor.shutdown()
        assert ended.is_set()

    told(story)
