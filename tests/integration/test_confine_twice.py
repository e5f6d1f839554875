"""Confinement where somebody has been before us, as systemd has with the unit's filter."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.system]

# As SystemCallFilter=~@privileged does: everything may be called but capset.
_PROGRAM = """
import ctypes, os, struct
from unified_llm.worker.bpf import Filter, assemble, pack
from unified_llm.worker.kernel import drop_capabilities, prctl, syscall
from unified_llm.worker.syscalls import ARCHITECTURES, LAST_KNOWN

machine = os.uname().machine
capset = {"x86_64": 126, "aarch64": 91}[machine]
architecture = ARCHITECTURES[machine]
program = assemble(Filter(
    audit_architecture=architecture.audit,
    allowed=frozenset(range(LAST_KNOWN + 1)) - {capset},
    conditional={},
    absent=frozenset(),
    last_known=LAST_KNOWN,
    foreign_from=architecture.foreign_from,
))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
code = ctypes.create_string_buffer(pack(program))
wanted = struct.pack("HP", len(program), ctypes.addressof(code))
syscall("seccomp", architecture.seccomp, 1, 0, wanted)
drop_capabilities(frozenset({2}))
print("nothing was left to drop")
"""


def test_where_no_capability_is_held_none_is_given_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout == "nothing was left to drop\n", done.stderr
