"""The daemon as a whole, as administrators meet it on the bus."""

import json

import pytest

from tests.bus.front_door import open_front_door
from tests.fakes.house import ADMIN_GID, BIG, ROOT, TINY
from tests.private_bus import PrivateBus
from tests.whole_daemon import WholeDaemon, open_daemon, write_settings
from unified_llm.bus.names import (
    BUS_NAME,
    LOG_CONTROL_INTERFACE,
    LOG_CONTROL_PATH,
    MANAGER_INTERFACE,
    ROOT_PATH,
)

pytestmark = [pytest.mark.system, pytest.mark.slow]

LOG = (BUS_NAME, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE)
GDBUS_SET = (
    *("gdbus", "call", "--system", "-d", BUS_NAME, "-o", LOG_CONTROL_PATH),
    *("-m", "org.freedesktop.DBus.Properties.Set", LOG_CONTROL_INTERFACE, "LogLevel"),
)


def manager(daemon: WholeDaemon, member: str) -> str:
    done = daemon.run(
        "busctl", "call", BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, member, "a{sv}", "0"
    )
    return (done.stdout + done.stderr).strip()


def test_a_reload_by_the_bus_returns_when_the_settings_are_in_force() -> None:
    with open_daemon() as daemon:
        models = {"directory": str(daemon.folder / "models"), "second": {"path": "/nowhere"}}
        write_settings(
            daemon.folder,
            {"models": models, "dbus": {"address": None}, "worker": {"sandbox_required": True}},
        )
        assert manager(daemon, "Reload") == 'as 1 "worker"'
        assert '"second"' in manager(daemon, "ListModels")
        (daemon.folder / "config.yaml").write_text("modles: {}\n")
        assert "did you mean `models`" in manager(daemon, "Reload").replace("'", "`")
        assert '"second"' in manager(daemon, "ListModels")
        records = [each for each in daemon.audit(2) if each["UNIFIED_LLM_ACTION"] == "reload"]
        assert [each["UNIFIED_LLM_RESULT"] for each in records] == ["done", "failed"]


def test_the_log_level_is_set_by_the_bus_until_the_settings_are_read_again() -> None:
    with open_daemon() as daemon:

        def level() -> str:
            return daemon.run("busctl", "get-property", *LOG, "LogLevel").stdout.strip()

        assert level() == 's "info"'
        assert daemon.run("busctl", "set-property", *LOG, "LogLevel", "s", "err").stderr == ""
        assert level() == 's "err"'
        wrong = daemon.run("busctl", "set-property", *LOG, "LogLevel", "s", "loud")
        assert "There is no log level 'loud'. Levels are debug, info, " in wrong.stderr
        fixed = daemon.run("busctl", "set-property", *LOG, "LogTarget", "s", "kmsg")
        assert "LogTarget is read-only" in fixed.stderr
        target = daemon.run("busctl", "get-property", *LOG, "LogTarget", "SyslogIdentifier")
        assert target.stdout == 's "console"\ns "unified-llmd"\n'
        manager(daemon, "Reload")
        assert level() == 's "info"'


async def test_the_log_level_is_for_administrators(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        denied = await front.run(*GDBUS_SET, "<'warning'>", user="nobody")
        assert "AccessDenied: uid 65534 may not configure." in denied.stderr
        done = await front.run(*GDBUS_SET, "<'warning'>", user="nobody", group=ADMIN_GID)
        assert (done.stdout, done.stderr) == ("()\n", "")
    actions = [record["UNIFIED_LLM_ACTION"] for record in front.house.trail.records]
    assert actions == ["configure", "configure"]


async def test_the_memory_is_emptied_and_work_is_stopped(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        for model in (TINY, BIG):
            await front.house.models.begin_load(ROOT, model).finished.wait()
        job = json.loads((await front.busctl("Flush", "a{sv}", "0")).split(maxsplit=2)[2])
        ended = await front.run("busctl", "call", BUS_NAME, job, "org.unifiedllm1.Job", "Wait")
        assert ended.stdout == 'sa{sv} "done" 1 "models" t 2\n'
        assert await front.busctl("CancelAll", "a{sv}", "0") == "u 0"
