"""What a model thinks before it answers, told apart from what it says.

Thoughts come first, between two tags, or not at all; a tag later in the answer is text. The white
space around the tags belongs to neither.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands before the thoughts, and what after them."""

    opening: str
    closing: str


KNOWN_TAGS: Final = (
    Tags("<think>", "</think>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
)


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks. is_open: its prompt ends with the opening tag."""

    tags: Tags
    is_open: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """Text of one kind, not empty."""

    text: str
    is_thought: bool


def tags_of(template: str) -> Tags | None:
    """The tags that a chat template knows; None if it knows none of ours."""
    return next((tags for tags in KNOWN_TAGS if tags.closing in template), None)


class ThoughtSplitter:
    """Splits an answer as it comes, however it is cut. None for a model that does not think."""

    def __init__(self, thinking: Thinking | None) -> None:
        self._tags = thinking.tags if thinking else Tags("", "")
        self._is_thinking = thinking is not None and thinking.is_open
        self._may_think = thinking is not None and not thinking.is_open
        self._is_at_start = self._is_thinking
        self._held = ""

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is a thought, as far as is known."""
        return self._is_thinking

    @property
    def is_saying(self) -> bool:
        """Whether all that comes is text, nothing being held back."""
        return not (self._is_thinking or self._may_think or self._is_at_start)

    def feed(self, text: str) -> list[Passage]:
        """What is known for sure now."""
        text, self._held = self._held + text, ""
        found: list[Passage] = []
        if self._may_think:
            text = self._open(text)
        if self._is_thinking:
            text = self._think(text, found)
        if text and not self._is_thinking:
            text = self._trimmed(text)
            found += [Passage(text, is_thought=False)] if text else []
        return found

    def finish(self) -> list[Passage]:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        is_thought = self._is_thinking
        self._is_thinking = self._may_think = False
        held = held.rstrip() if is_thought else held
        return [Passage(held, is_thought)] if held else []

    def _open(self, text: str) -> str:
        """What is left after an opening tag, or all of it; nothing while that is not known."""
        start = text.lstrip()
        if self._tags.opening.startswith(start):
            self._may_think = start != self._tags.opening
            self._is_thinking = self._is_at_start = not self._may_think
            self._held = text if self._may_think else ""
            return ""
        self._may_think = False
        if start.startswith(self._tags.opening):
            self._is_thinking = self._is_at_start = True
            return start[len(self._tags.opening) :]
        return text

    def _think(self, text: str, found: list[Passage]) -> str:
        """What is left after the closing tag."""
        text = self._trimmed(text)
        thought, closing, rest = text.partition(self._tags.closing)
        if closing:
            self._is_thinking, self._is_at_start = False, True
            thought = thought.rstrip()
        else:
            kept = _certain(text, self._tags.closing)
            thought, self._held = text[:kept], text[kept:]
        found += [Passage(thought, is_thought=True)] if thought else []
        return rest

    def _trimmed(self, text: str) -> str:
        if self._is_at_start:
            text = text.lstrip()
            self._is_at_start = not text
        return text


def _certain(text: str, closing: str) -> int:
    """Where what may be the white space before a closing tag begins, or the tag itself."""
    for length in range(min(len(closing) - 1, len(text)), 0, -1):
        if closing.startswith(text[-length:]):
            return len(text[:-length].rstrip())
    return len(text.rstrip())


def tag_bytes(thinking: Thinking | None) -> dict[str, bytes]:
    """The bytes of each tag, for models whose tags are control tokens, which stand for none."""
    tags = (thinking.tags.opening, thinking.tags.closing) if thinking else ()
    return {tag: tag.encode() for tag in tags}
