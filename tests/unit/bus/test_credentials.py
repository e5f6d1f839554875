"""Reading what the bus says of a connection."""

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.credentials import parse_credentials
from unified_llm.domain.callers import Door
from unified_llm.domain.errors import NotPermitted


def test_uid_groups_and_pid_are_taken_as_told() -> None:
    caller = parse_credentials(
        ":1.7", {"UnixUserID": 1000, "UnixGroupIDs": [1000, 27], "ProcessID": 42, "Other": "x"}
    )
    assert (caller.uid, caller.gids, caller.pid) == (1000, frozenset({1000, 27}), 42)
    assert (caller.door, caller.connection) == (Door.DBUS, ":1.7")


def test_without_groups_the_primary_one_counts() -> None:
    uid = os.getuid()
    caller = parse_credentials(":1.7", {"UnixUserID": uid})
    assert caller.gids == {pwd.getpwuid(uid).pw_gid}
    assert caller.pid is None
    assert parse_credentials(":1.7", {"UnixUserID": 4_000_000_001}).gids == frozenset()
    assert parse_credentials(":1.7", {"UnixUserID": uid, "UnixGroupIDs": []}).gids == frozenset()


@given(
    st.dictionaries(st.sampled_from(["ProcessID", "UnixGroupIDs", "LinuxSecurityLabel"]), st.none())
)
def test_without_a_user_there_is_no_caller(answer: dict[str, object]) -> None:
    with pytest.raises(NotPermitted):
        parse_credentials(":1.7", answer)
