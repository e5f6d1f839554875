"""The real engine goes on with an answer that somebody has begun."""

import msgspec
import pytest

from tests.contracts.test_engine_answers import answers
from tests.contracts.test_engine_llama import load_of
from tests.real_models import smollm2
from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Generate

QUESTION = (Message(Role.USER, "Name the days of the week, separated by commas."),)


def ask(number: int, max_tokens: int, begun: str = "") -> Generate:
    return Generate(
        id=number,
        principal="uid:1000",
        messages=QUESTION,
        max_tokens=max_tokens,
        stop=(),
        sampling=Sampling(temperature=0.0),
        begun=begun,
    )


@pytest.mark.slow
def test_what_follows_a_beginning_is_what_the_model_would_have_said_itself() -> None:
    engine = open_llama_engine()
    engine.load(msgspec.structs.replace(load_of(smollm2()), threads=1), lambda _: None)
    try:
        ((whole, done),) = answers(engine, ask(1, 24)).values()
        cut = whole.rindex(" ", 0, len(whole) // 2)
        ((rest, _),) = answers(engine, ask(2, 24, whole[:cut])).values()
        assert cut > 0
        assert (whole[:cut] + rest).startswith(whole)
        ((other, told),) = answers(engine, ask(3, 8, "The first one is")).values()
        assert other.startswith(" ")
        assert told.prompt_tokens == done.prompt_tokens + 4
    finally:
        engine.close()
