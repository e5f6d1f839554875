"""app.preload."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from unified_llm.app.preload import Preload
from unified_llm.domain.errors import UnknownModel
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.settings.schema import Settings

LIMIT = Seconds(7)


class Scheduler:
    """Stands for SchedulerLoop: keeps what it is asked, and knows no model called `missing`."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[ModelId] = asyncio.Queue()

    async def ensure_loaded(
        self, model: ModelId, principal: str, *, timeout: Seconds, by_hand: bool
    ) -> None:
        assert principal.startswith("uid:")
        assert (timeout, by_hand) == (LIMIT, False)
        self.asked.put_nowait(model)
        if model == "missing":
            raise UnknownModel(f"There is no model {model}.", hint="None.")

    async def loads(self, *expected: str) -> bool:
        """Whether these are what it is asked next, in this order."""
        return [await self.asked.get() for _ in expected] == list(expected)


def settings(**preload: bool) -> Settings:
    models: dict[str, Any] = {
        model: {"path": f"/m/{model}.gguf", "preload": is_wanted}
        for model, is_wanted in preload.items()
    }
    return Settings.model_validate({"models": models})


@asynccontextmanager
async def at_work(
    scheduler: Scheduler, plenty: asyncio.Event | None = None
) -> AsyncIterator[Preload]:
    if plenty is None:
        plenty = asyncio.Event()
        plenty.set()

    async def wait() -> None:
        await plenty.wait()

    preload = Preload(scheduler, load_limit=LIMIT, plenty=wait)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(preload.run())
        yield preload
        task.cancel()


async def test_what_is_wanted_is_loaded_and_nothing_else() -> None:
    scheduler = Scheduler()
    async with at_work(scheduler) as preload:
        preload.follow(settings(b=True, a=True, c=False))
        assert await scheduler.loads("a", "b")
        assert scheduler.asked.empty()


async def test_a_model_that_does_not_load_stands_in_nobodys_way() -> None:
    scheduler = Scheduler()
    async with at_work(scheduler) as preload:
        preload.follow(settings(missing=True, other=True))
        assert await scheduler.loads("missing", "other")


async def test_a_reload_loads_what_it_adds_and_not_what_has_left_since() -> None:
    scheduler = Scheduler()
    async with at_work(scheduler) as preload:
        preload.follow(settings(a=True))
        assert await scheduler.loads("a")
        preload.follow(settings(a=True, b=True))
        assert await scheduler.loads("b")
        preload.follow(settings(a=False))
        preload.follow(settings(a=True))
        assert await scheduler.loads("a")


async def test_nothing_is_preloaded_on_battery() -> None:
    scheduler, plenty = Scheduler(), asyncio.Event()
    async with at_work(scheduler, plenty) as preload:
        preload.follow(settings(cat=True))
        for _ in range(20):
            await asyncio.sleep(0)
        assert scheduler.asked.empty()
        plenty.set()
        assert await scheduler.loads("cat")
