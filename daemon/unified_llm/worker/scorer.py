"""How likely a model held its tokens to be, before any sampler had its say."""

import ctypes
import math
from array import array
from collections.abc import Iterator
from typing import Any, Final

from unified_llm.domain.sampling import MAX_TOP_LOGPROBS
from unified_llm.worker.bindings import native
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.protocol import LEAST_LOGPROB

_FIELDS: Final = 3  # of llama_token_data, 32 bits each: id, logit, probability


class Scorer:
    """Natural logarithms of probabilities by softmax, which llama.cpp's own samplers compute.

    0.7 ms a token with a vocabulary of 49,152.
    """

    def __init__(self, vocabulary_size: int) -> None:
        self._size = vocabulary_size
        self._data = (native.llama_token_data * vocabulary_size)()
        self._pointer = ctypes.cast(self._data, ctypes.POINTER(native.llama_token_data))
        flat = memoryview(self._data).cast("B")
        self._ids = flat.cast("i")[::_FIELDS]
        self._logits = flat.cast("f")[1::_FIELDS]
        self._every_id = memoryview(array("i", range(vocabulary_size)))
        self._candidates: Any = native.llama_token_data_array()
        self._softmax = native.llama_sampler_init_dist(0)
        self._likeliest = native.llama_sampler_init_top_k(min(MAX_TOP_LOGPROBS, vocabulary_size))
        if not self._softmax or not self._likeliest:
            self.close()
            raise DecodeError("a sampler could not be made")

    def score(self, logits: Any, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
        """The log probability of `token`, and the `top` likeliest tokens with theirs.

        logits: a pointer to those of the whole vocabulary.
        """
        row = (ctypes.c_float * self._size).from_address(ctypes.addressof(logits.contents))
        self._ids[:] = self._every_id  # the last call has sorted them
        self._logits[:] = memoryview(row).cast("B").cast("f")
        array_ = self._candidates
        array_.data = self._pointer
        array_.size, array_.selected, array_.sorted = self._size, -1, False
        native.llama_sampler_apply(self._softmax, ctypes.byref(array_))
        native.llama_sampler_apply(self._likeliest, ctypes.byref(array_))
        first = array_.data[0]
        # Of the likeliest, whose probability is far from where 32 bits end.
        normaliser = first.logit - math.log(first.p)
        found = [(each.id, each.logit) for each in self._best(top)]
        return (
            _bounded(row[token] - normaliser),
            [(id_, _bounded(logit - normaliser)) for id_, logit in found],
        )

    def _best(self, top: int) -> Iterator[Any]:
        return (self._candidates.data[index] for index in range(min(top, self._candidates.size)))

    def close(self) -> None:
        """Free it; once."""
        for sampler in (self._softmax, self._likeliest):
            if sampler:
                native.llama_sampler_free(sampler)


def _bounded(logprob: float) -> float:
    """As OpenAI does it, -9999 stands for what is next to impossible; NaN is no better."""
    return min(max(LEAST_LOGPROB, logprob), 0.0)
