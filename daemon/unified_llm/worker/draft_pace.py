"""Whether drafting pays, and how long drafts should be: decided by what steps have really taken.

A draft of k tokens makes a step longer, by how much depends on the machine: on a GPU hardly, on a
CPU nearly by k tokens. It makes it bring more, how much depends on the text. Both are measured.
Rule 1: what a step takes is only compared with steps of its own kind, since llama.cpp computes
sequences with unlike numbers of tokens one group after the other.
Rule 2: drafts have to bring more tokens in all, and may make nobody wait much longer for his.
Rule 3: what does not pay is tried again now and then, ever more rarely; what is known of steps
without drafts is renewed as well. Time is counted in steps: this file knows no clock.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

MOST_DRAFTED: Final = 16
"""Tokens in one step, of all sequences together; each has a row of logits in memory."""

_LENGTHS: Final = (2, 4, 8, 16)
_LATEST: Final = 5  # measurements that count; the median bears two that were disturbed
_FEWEST: Final = 3
_RENEWED_AFTER: Final = 32
_LONGEST_WAIT: Final = 1024
# A first advantage may be noise; once it is taken, any will do.
_TO_BEGIN, _TO_GO_ON = 1.1, 1.0
_MOST_DELAY: Final = 1.5
_LEAST_CHANCE: Final = 0.2
_FADING: Final = 0.9


@dataclass(frozen=True, slots=True)
class StepKind:
    """A step that reads no prompt.

    sequences: in it. drafting: how many of them have drafts. length: of each draft, in tokens.
    """

    sequences: int
    drafting: int = 0
    length: int = 0


class Acceptance:
    """How often drafted tokens of one sequence are right, the latest counting most."""

    def __init__(self) -> None:
        self._right, self._judged = 1.0, 2.0

    @property
    def chance(self) -> float:
        """That the next one is right: above 0, below 1."""
        return self._right / self._judged

    def note(self, *, is_right: bool) -> None:
        """One more has been compared with what came."""
        self._right = _FADING * self._right + is_right
        self._judged = _FADING * self._judged + 1


def expected_tokens(chance: float, length: int) -> float:
    """Of a draft, those before the first wrong one: Leviathan et al. 2023 (arXiv 2211.17192)."""
    return float(sum(chance**place for place in range(1, length + 1)))


@dataclass(slots=True)
class _Record:
    """What steps of one kind have taken. due: the step from which it may be tried again."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))
    due: int = 0
    wait: int = _RENEWED_AFTER

    @property
    def typical(self) -> float | None:
        """None until it has been measured often enough."""
        return median(self.seconds) if len(self.seconds) >= _FEWEST else None


class DraftPace:
    """Chooses the kind of each step of one model."""

    def __init__(self) -> None:
        self._records: dict[StepKind, _Record] = {}
        self._steps = 0
        self._is_drafting = False

    def note(self, kind: StepKind, seconds: float) -> None:
        """A step has taken that long."""
        self._steps += 1
        record = self._record(kind)
        record.seconds.append(seconds)
        if record.typical is not None:
            record.due = self._steps + record.wait

    def choose(self, sequences: int, chances: Sequence[float]) -> StepKind:
        """The kind of the next step.

        chances: that drafts are right, of those sequences that have one, the best first. The first
        ones of them are to draft.
        """
        plain = StepKind(sequences)
        base = self._record(plain)
        chances = [chance for chance in chances if chance >= _LEAST_CHANCE]
        if not chances or not base.typical or base.due <= self._steps:
            return plain  # steps that take no time at all cannot be made to take less
        best = self._best(base.typical, plain, chances)
        tried = self._to_try(base.typical, plain, chances)
        if tried is not None:
            return tried
        self._is_drafting = best is not plain
        return best

    @property
    def _least_gain(self) -> float:
        return _TO_GO_ON if self._is_drafting else _TO_BEGIN

    def _best(self, base: float, plain: StepKind, chances: Sequence[float]) -> StepKind:
        best, most = plain, self._least_gain
        for kind in _kinds(plain, chances):
            record = self._record(kind)
            if record.typical is not None:
                gain = _gain(kind, chances, record.typical / base)
                if gain >= self._least_gain:
                    record.wait = _RENEWED_AFTER
                if gain >= most:
                    best, most = kind, gain
        return best

    def _to_try(self, base: float, plain: StepKind, chances: Sequence[float]) -> StepKind | None:
        """A kind to be measured, unless it could not pay even if it were as fast as can be hoped:

        never measured, as a step with shorter drafts; measured before, as one without any.
        """
        shortest = 1.0
        for kind in _kinds(plain, chances):
            record = self._record(kind)
            is_known = record.typical is not None
            hoped = 1.0 if is_known else shortest
            if record.due <= self._steps and _gain(kind, chances, hoped) >= self._least_gain:
                record.wait = min(2 * record.wait, _LONGEST_WAIT) if is_known else _RENEWED_AFTER
                return kind
            shortest = max(shortest, (record.typical or 0) / base)
        return None

    def _record(self, kind: StepKind) -> _Record:
        return self._records.setdefault(kind, _Record())


def _kinds(plain: StepKind, chances: Sequence[float]) -> Iterator[StepKind]:
    for length in _LENGTHS:
        if length * len(chances) <= MOST_DRAFTED:
            yield StepKind(plain.sequences, len(chances), length)


def _gain(kind: StepKind, chances: Sequence[float], slower: float) -> float:
    """How many times the tokens per second, if its steps take `slower` times as long; 0 if unfair.

    chances: of the drafts in it.
    """
    own = [1 + expected_tokens(chance, kind.length) for chance in chances]
    others = kind.sequences - len(own)
    if slower > _MOST_DELAY * (1.0 if others else min(own)):
        return 0.0
    return (sum(own) + others) / kind.sequences / slower
