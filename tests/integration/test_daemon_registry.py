"""What the whole daemon remembers, and what it says when it can not."""

import os
from pathlib import Path

import pytest

from tests.whole_daemon import open_daemon

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
