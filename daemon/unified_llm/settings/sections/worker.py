"""The section `worker`."""

from typing import Literal

from pydantic import Field

from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import Deadline, Section, about


class WorkerSettings(Section):
    """The process that runs one model."""

    engine: Literal["llama", "fake"] = Field(
        default="llama",
        description="`llama` runs the model; `fake` answers by rule, for tests of clients.",
        json_schema_extra=about(reason="the real one"),
    )
    sandbox_required: bool = Field(
        default=True,
        description=(
            "Whether a kernel without Landlock or seccomp is an error. "
            "Otherwise workers run in what sandbox there is."
        ),
        json_schema_extra=about(reason="a model file can take its worker over"),
    )
    stall_seconds: Deadline = Field(
        default=Seconds(30),
        description="A busy worker that finishes no decode step for so long is replaced.",
        json_schema_extra=about("seconds", "well above one step of a long prompt on a slow CPU"),
    )
