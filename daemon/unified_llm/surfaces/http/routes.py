"""Plans of requests, as the wire tells of them."""

from unified_llm.domain.models import ModelId
from unified_llm.operations.routes import Explanation
from unified_llm.wire import native


def explanation_body(model: ModelId, found: Explanation) -> native.ExplanationBody:
    """Who would be asked for `model`, and why."""
    return native.ExplanationBody(
        model=model,
        route=found.route.name,
        strategy=found.route.strategy.value,
        kept_local=found.kept_local,
        targets=tuple(
            native.ExplainedTargetBody(
                model=each.model, backend=each.backend, place=each.place, reason=each.reason
            )
            for each in found.targets
        ),
    )
