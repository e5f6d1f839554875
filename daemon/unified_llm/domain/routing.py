"""Names that stand for several models, and what was tried for a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.units import Bytes

AUTO: Final = ModelId("auto")
"""The default route."""


class Strategy(StrEnum):
    """In which order the targets of a route are tried."""

    IN_ORDER = "in-order"  # as they are written
    LOCAL_FIRST = "local-first"  # loaded here, then not loaded here, then elsewhere
    CLOUD_FIRST = "cloud-first"  # elsewhere, then loaded here, then not loaded here
    COST_OPTIMISED = "cost-optimised"  # what costs least; what costs nobody knows what, last
    LATENCY_OPTIMISED = "latency-optimised"  # what has begun to answer soonest lately
    ROUND_ROBIN = "round-robin"  # each in its turn
    WEIGHTED = "weighted"  # each in its turn, as often as its weight says
    CUSTOM = "custom"  # as a function of somebody else's says


@dataclass(frozen=True, slots=True)
class When:
    """What a request must be like for a rule: all that is said here. Empty or None says nothing.

    models: the names of which it asked for one. users: principals. least_prompt, most_prompt: of
    what people wrote of it. from_minute, until_minute: minutes since midnight, the second excluded;
    past midnight if the second is not the later. stays_local: whether it may not leave the machine.
    """

    models: frozenset[ModelId] = frozenset()
    users: frozenset[str] = frozenset()
    least_prompt: Bytes | None = None
    most_prompt: Bytes | None = None
    has_tools: bool | None = None
    from_minute: int | None = None
    until_minute: int | None = None
    on_battery: bool | None = None
    stays_local: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route is for some requests. targets, strategy: None for the route's own."""

    when: When
    targets: tuple[ModelId, ...] | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A name that stands for several models.

    targets: None for every model of this machine. weights: of WEIGHTED; what is not there has 1.
    local_only: nothing that is asked under this name leaves the machine. rules: the first that
    applies to a request says what the route is for it. continues: where an answer breaks off,
    another target goes on with it, unless the request says otherwise. custom: which function CUSTOM
    asks, by its name; None where nothing is CUSTOM.
    """

    name: ModelId
    strategy: Strategy
    targets: tuple[ModelId, ...] | None
    weights: Mapping[ModelId, int] = field(default_factory=dict)
    local_only: bool = False
    rules: tuple[Rule, ...] = ()
    continues: bool = False
    custom: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A target that was asked.

    backend: `local` or a provider's name. code: of the error it ended with; None if it answered.
    """

    model: ModelId
    backend: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class CheaperTarget:
    """A target that was not asked. backend: as in Attempt. cost: of the same tokens there."""

    model: ModelId
    backend: str
    cost: Money
