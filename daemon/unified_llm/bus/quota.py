"""How many calls that want no reply are worth an effort.

The bus limits the calls that wait for a reply and no others, and hands us the rest in the order in
which they came: while one user sent such calls as fast as the bus took them, another waited 29
seconds for an answer, and then for none, since the bus had no room left for the question. So what
is dropped must cost us less than it costs the bus.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from unified_llm.bus.decoding import Kind
from unified_llm.bus.encoding import NO_REPLY_EXPECTED

MAX_UNANSWERED_PER_USER: Final = 64
"""Calls that want no reply, of one user, in one second; of all strangers together likewise."""

# How the field with the sender's name begins: its number, and the signature of a text.
_SENDER: Final = b"\x07\x01s\0"


class UnansweredCalls:
    """Counts calls that want no reply, second by second. now: a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until = now() + 1
        self._taken: Counter[int | None] = Counter()
        self._muted: set[bytes] = set()

    def may_take(self, uid: int | None, sender: str) -> bool:
        """Whether one more of this user is worth an effort; it counts. uid: None for a stranger."""
        self._begin_second()
        self._taken[uid] += 1
        if self._taken[uid] <= MAX_UNANSWERED_PER_USER:
            return True
        self._muted.add(sender.encode())
        return False

    def is_noise(self, header: bytes) -> bool:
        """Whether `may_take` would say no, as far as the bytes of a header tell at a glance.

        A sender may disguise its calls by other fields, and then gains a closer look at them and
        nothing else.
        """
        if not self._muted or not header[2] & NO_REPLY_EXPECTED or header[1] != Kind.CALL:
            return False
        begin = header.rfind(_SENDER) + 8
        if header[begin : header.find(b"\0", begin)] not in self._muted:
            return False
        self._begin_second()
        return bool(self._muted)

    def _begin_second(self) -> None:
        if (now := self._now()) >= self._until:
            self._until = now + 1
            self._taken.clear()
            self._muted.clear()
