from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes
from unified_llm.scheduler.effects import Generation
from unified_llm.scheduler.ledger import MemoryLedger

CAT, ONE = ModelId("cat"), Generation(1)


def test_memory_is_held_from_before_the_load_until_it_is_seen_free() -> None:
    ledger = MemoryLedger(Bytes(100))
    ledger.hold(CAT, ONE, Bytes(60))
    assert ledger.free == 40
    assert not ledger.release(CAT, ONE), "its worker lives"
    ledger.worker_gone(CAT, ONE)
    assert (ledger.committed, ledger.awaits_return) == (60, True)
    assert ledger.release(CAT, ONE)
    assert not ledger.release(CAT, ONE)
    assert (ledger.committed, ledger.awaits_return) == (0, False)


def test_a_worker_may_turn_out_larger_but_not_smaller_and_not_beyond_the_budget() -> None:
    ledger = MemoryLedger(Bytes(100))
    ledger.hold(CAT, ONE, Bytes(60))
    ledger.enlarge(CAT, ONE, Bytes(50))
    assert ledger.held(CAT, ONE) == 60
    ledger.enlarge(CAT, ONE, Bytes(70))
    assert ledger.held(CAT, ONE) == 70
    ledger.enlarge(CAT, ONE, Bytes(2**60))
    assert ledger.held(CAT, ONE) == 100
