"""What is shown does not depend on where tokens cut characters and stop texts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.answer_text import AnswerText, Piece, ScoreQueue
from unified_llm.worker.protocol import Chance, Score

_TEXTS = st.text("aé€😀b", max_size=12)
_STOPS = st.lists(st.text("aé€😀b", min_size=1, max_size=4), max_size=4)


def score_of(data: bytes) -> Score:
    return Score(chosen=Chance(text="", data=data, logprob=-1.0))


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    """Also into tokens of no bytes: special ones have none."""
    borders = sorted([0, len(data), *(cut % (len(data) + 1) for cut in cuts)])
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def show(tokens: list[bytes], stops: list[str]) -> tuple[str, list[bytes], bool]:
    """Text and tokens shown, and whether a stop text was met; as the engine does it."""
    answer = AnswerText(stops)
    pieces = []
    for token in tokens:
        pieces.append(answer.feed(token, score_of(token)))
        if answer.is_met:
            break
    pieces.append(answer.finish())
    told = [score.chosen.data or b"" for piece in pieces for score in piece.scores]
    return "".join(piece.text for piece in pieces), told, answer.is_met


@given(_TEXTS, _STOPS, st.lists(st.integers(0, 100)))
def test_a_stop_text_is_found_at_every_cut_and_never_shown(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    shown, _, is_met = show(chop(text.encode(), cuts), stops)
    assert is_met == any(stop in text for stop in stops)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    if not is_met:
        assert shown == text


@given(_TEXTS, st.text("aé€😀b", min_size=1, max_size=4), st.lists(st.integers(0, 100)))
def test_where_one_stop_text_ends_an_answer_does_not_depend_on_the_cuts(
    text: str, stop: str, cuts: list[int]
) -> None:
    shown, _, _ = show(chop(text.encode(), cuts), [stop])
    assert shown == text.split(stop)[0]


@given(_TEXTS, _STOPS, st.lists(st.integers(0, 100)))
def test_the_tokens_shown_are_those_that_begin_in_the_text_shown(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    tokens = chop(text.encode(), cuts)
    shown, told, is_met = show(tokens, stops)
    assert told == tokens[: len(told)]
    assert b"".join(told).startswith(shown.encode())
    if is_met:
        assert len(b"".join(told[:-1])) <= len(shown.encode())
    else:
        assert told == tokens


@given(st.binary(max_size=12), st.lists(st.integers(0, 100)))
def test_bytes_that_make_no_character_are_still_told(data: bytes, cuts: list[int]) -> None:
    _, told, _ = show(chop(data, cuts), [])
    assert b"".join(told) == data


def test_a_token_waits_for_the_character_it_is_part_of() -> None:
    answer = AnswerText(())
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert not answer.feed(first, score_of(first))
    piece = answer.feed(second, score_of(second))
    assert piece.text == "é"
    assert piece.scores == (score_of(first), score_of(second))


def test_without_scores_there_is_only_text() -> None:
    answer = AnswerText(("END",))
    assert answer.feed(b"hello E", None).text == "hello "
    assert not answer.feed(b"N", None)
    assert answer.finish().text == "EN"


@given(_TEXTS, st.lists(st.integers(0, 100)), st.lists(st.integers(0, 100)))
def test_scores_go_with_the_text_their_tokens_begin_in_however_late_it_is_told(
    text: str, cuts: list[int], parts: list[int]
) -> None:
    answer, queue = AnswerText(()), ScoreQueue()
    tokens = chop(text.encode(), cuts)
    for token in tokens:
        queue.feed(answer.feed(token, score_of(token)))
    queue.feed(answer.finish())
    borders = sorted([0, len(text), *(part % (len(text) + 1) for part in parts)])
    told = [text[start:end] for start, end in itertools.pairwise(borders)]
    found = [queue.take(each) for each in told]
    rest = queue.take_rest()
    assert b"".join(s.chosen.data or b"" for one in (*found, rest) for s in one) == text.encode()


def test_a_score_is_not_told_before_its_text() -> None:
    queue = ScoreQueue()
    one, two = score_of(b"ab"), score_of(b"cd")
    queue.feed(Piece("abc", (one, two), (0, 2)))
    assert queue.take("ab") == (one,)
    assert queue.take("") == ()
    queue.feed(Piece("d"))
    assert queue.take("c") == (two,)
    assert queue.take("d") == ()
    queue.feed(Piece("", (one,), (0,)))
    assert queue.take("") == ()
    assert queue.take_rest() == (one,)
