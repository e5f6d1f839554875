"""The programs in docs/examples do what they say, against a whole daemon."""

import subprocess
import sys

import pytest

from tests.static.places import REPOSITORY
from tests.whole_daemon import WholeDaemon, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLES = REPOSITORY / "docs" / "examples"
MAX_LINES = 70


def run_client(daemon: WholeDaemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return daemon.run(sys.executable, str(EXAMPLES / "desktop_client.py"), *arguments)


def test_the_desktop_client_lists_follows_asks_and_speaks_http() -> None:
    with open_daemon() as daemon:
        done = run_client(daemon, "tiny", "Why is the sky blue?")
    assert (done.returncode, done.stderr) == (0, "")
    first, *states, _ = done.stdout.splitlines()
    assert first == "tiny: available, 0 bytes in memory"
    assert "[now loading]" in states
    assert "[now ready]" in states
    assert any(line and not line.startswith("[") for line in states), "no answer"
    assert done.stdout.endswith("\nrunning\n")


def test_the_examples_are_short() -> None:
    for example in EXAMPLES.iterdir():
        assert len(example.read_text().splitlines()) <= MAX_LINES, example.name
