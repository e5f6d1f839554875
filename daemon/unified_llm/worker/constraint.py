"""Keeps one sequence to a grammar, by llama.cpp's own grammar sampler.

Facts about it (0.3.36, llama-grammar.cpp):
- A grammar that it refuses is NULL, and a chain that holds NULL ends the process.
- Accepting a token that the grammar does not allow throws across the C boundary, which ends the
  process too. So a token is accepted only after it was found to be allowed.
- Judging the whole vocabulary costs milliseconds, judging one token microseconds. So a token is
  chosen freely, and only if it is not allowed, chosen again among those that are.
"""

import ctypes
from typing import Any

from unified_llm.worker.bindings import native
from unified_llm.worker.model_port import DecodeError


class GrammarRefusedError(Exception):
    """llama.cpp does not take the grammar."""


class Chooser:
    """Chooses tokens by samplers that are not told which one it was.

    llama.cpp tells all links of the chain it samples by. So its chain has a single link, ours, that
    has none to tell, and lets the real samplers look at the candidates from inside.
    """

    def __init__(self) -> None:
        self._samplers: tuple[Any, ...] = ()
        self._interface = native.llama_sampler_i(apply=native.llama_sampler_i_apply(self._apply))
        self._chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        link = native.llama_sampler_init(ctypes.byref(self._interface), None)
        native.llama_sampler_chain_add(self._chain, link)

    def close(self) -> None:
        """Free it; once is enough."""
        chain, self._chain = self._chain, None
        native.llama_sampler_free(chain)

    def choose(self, context: Any, row: int, *samplers: Any) -> int:
        """The token that `samplers` choose, one after the other, from a row of logits."""
        self._samplers = samplers
        return int(native.llama_sampler_sample(self._chain, context, row))

    def _apply(self, _: Any, candidates: Any) -> None:
        for sampler in self._samplers:
            native.llama_sampler_apply(sampler, candidates)


class Constraint:
    """A grammar and how far a sequence has come in it. Raises GrammarRefusedError.

    vocabulary: llama.cpp's, of the model that will generate.
    """

    def __init__(self, vocabulary: Any, grammar: str) -> None:
        self._sampler = native.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
        if not self._sampler:
            raise GrammarRefusedError

    def close(self) -> None:
        """Free it."""
        native.llama_sampler_free(self._sampler)

    def sample(self, chain: Any, chooser: Chooser, context: Any, row: int) -> int:
        """Choose the next token by `chain`, and tell both. Raises DecodeError if there is none."""
        token = chooser.choose(context, row, chain)
        if not self.allows(token):
            token = chooser.choose(context, row, self._sampler, chain)
        if not self.allows(token):
            raise DecodeError("no token of the model continues what its answer must look like")
        self.accept(token)
        native.llama_sampler_accept(chain, token)
        return token

    def allows(self, token: int) -> bool:
        """Whether the grammar lets the sequence go on with `token`."""
        one = (native.llama_token_data * 1)(native.llama_token_data(token, 0.0, 0.0))
        only = native.llama_token_data_array(one, 1, -1, False)
        native.llama_sampler_apply(self._sampler, ctypes.byref(only))
        return bool(one[0].logit == 0.0)

    def accept(self, token: int) -> None:
        """Go on with a token that `allows` has allowed."""
        native.llama_sampler_accept(self._sampler, token)
