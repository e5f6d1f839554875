"""The machine's clocks."""

import time

import pytest

from unified_llm.host import clock


@pytest.mark.parametrize(
    ("zone", "minute"), [("UTC0", 22 * 60 + 13), ("IST-5:30", 3 * 60 + 43), ("EST5", 17 * 60 + 13)]
)
def test_minutes_are_those_of_the_machines_time_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, minute: int
) -> None:
    monkeypatch.setattr(clock, "unix_time", lambda: 1_700_000_000.0)  # 22:13:20 UTC
    with monkeypatch.context() as changed:
        changed.setenv("TZ", zone)
        time.tzset()
        found = clock.minute_of_day()
    time.tzset()
    assert found == minute
