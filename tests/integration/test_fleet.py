"""The fleet with real worker processes and the engine that needs no model."""

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fakes.leases import FakeLeases
from tests.fakes.reports import FakeReports
from tests.unit.fleet.asking import CALLER, PLACEMENT, TINY, request
from tests.unit.fleet.specs import spec_of
from unified_llm.domain.chat import ChatEvent, Finished, TextDelta
from unified_llm.domain.errors import ModelFailedToLoad, Quarantined, WorkerDied
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.fleet.backend import Deadlines, LocalBackend
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.generation_stream import MAX_UNREAD
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.launcher import Launcher
from unified_llm.fleet.oom import OomKills
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.process import Launch
from unified_llm.fleet.supervisor import Fleet
from unified_llm.fleet.timers import LoopTimers
from unified_llm.scheduler.effects import Generation, LoadedModel

pytestmark = pytest.mark.slow

GENEROUS_SECONDS = 180
GRACE = Seconds(10.0)
FAKE = Launch("fake")
STOPPED = ["load_finished", "stop_finished", "memory_returned"]
DIED = ["load_finished", "worker_died", "memory_returned"]


@dataclass
class Machine:
    """A fleet at work, with one model."""

    fleet: Fleet
    backend: LocalBackend
    leases: FakeLeases
    reports: FakeReports
    model: Path

    async def load(self, context_tokens: int = 512) -> int:
        """Load the model as the next generation; the worker's process id."""
        before = children()
        generation = self.leases.generation = self.leases.generation + 1
        placement = replace(PLACEMENT, context_tokens=Tokens(context_tokens))
        self.fleet.begin_load(spec_of(self.model), Generation(generation), placement)
        await self.reports.until("load_finished", generation)
        outcome = self.reports.value("load_finished", generation)
        assert isinstance(outcome, LoadedModel), outcome
        (pid,) = children() - before
        return pid

    async def stop(self) -> list[str]:
        generation = self.leases.generation
        self.fleet.begin_stop(TINY, Generation(generation), grace=GRACE)
        await self.reports.until("memory_returned", generation)
        return self.reports.of(generation)

    async def fail_to_load(self) -> str:
        generation = self.leases.generation = self.leases.generation + 1
        self.fleet.begin_load(spec_of(self.model), Generation(generation), PLACEMENT)
        await self.reports.until("memory_returned", generation)
        assert self.reports.of(generation) == STOPPED
        error = self.reports.value("load_finished", generation)
        assert isinstance(error, ModelFailedToLoad)
        return str(error)

    async def ask(self, text: str, *, uid: int = 1000) -> list[ChatEvent]:
        caller = replace(CALLER, uid=uid)
        async with self.backend.chat(request(text), caller) as events:
            return [event async for event in events]


@asynccontextmanager
async def machine(
    tmp_path: Path,
    patience: Patience | None = None,
    launch: Launch = FAKE,
    states: KeptStates | None = None,
) -> AsyncIterator[Machine]:
    timers, quarantine, reports = LoopTimers(), Quarantine(os.urandom(32)), FakeReports()
    launcher = Launcher(
        launch,
        timers=timers,
        patience=patience or Patience(),
        oom=OomKills(None),
        states=states or KeptStates(Bytes(0)),
    )
    fleet = Fleet(launcher.open_worker, quarantine, timers)
    leases = FakeLeases(generation=0)
    backend = LocalBackend(Dispatch(leases, fleet, quarantine, timers), timers, Deadlines())
    model = tmp_path / "tiny.gguf"
    model.write_bytes(b"GGUF")
    async with asyncio.timeout(GENEROUS_SECONDS), fleet.open(reports):
        yield Machine(fleet, backend, leases, reports, model)


def children() -> set[int]:
    (main,) = (Path(f"/proc/self/task/{os.getpid()}/children").read_text(),)
    return {int(pid) for pid in main.split()}


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except OSError:
        return False


