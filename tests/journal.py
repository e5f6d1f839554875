"""The journal's native protocol, read as journald reads it.

systemd's docs/JOURNAL_NATIVE_PROTOCOL.md: `NAME=value` and a newline, or `NAME`, a newline, the
value's length as 64-bit little-endian, the value, and a newline.
"""

import socket
from pathlib import Path
from typing import Self

from tests.whole_daemon import PATIENCE


def parse_entry(datagram: bytes) -> dict[str, bytes]:
    """The fields of one entry. Fails on a field that occurs twice, and on anything left over."""
    fields: dict[str, bytes] = {}
    rest = datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, framed, value = line.partition(b"=")
        if not framed:
            length = int.from_bytes(rest[:8], "little")
            value, end, rest = (
                rest[8 : 8 + length],
                rest[8 + length : 9 + length],
                rest[9 + length :],
            )
            assert end == b"\n"
        assert name.decode() not in fields, f"{name!r} twice in {datagram!r}"
        fields[name.decode()] = value
    return fields


class JournalSocket:
    """Stands where journald listens. Entries are read without being parsed first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "socket"))
        self.socket.settimeout(PATIENCE)

    def read_audit(self) -> dict[str, bytes]:
        """The next audit record; other entries are passed over."""
        while True:
            entry = parse_entry(self.socket.recv(1 << 20))
            if "UNIFIED_LLM_ACTION" in entry:
                return entry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
