"""A model's file is read through, asked for over the bus."""

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
