"""Secrets as systemd hands them over: one file each, in a directory only we can read."""

import os
import re
from pathlib import Path
from typing import Final

from unified_llm.domain.secret import Secret

DIRECTORY_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
MAX_CREDENTIAL_BYTES: Final = 64 * 1024
# A unit names this as the value of a credential whose file is not there, so that it starts at all.
UNSET: Final = "unset"

# A key goes into an HTTP header: nothing in it may end the line, or need an encoding.
_KEY: Final = re.compile(r"[\x21-\x7e]+")


class CredentialError(Exception):
    """There is no such credential, or it is of no use. The text never holds any of it."""


def read_key(directory: Path | None, name: str) -> Secret:
    """The key in the credential `name`, without the newline that ends its file.

    directory: the value of `$CREDENTIALS_DIRECTORY`; None if it is not set. Raises CredentialError.
    """
    if directory is None:
        raise CredentialError(
            f"credential {name} is missing: ${DIRECTORY_VARIABLE} is not set, "
            "as it is in a systemd unit with LoadCredential="
        )
    try:
        content = _read(directory / name)
    except FileNotFoundError as error:
        raise CredentialError(f"credential {name} is missing") from error
    except OSError as error:
        raise CredentialError(f"credential {name} can not be read: {error.strerror}") from error
    text = content.decode("ascii", errors="replace").rstrip("\r\n")
    if text == UNSET:
        raise CredentialError(f"credential {name} is missing: the file it comes from is not there")
    if not _KEY.fullmatch(text):
        raise CredentialError(
            f"credential {name} is not a key: it is empty, or holds a space, a line break or "
            "another character that no key has"
        )
    return Secret(text)


def _read(path: Path) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        return file.read(MAX_CREDENTIAL_BYTES)


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer, perhaps for ever.
    return os.open(path, flags | os.O_NONBLOCK)
