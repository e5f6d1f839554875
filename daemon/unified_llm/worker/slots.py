"""Which request sits in which slot, and what is fed to the model next.

Rule 1: a sequence is a list of tokens of which a beginning has been fed. Feeding a prompt,
generating, and feeding again after an aborted step are the same thing: feed what is not fed yet.
Rule 2: requests take slots in the order they came; a slot holds one request at a time.
Rule 3: this file knows neither a model nor a clock.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one slot for one decode step.

    position: of the first token in its sequence. is_last: they are the last ones known, so the
    next token shall be chosen after them.
    """

    slot: int
    request_id: int
    position: int
    tokens: tuple[int, ...]
    is_last: bool


@dataclass(slots=True)
class _Sequence:
    slot: int
    request_id: int
    tokens: list[int]
    fed: int = field(default=0)

    @property
    def unfed(self) -> int:
        return len(self.tokens) - self.fed


class SlotTable:
    """The slots and the queue before them.

    slots: sequences decoded together. batch_tokens: most tokens fed in one step, all slots
    together; at least one per slot.
    """

    def __init__(self, slots: int, batch_tokens: int) -> None:
        if slots < 1 or batch_tokens < slots:
            raise ValueError(f"{slots} slots do not fit into steps of {batch_tokens} tokens")
        self._batch_tokens = batch_tokens
        self._free = list(range(slots))
        self._seated: dict[int, _Sequence] = {}
        self._waiting: deque[tuple[int, list[int]]] = deque()

    @property
    def active(self) -> int:
        """Requests in a slot."""
        return len(self._seated)

    @property
    def waiting(self) -> int:
        """Requests before the slots."""
        return len(self._waiting)

    def append(self, request_id: int, prompt: Iterable[int]) -> None:
        """Queue a request. `prompt` is not empty."""
        tokens = list(prompt)
        if not tokens:
            raise ValueError(f"request {request_id} has an empty prompt")
        self._waiting.append((request_id, tokens))

    def seat(self) -> list[tuple[int, int]]:
        """Give free slots to those who wait, first come first served.

        Returns each request just seated, with its slot.
        """
        seated = []
        while self._free and self._waiting:
            request_id, tokens = self._waiting.popleft()
            slot = self._free.pop(0)
            self._seated[request_id] = _Sequence(slot, request_id, tokens)
            seated.append((request_id, slot))
        return seated

    def plan(self) -> tuple[Feed, ...]:
        """What to feed in the next step.

        Sequences that are generating come first, so a long prompt never stalls them; prompts share
        the rest of the budget in the order their requests came.
        """
        budget = self._batch_tokens
        feeds = []
        for sequence in sorted(self._seated.values(), key=lambda each: each.unfed > 1):
            count = min(sequence.unfed, budget)
            if count:
                feeds.append(_next_feed(sequence, count))
                budget -= count
        return tuple(feeds)

    def fed(self, feed: Feed) -> None:
        """The step has succeeded: `feed` is in the model's memory."""
        self._seated[feed.request_id].fed += len(feed.tokens)

    def refeed(self, request_id: int) -> None:
        """The model's memory of this sequence is gone: feed it again from the beginning."""
        self._seated[request_id].fed = 0

    def extend(self, request_id: int, token: int) -> None:
        """A token has been generated."""
        self._seated[request_id].tokens.append(token)

    def remove(self, request_id: int) -> int | None:
        """Forget a request, wherever it is. The slot that it leaves; None if it had none."""
        sequence = self._seated.pop(request_id, None)
        if sequence is None:
            self._waiting = deque(each for each in self._waiting if each[0] != request_id)
            return None
        self._free.append(sequence.slot)
        return sequence.slot


def _next_feed(sequence: _Sequence, count: int) -> Feed:
    start = sequence.fed
    return Feed(
        slot=sequence.slot,
        request_id=sequence.request_id,
        position=start,
        tokens=tuple(sequence.tokens[start : start + count]),
        is_last=count == sequence.unfed,
    )
