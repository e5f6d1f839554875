"""Where log lines go: journald with its fields if it listens, else standard error."""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

from systemd import journal

from unified_llm.guard.audit import AuditDevice, JournalDevice, StderrDevice

IDENTIFIER: Final = "unified-llmd"

# C0, DEL, C1 and the bidirectional controls could forge lines or fool the eye on a terminal
# (CVE-2009-4487); a log line keeps its one line.
_ESCAPED = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def is_under_journald(environment: Mapping[str, str]) -> bool:
    """Whether standard error is connected to the journal, as systemd.exec(5) says to find out."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class _LineFormatter(logging.Formatter):
    """One escaped line for a record; a trace, if there is one, follows it indented."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname.lower()}: {record.name}: {record.getMessage()}"
        line = line.translate(_ESCAPED)
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {part.translate(_ESCAPED)}" for part in trace.splitlines())
        return line


def configure_logs(level: str, environment: Mapping[str, str]) -> AuditDevice:
    """Send the whole process's log lines to the right place, and name the audit's device.

    level: debug, info, warning or error.
    """
    device: AuditDevice
    if is_under_journald(environment):
        handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER=IDENTIFIER)
        device = JournalDevice()
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_LineFormatter())
        device = StderrDevice()
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return device


def set_level(level: str) -> None:
    """Change how much is logged: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
