"""Facts as property values."""

from dataclasses import replace
from typing import cast

import pytest

from tests.fakes.house import BIG, TINY, USER, make_spec
from unified_llm.bus.values import Variant
from unified_llm.domain.errors import NoRoom, concrete_errors
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Instant, Tokens
from unified_llm.operations.jobs import Job, JobId, JobResult, JobState, JobType
from unified_llm.operations.models import ModelView
from unified_llm.operations.transfer import Transfer
from unified_llm.surfaces.dbus import views


def make_job() -> Job:
    return Job(JobId(7), JobType.LOAD, BIG, USER, Instant(12.3456789), 1.7e9, is_private=False)


def test_what_is_unknown_is_told_apart_from_nothing() -> None:
    loading = views.status_properties(ModelStatus(TINY, ModelState.LOADING))
    begun = views.status_properties(ModelStatus(TINY, ModelState.LOADING, progress=0.0))
    assert (loading["LoadProgress"], loading["LoadProgressValid"]) == (0.0, False)
    assert (begun["LoadProgress"], begun["LoadProgressValid"]) == (0.0, True)


def test_a_load_makes_at_most_a_hundred_steps() -> None:
    told = {
        views.status_properties(ModelStatus(TINY, ModelState.LOADING, progress=part / 9973))[
            "LoadProgress"
        ]
        for part in range(9974)
    }
    assert len(told) == 101
    assert (min(told), max(told)) == (0.0, 1.0)  # type: ignore[type-var]


def test_a_loaded_model_shows_what_it_holds() -> None:
    placement = Placement(Tokens(512), 1, None, {}, sacrifices=("There is 1 of 4 slots.",))
    status = ModelStatus(
        TINY,
        ModelState.READY,
        memory_bytes=Bytes(2**40),
        context_tokens=Tokens(512),
        placement=placement,
        leases=3,
    )
    spec = replace(make_spec(TINY, size_bytes=99), digest="ab" * 32)
    shown = views.model_properties(ModelView(spec, status, 1_700_000_000.25))
    assert shown == {
        "Id": "tiny",
        "Backend": "local",
        "Format": "gguf",
        "SizeBytes": 99,
        "State": "ready",
        "LoadProgress": 0.0,
        "LoadProgressValid": False,
        "MemoryBytes": 2**40,
        "Sha256": "ab" * 32,
        "Leases": 3,
        "LastUsed": 1_700_000_000_250_000,
        "LastError": ("", ""),
        "ContextTokens": 512,
        "Sacrifices": ["There is 1 of 4 slots."],
    }


@pytest.mark.parametrize("code", [error.code for error in concrete_errors()])
def test_every_error_code_has_a_name_on_the_bus(code: str) -> None:
    status = ModelStatus(TINY, ModelState.FAILED, last_error=(code, "It failed."))
    name, message = cast("tuple[str, str]", views.status_properties(status)["LastError"])
    assert name.startswith(("org.unifiedllm1.Error.", "org.freedesktop.DBus.Error."))
    assert message == "It failed."


def test_a_running_job_has_no_result_yet() -> None:
    assert views.job_properties(make_job()) == {
        "Id": 7,
        "Type": "load",
        "Target": "/org/unifiedllm1/model/org_2fbig_3aq4",
        "StartedByUID": 1000,
        "StartTimestamp": 1_700_000_000_000_000,
        "StartTimestampMonotonic": 12_345_679,
        "State": "running",
        "Progress": 0.0,
        "ProgressValid": False,
        "BytesTotal": 0,
        "BytesDone": 0,
        "Rate": 0,
        "ExpectedEndTime": 0,
        "Cancelable": True,
        "Result": "",
        "Error": ("", ""),
    }


def test_what_a_job_counts_is_shown_until_its_end() -> None:
    job = make_job()
    job.transfer = Transfer(Bytes(1000), Bytes(0), Instant(10))
    names = ("BytesTotal", "BytesDone", "Rate", "ExpectedEndTime", "Cancelable")
    begun = views.job_changes(job)
    assert [begun[name] for name in names] == [1000, 0, 0, 0, True]
    job.transfer.see(Bytes(400), Instant(14))
    job.expected_end = 1.7e9 + 6
    counting = views.job_changes(job)
    assert [counting[name] for name in names] == [1000, 400, 100, 1_700_000_006_000_000, True]
    job.state = JobState.FINISHED
    ended = views.job_changes(job)
    assert [ended[name] for name in names] == [1000, 400, 0, 0, False]


def test_a_failed_job_says_why_everywhere() -> None:
    job = make_job()
    job.state, job.result = JobState.FINISHED, JobResult.FAILED
    job.error = NoRoom("It needs 8 GiB.", hint="Unload something.")
    name, text = "org.unifiedllm1.Error.InsufficientMemory", "It needs 8 GiB. Unload something."
    assert views.job_changes(job)["Error"] == (name, text)
    assert views.job_removed(job)[3:] == ("failed", name, text)
    assert views.job_outcome(job) == (
        "failed",
        {"error_name": Variant("s", name), "error_message": Variant("s", text)},
    )


def test_details_have_the_types_of_the_reference() -> None:
    shown = views.variants({"prompt_tokens": 5, "memory_bytes": 2**40, "seconds": 0.5, "why": "x"})
    assert {key: value.signature for key, value in shown.items()} == {
        "prompt_tokens": "u",
        "memory_bytes": "t",
        "seconds": "d",
        "why": "s",
    }
