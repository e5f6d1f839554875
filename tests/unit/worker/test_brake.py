"""The brake, asked as llama.cpp asks it: through a pointer, with an address."""

import ctypes
from collections.abc import Callable
from typing import Any

from unified_llm.worker.brake import Brake


class Context:
    """Keeps the latest callback and its argument, and calls it."""

    def set_callback(self, callback: Any, argument: ctypes.c_void_p) -> None:
        self.callback, self.argument = callback, argument

    def asks(self) -> bool:
        return bool(self.callback(self.argument))


def open_brake() -> tuple[Brake, Context]:
    context = Context()
    return Brake(context.set_callback), context


def answering(answers: list[bool]) -> Callable[[], bool]:
    return lambda: answers.pop(0)


def test_without_a_question_only_pulling_stops() -> None:
    brake, context = open_brake()
    with brake.armed(None):
        assert [context.asks(), context.asks()] == [False, False]
        brake.pull()
        assert [context.asks(), context.asks()] == [True, True]


def test_a_question_is_asked_each_time_and_pulling_stops_too() -> None:
    brake, context = open_brake()
    with brake.armed(answering([False, True, False])):
        assert [context.asks(), context.asks()] == [False, True]
        brake.pull()
        assert context.asks()


def test_a_pull_that_came_late_does_not_stop_what_is_next() -> None:
    brake, context = open_brake()
    for _ in range(2):
        with brake.armed(None):
            assert not context.asks()
        brake.pull()


def test_nothing_is_asked_once_it_is_over() -> None:
    brake, context = open_brake()
    with brake.armed(answering([])):
        pass
    assert not context.asks()
