"""The whole daemon answers the official client in the form that it asked for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = pytest.mark.slow

ASKED: list[Any] = [{"role": "user", "content": "Describe somebody."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["glad", "sad"]},
    },
    "required": ["age", "mood"],
    "additionalProperties": False,
}


@contextmanager
def open_client(daemon: WholeDaemon) -> Iterator[openai.OpenAI]:
    transport = httpx2.HTTPTransport(uds=str(daemon.socket_path))
    with (
        httpx2.Client(transport=transport, timeout=PATIENCE) as http,
        openai.OpenAI(
            base_url="http://local/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        yield client


def form(schema: object) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}


def test_the_official_client_gets_what_its_schema_says_and_is_told_what_cannot_be() -> None:
    with (
        open_daemon({"worker": {"engine": "llama"}}, with_bus=False) as daemon,
        open_client(daemon) as client,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="tiny", messages=ASKED, response_format=form({"not": {}})
            )
        assert caught.value.param == "json_schema.not"
        assert daemon.workers() == []  # refused before a model was loaded for it

        whole = client.chat.completions.create(
            model="tiny", messages=ASKED, response_format=form(SCHEMA), seed=1
        )
        person = json.loads(whole.choices[0].message.content or "")
        assert whole.choices[0].finish_reason == "stop"
        assert person["mood"] in ("glad", "sad")
        assert 0 <= person["age"] <= 120

        pieces = client.chat.completions.create(
            model="tiny", messages=ASKED, response_format=form(SCHEMA), seed=1, stream=True
        )
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert json.loads(text) == person

        cut = client.chat.completions.create(
            model="tiny",
            messages=ASKED,
            response_format={"type": "json_object"},
            max_tokens=3,
            seed=1,
        )
        assert cut.choices[0].finish_reason == "length"
        assert (cut.choices[0].message.content or "").startswith("{")
