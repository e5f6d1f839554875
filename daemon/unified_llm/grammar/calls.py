"""Calls of tools as GBNF, in the form in which a model was taught to write them.

A form is what stands around names and arguments:

    <opening> name <middle> {arguments} <between> name <middle> {arguments} <closing>

Where arguments stand one by one, `parameters` says what is around them, from a name to the end of
its call, and there is no middle and no closing.

Hermes and Qwen have `<tool_call>{"name": "` as opening, Mistral `[TOOL_CALLS] [{"name": "`, Llama 3
`{"name": "`. Names and arguments are the tools' own: nothing else can be called.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from unified_llm.domain.chat import JsonAnswer, Tool, ToolChoice, ToolUse
from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.answers import answer_rule
from unified_llm.grammar.gbnf import Grammar, GrammarTooLarge, any_of, literal
from unified_llm.grammar.objects import SPACE
from unified_llm.grammar.parameters import ParameterForm, parameters_rule
from unified_llm.grammar.refusal import refused
from unified_llm.grammar.schema import schema_rule
from unified_llm.grammar.until import until_rule

MAX_CALLS: Final = 16
"""Of one answer: a small model that has nothing to say calls for ever."""
ID_SLOT: Final = "\ue000"
"""Stands in a form where the model writes an id of the call, which nobody needs to know."""
ID_CHARACTERS: Final = 9
"""Mistral's ids are nine letters and digits; templates insist on it."""

_ID: Final = f"[a-zA-Z0-9]{{{ID_CHARACTERS}}}"
_MARKER: Final = re.compile(r"[<\[][^<>\[\]{}]*[>\]]")
_CACHED: Final = 32


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a model writes its calls. between: None if it makes one call at a time.

    parameters: None if arguments are JSON.
    """

    opening: str
    middle: str
    between: str | None
    closing: str
    parameters: ParameterForm | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All of it."""
        inside = self.parameters.texts if self.parameters is not None else ()
        return self.opening, self.middle, self.between or "", self.closing, *inside

    @property
    def trigger(self) -> str:
        """The beginning of `opening` by which a call is told from anything else."""
        marker = _MARKER.match(self.opening)
        if marker is not None:
            return marker[0]
        return self.opening.rstrip(' "') if self.is_only_first else self.opening.split()[0]

    @property
    def is_only_first(self) -> bool:
        """Whether there is no marker: a call is one where the answer begins with it, only."""
        return self.opening[0] in "{[" and _MARKER.match(self.opening) is None


def calls_grammar(
    form: CallForm, use: ToolUse, written: str = "", thoughts_end: str | None = None
) -> str:
    """The grammar of an answer that is nothing but calls. Raises InvalidRequest.

    written: the part of the form's opening that has been written already. thoughts_end: as in
    `answer_grammar`.
    """
    grammar, before, calls = _rules(form, use, thoughts_end)
    return grammar.render(f"{before} {_fixed(form.opening.removeprefix(written))} {calls}".strip())


@lru_cache(maxsize=_CACHED)
def calls_or_answer_grammar(
    form: CallForm, use: ToolUse, answer: JsonAnswer, thoughts_end: str | None = None
) -> str:
    """The grammar of an answer that is nothing but calls, or is as `answer` says.

    The form has a marker, which is no JSON, so that its beginning tells which it is.
    Raises InvalidRequest.
    """
    grammar, before, calls = _new_rules(form, use, thoughts_end)
    try:
        said = answer_rule(grammar, answer)
        either = grammar.add(f"{_fixed(form.opening)} {calls} | {said}")
    except GrammarTooLarge as error:
        raise refused(("tools",), str(error)) from error
    return grammar.render(f"{before} {either}".strip())


@lru_cache(maxsize=_CACHED)
def _rules(form: CallForm, use: ToolUse, thoughts_end: str | None) -> tuple[Grammar, str, str]:
    return _new_rules(form, use, thoughts_end)


def _new_rules(form: CallForm, use: ToolUse, thoughts_end: str | None) -> tuple[Grammar, str, str]:
    """A grammar, and what in it stands before the opening and after it."""
    grammar = Grammar()
    try:
        rules = [
            _call(grammar, form, tool, index)
            for index, tool in enumerate(use.tools)
            if use.named in (None, tool.name)
        ]
        call = grammar.add(any_of(rules))
        calls = f"{call} {_more(grammar, form, use, call)} {_fixed(form.closing)}"
        before = ""
        if thoughts_end is not None:
            before = f"{until_rule(grammar, thoughts_end)} {grammar.add(SPACE)}"
    except GrammarTooLarge as error:
        raise refused(("tools",), str(error)) from error
    return grammar, before, grammar.add(calls)


def _more(grammar: Grammar, form: CallForm, use: ToolUse, call: str) -> str:
    if form.between is None or not use.is_parallel or use.named is not None:
        return '""'
    return grammar.repeat(f"{_fixed(form.between)} {call}", 0, MAX_CALLS - 1)


def _call(grammar: Grammar, form: CallForm, tool: Tool, index: int) -> str:
    where = f"tools[{index}].function.parameters"
    schema = object_schema(tool.parameters, where)
    if form.parameters is not None:
        rest = parameters_rule(grammar, form.parameters, schema, where)
        return grammar.add(f"{literal(tool.name)} {rest}")
    arguments = schema_rule(grammar, schema, where)
    return grammar.add(f"{literal(tool.name)} {_fixed(form.middle)} {arguments}")


def object_schema(text: str, where: str) -> str:
    """The schema of a tool's arguments, which are an object. Raises InvalidRequest."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused((where,), "is not JSON") from error
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise InvalidRequest(
            f"{where} must be a schema of type object.",
            hint="The arguments of a call are a JSON object.",
            parameter=where,
        )
    return json.dumps({"type": "object", **schema})


def _fixed(text: str) -> str:
    pieces = [literal(piece) for piece in text.split(ID_SLOT)]
    return f" {_ID} ".join(pieces)


def must_call(use: ToolUse | None) -> bool:
    """Whether the answer has to be calls."""
    return use is not None and use.choice is ToolChoice.REQUIRED


def may_call(use: ToolUse | None) -> bool:
    """Whether the answer may have calls in it."""
    return use is not None and use.choice is not ToolChoice.NONE
