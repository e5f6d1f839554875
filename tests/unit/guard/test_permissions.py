"""The table of who may what."""

from dataclasses import replace

import pytest

from unified_llm.domain.callers import Caller, Door, Grant
from unified_llm.domain.errors import NotPermitted
from unified_llm.guard.permissions import GRANTED_TO, Action, Permissions, Role

DAEMON, USERS, ADMINS = 990, 991, 992
permissions = Permissions(daemon_uid=DAEMON, user_gid=USERS, admin_gid=ADMINS)


def caller(uid: int, *gids: int) -> Caller:
    return Caller(uid=uid, gids=frozenset(gids), pid=None, door=Door.DBUS, connection=":1.1")


ROOT = caller(0, 0)
OWN = caller(DAEMON, DAEMON)
USER = caller(1000, 1000, USERS)
ADMIN = caller(1001, 1001, ADMINS)
STRANGER = caller(1002, 1002)

MATRIX = {
    Action.READ: {ROOT, OWN, USER, ADMIN, STRANGER},
    Action.GENERATE: {ROOT, OWN, USER},
    Action.EMBED: {ROOT, OWN, USER},
    Action.RERANK: {ROOT, OWN, USER},
    Action.LOAD_MODEL: {ROOT, ADMIN},
    Action.UNLOAD_MODEL: {ROOT, ADMIN},
    Action.SCAN_MODELS: {ROOT, ADMIN},
    Action.IMPORT_MODEL: {ROOT, ADMIN},
    Action.REMOVE_MODEL: {ROOT, ADMIN},
    Action.MANAGE_JOBS: {ROOT, ADMIN},
    Action.RESERVE_VRAM: {ROOT, ADMIN},
    Action.INHIBIT: {ROOT, ADMIN},
    Action.CONFIGURE: {ROOT, ADMIN},
    Action.RELOAD: {ROOT, ADMIN},
}


@pytest.mark.parametrize("action", Action)
def test_each_action_is_granted_to_exactly_these(action: Action) -> None:
    everyone = {ROOT, OWN, USER, ADMIN, STRANGER}
    assert {who for who in everyone if permissions.may(who, action, "x")} == MATRIX[action]


def test_every_action_has_a_row() -> None:
    assert set(GRANTED_TO) == set(Action)


def test_without_the_groups_nobody_is_in_them() -> None:
    bare = Permissions(daemon_uid=DAEMON, user_gid=None, admin_gid=None)
    assert bare.roles_of(USER) == {Role.ANYONE}


def test_a_refusal_says_who_may() -> None:
    with pytest.raises(NotPermitted) as refusal:
        permissions.ensure_may(STRANGER, Action.LOAD_MODEL, "tiny")
    assert "uid 1002 may not load model" in refusal.value.message
    assert "root, group unified-llm-admin" in refusal.value.hint


@pytest.mark.parametrize("action", [Action.GENERATE, Action.EMBED, Action.RERANK])
def test_leave_to_generate_is_leave_to_ask_a_model_anything(action: Action) -> None:
    granted = replace(STRANGER, grants=frozenset({Grant("generate", "tiny")}))
    assert permissions.may(granted, action, "tiny")
    assert not permissions.may(granted, action, "other")
