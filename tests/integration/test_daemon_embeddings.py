"""The whole daemon with real encoders, as the official client and plain HTTP see it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.encoder_models import MEAN, RANK, tiny_encoder, write_tiny_encoder
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

TEXTS = ["the cat", "a dog in the sea", "x"]


@contextmanager
def open_encoders(folder: Path, engine: str = "llama") -> Iterator[WholeDaemon]:
    models: dict[str, Any] = {"directory": None}
    for name, pooling in {"minilm": MEAN, "judge": RANK, "bare": None}.items():
        path = write_tiny_encoder(folder / f"{name}.gguf", pooling, context=300)
        models[name] = {"path": str(path)}
    changes = {"models": models, "worker": {"engine": engine, "stall_seconds": PATIENCE}}
    with open_daemon(changes, with_bus=False) as daemon:
        yield daemon


def test_the_official_client_gets_the_vectors_that_the_model_makes(tmp_path: Path) -> None:
    reference = tiny_encoder(300)
    with open_encoders(tmp_path) as daemon, daemon.open_openai() as client:
        # The client asks for base64 by itself; the other way is asked for by name.
        packed = client.embeddings.create(model="minilm", input=TEXTS)
        plain = client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
        cut = client.embeddings.create(model="minilm", input=TEXTS[0], dimensions=8)
        with pytest.raises(openai.APIStatusError, match=r"has 402 tokens; .* 256") as too_long:
            client.embeddings.create(model="minilm", input=["fine", "cat " * 400])
        with pytest.raises(openai.BadRequestError, match="makes vectors of texts"):
            client.chat.completions.create(
                model="minilm", messages=[{"role": "user", "content": "Hello"}]
            )
        with pytest.raises(openai.BadRequestError, match="how they are pooled"):
            client.embeddings.create(model="bare", input="x")
        records = daemon.audit(6)  # three done, two refused, and a chat
    for text, one, other in zip(TEXTS, packed.data, plain.data, strict=True):
        expected = reference.embed(reference.tokens(text))
        assert np.dot(expected, one.embedding) > 1 - 1e-3
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.usage.prompt_tokens == sum(len(reference.tokens(text)) for text in TEXTS)
    assert len(cut.data[0].embedding) == 8
    assert too_long.value.status_code == 413
    outcomes = [(each["UNIFIED_LLM_ACTION"], each["UNIFIED_LLM_RESULT"]) for each in records]
    assert outcomes.count(("embed", "done")) == 3
    assert outcomes.count(("embed", "refused")) == 2


def test_a_providers_vectors_are_those_that_it_makes(tmp_path: Path) -> None:
    with open_encoders(tmp_path, engine="fake") as upstream:
        there = {"kind": "openai-compatible", "socket": str(upstream.socket_path)}
        with (
            open_daemon(
                {"providers": {"far": {**there, "models": ["minilm"]}}}, with_bus=False
            ) as daemon,
            daemon.open_openai() as client,
            upstream.open_openai() as there_itself,
        ):
            asked = client.embeddings.create(model="far/minilm", input=TEXTS)
            direct = there_itself.embeddings.create(model="minilm", input=TEXTS)
            with pytest.raises(openai.BadRequestError, match="the least is 1"):
                client.embeddings.create(model="far/minilm", input=TEXTS, dimensions=0)
            used = daemon.run("unified-llm", "usage")
            records = daemon.audit(2)
    assert [each.embedding for each in asked.data] == [each.embedding for each in direct.data]
    assert asked.usage.prompt_tokens == direct.usage.prompt_tokens > 0
    assert "far/minilm" in used.stdout
    asked_by = {record["UNIFIED_LLM_RESULT"]: record for record in records}
    assert asked_by["done"]["UNIFIED_LLM_BACKEND"] == "far"
    assert "UNIFIED_LLM_BACKEND" not in asked_by["refused"]


def test_documents_are_ranked_as_the_model_judges(tmp_path: Path) -> None:
    reference = tiny_encoder(300)
    asked = {"model": "judge", "query": "a cat", "documents": TEXTS, "top_n": 2}
    with open_encoders(tmp_path) as daemon, daemon.open_http() as http:
        answer = http.post("/v1/rerank", json=asked).raise_for_status().json()
        refused = http.post("/v1/rerank", json={**asked, "model": "minilm"})
    scores = [
        reference.score([*reference.tokens("a cat"), *reference.tokens(text)[1:]]) for text in TEXTS
    ]
    best = sorted(range(3), key=lambda index: -scores[index])[:2]
    assert [result["index"] for result in answer["results"]] == best
    assert answer["results"][0]["relevance_score"] == pytest.approx(max(scores), abs=0.02)
    assert refused.status_code == 400
    assert "judges documents by a query" in refused.json()["error"]["message"]


def test_many_callers_at_once_each_get_their_own_vectors(tmp_path: Path) -> None:
    texts = [f"{animal} {number}" for animal in ("cat", "dog", "sea") for number in range(8)]
    with open_encoders(tmp_path) as daemon, daemon.open_openai() as client:

        def embed(text: str) -> list[float]:
            return client.embeddings.create(model="minilm", input=text).data[0].embedding

        alone = [embed(text) for text in texts]

        async def all_together() -> list[list[float]]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.to_thread(embed, text)) for text in texts]
            return [task.result() for task in tasks]

        together = asyncio.run(all_together())
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_client_that_leaves_stops_the_work_and_a_dead_worker_is_one_error(
    tmp_path: Path,
) -> None:
    with open_encoders(tmp_path, engine="fake") as daemon, daemon.open_http() as http:
        slow = {"model": "minilm", "input": "!step 3000 x"}
        with pytest.raises(Exception, match="timed out"):
            http.post("/v1/embeddings", json=slow, timeout=3)
        after = http.post("/v1/embeddings", json={"model": "minilm", "input": "x"})
        assert after.status_code == 200
        daemon.audit(2)  # nothing of them runs any more
        (worker,) = daemon.workers()

        def kill_at_work() -> None:
            deadline = time.monotonic() + PATIENCE
            with daemon.open_http() as other:
                while not other.get("/v1/status").json()["requests"]["running"]:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            os.kill(worker, signal.SIGKILL)

        killer = threading.Thread(target=kill_at_work)
        killer.start()
        died = http.post("/v1/embeddings", json=slow)
        killer.join()
        assert (died.status_code, died.json()["error"]["code"]) == (502, "worker-died")
        again = http.post("/v1/embeddings", json={"model": "minilm", "input": "x"})
        assert again.status_code == 200
        outcomes = [each["UNIFIED_LLM_RESULT"] for each in daemon.audit(3)]
    assert outcomes[:3] == ["cancelled", "done", "failed"]
