"""The section `registry`."""

from pathlib import Path

from pydantic import Field

from unified_llm.settings.sections.fields import AbsolutePath, Section, about


class RegistrySettings(Section):
    """What the daemon remembers across restarts: headers of files, and what it measured."""

    path: AbsolutePath | None = Field(
        default=Path("/var/lib/unified-llm/registry.db"),
        description=(
            "The database. Left out, `registry.db` in the state directory that systemd names; "
            "null to keep everything in memory."
        ),
        json_schema_extra=about(reason="the state directory of the service"),
    )
