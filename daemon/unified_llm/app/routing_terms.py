"""What the section `routing` means to the room of that name, in its own terms."""

from collections.abc import Mapping
from typing import Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Route, Rule, Strategy, When
from unified_llm.domain.units import Seconds
from unified_llm.routing.attempts import AttemptPolicy
from unified_llm.routing.breaker import BreakerPolicy
from unified_llm.routing.own_strategy import OwnStrategy
from unified_llm.routing.routes import RouteBook
from unified_llm.settings.sections.routes import RouteSettings, RuleSettings, WhenSettings
from unified_llm.settings.sections.routing import RoutingSettings

LONGEST_PAUSE: Final = Seconds(300)


def route_book(routing: RoutingSettings, strategies: Mapping[str, OwnStrategy]) -> RouteBook:
    """The names that stand for models. strategies: all that `routing` names."""
    return RouteBook(
        routes={
            ModelId(name): _route(ModelId(name), route) for name, route in routing.routes.items()
        },
        aliases={ModelId(name): ModelId(model) for name, model in routing.aliases.items()},
        fallbacks={
            ModelId(name): tuple(map(ModelId, models)) for name, models in routing.fallbacks.items()
        },
        local_only_callers=frozenset(routing.local_only_users),
        strategies=strategies,
    )


def _route(name: ModelId, route: RouteSettings) -> Route:
    return Route(
        name,
        Strategy(route.strategy),
        tuple(map(ModelId, route.targets)),
        {ModelId(target): weight for target, weight in route.weights.items()},
        route.local_only,
        tuple(map(_rule, route.rules)),
        route.continues,
        route.custom_strategy,
    )


def _rule(rule: RuleSettings) -> Rule:
    return Rule(
        _when(rule.when),
        None if rule.targets is None else tuple(map(ModelId, rule.targets)),
        None if rule.strategy is None else Strategy(rule.strategy),
    )


def _when(when: WhenSettings) -> When:
    return When(
        models=frozenset(map(ModelId, when.models or ())),
        users=frozenset(when.users or ()),
        least_prompt=when.least_prompt_bytes,
        most_prompt=when.most_prompt_bytes,
        has_tools=when.tools,
        from_minute=_minute(when.from_time),
        until_minute=_minute(when.until_time),
        on_battery=when.on_battery,
        stays_local=when.local_only,
    )


def _minute(clock: str | None) -> int | None:
    """Since midnight, of a time that has been checked."""
    if clock is None:
        return None
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


def attempt_policy(routing: RoutingSettings) -> AttemptPolicy:
    """How often and how long other targets are tried."""
    return AttemptPolicy(most=routing.max_attempts, patience=routing.patience_seconds)


def breaker_policy(routing: RoutingSettings) -> BreakerPolicy:
    """When a provider is left alone."""
    return BreakerPolicy(
        failures=routing.breaker_failures,
        pause=routing.breaker_seconds,
        longest=Seconds(max(routing.breaker_seconds, LONGEST_PAUSE)),
    )
