"""The section `dbus`."""

from typing import Annotated, Literal

from pydantic import Field

from unified_llm.settings.sections.fields import Section, about


class DbusSettings(Section):
    """The desktop's door."""

    enabled: bool = Field(
        default=True,
        description="Whether the daemon is on D-Bus at all.",
        json_schema_extra=about(reason="desktop apps find the models there"),
    )
    address: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        description="D-Bus address of the bus; null for the system bus.",
        json_schema_extra=about(reason="polkit and the shipped policy are on the system bus"),
    )
    authority: Literal["polkit", "groups"] = Field(
        default="polkit",
        description="Who decides what a caller may: polkit by its rules, or the groups that also "
        "decide on the socket. Root and the daemon's own user are never asked about.",
        json_schema_extra=about(
            reason="polkit can ask the person at the screen for a password; without polkit "
            "everybody else is denied"
        ),
    )
