"""A worker is believed a call only if its model was given the tool, and in order."""

import pytest

from unified_llm.domain.chat import Tool, ToolUse
from unified_llm.fleet.call_check import CallCheck
from unified_llm.worker.protocol import Call

USE = ToolUse((Tool("get", "", "{}"), Tool("put", "", "{}")))


def complaints(use: ToolUse | None, *calls: tuple[int, str | None]) -> list[str | None]:
    check = CallCheck(use)
    return [check.complaint(Call(id=1, index=index, name=name)) for index, name in calls]


def test_calls_in_order_are_believed() -> None:
    assert complaints(USE, (0, "get"), (0, None), (0, None), (1, "put"), (2, "get")) == [None] * 5


@pytest.mark.parametrize(
    ("calls", "word"),
    [
        ([(0, None)], "out of turn"),
        ([(0, "rm")], "not given"),
        ([(1, "get")], "out of turn"),
        ([(0, "get"), (0, "put")], "out of turn"),
        ([(0, "get"), (1, None)], "out of turn"),
        ([(0, "get"), (1, "get"), (0, None)], "out of turn"),
    ],
)
def test_anything_else_is_not(calls: list[tuple[int, str | None]], word: str) -> None:
    *fine, last = complaints(USE, *calls)
    assert fine == [None] * len(fine)
    assert word in str(last)


def test_without_tools_there_are_no_calls() -> None:
    assert "not given" in str(complaints(None, (0, "get"))[0])
