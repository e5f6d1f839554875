import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.timers import FakeTimers, settle
from tests.fakes.worker_link import FakeWorkerLink, hello
from tests.unit.fleet.asking import PLACEMENT, order
from unified_llm.domain.chat import FinishReason
from unified_llm.domain.errors import (
    Draining,
    ModelFailedToLoad,
    RequestTimedOut,
    TooLarge,
    WorkerDied,
)
from unified_llm.domain.units import Seconds
from unified_llm.fleet.generation_stream import MAX_UNREAD, WorkerLeavingError
from unified_llm.fleet.model_worker import Departure, ModelWorker
from unified_llm.worker.protocol import Delta, Done, Failed, Heartbeat, Pause, Resume, Started, Stop

GRACE = Seconds(10.0)


def started(number: int) -> Started:
    return Started(id=number, prompt_tokens=3, cached_tokens=0)


def delta(number: int, text: str = "a") -> Delta:
    return Delta(id=number, text=text)


def done(number: int) -> Done:
    return Done(
        id=number, reason=FinishReason.STOP, prompt_tokens=3, completion_tokens=1, cached_tokens=0
    )


class Scene:
    """A worker that serves, its other end, the clock, and how it departed."""

    def __init__(self, *, obeys_terminate: bool = True) -> None:
        self.timers = FakeTimers()
        self.fake = FakeWorkerLink(self.timers, obeys_terminate=obeys_terminate)
        self.say = self.fake.channel.say
        self.worker = ModelWorker(self.fake.link)
        self.departure: Departure | None = None

    async def serve(self) -> None:
        self.departure = await self.worker.serve()


@asynccontextmanager
async def serving(*, obeys_terminate: bool = True) -> AsyncIterator[Scene]:
    scene = Scene(obeys_terminate=obeys_terminate)
    scene.fake.greet()
    await scene.worker.load(PLACEMENT, lambda _: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.serve())
        await settle()
        yield scene
        scene.fake.process.end(0)


async def test_two_requests_are_told_apart() -> None:
    async with serving() as scene:
        async with (
            scene.worker.open_stream(order("a")) as first,
            scene.worker.open_stream(order("b")) as second,
        ):
            assert scene.fake.channel.generated == [1, 2]
            scene.say(started(2), delta(2, "b"), started(1), delta(1, "a"), done(1), done(2))
            assert [await first.next_frame() for _ in range(3)] == [started(1), delta(1), done(1)]
            assert await second.next_frame() == started(2)
            assert await second.next_frame() == delta(2, "b")
        assert scene.fake.channel.cancelled == []
        async with scene.worker.open_stream(order("c")):
            assert scene.fake.channel.generated == [1, 2, 3]
            scene.say(done(3))
            await settle()


async def test_a_death_fails_every_open_stream_with_its_cause_and_charges_them() -> None:
    async with serving() as scene:
        async with (
            scene.worker.open_stream(order("a")) as first,
            scene.worker.open_stream(order("b")) as second,
            scene.worker.open_stream(order("c")) as third,
        ):
            scene.say(started(1), done(3))
            scene.fake.process.end(-9)
            assert await first.next_frame() == started(1)
            for stream in (first, second):
                with pytest.raises(WorkerDied, match="SIGKILL"):
                    await stream.next_frame()
            assert await third.next_frame() == done(3)
        await settle()
        assert scene.departure is not None
        assert scene.departure.victims == {b"a", b"b"}
        assert scene.departure.error is not None
        assert "SIGKILL" in scene.departure.error.message


async def test_a_finish_still_in_the_channel_when_the_process_ends_counts() -> None:
    async with serving() as scene:
        scene.fake.process.on_end = lambda: None
        async with scene.worker.open_stream(order()) as stream:
            scene.fake.process.end(-9)
            await settle()
            scene.say(done(1), None)
            assert await stream.next_frame() == done(1)
        await settle()
        assert scene.departure is not None
        assert scene.departure.victims == frozenset()


async def test_a_dead_worker_takes_no_request() -> None:
    async with serving() as scene:
        scene.fake.process.end(-11)
        await settle()
        with pytest.raises(WorkerLeavingError):
            async with scene.worker.open_stream(order()):
                pass


async def test_leaving_early_cancels_and_waits_for_the_end() -> None:
    async with serving() as scene, asyncio.TaskGroup() as group:
        leaving = group.create_task(open_and_leave(scene))
        await settle()
        assert scene.fake.channel.cancelled == [1]
        assert not leaving.done()
        scene.say(delta(1), Failed(id=1, code="cancelled", message="as asked"))
        await leaving
        assert scene.fake.process.signals == []


async def open_and_leave(scene: Scene) -> None:
    async with scene.worker.open_stream(order()):
        pass


