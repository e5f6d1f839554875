"""Keys are read from systemd's credentials, and told apart from what is none."""

import os
from pathlib import Path

import pytest

from unified_llm.settings.credentials import CredentialError, read_key


@pytest.mark.parametrize("content", [b"sk-1", b"sk-1\n", b"sk-1\r\n"])
def test_a_key_is_the_file_without_the_end_of_its_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "deepseek").write_bytes(content)
    assert read_key(tmp_path, "deepseek").reveal() == "sk-1"


def test_no_directory_of_credentials_is_told() -> None:
    with pytest.raises(CredentialError, match=r"deepseek is missing: \$CREDENTIALS_DIRECTORY"):
        read_key(None, "deepseek")


def test_no_such_credential_is_told(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="deepseek is missing"):
        read_key(tmp_path, "deepseek")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"unset", b"two words", b"a\nb", b"canary\0", "schlüssel".encode(), b"a\r\nX: y"],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(CredentialError) as caught:
        read_key(tmp_path, "k")
    assert "canary" not in str(caught.value)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("k", "pipe"):
        with pytest.raises(CredentialError):
            read_key(tmp_path, name)
