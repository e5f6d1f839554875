"""What the answer to a request has to look like, as one grammar."""

from typing import Final

from unified_llm.domain.chat import JsonAnswer
from unified_llm.grammar.schema import object_grammar, schema_grammar

SCHEMA: Final = "json_schema"
"""What a refusal calls the schema of an answer."""


def answer_grammar(answer: JsonAnswer | None) -> str | None:
    """The grammar of the whole answer; None if it may be anything. Raises InvalidRequest."""
    if answer is None:
        return None
    return object_grammar() if answer.schema is None else schema_grammar(answer.schema, SCHEMA)
