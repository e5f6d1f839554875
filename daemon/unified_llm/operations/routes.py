"""What names stand for, and who would be asked for a request, and why."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest, prompt_bytes
from unified_llm.domain.embeddings import EmbeddingRequest
from unified_llm.domain.errors import UnknownModel
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.profile import Purpose
from unified_llm.domain.routing import Route
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.guard.permissions import Action
from unified_llm.guard.sanitize import ensure_sane, ensure_sane_texts, tokens_at_least
from unified_llm.operations.gate import Gate
from unified_llm.operations.models import Models
from unified_llm.operations.prospects import Prospects, Size
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.order import compares
from unified_llm.routing.plan import Plan, Prefer, Wish, make_plan
from unified_llm.routing.prices import most_text_tokens
from unified_llm.routing.rotation import Credits
from unified_llm.routing.routes import RouteBook
from unified_llm.routing.rules import Asking, Considered, Ruled, Situation, apply_rules
from unified_llm.routing.verdict import Failure, one_error

_LONGEST_HOLD: Final = Seconds(0.002)


@dataclass(frozen=True, slots=True)
class ExplainedTarget:
    """A target of a plan. place: 1 for the one asked first; None if it is not asked at all.

    is_resident: loaded and serving. cost: the most such a request costs there. first_content: how
    long it would take to begin, loading included; loading: how long to load. None where that is not
    known. leaving: the models that would leave memory for it; None if there would not be room.
    """

    model: ModelId
    backend: str
    place: int | None
    reason: str
    is_resident: bool = False
    cost: Money | None = None
    first_content: Seconds | None = None
    loading: Seconds | None = None
    leaving: tuple[ModelId, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of a request whose route is to be explained.

    prompt_tokens, prompt: its length, as far as either is known.
    """

    local_only: bool = False
    prompt_tokens: Tokens = Tokens(0)
    prompt: Bytes = Bytes(0)
    has_tools: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who would be asked, in order, and then who would not be.

    route: as it is for this request. kept_local: who wants the request not to leave the machine;
    None if it may. rules: of the route, as far as they were looked at.
    """

    route: Route
    kept_local: str | None
    targets: tuple[ExplainedTarget, ...]
    rules: tuple[Considered, ...] = ()


_Rotation = tuple[ModelId, tuple[ModelId, ...] | None]
"""A route, and what it stands for: each of its rules may say something else."""


@dataclass(slots=True)
class Routes:
    """Names to plans. It is the one that takes the turns of a rotation.

    situation: what the machine is like at the moment.
    """

    gate: Gate
    models: Models
    prospects: Prospects
    book: RouteBook
    situation: Callable[[], Situation]
    _credits: dict[_Rotation, Credits] = field(default_factory=dict)
    _explaining: asyncio.Lock = field(default_factory=asyncio.Lock)

    def list(self, caller: Caller) -> tuple[tuple[ModelId, Route], ...]:
        """Every name of the settings that is no model's, and what it stands for."""
        with self.gate.open_entry(caller, Action.READ, "routes"):
            return self.book.listed()

    async def explain(self, caller: Caller, model: ModelId, question: Question) -> Explanation:
        """What would be done for such a request of `caller`. Raises UnknownModel.

        Anybody may ask, and to compare models that are not loaded is arithmetic: so one question is
        looked into at a time, and it leaves others at least half of the time.
        """
        with self.gate.open_entry(caller, Action.READ, model):
            kept = self._kept_local(caller, "the request" if question.local_only else None)
            ruled = self._ruled(caller, model, question.prompt, question.has_tools, kept)
            least = max(question.prompt_tokens, tokens_at_least(question.prompt))
            size = Size(max(question.prompt_tokens, question.prompt))
            prefer = self._prefer(ruled)  # by the book of now: a reload may bring another
            async with self._explaining:
                candidates = await self._compare(ruled.route, size)
            return _explain(self._plan(ruled, Wish(kept, least), candidates, prefer), ruled)

    def plan(self, caller: Caller, request: ChatRequest, *, is_only_asked: bool = False) -> Plan:
        """The plan for a request, which is sane then; somebody can be asked, now or in a while.

        is_only_asked: nothing will be done by it, so that it takes no turn.
        Raises UnknownModel, InvalidRequest, LocalOnly, TooLarge, ProviderDenied.
        """
        kept = self._kept_local(caller, "the request" if request.local_only else None)
        named = self.book.resolve(request.model)
        if not named.rules:
            self._targets(named)  # a wrong name is told of before the rest
        ensure_sane(request)
        tools = request.tool_use.tools if request.tool_use is not None else ()
        prompt = Bytes(prompt_bytes(request.messages, tools))
        ruled = self._ruled(caller, request.model, prompt, bool(tools), kept)
        size = self.prospects.size_of(request)
        candidates = self._candidates(ruled.route, size)
        wish = Wish(kept, tokens_at_least(prompt))
        plan = self._plan(ruled, wish, candidates, self._prefer(ruled))
        _ensure_somebody(plan, request.model)
        if not is_only_asked:
            self._credits[_rotation(plan.route)] = plan.credits
        return plan

    def plan_vectors(self, caller: Caller, request: EmbeddingRequest) -> Plan:
        """The plan for a request, which is sane then; its one target can be asked.

        Raises UnknownModel, InvalidRequest, LocalOnly, TooLarge, ProviderDenied.
        """
        kept = self._kept_local(caller, "the request" if request.local_only else None)
        route = self.book.resolve_alone(request.model)
        (model,) = self._targets(route)
        ensure_sane_texts(request, self.models.find(model).context_tokens)
        size = Size(most_text_tokens(request), 0)
        target = self.prospects.of(model, size, is_compared=False, purpose=Purpose.EMBEDDING)
        plan = make_plan(route, [target], Wish(kept))
        _ensure_somebody(plan, request.model)
        return plan

    def follow(self, book: RouteBook) -> None:
        """Go by `book` from the next request on. Called by the app only."""
        self.book = book
        self._credits = {
            rotation: left for rotation, left in self._credits.items() if rotation[0] in book.names
        }

    def complaints(self) -> tuple[str, ...]:
        """A sentence for each name in the settings that leads nowhere, or hides a model."""
        taken = sorted(name for name in self.book.names if self.models.is_known(name))
        hidden = (f"the model {name} can not be asked: a route has its name" for name in taken)
        named = sorted(self.book.named_targets())
        missing = (f"routing names the model {name}, which is not there" for name in named
                   if not self.models.may_be_known(name))  # fmt: skip
        failing = (f"strategy {each.name} {each.fault}: its routes ask as they are written"
                   for each in self.book.strategies.values() if each.fault)  # fmt: skip
        providers = self.prospects.health.complaints(self.gate.clock.now())
        return (*hidden, *missing, *failing, *providers)

    def _kept_local(self, caller: Caller, request: str | None) -> str | None:
        if caller.principal in self.book.local_only_callers:
            return f"a rule for {caller.principal}"
        return request

    def _ruled(
        self, caller: Caller, model: ModelId, prompt: Bytes, has_tools: bool, kept: str | None
    ) -> Ruled:
        """What `model` stands for in such a request."""
        asking = Asking(model, caller.principal, prompt, has_tools, kept is not None)
        return apply_rules(self.book.resolve(model), asking, self.situation())

    def _candidates(self, route: Route, size: Size) -> Sequence[Candidate]:
        is_compared = compares(route.strategy)
        return [
            self.prospects.of(target, size, is_compared=is_compared)
            for target in self._targets(route)
        ]

    async def _compare(self, route: Route, size: Size) -> Sequence[Candidate]:
        """Each of them compared; after each hold of the loop, a pause as long as it."""
        clock, found = self.gate.clock, list[Candidate]()
        begun = clock.now()
        for target in self._targets(route):
            found.append(self.prospects.of(target, size, is_compared=True))
            held = clock.now() - begun
            if held >= _LONGEST_HOLD:
                await asyncio.sleep(held)
                begun = clock.now()
        return found

    def _prefer(self, ruled: Ruled) -> Prefer | None:
        """What a strategy of somebody else's has to say about it, if it is asked."""
        name = ruled.route.custom
        own = None if name is None else self.book.strategies.get(name)
        if own is None:
            return None
        return partial(own.prefer, asking=ruled.asking, clock=self.gate.clock)

    def _plan(
        self, ruled: Ruled, wish: Wish, candidates: Sequence[Candidate], prefer: Prefer | None
    ) -> Plan:
        route = ruled.route
        return make_plan(route, candidates, wish, self._credits.get(_rotation(route)), prefer)

    def _targets(self, route: Route) -> tuple[ModelId, ...]:
        """Raises UnknownModel, with its neighbours, if there is one target and it is not there."""
        targets = self.models.sound_ids() if route.targets is None else route.targets
        if len(targets) == 1:
            self.models.look(targets[0])
        return targets


def _ensure_somebody(plan: Plan, name: ModelId) -> None:
    if not plan.attempts and not plan.later:
        failures = [Failure(each.candidate.model, each.error) for each in plan.skipped]
        raise one_error(name, failures) if failures else _nothing_in(plan.route)


def _rotation(route: Route) -> _Rotation:
    return route.name, route.targets


def _explain(plan: Plan, ruled: Ruled) -> Explanation:
    asked = (
        _target(each.candidate, place, each.reason) for place, each in enumerate(plan.attempts, 1)
    )
    skipped = (_target(each.candidate, None, each.error.message) for each in plan.skipped)
    return Explanation(plan.route, plan.kept_local, (*asked, *skipped), ruled.considered)


def _target(candidate: Candidate, place: int | None, reason: str) -> ExplainedTarget:
    return ExplainedTarget(
        candidate.model,
        candidate.backend,
        place,
        reason,
        candidate.is_resident,
        candidate.cost,
        candidate.first_content,
        candidate.loading if candidate.is_cold else None,
        candidate.leaving,
    )


def _nothing_in(route: Route) -> UnknownModel:
    return UnknownModel(
        f"Route {route.name} stands for every model of this machine, and there is none.",
        hint="`models list` shows what there is.",
    )
