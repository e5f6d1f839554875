"""Asking a door's authority before an operation, so that what was allowed is what is done."""

from dataclasses import dataclass, replace

from unified_llm.domain.callers import Caller, Grant
from unified_llm.guard.permissions import Action, Authority
from unified_llm.operations.gate import Gate


@dataclass(frozen=True, slots=True)
class Admission:
    """What a surface asks once it has read a request to the end, and before it acts on it.

    authority: None on a door without one; there the gate's table decides alone.
    """

    gate: Gate
    authority: Authority | None

    async def grant(
        self,
        caller: Caller,
        action: Action,
        target: str | None,
        details: dict[str, str],
        *,
        may_interact: bool,
    ) -> Caller:
        """`caller`, with the leave for `action` on `target` if it took one.

        The operation is to be given this caller: the gate lets it do what was allowed and nothing
        else. target: None for anything; a refusal is recorded.
        Raises NotPermitted, AuthenticationRequired, AuthenticationDismissed, RateLimited.
        """
        shown = "" if target is None else target
        if self.authority is None or self.gate.permissions.may(caller, action, shown):
            return caller
        with self.gate.open_question(caller, action, shown):
            await self.authority.ensure_may(caller, action, details, may_interact=may_interact)
        return replace(caller, grants=caller.grants | {Grant(action.label, target)})
