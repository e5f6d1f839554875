"""Whose a call is, and whose turn it is."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from unified_llm.bus.calls import Calls
from unified_llm.bus.decoding import Header, Kind
from unified_llm.bus.encoding import NO_REPLY_EXPECTED
from unified_llm.bus.intake import MAX_WAITING_BYTES, Intake
from unified_llm.bus.quota import MAX_UNANSWERED_PER_USER
from unified_llm.bus.reading import Incoming, Problem
from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import Cancelled, NotPermitted


@dataclass
class _Answers:
    """What came through, and what was refused."""

    calls: list[tuple[str, int, Problem | None]] = field(default_factory=list)
    refused: list[BaseException] = field(default_factory=list)

    def is_worth_reading(self, header: Header) -> bool:
        return header.member != "Nope"

    def on_call(self, incoming: Incoming, caller: Caller) -> None:
        self.calls.append((incoming.header.member, caller.uid, incoming.problem))

    def refuse(self, header: Header, error: BaseException) -> None:
        self.refused.append(error)


@dataclass
class _Users:
    """Stands for Credentials: `:1000.7` is a connection of uid 1000; it takes until `told`."""

    told: asyncio.Event = field(default_factory=asyncio.Event)
    met: dict[str, Caller] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def known(self, name: str) -> Caller | None:
        return self.met.get(name)

    async def caller_of(self, name: str) -> Caller:
        self.asked.append(name)
        await self.told.wait()
        uid = int(name[1:].partition(".")[0])
        if uid == 666:
            raise NotPermitted("The bus does not say who it is.")
        self.met[name] = Caller(uid, frozenset(), None, Door.DBUS, name)
        return self.met[name]


@dataclass
class _House:
    intake: Intake
    answers: _Answers
    users: _Users
    calls: Calls

    def send(self, sender: str, member: str = "M", *, size: int = 0, flags: int = 0) -> Incoming:
        """As MessageReader does."""
        header = Header(Kind.CALL, flags, 1, size, False, member=member, sender=sender)
        wanted = self.intake.wants_body(header)
        incoming = Incoming(
            header, bytes(size) if wanted else None, [], None if wanted else Problem.UNWANTED
        )
        self.intake.on_call(incoming)
        return incoming


@asynccontextmanager
async def _open_intake(*known: str) -> AsyncIterator[_House]:
    answers, users = _Answers(), _Users()
    async with Calls() as calls:
        intake = Intake(answers, calls, users)  # type: ignore[arg-type]
        house = _House(intake, answers, users, calls)
        for name in known:
            house.send(name, "first")
        users.told.set()
        await _settled(house, len(known))
        answers.calls.clear()
        users.asked.clear()
        yield house


async def _settled(house: _House, count: int) -> None:
    while len(house.answers.calls) + len(house.answers.refused) < count:
        await asyncio.sleep(0)


async def test_a_connection_is_asked_for_once_and_its_calls_keep_their_order() -> None:
    async with _open_intake() as house:
        house.users.told.clear()
        for number in range(3):
            house.send(":1000.1", str(number))
        await asyncio.sleep(0)
        assert house.answers.calls == []
        house.users.told.set()
        house.send(":1000.1", "3")
        await _settled(house, 4)
        assert house.users.asked == [":1000.1"]
        assert house.answers.calls == [(str(number), 1000, None) for number in range(4)]


async def test_all_connections_of_a_user_share_one_turn() -> None:
    names = [f":1000.{number}" for number in range(5)]
    async with _open_intake(*names, ":1001.1") as house:
        for name in names:
            house.send(name, "loud")
        house.send(":1001.1", "quiet")
        await _settled(house, 6)
        assert [uid for _, uid, _ in house.answers.calls] == [1000, 1001, *[1000] * 4]


async def test_who_is_not_known_to_the_bus_is_refused() -> None:
    async with _open_intake() as house:
        house.send(":666.1")
        await _settled(house, 1)
        assert isinstance(house.answers.refused[0], NotPermitted)
        assert house.answers.calls == []


async def test_who_has_left_before_its_turn_is_not_answered_and_leaves_nothing() -> None:
    async with _open_intake(":1000.1") as house:
        reading, writing = os.pipe()
        house.send(":1000.1").fds = [reading]
        del house.users.met[":1000.1"]
        house.send(":1001.1", "another")
        await _settled(house, 1)
        assert [member for member, *_ in house.answers.calls] == ["another"]
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)


async def test_who_leaves_before_it_is_known_leaves_nothing_either() -> None:
    async with _open_intake() as house:
        house.users.told.clear()
        reading, writing = os.pipe()
        house.send(":1000.1").fds = [reading]
        await asyncio.sleep(0)
        house.calls.on_name_vanished(":1000.1")
        await _settled(house, 1)
        assert isinstance(house.answers.refused[0], Cancelled)
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)


async def test_what_waits_when_the_door_closes_is_refused() -> None:
    async with _open_intake(":1000.1") as house:
        house.send(":1000.1")
        house.intake.close()
        assert isinstance(house.answers.refused[0], Cancelled)
        await asyncio.sleep(0)
        assert house.answers.calls == []


async def test_arguments_that_wait_are_bounded_for_each_user() -> None:
    names = (":1000.1", ":1000.2", ":1001.1")
    async with _open_intake(*names) as house:
        for name in names:
            house.send(name, size=MAX_WAITING_BYTES * 2 // 3)
        await _settled(house, 3)
        assert house.answers.calls == [
            ("M", 1000, None),
            ("M", 1001, None),
            ("M", 1000, Problem.CROWDED),
        ]
        house.send(":1000.1", size=MAX_WAITING_BYTES)
        await _settled(house, 4)
        assert house.answers.calls[-1] == ("M", 1000, None)


async def test_arguments_of_a_stranger_are_bounded_too() -> None:
    async with _open_intake() as house:
        house.users.told.clear()
        for _ in range(2):
            house.send(":1000.1", size=MAX_WAITING_BYTES)
        house.users.told.set()
        await _settled(house, 2)
        assert [problem for *_, problem in house.answers.calls] == [None, Problem.CROWDED]


async def test_calls_that_want_no_reply_have_a_quota_of_their_own() -> None:
    names = [f":1000.{number}" for number in range(2)]
    async with _open_intake(*names, ":1001.1") as house:
        for number in range(10 * MAX_UNANSWERED_PER_USER):
            house.send(names[number % 2], flags=NO_REPLY_EXPECTED)
        house.send(":1001.1", "another's", flags=NO_REPLY_EXPECTED)
        house.send(names[0], "wants a reply")
        house.send(names[0], "Nope", flags=NO_REPLY_EXPECTED)
        await _settled(house, MAX_UNANSWERED_PER_USER + 2)
        await asyncio.sleep(0)
        members = [member for member, *_ in house.answers.calls]
        assert members.count("M") == MAX_UNANSWERED_PER_USER
        assert {"another's", "wants a reply"} < set(members)
        assert "Nope" not in members
