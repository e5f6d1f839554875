"""How much is logged, changed while the daemon runs."""

import logging
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.errors import InvalidRequest
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Gate

# Names of syslog, as org.freedesktop.LogControl1 has them; the others have no counterpart here.
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "crit": logging.CRITICAL,
}
_OBJECT: Final = "log-level"


@dataclass(frozen=True, slots=True)
class LogControl:
    """identifier: the name that our lines have in the journal. target: where they go."""

    gate: Gate
    identifier: str
    target: str

    @property
    def level(self) -> str:
        """The least that is logged, as one of LEVELS."""
        at_least = logging.getLogger().getEffectiveLevel()
        return next((name for name, level in LEVELS.items() if level >= at_least), "crit")

    def change(self, caller: Caller, level: str) -> None:
        """Log from `level` on, until the settings are read again.

        Raises NotPermitted, and InvalidRequest for what is none of LEVELS.
        """
        with self.gate.open_entry(caller, Action.CONFIGURE, _OBJECT):
            if level not in LEVELS:
                raise InvalidRequest(
                    f"There is no log level {level[:40]!r}.",
                    hint=f"Levels are {', '.join(LEVELS)}.",
                    parameter="LogLevel",
                )
            logging.getLogger().setLevel(LEVELS[level])
