"""The section `log`."""

from typing import Literal

from pydantic import Field

from unified_llm.settings.sections.fields import Section, about


class LogSettings(Section):
    """What goes to the journal. Prompts and answers never do, at any level."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe level that is logged.",
        json_schema_extra=about(reason="loads, unloads and faults, not every request"),
    )
