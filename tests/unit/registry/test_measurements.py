"""registry.measurements."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.measurements import MeasuredRun, Measurement
from unified_llm.domain.units import Bytes, Seconds, Tokens
from unified_llm.registry import measurements as module
from unified_llm.registry.database import open_or_rebuild
from unified_llm.registry.measurements import (
    measurement_for,
    measurements_of,
    record_measurement,
)

RUN = MeasuredRun("ab" * 32, Tokens(4096), 4, "f16", 512, (), "llama 0.3.36")
TOOK = Measurement({"ram": Bytes(5), "GPU 0": Bytes(7)}, Seconds(1_700_000_000))


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = open_or_rebuild(None, Seconds(0)).connection
    yield connection
    connection.close()


def test_a_measurement_is_found_by_everything_that_decides_it(database: sqlite3.Connection) -> None:
    others = [
        replace(RUN, digest="cd" * 32),
        replace(RUN, context_tokens=Tokens(4097)),
        replace(RUN, slots=3),
        replace(RUN, cache_type="q8_0"),
        replace(RUN, step_tokens=1024),
        replace(RUN, gpu_layers=(30,)),
        replace(RUN, build="llama 0.3.37"),
    ]
    record_measurement(database, RUN, TOOK)
    assert measurement_for(database, RUN) == TOOK
    assert [measurement_for(database, other) for other in others] == [None] * 7
    for number, other in enumerate(others):
        record_measurement(database, other, replace(TOOK, devices={"ram": Bytes(number)}))
    assert measurement_for(database, RUN) == TOOK
    assert measurements_of(database, others[0].digest).keys() == {others[0]}
    assert measurements_of(database, RUN.digest).keys() == {RUN, *others[1:]}


def test_the_latest_figure_counts(database: sqlite3.Connection) -> None:
    record_measurement(database, RUN, TOOK)
    later = Measurement({"ram": Bytes(6)}, Seconds(TOOK.measured_at + 1))
    record_measurement(database, RUN, later)
    assert measurements_of(database, RUN.digest) == {RUN: later}


def test_the_oldest_are_forgotten(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    for slots in range(1, 6):
        run = replace(RUN, slots=slots)
        record_measurement(database, run, replace(TOOK, measured_at=Seconds(slots)))
    assert sorted(run.slots for run in measurements_of(database, RUN.digest)) == [3, 4, 5]


@given(text=st.text(max_size=20))
def test_a_damaged_row_is_no_measurement(text: str) -> None:
    database = open_or_rebuild(None, Seconds(0)).connection
    record_measurement(database, RUN, TOOK)
    text = text.replace("\0", "").encode(errors="replace").decode()
    database.execute("UPDATE measurements SET devices = ?", (f"[{text}",))
    assert measurement_for(database, RUN) is None
    assert measurements_of(database, RUN.digest) == {}
    database.execute("UPDATE measurements SET run = ?", (f"[{text}",))
    assert measurements_of(database, RUN.digest) == {}
    database.close()
