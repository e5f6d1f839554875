"""Which providers are asked at present: a breaker for each provider and each kind of trouble.

A provider that turns us away for a minute is not thereby unreachable, and a wrong key is not
mended by an answer to somebody with a smaller prompt; so each kind has its own breaker, and a
provider is asked when all of them let it. The models of this machine have none: the scheduler
knows better how they are.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from unified_llm.domain import errors
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.units import Instant, Seconds
from unified_llm.routing.breaker import Breaker, BreakerPolicy, BreakerState


class Trouble(StrEnum):
    """What can be wrong with a provider."""

    UNREACHABLE = "unreachable"
    FAILING = "failing"
    OVERLOADED = "overloaded"
    DENYING = "denying"


TROUBLES: Final[Mapping[type[UnifiedLlmError], Trouble]] = {
    errors.ProviderDown: Trouble.UNREACHABLE,
    errors.ProviderFailed: Trouble.FAILING,
    errors.RequestTimedOut: Trouble.FAILING,
    errors.ProviderOverloaded: Trouble.OVERLOADED,
    errors.ProviderDenied: Trouble.DENYING,
}
"""Any other error says that the provider is well: it has read the request and judged it."""

UNSENT: Final[frozenset[type[UnifiedLlmError]]] = frozenset(
    {errors.InvalidRequest, errors.LocalOnly}
)
"""Except these: we refuse so before anything is sent, so they say nothing of the provider."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a provider stands. trouble, free_in: why it is not asked, and for how long yet."""

    provider: str
    state: BreakerState
    trouble: Trouble | None = None
    free_in: Seconds | None = None


def _policy_for(trouble: Trouble, policy: BreakerPolicy) -> BreakerPolicy:
    # Whoever denies us once does so again until an operator has mended it.
    return replace(policy, failures=1) if trouble is Trouble.DENYING else policy


class Health:
    """All breakers. draw: numbers from 0 to 1."""

    def __init__(
        self, providers: Iterable[str], policy: BreakerPolicy, draw: Callable[[], float]
    ) -> None:
        self._draw = draw
        self._breakers = {
            name: {trouble: Breaker(_policy_for(trouble, policy)) for trouble in Trouble}
            for name in providers
        }

    def follow(self, policy: BreakerPolicy) -> None:
        """Judge by `policy` from now on; who is being left alone stays so."""
        for breakers in self._breakers.values():
            for trouble, breaker in breakers.items():
                breaker.policy = _policy_for(trouble, policy)

    def refusal(self, provider: str, now: Instant) -> UnifiedLlmError | None:
        """Why `provider` is not asked at this moment; None if it is, or has no breakers."""
        worst = self._worst(provider, now)
        if worst is None or worst[1].may_ask(now):
            return None
        trouble, breaker = worst
        left = Seconds(breaker.free_at(now) - now)
        told = f"Provider {provider} is not asked"
        if left <= 0:
            return errors.ProviderOverloaded(
                f"{told} until another request has tried it: it was {trouble.value}.",
                retry_after=Seconds(1),
            )
        return errors.ProviderOverloaded(
            f"{told} for {left:.1f} s more: it is {trouble.value}.", retry_after=left
        )

    def free_at(self, provider: str, now: Instant) -> Instant:
        """When it may be asked again, as far as that is known."""
        breakers = self._breakers.get(provider, {}).values()
        return max((breaker.free_at(now) for breaker in breakers), default=now)

    def begin(self, provider: str, now: Instant) -> "Visit":
        """A request to `provider` is being made. Raises what `refusal` says."""
        refusal = self.refusal(provider, now)
        if refusal is not None:
            raise refusal
        breakers = self._breakers.get(provider, {})
        tried = [breaker for breaker in breakers.values() if breaker.on_asked(now)]
        return Visit(breakers, tried, self._draw)

    def standings(self, now: Instant) -> tuple[Standing, ...]:
        """Every provider, by name."""
        return tuple(self._standing(name, now) for name in sorted(self._breakers))

    def complaints(self, now: Instant) -> tuple[str, ...]:
        """A sentence for each provider that is not asked."""
        return tuple(
            f"provider {each.provider} is {each.trouble.value} and not asked for "
            f"{each.free_in:.0f} s more"
            for each in self.standings(now)
            if each.trouble is not None and each.free_in
        )

    def _standing(self, name: str, now: Instant) -> Standing:
        worst = self._worst(name, now)
        if worst is None:
            return Standing(name, BreakerState.CLOSED)
        trouble, breaker = worst
        left = Seconds(breaker.free_at(now) - now)
        return Standing(name, breaker.state(now), trouble, left)

    def _worst(self, provider: str, now: Instant) -> tuple[Trouble, Breaker] | None:
        """The breaker that is not closed and stays so the longest."""
        found = [
            (trouble, breaker)
            for trouble, breaker in self._breakers.get(provider, {}).items()
            if breaker.state(now) is not BreakerState.CLOSED
        ]
        return max(
            found, key=lambda each: (each[1].free_at(now), not each[1].may_ask(now)), default=None
        )


@dataclass(slots=True)
class Visit:
    """One request to a provider, and what it says about it. Ends with `end`, whatever happens."""

    _breakers: Mapping[Trouble, Breaker]
    _tried: list[Breaker]
    _draw: Callable[[], float]

    def began(self, now: Instant) -> None:
        """Content has come: enough for those that waited for one request to try it."""
        for breaker in self._tried:
            breaker.on_success(now)
        self._tried = []

    def finished(self, now: Instant) -> None:
        """The answer is whole."""
        self.began(now)
        for breaker in self._breakers.values():
            breaker.on_success(now)

    def failed(self, error: UnifiedLlmError, now: Instant) -> None:
        """It ended with `error`, be it before or after content."""
        if type(error) in UNSENT:
            self.end()
            return
        trouble = TROUBLES.get(type(error))
        if trouble is None:
            self.finished(now)
            return
        for breaker in self._tried:
            if breaker is not self._breakers.get(trouble):
                breaker.on_given_up()
        self._tried = []
        if trouble in self._breakers:
            self._breakers[trouble].on_failure(now, error.retry_after, self._draw())

    def end(self) -> None:
        """Nothing more will be said; whoever left before content has told nothing."""
        for breaker in self._tried:
            breaker.on_given_up()
        self._tried = []
