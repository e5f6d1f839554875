"""What a worker gives up. The effect on a real process is shown in tests/integration."""

import os
import subprocess
import sys

import pytest

from unified_llm.worker.confine import has_foreign_variables, reduce_environment


def test_only_known_variables_are_kept() -> None:
    environment = {"PATH": "/bin", "API_KEY": "x", "LD_PRELOAD": "y", "CUDA_VISIBLE_DEVICES": "1"}
    assert reduce_environment(environment) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "GGML_NO_BACKTRACE": "1",
    }


def test_a_backtrace_cannot_be_asked_for() -> None:
    assert reduce_environment({"GGML_NO_BACKTRACE": ""})["GGML_NO_BACKTRACE"] == "1"


@pytest.mark.parametrize(
    ("names", "is_foreign"),
    [([], False), (["PATH", "LANG"], False), (["PATH", "HOME"], True), (["LLAMA_CPP_LIB"], True)],
)
def test_a_foreign_variable_is_noticed(names: list[str], is_foreign: bool) -> None:
    assert has_foreign_variables(names) is is_foreign


_LIMIT = """
import resource
from unified_llm.worker.confine import limit_resources
limit_resources()
print(*resource.getrlimit(resource.RLIMIT_CORE), *resource.getrlimit(resource.RLIMIT_MEMLOCK),
      *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("before", "after"), [(64, 64), (256, 256), (1024, 256)])
def test_limits_are_lowered_and_never_raised(before: int, after: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -n {before}; exec "$@"', "sh", sys.executable, "-c", _LIMIT],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"0 0 0 0 {after} {after}\n"


_THREAD = """
import os, threading
from unified_llm.worker.confine import ConfineError, confine
os.environ.clear()
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    confine(os.getppid(), socket=1, models=[])
except ConfineError as error:
    print(error)
"""


def test_it_is_too_late_once_there_are_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREAD], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("there are 2 threads already")


_CLOSE = """
import os
from unified_llm.worker.confine import close_all_but
read, write = os.pipe()
close_all_but({0, 1, 2, write})
def is_open(descriptor):
    try:
        return bool(os.fstat(descriptor))
    except OSError:
        return False
print([fd for fd in range(100) if is_open(fd)] == [0, 1, 2, write])
"""


def test_every_other_descriptor_is_closed() -> None:
    # In a process of its own: it would close the test runner's descriptors too.
    with open(os.devnull, "rb") as leaked:
        done = subprocess.run(
            [sys.executable, "-c", _CLOSE],
            pass_fds=(leaked.fileno(),),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "True\n"
