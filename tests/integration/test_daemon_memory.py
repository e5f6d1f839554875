"""The whole daemon on a machine whose GPU is a file."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import whole_daemon
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, open_daemon

pytestmark = [pytest.mark.slow, pytest.mark.system]

GIB = 1024**3
SACRIFICES = (
    *("get-property", "org.unifiedllm1", "/org/unifiedllm1/model/greedy"),
    *("org.unifiedllm1.Model", "Sacrifices"),
)


def write_devices(file: Path, *, foreign: int = 0, total: int = 24 * GIB) -> None:
    device = {"id": "fake:0", "name": "Fake GPU", "total_bytes": total, "foreign_bytes": foreign}
    whole_daemon.write_devices(file, device)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def test_a_model_is_placed_on_the_gpu_and_every_door_shows_where(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(file)
    with open_daemon(settings(file)) as daemon:
        done = daemon.run("unified-llm", "models", "load", "tiny")
        assert done.returncode == 0, done.stderr
        shown = json.loads(daemon.run("unified-llm", "models", "show", "tiny", "--json").stdout)
        placement = shown["x_unified_llm"]["placement"]
        assert placement["gpu_layers"] == placement["layers"] > 0
        assert set(placement["devices"]) == {"ram", "fake:0"}
        assert placement["sacrifices"] == []
        status = json.loads(daemon.run("unified-llm", "status", "--json").stdout)
        assert status["memory"]["devices"][1]["used_bytes"] == placement["devices"]["fake:0"]
        assert daemon.run("unified-llm", "models", "unload", "tiny").returncode == 0
        with daemon.open_http() as http:

            def used() -> int:
                devices = http.get("/v1/status").json()["memory"]["devices"]
                return int(devices[1]["used_bytes"])

            wait_until(lambda: used() == 0)


def test_a_full_gpu_degrades_one_model_visibly_and_refuses_the_other(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(file, foreign=23 * GIB)
    defaults = {"context_tokens": 256, "gpu": "required"}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    with (
        open_daemon(settings(file, defaults=defaults), with_bus=False) as daemon,
        daemon.open_http() as http,
    ):
        refused = http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "no-room"
        assert "23.0 GiB of fake:0" in refused.json()["error"]["message"]
        write_devices(file)
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    write_devices(file, foreign=23 * GIB)
    with open_daemon(settings(file), with_bus=False) as daemon, daemon.open_http() as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        model = http.get("/v1/models/tiny").json()["x_unified_llm"]
        assert model["placement"]["gpu_layers"] == 0
        assert model["placement"]["sacrifices"]


def test_a_foreign_program_makes_the_low_priority_leave_and_the_audit_trail_says_why(
    tmp_path: Path,
) -> None:
    file = tmp_path / "devices.json"
    write_devices(file, total=4 * GIB)
    write_tiny_gguf(tmp_path / "low.gguf")
    write_tiny_gguf(tmp_path / "high.gguf")
    models = {
        name: {"path": str(tmp_path / f"{name}.gguf"), "gpu": "required", "priority": priority}
        for name, priority in (("low", 10), ("high", 90))
    }
    with open_daemon(settings(file, models=models)) as daemon, daemon.open_http() as http:

        def state() -> str:
            return str(http.get("/v1/models/low").json()["x_unified_llm"]["state"])

        for name in models:
            assert daemon.run("unified-llm", "models", "load", name).returncode == 0
        write_devices(file, total=4 * GIB, foreign=int(0.6 * 4 * GIB))
        wait_until(lambda: state() == "available")
        assert http.get("/v1/models/high").json()["x_unified_llm"]["state"] == "ready"
        gpu = http.get("/v1/status").json()["memory"]["devices"][1]
        assert gpu["others_bytes"] == int(0.6 * 4 * GIB)
        assert gpu["models_bytes"] > 0
        shown = daemon.run("unified-llm", "status").stdout
        assert "2.4 GiB of it by other programs" in shown
        write_devices(file, total=4 * GIB)
        wait_until(lambda: state() == "ready")
        moves = [
            (each["UNIFIED_LLM_ACTION"], each["UNIFIED_LLM_OBJECT"], each["UNIFIED_LLM_REASON"])
            for each in daemon.audit(4)  # two loads, and these
            if "UNIFIED_LLM_REASON" in each
        ]
    assert moves == [
        ("make-way", "low", "low makes way: other programs hold 2.4 GiB of fake:0."),
        ("come-back", "low", "low comes back: other programs hold 0 B of fake:0."),
    ]


def test_a_plan_is_for_the_machines_own_gpu_and_uses_what_a_load_has_taken(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(file)
    with open_daemon(settings(file), with_bus=False) as daemon, daemon.open_http() as http:

        def plan() -> dict[str, Any]:
            found: dict[str, Any] = http.post("/v1/models/tiny/plan").json()
            return found

        before = plan()
        assert [device["name"] for device in before["devices"]] == ["RAM", "fake:0"]
        assert before["devices"][1]["layers"] == before["layers"]
        assert before["source"] == "arithmetic"
        assert daemon.run("unified-llm", "chat", "--model", "tiny", "Hello").returncode == 0
        wait_until(lambda: plan()["source"] != "arithmetic")
        after = plan()
        # What the fake engine says it took, of each device alike, is the size of its file.
        size = (daemon.folder / "models" / "tiny.gguf").stat().st_size
        assert (after["source"], after["devices"][1]["used_bytes"]) == ("measured", size)
        shown = daemon.run("unified-llm", "models", "plan", "tiny").stdout
        assert "an earlier load like this took so much more or less" in shown
        assert "in all (measured)" in shown


def test_a_dry_run_asks_the_engine_and_loads_nothing(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    write_devices(file)
    with open_daemon(settings(file), with_bus=False) as daemon, daemon.open_http() as http:
        found = http.post("/v1/models/tiny/plan", json={"dry_run": True}).json()
        assert found["source"] == "dry-run"
        assert any(part["source"] == "dry-run" for part in found["parts"])
        assert sum(part["bytes"] for part in found["parts"]) == found["total_bytes"]
        assert http.get("/v1/models/tiny").json()["x_unified_llm"]["state"] == "available"
        assert daemon.workers() == []
        asked = ["models", "plan", "tiny", "--dry-run", "--vram", "8G"]
        refused = daemon.run("unified-llm", *asked)
        assert refused.returncode == 4
        assert "the machine's own GPUs" in refused.stderr


def test_a_switch_between_models_that_do_not_fit_together_drops_no_request(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    # Room for the half gibibyte that a process takes of a GPU, and the tiny model, once.
    write_devices(file, total=1 * GIB)
    write_tiny_gguf(tmp_path / "old.gguf")
    write_tiny_gguf(tmp_path / "new.gguf")
    models = {
        name: {"path": str(tmp_path / f"{name}.gguf"), "gpu": "required"} for name in ("old", "new")
    }
    scheduler = {"queue_seconds": PATIENCE, "turn_seconds": 0.5}

    with open_daemon(settings(file, models=models, scheduler=scheduler)) as daemon:

        def ask(number: int) -> tuple[str, int]:
            model = ("old", "old", "new")[number % 3]
            body = {"model": model, "messages": [{"role": "user", "content": f"Hello {number}"}]}
            with daemon.open_http() as http:
                return model, http.post("/v1/chat/completions", json=body).status_code

        assert daemon.run("unified-llm", "models", "load", "old").returncode == 0
        with ThreadPoolExecutor(8) as pool:
            asked = pool.map(ask, range(24))
            done = daemon.run("unified-llm", "models", "switch", "old", "new")
            answers = list(asked)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "new is loaded\n"
        assert answers == [(("old", "old", "new")[n % 3], 200) for n in range(24)]
        refused = daemon.run("unified-llm", "models", "switch", "new", "new")
        assert refused.returncode != 0
        assert "new can not take its own place" in refused.stderr


def test_a_load_that_runs_out_of_memory_is_tried_smaller_and_every_door_tells_of_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "devices.json"
    write_devices(file)
    write_tiny_gguf(tmp_path / "greedy.gguf", chat_template="!oom")
    models = {"directory": None, "greedy": {"path": str(tmp_path / "greedy.gguf")}}
    with open_daemon(settings(file, models=models)) as daemon, daemon.open_http() as http:
        body = {"model": "greedy", "messages": [{"role": "user", "content": "hi"}]}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        model = http.get("/v1/models/greedy").json()["x_unified_llm"]
        assert (model["state"], model["placement"]["gpu_layers"]) == ("ready", 0)
        (sacrifice,) = model["placement"]["sacrifices"]
        assert "stay in main memory" in sacrifice
        assert sacrifice in daemon.run("unified-llm", "models", "show", "greedy").stdout
        assert daemon.bus is not None
        bus = f"--address={daemon.bus.address}"
        assert sacrifice in daemon.run("busctl", bus, *SACRIFICES).stdout
        assert "ran out of memory; one more try, SMALLER" in daemon.log()
    required = {"context_tokens": 256, "gpu": "required"}
    changes = settings(file, models=models, defaults=required)
    with open_daemon(changes, with_bus=False) as daemon, daemon.open_http() as http:
        refused = http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert error["code"] == "no-room"
        assert "MiB" in error["message"]
