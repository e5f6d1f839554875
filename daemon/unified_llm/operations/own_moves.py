"""What the daemon does of its own accord, written down like what others ask for."""

import os

from unified_llm.domain.callers import Caller, Door
from unified_llm.domain.events import ModelMoved
from unified_llm.domain.units import Seconds
from unified_llm.guard.audit import Audit, AuditRecord, Outcome
from unified_llm.operations.gate import new_request_id


class OwnMoves:
    """Records models that make way for other programs, and come back.

    It is not asked whether the audit log takes records: the memory is wanted now.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._daemon = Caller(
            uid=os.getuid(),
            gids=frozenset(os.getgroups()),
            pid=os.getpid(),
            door=Door.INTERNAL,
            connection="scheduler",
        )

    def record(self, moved: ModelMoved) -> None:
        """Write it down. Returns at once."""
        self._audit.record(
            AuditRecord(
                caller=self._daemon,
                action=moved.move,
                object=moved.model,
                request=new_request_id(),
                outcome=Outcome.DONE,
                duration=Seconds(0),
                reason=moved.why,
            )
        )
