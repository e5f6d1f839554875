"""What loads really took, kept by everything that decides it.

Functions for the store's thread: `await store.write(lambda database: record_measurement(…))`.
"""

import sqlite3
from typing import Final

import msgspec

from unified_llm.domain.measurements import Figure, MeasuredRun, Measurement
from unified_llm.domain.models import FileIdentity
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.registry.files import identity_in

# A model tried with every context and slot count has some hundred.
MAX_KEPT: Final = 10_000


def record_measurement(
    database: sqlite3.Connection, run: MeasuredRun, measured: Measurement
) -> None:
    """Keep `measured`, in place of what was measured of the same run before."""
    database.execute(
        "INSERT OR REPLACE INTO measurements (digest, run, devices, measured_at) "
        "VALUES (?, ?, ?, ?)",
        (
            run.digest,
            _circumstances(run),
            msgspec.json.encode(measured.devices, order="sorted").decode(),
            int(measured.measured_at),
        ),
    )
    database.execute(
        "DELETE FROM measurements WHERE (digest, run) IN (SELECT digest, run FROM measurements "
        "ORDER BY measured_at DESC LIMIT -1 OFFSET ?)",
        (MAX_KEPT,),
    )


def measurement_for(database: sqlite3.Connection, run: MeasuredRun) -> Measurement | None:
    """What `run` took when it was last measured; None if it never was."""
    row = database.execute(
        "SELECT devices, measured_at FROM measurements WHERE digest = ? AND run = ?",
        (run.digest, _circumstances(run)),
    ).fetchone()
    return None if row is None else _parse(*row)


def measurements_of(database: sqlite3.Connection, digest: str) -> dict[MeasuredRun, Measurement]:
    """Everything measured of the model file with this digest."""
    found = {}
    rows = database.execute(
        "SELECT run, devices, measured_at FROM measurements WHERE digest = ?", (digest,)
    )
    for run, devices, measured_at in rows:
        measured = _parse(devices, measured_at)
        parts = _parse_run(digest, run)
        if measured is not None and parts is not None:
            found[parts] = measured
    return found


def figures_by_file(
    database: sqlite3.Connection, build: str
) -> dict[FileIdentity, tuple[Figure, ...]]:
    """What was measured with this build of the engine, by the files that have been seen.

    Two files may differ in nothing but the time of their last change of any kind, which is no part
    of the identity; then the one seen last counts.
    """
    rows = database.execute(
        "SELECT f.identity, f.sha256, m.run, m.devices, m.measured_at FROM files f "
        "JOIN measurements m ON m.digest = f.sha256 ORDER BY f.seen_at, f.identity, m.run"
    )
    found: dict[FileIdentity, dict[MeasuredRun, Figure]] = {}
    for key, digest, circumstances, devices, measured_at in rows:
        run, measured = _parse_run(digest, circumstances), _parse(devices, measured_at)
        identity = identity_in(key)
        if run and measured and identity and run.build == build:
            found.setdefault(identity, {})[run] = Figure(run, measured.devices)
    return {identity: tuple(figures.values()) for identity, figures in found.items()}


def _circumstances(run: MeasuredRun) -> str:
    parts = msgspec.to_builtins(run)
    del parts["digest"]
    return msgspec.json.encode(parts, order="sorted").decode()


def _parse_run(digest: str, text: str) -> MeasuredRun | None:
    try:
        parts = msgspec.json.decode(text, type=dict[str, object])
        return msgspec.convert({**parts, "digest": digest}, MeasuredRun)
    except msgspec.MsgspecError:
        return None


def _parse(devices: str, measured_at: int) -> Measurement | None:
    try:
        found = msgspec.json.decode(devices, type=dict[str, Bytes])
    except msgspec.MsgspecError:
        return None
    return Measurement(found, Seconds(measured_at))
