"""What the daemon does of its own accord is in the audit trail, with its reason."""

import os

from tests.fakes.house import AuditTrail
from unified_llm.domain.events import ModelMoved, Move
from unified_llm.domain.models import ModelId
from unified_llm.guard.audit import Audit
from unified_llm.operations.own_moves import OwnMoves


def test_a_move_is_recorded_as_the_daemons_own_with_its_reason() -> None:
    trail = AuditTrail()
    with Audit([trail]) as audit:
        OwnMoves(audit).record(ModelMoved(ModelId("cat"), Move.MAKE_WAY, "It is full."))
        audit.settle()
    (record,) = trail.records
    assert record["UNIFIED_LLM_ACTION"] == "make-way"
    assert record["UNIFIED_LLM_OBJECT"] == "cat"
    assert record["UNIFIED_LLM_REASON"] == "It is full."
    assert record["UNIFIED_LLM_DOOR"] == "internal"
    assert record["UNIFIED_LLM_PRINCIPAL"] == f"uid:{os.getuid()}"