async def test_a_chat_is_answered_by_a_worker_of_its_own(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        pid = await it.load()
        *texts, finish = await it.ask("!tokens 3")
        assert "".join(event.text for event in texts if isinstance(event, TextDelta)) == "1 2 3 "
        assert isinstance(finish, Finished)
        assert finish.usage is not None
        assert finish.usage.completion_tokens >= 3
        assert await it.stop() == STOPPED
        assert not is_alive(pid)


async def test_a_worker_inherits_nothing_but_its_model_and_its_channel(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        pid = await it.load()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert environment == b"GGML_NO_BACKTRACE=1\0CUDA_DEVICE_ORDER=PCI_BUS_ID\0"
        targets = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        kinds = sorted(target.split(":")[0] for target in targets)
        assert kinds == sorted(["/dev/null", "pipe", "pipe", "socket", str(it.model)])
        assert os.getsid(pid) == pid
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "500"


async def test_a_killed_worker_ends_its_stream_once_and_the_next_one_serves(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path) as it:
        pid = await it.load()
        heard: list[ChatEvent] = []
        error = None
        async with it.backend.chat(request("!step 0.01 !tokens 100000"), CALLER) as events:
            try:
                async for event in events:
                    heard.append(event)
                    if len(heard) == 3:
                        os.kill(pid, signal.SIGKILL)
            except WorkerDied as death:
                error = death
        assert "SIGKILL" in str(error)
        assert not any(isinstance(event, Finished) for event in heard)
        await it.reports.until("memory_returned", 1)
        assert it.reports.of(1) == DIED
        await it.load()
        assert isinstance((await it.ask("!tokens 2"))[-1], Finished)


async def test_a_frozen_worker_is_found_out_and_killed(tmp_path: Path) -> None:
    patience = Patience(progress=Seconds(1.5), second_look=Seconds(0.1))
    async with machine(tmp_path, patience) as it:
        pid = await it.load()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_death(it, "!step 0.05 !tokens 100000"))
            await asyncio.sleep(0.2)
            os.kill(pid, signal.SIGSTOP)
            assert "no progress for 1.5 s" in await asking
        await it.reports.until("memory_returned", 1)
        assert not is_alive(pid)


async def _death(it: Machine, text: str) -> str:
    with pytest.raises(WorkerDied) as death:
        await it.ask(text)
    return str(death.value)


async def test_one_long_step_is_not_taken_for_a_hang(tmp_path: Path) -> None:
    # It tells of its work once a second.
    patience = Patience(progress=Seconds(5), second_look=Seconds(1))
    async with machine(tmp_path, patience) as it:
        await it.load()
        assert isinstance((await it.ask("!step 7"))[-1], Finished)


async def test_a_request_that_kills_twice_is_quarantined(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        for generation in (1, 2):
            await it.load()
            assert "SIGABRT" in await _death(it, "!crash")
            await it.reports.until("memory_returned", generation)
        await it.load()
        with pytest.raises(Quarantined):
            await it.ask("!crash")
        assert isinstance((await it.ask("something else"))[-1], Finished)


async def test_a_request_that_will_not_stop_takes_its_worker_with_it(tmp_path: Path) -> None:
    async with machine(tmp_path, Patience(cancel=Seconds(0.5), second_look=Seconds(0.1))) as it:
        await it.load()
        patience = 0.2
        while it.reports.of(1) == ["load_finished"]:
            # A Cancel that overtakes the first step finds nothing that hangs yet.
            await _leave_after(it, patience)
            patience *= 2
            await asyncio.sleep(0.01)
        await it.reports.until("memory_returned", 1)
        assert it.reports.of(1) == DIED
        assert "did not stop a cancelled request" in str(it.reports.value("worker_died", 1))
        assert it.leases.out == 0


async def _leave_after(it: Machine, seconds: float) -> None:
    with suppress(TimeoutError, WorkerDied):
        # A worker that has just died may still be leased here, which a real scheduler would not do.
        async with (
            asyncio.timeout(seconds),
            it.backend.chat(request("!hang"), CALLER) as events,
        ):
            await anext(aiter(events))


async def test_a_reader_that_takes_its_time_loses_nothing_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    text = " ".join(f"{number:0100}" for number in range(3000))
    async with machine(tmp_path) as it:
        await it.load(context_tokens=20_000)
        # More than may ever lie unread: of a worker that was not paused it would be cut off.
        assert len(text) > MAX_UNREAD
        async with it.backend.chat(request(text), CALLER) as slow:
            first = await anext(slow)
            await it.ask("!tokens 3000 y")
            events = [first, *[event async for event in slow]]
        assert isinstance(events[-1], Finished)
        assert "".join(each.text for each in events if isinstance(each, TextDelta)) == text


async def test_a_cancelled_request_leaves_its_worker_in_service(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        await it.load()
        for _ in range(5):
            async with it.backend.chat(request("!step 0.01 !tokens 100000"), CALLER) as events:
                await anext(aiter(events))
        assert isinstance((await it.ask("!tokens 2"))[-1], Finished)
        assert it.reports.of(1) == ["load_finished"]


async def test_a_worker_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    async with machine(tmp_path, launch=Launch("fake", command=("/no/such/program",))) as it:
        assert "No such file" in await it.fail_to_load()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Use up all descriptors of this process but `count`."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_fleet_out_of_descriptors_fails_the_load_and_lives_on(tmp_path: Path) -> None:
    # The model's file takes one, the channel two, the output two, and subprocess more.
    async with machine(tmp_path) as it:
        for count in range(6):
            with descriptors_left(count):
                assert "Too many open files" in await it.fail_to_load()
        await it.load()


async def test_what_a_dying_worker_says_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shell = ("/bin/sh", "-c", "echo last words >&2; exit 3", "worker")
    with caplog.at_level(logging.INFO):
        async with machine(tmp_path, launch=Launch("fake", command=shell)) as it:
            assert "code 3" in await it.fail_to_load()
    assert "last words" in caplog.text


async def test_a_worker_that_dies_while_loading_is_reported(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        it.model.write_bytes(b"GGUF !crash")
        assert "SIGABRT" in await it.fail_to_load()
        it.model.write_bytes(b"no model")
        assert "not GGUF" in await it.fail_to_load()


async def test_a_load_is_stopped_at_once(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        it.model.write_bytes(b"GGUF !hang")
        it.fleet.begin_load(spec_of(it.model), Generation(1), PLACEMENT)
        await asyncio.sleep(0.3)
        it.fleet.begin_stop(TINY, Generation(1), grace=Seconds(1000.0))
        await it.reports.until("memory_returned", 1)
        assert it.reports.of(1) == STOPPED


async def test_closing_kills_workers_that_do_not_go(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        pid = await it.load()
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)
    assert it.reports.of(1) == STOPPED


async def test_cycles_of_loading_and_stopping_leave_nothing(tmp_path: Path) -> None:
    others = children()  # a bus that other tests share, perhaps
    async with machine(tmp_path) as it:
        await it.load()
        await it.stop()
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for cycle in range(20):
            await it.load()
            if cycle % 3 == 0:
                await it.ask("!tokens 2")
            assert await it.stop() == STOPPED
        assert len(os.listdir("/proc/self/fd")) == descriptors
        # The pool that opens files may grow to its limit, not with the cycles.
        assert threading.active_count() <= threads + (os.cpu_count() or 1) + 4
        assert children() == others


async def test_workers_are_started_from_the_main_thread_only(tmp_path: Path) -> None:
    def spawn_elsewhere() -> None:
        asyncio.run(_load_once(tmp_path))

    with pytest.raises(BaseExceptionGroup) as failure:
        await asyncio.to_thread(spawn_elsewhere)
    assert failure.group_contains(RuntimeError, match="main thread")


async def _load_once(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        await it.load()


DAEMON = """
import asyncio, pathlib, sys
from tests.integration.test_fleet import machine
async def main():
    async with machine(pathlib.Path(sys.argv[1])) as it:
        print(await it.load(), flush=True)
        await it.ask("!hang")
asyncio.run(main())
"""


def test_a_killed_daemon_leaves_no_worker(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        worker = int(daemon.stdout.readline())
        assert is_alive(worker)
        daemon.kill()
    ends = time.monotonic() + GENEROUS_SECONDS
    while is_alive(worker):
        assert time.monotonic() < ends
        time.sleep(0.01)


KEEPING = Launch("fake", states_bytes=Bytes(2**20))
LONG = "one two three four five six seven eight nine ten eleven twelve"


def cached(events: list[ChatEvent]) -> int:
    finish = events[-1]
    assert isinstance(finish, Finished)
    assert finish.usage is not None
    return finish.usage.cached_tokens


async def test_what_a_worker_saved_serves_the_next_one_and_nobody_else(tmp_path: Path) -> None:
    states = KeptStates(Bytes(2**20))
    async with machine(tmp_path, launch=KEEPING, states=states) as it:
        await it.load()
        assert cached(await it.ask(LONG)) == 0
        await it.stop()
        assert states.used > 0
        await it.load()
        assert cached(await it.ask(LONG, uid=1001)) == 0
        assert cached(await it.ask(LONG)) > 10
        states.close()


async def test_what_a_dead_worker_was_given_is_not_given_to_the_next_one(tmp_path: Path) -> None:
    states = KeptStates(Bytes(2**20))
    async with machine(tmp_path, launch=KEEPING, states=states) as it:
        for uid in (1000, 1001):
            await it.load()
            await it.ask(LONG, uid=uid)
            await it.stop()
        await it.load()
        with pytest.raises(WorkerDied):
            await it.ask(f"{LONG} !crash")
        await it.reports.until("memory_returned", it.leases.generation)
        await it.load()
        assert cached(await it.ask(LONG)) == 0
        assert cached(await it.ask(LONG, uid=1001)) > 10
        states.close()


async def test_what_there_is_no_room_for_is_let_go_by_the_worker_too(tmp_path: Path) -> None:
    states = KeptStates(Bytes(2**20))
    async with machine(tmp_path, launch=KEEPING, states=states) as it:
        pid = await it.load()
        for uid in (1000, 1001, 1002):  # more than it has slots
            await it.ask(f"{LONG} {uid}", uid=uid)
        assert memory_files(pid) == 1
        states.close()
        while memory_files(pid):
            await asyncio.sleep(0.01)
        assert await it.stop() == STOPPED


def memory_files(pid: int) -> int:
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            count += "memfd:state" in str(link.readlink())
    return count
