"""What the answer to a request has to look like, as one grammar."""

from functools import lru_cache
from typing import Final

from unified_llm.domain.chat import JsonAnswer
from unified_llm.grammar.gbnf import Grammar
from unified_llm.grammar.objects import SPACE
from unified_llm.grammar.schema import object_grammar, object_rule, schema_grammar, schema_rule
from unified_llm.grammar.until import until_rule

SCHEMA: Final = "json_schema"
"""What a refusal calls the schema of an answer."""

_CACHED: Final = 128


def answer_grammar(answer: JsonAnswer | None, thoughts_end: str | None = None) -> str | None:
    """The grammar of the whole answer; None if it may be anything. Raises InvalidRequest.

    thoughts_end: the tag before which the model thinks freely; None if it answers at once.
    """
    if answer is None:
        return None
    if thoughts_end is not None:
        return _after_thoughts(answer.schema, thoughts_end)
    return object_grammar() if answer.schema is None else schema_grammar(answer.schema, SCHEMA)


def answer_rule(grammar: Grammar, answer: JsonAnswer) -> str:
    """The name of a rule of `grammar` for what `answer` says. Raises InvalidRequest."""
    if answer.schema is None:
        return object_rule(grammar)
    return schema_rule(grammar, answer.schema, SCHEMA)


@lru_cache(maxsize=_CACHED)
def _after_thoughts(schema: str | None, thoughts_end: str) -> str:
    grammar = Grammar()
    form = answer_rule(grammar, JsonAnswer(schema))
    space = grammar.add(SPACE)
    return grammar.render(f"{until_rule(grammar, thoughts_end)} {space} {form}")
