"""The files a confined worker can still reach: what its program is made of, and nothing of anyone.

The model is not among them: it comes as a descriptor, and Landlock lets that very file be opened
again through /proc/self/fd.
"""

import os
import sys
from pathlib import Path
from typing import Final

import unified_llm

# Where shared libraries are, on Debian and the like, on multilib systems and on NixOS, whose store
# everybody may read and whose Python is spread all over it.
_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store")

# What the C library and ggml ask about the machine and the process. Not all of /proc/self: beneath
# it are the network's connections and everybody's mounts.
_MACHINE: Final = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/self/maps",
    "/proc/self/status",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
)

WRITABLE: Final = ("/dev/null",)  # which llama_cpp opens for writing while it is imported


def readable_files(cgroup: Path) -> list[str]:
    """Files, and directories with all beneath them, that a worker may read.

    cgroup: the worker's own, whose limits say how many threads make sense.
    """
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    interpreter = [os.path.join(prefix, lib) for prefix in prefixes for lib in ("lib", "lib64")]
    # An editable installation may be found by other means than the path.
    package = os.path.dirname(unified_llm.__file__ or "")
    modules = [entry for entry in (*sys.path, package) if os.path.isabs(entry)]
    return [*_LIBRARIES, *interpreter, *modules, *_MACHINE, str(cgroup / "cpu.max")]
