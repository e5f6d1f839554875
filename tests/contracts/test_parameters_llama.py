"""llama.cpp keeps calls whose arguments stand one by one to what their tools take."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.test_calls_llama import answer, ask
from tests.contracts.test_engine_llama import load_of
from tests.grammar_judge import Judge, open_judge
from tests.tiny_gguf import write_tiny_gguf
from tests.tool_templates import GLM, MINIMAX, QWEN_CODER
from tests.unit.worker.test_parameter_probe import FORMS
from tests.unit.worker.test_parameters import USE, written
from unified_llm.domain.chat import FinishReason, Tool, ToolChoice, ToolUse
from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.calls import CallForm, calls_grammar
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Done

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=["qwen", "glm", "minimax"])
MUST = ToolUse(USE.tools, ToolChoice.REQUIRED)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with open_judge(tmp_path_factory.mktemp("judge")) as judge:
        yield judge


@pytest.mark.keeps_descriptors
@every_form
def test_llama_cpp_lets_calls_pass_and_nothing_else(judge: Judge, form: CallForm) -> None:
    grammar = calls_grammar(form, MUST)
    whole: dict[str, Any] = {
        "path": 'a <b>\n\n</c "\\',
        "text": "",
        "mode": "add",
        "short": "x",
        "count": -12,
        "options": {"a": ["</parameter>", None]},
        "either": "null",
    }
    for arguments in ({"path": ""}, whole, {"path": "é", "either": None}):
        assert judge.accepts(grammar, written(form, [("write", arguments)])), arguments
    assert judge.accepts(grammar, written(form, [("list", {})]))
    several = written(form, [("write", {"path": "a"}), ("list", {})])
    assert judge.accepts(grammar, several) == (form.between is not None)
    one = written(form, [("write", {"path": "a", "mode": "add", "count": 3})])
    assert judge.accepts(grammar, one)
    for wrong in (
        one[:-1],
        one + "!",
        one.replace("write", "wirte"),
        one.replace("path", "paht"),
        one.replace("add", "adds"),
        one.replace("3", "three"),
        written(form, [("write", {})]),  # path is required
        written(form, [("write", {"mode": "add", "path": "a"})]),  # in another order
        written(form, [("write", {"path": "a", "short": "0123456789"})]),
        written(form, [("list", {"path": "a"})]),
        "I write. " + one,
    ):
        assert not judge.accepts(grammar, wrong), wrong


@pytest.mark.keeps_descriptors
def test_a_value_that_looks_like_its_end_is_no_bare_text(judge: Judge) -> None:
    form = FORMS[GLM]
    listed = {"type": "object", "properties": {"path": {"enum": ["a", "</arg_value>"]}}}
    use = ToolUse((Tool("write", "", json.dumps(listed)),), ToolChoice.REQUIRED)
    grammar = calls_grammar(form, use)
    assert judge.accepts(grammar, written(form, [("write", {"path": '"</arg_value>"'})]))
    assert not judge.accepts(grammar, written(form, [("write", {"path": "a"})]))


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"properties": {"a b": {}}}, "properties.a b"),
        ({"properties": {"a>": {}}}, "properties.a>"),
        ({"anyOf": [{"type": "object"}]}, "anyOf"),
        ({"properties": {"a": {}}, "required": ["b"]}, "required[0]"),
        ({"properties": {"a": False}, "required": ["a"]}, "required[0]"),
        ({"properties": {"a": {"not": {}}}}, "properties.a.not"),
        ({"minProperties": 1}, "minProperties"),
    ],
)
def test_what_can_not_be_enforced_is_refused_by_its_place(
    parameters: dict[str, Any], place: str
) -> None:
    use = ToolUse((*USE.tools, Tool("odd", "", json.dumps({"type": "object", **parameters}))))
    with pytest.raises(InvalidRequest) as caught:
        calls_grammar(FORMS[QWEN_CODER], use)
    assert caught.value.parameter == f"tools[2].function.parameters.{place}"


@pytest.mark.slow
@pytest.mark.parametrize("source", [QWEN_CODER, GLM, MINIMAX], ids=["qwen", "glm", "minimax"])
def test_the_engine_makes_calls_that_the_tool_takes(source: str, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "unit": {"enum": ["celsius", "kelvin"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "exact": {"type": "boolean"},
        },
        "required": ["unit", "days"],
    }
    use = ToolUse(
        (Tool("forecast", "What comes.", json.dumps(schema)),),
        ToolChoice.REQUIRED,
        is_parallel=False,
    )
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=2048, chat_template=source)
    engine = open_llama_engine()
    engine.load(msgspec.structs.replace(load_of(path), context_tokens=2048), lambda _: None)
    for seed in range(5):
        text, calls, end = answer(engine, ask(use, number=seed + 1, seed=seed, temperature=2.0))
        assert isinstance(end, Done), end
        assert (text, end.reason) == ("", FinishReason.TOOL_CALLS)
        ((name, told),) = calls
        arguments = json.loads(told)
        assert name == "forecast"
        assert arguments.pop("exact", True) in (True, False)
        assert arguments.pop("unit") in ("celsius", "kelvin")
        assert 1 <= arguments.pop("days") <= 9
        assert arguments == {}
    engine.close()
