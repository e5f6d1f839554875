import os

import pytest

from unified_llm.domain.units import Bytes
from unified_llm.fleet.process import Ending, Launch


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (Ending(0), "It exited with code 0."),
        (Ending(70), "It exited with code 70."),
        (Ending(-9), "It was killed by SIGKILL."),
        (Ending(-6), "It was killed by SIGABRT."),
        (Ending(-63), "It was killed by signal 63."),
        (Ending(-9, out_of_memory=True), "It was killed by the kernel because memory ran out."),
    ],
)
def test_an_ending_is_told_in_words(ending: Ending, words: str) -> None:
    assert str(ending) == words


def test_a_worker_is_told_its_descriptors_and_nothing_of_the_model() -> None:
    launch = Launch("fake", command=("worker",))
    assert launch.arguments(socket=5, models=(6, 8), states=None) == [
        "worker", "--socket-fd", "5", "--engine", "fake",
        "--parent-pid", str(os.getpid()), "--sandbox", "required",
        "--keep-fd", "6", "--keep-fd", "8",
    ]  # fmt: skip


def test_a_worker_is_told_to_do_with_the_sandbox_there_is() -> None:
    launch = Launch("fake", is_sandbox_required=False)
    assert launch.arguments(socket=5, models=(6, 8), states=None)[-6:-4] == [
        "--sandbox",
        "best-effort",
    ]


def test_a_worker_that_keeps_states_is_told_where_they_go_and_how_large_one_may_be() -> None:
    launch = Launch("fake", states_bytes=Bytes(1000))
    words = launch.arguments(socket=5, models=(6, 8), states=7)
    assert words[-8:-4] == ["--states-fd", "7", "--states-bytes", "1000"]
