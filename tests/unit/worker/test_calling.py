"""Calls are found in an answer, wherever it is cut, and only where a grammar has seen to them."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import Tool, ToolChoice, ToolUse
from unified_llm.grammar.calls import ID_SLOT, CallForm
from unified_llm.worker.calling import CallPiece, CallSplitter, CallWatch

HERMES = CallForm(
    '<tool_call>\n{"name": "',
    '", "arguments": ',
    '}\n</tool_call>\n<tool_call>\n{"name": "',
    "}\n</tool_call>",
)
MISTRAL = CallForm(
    '[TOOL_CALLS] [{"name": "',
    '", "arguments": ',
    f', "id": "{ID_SLOT}"}}, {{"name": "',
    f', "id": "{ID_SLOT}"}}]',
)
LLAMA3 = CallForm('{"name": "', '", "parameters": ', None, "}")
DEEPSEEK = CallForm(
    "<|calls|><|call|>function<|sep|>",
    "\n```json\n",
    "\n```<|endcall|><|call|>function<|sep|>",
    "\n```<|endcall|><|endcalls|>",
)
FORMS = (HERMES, MISTRAL, LLAMA3, DEEPSEEK)

Calls = list[tuple[str, Any]]


def use_of(choice: ToolChoice = ToolChoice.AUTO) -> ToolUse:
    return ToolUse((Tool("get_weather", "", "{}"), Tool("get", "", "{}")), choice)


def written(form: CallForm, calls: Calls) -> str:
    """What a model writes that makes these calls."""
    texts = [f"{name}{form.middle}{json.dumps(arguments)}" for name, arguments in calls]
    between = (form.between or "").replace(ID_SLOT, "a1B2c3D4e")
    return form.opening + between.join(texts) + form.closing.replace(ID_SLOT, "123456789")


def read(
    form: CallForm, pieces: Iterable[str], choice: ToolChoice = ToolChoice.AUTO
) -> tuple[str, list[list[str]], CallSplitter]:
    """The text, and name and arguments of each call."""
    splitter = CallSplitter(form, use_of(choice))
    text, calls = "", []

    def take(told: list[str | CallPiece]) -> None:
        nonlocal text
        for each in told:
            if isinstance(each, str):
                assert each
                text += each
                continue
            if each.name is not None:
                calls.append([each.name, ""])
            assert each.index == len(calls) - 1
            calls[-1][1] += each.arguments

    for piece in pieces:
        splitter.watch.grammar_from(piece.encode())
        take(splitter.feed(piece))
    take(splitter.finish())
    return text, calls, splitter


def cut(draw: st.DataObject, text: str) -> list[str]:
    places = draw.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    ends = [*places, len(text)]
    return [text[a:b] for a, b in zip([0, *places], ends, strict=True)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("form", FORMS)
@given(
    data=st.data(),
    calls=st.lists(
        st.tuples(st.sampled_from(["get_weather", "get"]), st.dictionaries(st.text(), values)),
        min_size=1,
        max_size=3,
    ),
    choice=st.sampled_from([ToolChoice.AUTO, ToolChoice.REQUIRED]),
)
def test_any_calls_come_back_however_their_text_is_cut(
    form: CallForm, data: st.DataObject, calls: Calls, choice: ToolChoice
) -> None:
    calls = calls if form.between is not None else calls[:1]
    said = "" if choice is ToolChoice.REQUIRED or form.is_only_first else "Let me look.\n"
    text, found, splitter = read(form, cut(data, said + written(form, calls)), choice)
    assert text == said
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert splitter.calls == len(calls)


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_any_text_ends_well_and_means_the_same_however_it_is_cut(
    form: CallForm, data: st.DataObject
) -> None:
    fragments = [form.opening, form.middle, form.closing, "get", "{}", '{"a": "}', " ", "x", "\n"]
    text = "".join(data.draw(st.lists(st.sampled_from(fragments) | st.text(max_size=3))))
    whole = read(form, [text])[:2]
    assert read(form, cut(data, text))[:2] == whole
    if form.trigger not in text:
        assert whole == (text, [])


@given(st.text(alphabet="<tol_ca>{ \n"))
def test_text_that_is_no_call_is_not_held_back_for_ever(text: str) -> None:
    splitter = CallSplitter(HERMES, use_of())
    told = splitter.feed(text + "x")
    assert "<tool_call>" in text or "".join(map(str, told)) == text + "x"


def test_a_marker_that_no_grammar_has_seen_is_text() -> None:
    splitter = CallSplitter(HERMES, use_of())
    text = written(HERMES, [("get", {})])
    assert "".join(map(str, [*splitter.feed(text), *splitter.finish()])) == text


def test_white_space_before_a_call_is_told_to_nobody() -> None:
    assert read(HERMES, ["\n", "\n<tool", "_call>", '{"name": "get"'])[:2] == ("", [["get", ""]])


def test_a_call_that_is_cut_off_is_not_counted() -> None:
    text, calls, splitter = read(HERMES, ['<tool_call>{"name": "get", "arguments": {"a'])
    assert (text, calls, splitter.calls) == ("", [["get", '{"a']], 0)


@pytest.mark.parametrize(
    ("form", "tokens", "begun_by"),
    [
        (HERMES, ["Sure. ", "<tool_call>"], 1),
        (HERMES, ["<", "tool", "_call", ">\n"], 3),
        (HERMES, ["<tool", "s> <tool_", "call>"], 2),
        (HERMES, ["<tool_", "caller"], None),
        (LLAMA3, ['{"', "name", '": "'], 2),
        (LLAMA3, ["\n", '{"name": "'], 1),
        (LLAMA3, ["It is ", '{"name": "'], None),
        (LLAMA3, ['{"id": 1}', '{"name": "'], None),
        (MISTRAL, ["[TOOL", "_CALLS]", " ["], 1),
    ],
)
def test_the_token_that_completes_the_beginning_is_the_first_to_be_constrained(
    form: CallForm, tokens: list[str], begun_by: int | None
) -> None:
    watch = CallWatch(form, use_of())
    grammars = [watch.grammar_from(token.encode()) for token in tokens]
    assert [index for index, each in enumerate(grammars) if each] == (
        [] if begun_by is None else [begun_by]
    )
    assert watch.has_begun == (begun_by is not None)


def test_the_grammar_goes_on_where_the_model_has_come_to() -> None:
    watch = CallWatch(HERMES, use_of())
    assert watch.grammar_from(b"Well: <tool_") is None
    grammar = watch.grammar_from(b"call>")
    assert grammar is not None
    assert grammar.startswith(r'root ::= "call>\x0A{\x22name\x22: \x22" ')


def test_one_that_must_call_is_constrained_from_the_start() -> None:
    watch = CallWatch(HERMES, use_of(ToolChoice.REQUIRED))
    assert watch.has_begun
    assert watch.grammar_from(b"<tool_call>") is None


def test_beside_a_form_of_the_answer_a_marker_counts_at_its_beginning_only() -> None:
    said = json.dumps({"a": written(HERMES, [("get", {})])})
    for text, is_call in ((written(HERMES, [("get", {})]), True), (said, False)):
        splitter = CallSplitter(HERMES, use_of(), is_all_constrained=True)
        assert splitter.watch.grammar_from(b"\n") is None
        told: list[str | CallPiece] = []
        for character in text:
            assert splitter.watch.grammar_from(character.encode()) is None
            told += splitter.feed(character)
        told += splitter.finish()
        assert splitter.watch.has_begun == is_call
        assert splitter.calls == is_call
        assert "".join(each for each in told if isinstance(each, str)) == ("" if is_call else text)
