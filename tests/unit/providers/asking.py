"""Requests that ask for one thing each, for every thing there is."""

from dataclasses import fields, replace
from typing import Any, Final

from tests.unit.fleet.asking import request
from unified_llm.domain.chat import (
    ChatRequest,
    JsonAnswer,
    Message,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolUse,
)
from unified_llm.domain.images import Image, ImageDetail, ImageFormat
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Tokens

SCHEMA: Final = '{"type":"object","properties":{"city":{"type":"string"}}}'
TOOL: Final = Tool("weather", "The weather of a city.", SCHEMA)
PLAIN: Final = request("Sky?", model=ModelId("it/model"))
CONVERSATION: Final = (
    Message(Role.SYSTEM, "Brief."),
    Message(Role.USER, "Rain in Ulm, and where else?"),
    Message(
        Role.ASSISTANT,
        "I look.",
        (ToolCall("c1", "weather", '{"city":"Ulm"}'), ToolCall("c2", "weather", "{}")),
    ),
    Message(Role.TOOL, "Rain", tool_call_id="c1"),
    Message(Role.TOOL, "Sun", tool_call_id="c2"),
    Message(Role.ASSISTANT, "Only there."),
    Message(Role.USER, "Thanks."),
)
"""Every role, and every kind of turn."""
GIF: Final = b"GIF89a rest"
_GIFS: Final = (Image(ImageFormat.GIF, GIF, 4), Image(ImageFormat.GIF, GIF, 13))
_LOOK: Final = Message(Role.USER, "This or that?", images=_GIFS)
_LOOK_CLOSELY: Final = replace(
    _LOOK, images=tuple(replace(image, detail=ImageDetail.HIGH) for image in _GIFS)
)
_OTHERS: Final[dict[str, Any]] = {
    "top_k": 5,
    "seed": 7,
    "logit_bias": ((1, 2.0),),
    "ignore_eos": True,
}
_SAMPLING: Final[dict[str, Any]] = {
    field.name: _OTHERS.get(field.name, 0.5) for field in fields(Sampling)
}

ASKING: Final[dict[str, ChatRequest]] = {
    "max_tokens": replace(PLAIN, max_tokens=Tokens(9)),
    "stop": replace(PLAIN, stop=("END",)),
    "tools": replace(PLAIN, tool_use=ToolUse((TOOL,))),
    "tool_choice": replace(PLAIN, tool_use=ToolUse((TOOL,), ToolChoice.REQUIRED)),
    "parallel_tool_calls": replace(PLAIN, tool_use=ToolUse((TOOL,), is_parallel=False)),
    "top_logprobs": replace(PLAIN, top_logprobs=2),
    "n": replace(PLAIN, choices=2),
    "response_format.json_object": replace(PLAIN, answer=JsonAnswer()),
    "response_format.json_schema": replace(PLAIN, answer=JsonAnswer(SCHEMA)),
    "x_unified_llm.continue": replace(PLAIN, begun="Blue li"),
    "image_url": replace(PLAIN, messages=(_LOOK,)),
    "image_url.detail": replace(PLAIN, messages=(_LOOK_CLOSELY,)),
    **{
        name: replace(PLAIN, sampling=replace(Sampling(), **{name: value}))
        for name, value in _SAMPLING.items()
    },
}
"""By the name of what is asked for."""
