"""A whole answer, put together from the events of a chat."""

from dataclasses import dataclass

from unified_llm.domain.chat import (
    ChatEvent,
    ChoiceEnded,
    Continued,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers; a text is empty where there was nothing of its kind."""

    reason: FinishReason
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a chat has brought. choices: in their order; one unless more were asked for."""

    choices: tuple[Choice, ...]
    end: Finished


class AnswerBuilder:
    """Collects the events of one chat."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def add(self, event: ChatEvent) -> Answer | None:
        """Take the next event; the answer when it was the last."""
        if isinstance(event, Continued):
            return None  # the end tells of it again
        choice = self._choices.get(event.choice)
        if choice is None:
            choice = self._choices[event.choice] = _Choice()
        if isinstance(event, ChoiceEnded | Finished):
            choice.reason = event.reason
        else:
            choice.add(event)
        return self._answer(event) if isinstance(event, Finished) else None

    def _answer(self, end: Finished) -> Answer:
        return Answer(tuple(choice.whole() for _, choice in sorted(self._choices.items())), end)


class _Choice:
    def __init__(self) -> None:
        # A chat ends only when all its choices have, so this one is never told.
        self.reason = FinishReason.STOP
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _Call] = {}

    def add(self, delta: Delta) -> None:
        match delta:
            case TextDelta():
                self._text.append(delta.text)
                self._logprobs += delta.logprobs
            case ReasoningDelta(text=text):
                self._reasoning.append(text)
            case RefusalDelta(text=text):
                self._refusal.append(text)
            case ToolCallDelta():
                self._calls.setdefault(delta.index, _Call()).add(delta)

    def whole(self) -> Choice:
        return Choice(
            reason=self.reason,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            tool_calls=tuple(call.whole() for _, call in sorted(self._calls.items())),
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
