"""What the house is built from."""

from dataclasses import dataclass
from pathlib import Path

from unified_llm.app.strategies import Strategies
from unified_llm.guard.audit import AuditDevice
from unified_llm.host.activation import InheritedSockets
from unified_llm.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What the house is built from.

    device: where the audit log goes. registry: the database; None keeps everything in memory.
    credentials: `$CREDENTIALS_DIRECTORY`; None if it is not set.
    pressure: where the kernel may tell of memory pressure, the best first.
    strategies: those of somebody else's that the settings name.
    """

    settings: Settings
    device: AuditDevice
    inherited: InheritedSockets
    version: str
    registry: Path | None
    credentials: Path | None
    pressure: tuple[Path, ...]
    strategies: Strategies
