"""What is asked next when a target did not answer: pure, one object for each request.

Rule 1: after the first content nobody is asked any more, as two answers can not be joined; unless
the request lets another target go on with the text, and then only one that can.
Rule 2: a request that a worker died of goes to no other worker of this machine: it would take one
model after another from everybody.
Rule 3: what was too large for one context goes to larger ones only.
Rule 4: a provider that can not be reached, or does not accept us, is not asked for another model.
Rule 5: attempts are counted, and those beyond the first that leave the machine draw on the budget
that all requests share.
Rule 6: when nothing else is left, a provider that said when to come back is waited for: once, no
shorter than it said, and no longer than `patience`.
"""

from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain import errors
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.plan import Plan
from unified_llm.routing.retry_budget import RetryBudget
from unified_llm.routing.verdict import Failure, one_error

PASSING: Final[frozenset[type[UnifiedLlmError]]] = frozenset(
    {
        errors.BudgetSpent,  # another target may cost less
        errors.ContentFiltered,
        errors.Draining,
        errors.GpuUnusable,
        errors.Inhibited,
        errors.InvalidRequest,  # of a provider that lacks an option; another may have it
        errors.ModelFailedToLoad,
        errors.NoRoom,
        errors.ProviderDenied,
        errors.ProviderDown,
        errors.ProviderFailed,
        errors.ProviderOverloaded,
        errors.ProviderRefused,
        errors.QueueFull,
        errors.RequestTimedOut,
        errors.TooLarge,
        errors.UnknownModel,
        errors.WorkerDied,
    }
)
"""What another target may do better. Any other error ends the request."""

_WHOLE_PROVIDER: Final = (errors.ProviderDown, errors.ProviderDenied)


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """most: attempts for one request. patience: longest wait that a provider is granted."""

    most: int = 3
    patience: Seconds = Seconds(5)


@dataclass(frozen=True, slots=True)
class Next:
    """A target to be asked at `moment`; None for at once."""

    candidate: Candidate
    moment: Instant | None = None


@dataclass(slots=True)
class Attempts:
    """The attempts of one request. trail: those so far; the last may still be going on."""

    plan: Plan
    policy: AttemptPolicy
    budget: RetryBudget
    trail: tuple[Attempt, ...] = ()
    _left: list[Candidate] = field(init=False)
    _failures: list[Failure] = field(default_factory=list)
    _promised: list[Next] = field(default_factory=list)
    _has_waited: bool = False
    _asked: Candidate = field(init=False)

    def __post_init__(self) -> None:
        self._left = [planned.candidate for planned in self.plan.attempts]
        self._promised = [Next(each, each.free_at) for each in self.plan.later]
        self.budget.on_request()

    @property
    def unasked(self) -> tuple[Candidate, ...]:
        """What the route declares as good as what was asked, and could have been asked as well.

        Nothing where a model was asked for by its name: what it falls back to is another.
        """
        route, asked = self.plan.route, {each.model for each in self.trail}
        candidates = [planned.candidate for planned in self.plan.attempts]
        if route.targets is not None and route.name in route.targets:
            return ()
        return tuple(each for each in candidates if each.model not in asked)

    def next(self, now: Instant) -> Next | None:
        """Who is asked next, which is taken as done; None if nobody is."""
        if len(self.trail) >= self.policy.most:
            return None
        found = self._first_affordable() or self._first_promised(now)
        if found is not None:
            self._enter(found.candidate)
        return found

    def failed(self, error: UnifiedLlmError, now: Instant) -> bool:
        """The latest attempt has failed. Whether another target may be asked."""
        asked = self._end(error)
        self._failures.append(Failure(asked.model, error))
        if type(error) not in PASSING:
            return False
        self._drop_hopeless(asked, error)
        if isinstance(error, errors.ProviderOverloaded) and error.retry_after is not None:
            self._promised.append(Next(asked, later(now, error.retry_after)))
        return True

    def narrow_to_continuing(self) -> None:
        """From now on only those are asked that go on with what was begun."""
        self._left = [each for each in self._left if each.takes_begun]
        self._promised = [each for each in self._promised if each.candidate.takes_begun]

    def broke_off(self, error: UnifiedLlmError) -> None:
        """The latest attempt has failed after some content, and nobody goes on."""
        self._end(error)

    def verdict(self) -> UnifiedLlmError:
        """What the caller is told when every attempt has failed."""
        if self._failures and type(self._failures[-1].error) not in PASSING:
            return self._failures[-1].error
        skipped = [Failure(each.candidate.model, each.error) for each in self.plan.skipped]
        return one_error(self.plan.route.name, [*self._failures, *skipped])

    def _enter(self, candidate: Candidate) -> None:
        self._asked = candidate
        self.trail = (*self.trail, Attempt(candidate.model, candidate.backend))

    def _end(self, error: UnifiedLlmError) -> Candidate:
        asked = self._asked
        ended = Attempt(asked.model, asked.backend, error.code)
        self.trail = (*self.trail[:-1], ended)
        return asked

    def _first_affordable(self) -> Next | None:
        while self._left:
            candidate = self._left.pop(0)
            if self._may_ask(candidate):
                return Next(candidate)
        return None

    def _may_ask(self, candidate: Candidate) -> bool:
        return not self.trail or candidate.is_local or self.budget.try_take()

    def _first_promised(self, now: Instant) -> Next | None:
        latest = later(now, self.policy.patience)
        due = [each for each in self._promised if each.moment is not None and each.moment <= latest]
        if self._has_waited or not due:
            return None
        self._has_waited = True
        soonest = min(due, key=lambda each: each.moment or now)
        return soonest if self._may_ask(soonest.candidate) else None

    def _drop_hopeless(self, asked: Candidate, error: UnifiedLlmError) -> None:
        self._left = [each for each in self._left if not _is_hopeless(each, asked, error)]


def _is_hopeless(other: Candidate, asked: Candidate, error: UnifiedLlmError) -> bool:
    if isinstance(error, errors.WorkerDied):
        return other.is_local and asked.is_local
    if isinstance(error, errors.TooLarge):
        known = other.context_tokens is not None and asked.context_tokens is not None
        return known and (other.context_tokens or 0) <= (asked.context_tokens or 0)
    return isinstance(error, _WHOLE_PROVIDER) and other.backend == asked.backend
