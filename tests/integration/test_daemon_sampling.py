"""How tokens are chosen, asked for at the whole daemon's doors, with the real engine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

_ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "tell me"}],
    "max_tokens": 8,
    "temperature": 0,
}
_Z = 3 + 256 + ord("Z") - 33  # its place in the vocabulary of tests.tiny_gguf


@contextmanager
def open_tiny_daemon(*, with_bus: bool = False, **sections: Any) -> Iterator[WholeDaemon]:
    """A daemon whose model `tiny` is computed by llama.cpp."""
    settings = {"worker": {"engine": "llama", "stall_seconds": PATIENCE}, **sections}
    with open_daemon(settings, with_bus=with_bus) as daemon:
        yield daemon


@contextmanager
def open_openai(daemon: WholeDaemon) -> Iterator[openai.OpenAI]:
    transport = httpx2.HTTPTransport(uds=str(daemon.socket_path))
    with (
        httpx2.Client(transport=transport, timeout=PATIENCE) as http,
        openai.OpenAI(
            base_url="http://daemon/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        yield client


def post(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json=_ASKED | fields)


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def test_sampling_reaches_the_model_by_every_door() -> None:
    with open_tiny_daemon(with_bus=True) as daemon, daemon.open_http() as http:
        plain = text_of(post(http))
        assert text_of(post(http, logit_bias={str(_Z): 100})) == "Z" * 8
        drawn = {"temperature": 2, "top_k": 0, "typical_p": 0.9, "dry_multiplier": 0.8, "seed": 3}
        once = text_of(post(http, **drawn))
        assert text_of(post(http, **drawn)) == once != plain
        assert text_of(post(http, temperature=1, mirostat=2, seed=4, ignore_eos=True)) != plain
        over_bus = daemon.run(
            *("busctl", f"--address={daemon.environment['DBUS_SYSTEM_BUS_ADDRESS']}", "call"),
            *("org.unifiedllm1", "/org/unifiedllm1", "org.unifiedllm1.Manager", "GenerateText"),
            *("ssa{sv}", "tiny", "tell me", "3", "max_tokens", "u", "8", "temperature", "d", "0"),
            *("logit_bias", "a{ud}", "1", str(_Z), "100"),
        )
        assert "ZZZZZZZZ" in over_bus.stdout, over_bus.stderr


def test_drafted_tokens_are_counted_for_the_official_client() -> None:
    asked = {**_ASKED, "max_tokens": 40, "logit_bias": {str(_Z): 100}}
    with (
        open_tiny_daemon(defaults={"speculation": "prompt-lookup"}) as daemon,
        open_openai(daemon) as client,
        daemon.open_http() as http,
    ):
        answer = client.chat.completions.create(**asked)
        assert answer.choices[0].message.content == "Z" * 40
        assert answer.usage is not None
        details = answer.usage.completion_tokens_details
        assert details is not None
        assert (details.accepted_prediction_tokens or 0) > 20
        assert details.rejected_prediction_tokens == 0
        model = http.get("/v1/models/tiny").json()
        assert model["x_unified_llm"]["placement"]["speculation"] == "prompt-lookup"


def test_chances_are_told_to_the_official_client_whole_and_streamed() -> None:
    with open_tiny_daemon() as daemon, open_openai(daemon) as client:
        wanted: Any = _ASKED | {"logprobs": True, "top_logprobs": 2}
        choice = client.chat.completions.create(**wanted).choices[0]
        assert choice.logprobs is not None
        whole = choice.logprobs.content
        assert whole is not None
        told = b"".join(bytes(each.bytes or []) for each in whole)
        assert told.decode() == choice.message.content
        assert len(whole) == 8
        for token in whole:
            assert len(token.top_logprobs) == 2
            assert token.top_logprobs[0].token == token.token
            assert -9999 <= token.top_logprobs[1].logprob <= token.logprob <= 0
        streamed = [
            token
            for chunk in client.chat.completions.create(**wanted, stream=True)
            for choice in chunk.choices
            if choice.logprobs
            for token in choice.logprobs.content or []
        ]
        assert [each.bytes for each in streamed] == [each.bytes for each in whole]
        # Only nearly equal: the second prompt is read from memory, in steps of another size.
        chances = [each.logprob for each in whole]
        assert [each.logprob for each in streamed] == pytest.approx(chances, abs=1e-4)
        plain = client.chat.completions.create(**_ASKED)
        assert plain.choices[0].logprobs is None


def test_a_reader_that_takes_its_time_loses_nothing_and_holds_up_nobody(tmp_path: Path) -> None:
    # Chances are large: of a model that was not paused, most of this would lie unread in the daemon
    # and be cut off.
    wanted = _ASKED | {"max_tokens": 700, "stream": True, "logprobs": True, "top_logprobs": 20}
    path = write_tiny_gguf(tmp_path / "long.gguf", context_tokens=1024)
    tiny = {"path": str(path), "context_tokens": 1024}
    with (
        open_tiny_daemon(models={"directory": None, "tiny": tiny}) as daemon,
        daemon.open_http() as http,
        daemon.open_http() as other,
        http.stream("POST", "/v1/chat/completions", json=wanted) as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines)
        assert text_of(post(other))
        told = [first, *lines]
    assert told[-2] == "data: [DONE]"
    assert sum('"logprobs":{' in line for line in told) == 700


def test_what_the_model_cannot_do_is_a_refusal_with_the_numbers() -> None:
    with open_tiny_daemon() as daemon, daemon.open_http() as http:
        answers = {
            "logit_bias": post(http, logit_bias={"100000": 1}),
            "top_p": post(http, mirostat=1, top_p=0.5),
            "dry_base": post(http, dry_base=0.5),
            "dry_bases": post(http, dry_bases=0.5),
        }
        for parameter, answer in answers.items():
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == parameter
        told = json.dumps([answer.json() for answer in answers.values()])
        assert "the model has 357, from 0 on" in told
        assert "allowed is 1 to 10" in told
        assert "Did you mean 'dry_base'?" in told
        assert text_of(post(http))
