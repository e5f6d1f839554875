"""What the a{sv} of each verb may hold, and conversations as they come over the bus.

A peer chooses the keys and the types, so both are checked by name; what values are sane is decided
behind the gate, for every door alike.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from unified_llm.bus.values import Variant
from unified_llm.domain.chat import ChatRequest, JsonAnswer, Message, Role, Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.models import MODEL_ID_PATTERN, ModelId, is_model_id
from unified_llm.domain.sampling import NUMBERS
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.operations.memory_leases import LeasePurpose
from unified_llm.operations.routes import Question

_INTEGERS: Final = frozenset("ynqiuxt")
_LARGEST_U: Final = 2**32 - 1
_MOST_SHOWN: Final = 40

_Convert = Callable[[Any], object]


def _variant(expected: str, accepted: frozenset[str], convert: _Convert) -> BeforeValidator:
    def unpack(value: object) -> object:
        if not isinstance(value, Variant) or value.signature not in accepted:
            signature = value.signature if isinstance(value, Variant) else type(value).__name__
            raise _mismatch(f"has type '{signature}'", expected)
        return convert(value.value)

    return BeforeValidator(unpack)


def _mismatch(fact: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError(
        "variant", "{fact}; expected is {expected}", {"fact": fact, "expected": expected}
    )


def _count(value: int) -> int:
    if not 0 <= value <= _LARGEST_U:
        raise _mismatch(f"is {value}", f"type 'u', 0 to {_LARGEST_U}")
    return value


def _model_id(value: str) -> ModelId:
    if not is_model_id(value):
        raise _mismatch(f"is {_shown(value)!r}", f"a model id, {MODEL_ID_PATTERN}")
    return ModelId(value)


def _purpose(value: str) -> LeasePurpose:
    try:
        return LeasePurpose(value)
    except ValueError:
        raise _mismatch(f"is {_shown(value)!r}", ", ".join(LeasePurpose)) from None


_Count = Annotated[int, _variant("type 'u'", _INTEGERS, _count)]
_Number = Annotated[float, _variant("type 'd'", _INTEGERS | {"d"}, float)]
_Text = Annotated[str, _variant("type 's'", frozenset("s"), str)]
_Name = Annotated[ModelId, _variant("type 's'", frozenset("s"), _model_id)]
_Purpose = Annotated[LeasePurpose, _variant("type 's'", frozenset("s"), _purpose)]
_Texts = Annotated[tuple[str, ...], _variant("type 'as'", frozenset({"as"}), tuple)]
_Flag = Annotated[bool, _variant("type 'b'", frozenset("b"), bool)]
_Biases = Annotated[
    tuple[tuple[int, float], ...],
    _variant("type 'a{ud}'", frozenset({"a{ud}"}), lambda given: tuple(given.items())),
]


class NoOptions(BaseModel):
    """For a verb that has none yet."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=True)


class AnswerOptions(NoOptions):
    """How an answer is made; the reference states the ranges."""

    max_tokens: _Count | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    top_k: _Count | None = None
    min_p: _Number | None = None
    typical_p: _Number | None = None
    repeat_penalty: _Number | None = None
    repeat_last_n: _Count | None = None
    frequency_penalty: _Number | None = None
    presence_penalty: _Number | None = None
    dry_multiplier: _Number | None = None
    dry_base: _Number | None = None
    dry_allowed_length: _Count | None = None
    dry_penalty_last_n: _Count | None = None
    xtc_probability: _Number | None = None
    xtc_threshold: _Number | None = None
    mirostat: _Count | None = None
    mirostat_tau: _Number | None = None
    mirostat_eta: _Number | None = None
    seed: _Count | None = None
    logit_bias: _Biases = ()
    ignore_eos: _Flag = False
    stop: _Texts = ()
    json_schema: _Text | None = None
    local_only: _Flag = False
    may_continue: Annotated[_Flag | None, Field(alias="continue")] = None

    def request(self, model: ModelId, messages: tuple[Message, ...]) -> ChatRequest:
        """These options, applied to a conversation."""
        sampling = Sampling(
            **{name: getattr(self, name) for name in NUMBERS},
            logit_bias=self.logit_bias,
            ignore_eos=self.ignore_eos,
        )
        limit = None if self.max_tokens is None else Tokens(self.max_tokens)
        answer = None if self.json_schema is None else JsonAnswer(self.json_schema or None)
        return ChatRequest(
            model,
            messages,
            limit,
            self.stop,
            sampling,
            answer=answer,
            local_only=self.local_only,
            may_continue=self.may_continue,
        )


