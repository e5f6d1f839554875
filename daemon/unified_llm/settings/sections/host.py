"""The section `host`."""

from typing import Annotated

from pydantic import Field

from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import Deadline, Section, about


class HostSettings(Section):
    """How the daemon goes along with the machine it is on."""

    unload_before_sleep: bool = Field(
        default=True,
        description=(
            "Whether all models leave memory before the machine sleeps, as far as logind "
            "announces the sleep and waits."
        ),
        json_schema_extra=about(reason="drivers lose or corrupt GPU memory over a sleep"),
    )
    reload_after_sleep: bool = Field(
        default=True,
        description="Whether the models that served before a sleep are loaded after it, unasked.",
        json_schema_extra=about(reason="the machine is found as it was left"),
    )
    without_lost_gpus: bool = Field(
        default=False,
        description=(
            "Whether models that may be computed on GPUs are loaded on what is left when a GPU "
            "does not work any more; otherwise they are refused until it does."
        ),
        json_schema_extra=about(reason="a model that is suddenly slow is found out too late"),
    )
    battery_keep_alive_seconds: Deadline | None = Field(
        default=Seconds(60),
        description=(
            "Longest time an idle model stays in memory while the machine runs on battery, pinned "
            "models apart; nothing is loaded that nobody asks for. null to treat the battery like "
            "mains."
        ),
        json_schema_extra=about("seconds", "memory in use and a GPU that is awake cost charge"),
    )
    power_saver_is_battery: bool = Field(
        default=True,
        description="Whether the power profile `power-saver` is treated like the battery.",
        json_schema_extra=about(reason="whoever chooses it wants to save, on mains too"),
    )
    memory_pressure_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=10,
        description=(
            "Part of two seconds in which programs wait for main memory, by the kernel's pressure "
            "stall information, at which an idle model leaves; null for never."
        ),
        json_schema_extra=about("percent", "what systemd takes for pressure: 200 ms in 2 s"),
    )
