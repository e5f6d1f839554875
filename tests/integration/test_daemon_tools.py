"""The whole daemon has a real model call tools for the official client."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.tiny_gguf import write_tiny_gguf
from tests.tool_templates import QWEN_CODER, write_smollm2_with_tools
from tests.whole_daemon import open_daemon

pytestmark = pytest.mark.slow

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "What the weather is like.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"enum": ["celsius", "kelvin"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ASKED: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
MUST: dict[str, Any] = {"model": "smol", "tools": [WEATHER], "tool_choice": "required", "seed": 1}


def assert_takes(arguments: str) -> None:
    found = json.loads(arguments)
    assert set(found) == {"city", "unit"}
    assert found["unit"] in ("celsius", "kelvin")


def test_the_official_client_calls_and_goes_on(tmp_path: Path) -> None:
    path = write_smollm2_with_tools(tmp_path / "smol.gguf")
    plain = write_tiny_gguf(tmp_path / "plain.gguf")
    models = {"smol": {"path": str(path)}, "plain": {"path": str(plain)}}
    changes = {"worker": {"engine": "llama"}, "models": models}
    with open_daemon(changes, with_bus=False) as daemon, daemon.open_openai() as client:
        whole = client.chat.completions.create(messages=ASKED, parallel_tool_calls=False, **MUST)
        message = whole.choices[0].message
        assert (whole.choices[0].finish_reason, message.content) == ("tool_calls", None)
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert call.type == "function"
        assert call.function.name == "get_weather"
        assert_takes(call.function.arguments)

        streamed = list(
            client.chat.completions.create(
                messages=ASKED, parallel_tool_calls=False, stream=True, **MUST
            )
        )
        pieces = [each for one in streamed for each in one.choices[0].delta.tool_calls or ()]
        first, *rest = (piece.function for piece in pieces if piece.function)
        assert (pieces[0].index, first.name) == (0, "get_weather")
        assert str(pieces[0].id).startswith("call_")
        assert all(piece.id is None for piece in pieces[1:])
        arguments = "".join(each.arguments or "" for each in (first, *rest))
        assert arguments == call.function.arguments
        assert len(rest) > 1  # they came while they were written
        assert streamed[-1].choices[0].finish_reason == "tool_calls"

        turns: list[Any] = [
            *ASKED,
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Rain, 7 degrees."},
        ]
        answer = client.chat.completions.create(
            model="smol", messages=turns, tools=[WEATHER], tool_choice="none", max_tokens=4
        )
        assert answer.choices[0].message.content
        assert answer.choices[0].message.tool_calls is None

        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="plain", messages=ASKED, tools=[WEATHER], max_tokens=4
            )
        assert caught.value.param == "tools"  # its template takes none


def test_arguments_written_one_by_one_reach_the_client_as_json(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "coder.gguf", context_tokens=2048, chat_template=QWEN_CODER)
    unit: Any = {"properties": {"unit": {"enum": ["celsius", "kelvin"]}, "exact": {"const": True}}}
    parameters = unit | {"type": "object", "required": ["unit", "exact"]}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    asked: dict[str, Any] = {"model": "coder", "tools": [tool], "tool_choice": "required"}
    asked |= {"messages": ASKED, "seed": 3, "parallel_tool_calls": False}
    changes = {
        "worker": {"engine": "llama"},
        "models": {"coder": {"path": str(path)}},
        "defaults": {"context_tokens": 2048},
    }
    with open_daemon(changes, with_bus=False) as daemon, daemon.open_openai() as client:
        whole = client.chat.completions.create(**asked)
        message = whole.choices[0].message
        assert (whole.choices[0].finish_reason, message.content) == ("tool_calls", None)
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert call.type == "function"
        found = json.loads(call.function.arguments)
        assert found["unit"] in ("celsius", "kelvin")
        assert found == {"unit": found["unit"], "exact": True}

        streamed = list(client.chat.completions.create(**asked, stream=True))
        pieces = [each for one in streamed for each in one.choices[0].delta.tool_calls or ()]
        told = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
        assert told == call.function.arguments
        assert len(pieces) > 2

        turns: list[Any] = [
            *ASKED,
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
        ]
        after = client.chat.completions.create(model="coder", messages=turns, max_tokens=2)
        assert after.choices[0].message.tool_calls is None

        # Beside tools that it need not call, an answer has the form and the chances asked for.
        brace = str(3 + 256 + ord("{") - 33)  # its place in the vocabulary of tests.tiny_gguf
        shape: Any = {"name": "shape", "schema": {"const": {"warm": True}}}
        free = asked | {"tool_choice": "auto", "logit_bias": {brace: 100}, "logprobs": True}
        free["response_format"] = {"type": "json_schema", "json_schema": shape}
        said = client.chat.completions.create(**free).choices[0]
        assert (said.message.content, said.finish_reason) == ('{"warm": true}', "stop")
        assert said.logprobs is not None
        chances = said.logprobs.content or []
        assert b"".join(bytes(each.bytes or []) for each in chances) == b'{"warm": true}'
