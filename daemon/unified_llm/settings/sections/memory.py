"""The section `memory`."""

from typing import Annotated

from pydantic import Field

from unified_llm.domain.units import Bytes
from unified_llm.settings.sections.fields import MIB, Section, about


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
