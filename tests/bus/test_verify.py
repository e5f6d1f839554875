"""A model's file is read through, asked for over the bus."""

from datetime import UTC, datetime

import pytest

from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.bus.names import (
    BUS_NAME,
    JOB_INTERFACE,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
    ROOT_PATH,
    model_path,
)
from unified_llm.domain.models import ModelId

pytestmark = [pytest.mark.system, pytest.mark.slow]


def outcome(daemon: WholeDaemon, *call: str) -> str:
    """What Wait of the job says that `call` has begun."""
    begun = daemon.run("busctl", "call", BUS_NAME, *call)
    job = begun.stdout.split('"')[1]
    return daemon.run("busctl", "call", BUS_NAME, job, JOB_INTERFACE, "Wait").stdout


def test_a_file_is_remembered_and_then_found_to_be_the_same() -> None:
    with open_daemon() as daemon:
        manager = (ROOT_PATH, MANAGER_INTERFACE, "VerifyModel", "sa{sv}", "tiny", "0")
        assert '"verdict" s "first"' in outcome(daemon, *manager)
        model = (model_path(ModelId("tiny")), MODEL_INTERFACE, "Verify", "a{sv}", "0")
        again = outcome(daemon, *model)
        assert again.startswith('sa{sv} "done" 2 "sha256" s "')
        assert '"verdict" s "same"' in again


def test_the_job_has_counted_every_byte_of_the_file() -> None:
    with open_daemon() as daemon:
        manager = (ROOT_PATH, MANAGER_INTERFACE, "VerifyModel", "sa{sv}", "tiny", "0")
        job = daemon.run("busctl", "call", BUS_NAME, *manager).stdout.split('"')[1]
        daemon.run("busctl", "call", BUS_NAME, job, JOB_INTERFACE, "Wait")

        def shown(path: str, interface: str, *names: str) -> list[str]:
            done = daemon.run("busctl", "get-property", BUS_NAME, path, interface, *names)
            return done.stdout.splitlines()

        size = shown(model_path(ModelId("tiny")), MODEL_INTERFACE, "SizeBytes")
        assert size != ["t 0"]
        assert shown(job, JOB_INTERFACE, "BytesTotal", "BytesDone") == size * 2
        after = shown(job, JOB_INTERFACE, "Rate", "ExpectedEndTime", "Cancelable", "ProgressValid")
        assert after == ["t 0", "t 0", "b false", "b true"]
        began = int(shown(job, JOB_INTERFACE, "StartTimestamp")[0].removeprefix("t ")) / 1_000_000
        assert abs(datetime.now(UTC).timestamp() - began) < 600
