"""An Encoder on llama.cpp, for models that pool the vectors of a text's tokens into one.

Facts about llama.cpp that this file rests on (0.3.36, measured in tests/contracts):
- With pooling, all tokens of a text must be in one micro-batch; an encoder asserts that all texts
  of a call are, so a micro-batch is as large as the longest text may be.
- `llama_encode` asks the abort callback as `llama_decode` does, and returns 2 when told to stop.
- A decoder used as an encoder has a memory, which is cleared before each step.
- The output buffer has a row of logits for every token, even if the model has none to put there.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.profile import Purpose
from unified_llm.worker.bindings import native
from unified_llm.worker.brake import Brake
from unified_llm.worker.embedding import EncodingEngine, step_tokens_of
from unified_llm.worker.engine import (
    describe,
    open_llama_engine,
    open_native_log,
    open_native_model,
)
from unified_llm.worker.engine_port import Engine, OnProgress
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.offload import encoder_parameters
from unified_llm.worker.placeholders import Part
from unified_llm.worker.prompt import encode_prompt, encode_text
from unified_llm.worker.protocol import MAX_DIMENSIONS, Load
from unified_llm.worker.vocabulary import LlamaVocabulary

_ABORTED: Final = 2
_POOLINGS: Final = {
    Purpose.EMBEDDING: (
        native.LLAMA_POOLING_TYPE_MEAN,
        native.LLAMA_POOLING_TYPE_CLS,
        native.LLAMA_POOLING_TYPE_LAST,
    ),
    Purpose.RANKING: (native.LLAMA_POOLING_TYPE_RANK,),
}
_PLACES: Final = re.compile(r"(\{query\}|\{document\})")


def open_engine(purpose: Purpose, states: KeptStates | None = None) -> Engine:
    """The Engine behind `--engine llama`, for models of any purpose."""
    if purpose is Purpose.CHAT:
        return open_llama_engine(states)
    log = open_native_log()
    return EncodingEngine(lambda load, on_progress: LlamaEncoder(load, on_progress, log))


class LlamaEncoder:
    """The Encoder on llama.cpp. Raises ModelFailedToLoad, with nothing left open."""

    def __init__(self, load: Load, on_progress: OnProgress, log: NativeLog) -> None:
        with ExitStack() as undo:
            self._open(load, on_progress, log, undo)
            self._undo = undo.pop_all()

    def _open(self, load: Load, on_progress: OnProgress, log: NativeLog, undo: ExitStack) -> None:
        self._model = open_native_model(load, on_progress, log)
        undo.callback(native.llama_model_free, self._model)
        self.vocabulary = LlamaVocabulary(self._model)
        self._ends = _Ends(self._model)
        trained = native.llama_model_n_ctx_train(self._model)
        self.context_tokens = min(load.context_tokens, trained if trained > 0 else 2**31)
        self.slots = load.slots
        self._step_tokens = step_tokens_of(self.context_tokens)
        self._context = self._open_context(load, log)
        undo.callback(native.llama_free, self._context)
        _check_pooling(self._context, load.purpose)
        self.dimensions = _dimensions(self._model, load.purpose)
        self._template = native.llama_model_chat_template(self._model, b"rerank")
        self._memory = native.llama_get_memory(self._context)
        self._batch = native.llama_batch_init(self._step_tokens, 0, 1)
        undo.callback(native.llama_batch_free, self._batch)
        self._brake = Brake(partial(native.llama_set_abort_callback, self._context))
        self.memory_bytes = log.bytes_allocated
        self.gpu_bytes = log.gpu_bytes_allocated
        self.description = describe(self._model)

    def close(self) -> None:
        self._undo.close()

    def encode_text(self, text: str) -> list[int]:
        return [*self._ends.first, *encode_text(text, self.vocabulary), *self._ends.last]

    def encode_pair(self, query: str, document: str) -> list[int]:
        if self._template:
            return encode_prompt(
                _parts(self._template.decode(errors="replace"), query, document), self.vocabulary
            )
        # As llama-server has it: [BOS] query [EOS] [SEP] document [EOS].
        ends = self._ends
        one, other = (encode_text(text, self.vocabulary) for text in (query, document))
        return [*ends.first, *one, *ends.between, *other, *ends.last]

    def compute(
        self, texts: Sequence[Sequence[int]], should_stop: Callable[[], bool]
    ) -> list[Sequence[float]] | None:
        self._fill_batch(texts)
        with self._brake.armed(should_stop):
            if should_stop():
                return None
            result = self._run()
        if result == _ABORTED:
            return None
        if result != 0:
            raise DecodeError(f"llama.cpp returned {result} for {self._batch.n_tokens} tokens")
        return [self._vector(index) for index in range(len(texts))]

    def interrupt(self) -> None:
        self._brake.pull()

    def _run(self) -> int:
        if self._memory is None:
            return int(native.llama_encode(self._context, self._batch))
        native.llama_memory_clear(self._memory, False)
        return int(native.llama_decode(self._context, self._batch))

    def _vector(self, index: int) -> Sequence[float]:
        numbers = native.llama_get_embeddings_seq(self._context, index)
        if not numbers:
            raise DecodeError("llama_get_embeddings_seq returned NULL")
        found: list[float] = numbers[: self.dimensions]
        return found

    def _fill_batch(self, texts: Sequence[Sequence[int]]) -> None:
        batch, row = self._batch, 0
        for sequence, tokens in enumerate(texts):
            for position, token in enumerate(tokens):
                batch.token[row] = token
                batch.pos[row] = position
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = 1
                row += 1
        batch.n_tokens = row

    def _open_context(self, load: Load, log: NativeLog) -> Any:
        params = encoder_parameters(load, self._step_tokens)
        context = native.llama_init_from_model(self._model, params)
        if not context:
            raise ModelFailedToLoad(
                f"The context for texts of {self.context_tokens} tokens could not be made"
                f"{log.reason()}.",
                hint="Give the model a smaller context.",
            )
        return context


class _Ends:
    """The tokens a model expects around texts. Source: `llama_tokenize` with special tokens, and
    for pairs `format_prompt_rerank` of llama-server."""

    def __init__(self, model: Any) -> None:
        vocab = native.llama_model_get_vocab(model)
        separator, end = native.llama_vocab_sep(vocab), native.llama_vocab_eos(vocab)
        adds_end = native.llama_vocab_get_add_eos(vocab) and end >= 0
        adds_separator = native.llama_vocab_get_add_sep(vocab) and separator >= 0
        first = native.llama_vocab_bos(vocab)
        self.first = [first] if native.llama_vocab_get_add_bos(vocab) and first >= 0 else []
        ends = [end] if adds_end else []
        separators = [separator] if adds_separator else []
        self.between = [*ends, *separators]
        self.last = ends or separators


def _parts(template: str, query: str, document: str) -> list[Part]:
    """A template of the model, and in its places what people wrote."""
    places = {"{query}": query, "{document}": document}
    pieces = (piece for piece in _PLACES.split(template) if piece)
    return [Part(places.get(piece, piece), is_markup=piece not in places) for piece in pieces]


def _check_pooling(context: Any, purpose: Purpose) -> None:
    if native.llama_pooling_type(context) not in _POOLINGS.get(purpose, ()):
        raise ModelFailedToLoad(
            "The model's file does not say how the vectors of a text's tokens become one.",
            hint="Convert it with its pooling (`pooling_type`), or take one that has it.",
        )


def _dimensions(model: Any, purpose: Purpose) -> int:
    if purpose is Purpose.RANKING:
        return int(native.llama_model_n_cls_out(model))
    count = int(native.llama_model_n_embd_out(model))
    if not 1 <= count <= MAX_DIMENSIONS:
        raise ModelFailedToLoad(
            f"The model's vectors have {count} dimensions; {MAX_DIMENSIONS} is the most."
        )
    return count
