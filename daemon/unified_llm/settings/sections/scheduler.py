"""The section `scheduler`."""

from typing import Annotated, Literal

from pydantic import Field

from unified_llm.domain.units import Seconds
from unified_llm.settings.sections.fields import Deadline, Section, about


class SchedulerSettings(Section):
    """How long requests and models wait for each other."""

    queue_limit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=64,
        description="Requests that may wait for one model; the next one is refused.",
        json_schema_extra=about("requests", "longer queues only turn refusals into timeouts"),
    )
    eviction: Literal["cost", "priority", "lru", "fifo"] = Field(
        default="cost",
        description=(
            "Which model leaves first when another needs its memory: the one that is cheapest to "
            "reload for the time it lay idle, its priority weighing in (cost); that of the lowest "
            "priority (priority); the longest idle (lru); the longest loaded (fifo)."
        ),
        json_schema_extra=about(reason="what is dear to reload is kept longest"),
    )
    turn_seconds: Deadline = Field(
        default=Seconds(10),
        description=(
            "How long a model in use may keep another waiting that has no room beside it. Models "
            "that load slowly get longer turns, so that four fifths of the time are left for "
            "answers, but none longer than `ageing_seconds`."
        ),
        json_schema_extra=about("seconds", "several answers for each time a model is loaded"),
    )
    ageing_seconds: Deadline = Field(
        default=Seconds(60),
        description=(
            "How long a model has to wait for memory until it comes before every other that "
            "began to wait now, whatever their priorities."
        ),
        json_schema_extra=about("seconds", "low priority means late, not never"),
    )
    queue_seconds: Deadline = Field(
        default=Seconds(300),
        description="Longest wait of a request for its model to serve it, its loading included.",
        json_schema_extra=about("seconds", "a large model from a slow disk takes minutes"),
    )
    load_seconds: Deadline = Field(
        default=Seconds(600),
        description="Longest time a worker may take to load its model.",
        json_schema_extra=about("seconds", "60 GB from a slow disk at 100 MB/s"),
    )
    drain_seconds: Deadline = Field(
        default=Seconds(30),
        description="Time running answers get to end before their model is unloaded.",
        json_schema_extra=about("seconds", "most answers end within it"),
    )
    stop_seconds: Deadline = Field(
        default=Seconds(5),
        description="Time a worker gets to end by itself before it is killed.",
        json_schema_extra=about("seconds", "it holds nothing that must be written"),
    )
