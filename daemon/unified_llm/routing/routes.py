"""What a name that somebody asks for stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import AUTO, Route, Strategy
from unified_llm.routing.own_strategy import OwnStrategy

# A prompt must never leave the machine by default, so nothing but models of it is in here.
_AUTO = Route(AUTO, Strategy.LOCAL_FIRST, targets=None, local_only=True)


@dataclass(frozen=True, slots=True)
class RouteBook:
    """The names of the settings.

    fallbacks: what is asked, in this order, when the model asked for does not answer.
    local_only_callers: principals whose requests never leave the machine. strategies: those of
    somebody else's, by name.
    """

    routes: Mapping[ModelId, Route] = field(default_factory=dict)
    aliases: Mapping[ModelId, ModelId] = field(default_factory=dict)
    fallbacks: Mapping[ModelId, tuple[ModelId, ...]] = field(default_factory=dict)
    local_only_callers: frozenset[str] = frozenset()
    strategies: Mapping[str, OwnStrategy] = field(default_factory=dict)

    def resolve(self, name: ModelId) -> Route:
        """What `name` stands for. A model stands for itself and what it falls back to."""
        model = self.aliases.get(name, name)
        if (route := self.routes.get(model)) is not None:
            return route
        if model == AUTO:
            return _AUTO
        return Route(name, Strategy.IN_ORDER, (model, *self.fallbacks.get(model, ())))

    def resolve_alone(self, name: ModelId) -> Route:
        """As `resolve`, for what only one model can do: nothing falls back.

        Raises InvalidRequest if `name` stands for several.
        """
        model = self.aliases.get(name, name)
        route = self.routes.get(model)
        if route is None and model != AUTO:
            return Route(name, Strategy.IN_ORDER, (model,))
        if route is None or route.rules or route.targets is None or len(route.targets) > 1:
            raise InvalidRequest(
                f"{name} stands for several models, and their vectors can not be compared.",
                hint="Name one model, or an alias of it.",
                parameter="model",
            )
        return route

    def listed(self) -> tuple[tuple[ModelId, Route], ...]:
        """Every name of the settings, and what it stands for; by name."""
        return tuple((name, self.resolve(name)) for name in sorted(self.names))

    def named_targets(self) -> frozenset[ModelId]:
        """Every model that the settings speak of here."""
        found = {target for route in self.routes.values() for target in _targets_of(route)}
        found |= {target for targets in self.fallbacks.values() for target in targets}
        found |= {*self.fallbacks, *self.aliases.values()}
        return frozenset(found - self.names - {AUTO})

    @property
    def names(self) -> frozenset[ModelId]:
        """The names that are taken, and can not be a model's."""
        return frozenset({*self.routes, *self.aliases})


def _targets_of(route: Route) -> frozenset[ModelId]:
    ruled = (target for rule in route.rules for target in rule.targets or ())
    return frozenset((*(route.targets or ()), *ruled))
