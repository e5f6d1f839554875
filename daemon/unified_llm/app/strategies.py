"""Finds the strategies that routes name: entry points of the group `unified_llm.strategies`.

This runs code of other packages, so only what a route names is looked for.
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from unified_llm.domain.errors import ConfigurationError, Problem
from unified_llm.host.clock import processor_time
from unified_llm.routing.own_strategy import OwnStrategy
from unified_llm.settings.load import load_settings
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.routing import RoutingSettings

GROUP: Final = "unified_llm.strategies"

Strategies = dict[str, OwnStrategy]
"""By the name of their entry point."""


def load_checked(file: Path) -> tuple[Settings, Strategies]:
    """The settings in `file`, and the strategies that they name.

    Raises ConfigurationError with all problems of the settings, or else of the strategies.
    """
    settings = load_settings(file)
    return settings, load_strategies(settings.routing, source=str(file))


def load_strategies(routing: RoutingSettings, *, source: str) -> Strategies:
    """Those that `routing` names. Raises ConfigurationError, naming `source`."""
    found: Strategies = {}
    problems: list[Problem] = []
    for route, each in routing.routes.items():
        name = each.custom_strategy
        if name is None or name in found:
            continue
        strategy = _load(name)
        if isinstance(strategy, OwnStrategy):
            found[name] = strategy
        else:
            key = f"routing.routes.{route}.custom_strategy"
            problems.append(Problem(key, None, strategy, f"an entry point of the group {GROUP}"))
    if problems:
        raise ConfigurationError(source, tuple(problems))
    return found


def _load(name: str) -> OwnStrategy | str:
    """The strategy, or what is wrong with it."""
    points = tuple(entry_points(group=GROUP, name=name))
    if len({point.value for point in points}) != 1:
        known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        several = "several packages have" if points else "no package has"
        return f"{several} a strategy {name!r}; there are: {known}"
    try:
        order = points[0].load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is foreign code
        said = " ".join(str(error).split())[:200]
        return f"{points[0].value} can not be loaded: {type(error).__name__}: {said}"
    if not callable(order):
        return f"{points[0].value} is no function"
    return OwnStrategy(name, order, processor_time)
