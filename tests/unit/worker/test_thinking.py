"""Thoughts and text are told apart wherever the answer is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.worker.thinking import (
    KNOWN_TAGS,
    Passage,
    Tags,
    Thinking,
    ThoughtSplitter,
    tags_of,
)

TAGS = KNOWN_TAGS[0]
CLOSED, OPEN = Thinking(TAGS, is_open=False), Thinking(TAGS, is_open=True)


def split(thinking: Thinking | None, pieces: list[str]) -> tuple[str, str]:
    """The thoughts and the text of an answer that comes in `pieces`."""
    splitter = ThoughtSplitter(thinking)
    passages: list[Passage] = []
    for piece in pieces:
        passages += splitter.feed(piece)
    passages += splitter.finish()
    assert all(passage.text for passage in passages)
    kinds = [passage.is_thought for passage in passages]
    assert kinds == sorted(kinds, reverse=True)  # no thought after the first text
    thoughts = "".join(each.text for each in passages if each.is_thought)
    return thoughts, "".join(each.text for each in passages if not each.is_thought)


ANSWERS = [
    (CLOSED, "<think>\nHm, </ is no end.\n</think>\n\nYes.", ("Hm, </ is no end.", "Yes.")),
    (CLOSED, "\n<think></think>Yes.", ("", "Yes.")),
    (CLOSED, "Yes. <think>No</think>", ("", "Yes. <think>No</think>")),
    (CLOSED, "<thing>", ("", "<thing>")),
    (CLOSED, "<thi", ("", "<thi")),
    (CLOSED, "<think>cut off </thi", ("cut off </thi", "")),
    (CLOSED, "  text", ("", "  text")),
    (CLOSED, "", ("", "")),
    (OPEN, "\nHm.</think>Yes. </think>", ("Hm.", "Yes. </think>")),
    (OPEN, "cut off\n\n", ("cut off", "")),
    (OPEN, "<<</think>\n", ("<<", "")),
    (None, "<think>a</think>", ("", "<think>a</think>")),
]


@pytest.mark.parametrize(("thinking", "answer", "expected"), ANSWERS)
def test_an_answer_is_split_alike_at_every_cut(
    thinking: Thinking | None, answer: str, expected: tuple[str, str]
) -> None:
    assert split(thinking, [answer]) == expected
    assert split(thinking, list(answer)) == expected
    for cut in range(len(answer)):
        assert split(thinking, [answer[:cut], answer[cut:]]) == expected


@given(
    pieces=st.lists(st.text(st.sampled_from("<>/think \nx"), max_size=5)),
    tagged=st.booleans(),
    is_open=st.booleans(),
)
def test_pieces_of_any_size_give_what_the_whole_gives(
    pieces: list[str], tagged: bool, is_open: bool
) -> None:
    pieces = ["<think>", *pieces, "</think>", *pieces] if tagged else pieces
    thinking = Thinking(TAGS, is_open)
    assert split(thinking, pieces) == split(thinking, ["".join(pieces)])


def test_text_of_a_model_that_does_not_think_is_never_held_back() -> None:
    splitter = ThoughtSplitter(None)
    assert splitter.is_saying
    assert splitter.feed("<thi") == [Passage("<thi", is_thought=False)]


@pytest.mark.parametrize("tags", KNOWN_TAGS)
def test_a_template_shows_its_tags(tags: Tags) -> None:
    assert tags_of(f"{{{{ '{tags.opening}' }}}} {tags.closing}") == tags
    assert tags_of("{{ messages }}") is None
