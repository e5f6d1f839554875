"""The section `hardware`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import AbsolutePath, Section, about


class HardwareSettings(Section):
    """How the machine's memory is measured."""

    driver: Literal["auto", "none", "nvml", "amdgpu", "xe", "i915", "fake"] = Field(
        default="auto",
        description=(
            "Which GPUs are used: those of every driver that works, of none, or of one. "
            "`fake` takes them from `fake_file`, for tests and demonstrations."
        ),
        json_schema_extra=about(reason="a machine's GPUs are found by themselves"),
    )
    fake_file: AbsolutePath = Field(
        default=Path("/run/unified-llm/fake-devices.json"),
        description="What the driver `fake` reads, anew with each reading.",
        json_schema_extra=about(reason="writable by the service alone"),
    )
    interval_seconds: Annotated[Seconds, Field(ge=0.1, le=60)] = Field(
        default=Seconds(1),
        description="Between two readings while a model is loaded; otherwise there are none.",
        json_schema_extra=about("seconds", "another program's need is answered within two seconds"),
    )
