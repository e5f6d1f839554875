"""What batching needs of a loaded model that answers in text. The real one is `engine`'s."""

from collections.abc import Callable, Sequence
from typing import Protocol

from unified_llm.domain.chat import Message, Tool
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.engine_port import OnProgress
from unified_llm.worker.kept_states import StateMemory
from unified_llm.worker.protocol import Load, Score
from unified_llm.worker.sampling import ResolvedSampling
from unified_llm.worker.slots import Feed, Seat
from unified_llm.worker.thinking import Thinking


class DecodeError(Exception):
    """The model could not decode a step; what it remembers of the sequences in it is unknown."""


class Model(StateMemory, Protocol):
    """A loaded model with a memory of several sequences.

    context_tokens: of one slot. batch_tokens: most tokens in one decode. step_tokens: what to feed
    at once, for a step that is soon over; at least one per slot.
    """

    context_tokens: int
    slots: int
    batch_tokens: int
    vocabulary_size: int
    memory_bytes: int | None
    gpu_bytes: tuple[int, ...]
    description: str
    thinking: Thinking | None
    call_form: CallForm | None

    @property
    def step_tokens(self) -> int: ...

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        begun: str = "",
        principal: str = "",
    ) -> list[int]:
        """The tokens of a conversation, with tools offered. Raises InvalidRequest or DecodeError.

        begun: what the answer begins with. Tools are offered only if there is a `call_form`.
        principal: whose conversation it is; pictures of two have nothing in common.
        """

    def ensure_grammar(self, grammar: str) -> None:
        """Raise InvalidRequest unless the model can keep to `grammar`."""

    def begin(
        self, seat: Seat, sampling: ResolvedSampling, prompt: Sequence[int], grammar: str | None
    ) -> int:
        """Make a slot ready for a sequence that may begin with what `seat` says is in memory.

        grammar: what `sample` keeps to, one that `ensure_grammar` has let pass; None for nothing.
        Returns the tokens that memory really begins with: `seat.cached`, or 0 where the model
        cannot go back. Nothing else is left in it. Raises DecodeError; memory is unknown then.
        """

    def is_unseen(self, feed: Feed) -> bool:
        """Whether a picture in `feed` has to be looked at before it is decoded."""

    def see(self, feed: Feed, should_stop: Callable[[], bool]) -> bool:
        """Look at the first picture of `feed` that is unseen. False if it was ended early.

        Raises InvalidRequest if it is none, or DecodeError. What slots remember is as it was.
        """

    def decode(self, feeds: Sequence[Feed], should_stop: Callable[[], bool]) -> bool:
        """Compute one step; `feeds` are of one adapter, and seen. False if it was ended early.

        Raises DecodeError.
        `should_stop` is asked once before, and often while a step takes long; `interrupt` ends any.
        After False or DecodeError the memory of the slots in `feeds` ends anywhere; else drafts are
        in it too, right or not.
        """

    def interrupt(self) -> None:
        """End the step in progress early, from another thread; too late, it may end the next."""

    def sample(self, slot: int) -> int:
        """The next token of a slot whose last known token was in the latest decode.

        Raises DecodeError if none continues what the grammar asks for; memory is as it was.
        """

    def advance(self, slot: int) -> None:
        """The token that was sampled is the next one of the draft: sample what comes after it."""

    def constrain(self, slot: int, grammar: str, token: int) -> int:
        """Keep to `grammar` from the latest sampled token on: `token`, or another in its place.

        Raises DecodeError.
        """

    def score(self, slot: int, token: int, top: int) -> Score:
        """How likely `token` was after the slot's latest decode, and the `top` likeliest ones."""

    def is_end(self, token: int) -> bool:
        """Whether the token ends the answer."""

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; special tokens stand for none."""

    def truncate(self, slot: int, position: int) -> bool:
        """Forget a slot's tokens from `position` on. False if all of them had to be forgotten."""

    def end(self, slot: int) -> None:
        """A slot's sequence is over; what is in memory of it stays."""

    def close(self) -> None:
        """Free it all."""


OpenModel = Callable[[Load, OnProgress], Model]
"""Raises ModelFailedToLoad."""
