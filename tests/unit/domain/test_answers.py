"""Events in, one answer out."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.answers import AnswerBuilder, Choice
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
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Tokens

END = Finished(FinishReason.STOP, Usage(Tokens(1), Tokens(2)))


def build_all(*pieces: Delta | ChoiceEnded, end: Finished = END) -> tuple[Choice, ...]:
    builder = AnswerBuilder()
    for piece in pieces:
        assert builder.add(piece) is None
    answer = builder.add(end)
    assert answer is not None
    assert answer.end is end
    return answer.choices


def build(*pieces: Delta) -> Choice:
    (choice,) = build_all(*pieces)
    return choice


def test_pieces_of_each_kind_are_joined_apart() -> None:
    answer = build(
        ReasoningDelta("hm"),
        TextDelta("Bl"),
        ReasoningDelta("m"),
        TextDelta("ue"),
        RefusalDelta("-"),
    )
    assert answer == Choice(FinishReason.STOP, "Blue", "hmm", "-")


def test_calls_that_arrive_interleaved_come_out_in_their_order() -> None:
    answer = build(
        ToolCallDelta(1, "b", "second", "{"),
        ToolCallDelta(0, "a", "first", ""),
        ToolCallDelta(1, arguments="}"),
        ToolCallDelta(0, arguments="{}"),
    )
    assert answer.tool_calls == (ToolCall("a", "first", "{}"), ToolCall("b", "second", "{}"))


@given(st.lists(st.text(min_size=1)), st.lists(st.text()))
def test_however_an_answer_is_cut_it_is_the_same(texts: list[str], arguments: list[str]) -> None:
    answer = build(
        ToolCallDelta(0, "a", "f"),
        *map(TextDelta, texts),
        *(ToolCallDelta(0, arguments=piece) for piece in arguments),
    )
    assert answer.text == "".join(texts)
    assert answer.tool_calls == (ToolCall("a", "f", "".join(arguments)),)


def test_the_chances_of_all_tokens_are_kept_in_order() -> None:
    tokens = [TokenLogprob(TokenChance(text, text.encode(), -1.0)) for text in "abc"]
    answer = build(TextDelta("ab", (tokens[0], tokens[1])), TextDelta("", (tokens[2],)))
    assert answer.text == "ab"
    assert answer.logprobs == tuple(tokens)


def test_several_choices_are_kept_apart_and_in_their_order() -> None:
    first, second, third = build_all(
        TextDelta("c", choice=2),
        ToolCallDelta(0, "b", "f", "{}", choice=1),
        TextDelta("a"),
        ChoiceEnded(1, FinishReason.TOOL_CALLS),
        ChoiceEnded(2, FinishReason.LENGTH),
        TextDelta("A"),
        end=END,
    )
    assert first == Choice(FinishReason.STOP, "aA")
    assert second == Choice(FinishReason.TOOL_CALLS, tool_calls=(ToolCall("b", "f", "{}"),))
    assert third == Choice(FinishReason.LENGTH, "c")


def test_a_choice_that_said_nothing_is_there() -> None:
    end = Finished(FinishReason.LENGTH, None, choice=1)
    choices = build_all(ChoiceEnded(0, FinishReason.STOP), end=end)
    assert choices == (Choice(FinishReason.STOP), Choice(FinishReason.LENGTH))


def test_a_change_of_who_speaks_is_no_part_of_the_text() -> None:
    builder = AnswerBuilder()
    change = Continued(ModelId("far/x"), "far", 2)
    for event in (TextDelta("Bl"), change, TextDelta("ue")):
        assert builder.add(event) is None
    answer = builder.add(Finished(FinishReason.STOP, None, continued=(change,)))
    assert answer is not None
    assert answer.choices[0].text == "Blue"
