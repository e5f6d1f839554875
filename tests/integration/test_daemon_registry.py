"""What the whole daemon remembers, and what it says when it can not."""

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.whole_daemon import PATIENCE, WholeDaemon, open_daemon

pytestmark = pytest.mark.slow


def test_a_damaged_registry_is_set_aside_and_the_daemon_serves_degraded(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(os.urandom(8192))
    with open_daemon({"registry": {"path": str(path)}}, with_bus=False) as daemon:
        with daemon.open_http() as http:
            health = http.get("/health").json()
            assert (health["ready"], health["state"]) == (True, "degraded")
            (complaint,) = health["degraded"]
            assert "has been set aside as registry.db.damaged-" in complaint
            assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["tiny"]
        assert "has been set aside as" in daemon.log()
        assert "Traceback" not in daemon.log()
    again = open_daemon({"registry": {"path": str(path)}}, with_bus=False)
    with again as daemon, daemon.open_http() as http:
        assert http.get("/health").json()["degraded"] == []


def measurements(daemon: WholeDaemon) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(daemon.folder / "registry.db")) as database:
        return database.execute("SELECT digest, run, devices FROM measurements").fetchall()


def test_what_a_load_took_is_written_down() -> None:
    with open_daemon(with_bus=False) as daemon:
        with daemon.open_http() as http:
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
            assert http.post("/v1/chat/completions", json=asked).status_code == 200
            memory = http.get("/v1/models/tiny").json()["x_unified_llm"]["memory_bytes"]
        deadline = time.monotonic() + PATIENCE
        while not (found := measurements(daemon)):
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.05)
        ((digest, run, devices),) = found
        content = (daemon.folder / "models" / "tiny.gguf").read_bytes()
        assert digest == hashlib.sha256(content).hexdigest()
        assert json.loads(devices) == {"ram": memory}
        assert json.loads(run)["context_tokens"] == 256
