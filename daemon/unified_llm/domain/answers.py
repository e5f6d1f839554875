"""A whole answer, put together from the events of a chat."""

from dataclasses import dataclass

from unified_llm.domain.chat import (
    ChatEvent,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a chat has brought; a text is empty where there was nothing of its kind."""

    text: str
    reasoning: str
    refusal: str
    tool_calls: tuple[ToolCall, ...]
    end: Finished
    logprobs: tuple[TokenLogprob, ...] = ()


class AnswerBuilder:
    """Collects the events of one chat."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _Call] = {}

    def add(self, event: ChatEvent) -> Answer | None:
        """Take the next event; the answer when it was the last."""
        match event:
            case TextDelta():
                self._text.append(event.text)
                self._logprobs += event.logprobs
            case ReasoningDelta(text=text):
                self._reasoning.append(text)
            case RefusalDelta(text=text):
                self._refusal.append(text)
            case ToolCallDelta():
                self._calls.setdefault(event.index, _Call()).add(event)
            case Finished():
                return self._answer(event)
        return None

    def _answer(self, end: Finished) -> Answer:
        return Answer(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            tool_calls=tuple(call.whole() for _, call in sorted(self._calls.items())),
            end=end,
            logprobs=tuple(self._logprobs),
        )


class _Call:
    def __init__(self) -> None:
        self._id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, delta: ToolCallDelta) -> None:
        self._id = delta.id or self._id
        self._name = delta.name or self._name
        self._arguments.append(delta.arguments)

    def whole(self) -> ToolCall:
        return ToolCall(self._id, self._name, "".join(self._arguments))
