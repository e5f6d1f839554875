import asyncio
import struct

import pytest

from tests.fakes.leases import FakeLeases
from tests.fakes.timers import FakeTimers, settle
from tests.unit.fleet.asking import CALLER, TINY
from tests.unit.fleet.test_backend import OneStream
from unified_llm.domain.chat import FinishReason
from unified_llm.domain.embeddings import EmbeddingRequest, RerankRequest
from unified_llm.domain.errors import Quarantined, RequestTimedOut, TooLarge
from unified_llm.domain.units import Seconds
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.vectors import LocalVectors
from unified_llm.worker.protocol import Done, Embed, Failed, Rank, Started, Vector

TEXTS = EmbeddingRequest(TINY, ("one", "two"), dimensions=2)
PAIRS = RerankRequest(TINY, "which?", ("this", "that"))
DONE = Done(id=1, reason=FinishReason.STOP, prompt_tokens=7, completion_tokens=0, cached_tokens=0)


class Scene:
    """Vectors and everything around them."""

    def __init__(self) -> None:
        self.timers, self.leases, self.worker = FakeTimers(), FakeLeases(), OneStream()
        self.quarantine = Quarantine(b"key")
        dispatch = Dispatch(self.leases, self.worker, self.quarantine, self.timers)
        self.vectors = LocalVectors(dispatch, self.timers, total=Seconds(600))

    def say(self, *vectors: tuple[float, ...]) -> None:
        self.worker.stream.put(Started(id=1, prompt_tokens=7, cached_tokens=0))
        for numbers in vectors:
            packed = struct.pack(f"<{len(numbers)}f", *numbers)
            self.worker.stream.put(Vector(id=1, numbers=packed))
        self.worker.stream.put(DONE)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_texts_become_vectors_in_their_order(scene: Scene) -> None:
    scene.say((0.0, 1.0), (1.0, 0.0))
    found = await scene.vectors.embed(TEXTS, CALLER)
    assert [list(vector) for vector in found.vectors] == [[0, 1], [1, 0]]
    assert found.prompt_tokens == 7
    (order,) = scene.worker.orders
    assert order.frame(3) == Embed(id=3, texts=("one", "two"), dimensions=2)
    assert (scene.leases.out, scene.worker.open_streams) == (0, 0)


async def test_documents_get_scores_in_their_order(scene: Scene) -> None:
    scene.say((-1.5,), (2.0,))
    ranking = await scene.vectors.rerank(PAIRS, CALLER)
    assert ranking.scores == (-1.5, 2.0)
    (order,) = scene.worker.orders
    assert order.frame(3) == Rank(id=3, query="which?", documents=("this", "that"))


async def test_what_the_worker_refuses_is_told(scene: Scene) -> None:
    scene.worker.stream.put(Failed(id=1, code="too-large", message="Text 1 has 900 tokens."))
    with pytest.raises(TooLarge, match="900 tokens"):
        await scene.vectors.embed(TEXTS, CALLER)
    assert scene.leases.out == 0


async def test_a_cancelled_caller_frees_what_was_held(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(scene.vectors.embed(TEXTS, CALLER))
        await settle()
        assert (scene.leases.out, scene.worker.open_streams) == (1, 1)
        asking.cancel()
    assert (scene.leases.out, scene.worker.open_streams) == (0, 0)


async def test_a_request_ends_at_the_total(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_error_of(scene))
        await settle()
        await scene.timers.advance(601)
        await settle()
    assert isinstance(asking.result(), RequestTimedOut)
    assert "600 s" in str(asking.result())


async def _error_of(scene: Scene) -> Exception:
    with pytest.raises(RequestTimedOut) as caught:
        await scene.vectors.embed(TEXTS, CALLER)
    return caught.value


async def test_texts_that_kill_workers_are_quarantined(scene: Scene) -> None:
    for _ in range(2):
        scene.quarantine.charge(scene.quarantine.fingerprint(TEXTS), scene.timers.now())
    with pytest.raises(Quarantined):
        await scene.vectors.embed(TEXTS, CALLER)
    assert not scene.worker.orders
    assert scene.quarantine.fingerprint(TEXTS) != scene.quarantine.fingerprint(
        EmbeddingRequest(TINY, ("one", "other"))
    )
