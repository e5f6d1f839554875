"""What is known of each target before anybody is asked: obstacles, money, time, and whose place."""

from dataclasses import dataclass, replace

from unified_llm.domain.arrival import Arrival
from unified_llm.domain.chat import ChatRequest
from unified_llm.domain.errors import (
    InvalidRequest,
    ModelFailedToLoad,
    ProviderDenied,
    UnifiedLlmError,
    UnknownModel,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.money import Money
from unified_llm.domain.ports import Backend, Clock
from unified_llm.domain.profile import Purpose
from unified_llm.domain.providers import CONTINUING, RemoteModel
from unified_llm.domain.units import Instant, Seconds
from unified_llm.operations.models import Models, ModelView, ensure_is_for
from unified_llm.routing.accounts import Accounts
from unified_llm.routing.candidates import LOCAL, Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health
from unified_llm.routing.latency import Latencies


@dataclass(frozen=True, slots=True)
class Size:
    """How large a request is at most. answer: of each choice; None if it sets no limit.

    has_images: whether it is for those who see.
    """

    prompt_tokens: int
    answer_tokens: int | None = None
    choices: int = 1
    has_images: bool = False


@dataclass(frozen=True, slots=True)
class Prospects:
    """Looks at everything that could answer, and touches none of it."""

    models: Models
    directory: Directory[Backend]
    health: Health
    accounts: Accounts
    latencies: Latencies
    clock: Clock

    def size_of(self, request: ChatRequest) -> Size:
        """How large `request` is at most."""
        has_images = any(message.images for message in request.messages)
        most = self.accounts.most_prompt(request)
        return Size(most, request.max_tokens, request.choices, has_images)

    def of(
        self,
        model: ModelId,
        size: Size,
        *,
        is_compared: bool,
        purpose: Purpose = Purpose.CHAT,
    ) -> Candidate:
        """The target `model`. is_compared: it matters what loading it would take.

        purpose: what it is asked for.
        """
        try:
            view = self.models.look(model)
        except (UnknownModel, InvalidRequest) as error:
            # With a provider's name it may be one that has not been listed yet.
            provider, slash, _ = model.partition("/")
            return Candidate(model, provider if slash else LOCAL, obstacle=error)
        backend = self.directory.name_of(view.spec)
        is_resident = view.status.state is ModelState.READY
        found = Candidate(
            model,
            backend,
            context_tokens=view.spec.context_tokens,
            is_resident=is_resident,
            cost=self._most(model, backend, size),
            first_content=self.latencies.expected(model, self._now(), is_resident=is_resident),
            obstacle=self._obstacle(view, backend, purpose)
            or (_blindness(view.spec) if size.has_images else None),
            adapted=(view.spec.id, view.adapter.name) if view.adapter else None,
            takes_begun=isinstance(view.spec, ModelSpec) or view.spec.kind in CONTINUING,
        )
        if found.is_cold and is_compared:
            found = self._with_arrival(found, self.models.forecast(view.spec.id))
        return found if found.obstacle is not None else self._as_it_stands(found)

    def _most(self, model: ModelId, backend: str, size: Size) -> Money | None:
        return self.accounts.most(
            model, backend, size.prompt_tokens, size.answer_tokens, size.choices
        )

    def _with_arrival(self, found: Candidate, arrival: Arrival) -> Candidate:
        return replace(
            found,
            loading=arrival.loading,
            leaving=arrival.leaving,
            first_content=found.first_content or self._reckoned(found.model, arrival),
        )

    def _reckoned(self, model: ModelId, arrival: Arrival) -> Seconds | None:
        """From its parts, where the whole was not measured lately."""
        once_loaded = self.latencies.expected(model, self._now(), is_resident=True)
        if arrival.loading is None or once_loaded is None:
            return None
        return Seconds(arrival.loading + once_loaded)

    def _as_it_stands(self, found: Candidate) -> Candidate:
        """Not asked for a while if its provider is in trouble."""
        refusal = self.health.refusal(found.backend, self._now())
        if refusal is None:
            return found
        free_at = self.health.free_at(found.backend, self._now())
        return replace(found, obstacle=refusal, free_at=free_at)

    def _obstacle(self, view: ModelView, backend: str, purpose: Purpose) -> UnifiedLlmError | None:
        try:
            ensure_is_for(view.spec, purpose)
            self.directory.backend(backend)
        except (InvalidRequest, ProviderDenied) as error:
            return error
        if view.adapter is None or view.adapter.defect is None:
            return None
        return ModelFailedToLoad(
            f"The adapter {view.adapter.name} of {view.spec.id} can not be used. "
            f"{view.adapter.defect}"
        )

    def _now(self) -> Instant:
        return self.clock.now()


def _blindness(spec: ModelSpec | RemoteModel) -> UnifiedLlmError | None:
    """Why a model of this machine sees nothing; what others see is theirs to say."""
    if isinstance(spec, RemoteModel) or spec.sound_projector is not None:
        return None
    if spec.projector is not None:
        return ModelFailedToLoad(
            f"The projector of {spec.id} can not be used. {spec.projector.defect}"
        )
    return InvalidRequest(
        f"{spec.id} reads text only, and the request shows an image.",
        hint="Ask a model that sees: one with a projector, or a provider's.",
        parameter="messages",
    )
