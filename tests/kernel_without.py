"""`python kernel_without.py landlock|seccomp COMMAND...`: as on a kernel that lacks it.

A filter answers ENOSYS to the one call that each worker begins the layer with.
"""

import ctypes
import errno
import os
import struct
import sys

from unified_llm.worker import bpf
from unified_llm.worker.kernel import prctl, syscall
from unified_llm.worker.syscalls import ARCHITECTURES

_NO_NEW_PRIVS = 38


def main() -> None:
    layer, *command = sys.argv[1:]
    seccomp = ARCHITECTURES[os.uname().machine].seccomp
    hidden = {"landlock": 444, "seccomp": seccomp}[layer]
    program = [
        bpf.Instruction(bpf.LOAD, 0),
        bpf.Instruction(bpf.JUMP_IF_EQUAL, hidden, if_false=1),
        bpf.Instruction(bpf.RETURN, 0x50000 | errno.ENOSYS),
        bpf.Instruction(bpf.RETURN, bpf.ALLOW),
    ]
    code = ctypes.create_string_buffer(bpf.pack(program))
    prctl(_NO_NEW_PRIVS, 1)
    wanted = struct.pack("HP", len(program), ctypes.addressof(code))
    syscall("seccomp", seccomp, 1, 0, wanted)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
