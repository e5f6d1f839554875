"""The whole daemon through its doors: the official client, bad input, other users."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.private_bus import as_whom
from tests.process_watch import ends_within
from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

SLOW: list[Any] = [{"role": "user", "content": "!tokens 1000000 !step 0.02"}]


def test_a_killed_worker_is_one_error_event_and_the_next_request_succeeds() -> None:
    with open_daemon() as daemon, daemon.open_openai() as client:
        received: list[str] = []

        def read_and_kill() -> None:
            with client.chat.completions.create(model="tiny", messages=SLOW, stream=True) as stream:
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        received.append(chunk.choices[0].delta.content)
                    if len(received) == 3:
                        (worker,) = daemon.workers()
                        os.kill(worker, signal.SIGKILL)

        with pytest.raises(openai.APIError) as failure:
            read_and_kill()
        assert received[:3] == ["1 ", "2 ", "3 "]
        assert "SIGKILL" in failure.value.message
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Still there?"}]
        )
        assert answer.choices[0].message.content == "Still there?"
        assert [record["UNIFIED_LLM_RESULT"] for record in daemon.audit(2)] == ["failed", "done"]


def test_a_client_that_goes_stops_the_generation() -> None:
    with open_daemon() as daemon, daemon.open_openai() as client:
        with client.chat.completions.create(model="tiny", messages=SLOW, stream=True) as stream:
            next(iter(stream))
        wait_until_idle(daemon)
        assert [record["UNIFIED_LLM_RESULT"] for record in daemon.audit(1)] == ["cancelled"]


def wait_until_idle(daemon: WholeDaemon) -> None:
    """Ask until nothing runs; the audit record is written when the last lease is back."""
    for _ in range(600):
        done = daemon.run("unified-llm", "status", "--json")
        if json.loads(done.stdout)["requests"]["running"] == 0 and daemon.audit():
            return
    raise AssertionError("the generation never ended")


BAD_BODIES = [
    b"",
    b"nonsense",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b"[]",
    b"{}",
    b'{"model": "tiny"}',
    b'{"model": "tiny", "messages": []}',
    b'{"model": "tiny", "messages": "hello"}',
    b'{"model": "tiny", "messages": [{"role": "wizard", "content": "x"}]}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "  "}]}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "../../etc/passwd", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "api_base": "http://x"}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "top_p": NaN}',
    b'{"model": "tiny", "model": "tiny", "messages": [{"role": "user", "content": "x"}]}',
]


def test_bad_input_is_the_callers_error_and_harms_nobody() -> None:
    with open_daemon() as daemon, daemon.open_http() as http:
        good = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
        assert http.post("/v1/chat/completions", json=good).status_code == 200
        workers = daemon.workers()
        for body in BAD_BODIES:
            answer = http.post("/v1/chat/completions", content=body)
            assert answer.status_code == 400, (body[:80], answer.text)
            assert answer.json()["error"]["message"]
        long = good | {"messages": [{"role": "user", "content": "word " * 2000}]}
        too_long = http.post("/v1/chat/completions", json=long)
        assert (too_long.status_code, too_long.json()["error"]["code"]) == (413, "too-large")
        unknown = http.post("/v1/chat/completions", json=good | {"model": "tin"})
        assert unknown.status_code == 404
        assert "Did you mean 'tiny'?" in unknown.json()["error"]["message"]
        assert http.post("/v1/chat/completions", json=good).status_code == 200
        assert daemon.workers() == workers
        assert daemon.process.poll() is None


def gigabyte() -> Iterator[bytes]:
    piece = b"x" * (1 << 20)
    yield b'{"model": "tiny", "messages": [{"role": "user", "content": "'
    for _ in range(1024):
        yield piece


def test_a_gigabyte_of_prompt_is_refused_before_it_is_all_sent() -> None:
    with open_daemon() as daemon, daemon.open_http() as http:
        answer = http.post("/v1/chat/completions", content=gigabyte())
        assert answer.status_code == 413
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        assert int(peak.split()[1]) < 200 * 1024


def busctl(daemon: WholeDaemon, *words: str, user: str | None = None) -> tuple[int, str]:
    assert daemon.bus is not None
    done = daemon.bus.run(
        *("busctl", f"--address={daemon.bus.address}", "--timeout=300", "call", "org.unifiedllm1"),
        *("/org/unifiedllm1", "org.unifiedllm1.Manager", *words),
        user=user,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def test_bad_input_over_the_bus_is_told_in_words_that_stand_alone() -> None:
    with open_daemon() as daemon:
        cases = {
            ("GenerateText", "ssa{sv}", "tin", "Hello", "0"): "Did you mean 'tiny'?",
            ("GenerateText", "ssa{sv}", "tiny", "", "0"): "Every message is empty",
            ("GenerateText", "ssa{sv}", "tiny", "x", "1", "max_tokns", "u", "3"): "max_tokens",
            ("GenerateText", "ssa{sv}", "tiny", "x", "1", "temperature", "s", "hot"): "temperature",
            ("GenerateText", "ssa{sv}", "tiny", "x", "1", "temperature", "d", "99"): "0 to 2",
            ("LoadModel", "sa{sv}", "../../etc/passwd", "0"): "is not a model id",
        }
        for words, expected in cases.items():
            code, said = busctl(daemon, *words)
            assert code != 0
            assert expected in said, (words, said)
        assert busctl(daemon, "GenerateText", "ssa{sv}", "tiny", "Hello", "0")[0] == 0


def test_a_stranger_may_look_but_neither_generate_nor_load_and_it_is_recorded() -> None:
    with open_daemon() as daemon:
        assert busctl(daemon, "ListModels", "a{sv}", "0", user="nobody")[0] == 0
        for words in (
            ("GenerateText", "ssa{sv}", "tiny", "Hello", "0"),
            ("Generate", "sa(ss)a{sv}", "tiny", "1", "user", "Hello", "0"),
            ("LoadModel", "sa{sv}", "tiny", "0"),
            ("UnloadModel", "sa{sv}", "tiny", "0"),
        ):
            # busctl has words of its own for this one error.
            assert busctl(daemon, *words, user="nobody") == (1, "Call failed: Access denied")
        refusals = daemon.audit(4)
        assert [record["UNIFIED_LLM_CODE"] for record in refusals] == ["not-permitted"] * 4
        assert {record["UNIFIED_LLM_UID"] for record in refusals} == {"65534"}
        assert daemon.workers() == []


def test_a_stranger_on_the_socket_is_refused_and_recorded() -> None:
    with open_daemon(with_bus=False) as daemon:
        daemon.folder.chmod(0o755)
        daemon.socket_path.chmod(0o666)
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]})
        asked = daemon.run(
            *("curl", "--silent", "--unix-socket", str(daemon.socket_path)),
            *("--data", body, "http://daemon/v1/chat/completions"),
            **as_whom("nobody"),
        )
        error = json.loads(asked.stdout)["error"]
        assert (error["code"], error["type"]) == ("not-permitted", "permission_error")
        assert "uid 65534 may not generate" in error["message"]
        (refusal,) = daemon.audit(1)
        assert refusal["UNIFIED_LLM_UID"] == "65534"
        assert refusal["UNIFIED_LLM_DOOR"] == "http"


def test_a_file_that_is_no_model_is_a_clear_error_on_both_doors() -> None:
    with open_daemon() as daemon:
        (daemon.folder / "broken.gguf").write_bytes(b"this is not a model")
        models = {"directory": None, "broken": {"path": str(daemon.folder / "broken.gguf")}}
        settings = json.loads((daemon.folder / "config.yaml").read_text()) | {"models": models}
        (daemon.folder / "config.yaml").write_text(json.dumps(settings))
        daemon.signal(signal.SIGHUP)
        assert "broken" in daemon.wait_for("READY=1")
        with daemon.open_http() as http:
            health = http.get("/health").json()
            assert (health["ready"], health["state"]) == (True, "degraded")
            body = {"model": "broken", "messages": [{"role": "user", "content": "Hello"}]}
            answer = http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model-failed-to-load"
        code, said = busctl(daemon, "GenerateText", "ssa{sv}", "broken", "Hello", "0")
        assert code != 0
        assert "GGUF" in said
        assert daemon.workers() == []


def test_a_request_that_kills_workers_is_quarantined() -> None:
    with open_daemon() as daemon, daemon.open_http() as http:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "!crash"}]}
        codes = [
            http.post("/v1/chat/completions", json=body).json()["error"]["code"] for _ in range(4)
        ]
        assert codes == ["worker-died", "worker-died", "quarantined", "quarantined"]
        fine = body | {"messages": [{"role": "user", "content": "Hello"}]}
        assert http.post("/v1/chat/completions", json=fine).status_code == 200


def test_a_worker_that_hangs_is_replaced() -> None:
    settings = {"worker": {"engine": "fake", "stall_seconds": 5}}
    with open_daemon(settings) as daemon, daemon.open_http() as http:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "!hang"}]}
        answer = http.post("/v1/chat/completions", json=body)
        assert answer.json()["error"]["code"] == "worker-died"
        assert "no progress" in answer.json()["error"]["message"]
        fine = body | {"messages": [{"role": "user", "content": "Hello"}]}
        second = http.post("/v1/chat/completions", json=fine)
        assert second.status_code == 200, (second.text, daemon.log())


def test_an_idle_model_leaves_after_its_keep_alive() -> None:
    with (
        open_daemon({"defaults": {"context_tokens": 256, "keep_alive_seconds": 1}}) as daemon,
        daemon.open_http() as http,
    ):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        assert all(ends_within(worker, PATIENCE) for worker in daemon.workers())
        assert "nothing loaded" in daemon.wait_for("nothing loaded")
