import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from tests.fakes.leases import FakeLeases
from tests.fakes.timers import FakeTimers, settle
from tests.pictures import png_of
from tests.unit.fleet.asking import CALLER, request
from unified_llm.domain.chat import (
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    ReasoningDelta,
    Role,
    Sampling,
    TextDelta,
    Usage,
)
from unified_llm.domain.errors import (
    InvalidRequest,
    Quarantined,
    QueueFull,
    RequestTimedOut,
    TooLarge,
    UnifiedLlmError,
    WorkerDied,
)
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.domain.ports import Lease
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.fleet import pictures
from unified_llm.fleet.backend import Deadlines, LocalBackend
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.generation_stream import GenerationStream, Order, WorkerLeavingError
from unified_llm.fleet.png import PngHead, parse_png_head
from unified_llm.fleet.poison import Quarantine
from unified_llm.worker.protocol import Delta, Done, Failed, Started


class OneStream:
    """A worker that has one request; the test writes its frames."""

    def __init__(self) -> None:
        self.stream = GenerationStream(1, b"")
        self.orders: list[Order] = []
        self.open_streams = 0
        self.is_leaving = False
        self.has_left = asyncio.Event()
        self.waited_for: list[int] = []

    def open_stream(
        self, lease: Lease, order: Order
    ) -> AbstractAsyncContextManager[GenerationStream]:
        self.orders.append(order)
        return self._open()

    async def left(self, lease: Lease) -> None:
        self.waited_for.append(lease.generation)
        await self.has_left.wait()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[GenerationStream]:
        if self.is_leaving:
            raise WorkerLeavingError
        self.open_streams += 1
        try:
            yield self.stream
        finally:
            self.open_streams = 0


class Scene:
    """A backend and everything around it."""

    def __init__(self) -> None:
        self.timers = FakeTimers()
        self.leases = FakeLeases()
        self.worker = OneStream()
        self.put = self.worker.stream.put
        self.quarantine = Quarantine(b"key")
        self.backend = LocalBackend(
            Dispatch(self.leases, self.worker, self.quarantine, self.timers),
            self.timers,
            Deadlines(),
        )
        self.heard: list[object] = []

    async def listen(self, asked: ChatRequest | None = None) -> None:
        """Write down every event, and the error that ended them."""
        try:
            async with self.backend.chat(asked or request(), CALLER) as events:
                async for event in events:
                    self.heard.append(event)
        except UnifiedLlmError as error:
            self.heard.append(error)

    @property
    def error(self) -> object:
        return self.heard[-1]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def delta(text: str = "a") -> Delta:
    return Delta(id=1, text=text)


STARTED = Started(id=1, prompt_tokens=3, cached_tokens=1)
DONE = Done(id=1, reason=FinishReason.LENGTH, prompt_tokens=3, completion_tokens=2, cached_tokens=1)


async def test_frames_become_events_with_their_times(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.listen())
        await scene.timers.advance(1)
        scene.put(STARTED)
        await scene.timers.advance(1)
        scene.put(delta("ab"))
        await scene.timers.advance(0.5)
        scene.put(delta("c"))
        scene.put(DONE)
    usage = Usage(Tokens(3), Tokens(2), Tokens(1))
    assert scene.heard == [
        TextDelta("ab"),
        TextDelta("c"),
        Finished(FinishReason.LENGTH, usage, first_token=Seconds(2.0), total=Seconds(2.5)),
    ]
    assert scene.worker.orders[0].principal == "uid:1000"
    assert scene.leases.out == 0


class Workers:
    """Answers each order at once, with its seed."""

    def __init__(self) -> None:
        self.seeds: list[int | None] = []

    @asynccontextmanager
    async def open_stream(self, lease: Lease, order: Order) -> AsyncIterator[GenerationStream]:
        assert isinstance(order.request, ChatRequest)
        self.seeds.append(order.request.sampling.seed)
        stream = GenerationStream(1, order.fingerprint)
        stream.put(delta(str(order.request.sampling.seed)))
        stream.put(DONE)
        yield stream

    async def left(self, lease: Lease) -> None:
        raise AssertionError("no worker leaves")


