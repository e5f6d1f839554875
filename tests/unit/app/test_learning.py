"""app.learning."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

import pytest

from tests.tiny_gguf import write_tiny_gguf
from unified_llm.app.learning import Learning
from unified_llm.domain.devices import RAM
from unified_llm.domain.measurements import MeasuredRun, Measurement
from unified_llm.domain.models import Adapter, FileIdentity, ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.fleet.loading import Serving
from unified_llm.registry.catalogue import build_catalogue
from unified_llm.registry.files import ModelFiles
from unified_llm.registry.measurements import measurement_for
from unified_llm.registry.store import Store, open_store
from unified_llm.settings.schema import Settings
from unified_llm.worker.protocol import Loaded

DIGEST = "ab" * 32


def serving(memory: int | None) -> Serving:
    loaded = Loaded(context_tokens=512, slots=2, memory_bytes=memory, description="tiny")
    placement = Placement(Tokens(512), 2, None, {RAM: Bytes(10**9)})
    held = {} if memory is None else {RAM: Bytes(memory)}
    return Serving(loaded, placement, held, (), "fake 1")


class KnownDigests:
    """Stands for registry.digests.Digests, which reads files."""

    def __init__(self, answer: str | OSError | None) -> None:
        self.answer = answer
        self.asked: list[PurePath] = []

    async def digest_of(self, path: PurePath, identity: FileIdentity) -> str | None:
        self.asked.append(path)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    settings = Settings.model_validate({"models": {"directory": str(tmp_path)}})
    return build_catalogue(settings, ModelFiles()).models[ModelId("tiny")]


@asynccontextmanager
async def learning_from(digests: KnownDigests) -> AsyncIterator[tuple[Learning, Store]]:
    async with open_store(None, unix_time=lambda: 7.0) as store, asyncio.TaskGroup() as group:
        learning = Learning(store, digests, unix_time=lambda: 7.0)
        task = group.create_task(learning.run())
        yield learning, store
        task.cancel()


async def settled(learning: Learning) -> None:
    """Wait until what was given to it has been dealt with."""
    async with asyncio.timeout(60):
        while not learning.is_idle:
            await asyncio.sleep(0)


async def test_what_a_load_took_is_kept_under_its_circumstances(spec: ModelSpec) -> None:
    async with learning_from(KnownDigests(DIGEST)) as (learning, store):
        learning.on_loaded(spec, serving(1000))
        await settled(learning)
        run = MeasuredRun(DIGEST, Tokens(512), 2, "f16", 512, (), "fake 1")
        found = await store.read(lambda database: measurement_for(database, run))
        assert found == Measurement({"ram": Bytes(1000)}, Seconds(7))


async def test_with_other_adapters_a_load_is_another(spec: ModelSpec) -> None:
    law = Adapter("law", PurePath("/law"), 1.0, spec.identity, None, (Bytes(30),), Bytes(4))
    async with learning_from(KnownDigests(DIGEST)) as (learning, store):
        learning.on_loaded(replace(spec, adapters=(law,)), serving(1000))
        await settled(learning)
        run = MeasuredRun(DIGEST, Tokens(512), 2, "f16", 512, (), "fake 1")
        adapted = replace(run, beside_bytes=Bytes(34))
        for each, known in ((run, None), (adapted, Measurement({"ram": Bytes(1000)}, Seconds(7)))):
            assert await store.read(partial(measurement_for, run=each)) == known


@pytest.mark.parametrize("answer", [None, PermissionError(13, "no")])
async def test_without_a_digest_nothing_is_kept(spec: ModelSpec, answer: OSError | None) -> None:
    digests = KnownDigests(answer)
    async with learning_from(digests) as (learning, store):
        learning.on_loaded(spec, serving(1000))
        learning.on_loaded(spec, serving(2000))
        await settled(learning)
        assert len(digests.asked) == 2
        rows = await store.read(
            lambda database: database.execute("SELECT * FROM measurements").fetchall()
        )
        assert rows == []


async def test_an_engine_that_says_nothing_teaches_nothing(spec: ModelSpec) -> None:
    digests = KnownDigests(DIGEST)
    async with learning_from(digests) as (learning, _):
        learning.on_loaded(spec, serving(None))
        learning.on_loaded(replace(spec, identity=None), serving(1000))
        await settled(learning)
        assert digests.asked == []
