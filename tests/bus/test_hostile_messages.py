"""A thousand messages nobody should send; the service must not notice."""

import random
import struct
from typing import Any

import pytest
from dbus_next.signature import SignatureTree, SignatureType, Variant

from tests.bus.probe import ask, open_probe
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
_BASIC = "ybnqiuxtdsog"


class _Generator:
    """Random values of random types, the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def signature(self, depth: int = 0) -> str:
        choice = self.random.random()
        if depth > 3 or choice < 0.5:
            return self.random.choice(_BASIC)
        if choice < 0.6:
            return "v"
        if choice < 0.75:
            return f"a{self.signature(depth + 1)}"
        if choice < 0.88:
            return f"({self.signature(depth + 1)}{self.signature(depth + 1)})"
        return f"a{{{self.random.choice(_BASIC)}{self.signature(depth + 1)}}}"

    def value(self, kind: SignatureType) -> Any:
        match kind.token:
            case "b":
                return self.random.random() < 0.5
            case "d":
                return self.random.choice([0.0, -1e300, float("inf"), float("nan")])
            case "s":
                return self.random.choice(["", "a", "é☃", "x" * 200])
            case "o":
                return self.random.choice(["/", "/a/b_1"])
            case "g":
                return self.random.choice(["", "s", "a{sv}", "(ii)h"])
            case "v":
                inner = self.signature(3)
                return Variant(inner, self.value(SignatureTree(inner).types[0]))
            case "(":
                return [self.value(child) for child in kind.children]
            case "a":
                return self.array(kind.children[0])
            case number:
                return self.number(number)

    def array(self, child: SignatureType) -> Any:
        count = range(self.random.randint(0, 3))
        match child.token:
            case "{":
                key, value = child.children
                return {self.value(key): self.value(value) for _ in count}
            case "y":
                return bytes(count)
            case _:
                return [self.value(child) for _ in count]

    def number(self, token: str) -> int:
        bits, signed = {
            "y": (8, False),
            "n": (16, True),
            "q": (16, False),
            "i": (32, True),
            "u": (32, False),
            "x": (64, True),
            "t": (64, False),
        }[token]
        value = self.random.getrandbits(bits)
        return value - 2 ** (bits - 1) if signed else value

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