class GenerateOptions(AnswerOptions):
    """Those of any answer, and what only a stream can tell."""

    top_logprobs: _Count | None = None
    n: _Count = 1

    def request(self, model: ModelId, messages: tuple[Message, ...]) -> ChatRequest:
        """These options, applied to a conversation."""
        plain = super().request(model, messages)
        return replace(plain, top_logprobs=self.top_logprobs, choices=self.n)


class GenerateTextOptions(AnswerOptions):
    """Those of any answer, and instructions before the prompt."""

    system: _Text | None = None


class LoadOptions(NoOptions):
    """Whether the load ends with who asked for it."""

    cancel_on_disconnect: _Flag = False


class ImportOptions(NoOptions):
    """What an imported model shall be called."""

    model_config = ConfigDict(validate_by_alias=True)

    name: _Name | None = Field(default=None, alias="as")


class RemoveOptions(NoOptions):
    """Whether a loaded model is unloaded first."""

    force: _Flag = False


class ExplainOptions(NoOptions):
    """What is known of the request whose route is to be explained."""

    local_only: _Flag = False
    prompt_tokens: _Count = 0
    prompt_bytes: _Count = 0
    tools: _Flag = False

    def question(self) -> Question:
        """The same, as it is asked."""
        return Question(
            local_only=self.local_only,
            prompt_tokens=Tokens(self.prompt_tokens),
            prompt=Bytes(self.prompt_bytes),
            has_tools=self.tools,
        )


class ReserveOptions(NoOptions):
    """What memory is reserved for."""

    purpose: _Purpose | None = None


_Options = TypeVar("_Options", bound=NoOptions)


def parse_options(kind: type[_Options], given: Mapping[str, object]) -> _Options:
    """The options in an a{sv}. Raises InvalidRequest, naming the key and what was expected."""
    for key in given:
        if key not in _keys(kind):
            raise _unknown_key(key, kind)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        key = str(problem["loc"][0])
        raise InvalidRequest(f"Option {key!r} {problem['msg']}.", parameter=key) from error


def parse_messages(given: Sequence[Sequence[str]]) -> tuple[Message, ...]:
    """The conversation in an a(ss). Raises InvalidRequest, naming the message."""
    return tuple(
        Message(_parse_role(role, index), content) for index, (role, content) in enumerate(given)
    )


def _parse_role(text: str, index: int) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise InvalidRequest(
            f"Message {index} has the role {_shown(text)!r}.",
            hint=f"Roles are {', '.join(Role)}; a message is the pair of role and text.",
            parameter=f"messages[{index}].role",
        ) from error


def _keys(kind: type[NoOptions]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in kind.model_fields.items())


def _unknown_key(key: str, kind: type[NoOptions]) -> InvalidRequest:
    shown = _shown(key)
    keys = _keys(kind)
    near = difflib.get_close_matches(key[:_MOST_SHOWN], keys, n=1)
    if near:
        hint = f"Did you mean {near[0]!r}?"
    elif keys:
        hint = f"Options are {', '.join(keys)}."
    else:
        hint = "This method has no options: pass an empty dictionary."
    return InvalidRequest(f"There is no option {shown!r}.", hint=hint, parameter=shown)


def _shown(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
