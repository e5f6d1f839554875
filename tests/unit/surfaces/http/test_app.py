"""The routes, over a real socket."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER, BIG, TINY
from tests.unit.surfaces.http.door import (
    CREATED,
    OpenDoor,
    Wire,
    chat_body,
    chat_request,
    open_door,
    post,
)
from unified_llm.domain.chat import Role
from unified_llm.domain.errors import NoRoom, RateLimited, UnifiedLlmError, WorkerDied
from unified_llm.domain.units import Seconds
from unified_llm.wire import native


async def post_chat(door: OpenDoor, **fields: Any) -> Any:
    async with door.client() as client:
        return await client.post("/v1/chat/completions", json=chat_body(**fields))


async def test_a_chat_is_answered_in_openais_shape(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_chat(door, temperature=0.5, user="ignored")
    assert answer.status_code == 200
    body = answer.json()
    request_id = answer.headers["x-request-id"]
    assert body.pop("x_unified_llm")["request_id"] == request_id
    assert body == {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": CREATED,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Blue light.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }


async def test_the_backend_sees_the_request_and_who_asks(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await post_chat(door, seed=7, stop="\n", max_completion_tokens=9)
        ((request, caller),) = door.house.backend.asked
    assert (request.model, request.max_tokens, request.stop) == ("tiny", 9, ("\n",))
    assert request.sampling.seed == 7
    assert [(message.role, message.content) for message in request.messages] == [
        (Role.USER, "Sky?")
    ]
    assert caller.uid == 0
    assert caller.connection == "http:1"


async def test_the_answers_id_stands_in_the_audit_log(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_chat(door)
        trail = door.house.trail
    (record,) = trail.records
    assert record["UNIFIED_LLM_REQUEST"] == answer.headers["x-request-id"]
    assert record["UNIFIED_LLM_RESULT"] == "done"
    assert record["UNIFIED_LLM_COMPLETION_TOKENS"] == "2"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (NoRoom("Too big."), 503, {"x-should-retry": "false"}),
        (RateLimited("Enough.", retry_after=Seconds(1.2)), 429, {"retry-after": "2"}),
        (WorkerDied("It died."), 502, {"x-should-retry": "false"}),
    ],
    ids=lambda value: value.code if isinstance(value, UnifiedLlmError) else "",
)
async def test_an_error_before_content_has_its_status(
    tmp_path: Path, error: UnifiedLlmError, status: int, headers: dict[str, str], is_stream: bool
) -> None:
    for backend in (FakeBackend(refusal=error), FakeBackend([error])):
        async with open_door(tmp_path, backend) as door:
            answer = await post_chat(door, stream=is_stream)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == error.code
        assert answer.headers["content-type"] == "application/json"
        assert headers.items() <= dict(answer.headers).items()
        assert len(answer.headers["x-request-id"]) == 16


async def test_a_bug_shows_only_an_id_whose_cause_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeBackend):
        def chat(self, request: object, caller: object) -> Any:
            raise KeyError("secret detail")

    async with open_door(tmp_path, Broken()) as door:
        answer = await post_chat(door)
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert any(answer.headers["x-request-id"] in record.message for record in caplog.records)


async def test_answers_that_never_finish_are_a_bug_of_ours(tmp_path: Path) -> None:
    async with open_door(tmp_path, FakeBackend(ANSWER[:1])) as door:
        answer = await post_chat(door)
    assert answer.status_code == 500


async def test_unknown_models_are_named_with_their_nearest(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await post_chat(door, model="tinny")
    assert answer.status_code == 404
    assert "'tiny'" in answer.json()["error"]["message"]


async def test_models_are_listed_and_found_by_ids_with_slashes(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.client() as client:
        listed = (await client.get("/v1/models")).json()
        one = (await client.get(f"/v1/models/{BIG}")).json()
        none = await client.get("/v1/models/nothing")
        bad = await client.get("/v1/models/%00evil%20")
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [BIG, TINY]
    assert one in listed["data"]
    assert one["object"] == "model"
    assert one["x_unified_llm"]["state"] == "available"
    assert "/models/file.gguf" not in str(listed)
    assert none.status_code == 404
    assert bad.status_code == 400


async def test_a_route_is_explained_and_nobody_asked(tmp_path: Path) -> None:
    async with open_door(tmp_path) as found, found.client() as client:
        asked = {"model": "auto", "prompt_tokens": 10}
        answer = (await client.post("/v1/routes/explain", json=asked)).json()
        assert (answer["strategy"], answer["kept_local"]) == ("local-first", "route auto")
        assert [(each["model"], each["place"]) for each in answer["targets"]] == [
            ("org/big:q4", 1),
            ("tiny", 2),
        ]
        wrong = await client.post("/v1/routes/explain", json={"model": "tyni"})
        assert wrong.status_code == 404
        refused = await client.post("/v1/routes/explain", json={"model": "tiny", "promt": 1})
        assert refused.status_code == 400
        assert found.house.backend.asked == []


async def test_a_chat_tells_who_was_tried_and_takes_that_it_stays_here(tmp_path: Path) -> None:
    async with open_door(tmp_path) as found, found.client() as client:
        body = chat_body(x_unified_llm={"local_only": True})
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        assert answer["x_unified_llm"]["tried"] == [
            {"model": "tiny", "backend": "local", "code": None}
        ]
        assert [request.local_only for request, _ in found.house.backend.asked] == [True]


async def test_usage_is_told_with_exact_amounts(tmp_path: Path) -> None:
    async with open_door(tmp_path) as found, found.client() as client:
        answer = (await client.post("/v1/chat/completions", json=chat_body())).json()
        assert answer["x_unified_llm"]["cost_dollars"] == "0.000000"
        (line,) = (await client.get("/v1/usage?days=1")).json()["lines"]
        assert (line["model"], line["provider"], line["dollars"]) == ("tiny", "local", "0")
        assert (line["answers"], line["prompt_tokens"], line["completion_tokens"]) == (1, 5, 2)
        for days in ("0", "367", "-1", "one", "1" * 5000):
            assert (await client.get(f"/v1/usage?days={days}")).status_code == 400


async def test_health_tells_ready_from_not(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.client() as client:
        well = await client.get("/health")
        door.house.complaints.append("no GPU")
        complaining = await client.get("/health")
        door.house.status.draining_began()
        draining = await client.get("/health")
    assert (well.status_code, well.json()["ready"], well.json()["live"]) == (200, True, True)
    assert native.decode_body(native.HealthBody, complaining.content).degraded == ("no GPU",)
    assert complaining.status_code == 200
    assert (draining.status_code, draining.json()["state"]) == (503, "draining")


async def test_status_is_what_the_command_line_reads(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.client() as client:
        answer = await client.get("/v1/status")
    status = native.decode_body(native.StatusBody, answer.content)
    assert status.version == "1.2.3"
    assert status.models == {"available": 2}
    assert status.memory.budget_bytes == 8 * 1024**3
    ram, gpu = status.memory.devices
    assert (ram.id, ram.total_bytes, ram.used_bytes) == ("ram", 16 * 1024**3, 4 * 1024**3)
    assert (gpu.id, gpu.total_bytes, gpu.used_bytes) == ("xe:0000:03:00.0", None, None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown-route"),
        ("GET", "/docs", 404, "unknown-route"),
        ("GET", "/openapi.json", 404, "unknown-route"),
        ("GET", "/v1/models/", 400, "invalid-request"),
        ("GET", "/health/", 404, "unknown-route"),
        ("POST", "/v1/models", 405, "method-not-allowed"),
        ("GET", "/v1/chat/completions", 405, "method-not-allowed"),
        ("BREW", "/health", 405, "method-not-allowed"),
        ("OPTIONS", "/v1/models", 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_there_is_told_in_openais_shape(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async with open_door(tmp_path) as door, door.client() as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("target", [b"*", b"example.org:443", b"http://other/health", b"//health"])
async def test_odd_targets_are_answered(tmp_path: Path, target: bytes) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await wire.answer()
    assert answer.status in (404, 405)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"model":"tiny","model":"tiny"}', None),
        (b'{"model":"tiny","messages":[]}', "messages"),
        (b'{"model":"../etc","messages":[]}', "model"),
        (b'{"model":"tiny","messages":[{"role":"user","content":7}]}', "messages[0].content"),
        (b'{"model":"tiny","messages":[],"api_base":"http://evil"}', "api_base"),
    ],
    ids=["empty", "utf-16", "deep", "twice", "none", "path", "number", "unknown"],
)
async def test_wrong_bodies_are_refused_and_the_connection_lives(
    tmp_path: Path, body: bytes, parameter: str | None
) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(post(body))
        refused = await wire.answer()
        assert refused.status == 400
        assert refused.error()["param"] == parameter
        assert door.house.backend.asked == []
        assert wire.reader.at_eof() is False


DECLARED = {200, 400, 403, 404, 413, 422, 429, 499, 500, 502, 503, 504} - {499, 500}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["model", "messages", "stream", "stop", "temperature", "max_tokens", "n", "tools", "seed"]
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(json_values | st.dictionaries(FIELDS, json_values), min_size=5, max_size=5))
def test_any_json_gets_a_declared_status(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[Any]
) -> None:

    async def ask_all() -> None:
        async with open_door(tmp_path_factory.mktemp("door")) as door:
            for body in bodies:
                merged = chat_body(**body) if isinstance(body, dict) else body
                for sent in (body, merged):
                    async with door.wire() as wire:
                        wire.send(post(json.dumps(sent).encode()))
                        answer = await wire.answer()
                    assert answer.status in DECLARED

    asyncio.run(ask_all())


async def leave_and_see_the_generation_end(door: OpenDoor, wire: Wire, request: bytes) -> None:
    wire.send(request)
    while not door.house.backend.open:
        await _turn()
    wire.writer.close()
    while door.house.backend.open:
        await _turn()


async def _turn() -> None:

    await asyncio.sleep(0)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("padding", [0, 300_000], ids=["small", "large"])
async def test_a_client_that_leaves_stops_its_generation(
    tmp_path: Path, is_stream: bool, padding: int
) -> None:

    backend = FakeBackend([asyncio.Event()])
    async with open_door(tmp_path, backend) as door, door.wire() as wire:
        request = chat_request(stream=is_stream, user="x" * padding)
        await leave_and_see_the_generation_end(door, wire, request)
        while not door.house.trail.records:
            await _turn()
        (record,) = door.house.trail.records
    assert record["UNIFIED_LLM_RESULT"] == "cancelled"
