"""Arguments that are written one by one come out as JSON, wherever their text is cut."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tool_templates import GLM, MINIMAX, QWEN_CODER
from tests.unit.worker.test_calling import cut
from tests.unit.worker.test_parameter_probe import FORMS
from unified_llm.domain.chat import Tool, ToolChoice, ToolUse
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.calling import CallPiece, CallSplitter
from unified_llm.worker.parameters import ParameterReader

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "Where."},
        "text": {"type": "string"},
        "mode": {"enum": ["add", "replace"]},
        "short": {"type": "string", "maxLength": 9},
        "count": {"type": "integer"},
        "options": {"type": "object"},
        "either": {"type": ["string", "null"]},
    },
    "required": ["path"],
}
BARE = {"path", "text", "mode"}
USE = ToolUse(
    (Tool("write", "", json.dumps(SCHEMA)), Tool("list", "", '{"type": "object"}')),
    ToolChoice.AUTO,
)
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=["qwen", "glm", "minimax"])

Calls = list[tuple[str, dict[str, Any]]]


def written(form: CallForm, calls: Calls) -> str:
    """What a model writes that makes these calls."""
    return form.opening + (form.between or "").join(_one(form, *call) for call in calls)


def _one(form: CallForm, name: str, arguments: Mapping[str, Any]) -> str:
    parts = form.parameters
    assert parts is not None
    if not arguments:
        return name + parts.none
    members = [
        f"{key}{parts.value}{value if key in BARE else json.dumps(value)}{parts.end}"
        for key, value in arguments.items()
    ]
    return f"{name}{parts.first}{parts.following.join(members)}{parts.last}"


def read(form: CallForm, pieces: Iterable[str]) -> tuple[str, list[list[str]], int]:
    """The text, name and arguments of each call, and how many are whole."""
    splitter = CallSplitter(form, USE)
    text, calls = "", list[list[str]]()

    def take(told: list[str | CallPiece]) -> None:
        nonlocal text
        for each in told:
            if isinstance(each, str):
                text += each
                continue
            if each.name is not None:
                calls.append([each.name, ""])
            assert each.index == len(calls) - 1
            calls[-1][1] += each.arguments

    for piece in pieces:
        splitter.watch.grammar_from(piece.encode(errors="replace"))
        take(splitter.feed(piece))
    take(splitter.finish())
    return text, calls, splitter.calls


def texts() -> st.SearchStrategy[str]:
    """Any text, also one that looks much like an end."""
    hard = st.lists(st.sampled_from(["</", "\n</parameter", "</arg_value", ">", '"', "\\", "\n"]))
    plain = st.text(st.characters(codec="utf-8"), max_size=8)
    return (plain | hard.map("".join)).filter(
        lambda text: (
            not any((text + end).find(end) < len(text) for end in ("</parameter>", "</arg_value>"))
        )
    )


arguments = st.fixed_dictionaries(
    {"path": texts()},
    optional={
        "text": texts(),
        "mode": st.sampled_from(["add", "replace"]),
        "short": st.text(st.characters(codec="utf-8"), max_size=9) | st.just("</arg_value>"),
        "count": st.integers(),
        "options": st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False), max_size=2),
        "either": st.none() | st.just('"</parameter>\n'),
    },
)
calls_of = st.lists(
    st.tuples(st.just("write"), arguments) | st.tuples(st.just("list"), st.just({})),
    min_size=1,
    max_size=3,
)


@every_form
@given(data=st.data(), calls=calls_of)
def test_any_calls_come_back_however_their_text_is_cut(
    form: CallForm, data: st.DataObject, calls: Calls
) -> None:
    calls = calls if form.between is not None else calls[:1]
    text, found, whole = read(form, cut(data, "Well.\n" + written(form, calls)))
    assert text == "Well.\n"
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert whole == len(calls)


@every_form
@given(data=st.data())
def test_any_text_ends_well_and_means_the_same_however_it_is_cut(
    form: CallForm, data: st.DataObject
) -> None:
    assert form.parameters is not None
    fragments = [form.opening, *form.parameters.texts, "write", "path", "count", '"', "7", "x"]
    text = "".join(data.draw(st.lists(st.sampled_from(fragments) | st.text(max_size=3))))
    assert read(form, cut(data, text)) == read(form, [text])


@every_form
def test_a_text_is_told_while_it_is_written(form: CallForm) -> None:
    parts = form.parameters
    assert parts is not None
    reader = ParameterReader(parts, {"path": True, "count": False})
    told = ["".join(map(reader.take, piece)) for piece in (parts.first, f"path{parts.value}")]
    assert told == ["", '{"path": "']
    assert "".join(map(reader.take, 'a"\n')).startswith('a\\"')
    assert "".join(map(reader.take, f"b{parts.end}")).endswith('b"')
    assert "".join(map(reader.take, f"{parts.following}count{parts.value}")) == ', "count": '
    assert "".join(map(reader.take, "12")) == "12"
    assert "".join(map(reader.take, parts.end + parts.last)) == "}"
    assert reader.is_whole


def test_a_call_that_is_cut_off_is_not_counted() -> None:
    form = FORMS[QWEN_CODER]
    text = written(form, [("write", {"path": "a/b"})])
    for place in range(len(form.opening) + len("write>"), len(text)):
        assert read(form, [text[:place]])[2] == 0


@pytest.mark.parametrize("source", [QWEN_CODER, GLM, MINIMAX])
def test_what_the_form_does_not_know_ends_the_call(source: str) -> None:
    form = FORMS[source]
    text = written(form, [("write", {"path": "a"})])
    for wrong in (
        text.replace("path", "paht"),
        text.replace("path", "p" * 500),
        text.replace("write", "wrong"),
        text.replace("write", "write!"),
    ):
        assert read(form, [wrong])[2] == 0
