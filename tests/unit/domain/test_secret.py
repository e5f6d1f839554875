"""A secret is used and never shown."""

import pickle
from dataclasses import dataclass

import pytest

from unified_llm.domain.secret import Secret

KEY = Secret("canary")


@dataclass
class Holder:
    key: Secret


def test_every_way_of_showing_it_shows_stars() -> None:
    shown = f"{KEY} {KEY!r} {KEY:>20} {Holder(KEY)} {[KEY]}"
    assert "canary" not in shown
    assert "****" in shown
    assert KEY.reveal() == "canary"


def test_it_is_found_in_the_words_of_others() -> None:
    assert "canary" not in KEY.redacted("the key canary is wrong, canary!")


def test_it_does_not_leave_the_process() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_nothing_is_no_secret() -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret("")
