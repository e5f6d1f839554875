"""From a request to an answer that can begin: everything is checked before a slot is taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from unified_llm.domain.chat import FinishReason, Message, Tool, prompt_bytes
from unified_llm.domain.errors import InvalidRequest, TooLarge
from unified_llm.domain.sampling import MAX_TOP_LOGPROBS
from unified_llm.grammar.answers import answer_grammar
from unified_llm.grammar.calls import (
    CallForm,
    calls_grammar,
    calls_or_answer_grammar,
    may_call,
    must_call,
)
from unified_llm.worker.answer_text import AnswerText, ScoreQueue
from unified_llm.worker.calling import CallSplitter
from unified_llm.worker.protocol import Done, Generate
from unified_llm.worker.sampling import ResolvedSampling, resolve_sampling
from unified_llm.worker.thinking import Thinking, ThoughtSplitter

_MAX_STOPS: Final = 4
_MAX_STOP_CHARACTERS: Final = 64
_MAX_BYTES_PER_TOKEN: Final = 16  # of context; a larger prompt is refused before it is tokenised


class Encoder(Protocol):
    """What a model needs to be for a request to be checked against it; as in batching.Model."""

    context_tokens: int
    vocabulary_size: int
    thinking: Thinking | None
    call_form: CallForm | None

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        begun: str = "",
        principal: str = "",
    ) -> list[int]: ...
    def ensure_grammar(self, grammar: str) -> None: ...


@dataclass(slots=True)
class Answer:
    """A request on its way.

    limit: the most tokens it may get. grammar: what it has to keep to from the first token on.
    calls: what finds the calls in what it says; None if there are none to be found. scores: of
    text that these have not told yet.
    drafted_tokens: computed before they were known. accepted_tokens: of these, those in the answer.
    """

    request: Generate
    sampling: ResolvedSampling
    prompt: list[int]
    limit: int
    text: AnswerText
    grammar: str | None
    thoughts: ThoughtSplitter
    calls: CallSplitter | None = None
    scores: ScoreQueue = field(default_factory=ScoreQueue)
    thought_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def done(self, reason: FinishReason) -> Done:
        """The report of its end."""
        return Done(
            id=self.request.id,
            reason=reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.thought_tokens,
            accepted_tokens=self.accepted_tokens,
            rejected_tokens=self.drafted_tokens - self.accepted_tokens,
        )


def admit(request: Generate, model: Encoder, draw_seed: Callable[[], int]) -> Answer:
    """The answer to be given. Raises InvalidRequest, TooLarge, and what the model does."""
    _check(request)
    sampling = resolve_sampling(request.sampling, draw_seed, model.vocabulary_size)
    context = model.context_tokens
    tools = request.tool_use.tools if request.tool_use and may_call(request.tool_use) else ()
    size = prompt_bytes(request.messages, tools) + len(request.begun.encode())
    if size > context * _MAX_BYTES_PER_TOKEN:
        raise TooLarge(
            f"Messages and tools have {size} bytes; a context of {context} tokens takes at most "
            f"{context * _MAX_BYTES_PER_TOKEN}.",
            hint="Shorten the conversation, or give the model a larger context.",
        )
    grammar, calls = _form_of(request, model)
    prompt = model.encode(request.messages, tools, request.begun, request.principal)
    if len(prompt) >= context:
        raise TooLarge(
            f"The prompt has {len(prompt)} tokens; the context has {context}, and the answer "
            "needs at least one.",
            hint="Shorten the conversation, or give the model a larger context.",
        )
    left = context - len(prompt)
    limit = left if request.max_tokens is None else min(request.max_tokens, left)
    return Answer(
        request,
        sampling,
        prompt,
        limit,
        AnswerText(request.stop),
        grammar,
        # What has begun to speak has done its thinking.
        ThoughtSplitter(None if request.begun else model.thinking),
        calls,
        thought_tokens=None if model.thinking is None else 0,
    )


def _form_of(request: Generate, model: Encoder) -> tuple[str | None, CallSplitter | None]:
    """What the answer keeps to from its first token on, and what finds the calls in it."""
    thinking, use = model.thinking, request.tool_use
    thoughts_end = thinking.tags.closing if thinking and thinking.is_open else None
    if use is None or not may_call(use):
        grammar = answer_grammar(request.answer, thoughts_end)
        if grammar is not None:
            model.ensure_grammar(grammar)
        return grammar, None
    form = model.call_form
    if form is None:
        raise InvalidRequest(
            "The model's chat template takes no tools, or writes calls in an unknown form.",
            hint="Use a model that was made for tools, or send none.",
            parameter="tools",
        )
    _check_beside_tools(request, form)
    if request.answer is not None and not must_call(use):
        grammar = calls_or_answer_grammar(form, use, request.answer, thoughts_end)
        model.ensure_grammar(grammar)
        return grammar, CallSplitter(form, use, is_all_constrained=True)
    grammar = calls_grammar(form, use, thoughts_end=thoughts_end)
    model.ensure_grammar(grammar)
    return grammar if must_call(use) else None, CallSplitter(form, use)


def _check_beside_tools(request: Generate, form: CallForm) -> None:
    must = must_call(request.tool_use)
    if request.answer is not None and form.is_only_first and not must:
        raise InvalidRequest(
            "The model writes calls as JSON without a marker, so they can not be told from an "
            "answer that has to be JSON.",
            hint="Send either response_format or tools, or tool_choice required.",
            parameter="response_format",
        )


def _check(request: Generate) -> None:
    if not request.messages:
        raise InvalidRequest("There are no messages.", parameter="messages")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise InvalidRequest(
            f"max_tokens is {request.max_tokens}; it must be at least 1.", parameter="max_tokens"
        )
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"top_logprobs is {request.top_logprobs}; allowed is 0 to {MAX_TOP_LOGPROBS}.",
            parameter="top_logprobs",
        )
    if len(request.stop) > _MAX_STOPS:
        raise InvalidRequest(
            f"There are {len(request.stop)} stop texts; the limit is {_MAX_STOPS}.",
            parameter="stop",
        )
    if any(not 1 <= len(stop) <= _MAX_STOP_CHARACTERS for stop in request.stop):
        raise InvalidRequest(
            f"A stop text has 1 to {_MAX_STOP_CHARACTERS} characters.", parameter="stop"
        )
