"""The section `downloads`."""

from typing import Annotated

from pydantic import Field

from unified_llm.domain.units import Bytes
from unified_llm.settings.sections.fields import MIB, Section, about


class DownloadsSettings(Section):
    """Model files that the daemon takes into `models.directory`."""

    quota_bytes: Annotated[Bytes, Field(ge=MIB, le=2**60)] | None = Field(
        default=None,
        description=(
            "The most that all files in `models.directory` may take together for a further one to "
            "be taken in; null for no limit but the disk, of which a file leaves 5 % of its size."
        ),
        json_schema_extra=about("bytes", "the operator knows what else is on that disk"),
    )
    prune: bool = Field(
        default=False,
        description=(
            "Whether each start removes the imported models that no entry of `models` names, so "
            "that the settings alone say what there is. Other files in `models.directory` stay."
        ),
        json_schema_extra=about(reason="what somebody has imported is theirs"),
    )
