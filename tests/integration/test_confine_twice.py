"""Confinement where somebody has been before us, as systemd has with the unit's filter."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.system]

# Our own filter refuses capset, as SystemCallFilter=~@privileged does.
_PROGRAM = """
import os
from unified_llm.worker.kernel import drop_capabilities, prctl
from unified_llm.worker.seccomp import filter_system_calls
os.setgroups([]); os.setgid(65534); os.setuid(65534)
prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
filter_system_calls()
drop_capabilities(frozenset({2}))
print("nothing was left to drop")
"""


def test_where_no_capability_is_held_none_is_given_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout == "nothing was left to drop\n", done.stderr
