"""What reaches journald: records nobody can forge, and never a prompt."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.journal import JournalSocket
from tests.whole_daemon import WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

# More digits than a number of microseconds has: a duration of 144711 us has failed this once.
FORGED = "x\nUNIFIED_LLM_UID=471147114711\nUNIFIED_LLM_RESULT=done\nMESSAGE=all is well\n"
# In a mount namespace of its own, the daemon finds our socket where journald's is; and its
# standard error is the log file, which JOURNAL_STREAM names as systemd would.
_INSIDE = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && "
    'mount --bind "$JOURNAL" /run/systemd/journal && '
    'export JOURNAL_STREAM="$(stat -L -c %d:%i /proc/self/fd/2)" && exec "$@"'
)


@contextmanager
def daemon_under_journald(folder: Path) -> Iterator[tuple[WholeDaemon, JournalSocket]]:
    with (
        JournalSocket(folder / "journal") as journal,
        open_daemon(
            environment={"JOURNAL": str(folder / "journal")},
            wrapper=("unshare", "-m", "/bin/sh", "-c", _INSIDE, "sh"),
        ) as daemon,
    ):
        yield daemon, journal


def generate_text(daemon: WholeDaemon, model: str, prompt: str) -> str:
    assert daemon.bus is not None
    done = daemon.bus.run(
        *("busctl", f"--address={daemon.bus.address}", "--timeout=300", "call"),
        *("org.unifiedllm1", "/org/unifiedllm1", "org.unifiedllm1.Manager"),
        *("GenerateText", "ssa{sv}", model, prompt, "0"),
    )
    return done.stdout or done.stderr


def test_each_use_is_one_record_by_kernel_identity(tmp_path: Path) -> None:
    with daemon_under_journald(tmp_path) as (daemon, journal):
        assert generate_text(daemon, "tiny", "Hello there").startswith('sa{sv} "Hello there"')
        generated = journal.read_audit()
        daemon.run("unified-llm", "models", "unload", "tiny")
        unloaded = journal.read_audit()
        daemon.run("unified-llm", "models", "load", "tiny")
        loaded = journal.read_audit()
    assert generated["UNIFIED_LLM_ACTION"] == b"generate"
    assert generated["UNIFIED_LLM_RESULT"] == b"done"
    assert generated["UNIFIED_LLM_UID"] == b"0"
    assert generated["UNIFIED_LLM_DOOR"] == b"dbus"
    assert generated["UNIFIED_LLM_COMPLETION_TOKENS"] == b"2"
    assert int(generated["UNIFIED_LLM_DURATION_USEC"]) > 0
    assert generated["SYSLOG_IDENTIFIER"] == b"unified-llmd"
    assert unloaded["UNIFIED_LLM_ACTION"] == b"unload-model"
    assert loaded["UNIFIED_LLM_ACTION"] == b"load-model"
    assert loaded["UNIFIED_LLM_OBJECT"] == b"tiny"


def test_neither_a_model_name_nor_a_prompt_can_forge_a_field(tmp_path: Path) -> None:
    with daemon_under_journald(tmp_path) as (daemon, journal):
        refusal = generate_text(daemon, FORGED, "Hello")
        refused = journal.read_audit()
        generate_text(daemon, "tiny", FORGED)
        generated = journal.read_audit()
    assert "is not a model id" in refusal
    assert refused["UNIFIED_LLM_OBJECT"] == FORGED.encode()
    assert refused["UNIFIED_LLM_UID"] == b"0"
    assert refused["UNIFIED_LLM_RESULT"] == b"refused"
    assert b"\n" not in refused["MESSAGE"]
    assert b"471147114711" not in b"".join(generated.values())
    assert generated["UNIFIED_LLM_RESULT"] == b"done"


def test_no_prompt_and_no_answer_reaches_the_log_even_at_debug(tmp_path: Path) -> None:
    canary = "canary-7f3a9d"
    with (
        JournalSocket(tmp_path / "journal") as journal,
        open_daemon(
            {"log": {"level": "debug"}},
            environment={"JOURNAL": str(tmp_path / "journal")},
            wrapper=("unshare", "-m", "/bin/sh", "-c", _INSIDE, "sh"),
        ) as daemon,
    ):
        assert canary in generate_text(daemon, "tiny", f"Say {canary}")
        generate_text(daemon, "tiny", f"!crash {canary}")
        generate_text(daemon, "nothing", canary)
        with daemon.open_http() as http:
            for body in (f'{{"model": "{canary}', f'{{"model": "tiny", "{canary}": 1}}'):
                assert http.post("/v1/chat/completions", content=body).status_code == 400
        daemon.process.terminate()
        daemon.wait()
        seen = [daemon.log().encode()]
        journal.socket.setblocking(False)
        try:
            while True:
                seen.append(journal.socket.recv(1 << 20))
        except BlockingIOError:
            pass
    assert len(seen) > 5
    assert canary.encode() not in b"".join(seen)
