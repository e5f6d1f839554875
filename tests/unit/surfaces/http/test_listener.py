"""Our own socket: right from its first moment, and never somebody else's."""

import os
import socket
import stat
from pathlib import Path

import pytest

from unified_llm.domain.errors import ConfigurationError
from unified_llm.surfaces.http.listener import open_listener


def test_it_has_its_mode_and_group_and_vanishes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path, mode=0o660, gid=1234):
        found = path.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 1234)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
    assert not path.exists()


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    with open_listener(path, mode=0o600, gid=None), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_living_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path, mode=0o600, gid=None):
        with (
            pytest.raises(ConfigurationError, match="another process"),
            open_listener(path, mode=0o600, gid=None),
        ):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))


def test_a_living_daemon_with_a_full_backlog_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(os.fspath(path))
        busy.listen(0)
        waiting.connect(os.fspath(path))
        with (
            pytest.raises(ConfigurationError, match="another process"),
            open_listener(path, mode=0o600, gid=None),
        ):
            pass


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with (
        pytest.raises(ConfigurationError, match="something else"),
        open_listener(path, mode=0o600, gid=None),
    ):
        pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/api.sock", "x" * 200])
def test_a_place_that_can_not_be_listened_on_is_the_settings_fault(
    tmp_path: Path, name: str
) -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        open_listener(tmp_path / name, mode=0o600, gid=None),
    ):
        pass
    assert caught.value.problems[0].key == "socket.path"


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with open_listener(path, mode=0o600, gid=None):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(os.fspath(path))
    assert path.exists()
