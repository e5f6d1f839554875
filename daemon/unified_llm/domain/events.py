"""Facts that rise from the rooms to whoever listens; values, never calls upward."""

from dataclasses import dataclass
from enum import StrEnum

from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money, render_dollars
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Tokens


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model as it is now; the only thing surfaces know of residency.

    progress: 0 to 1 while loading, else None.
    memory_bytes: what it holds; None while it holds nothing or it is not known.
    context_tokens: context of one conversation as loaded; None while not loaded.
    sandbox: layers its worker is confined by; None while not loaded.
    placement: what its worker was given, and what had to be given up for it; None without a worker.
    leases: requests being served now. waiting: requests queued for it.
    last_error: code and message of the last failure to load or serve; None if there is none.
    """

    id: ModelId
    state: ModelState
    progress: float | None = None
    memory_bytes: Bytes | None = None
    context_tokens: Tokens | None = None
    sandbox: tuple[str, ...] | None = None
    placement: Placement | None = None
    leases: int = 0
    waiting: int = 0
    last_error: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """A model's status is now this."""

    status: ModelStatus


class Move(StrEnum):
    """What the daemon does with a model of its own accord."""

    MAKE_WAY = "make-way"
    COME_BACK = "come-back"

    @property
    def label(self) -> str:
        """The name the audit log uses."""
        return self.value


@dataclass(frozen=True, slots=True)
class ModelMoved:
    """A model leaves for others than models, or is loaded again after that.

    why: a sentence with the numbers.
    """

    model: ModelId
    move: Move
    why: str


@dataclass(frozen=True, slots=True)
class CatalogueChanged:
    """Models appeared or vanished."""

    added: frozenset[ModelId]
    removed: frozenset[ModelId]


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """Other files stand behind models, or more is known of those that do."""

    models: frozenset[ModelId]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine is like, as far as somebody tells; None is what nobody does.

    power_profile: such as `power-saver`. pressure_unwatched: why a shortage of main memory would
    not be noticed; None if it would. is_gpu_full: whether a GPU is fuller than models may fill it,
    by the last reading. gpu_fault: why GPUs that there were do not work; None if they do.
    """

    on_battery: bool | None = None
    power_profile: str | None = None
    pressure_unwatched: str | None = None
    is_gpu_full: bool | None = None
    gpu_fault: str | None = None


@dataclass(frozen=True, slots=True)
class SurroundingsChanged:
    """The machine is now like this."""

    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class SleepChanged:
    """A sleep of the machine is being prepared for, or is over: the daemon's state is another."""


@dataclass(frozen=True, slots=True)
class BudgetNearlySpent:
    """So much of a budget is spent that somebody should know; told once for an account.

    principal: whose account it is; None for the one of all its users together. period: the day
    (`2026-11-22`) or the month (`2026-11`) that it is for.
    """

    budget: str
    period: str
    principal: str | None
    spent: Money
    limit: Money

    @property
    def sentence(self) -> str:
        """For people."""
        whose = f" of {self.principal}" if self.principal else ""
        spent, limit = render_dollars(self.spent), render_dollars(self.limit)
        return (
            f"budget {self.budget}{whose} for {self.period}: {spent} of {limit} dollars are spent"
        )


Event = (
    ModelChanged
    | CatalogueChanged
    | FilesChanged
    | SleepChanged
    | SurroundingsChanged
    | BudgetNearlySpent
)
