"""Processor time is that of a process and of all who come from it."""

import os
import subprocess
import sys

from tests.bench.processor_time import processor_seconds

_BURN = """
import subprocess, sys, time
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
    child.stdout.read(1)
while time.process_time() < 0.3:
    pass
print("x", flush=True)
time.sleep(600)
"""


def test_it_is_counted_with_that_of_the_children() -> None:
    command = [sys.executable, "-c", _BURN, _BURN]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            assert 0.55 <= processor_seconds(process.pid) < 60
        finally:
            for child in _children(process.pid):
                os.kill(child, 9)
            process.kill()


def _children(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children") as children:
        return [int(each) for each in children.read().split()]
