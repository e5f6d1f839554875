"""Whether what a worker says a model calls can be what it was given to call. Pure."""

from unified_llm.domain.chat import ToolUse
from unified_llm.worker.protocol import Call


class CallCheck:
    """Follows the calls of one answer. use: None if there is nothing to be called."""

    def __init__(self, use: ToolUse | None) -> None:
        self._names = frozenset(tool.name for tool in use.tools) if use is not None else frozenset()
        self._begun = 0

    def complaint(self, call: Call) -> str | None:
        """What is wrong with the next piece, as half a sentence; None if nothing is."""
        if call.name is None:
            is_next = self._begun > 0 and call.index == self._begun - 1
            return None if is_next else f"answered with a part of call {call.index} out of turn"
        if call.name not in self._names:
            return "answered with a call of a tool that it was not given"
        if call.index != self._begun:
            return f"answered with call {call.index} out of turn"
        self._begun += 1
        return None
