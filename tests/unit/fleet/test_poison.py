from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fleet.asking import request
from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import Quarantined
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Instant, Seconds, Tokens
from unified_llm.fleet.poison import (
    CHARGES_ALLOWED,
    MAX_REMEMBERED,
    REFUSED_FOR,
    REMEMBERED_FOR,
    Quarantine,
)

KEY = b"k" * 32


def is_refused(quarantine: Quarantine, fingerprint: bytes, now: float) -> bool:
    try:
        quarantine.ensure_allowed(fingerprint, Instant(now))
    except Quarantined:
        return True
    return False


def test_one_death_may_be_an_accident() -> None:
    quarantine = Quarantine(KEY)
    quarantine.charge(b"a", Instant(0))
    assert not is_refused(quarantine, b"a", 0)


def test_the_second_death_quarantines_and_says_for_how_long() -> None:
    quarantine = Quarantine(KEY)
    quarantine.charge(b"a", Instant(0))
    quarantine.charge(b"a", Instant(10))
    with pytest.raises(Quarantined) as refusal:
        quarantine.ensure_allowed(b"a", Instant(110))
    assert refusal.value.retry_after == Seconds(500)
    assert not is_refused(quarantine, b"b", 110)


def test_quarantine_ends_on_probation() -> None:
    quarantine = Quarantine(KEY)
    for moment in (0, 1):
        quarantine.charge(b"a", Instant(moment))
    assert not is_refused(quarantine, b"a", 1 + REFUSED_FOR)
    quarantine.charge(b"a", Instant(700))
    assert is_refused(quarantine, b"a", 701)


def test_old_charges_are_forgotten() -> None:
    quarantine = Quarantine(KEY)
    quarantine.charge(b"a", Instant(0))
    quarantine.charge(b"a", Instant(REMEMBERED_FOR))
    assert not is_refused(quarantine, b"a", REMEMBERED_FOR)


def test_a_flood_of_deaths_takes_a_bounded_amount_of_memory() -> None:
    quarantine = Quarantine(KEY)
    for number in range(MAX_REMEMBERED + 500):
        for _ in range(CHARGES_ALLOWED):
            quarantine.charge(number.to_bytes(4, "big"), Instant(0))
    refused = sum(
        is_refused(quarantine, number.to_bytes(4, "big"), 1)
        for number in range(MAX_REMEMBERED + 500)
    )
    assert refused == MAX_REMEMBERED


def test_the_fingerprint_tells_apart_what_reaches_the_engine() -> None:
    quarantine = Quarantine(KEY)
    base = request("hello")
    others = [
        request("hello "),
        request("hello", model=ModelId("other")),
        replace(base, sampling=Sampling(temperature=0.5)),
        replace(base, messages=base.messages * 2),
    ]
    prints = {quarantine.fingerprint(each) for each in [base, *others]}
    assert len(prints) == 5
    assert quarantine.fingerprint(replace(base, max_tokens=Tokens(7))) in prints


def test_another_daemon_run_has_other_fingerprints() -> None:
    assert Quarantine(KEY).fingerprint(request()) != Quarantine(b"x" * 32).fingerprint(request())


@given(st.lists(st.floats(0, 2000), max_size=12).map(sorted), st.floats(0, 3000))
def test_nobody_is_refused_longer_than_stated_after_the_last_death(
    deaths: list[float], wait: float
) -> None:
    quarantine = Quarantine(KEY)
    for moment in deaths:
        quarantine.charge(b"a", Instant(moment))
    now = (deaths[-1] if deaths else 0.0) + wait
    assert is_refused(quarantine, b"a", now) == (
        len(deaths) >= CHARGES_ALLOWED and deaths[-1] + REFUSED_FOR - now > 0
    )
