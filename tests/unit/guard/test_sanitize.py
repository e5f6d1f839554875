"""Ranges and sizes of a request."""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import ChatRequest, JsonAnswer, Message, Role, Sampling
from unified_llm.domain.errors import InvalidRequest, RequestError, TooLarge
from unified_llm.domain.models import ModelId
from unified_llm.domain.sampling import NUMBERS
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.guard.sanitize import MAX_MESSAGES, ensure_sane, tokens_at_least

SANE = ChatRequest(model=ModelId("tiny"), messages=(Message(Role.USER, "Hello"),))


def test_an_ordinary_request_passes() -> None:
    ensure_sane(SANE)


@pytest.mark.parametrize(
    ("request_", "parameter"),
    [
        (replace(SANE, messages=()), "messages"),
        (replace(SANE, messages=(Message(Role.USER, " \n"),)), "messages"),
        (replace(SANE, messages=(Message(Role.USER, "a\0b"),)), "messages[0].content"),
        (replace(SANE, messages=(Message(Role.USER, "a\ud800"),)), "messages[0].content"),
        (replace(SANE, stop=("a",) * 5), "stop"),
        (replace(SANE, stop=("",)), "stop[0]"),
        (replace(SANE, stop=("x" * 65,)), "stop[0]"),
        (replace(SANE, max_tokens=Tokens(0)), "max_tokens"),
        (replace(SANE, top_logprobs=21), "top_logprobs"),
        (replace(SANE, top_logprobs=-1), "top_logprobs"),
        (replace(SANE, choices=0), "n"),
        (replace(SANE, choices=5), "n"),
        (
            replace(SANE, sampling=Sampling(ignore_eos=True), answer=JsonAnswer()),
            "ignore_eos",
        ),
        (replace(SANE, answer=JsonAnswer('{"not": {}}')), "json_schema.not"),
        (replace(SANE, answer=JsonAnswer("no JSON")), "json_schema"),
    ],
)
def test_the_refusal_names_the_field(request_: ChatRequest, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ensure_sane(request_)
    assert refusal.value.parameter == parameter


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-3.0, 2.0**33, math.nan, math.inf, -math.inf])
def test_absurd_sampling_is_refused(name: str, value: float) -> None:
    changes: Any = {name: value}
    with pytest.raises(InvalidRequest) as refusal:
        ensure_sane(replace(SANE, sampling=Sampling(**changes)))
    assert refusal.value.parameter == name


def test_too_many_messages_are_refused_with_the_numbers() -> None:
    with pytest.raises(TooLarge, match=f"{MAX_MESSAGES + 1} messages; the most is {MAX_MESSAGES}"):
        ensure_sane(replace(SANE, messages=SANE.messages * (MAX_MESSAGES + 1)))


@pytest.mark.parametrize(("size", "least"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_a_prompt_has_a_token_for_16_bytes_at_least(size: int, least: int) -> None:
    assert tokens_at_least(Bytes(size)) == least


@given(
    st.builds(
        ChatRequest,
        model=st.just(ModelId("tiny")),
        messages=st.lists(
            st.builds(Message, st.sampled_from(Role), st.text(st.characters(exclude_categories=())))
        ).map(tuple),
        max_tokens=st.none() | st.integers().map(Tokens),
        stop=st.lists(st.text()).map(tuple),
        top_logprobs=st.none() | st.integers(),
        sampling=st.builds(
            Sampling,
            logit_bias=st.lists(st.tuples(st.integers(), st.floats())).map(tuple),
            ignore_eos=st.booleans(),
            **{name: st.none() | st.floats() | st.integers() for name in NUMBERS},
        ),
    )
)
def test_any_request_is_sane_or_refused_as_the_callers_mistake(request_: ChatRequest) -> None:
    with suppress(RequestError):
        ensure_sane(request_)
        "".join(message.content for message in request_.messages).encode()
