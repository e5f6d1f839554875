"""llama.cpp's samplers: one chain for each slot that is answering.

The order is the one that llama.cpp's own tools have by default (common/sampling.cpp, 0.3.36):
logit bias, penalties, DRY, top_k, typical_p, top_p, min_p, XTC, temperature, draw; with mirostat,
logit bias, temperature, mirostat. A link that would change nothing is left out.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

from unified_llm.worker.bindings import native
from unified_llm.worker.constraint import Chooser, Constraint, GrammarRefusedError
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.sampling import ResolvedSampling

# Where a repeated sequence may begin anew; the default of llama.cpp's tools.
_DRY_BREAKERS: Final = (b"\n", b":", b'"', b"*")
_LIKELIEST_FOR_MIROSTAT: Final = 100  # `m` of the paper (arXiv 2007.14966), as llama.cpp has it
_KEPT: Final = 1  # candidates that no link may go below


class Samplers:
    """The chains of one model's slots. Closing one that is not open is no error."""

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._size = int(native.llama_vocab_n_tokens(vocab))
        self._chains: dict[int, Any] = {}
        self._constraints: dict[int, Constraint] = {}
        self._chooser = Chooser()

    @property
    def open_slots(self) -> frozenset[int]:
        """The slots that have a chain."""
        return frozenset(self._chains)

    def open(
        self,
        slot: int,
        sampling: ResolvedSampling,
        prompt: Sequence[int],
        grammar: str | None = None,
    ) -> None:
        """Have the next tokens of `slot` chosen so, after `prompt`, and kept to `grammar`.

        Raises DecodeError.
        """
        params = native.llama_sampler_chain_default_params()
        params.no_perf = True
        chain = native.llama_sampler_chain_init(params)
        if not chain:
            raise DecodeError("llama_sampler_chain_init returned NULL")
        self._chains[slot] = chain
        for link in self._links(sampling):
            if not link:
                self.close(slot)
                raise DecodeError("a sampler could not be made")
            native.llama_sampler_chain_add(chain, link)
        for token in prompt[-sampling.window :] if sampling.window else ():
            if token >= 0:  # a picture repeats nothing
                native.llama_sampler_accept(chain, token)
        if grammar is not None:
            self._constraints[slot] = Constraint(self._vocab, grammar)

    def sample(self, slot: int, context: Any, row: int) -> int:
        """The next token, by the logits of `row` in the latest decode. Raises DecodeError."""
        chain, constraint = self._chains[slot], self._constraints.get(slot)
        if constraint is not None:
            return constraint.sample(chain, self._chooser, context, row)
        return int(native.llama_sampler_sample(chain, context, row))

    def constrain(self, slot: int, grammar: str, token: int, context: Any, row: int) -> int:
        """Keep `slot` to `grammar` from `token` on, its latest, or from another chosen instead.

        Raises DecodeError.
        """
        try:
            constraint = self._constraints[slot] = Constraint(self._vocab, grammar)
        except GrammarRefusedError as error:
            raise DecodeError("llama.cpp refuses the grammar of the model's calls") from error
        if constraint.allows(token):
            constraint.accept(token)
            return token
        return constraint.sample(self._chains[slot], self._chooser, context, row)

    def close(self, slot: int) -> None:
        """No more tokens are chosen for `slot`."""
        chain = self._chains.pop(slot, None)
        if chain is not None:
            native.llama_sampler_free(chain)
        constraint = self._constraints.pop(slot, None)
        if constraint is not None:
            constraint.close()

    def close_all(self) -> None:
        """No more tokens are chosen."""
        for slot in tuple(self._chains):
            self.close(slot)
        self._chooser.close()

    def _links(self, sampling: ResolvedSampling) -> Iterator[Any]:
        biases = self._biases(sampling)
        if biases:
            array = (native.llama_logit_bias * len(biases))()
            for entry, (token, bias) in zip(array, biases, strict=True):
                entry.token, entry.bias = token, bias
            yield native.llama_sampler_init_logit_bias(self._size, len(biases), array)
        if sampling.mirostat:
            yield native.llama_sampler_init_temp(sampling.temperature)
            yield self._mirostat(sampling)
            return
        yield from self._repetition_links(sampling)
        yield from _truncation_links(sampling)
        yield native.llama_sampler_init_temp(sampling.temperature)
        yield native.llama_sampler_init_dist(sampling.seed)

    def _biases(self, sampling: ResolvedSampling) -> list[tuple[int, float]]:
        forbidden = self._suppressed + (self._ends if sampling.ignore_eos else ())
        return [*sampling.logit_bias, *((token, -math.inf) for token in forbidden)]

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Tokens that end an answer. Looked up when first needed: 20 ms for 49,152 tokens."""
        tokens = range(self._size)
        return tuple(each for each in tokens if native.llama_vocab_is_eog(self._vocab, each))

    @cached_property
    def _suppressed(self) -> tuple[int, ...]:
        """Tokens that the model's file says are never to be chosen."""
        count = ctypes.c_int32(0)
        tokens = native.llama_vocab_get_suppress_tokens(self._vocab, ctypes.byref(count))
        return tuple(tokens[: count.value]) if tokens else ()

    def _repetition_links(self, sampling: ResolvedSampling) -> Iterator[Any]:
        if sampling.has_penalties:
            yield native.llama_sampler_init_penalties(
                self._size,
                sampling.repeat_last_n,
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            )
        if sampling.has_dry:
            yield native.llama_sampler_init_dry(
                self._vocab,
                sampling.dry_multiplier,
                sampling.dry_base,
                sampling.dry_allowed_length,
                sampling.dry_penalty_last_n,
                (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS),
                len(_DRY_BREAKERS),
            )

    def _mirostat(self, sampling: ResolvedSampling) -> Any:
        tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
        if sampling.mirostat == 1:
            return native.llama_sampler_init_mirostat(
                self._size, sampling.seed, tau, eta, _LIKELIEST_FOR_MIROSTAT
            )
        return native.llama_sampler_init_mirostat_v2(sampling.seed, tau, eta)


def _truncation_links(sampling: ResolvedSampling) -> Iterator[Any]:
    """Each leaves fewer candidates, and always some."""
    one_number: tuple[tuple[float, float, Callable[[float, int], Any]], ...] = (
        (sampling.typical_p, 1, native.llama_sampler_init_typical),
        (sampling.top_p, 1, native.llama_sampler_init_top_p),
        (sampling.min_p, 0, native.llama_sampler_init_min_p),
    )
    if sampling.top_k:
        yield native.llama_sampler_init_top_k(sampling.top_k)
    for value, off, make in one_number:
        if value != off:
            yield make(value, _KEPT)
    if sampling.xtc_probability:
        yield native.llama_sampler_init_xtc(
            sampling.xtc_probability, sampling.xtc_threshold, _KEPT, sampling.seed
        )
