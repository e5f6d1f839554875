"""What names stand for, and who would be asked for a request, and why."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest
from unified_llm.domain.errors import (
    InvalidRequest,
    ProviderDenied,
    UnifiedLlmError,
    UnknownModel,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.money import Money
from unified_llm.domain.profile import Purpose
from unified_llm.domain.providers import RemoteModel
from unified_llm.domain.routing import Route
from unified_llm.domain.units import Tokens
from unified_llm.guard.permissions import Action
from unified_llm.guard.sanitize import ensure_sane, least_tokens
from unified_llm.operations.gate import Gate
from unified_llm.operations.models import Models, ensure_is_for
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import LOCAL, Candidate, Plan, Wish, make_plan
from unified_llm.routing.prices import most_prompt_tokens
from unified_llm.routing.rotation import Credits
from unified_llm.routing.routes import RouteBook
from unified_llm.routing.verdict import Failure, one_error


@dataclass(frozen=True, slots=True)
class ExplainedTarget:
    """A target of a plan. place: 1 for the one asked first; None if it is not asked at all."""

    model: ModelId
    backend: str
    place: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who would be asked, in order, and then who would not be.

    kept_local: who wants the request not to leave the machine; None if it may.
    """

    route: Route
    kept_local: str | None
    targets: tuple[ExplainedTarget, ...]


@dataclass(slots=True)
class Routes:
    """Names to plans. It is the one that takes the turns of a rotation."""

    gate: Gate
    models: Models
    directory: Directory
    book: RouteBook
    health: Health
    accounts: Accounts
    latencies: Latencies
    _credits: dict[ModelId, Credits] = field(default_factory=dict)

    def list(self, caller: Caller) -> tuple[tuple[ModelId, Route], ...]:
        """Every name of the settings that is no model's, and what it stands for."""
        with self.gate.open_entry(caller, Action.READ, "routes"):
            return self.book.listed()

    def explain(
        self, caller: Caller, model: ModelId, *, local_only: bool, prompt_tokens: Tokens
    ) -> Explanation:
        """What would be done for such a request of `caller`. Raises UnknownModel."""
        with self.gate.open_entry(caller, Action.READ, model):
            kept = self._kept_local(caller, "the request" if local_only else None)
            return _explain(self._plan(model, Wish(kept, prompt_tokens), prompt_tokens, None))

    def plan(self, caller: Caller, request: ChatRequest, *, is_only_asked: bool = False) -> Plan:
        """The plan for a request, which is sane then; somebody can be asked, now or in a while.

        is_only_asked: nothing will be done by it, so that it takes no turn.
        Raises UnknownModel, InvalidRequest, LocalOnly, TooLarge, ProviderDenied.
        """
        kept = self._kept_local(caller, "the request" if request.local_only else None)
        self._targets(self.book.resolve(request.model))  # a wrong name is told of before the rest
        ensure_sane(request)
        wish, most = Wish(kept, least_tokens(request)), most_prompt_tokens(request)
        plan = self._plan(request.model, wish, most, request.max_tokens)
        if not plan.attempts and not plan.later:
            failures = [Failure(each.candidate.model, each.error) for each in plan.skipped]
            raise one_error(request.model, failures) if failures else _nothing_in(plan.route)
        if not is_only_asked:
            self._credits[plan.route.name] = plan.credits
        return plan

    def complaints(self) -> tuple[str, ...]:
        """A sentence for each name in the settings that leads nowhere, or hides a model."""
        taken = sorted(name for name in self.book.names if self.models.is_known(name))
        hidden = (f"the model {name} can not be asked: a route has its name" for name in taken)
        named = sorted(self.book.named_targets())
        missing = (f"routing names the model {name}, which is not there" for name in named
                   if not self.models.may_be_known(name))  # fmt: skip
        return (*hidden, *missing, *self.health.complaints(self.gate.clock.now()))

    def _kept_local(self, caller: Caller, request: str | None) -> str | None:
        if caller.principal in self.book.local_only_callers:
            return f"a rule for {caller.principal}"
        return request

    def _plan(self, name: ModelId, wish: Wish, most: int, limit: int | None) -> Plan:
        """most: tokens of the prompt. limit: tokens of the answer, if the request sets one."""
        route = self.book.resolve(name)

        def cost_at(model: ModelId, backend: str) -> Money | None:
            return self.accounts.most(model, backend, most, limit)

        candidates = [self._candidate(target, cost_at) for target in self._targets(route)]
        return make_plan(route, candidates, wish, self._credits.get(route.name))

    def _targets(self, route: Route) -> tuple[ModelId, ...]:
        """Raises UnknownModel, with its neighbours, if there is one target and it is not there."""
        targets = self.models.sound_ids() if route.targets is None else route.targets
        if len(targets) == 1:
            self.models.find(targets[0])
        return targets

    def _candidate(
        self, model: ModelId, cost_at: Callable[[ModelId, str], Money | None]
    ) -> Candidate:
        try:
            view = self.models.look(model)
        except (UnknownModel, InvalidRequest) as error:
            # With a provider's name it may be one that has not been listed yet.
            provider, slash, _ = model.partition("/")
            return Candidate(model, provider if slash else LOCAL, obstacle=error)
        backend = self.directory.name_of(view.spec)
        now, is_resident = self.gate.clock.now(), view.status.state is ModelState.READY
        found = Candidate(
            model,
            backend,
            context_tokens=view.spec.context_tokens,
            is_resident=is_resident,
            cost=cost_at(model, backend),
            first_content=self.latencies.expected(model, now, is_resident=is_resident),
            obstacle=self._obstacle(view.spec, backend),
        )
        return found if found.obstacle is not None else self._as_it_stands(found)

    def _as_it_stands(self, found: Candidate) -> Candidate:
        """Not asked for a while if its provider is in trouble."""
        now = self.gate.clock.now()
        refusal = self.health.refusal(found.backend, now)
        if refusal is None:
            return found
        return replace(found, obstacle=refusal, free_at=self.health.free_at(found.backend, now))

    def _obstacle(self, spec: ModelSpec | RemoteModel, backend: str) -> UnifiedLlmError | None:
        try:
            ensure_is_for(spec, Purpose.CHAT)
            self.directory.backend(backend)
        except (InvalidRequest, ProviderDenied) as error:
            return error
        return None


def _explain(plan: Plan) -> Explanation:
    asked = (
        ExplainedTarget(each.candidate.model, each.candidate.backend, place, each.reason)
        for place, each in enumerate(plan.attempts, 1)
    )
    skipped = (
        ExplainedTarget(each.candidate.model, each.candidate.backend, None, each.error.message)
        for each in plan.skipped
    )
    return Explanation(plan.route, plan.kept_local, (*asked, *skipped))


def _nothing_in(route: Route) -> UnknownModel:
    return UnknownModel(
        f"Route {route.name} stands for every model of this machine, and there is none.",
        hint="`models list` shows what there is.",
    )
