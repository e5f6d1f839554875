"""Asks the planner where a model would go, and remembers the answers.

The same question comes with every event while a model waits, and an answer takes milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain.devices import RAM, DeviceId
from unified_llm.domain.errors import NoRoom
from unified_llm.domain.models import GpuUse, ModelId, ModelSpec, Speculation
from unified_llm.domain.placement import Placement
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes
from unified_llm.planner.cache_types import CACHE_TYPES
from unified_llm.planner.estimate import GPU_CONTEXT_BYTES
from unified_llm.planner.evict import Amounts
from unified_llm.planner.explain import explain_sacrifices
from unified_llm.planner.fit import Device, Machine, Plan, Sacrifice, Wishes, find_plan
from unified_llm.scheduler.ledger import MemoryLedger

_GRAIN: Final = 1024**2
_MOST_ANSWERS: Final = 16

_Question = tuple[tuple[DeviceId, int], ...]


@dataclass(slots=True)
class _Answers:
    """All that was asked of one model. spec: what it was asked of."""

    spec: ModelSpec
    why_no_gpu: str | None
    known: dict[_Question, Placement | NoRoom] = field(default_factory=dict)


class Placer:
    """Where models go. order: what is given up first where memory is short."""

    def __init__(self, ledger: MemoryLedger, order: tuple[Sacrifice, ...]) -> None:
        self._ledger = ledger
        self._order = order
        self._answers: dict[ModelId, _Answers] = {}

    def place(self, spec: ModelSpec, budgets: Amounts, cap: Amounts) -> Placement | NoRoom:
        """The best placement within so much of each device, or why there is none.

        cap: of some devices, less than that.
        """
        usable = (RAM, *self._usable_gpus(spec))
        question = tuple(
            (device, min(budgets.get(device, 0), cap.get(device, 2**62)) // _GRAIN)
            for device in usable
        )
        answers = self._answers.get(spec.id)
        if answers is None or answers.spec is not spec or self._is_stale(answers):
            answers = self._answers[spec.id] = _Answers(spec, self._ledger.why_no_gpu)
        if question not in answers.known:
            if len(answers.known) >= _MOST_ANSWERS:
                answers.known.clear()
            answers.known[question] = self._ask(spec, dict(question))
        return answers.known[question]

    def forget(self, model: ModelId) -> None:
        """The model has left the catalogue."""
        self._answers.pop(model, None)

    def _is_stale(self, answers: _Answers) -> bool:
        return answers.why_no_gpu != self._ledger.why_no_gpu

    def _usable_gpus(self, spec: ModelSpec) -> tuple[DeviceId, ...]:
        return () if spec.gpu is GpuUse.OFF else self._ledger.gpus

    def _ask(self, spec: ModelSpec, mebibytes: Mapping[DeviceId, int]) -> Placement | NoRoom:
        if spec.profile is None:
            return NoRoom(f"{spec.id} has no readable header, so its memory is not known.")
        gpus = [device for device in mebibytes if device != RAM]
        if spec.gpu is GpuUse.REQUIRED and not gpus:
            why = self._ledger.why_no_gpu or "No driver finds one."
            return NoRoom(f"{spec.id} is to be computed on GPUs alone, and there is none. {why}")
        machine = Machine(
            Device("RAM", Bytes(mebibytes[RAM] * _GRAIN)),
            tuple(Device(gpu, Bytes(mebibytes[gpu] * _GRAIN), GPU_CONTEXT_BYTES) for gpu in gpus),
        )
        wishes = self._wishes(spec)
        try:
            plan = find_plan(spec.profile, machine, wishes, spec.figures)
        except NoRoom as error:
            return error
        return self._placement(spec, spec.profile, gpus, wishes, plan)

    def _wishes(self, spec: ModelSpec) -> Wishes:
        return Wishes(
            context_tokens=spec.context_tokens,
            minimum_context=min(spec.minimum_context or spec.context_tokens, spec.context_tokens),
            slots=spec.slots,
            cache_type=CACHE_TYPES[spec.cache_type],
            order=self._order,
            needs_gpu=spec.gpu is GpuUse.REQUIRED,
            drafts=spec.drafting is not Speculation.OFF,
        )

    def _placement(
        self,
        spec: ModelSpec,
        profile: ModelProfile,
        gpus: list[DeviceId],
        wishes: Wishes,
        plan: Plan,
    ) -> Placement:
        sacrifices = explain_sacrifices(profile, wishes, plan)
        if spec.gpu is GpuUse.AUTO and not gpus and (why := self._ledger.why_no_gpu):
            sacrifices = (*sacrifices, f"No GPU is used. {why}")
        if spec.speculation is Speculation.PROMPT_LOOKUP and spec.drafting is Speculation.OFF:
            sacrifices = (*sacrifices, "No tokens are drafted: the model can take none back.")
        needs = zip(gpus, plan.layout.gpu_layers, plan.estimate.gpus, strict=True)
        return Placement(
            context_tokens=plan.run.context_tokens,
            slots=plan.run.slots,
            threads=spec.threads,
            memory={RAM: plan.estimate.ram.total}
            | {gpu: Bytes(need.total + GPU_CONTEXT_BYTES) for gpu, count, need in needs if count},
            cache_type=plan.run.cache_type.name,
            layers=len(profile.layers),
            gpus=tuple(gpus) if plan.layout.offloaded else (),
            gpu_layers=plan.layout.gpu_layers if plan.layout.offloaded else (),
            cpu_experts=plan.layout.cpu_experts if plan.layout.offloaded else 0,
            speculation=spec.drafting,
            sacrifices=sacrifices,
        )
