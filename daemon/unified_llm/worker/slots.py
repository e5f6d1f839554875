"""Which request sits in which slot, what is fed to the model next, and whose memory serves whom.

Rule 1: a sequence is a list of tokens of which a beginning has been fed. Feeding a prompt,
generating, and feeding again after an aborted step are the same thing: feed what is not fed yet.
Rule 2: requests take slots in the order they came; a slot holds one request at a time. Only a
request whose prompt another one of the same principal is just feeding waits for that.
Rule 3: a slot keeps what was fed after its request has left. What is kept belongs to one principal,
and no request of another ever starts from it (notes on prefix caches: arXiv 2508.08438); nor does
one with another adapter, whose keys and values are others.
Rule 4: a step is for the sequences of one adapter (`adapter_turns`).
Rule 5: this file knows neither a model nor a clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from unified_llm.worker.adapter_turns import AdapterTurns
from unified_llm.worker.state_index import Offer, StateIndex, common_prefix

# Copying a slot's memory copies all of its context, and that costs less than computing a 64th of
# it: 39 ms against 103 ms with a context of 1024, 56 against 380 with 4096 (SmolLM2-135M, one
# thread, on a busy machine; docs/bench/engine.md).
_WORTH_A_COPY: Final = 64
_NO_DRAFTS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one slot for one decode step.

    position: of the first token in its sequence. is_last: they are the last ones known, so the
    next token shall be chosen after them. draft: tokens that may come next, fed after those.
    adapter: what they are computed with; the same for all of a step.
    """

    slot: int
    request_id: int
    position: int
    tokens: tuple[int, ...]
    is_last: bool
    draft: tuple[int, ...] = ()
    adapter: str | None = None

    @property
    def end(self) -> int:
        """The position after its tokens, the draft left out."""
        return self.position + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the memory of a slot holds: `tokens` of `principal`, and nothing else.

    adapter: what they were computed with.
    """

    slot: int
    principal: str
    tokens: list[int]
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """A request that has just been given a slot.

    cached: tokens of its prompt that need not be fed, always fewer than all. source: the slot
    whose memory holds them and has to be copied first; None if it is the slot's own.
    kept: the saved state that holds them and has to be restored first.
    pushed_out: what the slot remembers now, and is worth saving before it is lost.
    """

    request_id: int
    slot: int
    cached: int
    source: int | None
    kept: Offer | None = None
    pushed_out: Remembered | None = None


@dataclass(slots=True)
class _Sequence:
    slot: int
    principal: str = ""
    tokens: list[int] = field(default_factory=list)
    fed: int = 0
    adapter: str | None = None

    @property
    def unfed(self) -> int:
        return len(self.tokens) - self.fed


@dataclass(frozen=True, slots=True)
class _Waiting:
    principal: str
    tokens: list[int]
    adapter: str | None

    def shared_with(self, sequence: _Sequence) -> int:
        """Tokens at the beginning that are the same; the last one must be fed to be answered."""
        if (sequence.principal, sequence.adapter) != (self.principal, self.adapter):
            return 0
        return min(common_prefix(sequence.tokens, self.tokens), len(self.tokens) - 1)

    def cached_in(self, sequence: _Sequence) -> int:
        return min(self.shared_with(sequence), sequence.fed)


class SlotTable:
    """The slots and the queue before them.

    slots: sequences decoded together. batch_tokens: most tokens fed in one step, all slots
    together; at least one per slot. context_tokens: most tokens of one sequence. kept: the saved
    states that may be restored; None if none are saved.
    """

    def __init__(
        self, slots: int, batch_tokens: int, context_tokens: int, kept: StateIndex | None = None
    ) -> None:
        if slots < 1 or batch_tokens < slots:
            raise ValueError(f"{slots} slots do not fit into steps of {batch_tokens} tokens")
        self._batch_tokens = batch_tokens
        self._kept = kept
        self._least_copied = max(1, context_tokens // _WORTH_A_COPY)
        # Those that have been idle longest come first.
        self._idle = {slot: _Sequence(slot) for slot in range(slots)}
        self._seated: dict[int, _Sequence] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._paused: set[int] = set()
        self._turns = AdapterTurns()

    @property
    def active(self) -> int:
        """Requests in a slot."""
        return len(self._seated)

    @property
    def waiting(self) -> int:
        """Requests before the slots."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether somebody can be seated or fed."""
        is_room = bool(self._waiting and self._idle)
        return is_room or any(request_id not in self._paused for request_id in self._seated)

    def append(
        self, request_id: int, principal: str, prompt: Iterable[int], adapter: str | None = None
    ) -> None:
        """Queue a request of `principal`. `prompt` is not empty."""
        tokens = list(prompt)
        if not tokens:
            raise ValueError(f"request {request_id} has an empty prompt")
        self._waiting[request_id] = _Waiting(principal, tokens, adapter)

    def seat(self) -> list[Seat]:
        """Give free slots to those who wait, first come first served."""
        seats = []
        for request_id, waiting in list(self._waiting.items()):
            if not self._idle:
                break
            seat = self._find_seat(request_id, waiting)
            if seat is not None:
                del self._waiting[request_id], self._idle[seat.slot]
                self._seated[request_id] = _Sequence(
                    seat.slot, waiting.principal, waiting.tokens, seat.cached, waiting.adapter
                )
                seats.append(seat)
        return seats

    def _find_seat(self, request_id: int, waiting: _Waiting) -> Seat | None:
        """The best slot and what can be reused; None if more can be soon."""
        taken = self._choose_idle(waiting)
        seat = Seat(request_id, taken.slot, waiting.cached_in(taken), None)
        source = max((*self._idle.values(), *self._seated.values()), key=waiting.cached_in)
        if waiting.cached_in(source) >= seat.cached + self._least_copied:
            seat = Seat(request_id, taken.slot, waiting.cached_in(source), source.slot)
        if self._kept is not None:
            seat = self._with_states(self._kept, seat, taken, waiting)
        running = (each for number, each in self._seated.items() if number not in self._paused)
        coming = max((waiting.shared_with(each) for each in running), default=0)
        return None if coming >= seat.cached + self._least_copied else seat

    def _with_states(
        self, kept: StateIndex, seat: Seat, taken: _Sequence, waiting: _Waiting
    ) -> Seat:
        """The same seat, by way of a saved state if that spares more, and what has to be saved."""
        offer = kept.best(waiting.principal, waiting.tokens, waiting.adapter)
        if offer is not None and offer.shared >= seat.cached + self._least_copied:
            seat = replace(seat, cached=offer.shared, source=None, kept=offer)
        left = seat.cached if seat.source is None and seat.kept is None else 0
        if taken.fed < self._least_copied or 2 * left >= taken.fed:
            return seat
        return replace(seat, pushed_out=_remembered(taken))

    def _choose_idle(self, waiting: _Waiting) -> _Sequence:
        """The one that goes on where it ended or nearly so; else an empty one; else the oldest.

        A conversation is not given up for the few tokens that every prompt begins with.
        """
        idle = self._idle.values()
        best = max(idle, key=waiting.cached_in)
        cached = waiting.cached_in(best)
        if cached and 2 * cached >= min(best.fed, len(waiting.tokens)):
            return best
        return next((each for each in idle if not each.fed), next(iter(idle)))

    def remembered(self) -> list[Remembered]:
        """What all slots hold that is worth saving, what was used last first."""
        latest_first = (*self._seated.values(), *reversed(self._idle.values()))
        return [_remembered(each) for each in latest_first if each.fed >= self._least_copied]

    def generating(self) -> tuple[int, ...]:
        """The requests in the next step, if all it brings is their next tokens; else none."""
        running = self._of_one_turn()
        is_all = all(each.unfed == 1 for _, each in running)
        return tuple(request_id for request_id, _ in running) if is_all else ()

    def plan(
        self, most: int | None = None, drafts: Mapping[int, tuple[int, ...]] = _NO_DRAFTS
    ) -> tuple[Feed, ...]:
        """What to feed in the next step: about `most` tokens, and no more than fit.

        The end of a prompt comes along if it is no more than half of that: a prompt of 86 tokens
        took 475 ms at once and 515 as 64 and 22.

        drafts: of requests that are `generating`.

        Sequences that are generating come first, so a long prompt never stalls them; prompts share
        the rest of the budget in the order their requests came, and drafts what those leave.

        Told in the order of slots: llama.cpp computes at once only neighbours that follow each
        other, and 8 sequences told as 5, 0-4, 6, 7 were three computations that took 82 ms instead
        of 63.
        """
        room = self._batch_tokens
        budget = room if most is None else min(room, most)
        small = budget // 2
        feeds = []
        for request_id, sequence in sorted(self._of_one_turn(), key=lambda each: each[1].unfed > 1):
            count = min(sequence.unfed, budget)
            if count and sequence.unfed <= min(room, count + small):
                count = sequence.unfed
            if count:
                feeds.append(_next_feed(request_id, sequence, count))
                room -= count
                budget = max(0, budget - count)
        for index, feed in enumerate(feeds):
            if draft := drafts.get(feed.request_id, ())[:budget]:
                feeds[index] = replace(feed, draft=draft)
                budget -= len(draft)
        return tuple(sorted(feeds, key=lambda feed: feed.slot))

    def _of_one_turn(self) -> list[tuple[int, _Sequence]]:
        """What may be fed together, of those that have something to feed."""
        hungry = [
            (request_id, sequence)
            for request_id, sequence in self._seated.items()
            if sequence.unfed and request_id not in self._paused
        ]
        if not hungry:
            return []
        turn = self._turns.next_of(sequence.adapter for _, sequence in hungry)
        return [each for each in hungry if each[1].adapter == turn]

    def fed(self, feed: Feed) -> None:
        """The step has succeeded: `feed` is in the model's memory."""
        self._seated[feed.request_id].fed += len(feed.tokens)

    def had_step(self, feeds: Sequence[Feed]) -> None:
        """The step with these, at least one, has been computed."""
        self._turns.had(feeds[0].adapter, max(len(feed.tokens) for feed in feeds))

    def refeed(self, request_id: int) -> None:
        """The model's memory of this sequence is gone: feed it again from the beginning."""
        self._seated[request_id].fed = 0

    def extend(self, request_id: int, token: int) -> None:
        """A token has been generated."""
        self._seated[request_id].tokens.append(token)

    def confirm(self, request_id: int, drafted: int) -> bool:
        """Whether the latest token is the drafted one, and so in the model's memory already."""
        sequence = self._seated.get(request_id)
        if sequence is None or sequence.tokens[-1] != drafted:
            return False
        sequence.fed += 1
        return True

    def lose(self, slot: int) -> None:
        """The model's memory of whatever is in this slot is gone."""
        sequences = (*self._seated.values(), *self._idle.values())
        lost = next(each for each in sequences if each.slot == slot)
        lost.fed = 0
        if slot in self._idle:
            lost.tokens.clear()

    def pause(self, request_id: int) -> None:
        """Feed this one no more until `resume`. It keeps its place, and nobody waits for it."""
        if request_id in self._seated or request_id in self._waiting:
            self._paused.add(request_id)

    def resume(self, request_id: int) -> None:
        """Feed this one again."""
        self._paused.discard(request_id)

    def remove(self, request_id: int) -> int | None:
        """Forget a request, wherever it is. The slot that it leaves; None if it had none.

        What has been fed of it stays with the slot.
        """
        self._paused.discard(request_id)
        sequence = self._seated.pop(request_id, None)
        if sequence is None:
            self._waiting.pop(request_id, None)
            return None
        del sequence.tokens[sequence.fed :]
        self._idle[sequence.slot] = sequence
        return sequence.slot


def _remembered(sequence: _Sequence) -> Remembered:
    tokens = sequence.tokens[: sequence.fed]
    return Remembered(sequence.slot, sequence.principal, tokens, sequence.adapter)


def _next_feed(request_id: int, sequence: _Sequence, count: int) -> Feed:
    """Tokens, or vectors of a picture, whose numbers are below 0: both do not fit together."""
    start = sequence.fed
    coming = sequence.tokens[start : start + count]
    is_picture = coming[0] < 0
    if min(coming) < 0 or is_picture:
        count = next((i for i, each in enumerate(coming) if (each < 0) != is_picture), count)
    return Feed(
        slot=sequence.slot,
        request_id=request_id,
        position=start,
        tokens=tuple(sequence.tokens[start : start + count]),
        is_last=count == sequence.unfed,
        adapter=sequence.adapter,
    )
