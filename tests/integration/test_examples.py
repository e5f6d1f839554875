"""The programs in docs/examples do what they say, against a whole daemon."""

import subprocess
import sys

import pytest

from tests.static.places import REPOSITORY
from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.surfaces.dbus import contract

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLES = REPOSITORY / "docs" / "examples"
MAX_LINES = 70


def run_client(daemon: WholeDaemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return daemon.run(sys.executable, str(EXAMPLES / "desktop_client.py"), *arguments)


def test_the_desktop_client_lists_follows_asks_and_speaks_http() -> None:
    with open_daemon() as daemon:
        done = run_client(daemon, "tiny", "Why is the sky blue?")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny: available, 0 bytes in memory\n")
    # States are printed as they come, so also in the middle of the answer's line.
    for shown in ("[now loading]", "[now ready]", "blue"):
        assert shown in done.stdout
    assert done.stdout.endswith("\nrunning\n")


def test_the_examples_are_short() -> None:
    for example in EXAMPLES.iterdir():
        assert len(example.read_text().splitlines()) <= MAX_LINES, example.name


def test_the_transcripts_show_the_interface_as_it_is() -> None:
    page = (REPOSITORY / "docs" / "reference" / "dbus-transcripts.md").read_text()
    rows = {row.split()[0]: row.split()[1:4] for row in page.splitlines() if row.startswith(".")}
    shown = {name for name, row in rows.items() if row[0] in {"method", "signal", "property"}}
    manager = contract.MANAGER
    assert shown == {
        f".{name}" for name in (*manager.methods, *manager.signals, *manager.properties)
    }, "run: python -m tests.transcripts > docs/reference/dbus-transcripts.md"
    for method in manager.methods.values():
        assert rows[f".{method.name}"][1] == (method.in_signature or "-")
        assert rows[f".{method.name}"][2] == (method.out_signature or "-")
