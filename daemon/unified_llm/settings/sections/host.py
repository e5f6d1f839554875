"""The section `host`."""

from pydantic import Field

from unified_llm.settings.sections.fields import Section, about


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