async def test_several_choices_are_asked_for_with_a_lease_and_a_seed_each() -> None:
    timers, leases = FakeTimers(), FakeLeases()
    workers = Workers()
    dispatch = Dispatch(leases, workers, Quarantine(b"key"), timers)
    asked = replace(request(), choices=3, sampling=Sampling(seed=7))
    async with LocalBackend(dispatch, timers, Deadlines()).chat(asked, CALLER) as events:
        heard = [event async for event in events]
    texts = {event.choice: event.text for event in heard if isinstance(event, TextDelta)}
    assert texts == {0: "7", 1: "8", 2: "9"}
    last = heard[-1]
    assert isinstance(last, Finished)
    assert last.usage == Usage(Tokens(3), Tokens(6), Tokens(1))
    assert (leases.granted, leases.out) == (3, 0)
    assert workers.seeds == [7, 8, 9]


async def test_thoughts_are_events_of_their_own_and_counted(scene: Scene) -> None:
    scene.put(STARTED)
    scene.put(Delta(id=1, text="Hm.", is_thought=True))
    scene.put(delta("Yes"))
    counted = {"reasoning_tokens": 1, "accepted_tokens": 3, "rejected_tokens": 2}
    scene.put(msgspec.structs.replace(DONE, **counted))
    await scene.listen()
    assert scene.heard[:2] == [ReasoningDelta("Hm."), TextDelta("Yes")]
    finished = scene.heard[2]
    assert isinstance(finished, Finished)
    assert finished.usage is not None
    assert finished.usage.reasoning_tokens == 1
    assert (finished.usage.accepted_tokens, finished.usage.rejected_tokens) == (3, 2)


async def test_what_the_worker_calls_a_failure_has_its_error(scene: Scene) -> None:
    scene.put(Failed(id=1, code="too-large", message="900 tokens, 512 fit"))
    await scene.listen()
    assert isinstance(scene.error, TooLarge)
    assert scene.leases.out == 0


async def test_a_dead_worker_ends_the_answer_without_a_finish(scene: Scene) -> None:
    scene.put(delta())
    scene.worker.stream.lose_worker(WorkerDied("gone"))
    await scene.listen()
    assert scene.heard[0] == TextDelta("a")
    assert isinstance(scene.error, WorkerDied)
    assert len(scene.heard) == 2


async def test_a_refused_lease_reaches_no_worker(scene: Scene) -> None:
    scene.leases.refusal = QueueFull("32 wait already")
    await scene.listen()
    assert isinstance(scene.error, QueueFull)
    assert scene.worker.orders == []


async def test_a_request_that_meets_a_leaving_worker_goes_to_the_next(scene: Scene) -> None:
    scene.worker.is_leaving = True
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(scene.listen())
        await settle()
        assert (scene.worker.waited_for, scene.leases.out) == ([1], 1)
        scene.worker.is_leaving = False
        scene.leases.generation = 2
        scene.worker.has_left.set()
        await settle()
        scene.put(Started(id=1, prompt_tokens=1, cached_tokens=0))
        scene.put(Delta(id=1, text="Hello"))
        scene.put(
            Done(
                id=1,
                reason=FinishReason.STOP,
                prompt_tokens=1,
                completion_tokens=1,
                cached_tokens=0,
            )
        )
        await listening
    assert scene.heard[0] == TextDelta("Hello")
    assert (scene.leases.granted, scene.leases.out) == (2, 0)


async def test_a_worker_that_never_leaves_is_not_waited_for_longer_than_the_queue(
    scene: Scene,
) -> None:
    scene.worker.is_leaving = True
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(scene.listen())
        await scene.timers.advance(29)
        assert not listening.done()
        await scene.timers.advance(2)
        await listening
    assert isinstance(scene.error, RequestTimedOut)
    assert scene.leases.out == 0


