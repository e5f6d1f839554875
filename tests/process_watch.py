"""Whether a process is there, asked without being its parent."""

import os
import select


def ends_within(pid: int, seconds: float) -> bool:
    """Whether process `pid` is gone, or goes within `seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
