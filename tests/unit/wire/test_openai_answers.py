"""What is written is what the official client's own types read."""

import json
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.fakes.house import make_spec
from unified_llm.domain.answers import Answer, Choice
from unified_llm.domain.chat import (
    ChoiceEnded,
    Continued,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenChance,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import Adapter, ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.routing import CheaperTarget
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.wire.openai_answers import CompletionWriter, encode_model, encode_models

END = Finished(FinishReason.STOP, Usage(Tokens(3), Tokens(2)))
CALL = ToolCall("call_1", "weather", '{"city": "Bonn"}')


def writer() -> CompletionWriter:
    return CompletionWriter("ab", ModelId("tiny"), 1)


def whole(end: Finished = END, **parts: Any) -> ChatCompletion:
    answer = Answer((Choice(end.reason, **parts),), end)
    return ChatCompletion.model_validate_json(writer().whole(answer))


def read(events: bytes) -> list[ChatCompletionChunk]:
    told = (each.removeprefix(b"data: ") for each in events.split(b"\n\n"))
    return [ChatCompletionChunk.model_validate_json(e) for e in told if e and e != b"[DONE]"]


def chunks(*pieces: Delta) -> list[ChatCompletionChunk]:
    writes = writer()
    return read(b"".join(writes.piece(piece) for piece in pieces))


def test_a_change_of_who_speaks_is_a_chunk_without_content() -> None:
    change = Continued(ModelId("far/x"), "far", 7)
    role, chunk = read(writer().piece(change))
    assert role.choices[0].delta.role == "assistant"
    assert chunk.choices[0].delta.content is None
    told = {"model": "far/x", "backend": "far", "offset": 7}
    assert (chunk.model_extra or {})["x_unified_llm"] == {"continued": told}
    extras = whole(end=replace(END, continued=(change,))).model_extra or {}
    assert extras["x_unified_llm"]["continued"] == [told]


def test_a_target_that_would_have_cost_less_is_named_with_its_cost() -> None:
    cheaper = CheaperTarget(ModelId("far/x"), "far", Money(2_000_000))
    extras = whole(end=replace(END, cheaper=cheaper)).model_extra or {}
    told = {"model": "far/x", "backend": "far", "cost_dollars": "0.000002"}
    assert extras["x_unified_llm"]["cheaper"] == told
    assert (whole().model_extra or {})["x_unified_llm"]["cheaper"] is None


def test_a_text_has_content_and_no_calls() -> None:
    message = whole(text="Blue.").choices[0].message
    assert (message.content, message.refusal, message.tool_calls) == ("Blue.", None, None)


def test_an_empty_text_is_not_null() -> None:
    assert whole().choices[0].message.content == ""


def test_a_call_alone_has_no_content() -> None:
    message = whole(tool_calls=(CALL,)).choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert (call.id, call.function.name) == ("call_1", "weather")
    assert json.loads(call.function.arguments) == {"city": "Bonn"}


def test_a_refusal_alone_has_no_content() -> None:
    message = whole(refusal="No.").choices[0].message
    assert (message.content, message.refusal) == (None, "No.")


def test_reasoning_stands_beside_the_text() -> None:
    message = whole(text="4", reasoning="2 and 2").choices[0].message
    assert (message.content, message.model_extra) == ("4", {"reasoning_content": "2 and 2"})


def test_drafted_tokens_are_told_only_if_there_were_any() -> None:
    usage = Usage(Tokens(3), Tokens(9), accepted_tokens=Tokens(6), rejected_tokens=Tokens(2))
    told = whole(end=Finished(FinishReason.STOP, usage)).usage
    assert told is not None
    details = told.completion_tokens_details
    assert details is not None
    assert details.accepted_prediction_tokens == 6
    assert details.rejected_prediction_tokens == 2
    assert details.reasoning_tokens is None


def test_reasoning_tokens_are_told_only_if_known() -> None:
    assert whole().usage is not None
    assert whole().usage.completion_tokens_details is None  # type: ignore[union-attr]
    usage = Usage(Tokens(3), Tokens(2), reasoning_tokens=Tokens(1))
    told = whole(end=Finished(FinishReason.STOP, usage)).usage
    assert told is not None
    assert told.completion_tokens_details is not None
    assert told.completion_tokens_details.reasoning_tokens == 1


def test_a_streamed_call_names_itself_once() -> None:
    role, first, second = chunks(
        ToolCallDelta(0, "call_1", "weather", "{"), ToolCallDelta(0, arguments="}")
    )
    assert role.choices[0].delta.role == "assistant"
    begun, goes_on = first.choices[0].delta.tool_calls, second.choices[0].delta.tool_calls
    assert begun is not None
    assert begun[0].function is not None
    assert (begun[0].id, begun[0].type, begun[0].function.name) == ("call_1", "function", "weather")
    assert goes_on is not None
    assert goes_on[0].function is not None
    assert (goes_on[0].id, goes_on[0].function.name) == (None, None)
    assert (begun[0].function.arguments, goes_on[0].function.arguments) == ("{", "}")


def test_each_kind_of_piece_has_its_field() -> None:
    _, text, thought, refusal = chunks(TextDelta("a"), ReasoningDelta("b"), RefusalDelta("c"))
    assert text.choices[0].delta.content == "a"
    assert thought.choices[0].delta.model_extra == {"reasoning_content": "b"}
    assert refusal.choices[0].delta.refusal == "c"


HALF = TokenLogprob(TokenChance("\ufffd", b"\xc3", -0.5), (TokenChance("<end>", None, -9999.0),))


def test_half_a_character_is_told_by_its_bytes() -> None:
    (first, second) = chunks(TextDelta("é", (HALF,)))
    assert first.choices[0].logprobs is None
    told = second.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    (token,) = told.content
    assert (token.token, token.bytes, token.logprob) == ("\ufffd", [0xC3], -0.5)
    assert [(each.token, each.bytes) for each in token.top_logprobs] == [("<end>", None)]
    answer = whole(text="é", logprobs=(HALF,)).choices[0].logprobs
    assert answer is not None
    assert answer.content == told.content


def test_no_chances_are_null() -> None:
    assert whole(text="Blue.").choices[0].logprobs is None


def test_choices_are_told_in_their_order_with_their_own_ends() -> None:
    choices = (Choice(FinishReason.STOP, "a"), Choice(FinishReason.LENGTH, "b"))
    told = ChatCompletion.model_validate_json(writer().whole(Answer(choices, END)))
    found = [(each.index, each.message.content, each.finish_reason) for each in told.choices]
    assert found == [(0, "a", "stop"), (1, "b", "length")]


def test_streamed_choices_each_name_their_role_and_end() -> None:
    writes = writer()
    pieces = (
        TextDelta("b", choice=1),
        TextDelta("a"),
        ChoiceEnded(1, FinishReason.LENGTH),
        ChoiceEnded(2, FinishReason.STOP),
    )
    events = b"".join(writes.piece(piece) for piece in pieces) + writes.end(END)
    told = [
        (choice.index, choice.delta.role, choice.delta.content, choice.finish_reason)
        for chunk in read(events)
        for choice in chunk.choices
    ]
    assert told == [
        (1, "assistant", "", None),
        (1, None, "b", None),
        (0, "assistant", "", None),
        (0, None, "a", None),
        (1, None, None, "length"),
        (2, "assistant", "", None),
        (2, None, None, "stop"),
        (0, None, None, "stop"),
    ]


def test_adapters_are_listed_behind_their_model() -> None:
    law = Adapter("law", PurePath("/law"), 0.5, None, None, (Bytes(10),), Bytes(2))
    spec = replace(make_spec(ModelId("tiny")), adapters=(law,))
    status = ModelStatus(spec.id, ModelState.READY)
    listed = json.loads(encode_models([(spec, status)], []))["data"]
    assert [Model.model_validate(each).id for each in listed] == ["tiny", "tiny:law"]
    assert listed[1]["parent"] == "tiny"
    own = listed[1]["x_unified_llm"]
    assert (own["source"], own["state"], own["scale"]) == ("adapter", "ready", 0.5)
    assert own["size_bytes"] == 12
    assert json.loads(encode_model(spec, status, law)) == listed[1]
    assert json.loads(encode_model(spec, status)) == listed[0]
