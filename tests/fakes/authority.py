"""An authority that answers from a set, and keeps the questions."""

from dataclasses import dataclass, field

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import NotPermitted
from unified_llm.guard.permissions import Action


@dataclass(frozen=True, slots=True)
class Asked:
    """One question."""

    caller: Caller
    action: Action
    details: dict[str, str]
    may_interact: bool


@dataclass(slots=True)
class FakeAuthority:
    """permissions.Authority: allows what is in `allowed`."""

    allowed: set[Action] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)

    async def ensure_may(
        self, caller: Caller, action: Action, details: dict[str, str], *, may_interact: bool
    ) -> None:
        """As in Authority."""
        self.asked.append(Asked(caller, action, details, may_interact))
        if action not in self.allowed:
            raise NotPermitted("The authority says no.")
