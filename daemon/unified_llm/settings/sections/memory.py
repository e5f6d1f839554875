"""The section `memory`."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from unified_llm.domain.units import Bytes
from unified_llm.settings.sections.fields import MIB, Section, about

Sacrifice = Literal["cache-type", "slots", "context", "layers"]


def _each_once(order: tuple[Sacrifice, ...]) -> tuple[Sacrifice, ...]:
    if sorted(order) != sorted(get_args(Sacrifice)):
        raise PydanticCustomError("not_each_once", "does not name each of the four once")
    return order


class MemorySettings(Section):
    """What the models may take together."""

    ram_budget_bytes: Annotated[Bytes, Field(ge=64 * MIB, le=2**53)] | None = Field(
        default=None,
        description="Main memory for all models; null for 80 % of what the service may use.",
        json_schema_extra=about("bytes", "leaves a fifth to the page cache and everything else"),
    )
    kept_states_bytes: Annotated[Bytes, Field(ge=0, le=2**53)] | None = Field(
        default=None,
        description=(
            "Part of that memory in which conversations are kept while their model is unloaded, "
            "so that they go on without being read anew; 0 for none, null for a sixteenth."
        ),
        json_schema_extra=about("bytes", "some long conversations, at little cost to the models"),
    )
    start_percent: Annotated[int, Field(ge=10, le=100)] = Field(
        default=85,
        description=(
            "How much of a device may be in use, other programs' part included. Models are placed "
            "within it, and when others push the use above it, models shrink or leave."
        ),
        json_schema_extra=about("percent", "drivers and desktops allocate without asking"),
    )
    stop_percent: Annotated[int, Field(ge=5, le=100)] = Field(
        default=80,
        description=(
            "To which the use of a GPU falls, by models that shrink or leave, once other programs "
            "have pushed it above `start_percent`; up to it they come back."
        ),
        json_schema_extra=about("percent", "below the start, so that they do not come and go"),
    )
    sacrifices: Annotated[tuple[Sacrifice, ...], Strict(False), AfterValidator(_each_once)] = Field(
        default=get_args(Sacrifice),
        description=(
            "What a model gives up where memory is short, the first thing first: the type of its "
            "cache (to q8_0), slots, context (to its minimum), layers on GPUs."
        ),
        json_schema_extra=about(
            reason="what its users notice least comes first",
            form="a list of cache-type, slots, context and layers, each once",
            default="[cache-type, slots, context, layers]",
        ),
    )
