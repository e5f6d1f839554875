"""A template is asked how its model writes calls, and needs no name for that."""

import pytest

from tests.tool_templates import DEEPSEEK, HERMES, LLAMA3, MISTRAL, WITHOUT_JSON
from tests.unit.worker.test_template import template
from unified_llm.grammar.calls import ID_SLOT, CallForm
from unified_llm.worker.template import CHATML

_FORMS = {
    HERMES: CallForm(
        '<tool_call>{"name": "',
        '", "arguments": ',
        '}</tool_call><tool_call>{"name": "',
        "}</tool_call>",
    ),
    MISTRAL: CallForm(
        '[TOOL_CALLS] [{"name": "',
        '", "arguments": ',
        f', "id": "{ID_SLOT}"}}, {{"name": "',
        f', "id": "{ID_SLOT}"}}]',
    ),
    LLAMA3: CallForm('{"name": "', '", "parameters": ', None, "}"),
    DEEPSEEK: CallForm(
        "<|calls|><|call|>function<|sep|>",
        "\n```json\n",
        "\n```<|endcall|><|call|>function<|sep|>",
        "\n```<|endcall|><|endcalls|>",
    ),
}


@pytest.mark.parametrize("source", _FORMS)
def test_the_form_is_what_stands_around_names_and_arguments(source: str) -> None:
    assert template(source).call_form == _FORMS[source]


@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        WITHOUT_JSON,
        "{% if tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages[0].content }}",
        "{{ tools | tojson }}{{ messages[0].content }}",  # tells of tools, and of no calls
    ],
)
def test_templates_without_a_form_have_none(source: str) -> None:
    assert template(source).call_form is None


@pytest.mark.parametrize(
    ("source", "trigger", "is_only_first"),
    [
        (HERMES, "<tool_call>", False),
        (MISTRAL, "[TOOL_CALLS]", False),
        (LLAMA3, '{"name":', True),
        (DEEPSEEK, "<|calls|>", False),
    ],
)
def test_a_call_is_told_by_its_marker_or_as_the_first_thing_said(
    source: str, trigger: str, is_only_first: bool
) -> None:
    form = template(source).call_form
    assert form is not None
    assert (form.trigger, form.is_only_first) == (trigger, is_only_first)


def test_a_template_that_runs_for_ever_has_no_form() -> None:
    source = "{{ tools }}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    assert template(source + "{% endfor %}", tick=0.5).call_form is None
