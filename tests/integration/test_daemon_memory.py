"""The whole daemon on a machine whose GPU is a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.whole_daemon import open_daemon

pytestmark = [pytest.mark.slow, pytest.mark.system]

GIB = 1024**3


def write_devices(file: Path, *, foreign: int = 0, total: int = 24 * GIB) -> None:
    device = {"id": "fake:0", "name": "Fake GPU", "total_bytes": total, "foreign_bytes": foreign}
    file.write_text(json.dumps({"devices": [device]}))


def settings(file: Path, **more: Any) -> dict[str, Any]:
    return {"hardware": {"driver": "fake", "fake_file": str(file), "interval_seconds": 0.1}, **more}


def test_the_status_shows_every_device_and_complains_of_one_that_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(file, foreign=6 * GIB)
    with open_daemon(settings(file), with_bus=False) as daemon:
        devices = json.loads(daemon.run("unified-llm", "status", "--json").stdout)["memory"][
            "devices"
        ]
        assert [device["id"] for device in devices] == ["ram", "fake:0"]
        assert devices[1]["used_bytes"] == 6 * GIB
        shown = daemon.run("unified-llm", "status").stdout
        assert "Fake GPU (fake:0): 6.0 GiB of 24.0 GiB used" in shown
        file.unlink()
        assert "! devices.json does not describe" in daemon.run("unified-llm", "status").stdout
