"""operations.library."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.house import ADMIN, STRANGER, TINY, House, open_house
from tests.fakes.shelf import NEW
from unified_llm.domain.errors import (
    DiskFull,
    InvalidRequest,
    ModelInUse,
    NotPermitted,
    RateLimited,
    UnknownModel,
)
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.downloads.local_import import SourceFile
from unified_llm.operations.jobs import MAX_RUNNING_PER_UID, Job, JobResult, JobState
from unified_llm.operations.library import Verified


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SourceFile]:
    (tmp_path / "file").write_bytes(b"content")
    with SourceFile(os.open(tmp_path / "file", os.O_RDONLY)) as opened:
        yield opened


async def ended(job: Job) -> Job:
    async with asyncio.timeout(20):
        await job.finished.wait()
    return job


def recorded(house: House) -> list[tuple[str, str, str]]:
    return [
        tuple(record[f"UNIFIED_LLM_{name}"] for name in ("ACTION", "OBJECT", "RESULT"))  # type: ignore[misc]
        for record in house.trail.records
    ]


async def test_a_scan_is_a_job_that_says_what_it_found() -> None:
    async with open_house() as house:
        job = await ended(house.library.begin_scan(ADMIN))
        assert job.details == {"models": 2, "added": 1, "removed": 0, "problems": 3}
        assert (job.target, house.shelf.scans) == ("", 1)
    assert recorded(house) == [("scan-models", "models", "done")]


async def test_an_import_takes_a_copy_of_the_descriptor(source: SourceFile) -> None:
    async with open_house() as house:
        house.shelf.gate.clear()
        with source.duplicate() as callers:
            job = await house.library.begin_import(ADMIN, callers, None)
        assert (job.type, job.target, job.state) == ("import", NEW, JobState.RUNNING)
        await asyncio.sleep(0)
        assert job.progress == 0.5
        assert job.transfer is not None
        assert (job.transfer.done, job.transfer.total) == (4, 8)
        house.shelf.gate.set()
        assert (await ended(job)).details == {
            "model": NEW,
            "size_bytes": 7,
            "sha256": "ab" * 32,
        }
        assert house.shelf.added == [(NEW, b"content")]
    assert recorded(house) == [("import-model", "new", "done")]


async def test_an_import_that_is_cancelled_or_fails_gives_its_descriptor_back(
    source: SourceFile,
) -> None:
    async with open_house() as house:
        house.shelf.gate.clear()
        at_once = await house.library.begin_import(ADMIN, source, ModelId("a"))
        house.jobs.cancel(at_once, ADMIN)
        later = await house.library.begin_import(ADMIN, source, ModelId("b"))
        await asyncio.sleep(0)
        house.jobs.cancel(later, ADMIN)
        assert (await ended(at_once)).result is JobResult.CANCELLED
        assert (await ended(later)).result is JobResult.CANCELLED
        failing = await house.library.begin_import(ADMIN, source, ModelId("c"))
        house.shelf.fault = DiskFull("no room")
        house.shelf.gate.set()
        assert isinstance((await ended(failing)).error, DiskFull)
    # That nothing is left open is seen by the leak sentinel.


async def test_an_import_behind_another_is_queued(source: SourceFile) -> None:
    async with open_house() as house:
        house.shelf.gate.clear()
        first = await house.library.begin_import(ADMIN, source, ModelId("a"))
        second = await house.library.begin_import(ADMIN, source, ModelId("b"))
        await asyncio.sleep(0)
        assert (first.state, second.state) == (JobState.RUNNING, JobState.QUEUED)
        assert (first.progress, second.progress) == (0.5, None)
        verifying = await ended(house.library.begin_verify(ADMIN, TINY))
        assert verifying.result is JobResult.DONE
        house.shelf.gate.set()
        await ended(second)
        assert [model for model, _ in house.shelf.added] == ["a", "b"]


async def test_a_refused_import_never_becomes_a_job(source: SourceFile) -> None:
    async with open_house() as house:
        with pytest.raises(NotPermitted):
            await house.library.begin_import(STRANGER, source, None)
        house.shelf.fault = InvalidRequest("no model")
        with pytest.raises(InvalidRequest):
            await house.library.begin_import(ADMIN, source, None)
        house.shelf.fault = None
        house.shelf.gate.clear()
        for number in range(MAX_RUNNING_PER_UID):
            await house.library.begin_import(ADMIN, source, ModelId(f"m{number}"))
        with pytest.raises(RateLimited):
            await house.library.begin_import(ADMIN, source, None)


async def test_a_model_that_was_found_is_removed() -> None:
    async with open_house() as house:
        house.set_models(TINY, source="scan")
        job = await ended(house.library.begin_remove(ADMIN, TINY, force=False))
        assert job.details == {"size_bytes": 1024**3}
        assert house.shelf.removed == [TINY]
    assert recorded(house) == [("remove-model", "tiny", "done")]


async def test_a_model_of_the_settings_or_unknown_or_loaded_is_not_removed() -> None:
    async with open_house() as house:
        with pytest.raises(InvalidRequest, match="stands in the settings"):
            house.library.begin_remove(ADMIN, TINY, force=True)
        with pytest.raises(UnknownModel):
            house.library.begin_remove(ADMIN, ModelId("nothing"), force=False)
        house.set_models(TINY, source="scan")
        await ended(house.models.begin_load(ADMIN, TINY))
        with pytest.raises(ModelInUse, match="tiny is ready"):
            house.library.begin_remove(ADMIN, TINY, force=False)
        assert house.shelf.removed == []


async def test_a_forced_removal_unloads_first() -> None:
    async with open_house() as house:
        house.set_models(TINY, source="scan")
        await ended(house.models.begin_load(ADMIN, TINY))
        await ended(house.library.begin_remove(ADMIN, TINY, force=True))
        assert house.shelf.removed == [TINY]
        assert house.scheduler.status(TINY).state is ModelState.AVAILABLE


async def test_a_file_is_verified_and_the_verdict_is_in_the_details() -> None:
    async with open_house() as house:
        job = await ended(house.library.begin_verify(ADMIN, TINY))
        assert job.details == {"sha256": "cd" * 32, "verdict": "different"}
        assert job.transfer is not None
        assert (job.transfer.done, job.progress) == (1024**3, 1.0)
        with pytest.raises(NotPermitted):
            house.library.begin_verify(STRANGER, TINY)
        with pytest.raises(UnknownModel):
            house.library.begin_verify(ADMIN, ModelId("nothing"))
    assert recorded(house)[0] == ("scan-models", "tiny", "done")


@pytest.mark.parametrize(
    ("remembered", "verdict"), [("ab", "same"), ("cd", "different"), (None, "first")]
)
def test_a_verdict_is_about_what_the_file_was(remembered: str | None, verdict: str) -> None:
    assert Verified("ab", remembered).verdict == verdict
