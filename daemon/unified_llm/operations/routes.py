"""What names stand for, and who would be asked for a request, and why."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatRequest, prompt_bytes
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
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.guard.permissions import Action
from unified_llm.guard.sanitize import ensure_sane, tokens_at_least
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
from unified_llm.routing.rules import Asking, Considered, Ruled, Situation, apply_rules
from unified_llm.routing.verdict import Failure, one_error


@dataclass(frozen=True, slots=True)
class ExplainedTarget:
    """A target of a plan. place: 1 for the one asked first; None if it is not asked at all."""

    model: ModelId
    backend: str
    place: int | None
    reason: str


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
    directory: Directory
    book: RouteBook
    health: Health
    accounts: Accounts
    latencies: Latencies
    situation: Callable[[], Situation]
    _credits: dict[_Rotation, Credits] = field(default_factory=dict)

    def list(self, caller: Caller) -> tuple[tuple[ModelId, Route], ...]:
        """Every name of the settings that is no model's, and what it stands for."""
        with self.gate.open_entry(caller, Action.READ, "routes"):
            return self.book.listed()

    def explain(self, caller: Caller, model: ModelId, question: Question) -> Explanation:
        """What would be done for such a request of `caller`. Raises UnknownModel."""
        with self.gate.open_entry(caller, Action.READ, model):
            kept = self._kept_local(caller, "the request" if question.local_only else None)
            ruled = self._ruled(caller, model, question.prompt, question.has_tools, kept)
            least = max(question.prompt_tokens, tokens_at_least(question.prompt))
            most = max(question.prompt_tokens, question.prompt)
            plan = self._plan(ruled.route, Wish(kept, least), most, None)
            return _explain(plan, ruled)

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
        route = self._ruled(caller, request.model, prompt, bool(tools), kept).route
        wish, most = Wish(kept, tokens_at_least(prompt)), most_prompt_tokens(request)
        plan = self._plan(route, wish, most, request.max_tokens)
        if not plan.attempts and not plan.later:
            failures = [Failure(each.candidate.model, each.error) for each in plan.skipped]
            raise one_error(request.model, failures) if failures else _nothing_in(plan.route)
        if not is_only_asked:
            self._credits[_rotation(plan.route)] = plan.credits
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

    def _ruled(
        self, caller: Caller, model: ModelId, prompt: Bytes, has_tools: bool, kept: str | None
    ) -> Ruled:
        """What `model` stands for in such a request."""
        asking = Asking(model, caller.principal, prompt, has_tools, kept is not None)
        return apply_rules(self.book.resolve(model), asking, self.situation())

    def _plan(self, route: Route, wish: Wish, most: int, limit: int | None) -> Plan:
        """most: tokens of the prompt. limit: tokens of the answer, if the request sets one."""

        def cost_at(model: ModelId, backend: str) -> Money | None:
            return self.accounts.most(model, backend, most, limit)

        candidates = [self._candidate(target, cost_at) for target in self._targets(route)]
        return make_plan(route, candidates, wish, self._credits.get(_rotation(route)))

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


def _rotation(route: Route) -> _Rotation:
    return route.name, route.targets


def _explain(plan: Plan, ruled: Ruled) -> Explanation:
    asked = (
        ExplainedTarget(each.candidate.model, each.candidate.backend, place, each.reason)
        for place, each in enumerate(plan.attempts, 1)
    )
    skipped = (
        ExplainedTarget(each.candidate.model, each.candidate.backend, None, each.error.message)
        for each in plan.skipped
    )
    return Explanation(plan.route, plan.kept_local, (*asked, *skipped), ruled.considered)


def _nothing_in(route: Route) -> UnknownModel:
    return UnknownModel(
        f"Route {route.name} stands for every model of this machine, and there is none.",
        hint="`models list` shows what there is.",
    )
