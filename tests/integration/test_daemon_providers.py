"""A daemon whose provider is another daemon: one request goes through both."""

import json
from typing import Any

import pytest

from tests.whole_daemon import WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

HELLO: list[Any] = [{"role": "user", "content": "Hello there."}]


def provider(upstream: WholeDaemon, **more: object) -> dict[str, object]:
    return {"kind": "openai-compatible", "socket": str(upstream.socket_path), **more}


def test_another_daemon_answers_as_a_provider_through_every_door() -> None:
    with open_daemon(with_bus=False) as upstream:
        providers = {"far": provider(upstream, models=["tiny"])}
        with open_daemon({"providers": providers}) as daemon:
            with daemon.open_openai() as client:
                listed = {model.id: model.owned_by for model in client.models.list()}
                assert listed == {"tiny": "unified-llm", "far/tiny": "far"}
                answer = client.chat.completions.create(model="far/tiny", messages=HELLO)
                assert answer.choices[0].message.content == "Hello there."
                assert answer.usage is not None
                assert answer.usage.completion_tokens > 0
                with client.chat.completions.create(
                    model="far/tiny", messages=HELLO, stream=True
                ) as stream:
                    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
                assert "".join(pieces) == "Hello there."
                texts = ["", "", ""]
                with client.chat.completions.create(
                    model="far/tiny", messages=HELLO, n=3, stream=True
                ) as stream:
                    for choice in (each for chunk in stream for each in chunk.choices):
                        texts[choice.index] += choice.delta.content or ""
                assert texts == ["Hello there."] * 3
            said = daemon.run(
                "busctl",
                *("--json=short", "--timeout=100", "call", "org.unifiedllm1", "/org/unifiedllm1"),
                *("org.unifiedllm1.Manager", "GenerateText", "ssa{sv}", "far/tiny", "Bus", "0"),
            )
            assert json.loads(said.stdout)["data"][0] == "Bus", said.stderr
            assert {record["UNIFIED_LLM_BACKEND"] for record in daemon.audit(4)} == {"far"}
        assert {record["UNIFIED_LLM_BACKEND"] for record in upstream.audit(4)} == {"local"}
        assert len(upstream.audit()) == 4


def test_a_provider_without_its_key_is_off_and_the_daemon_says_so() -> None:
    providers = {"deepseek": {"kind": "deepseek", "key": "absent", "models": ["deepseek-chat"]}}
    with (
        open_daemon({"providers": providers}, with_bus=False) as daemon,
        daemon.open_http() as client,
    ):
        health = client.get("/health").json()
        assert health["state"] == "degraded"
        assert "provider deepseek is off: credential absent is missing" in health["degraded"][0]
        asked = {"model": "deepseek/deepseek-chat", "messages": HELLO}
        refused = client.post("/v1/chat/completions", json=asked)
        assert refused.status_code == 502
        assert refused.json()["error"]["code"] == "provider-denied"
        loaded = daemon.run("unified-llm", "models", "list")
        assert "deepseek/deepseek-chat  absent" in loaded.stdout
