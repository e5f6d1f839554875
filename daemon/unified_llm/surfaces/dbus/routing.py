"""The methods on routes: arguments into the domain's words, and answers back."""

from collections.abc import Mapping
from dataclasses import dataclass

from unified_llm.bus.objects import CallContext, Handler
from unified_llm.bus.values import Variant
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import render_dollars
from unified_llm.domain.routing import Route
from unified_llm.operations.routes import ExplainedTarget, Routes
from unified_llm.surfaces.dbus.options import ExplainOptions, NoOptions, parse_options

Options = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RoutingVerbs:
    """What stands behind the methods."""

    routes: Routes

    def of_manager(self) -> dict[str, Handler]:
        """Those of org.unifiedllm1.Manager."""
        return {"ListRoutes": self._list_routes, "ExplainRoute": self._explain_route}

    async def _list_routes(
        self, context: CallContext, options: Options
    ) -> tuple[list[tuple[object, ...]]]:
        parse_options(NoOptions, options)
        return ([_listed(name, route) for name, route in self.routes.list(context.caller)],)

    async def _explain_route(
        self, context: CallContext, model: str, options: Options
    ) -> tuple[object, ...]:
        question = parse_options(ExplainOptions, options).question()
        found = await self.routes.explain(context.caller, ModelId(model), question)
        return (
            found.route.name,
            found.route.strategy.value,
            found.kept_local or "",
            [_told(target) for target in found.targets],
            [(each.number, each.applies, each.why) for each in found.rules],
        )


def _listed(name: ModelId, route: Route) -> tuple[object, ...]:
    """One entry of ListRoutes."""
    return (name, route.strategy.value, route.local_only, list(route.targets or ()))


def _told(target: ExplainedTarget) -> dict[str, Variant]:
    """One target of ExplainRoute; what is not known is left out."""
    told = {
        "model": Variant("s", target.model),
        "backend": Variant("s", target.backend),
        "reason": Variant("s", target.reason),
        "resident": Variant("b", target.is_resident),
    }
    if target.place is not None:
        told["place"] = Variant("u", target.place)
    if target.cost is not None:
        told["most_dollars"] = Variant("s", render_dollars(target.cost))
    if target.first_content is not None:
        told["first_content_seconds"] = Variant("d", target.first_content)
    if target.loading is not None:
        told["loading_seconds"] = Variant("d", target.loading)
    if target.leaving is not None:
        told["leaving"] = Variant("as", list(target.leaving))
    return told
