"""OpenAI's `response_format`: what the answer has to look like."""

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from unified_llm.domain.chat import JsonAnswer
from unified_llm.wire.fields import Shape

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class TextFormatShape(Shape):
    """Anything."""

    type: Literal["text"]

    def answer(self) -> JsonAnswer | None:
        """The domain's word for it."""
        return None


class JsonObjectFormatShape(Shape):
    """Any JSON object."""

    type: Literal["json_object"]

    def answer(self) -> JsonAnswer | None:
        """The domain's word for it."""
        return JsonAnswer()


class JsonSchemaShape(Shape):
    """A schema and its name. Answers always match it, whatever `strict` says."""

    name: FunctionName
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormatShape(Shape):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaShape

    def answer(self) -> JsonAnswer | None:
        """The domain's word for it."""
        schema = self.json_schema.schema_
        return JsonAnswer(None if schema is None else json.dumps(schema, ensure_ascii=False))


def _tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


ResponseFormat = Annotated[
    Annotated[TextFormatShape, Tag("<text>")]
    | Annotated[JsonObjectFormatShape, Tag("<json_object>")]
    | Annotated[JsonSchemaFormatShape, Tag("<json_schema>")],
    Discriminator(_tag),
]
