"""OpenAI's chat completions and model list, the answers: domain values in, JSON out.

What OpenAI's shapes have no place for goes under `x_unified_llm` and nowhere else, so that strict
clients are not disturbed.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from unified_llm.domain.answers import Answer, Choice
from unified_llm.domain.chat import (
    ChoiceEnded,
    Continued,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from unified_llm.domain.events import ModelStatus
from unified_llm.domain.models import Adapter, ModelId, ModelSpec, adapted_id
from unified_llm.domain.money import render_dollars
from unified_llm.domain.placement import Placement
from unified_llm.domain.providers import RemoteModel
from unified_llm.domain.routing import CheaperTarget, Route
from unified_llm.wire.continuing import told_change
from unified_llm.wire.logprobs import told_logprobs
from unified_llm.wire.problem import HttpProblem

_OWNER = "unified-llm"
_NANOSECONDS = 1_000_000_000
# Not OpenAI's, which keeps it to itself; DeepSeek, vLLM and llama-server call it so.
_REASONING = "reasoning_content"

PING = b": ping\n\n"
"""A comment of Server-Sent Events: keeps the stream alive, and readers skip it."""

DONE = b"data: [DONE]\n\n"
"""The end of a whole stream; one that failed does not have it."""

_encode = msgspec.json.Encoder().encode


class CompletionWriter:
    """Writes the answer to one chat, in one piece or as Server-Sent Events.

    created: seconds since the epoch. wants_usage: add a last chunk with the token counts.
    """

    def __init__(
        self, request_id: str, model: ModelId, created: int, *, wants_usage: bool = False
    ) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._request_id = request_id
        self._model = model
        self._created = created
        self._wants_usage = wants_usage
        self._begun: set[int] = set()

    def whole(self, answer: Answer) -> bytes:
        """The body of an answer that is not streamed."""
        return _encode(
            {
                **self._head("chat.completion"),
                "choices": [_choice(index, each) for index, each in enumerate(answer.choices)],
                "usage": _usage(answer.end.usage),
                "x_unified_llm": self._extras(answer.end),
            }
        )

    def piece(self, piece: Delta | ChoiceEnded | Continued) -> bytes:
        """The event of the next piece; the first of a choice brings the one that names the role."""
        index = piece.choice
        if isinstance(piece, Continued):
            extras = {"continued": told_change(piece)}
            return self._role(index) + self._chunk(index, {}, None, x_unified_llm=extras)
        if isinstance(piece, ChoiceEnded):
            return self._role(index) + self._chunk(index, {}, piece.reason.value)
        logprobs = piece.logprobs if isinstance(piece, TextDelta) else ()
        return self._role(index) + self._chunk(index, _delta(piece), None, logprobs)

    def end(self, end: Finished) -> bytes:
        """The events that end a whole stream."""
        extras, index = self._extras(end), end.choice
        events = self._role(index)
        events += self._chunk(index, {}, end.reason.value, x_unified_llm=extras)
        if self._wants_usage:
            events += _event({**self._chunk_head(), "choices": [], "usage": _usage(end.usage)})
        return events + DONE

    def failure(self, problem: HttpProblem) -> bytes:
        """The event that ends a failed stream, in both forms that clients look for.

        As OpenRouter documents it: an error object, and a choice that finished with "error".
        """
        return self._chunk(0, {}, "error", error=problem.body())

    def _role(self, index: int) -> bytes:
        if index in self._begun:
            return b""
        self._begun.add(index)
        return self._chunk(index, {"role": "assistant", "content": ""}, None)

    def _chunk(
        self,
        index: int,
        delta: dict[str, object],
        reason: str | None,
        logprobs: Sequence[TokenLogprob] = (),
        **extra: object,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(logprobs),
            "finish_reason": reason,
        }
        return _event({**self._chunk_head(), "choices": [choice], **extra})

    def _chunk_head(self) -> dict[str, object]:
        head = self._head("chat.completion.chunk")
        if self._wants_usage:
            head["usage"] = None  # on every chunk but the last, as OpenAI sends it
        return head

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
        }

    def _extras(self, end: Finished) -> dict[str, object]:
        return {
            "request_id": self._request_id,
            "cost_dollars": None if end.cost is None else render_dollars(end.cost),
            "cheaper": None if end.cheaper is None else _cheaper(end.cheaper),
            "tried": [msgspec.to_builtins(attempt) for attempt in end.attempts],
            "first_token_seconds": end.first_token,
            "total_seconds": end.total,
            "continued": list(map(told_change, end.continued)),
        }


def encode_models(
    models: Iterable[tuple[ModelSpec | RemoteModel, ModelStatus]],
    routes: Iterable[tuple[ModelId, Route]],
) -> bytes:
    """The body of `GET /v1/models`: the models, each with its adapters, and names for some."""
    listed = [each for spec, status in models for each in _with_adapters(spec, status)]
    return _encode(
        {"object": "list", "data": [*listed, *(_route(name, route) for name, route in routes)]}
    )


def encode_model(
    spec: ModelSpec | RemoteModel, status: ModelStatus, adapter: Adapter | None = None
) -> bytes:
    """The body of `GET /v1/models/{id}`, which may name an adapter with the model."""
    if adapter is None or isinstance(spec, RemoteModel):
        return _encode(_model(spec, status))
    return _encode(_adapter(spec, adapter, status))


def _with_adapters(
    spec: ModelSpec | RemoteModel, status: ModelStatus
) -> Iterator[dict[str, object]]:
    yield _model(spec, status)
    if isinstance(spec, ModelSpec):
        yield from (_adapter(spec, each, status) for each in spec.adapters)


def _model(spec: ModelSpec | RemoteModel, status: ModelStatus) -> dict[str, object]:
    return _remote(spec, status) if isinstance(spec, RemoteModel) else _local(spec, status)


def _remote(model: RemoteModel, status: ModelStatus) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.provider,
        "x_unified_llm": {
            "state": status.state.value,
            "source": "provider",
            "provider": model.provider,
            "kind": model.kind.value,
            "context_tokens": model.context_tokens,
        },
    }


def _route(name: ModelId, route: Route) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": _OWNER,
        "x_unified_llm": {
            "state": "route",
            "source": "route",
            "strategy": route.strategy.value,
            "targets": route.targets,
            "local_only": route.local_only,
        },
    }


def _local(spec: ModelSpec, status: ModelStatus) -> dict[str, object]:
    error = status.last_error
    return {
        "id": spec.id,
        "object": "model",
        "created": spec.identity.modified_ns // _NANOSECONDS if spec.identity else 0,
        "owned_by": _OWNER,
        "x_unified_llm": {
            "state": status.state.value,
            "progress": status.progress,
            "source": spec.source,
            "purpose": spec.purpose.value,
            "architecture": spec.architecture,
            "size_bytes": spec.size_bytes,
            "memory_bytes": status.memory_bytes,
            "placement": _placement(status.placement),
            "context_tokens": spec.context_tokens,
            "slots": spec.slots,
            "pinned": spec.pinned,
            "sees_images": spec.sound_projector is not None,
            "running": status.leases,
            "waiting": status.waiting,
            "defect": spec.defect,
            "last_error": {"code": error[0], "message": error[1]} if error else None,
        },
    }


def _adapter(spec: ModelSpec, adapter: Adapter, status: ModelStatus) -> dict[str, object]:
    modified = adapter.identity.modified_ns if adapter.identity else 0
    return {
        "id": adapted_id(spec.id, adapter.name),
        "object": "model",
        "created": modified // _NANOSECONDS,
        "owned_by": _OWNER,
        "parent": spec.id,  # as vLLM has it
        "x_unified_llm": {
            "state": status.state.value,
            "source": "adapter",
            "size_bytes": adapter.size_bytes,
            "scale": adapter.scale,
            "context_tokens": spec.context_tokens,
            "defect": adapter.defect,
        },
    }


def _cheaper(target: CheaperTarget) -> dict[str, object]:
    cost = render_dollars(target.cost)
    return {"model": target.model, "backend": target.backend, "cost_dollars": cost}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object] | None:
    return {"content": told_logprobs(tokens), "refusal": None} if tokens else None


def _placement(placement: Placement | None) -> dict[str, object] | None:
    """Where a loaded or loading model is, and what had to be given up for that."""
    if placement is None:
        return None
    return {
        "context_tokens": placement.context_tokens,
        "slots": placement.slots,
        "speculation": placement.speculation.value,
        "cache_type": placement.cache_type,
        "layers": placement.layers,
        "gpu_layers": placement.offloaded,
        "devices": dict(placement.memory),
        "sacrifices": placement.sacrifices,
    }


def _choice(index: int, choice: Choice) -> dict[str, object]:
    return {
        "index": index,
        "message": _message(choice),
        "logprobs": _logprobs(choice.logprobs),
        "finish_reason": choice.reason.value,
    }


def _message(choice: Choice) -> dict[str, object]:
    # OpenAI's shape says null, not "", for an answer that holds nothing but calls.
    is_silent = not choice.text and (choice.tool_calls or choice.refusal)
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if is_silent else choice.text,
        "refusal": choice.refusal or None,
    }
    if choice.reasoning:
        message[_REASONING] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _delta(piece: Delta) -> dict[str, object]:
    match piece:
        case TextDelta(text=text):
            return {"content": text}
        case ReasoningDelta(text=text):
            return {_REASONING: text}
        case RefusalDelta(text=text):
            return {"refusal": text}
        case ToolCallDelta():
            return {"tool_calls": [_tool_call_delta(piece)]}


def _tool_call_delta(piece: ToolCallDelta) -> dict[str, object]:
    function: dict[str, object] = {"arguments": piece.arguments}
    if piece.name is None:
        return {"index": piece.index, "function": function}
    return {
        "index": piece.index,
        "id": piece.id,
        "type": "function",
        "function": {"name": piece.name, **function},
    }


def _usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    told: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    details: dict[str, object] = {}
    if usage.reasoning_tokens is not None:
        details["reasoning_tokens"] = usage.reasoning_tokens
    if usage.accepted_tokens is not None:
        details["accepted_prediction_tokens"] = usage.accepted_tokens
    if usage.rejected_tokens is not None:
        details["rejected_prediction_tokens"] = usage.rejected_tokens
    return told | {"completion_tokens_details": details} if details else told


def _event(content: object) -> bytes:
    return b"data: " + _encode(content) + b"\n\n"
