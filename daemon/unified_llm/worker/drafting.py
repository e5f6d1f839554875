"""Speculative decoding: tokens that are computed before it is known that they are right.

A draft is fed behind the newest token of its sequence, in the same step. Each of its places is
then sampled as it would have been without it: while the tokens that come are those of the draft,
the next place is valid too; the first that differs ends it, and the rest is cut from the memory.
So the text is that of decoding without drafts, whatever the request samples by.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence

from unified_llm.domain.models import Speculation
from unified_llm.worker.draft_pace import MOST_DRAFTED, Acceptance, DraftPace, StepKind
from unified_llm.worker.prompt_lookup import PromptLookup
from unified_llm.worker.slots import Feed

_FORCED_LENGTH = 8


class _Source:
    """What one sequence drafts, and how often it was right.

    Drafts are judged by the tokens that come, fed or not: so it is known what they would be worth.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self._lookup = PromptLookup(tokens)
        self.acceptance = Acceptance()
        self.draft: tuple[int, ...] = ()

    def extend(self, token: int) -> None:
        self._lookup.extend(token)
        if self.draft:
            is_right = self.draft[0] == token
            self.acceptance.note(is_right=is_right)
            self.draft = self.draft[1:] if is_right else ()

    def renew(self, most: int) -> None:
        self.draft = self._lookup.draft(most)


class Drafting:
    """The drafts of one model's requests. mode: OFF never drafts, AUTO only where it is faster."""

    def __init__(self, mode: Speculation) -> None:
        self._mode = mode
        self._pace = DraftPace()
        self._sources: dict[int, _Source] = {}

    def stop(self, reason: str) -> None:
        """No more drafts from now on. reason: a sentence for the log."""
        if self._mode is not Speculation.OFF:
            sys.stderr.write(f"no tokens are drafted: {reason}\n")
        self._mode = Speculation.OFF
        self._sources.clear()

    def begin(self, request_id: int, prompt: Iterable[int]) -> None:
        """A request has a slot."""
        if self._mode is not Speculation.OFF:
            self._sources[request_id] = _Source(prompt)

    def extend(self, request_id: int, token: int) -> None:
        """A token of its answer is known."""
        if request_id in self._sources:
            self._sources[request_id].extend(token)

    def end(self, request_id: int) -> None:
        """It is over; a request that never began is no error."""
        self._sources.pop(request_id, None)

    def drafts(self, room: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
        """What to feed in the next step behind the newest tokens.

        room: of every request in it, the most tokens its draft may have.
        """
        able = {each: self._renewed(each, most) for each, most in room.items()}
        sources = {each: source for each, source in able.items() if source is not None}
        ranked = sorted(sources, key=lambda each: -sources[each].acceptance.chance)
        kind = self._choose(len(room), [sources[each].acceptance.chance for each in ranked])
        return {
            each: sources[each].draft[: min(kind.length, room[each])]
            for each in ranked[: kind.drafting]
        }

    def note(self, feeds: Sequence[Feed], seconds: float) -> None:
        """A step with all these feeds has taken that long."""
        lengths = {len(feed.draft) for feed in feeds if feed.draft}
        if len(lengths) <= 1 and all(len(feed.tokens) == 1 for feed in feeds):
            drafting = sum(bool(feed.draft) for feed in feeds)
            self._pace.note(StepKind(len(feeds), drafting, *lengths), seconds)

    def _renewed(self, request_id: int, room: int) -> _Source | None:
        """The source of this request's draft; None if it has none now."""
        source = self._sources.get(request_id)
        if source is None or room < 1:
            return None
        source.renew(MOST_DRAFTED)
        return source if source.draft else None

    def _choose(self, sequences: int, chances: Sequence[float]) -> StepKind:
        if self._mode is Speculation.AUTO:
            return self._pace.choose(sequences, chances)
        drafting = min(len(chances), MOST_DRAFTED)
        length = min(_FORCED_LENGTH, MOST_DRAFTED // max(1, drafting))
        return StepKind(sequences, drafting, length)
