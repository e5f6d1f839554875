"""Workers without processes: they report what the test makes them report."""

from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.scheduler.effects import Generation, LoadedModel, Reports


class FakeWorkers:
    """A Workers whose workers load and die when the test says so.

    obedient: each load succeeds and each stop is done before the call that asked for it returns.
    reports: where they report to; set before the first load.
    """

    reports: Reports

    def __init__(self, *, obedient: bool = False) -> None:
        self.obedient = obedient
        self.running: dict[ModelId, Generation] = {}
        self.begun: list[tuple[ModelId, Generation, Placement]] = []
        self.stopped: list[tuple[ModelId, Generation, Seconds]] = []

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in Workers. Raises AssertionError if the model has a worker already."""
        assert spec.id not in self.running, f"{spec.id} has a worker already"
        self.running[spec.id] = generation
        self.begun.append((spec.id, generation, placement))
        if self.obedient:
            self.finish_load(spec.id)

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in Workers."""
        self.stopped.append((model, generation, grace))
        if self.running.get(model) != generation:
            self.reports.stop_finished(model, generation)
        elif self.obedient:
            self.finish_stop(model)

    def finish_load(self, model: ModelId) -> None:
        """The worker serves, as it was asked to."""
        (placement,) = [each[2] for each in self.begun if each[1] == self.running[model]]
        loaded = LoadedModel(Tokens(placement.context_tokens), placement.slots)
        self.reports.load_finished(model, self.running[model], loaded)

    def fail_load(self, model: ModelId, error: UnifiedLlmError) -> None:
        """The worker says why it does not serve, and ends."""
        self.reports.load_finished(model, self.running[model], error)
        self.finish_stop(model)

    def finish_stop(self, model: ModelId) -> None:
        """The worker is gone and its memory is free."""
        generation = self.running.pop(model)
        self.reports.stop_finished(model, generation)
        self.reports.memory_returned(model, generation)

    def die(self, model: ModelId, error: UnifiedLlmError) -> None:
        """The worker ends unasked, and its memory is free."""
        generation = self.running.pop(model)
        self.reports.worker_died(model, generation, error)
        self.reports.memory_returned(model, generation)
