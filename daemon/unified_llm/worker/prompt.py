"""From markup and text to tokens, so that text can never become a special token.

Text between two special tokens is tokenised as one run, whether template or person wrote it, since
tokenisers treat borders in their own ways; only what the template itself wrote is searched for
special tokens. If a run yields a special token all the same (tokenisers always recognise tokens
that a model declares as user-defined), it is cut inside that token's text and tokenised again.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, Protocol

from unified_llm.domain.errors import InvalidRequest
from unified_llm.grammar.calls import CallForm
from unified_llm.worker.placeholders import Part
from unified_llm.worker.thinking import Thinking

_MAX_ROUNDS: Final = 8


class Vocabulary(Protocol):
    """What has to be known of a tokeniser."""

    @property
    def leading_token(self) -> int | None:
        """The token each prompt begins with; None if it has none."""

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of `text`, with nothing added."""

    def text_of(self, token: int) -> str:
        """A token as it is written in markup."""

    def is_special(self, token: int) -> bool:
        """Whether the token has a meaning beyond its text, such as the beginning of a turn."""

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""

    def strips(self, token: int) -> tuple[bool, bool]:
        """Whether a special token swallows the white space before it, and after it."""


def encode_prompt(
    parts: Sequence[Part], vocabulary: Vocabulary, images: Sequence[Sequence[int]] = ()
) -> list[int]:
    """The tokens of a rendered conversation. Raises InvalidRequest.

    images: what stands for each image of the conversation.
    """
    tokens: list[int] = []
    run = ""
    for part in parts:
        if part.image is not None:
            tokens += [*encode_text(run, vocabulary), *images[part.image]]
            run = ""
            continue
        pieces = _split_markup(part.text, vocabulary) if part.is_markup else iter((part.text,))
        for piece in pieces:
            if isinstance(piece, str):
                run += piece
                continue
            if vocabulary.strips(piece)[0]:
                run = run.rstrip()
            tokens += encode_text(run, vocabulary)
            tokens.append(piece)
            run = ""
    tokens += encode_text(run, vocabulary)
    leading = vocabulary.leading_token
    if leading is not None and tokens[:1] != [leading]:
        tokens.insert(0, leading)
    return tokens


def begun_parts(begun: str, thinking: Thinking | None) -> tuple[Part, ...]:
    """What follows the prompt where the answer has begun already: its thinking is over."""
    if not begun:
        return ()
    closing = f"\n\n{thinking.tags.closing}\n\n" if thinking and thinking.is_open else ""
    return Part(closing, is_markup=True), Part(begun, is_markup=False)


def encode_text(text: str, vocabulary: Vocabulary) -> list[int]:
    """Tokens of `text`, none of them special. Raises InvalidRequest if that cannot be done."""
    cuts = {0, len(text)}
    for _ in range(_MAX_ROUNDS):
        tokens = [
            token
            for start, end in pairwise(sorted(cuts))
            for token in vocabulary.tokenise(text[start:end], parse_special=False)
        ]
        special = {token for token in tokens if vocabulary.is_special(token)}
        if not special:
            return tokens
        cuts |= {cut for token in special for cut in _cuts_inside(text, vocabulary.text_of(token))}
    raise InvalidRequest(
        "A message contains text that this model's tokeniser takes for its own markup.",
        hint="Leave out what looks like the markers of a chat template.",
        parameter="messages",
    )


def known_form(
    form: CallForm | None, vocabulary: Vocabulary
) -> tuple[CallForm | None, dict[str, bytes]]:
    """`form`, and the texts of its special tokens, which a tokeniser leaves out of what is said.

    None if a token that ends answers is a part of it: nothing would come after that.
    """
    if form is None:
        return None, {}
    tokens = set(vocabulary.tokenise("".join(form.texts), parse_special=True))
    if any(vocabulary.is_end(token) for token in tokens):
        return None, {}
    texts = (vocabulary.text_of(token) for token in tokens if vocabulary.is_special(token))
    return form, {text: text.encode() for text in texts}


def _cuts_inside(text: str, marker: str) -> Iterator[int]:
    if len(marker) < 2:
        return
    found = text.find(marker)
    while found >= 0:
        yield found + 1
        found = text.find(marker, found + 1)


def _split_markup(text: str, vocabulary: Vocabulary) -> Iterator[str | int]:
    """Markup as plain text and special tokens, in order."""
    position = 0
    for token in vocabulary.tokenise(text, parse_special=True):
        if not vocabulary.is_special(token):
            continue
        marker = vocabulary.text_of(token)
        found = text.find(marker, position)
        if found < 0:
            continue
        yield text[position:found]
        yield token
        position = found + len(marker)
        if vocabulary.strips(token)[1]:
            position += len(text[position:]) - len(text[position:].lstrip())
    yield text[position:]
