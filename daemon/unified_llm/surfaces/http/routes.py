"""Explained routes between the wire and the operations."""

from unified_llm.domain.models import ModelId
from unified_llm.domain.money import render_dollars
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.operations.routes import Explanation, Question
from unified_llm.wire import native


def route_question(asked: native.ExplainShape) -> Question:
    """What a client asks."""
    return Question(
        local_only=asked.local_only,
        prompt_tokens=Tokens(asked.prompt_tokens),
        prompt=Bytes(asked.prompt_bytes),
        has_tools=asked.tools,
    )


def explanation_body(model: ModelId, found: Explanation) -> native.ExplanationBody:
    """Who would be asked for `model`, and why."""
    return native.ExplanationBody(
        model=model,
        route=found.route.name,
        strategy=found.route.strategy.value,
        kept_local=found.kept_local,
        targets=tuple(
            native.ExplainedTargetBody(
                model=each.model,
                backend=each.backend,
                place=each.place,
                reason=each.reason,
                resident=each.is_resident,
                most_dollars=None if each.cost is None else render_dollars(each.cost),
                first_content_seconds=each.first_content,
                loading_seconds=each.loading,
                leaving=each.leaving,
            )
            for each in found.targets
        ),
        rules=tuple(
            native.ExplainedRuleBody(number=each.number, applies=each.applies, why=each.why)
            for each in found.rules
        ),
    )
