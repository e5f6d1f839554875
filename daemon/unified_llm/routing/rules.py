"""Which rule of a route applies to a request, and why: pure, so it can be explained.

Rule 1: rules are looked at in the order in which they are written, and the first that applies
decides alone; where none does, the route is as it stands.
Rule 2: a condition on what nobody tells (None) does not hold, whichever way it is put.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from unified_llm.domain.models import ModelId
from unified_llm.domain.routing import Route, When
from unified_llm.domain.units import Bytes


@dataclass(frozen=True, slots=True)
class Situation:
    """What the machine is like when a request comes.

    minute: since midnight, by its local time. on_battery: None if nobody tells.
    """

    minute: int
    on_battery: bool | None


@dataclass(frozen=True, slots=True)
class Asking:
    """What rules can see of a request.

    model: the name that was asked for. prompt: what people wrote of it, tools included.
    stays_local: whether the request or its user keeps it on this machine.
    """

    model: ModelId
    principal: str
    prompt: Bytes
    has_tools: bool
    stays_local: bool


@dataclass(frozen=True, slots=True)
class Considered:
    """A rule that was looked at. number: its place, from 1. why: half a sentence."""

    number: int
    applies: bool
    why: str


@dataclass(frozen=True, slots=True)
class Ruled:
    """A route as it is for one request. considered: as far as rules were looked at."""

    asking: Asking
    route: Route
    considered: tuple[Considered, ...]


def apply_rules(route: Route, asking: Asking, situation: Situation) -> Ruled:
    """What `route` is for this request."""
    considered: list[Considered] = []
    for number, rule in enumerate(route.rules, 1):
        findings = tuple(_findings(rule.when, route, asking, situation))
        failing = [why for holds, why in findings if not holds]
        why = failing[0] if failing else ", and ".join(why for _, why in findings)
        considered.append(Considered(number, not failing, why))
        if not failing:
            targets = route.targets if rule.targets is None else rule.targets
            strategy = rule.strategy or route.strategy
            ruled = replace(route, targets=targets, strategy=strategy)
            return Ruled(asking, ruled, tuple(considered))
    return Ruled(asking, route, tuple(considered))


_Finding = tuple[bool, str]


def _findings(when: When, route: Route, asking: Asking, situation: Situation) -> Iterator[_Finding]:
    """Each condition that is set: whether it holds, and what was found."""
    if when.models:
        yield asking.model in when.models, f"{asking.model} was asked for"
    if when.users:
        is_named = asking.principal in when.users
        yield is_named, f"{asking.principal} is {'one' if is_named else 'none'} of its users"
    yield from _prompt_findings(when, asking.prompt)
    if when.has_tools is not None:
        told = "it comes with tools" if asking.has_tools else "it comes without tools"
        yield asking.has_tools is when.has_tools, told
    if when.from_minute is not None or when.until_minute is not None:
        yield _is_within(when, situation.minute), f"it is {_clock(situation.minute)}"
    if when.on_battery is not None:
        yield situation.on_battery is when.on_battery, _render_battery(situation.on_battery)
    if when.stays_local is not None:
        stays = asking.stays_local or route.local_only
        told = "it may not leave the machine" if stays else "it may leave the machine"
        yield stays is when.stays_local, told


def _prompt_findings(when: When, prompt: Bytes) -> Iterator[_Finding]:
    told = f"the prompt has {prompt} bytes"
    if when.least_prompt is not None:
        holds = prompt >= when.least_prompt
        yield holds, f"{told}, {'at least' if holds else 'less than'} {when.least_prompt}"
    if when.most_prompt is not None:
        holds = prompt <= when.most_prompt
        yield holds, f"{told}, {'at most' if holds else 'more than'} {when.most_prompt}"


def _is_within(when: When, minute: int) -> bool:
    start, end = when.from_minute or 0, when.until_minute or 0
    # An end at or before the start is one of the next day; midnight ends a day.
    return start <= minute < end if start < end else minute >= start or minute < end


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _render_battery(on_battery: bool | None) -> str:
    if on_battery is None:
        return "nobody tells whether the machine is on battery"
    return "the machine is on battery" if on_battery else "the machine is not on battery"
