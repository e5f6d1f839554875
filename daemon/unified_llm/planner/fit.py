"""How a model is run and laid out so that it fits, giving up as little as possible.

Each thing that can be given up is a ladder from the wished value down to the worst acceptable one.
The ladders are climbed in reverse order of sacrifice: what is given up last takes the best value
that is possible while all the others are at their worst, then the next. So a thing is given up only
when giving up everything before it does not help, and more memory never makes a plan worse.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, TypeVar

from unified_llm.domain.errors import NoRoom
from unified_llm.domain.measurements import Figure
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes, Tokens, render_bytes
from unified_llm.planner.cache_types import F16, Q8_0, CacheType
from unified_llm.planner.estimate import Estimate, Layout, estimate_memory
from unified_llm.planner.figures import Figures
from unified_llm.planner.layouts import Offload, offloads, spread
from unified_llm.planner.run_shape import RunShape, makes_vectors

_CONTEXT_STEP: Final = 256

Rung = TypeVar("Rung")


class Sacrifice(Enum):
    """What can be given up."""

    CACHE_TYPE = "cache-type"
    SLOTS = "slots"
    CONTEXT = "context"
    LAYERS = "layers"


DEFAULT_ORDER: Final = (
    Sacrifice.CACHE_TYPE,
    Sacrifice.SLOTS,
    Sacrifice.CONTEXT,
    Sacrifice.LAYERS,
)
"""The first is given up first."""


@dataclass(frozen=True, slots=True)
class Device:
    """Memory that may be used. reserve_bytes: of what is free, to be left alone."""

    name: str
    free_bytes: Bytes
    reserve_bytes: Bytes = Bytes(0)

    @property
    def budget(self) -> Bytes:
        """What a plan may take."""
        return Bytes(max(self.free_bytes - self.reserve_bytes, 0))


@dataclass(frozen=True, slots=True)
class Machine:
    """Main memory, and the GPUs in the order in which layers are dealt out."""

    ram: Device
    gpus: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for, and how far down it may go.

    minimum_context: at most `context_tokens`. order: every sacrifice once, the first to be given
    up leading. needs_gpu: rather refuse than compute in main memory. keeps_whole_windows, drafts:
    see RunShape.
    """

    context_tokens: Tokens
    minimum_context: Tokens
    slots: int
    cache_type: CacheType = F16
    order: tuple[Sacrifice, ...] = DEFAULT_ORDER
    needs_gpu: bool = False
    keeps_whole_windows: bool = False
    drafts: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to run the model that fits."""

    run: RunShape
    layout: Layout
    estimate: Estimate


def find_plan(
    profile: ModelProfile, machine: Machine, wishes: Wishes, known: Iterable[Figure] = ()
) -> Plan:
    """The best plan there is; the same question has the same answer.

    known: figures of the same file by the same engine; each takes the place of arithmetic for its
    own run, on devices of the machine that have its names. Raises NoRoom, with what even the most
    modest plan takes.
    """
    search = _Search(profile, machine, wishes, known)
    if (wished := search.wished()) is not None:
        return wished
    for sacrifice in reversed(wishes.order):
        search.climb(sacrifice)
    plan = search.plan()
    if plan is None:
        raise search.refusal()
    return plan


class _Search:
    """The ladders, where on each of them the search stands, and which offload was decided on."""

    def __init__(
        self, profile: ModelProfile, machine: Machine, wishes: Wishes, known: Iterable[Figure]
    ) -> None:
        self._figures = Figures(known, [gpu.name for gpu in machine.gpus])
        self._profile = profile
        self._machine = machine
        self._budgets = [gpu.budget for gpu in machine.gpus]
        self._wishes = wishes
        self._offloads = offloads(profile, has_gpus=bool(machine.gpus), needs_gpu=wishes.needs_gpu)
        self._types = _cache_types(wishes.cache_type)
        self._slots = tuple(range(wishes.slots, 0, -1))
        self._contexts = _contexts(wishes)
        self._type = self._types[-1]
        self._slot_count = self._slots[-1]
        self._context = self._contexts[-1]

    def climb(self, sacrifice: Sacrifice) -> None:
        """Take the best rung of this ladder that fits, all else staying as it is."""
        if sacrifice is Sacrifice.LAYERS:
            self._offloads = self._best_offload(self._run())
        elif sacrifice is Sacrifice.CACHE_TYPE:
            self._type = self._best(self._types, lambda rung: self._run(cache_type=rung))
        elif sacrifice is Sacrifice.SLOTS:
            self._slot_count = self._best(self._slots, lambda rung: self._run(slots=rung))
        else:
            self._context = self._longest_context()

    def wished(self) -> Plan | None:
        """Everything as it was wished, if that fits."""
        # By a figure it may, where a step below it does not by arithmetic.
        run = self._run(cache_type=self._types[0], slots=self._slots[0], context=self._contexts[0])
        plans = (self._laid_out(offload, run) for offload in self._offloads[:1])
        return next(plans, None)

    def plan(self) -> Plan | None:
        """The first offload that fits with everything else as it stands."""
        return self._fitting(self._run())

    def refusal(self) -> NoRoom:
        """Why nothing fits, in numbers."""
        run = self._run(context=self._contexts[-1], slots=1, cache_type=self._types[-1])
        need = estimate_memory(self._profile, run).total
        parts = [self._machine.ram, *self._machine.gpus]
        budgets = ", ".join(f"{render_bytes(part.budget)} of {part.name}" for part in parts)
        where = "on GPUs alone" if self._wishes.needs_gpu else "in any division"
        return NoRoom(
            f"Even {run.context_tokens} tokens of {run.cache_type.name} cache in one slot take "
            f"{render_bytes(need)} in all, which do not fit {where} into {budgets}.",
            hint="Take a smaller or more strongly quantised model, or allow a smaller context.",
        )

    def _run(
        self,
        *,
        cache_type: CacheType | None = None,
        slots: int | None = None,
        context: Tokens | None = None,
    ) -> RunShape:
        return RunShape(
            context or self._context,
            slots or self._slot_count,
            cache_type or self._type,
            self._wishes.keeps_whole_windows,
            is_whole=makes_vectors(self._profile),
            drafts=self._wishes.drafts,
        )

    def _best(self, rungs: tuple[Rung, ...], run_of: Callable[[Rung], RunShape]) -> Rung:
        fitting = (rung for rung in rungs if self._fitting(run_of(rung)) is not None)
        return next(fitting, rungs[-1])

    def _longest_context(self) -> Tokens:
        known = self._figures.contexts.intersection(self._contexts)
        best = self._longest_by_arithmetic([each for each in self._contexts if each not in known])
        longer = (each for each in self._contexts if each in known and (not best or each > best))
        rungs: tuple[Tokens, ...] = (*longer, *((best,) if best else ()))
        return self._best(rungs or self._contexts[-1:], lambda rung: self._run(context=rung))

    def _longest_by_arithmetic(self, contexts: list[Tokens]) -> Tokens | None:
        # By bisection, as there may be thousands: a shorter context never takes more. Those of
        # which there are figures may break that rule, and are looked at one by one.
        low, high = 0, len(contexts)
        while low < high:
            middle = (low + high) // 2
            if self._fitting(self._run(context=contexts[middle])) is None:
                low = middle + 1
            else:
                high = middle
        return contexts[low] if low < len(contexts) else None

    def _best_offload(self, run: RunShape) -> tuple[Offload, ...]:
        fitting = (each for each in self._offloads if self._laid_out(each, run) is not None)
        return tuple(islice(fitting, 1))

    def _fitting(self, run: RunShape) -> Plan | None:
        plans = (self._laid_out(offload, run) for offload in self._offloads)
        return next((plan for plan in plans if plan is not None), None)

    def _laid_out(self, offload: Offload, run: RunShape) -> Plan | None:
        layouts = self._figures.layouts(run, offload.layers, offload.cpu_experts)
        for layout in (*layouts, spread(self._profile, run, offload, self._budgets)):
            if layout is None:
                continue
            estimate = estimate_memory(self._profile, run, layout)
            plan = Plan(run, layout, self._figures.applied(estimate, run, layout))
            if self._has_room(plan.estimate):
                return plan
        return None

    def _has_room(self, estimate: Estimate) -> bool:
        on_gpus = zip(estimate.gpus, self._budgets, strict=True)
        return estimate.ram.total <= self._machine.ram.budget and all(
            need.total <= budget for need, budget in on_gpus
        )


def _cache_types(wished: CacheType) -> tuple[CacheType, ...]:
    is_wider = Q8_0.size * wished.items < wished.size * Q8_0.items
    return (wished, Q8_0) if is_wider else (wished,)


def _contexts(wishes: Wishes) -> tuple[Tokens, ...]:
    """The wish, and below it whole steps down to the minimum."""
    steps = range(
        (wishes.context_tokens - 1) // _CONTEXT_STEP * _CONTEXT_STEP,
        wishes.minimum_context,
        -_CONTEXT_STEP,
    )
    found = [wishes.context_tokens, *map(Tokens, steps)]
    if wishes.minimum_context < found[-1]:
        found.append(wishes.minimum_context)
    return tuple(found)
