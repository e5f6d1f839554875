"""Runs `async def` tests, and fails any test that leaves something behind.

The leak sentinel is cockpit's habit: after each test no task, no child process and no descriptor
may be left that was not there before it.
"""

import asyncio
import gc
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline per example would be an assertion on seconds.
settings.register_profile("unified-llm", deadline=None)
settings.load_profile("unified-llm")


def pytest_collection_finish() -> None:
    """Take the modules and the tests, which stay to the end, out of the garbage collector's sight.

    The sentinel has it look through everything after each test.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test in a loop of its own, and find the tasks it forgot."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in pyfuncitem._fixtureinfo.argnames
        if name in pyfuncitem.funcargs
    }

    async def run_and_look_around() -> None:
        await pyfuncitem.obj(**arguments)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"

    with asyncio.Runner(debug=False) as runner:
        runner.run(run_and_look_around())
    return True


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue
    # Opened once and kept by the standard library, and harmless.
    return {fd: target for fd, target in found.items() if target != "/dev/urandom"}


def _children() -> set[str]:
    """Processes whose parent we are, zombies included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= set((task / "children").read_text().split())
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    descriptors, children = _descriptors(), _children()
    yield
    gc.collect()
    orphans = _children() - children
    assert not orphans, f"child processes left behind: {sorted(orphans)}"
    after = _descriptors()
    new = {fd: target for fd, target in after.items() if fd not in descriptors}
    if "keeps_descriptors" not in request.keywords:
        assert not new, f"descriptors left behind: {new} in {os.getpid()}"
