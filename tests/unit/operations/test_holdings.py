"""Quotas count users, and what callers say of themselves is short and printable."""

import pytest

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.errors import InvalidRequest, RateLimited
from unified_llm.operations.holdings import MAX_TEXT, ensure_plain, ensure_within_quota

USER = Caller(1000, frozenset(), None, Door.DBUS, ":1.7")
ROOT = Caller(0, frozenset(), None, Door.DBUS, ":1.8")


def test_root_may_hold_four_times_as_much() -> None:
    ensure_within_quota(USER, 15, 16, "locks")
    ensure_within_quota(ROOT, 63, 16, "locks")
    for caller, have in ((USER, 16), (ROOT, 64)):
        with pytest.raises(RateLimited, match=f"has {have} locks; {have} is the most"):
            ensure_within_quota(caller, have, 16, "locks")


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1), "a\nb", "a\x1b[2J", "\u202egnp"])
def test_text_that_could_fool_a_reader_is_refused(text: str) -> None:
    ensure_plain(who="Ein Spiel ü 🎮")
    with pytest.raises(InvalidRequest, match="why must be 1 to 200 printable"):
        ensure_plain(who="game", why=text)
