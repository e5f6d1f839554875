"""Requests as the tests of the fleet make them."""

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.chat import ChatRequest, Message, Role
from unified_llm.domain.devices import RAM
from unified_llm.domain.models import ModelId
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.fleet.generation_stream import Order

TINY = ModelId("tiny")
CALLER = Caller(uid=1000, gids=frozenset(), pid=None, door=Door.INTERNAL, connection="test")
PLACEMENT = Placement(Tokens(512), slots=2, threads=1, memory={RAM: Bytes(10**9)})


def request(text: str = "hello", *, model: ModelId = TINY) -> ChatRequest:
    return ChatRequest(model, (Message(Role.USER, text),))


def order(text: str = "hello") -> Order:
    return Order("uid:1000", request(text), text.encode())
