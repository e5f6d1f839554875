"""A thousand messages nobody should send; the service must not notice."""

import struct
from typing import Any

import pytest
from dbus_next.signature import SignatureTree, Variant

from tests.bus.probe import ask, open_probe
from tests.bus.random_values import RandomValues
from tests.bus.stock import count_fds, raw_call
from tests.private_bus import PrivateBus
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.encoding import NO_REPLY_EXPECTED, Frame, encode_call
from unified_llm.bus.names import (
    BUS_NAME,
    MANAGER_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.standard import StandardAnswers

pytestmark = [pytest.mark.system, pytest.mark.slow]

_MESSAGES = 1000


class _Generator(RandomValues):
    """Messages with such values."""

    def message(self, serial: int) -> bytearray:
        signature = self.signature()
        variant = Variant(signature, self.value(SignatureTree(signature).types[0]))
        member = self.random.choice(["Any", "Echo", "Nope"])
        return bytearray(
            encode_call(
                serial,
                destination=BUS_NAME,
                path=ROOT_PATH,
                interface=MANAGER_INTERFACE,
                member=member,
                signature="v",
                values=(variant,),
                flags=self.random.choice([0, 1, 4, 5]),
            ).data
        )

    def mutate(self, data: bytearray) -> None:
        for _ in range(self.random.randint(1, 3)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)


def _raw(client: BusConnection, data: bytes) -> None:
    assert client._stream is not None
    client._stream.send(Frame(data))


async def test_a_thousand_random_and_broken_messages_change_nothing(
    shared_bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    generator = _Generator(seed=20260101)
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        await ask(client, "Echo", "s", "warm")
        before = count_fds()
        name = probe.bus.unique_name
        attacker = open_connection(shared_bus.address)
        peer = await attacker.__aenter__()
        for number in range(_MESSAGES):
            if number % 40 == 39 or peer._closed.is_set():
                await attacker.__aexit__(None, None, None)
                attacker = open_connection(shared_bus.address)
                peer = await attacker.__aenter__()
            data = generator.message(1000 + number)
            if generator.random.random() < 0.5:
                generator.mutate(data)
            _raw(peer, bytes(data))
            if number % 20 == 0:
                assert await ask(client, "Echo", "s", str(number)) == (str(number),)
        await attacker.__aexit__(None, None, None)
        (owner,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
        assert owner == name == probe.bus.unique_name
        await probe.bus.ping()
        assert count_fds() == before
    assert not caplog.records


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x01v\0" * 60 + b"\x01y\0\x05", id="sixty variants deep"),
        pytest.param(b"\x01h\0\0" + struct.pack("<I", 3), id="a descriptor that is not there"),
        pytest.param(b"\x02ay\0" + struct.pack("<I", 0), id="an empty array"),
        pytest.param(b"\x01g\0\0\0", id="an empty signature"),
    ],
)
async def test_odd_but_legal_arguments_are_answered(shared_bus: PrivateBus, body: bytes) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        _raw(client, raw_call(900, "Any", "v", body))
        assert await ask(client, "Echo", "s", "next") == ("next",)


async def test_all_flags_at_once_are_answered(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        for flags in (0xFF, 0x80, 5):
            data = bytearray(raw_call(901, "Any", "v", b"\x01y\0\x05"))
            data[2] = flags
            _raw(client, bytes(data))
        assert await ask(client, "Echo", "s", "next") == ("next",)


async def test_questions_that_want_no_reply_cost_no_answer(
    shared_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus limits calls that wait for a reply, and lets 800,000 of these queue up."""
    answered: list[str] = []
    answer = StandardAnswers.answer

    def note(standard: StandardAnswers, *call: Any) -> tuple[object, ...]:
        answered.append(call[2])
        return answer(standard, *call)

    monkeypatch.setattr(StandardAnswers, "answer", note)
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        for flags in (NO_REPLY_EXPECTED, 0):
            _raw(
                client,
                encode_call(
                    902,
                    destination=BUS_NAME,
                    path=ROOT_PATH,
                    interface=OBJECT_MANAGER_INTERFACE,
                    member="GetManagedObjects",
                    signature="",
                    values=(),
                    flags=flags,
                ).data,
            )
        assert await ask(client, "Echo", "s", "next") == ("next",)
    assert answered == ["GetManagedObjects"]