async def test_a_request_that_does_not_stop_costs_the_worker_its_life() -> None:
    async with serving() as scene, asyncio.TaskGroup() as group:
        leaving = group.create_task(open_and_leave(scene))
        await scene.timers.advance(4)
        scene.say(delta(1))
        await scene.timers.advance(1.9)
        assert not leaving.done()
        await scene.timers.advance(0.2)
        await leaving
        assert scene.fake.process.signals == ["KILL"]
        assert scene.departure is not None
        assert scene.departure.victims == {b"hello"}
        assert "did not stop" in str(scene.departure.error)


async def test_a_reader_that_leaves_twice_as_fast_leaves_the_watch_behind() -> None:
    async with serving() as scene, asyncio.TaskGroup() as group:
        leaving = group.create_task(open_and_leave(scene))
        await settle()
        leaving.cancel()
        await settle()
        assert leaving.cancelled()
        await scene.timers.advance(9)
        assert scene.fake.process.signals == ["KILL"]


async def test_a_reader_cancelled_while_the_request_is_written_cancels_it() -> None:
    async with serving() as scene, asyncio.TaskGroup() as group:
        scene.fake.channel.is_stuck = True
        leaving = group.create_task(open_and_leave(scene))
        await settle()
        leaving.cancel()
        await settle()
        assert scene.fake.channel.cancelled == [1]
        scene.say(Failed(id=1, code="cancelled", message=""))
        await settle()
        assert leaving.cancelled()


async def test_a_silent_worker_with_a_request_is_ended() -> None:
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            await scene.timers.advance(30.9)
            assert scene.fake.process.signals == []
            await scene.timers.advance(0.2)
            with pytest.raises(WorkerDied, match="no progress for 30 s"):
                await stream.next_frame()
        assert scene.departure is not None
        assert scene.departure.victims == {b"hello"}


async def test_a_slow_prefill_is_not_taken_for_a_hang() -> None:
    async with serving() as scene, scene.worker.open_stream(order()):
        for second in range(200):
            busy = float(second % 40)
            scene.say(Heartbeat(steps_done=1, busy_seconds=busy, active=1, waiting=0))
            await scene.timers.advance(1)
        assert scene.fake.process.signals == []
        scene.say(done(1))
        await settle()


async def test_a_daemon_that_was_frozen_reads_before_it_judges() -> None:
    async with serving() as scene, scene.worker.open_stream(order()) as stream:
        await scene.timers.freeze(3600)
        scene.say(delta(1), done(1))
        await scene.timers.advance(60)
        assert scene.fake.process.signals == []
        assert await stream.next_frame() == delta(1)


async def test_an_idle_worker_sets_no_timer() -> None:
    async with serving() as scene:
        assert scene.timers.next_due() is None
        async with scene.worker.open_stream(order()):
            await settle()
            assert scene.timers.next_due() is not None
            scene.say(done(1))
            await settle()
        await scene.timers.advance(40)
        assert scene.timers.next_due() is None


@pytest.mark.parametrize(
    "word",
    [hello(), delta(99), WorkerDied("The worker broke the protocol.")],
    ids=lambda w: type(w).__name__,
)
async def test_a_word_out_of_place_ends_the_worker(word: object) -> None:
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            scene.say(word)  # type: ignore[arg-type]
            with pytest.raises(WorkerDied):
                await stream.next_frame()
        assert scene.fake.process.signals == ["KILL"]


async def test_a_request_that_starts_twice_ends_the_worker() -> None:
    # Frames that say nothing would pile up before a reader that is slow.
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            scene.say(started(1), started(1))
            assert await stream.next_frame() == started(1)
            with pytest.raises(WorkerDied):
                await stream.next_frame()
        assert scene.fake.process.signals == ["KILL"]


async def test_frames_after_the_end_of_a_request_end_the_worker() -> None:
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            scene.say(done(1), done(1))
            assert await stream.next_frame() == done(1)
        await settle()
        assert scene.fake.process.signals == ["KILL"]


async def test_a_slow_reader_pauses_its_own_request_and_no_stall_is_seen_in_that() -> None:
    async with serving() as scene:
        first, second = (scene.worker.open_stream(order(text)) for text in "ab")
        async with first as slow, second as quick:
            scene.say(*[delta(1, "x" * 1024)] * 20, delta(2), done(2))
            await settle()
            assert flow_of(scene) == [Pause(id=1)]
            assert await quick.next_frame() == delta(2)
            await scene.timers.advance(1000.0)
            assert scene.fake.process.signals == []
            for _ in range(20):
                await slow.next_frame()
            assert flow_of(scene) == [Pause(id=1), Resume(id=1)]
            await scene.timers.advance(29.0)
            assert scene.fake.process.signals == []
            await scene.timers.advance(2.0)
            await scene.timers.advance(2.0)
            assert scene.fake.process.signals == ["KILL"]  # from now on it owes progress again


