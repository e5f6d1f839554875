"""Templates that write arguments one by one show their form as others do."""

import pytest

from tests.tool_templates import GLM, MINIMAX, QWEN_CODER, WITHOUT_JSON
from tests.unit.worker.test_template import template
from unified_llm.grammar.calls import CallForm
from unified_llm.grammar.parameters import ParameterForm

FORMS = {
    QWEN_CODER: CallForm(
        "<tool_call>\n<function=",
        "",
        "\n<tool_call>\n<function=",
        "",
        ParameterForm(
            first=">\n<parameter=",
            value=">\n",
            end="\n</parameter>",
            following="\n<parameter=",
            last="\n</function>\n</tool_call>",
            none=">\n</function>\n</tool_call>",
        ),
    ),
    GLM: CallForm(
        "<tool_call>",
        "",
        "\n<tool_call>",
        "",
        ParameterForm(
            first="\n<arg_key>",
            value="</arg_key>\n<arg_value>",
            end="</arg_value>",
            following="\n<arg_key>",
            last="\n</tool_call>",
            none="\n</tool_call>",
        ),
    ),
    MINIMAX: CallForm(
        '<calls>\n<invoke name="',
        "",
        None,
        "",
        ParameterForm(
            first='">\n<parameter name="',
            value='">',
            end="</parameter>",
            following='\n<parameter name="',
            last="\n</invoke>\n</calls>",
            none='">\n</invoke>\n</calls>',
        ),
    ),
}


@pytest.mark.parametrize("source", FORMS)
def test_the_form_is_what_stands_around_names_keys_and_values(source: str) -> None:
    form = template(source).call_form
    assert form == FORMS[source]
    assert not form.is_only_first


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (QWEN_CODER, "\\n</parameter>", "\\n"),  # nothing tells where a text ends
        (QWEN_CODER, "<parameter={{key}}>\\n", "{{key}}"),  # nor a key
        (GLM, "<arg_key>{{key}}</arg_key>", "<arg_key>{{key|upper}}</arg_key>"),
        (GLM, "</tool_call>", ""),
        (MINIMAX, "</parameter>\\n{%endfor%}", "{%endfor%}"),
    ],
)
def test_what_can_not_be_told_apart_is_no_form(source: str, old: str, new: str) -> None:
    old, new = old.replace("\\n", "\n"), new.replace("\\n", "\n")
    assert old in source
    assert template(source.replace(old, new)).call_form is None


def test_an_element_named_by_its_key_is_no_form() -> None:
    assert template(WITHOUT_JSON).call_form is None


def test_a_template_that_wants_arguments_has_no_form() -> None:
    picky = "{%if not c.function.arguments%}{{raise_exception('none')}}{%endif%}<tool_call>"
    assert template(GLM.replace("<tool_call>", picky)).call_form is None
