"""The section `requests`."""

from pydantic import Field

from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import Deadline, Section, about


class RequestsSettings(Section):
    """Deadlines of one answer."""

    first_event_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest wait for the first token, from the moment the model serves.",
        json_schema_extra=about("seconds", "reads 4096 tokens of prompt at 140 per second"),
    )
    between_events_seconds: Deadline = Field(
        default=Seconds(30),
        description="Longest wait between two tokens.",
        json_schema_extra=about("seconds", "tokens come many per second; so long is a fault"),
    )
    total_seconds: Deadline = Field(
        default=Seconds(600),
        description="Longest time of a whole answer.",
        json_schema_extra=about("seconds", "4096 tokens at 7 tokens per second"),
    )
