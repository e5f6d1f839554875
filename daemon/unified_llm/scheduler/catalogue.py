"""Which models there are: they come, change and vanish while others are served."""

import difflib
from collections.abc import Mapping

from unified_llm.domain.errors import UnknownModel
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.units import Instant
from unified_llm.scheduler.backoff import Backoff, Jitter
from unified_llm.scheduler.effects import Effects
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.scheduler.residency import Residency
from unified_llm.scheduler.room import Room
from unified_llm.scheduler.state import DrainReason, ModelRecord
from unified_llm.scheduler.tickets import Tickets


class Catalogue:
    """Keeps the records in step with what the application says there is."""

    def __init__(
        self,
        effects: Effects,
        policy: SchedulingPolicy,
        tickets: Tickets,
        residency: Residency,
        room: Room,
        jitter: Jitter,
    ) -> None:
        self._effects = effects
        self._policy = policy
        self._tickets = tickets
        self._residency = residency
        self._room = room
        self._jitter = jitter
        self._records = residency.records

    def replace(self, specs: Mapping[ModelId, ModelSpec], now: Instant) -> None:
        """These are all the models from now on; what has vanished is drained and stopped."""
        for record in tuple(self._records.values()):
            if record.id not in specs:
                self._vanish(record, now)
        for spec in specs.values():
            self._admit(spec, now)

    def unknown(self, model: ModelId) -> UnknownModel:
        """What a caller is told of a model that is not in it, with the nearest name."""
        near = difflib.get_close_matches(model, self._records, n=1)
        return self._residency.unknown(model, f"Did you mean {near[0]!r}?" if near else "")

    def _vanish(self, record: ModelRecord, now: Instant) -> None:
        record.has_vanished = True
        self._room.forget(record.id)
        if record.state.has_worker:
            self._tickets.refuse_waiting(record, lambda: self.unknown(record.id))
            self._residency.send_away(record, DrainReason.VANISHED, now, self._policy.drain_grace)
        else:
            self._residency.rest(record, now)

    def _admit(self, spec: ModelSpec, now: Instant) -> None:
        record = self._records.get(spec.id)
        if record is None:
            state = ModelState.ABSENT if spec.identity is None else ModelState.AVAILABLE
            backoff = Backoff(self._policy, self._jitter)
            record = ModelRecord(spec, backoff, since=now, last_used=now, state=state)
            self._records[spec.id] = record
            self._effects.announce(record.status())
            return
        if spec != record.spec:
            # Another file or other numbers: what failed before may work now.
            record.backoff.forgive()
        record.spec, record.has_vanished = spec, False
        if record.state.has_worker:
            self._residency.attend(record, now)
        else:
            self._residency.rest(record, now)