def flow_of(scene: Scene) -> list[object]:
    return [each for each in scene.fake.channel.sent if isinstance(each, Pause | Resume)]


async def test_a_reader_that_does_not_read_is_cut_off() -> None:
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            scene.say(delta(1, "x" * (MAX_UNREAD + 1)))
            await settle()
            assert scene.fake.channel.cancelled == [1]
            with pytest.raises(RequestTimedOut):
                await stream.next_frame()
            scene.say(Failed(id=1, code="cancelled", message=""))
            await settle()
        assert scene.fake.process.signals == []


async def test_a_request_that_does_not_fit_leaves_nothing_behind() -> None:
    async with serving() as scene:
        scene.fake.channel.refuses_size = True
        with pytest.raises(TooLarge):
            async with scene.worker.open_stream(order()):
                pass
        await scene.timers.advance(100)
        assert scene.fake.process.signals == []


async def test_asked_to_stop_it_is_told_then_terminated_then_killed() -> None:
    async with serving(obeys_terminate=False) as scene:
        scene.worker.ask_to_stop(GRACE)
        await settle()
        assert scene.fake.channel.sent[-1] == Stop()
        await scene.timers.advance(4.9)
        assert scene.fake.process.signals == []
        await scene.timers.advance(0.2)
        assert scene.fake.process.signals == ["TERM"]
        await scene.timers.advance(5)
        assert scene.fake.process.signals == ["TERM", "KILL"]
    assert scene.departure == Departure(None)


async def test_a_worker_that_does_not_read_is_stopped_as_well() -> None:
    async with serving(obeys_terminate=False) as scene:
        scene.fake.channel.is_stuck = True
        scene.worker.ask_to_stop(GRACE)
        await scene.timers.advance(10.1)
        assert scene.fake.process.signals == ["TERM", "KILL"]


async def test_a_worker_that_goes_when_told_gets_no_signal() -> None:
    async with serving() as scene:
        scene.worker.ask_to_stop(GRACE)
        await settle()
        scene.fake.process.end(0)
        await settle()
        assert scene.fake.process.signals == []
        assert scene.fake.channel.sent.count(Stop()) == 1
        assert scene.departure == Departure(None)


async def test_streams_of_a_stopped_worker_fail_and_are_not_charged() -> None:
    async with serving() as scene:
        async with scene.worker.open_stream(order()) as stream:
            scene.worker.ask_to_stop(GRACE)
            scene.fake.process.end(0)
            with pytest.raises(Draining, match="left memory"):
                await stream.next_frame()
        await settle()
        assert scene.departure == Departure(None)


async def test_a_stop_while_loading_kills_at_once() -> None:
    scene = Scene()
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(expect_failed_load(scene))
        scene.say(hello())
        await settle()
        scene.worker.ask_to_stop(GRACE)
        assert "was stopped" in await loading
    assert scene.fake.process.signals == ["KILL"]


async def expect_failed_load(scene: Scene) -> str:
    with pytest.raises(ModelFailedToLoad) as failure:
        await scene.worker.load(PLACEMENT, lambda _: None)
    return failure.value.message


async def test_a_closing_daemon_leaves_no_stream_waiting() -> None:
    scene = Scene()
    scene.fake.greet()
    await scene.worker.load(PLACEMENT, lambda _: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scene.serve())
        await settle()
        async with scene.worker.open_stream(order()) as stream:
            task.cancel()
            with pytest.raises(WorkerDied, match="closing"):
                await stream.next_frame()


async def test_a_principal_s_states_are_given_before_its_request_and_only_then() -> None:
    async with serving() as scene:
        assert scene.fake.states.admitted == []
        async with scene.worker.open_stream(order()):
            assert scene.fake.states.admitted == [("uid:1000", 0)]
            assert scene.fake.channel.generated == [1]
            scene.say(done(1))
            await settle()


@pytest.mark.parametrize("is_asked", [False, True])
async def test_a_death_spoils_the_states_it_had_and_an_end_that_was_asked_for_does_not(
    is_asked: bool,
) -> None:
    async with serving() as scene:
        if is_asked:
            scene.worker.ask_to_stop(GRACE)
        await settle()
        scene.fake.process.end(-11)
        await settle()
        assert scene.fake.states.is_distrusted is not is_asked


async def test_asked_to_stop_it_is_told_to_save_where_states_are_kept() -> None:
    async with serving() as scene:
        scene.fake.states.saves = True
        scene.worker.ask_to_stop(GRACE)
        await settle()
        assert scene.fake.channel.sent[-1] == Stop(saves_states=True)
