"""OpenAI's tools: what a model may call, how it may, and the calls of earlier turns."""

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from unified_llm.domain.chat import Tool, ToolCall, ToolChoice, ToolUse
from unified_llm.domain.errors import InvalidRequest
from unified_llm.wire.fields import Shape
from unified_llm.wire.openai_formats import FunctionName

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


class FunctionShape(Shape):
    """A function. Calls always match its parameters, whatever `strict` says."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolShape(Shape):
    """One of `tools`; there are only functions."""

    type: Literal["function"]
    function: FunctionShape

    def tool(self) -> Tool:
        """The domain's word for it."""
        function = self.function
        schema = _NO_PARAMETERS if function.parameters is None else function.parameters
        return Tool(function.name, function.description or "", _text(schema))


class NamedFunctionShape(Shape):
    """The name of a function."""

    name: FunctionName


class NamedChoiceShape(Shape):
    """The function that has to be called."""

    type: Literal["function"]
    function: NamedFunctionShape


def _choice_tag(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<function>"


ToolChoiceShape = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[NamedChoiceShape, Tag("<function>")],
    Discriminator(_choice_tag),
]


class CalledFunctionShape(Shape):
    """What was called, and with what."""

    name: FunctionName
    arguments: str


class ToolCallShape(Shape):
    """A call that the assistant made in an earlier turn."""

    id: str
    type: Literal["function"]
    function: CalledFunctionShape

    def call(self) -> ToolCall:
        """The domain's word for it."""
        return ToolCall(self.id, self.function.name, self.function.arguments)


def tool_use(
    tools: list[ToolShape] | None, choice: str | NamedChoiceShape | None, is_parallel: bool | None
) -> ToolUse | None:
    """The tools of a request, and how they may be used. Raises InvalidRequest."""
    if not tools:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest(
                "tool_choice asks for a call, and there are no tools.", parameter="tool_choice"
            )
        return None
    offered = tuple(shape.tool() for shape in tools)
    parallel = is_parallel is not False
    if isinstance(choice, NamedChoiceShape):
        return ToolUse(offered, ToolChoice.REQUIRED, choice.function.name, is_parallel=parallel)
    return ToolUse(offered, ToolChoice(choice or "auto"), is_parallel=parallel)


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)
