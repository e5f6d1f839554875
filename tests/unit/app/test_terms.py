"""Settings in the terms of the rooms."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from unified_llm.app import terms
from unified_llm.fleet.backend import Deadlines
from unified_llm.settings.load import parse_settings
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.worker import WorkerSettings
from unified_llm.worker import fake_engine


def settings(**sections: Any) -> Settings:
    return parse_settings(json.dumps(sections).encode(), source="test")


def test_deadlines_come_from_their_sections() -> None:
    found = terms.deadlines(
        settings(
            requests={"first_event_seconds": 2, "between_events_seconds": 3, "total_seconds": 4},
        )
    )
    seconds = [found.first_event, found.between_events, found.total]
    assert [float(value) for value in seconds] == [2, 3, 4]
    assert {field.name for field in fields(Deadlines)} == {
        "first_event",
        "prompt_bytes_per_second",
        "between_events",
        "total",
    }


def test_the_budget_is_what_is_set_or_a_share_of_what_there_is() -> None:
    assert terms.ram_budget(settings(memory={"ram_budget_bytes": 2**30})) == 2**30
    assert 0 < terms.ram_budget(settings()) < 2**50


def test_the_scheduler_gets_its_limits() -> None:
    policy = terms.scheduling_policy(
        settings(
            scheduler={
                "queue_limit": 5,
                "load_seconds": 6,
                "drain_seconds": 7,
                "stop_seconds": 8,
            }
        )
    )
    seconds = [policy.load_deadline, policy.drain_grace, policy.stop_grace]
    assert policy.queue_limit == 5
    assert [float(value) for value in seconds] == [6, 7, 8]


def test_a_missing_group_leaves_the_socket_alone() -> None:
    assert terms.socket_group(settings(socket={"group": "no-such-group-here"}).socket) is None
    assert terms.socket_group(settings(socket={"group": None}).socket) is None
    assert terms.socket_group(settings(socket={"group": "root"}).socket) == 0


def test_the_registry_is_where_it_is_asked_for_or_in_the_state_directory(tmp_path: Path) -> None:
    asked = settings(registry={"path": "/srv/llm.db"}).registry
    assert terms.registry_path(asked, {"STATE_DIRECTORY": str(tmp_path)}) == Path("/srv/llm.db")
    default = settings().registry
    under_systemd = {"STATE_DIRECTORY": f"{tmp_path}:{tmp_path}/models"}
    assert terms.registry_path(default, under_systemd) == tmp_path / "registry.db"


def test_the_registry_is_in_memory_if_told_so_or_not_a_service(tmp_path: Path) -> None:
    state = {"STATE_DIRECTORY": str(tmp_path)}
    assert terms.registry_path(settings(registry={"path": None}).registry, state) is None
    nowhere = {"STATE_DIRECTORY": str(tmp_path / "missing")}
    assert terms.registry_path(settings().registry, nowhere) is None


def test_the_fake_engine_is_known_by_the_name_it_gives_itself() -> None:
    assert terms.engine_build(WorkerSettings(engine="fake")) == f"fake {fake_engine.BUILD}"
