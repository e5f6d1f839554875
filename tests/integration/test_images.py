"""A picture on its whole way: from a client's request to what a provider is sent."""

import base64
import json
from typing import Any

import pytest

from tests.fakes.exchange import FakeExchange
from tests.fakes.house import USER, open_house
from tests.fakes.timers import FakeTimers
from unified_llm.domain.errors import InvalidRequest, ProviderFailed
from unified_llm.domain.models import ModelId
from unified_llm.domain.providers import ProviderKind, RemoteModel
from unified_llm.providers.backend import Deadlines, Provider
from unified_llm.providers.features import SUPPORTED, Feature
from unified_llm.providers.kinds import APIS
from unified_llm.wire.openai import parse_chat

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
ASKED = json.dumps(
    {
        "model": "far/eye",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            }
        ],
    }
).encode()


async def sent_to(kind: ProviderKind) -> list[dict[str, Any]]:
    """The bodies that a provider of `kind` is sent; it answers nothing."""
    exchange = FakeExchange()
    far = Provider("far", kind, APIS[kind](), exchange, FakeTimers(), Deadlines(), None)
    model = ModelId("far/eye")
    async with open_house(providers={"far": far}) as house:
        house.models.replace_remote({model: RemoteModel(model, "far", kind, "eye")})
        with pytest.raises((ProviderFailed, InvalidRequest)):
            async with house.inference.open_chat(USER, parse_chat(ASKED).request):
                pytest.fail("answered")
    return [json.loads(body) for _, _, body in exchange.asked]


@pytest.mark.parametrize("kind", ProviderKind)
async def test_a_picture_reaches_the_providers_that_see_and_no_others(kind: ProviderKind) -> None:
    bodies = await sent_to(kind)
    if Feature.IMAGES not in SUPPORTED[kind]:
        assert bodies == []
        return
    (body,) = bodies
    assert json.dumps(body).count(PNG) == 1
    assert body["model"] == "eye"
    assert "What is this?" in json.dumps(body)


def test_only_deepseek_does_not_see() -> None:
    blind = {kind for kind in ProviderKind if Feature.IMAGES not in SUPPORTED[kind]}
    assert blind == {ProviderKind.DEEPSEEK}
