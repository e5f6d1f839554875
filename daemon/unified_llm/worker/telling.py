"""From pieces of an answer to what is told of them: text, thoughts and calls."""

from collections.abc import Iterable, Iterator

from unified_llm.domain.chat import FinishReason
from unified_llm.worker.admission import Answer
from unified_llm.worker.answer_text import Piece
from unified_llm.worker.calling import CallPiece, CallSplitter
from unified_llm.worker.engine_port import Report
from unified_llm.worker.protocol import Call, Delta
from unified_llm.worker.thinking import Passage


def told(answer: Answer, piece: Piece) -> list[Report]:
    """What is known for sure now that `piece` has come."""
    if answer.thoughts.is_saying:
        if answer.calls is not None:
            return list(_said(answer, answer.calls, piece))
        return [Delta(id=answer.request.id, text=piece.text, scores=piece.scores)] if piece else []
    return list(_passages(answer, answer.thoughts.feed(piece.text)))


def told_at_end(answer: Answer, reason: FinishReason) -> list[Report]:
    """What was held back, and the end."""
    reports = told(answer, answer.text.finish())
    reports += _passages(answer, answer.thoughts.finish())
    if answer.calls is not None:
        reports += _told(answer, answer.calls.finish())
        if not answer.calls.watch.has_begun and (scores := answer.scores.take_rest()):
            reports.append(Delta(id=answer.request.id, text="", scores=scores))
        if reason is FinishReason.STOP and answer.calls.calls:
            reason = FinishReason.TOOL_CALLS
    return [*reports, answer.done(reason)]


def _passages(answer: Answer, passages: Iterable[Passage]) -> Iterator[Report]:
    """Without scores: those are of what is said, and here it is only about to begin."""
    for each in passages:
        if each.is_thought or answer.calls is None:
            yield Delta(id=answer.request.id, text=each.text, is_thought=each.is_thought)
        else:
            yield from _said(answer, answer.calls, Piece(each.text))


def _said(answer: Answer, calls: CallSplitter, piece: Piece) -> Iterator[Report]:
    answer.scores.feed(piece)
    yield from _told(answer, calls.feed(piece.text))


def _told(answer: Answer, pieces: Iterable[str | CallPiece]) -> Iterator[Report]:
    """Text with its scores, as far as it is none of a call; calls have none."""
    number = answer.request.id
    for each in pieces:
        if isinstance(each, str):
            yield Delta(id=number, text=each, scores=answer.scores.take(each))
        else:
            yield Call(id=number, index=each.index, name=each.name, arguments=each.arguments)