async def test_a_request_with_an_image_loads_no_model(scene: Scene) -> None:
    image = Image(ImageFormat.GIF, b"GIF89a")
    await scene.listen(replace(request(), messages=(Message(Role.USER, "Sky?", images=(image,)),)))
    assert isinstance(scene.error, InvalidRequest)
    assert scene.error.parameter == "messages[0].content"
    assert scene.leases.granted == 0


async def test_a_picture_is_looked_at_once_for_all_choices_and_beside_the_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookers = []

    def look(data: bytes, where: str) -> PngHead:
        lookers.append(threading.get_ident())
        return parse_png_head(data, where)

    monkeypatch.setattr(pictures, "parse_png_head", look)
    image = Image(ImageFormat.PNG, png_of(9, 9))
    shown = Message(Role.USER, "Sky?", images=(image,))
    for _ in range(3):
        scene.put(STARTED)
        scene.put(delta())
        scene.put(DONE)
    await scene.listen(replace(request(), messages=(shown,), choices=3))
    assert isinstance(scene.heard[-1], Finished)
    assert scene.leases.granted == 3
    assert len(lookers) == 1
    assert lookers != [threading.get_ident()]


async def test_a_quarantined_request_loads_no_model(scene: Scene) -> None:
    fingerprint = scene.quarantine.fingerprint(request())
    for _ in range(2):
        scene.quarantine.charge(fingerprint, scene.timers.now())
    await scene.listen()
    assert isinstance(scene.error, Quarantined)
    assert scene.leases.granted == 0


async def test_a_request_charged_while_it_waited_reaches_no_worker(scene: Scene) -> None:
    fingerprint = scene.quarantine.fingerprint(request())

    def charge_twice() -> None:
        for _ in range(2):
            scene.quarantine.charge(fingerprint, scene.timers.now())

    scene.leases.on_grant = charge_twice
    await scene.listen()
    assert isinstance(scene.error, Quarantined)
    assert scene.worker.orders == []
    assert scene.leases.granted == 1
    assert scene.leases.out == 0


async def test_no_text_in_time_is_a_timeout(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.listen())
        scene.put(STARTED)
        await scene.timers.advance(29.9)
        assert scene.heard == []
        await scene.timers.advance(0.2)
    assert isinstance(scene.error, RequestTimedOut)
    assert "No text came within 30 s" in str(scene.error)
    assert scene.worker.open_streams == 0
    assert scene.leases.out == 0


async def test_a_long_prompt_is_given_longer(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.listen(request("x" * 5000)))
        await scene.timers.advance(99)
        assert scene.heard == []
        await scene.timers.advance(2)
    assert "No text came within 100 s" in str(scene.error)


async def test_a_pause_within_the_answer_is_a_timeout(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.listen())
        for _ in range(4):
            scene.put(delta())
            await scene.timers.advance(29)
        assert len(scene.heard) == 4
        await scene.timers.advance(2)
    assert "paused for more than 30 s" in str(scene.error)


async def test_an_endless_answer_ends_at_the_total(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.listen())
        for _ in range(61):
            scene.put(delta())
            await scene.timers.advance(10)
    assert isinstance(scene.error, RequestTimedOut)
    assert "longer than 600 s" in str(scene.error)


async def test_a_caller_that_leaves_in_the_middle_leaves_nothing_behind(scene: Scene) -> None:
    scene.put(delta())
    async with scene.backend.chat(request(), CALLER) as events:
        async for _ in events:
            break
        assert scene.worker.open_streams == 1
    assert scene.worker.open_streams == 0
    assert scene.leases.out == 0


async def test_a_cancelled_caller_leaves_nothing_behind(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(scene.listen())
        await settle()
        assert scene.worker.open_streams == 1
        listening.cancel()
    assert scene.worker.open_streams == 0
    assert scene.leases.out == 0
    assert scene.timers.next_due() is None
