"""A Model on llama.cpp, by the low-level bindings of llama-cpp-python.

Facts about llama.cpp that this file rests on (0.3.36, measured in tests/contracts):
- `llama_decode` asks the abort callback between the nodes of its graph, some 500 times a step, on
  the thread that called it, while the others wait. That works for what the CPU computes; on a GPU a
  step just ends later.
- An aborted or failed decode leaves any part of the step in the memory of each of its sequences.
- A sequence cannot always be cut: a recurrent state has no positions to go back to, and a sliding
  window may have dropped what tokens before the cut need, which nothing complains about.
- Sequences have streams of their own, and a copy from one to another copies the whole stream.
- Every function that returns a pointer may return NULL, and using that ends the process.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from secrets import randbits, token_hex
from typing import Any, Final

from unified_llm.domain.chat import Message, Tool
from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad, NoRoom
from unified_llm.domain.units import Instant, Seconds
from unified_llm.worker.adapters import LoraAdapters
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.bindings import BINDINGS_VERSION, log_callback, native
from unified_llm.worker.brake import Brake
from unified_llm.worker.constraint import Constraint, GrammarRefusedError
from unified_llm.worker.dry_run import rehearse
from unified_llm.worker.engine_port import OnProgress
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.offload import (
    batch_tokens,
    context_parameters,
    open_model,
    place_layers,
    without_paths,
)
from unified_llm.worker.pace import Pace
from unified_llm.worker.prompt import begun_parts, encode_prompt, known_form
from unified_llm.worker.protocol import Load, Rehearsed, Score
from unified_llm.worker.samplers import Samplers
from unified_llm.worker.sampling import ResolvedSampling
from unified_llm.worker.scorer import Scorer
from unified_llm.worker.slots import Feed, Seat
from unified_llm.worker.template import CHATML, ChatTemplate
from unified_llm.worker.thinking import tag_bytes
from unified_llm.worker.vision import Picture, Projector, Prompt
from unified_llm.worker.vocabulary import LlamaVocabulary, ensure_pointer

BUILD: Final = f"llama-cpp-python {BINDINGS_VERSION}"

_PIECE_BYTES: Final = 256
_ABORTED: Final = 2
_LONG_STEP: Final = Seconds(0.5)  # half of the interval between heartbeats


def open_llama_engine(states: KeptStates | None = None) -> BatchingEngine:
    """The Engine behind `--engine llama`, for models that chat."""
    log = open_native_log()
    return BatchingEngine(
        lambda load, on_progress: LlamaModel(load, on_progress, log),
        draw_seed=lambda: randbits(32),
        states=states,
        now=lambda: Instant(time.monotonic()),
    )


def rehearse_llama(load: Load) -> Rehearsed:
    """As `dry_run.rehearse`, in a process that does nothing else."""
    return rehearse(load, open_native_log())


def open_native_log() -> NativeLog:
    """Start llama.cpp; what it says goes into the log that is returned."""
    log = NativeLog()
    native.llama_log_set(log_callback(log.take), ctypes.c_void_p(None))
    native.llama_backend_init()
    return log


class LlamaModel:
    """The Model on llama.cpp. Raises ModelFailedToLoad, with nothing left open."""

    def __init__(self, load: Load, on_progress: OnProgress, log: NativeLog) -> None:
        with ExitStack() as undo:
            self._open(load, on_progress, log, undo)
            self._undo = undo.pop_all()

    def _open(self, load: Load, on_progress: OnProgress, log: NativeLog, undo: ExitStack) -> None:
        self._model = open_native_model(load, on_progress, log)
        undo.callback(native.llama_model_free, self._model)
        self.vocabulary = LlamaVocabulary(self._model)
        _check_purpose(self._model)
        self._template = _open_template(self._model, self.vocabulary)
        self.thinking = self._template.thinking
        self.call_form, markers = known_form(self._template.call_form, self.vocabulary)
        self._shown = tag_bytes(self.thinking) | markers

        trained = native.llama_model_n_ctx_train(self._model)
        self.context_tokens = min(load.context_tokens, trained if trained > 0 else 2**31)
        self.slots = load.slots
        self.batch_tokens = batch_tokens(load)
        self.vocabulary_size = self.vocabulary.size
        self._adapters = LoraAdapters(self._model, load, log)
        self._projector = self._open_projector(load, log, undo)
        self._context = self._open_context(load, log)
        undo.callback(native.llama_free, self._context)
        self._window = int(native.llama_model_n_swa(self._model))
        self._memory = ensure_pointer(native.llama_get_memory(self._context), "memory")
        self._batch = native.llama_batch_init(self.batch_tokens, 0, 1)
        undo.callback(native.llama_batch_free, self._batch)

        self._brake = Brake(partial(native.llama_set_abort_callback, self._context))
        self._last_step = Seconds(0.0)  # of those that feed no prompt
        self._pace = Pace(self.batch_tokens, self.slots)
        self._samplers = Samplers(self.vocabulary.pointer)
        undo.callback(self._samplers.close_all)
        self._rows: dict[int, int] = {}
        self.memory_bytes = log.bytes_allocated
        self.gpu_bytes = log.gpu_bytes_allocated
        self.description = describe(self._model)

    def close(self) -> None:
        self._undo.close()

    @property
    def step_tokens(self) -> int:
        return self._pace.step_tokens

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        begun: str = "",
        principal: str = "",
    ) -> list[int]:
        pictures = self._pictures_of(messages, principal)
        parts = self._template.render(messages, tools)
        images = [each.tokens for each in pictures]
        parts = (*parts, *begun_parts(begun, self.thinking))
        tokens = encode_prompt(parts, self.vocabulary, images)
        if tokens[-1] < 0:
            raise InvalidRequest(
                "The model's chat template ends with an image.", parameter="messages"
            )
        return Prompt(tokens, pictures)

    def _pictures_of(self, messages: Sequence[Message], principal: str) -> list[Picture]:
        files = [image.data for message in messages for image in message.images]
        if not files:
            return []
        if self._projector is None:
            raise InvalidRequest("The model reads text only.", parameter="messages")
        return self._projector.number(files, principal, self.context_tokens)

    def ensure_grammar(self, grammar: str) -> None:
        try:
            Constraint(self.vocabulary.pointer, grammar).close()
        except GrammarRefusedError as error:
            raise InvalidRequest(
                f"llama.cpp refuses the grammar of the answer, {len(grammar)} characters of it.",
                hint="Ask for a simpler schema.",
            ) from error

    def begin(
        self, seat: Seat, sampling: ResolvedSampling, prompt: Sequence[int], grammar: str | None
    ) -> int:
        slot = seat.slot
        if seat.source is not None:
            native.llama_memory_seq_rm(self._memory, slot, -1, -1)
            native.llama_memory_seq_cp(self._memory, seat.source, slot, -1, -1)
        cached = seat.cached if self.truncate(slot, seat.cached) else 0
        self._samplers.open(slot, sampling, prompt, grammar)
        return cached

    def is_unseen(self, feed: Feed) -> bool:
        is_picture = feed.tokens[0] < 0
        return is_picture and bool(self._projector and self._projector.is_unseen(feed.tokens))

    def see(self, feed: Feed, should_stop: Callable[[], bool]) -> bool:
        return self._projector is not None and self._projector.see(feed.tokens, should_stop)

    def decode(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        self._adapters.use(self._context, feeds[0].adapter)
        pictures = [feed for feed in feeds if feed.tokens[0] < 0]
        if pictures and not self._decode_pictures(pictures, should_stop):
            return False
        # Last, as logits are those of the latest decode; a picture is the end of no prompt.
        texts = [feed for feed in feeds if feed.tokens[0] >= 0]
        return not texts or self._decode_texts(texts, should_stop)

    def _decode_pictures(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        with self._brake.armed(should_stop):
            if self._projector is None or should_stop():
                return False
            result = native.llama_decode(self._context, self._projector.batch_of(feeds))
        if result not in (0, _ABORTED):
            raise DecodeError(f"llama_decode returned {result} for vectors of pictures")
        if result == 0:
            self._projector.drop(feeds)
        return bool(result == 0)

    def _decode_texts(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        self._fill_batch(feeds)
        reads_prompts = any(len(feed.tokens) > 1 for feed in feeds)
        is_long = reads_prompts or self._last_step > _LONG_STEP
        with self._brake.armed(should_stop if is_long else None):
            if should_stop():
                return False
            began = time.monotonic()
            result = native.llama_decode(self._context, self._batch)
        duration = Seconds(time.monotonic() - began)
        if not reads_prompts:
            self._last_step = duration
        if result == 0:
            self._pace.took(self._batch.n_tokens, duration)
        if result not in (0, _ABORTED):
            raise DecodeError(f"llama_decode returned {result} for {self._batch.n_tokens} tokens")
        return bool(result == 0)

    def interrupt(self) -> None:
        self._brake.pull()

    def sample(self, slot: int) -> int:
        return self._samplers.sample(slot, self._context, self._rows[slot])

    def advance(self, slot: int) -> None:
        self._rows[slot] += 1

    def constrain(self, slot: int, grammar: str, token: int) -> int:
        return self._samplers.constrain(slot, grammar, token, self._context, self._rows[slot])

    def score(self, slot: int, token: int, top: int) -> Score:
        logits = native.llama_get_logits_ith(self._context, self._rows[slot])
        logprob, best = self._scorer.score(logits, token, top)
        return Score(
            chosen=self.vocabulary.chance(token, logprob),
            top=tuple(self.vocabulary.chance(*each) for each in best),
        )

    @cached_property
    def _scorer(self) -> Scorer:
        scorer = Scorer(self.vocabulary_size)
        self._undo.callback(scorer.close)
        return scorer

    def is_end(self, token: int) -> bool:
        return self.vocabulary.is_end(token)

    def piece(self, token: int) -> bytes:
        # Some vocabularies have these as control tokens, which stand for no text.
        return self._shown.get(self.vocabulary.text_of(token)) or self.vocabulary.piece(token)

    def truncate(self, slot: int, position: int) -> bool:
        if position > 0 and self._cut(slot, position):
            return True
        native.llama_memory_seq_rm(self._memory, slot, -1, -1)
        return position == 0

    def _cut(self, slot: int, position: int) -> bool:
        """Remove what comes from `position` on; whether all that is needed before it is there."""
        if not native.llama_memory_seq_rm(self._memory, slot, position, -1):
            return False
        if native.llama_memory_seq_pos_max(self._memory, slot) != position - 1:
            return False
        first = native.llama_memory_seq_pos_min(self._memory, slot)
        return self._window == 0 or bool(first <= max(0, position - self._window))

    def state_bytes(self, slot: int) -> int:
        return int(native.llama_state_seq_get_size(self._context, slot))

    def save_state(self, slot: int, room: memoryview) -> bool:
        data = (ctypes.c_uint8 * len(room)).from_buffer(room)
        written = native.llama_state_seq_get_data(self._context, data, len(room), slot)
        return bool(written == len(room))

    def restore_state(self, slot: int, state: memoryview) -> bool:
        data = (ctypes.c_uint8 * len(state)).from_buffer(state)
        read = native.llama_state_seq_set_data(self._context, data, len(state), slot)
        return bool(0 < read == len(state))

    def end(self, slot: int) -> None:
        self._samplers.close(slot)

    def _open_projector(self, load: Load, log: NativeLog, undo: ExitStack) -> Projector | None:
        if load.projector is None:
            return None
        projector = Projector(self._model, load, load.projector, self.batch_tokens, log)
        undo.callback(projector.close)
        return projector

    def _open_context(self, load: Load, log: NativeLog) -> Any:
        params = context_parameters(load, self.context_tokens)
        context = native.llama_init_from_model(self._model, params)
        if not context:
            raise _load_error(log)(
                f"The context for {self.slots} slots of {self.context_tokens} tokens could not be "
                f"made{log.reason()}.",
                hint="Give the model a smaller context or fewer slots.",
            )
        return context

    def _fill_batch(self, feeds: Sequence[Feed]) -> None:
        batch, row = self._batch, 0
        self._rows.clear()
        for feed in feeds:
            for offset, token in enumerate((*feed.tokens, *feed.draft)):
                batch.token[row] = token
                batch.pos[row] = feed.position + offset
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = feed.slot
                batch.logits[row] = feed.is_last and offset >= len(feed.tokens) - 1
                row += 1
            if feed.is_last:
                self._rows[feed.slot] = row - 1 - len(feed.draft)
        batch.n_tokens = row


def open_native_model(load: Load, on_progress: OnProgress, log: NativeLog) -> Any:
    """The weights, read from the file. Raises ModelFailedToLoad."""
    most = native.llama_max_parallel_sequences()
    if not 1 <= load.slots <= most or load.context_tokens < 1:
        raise ModelFailedToLoad(
            f"{load.slots} slots of {load.context_tokens} tokens make no context; "
            f"there may be 1 to {most} slots."
        )

    def progressed(fraction: float, _: object) -> bool:
        on_progress(min(max(fraction, 0.0), 1.0))
        return True

    params = native.llama_model_default_params()
    params.n_gpu_layers = 0
    kept = place_layers(params, load)
    params.progress_callback = native.llama_progress_callback(progressed)
    model = open_model(load, params)
    del kept
    if not model:
        raise _load_error(log)(
            f"llama.cpp refuses the model file{without_paths(load, log.reason())}."
        )
    return model


def _load_error(log: NativeLog) -> type[ModelFailedToLoad] | type[NoRoom]:
    return NoRoom if log.is_out_of_memory else ModelFailedToLoad


def _check_purpose(model: Any) -> None:
    if native.llama_model_has_encoder(model) or not native.llama_model_has_decoder(model):
        raise ModelFailedToLoad("The model does not generate text from a conversation.")
    if native.llama_model_is_diffusion(model):
        raise ModelFailedToLoad("Diffusion models are not supported.")


def _open_template(model: Any, vocabulary: LlamaVocabulary) -> ChatTemplate:
    source = native.llama_model_chat_template(model, None)
    return ChatTemplate(
        source.decode(errors="replace") if source else CHATML,
        bos=vocabulary.bos_text,
        eos=vocabulary.eos_text,
        draw_word=lambda: f"Qx{token_hex(16)}",
        now=lambda: datetime.now(UTC),
        elapsed=lambda: Instant(time.monotonic()),
    )


def describe(model: Any) -> str:
    """Architecture, size and quantisation in llama.cpp's words."""
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    native.llama_model_desc(model, buffer, _PIECE_BYTES)
    return buffer.value.decode(errors="replace")
