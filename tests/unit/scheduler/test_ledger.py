from tests.unit.scheduler.scenario import GIB
from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading, ProcessMemory
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant
from unified_llm.scheduler.effects import Generation
from unified_llm.scheduler.ledger import MemoryLedger
from unified_llm.scheduler.policy import SchedulingPolicy

CAT, DOG, ONE = ModelId("cat"), ModelId("dog"), Generation(1)
GPU = DeviceId("fake:0")


def make_ledger(budget: int = 100) -> MemoryLedger:
    return MemoryLedger(SchedulingPolicy(ram_budget=Bytes(budget), fill_share=0.85))


def ram(size: int) -> dict[DeviceId, Bytes]:
    return {RAM: Bytes(size)}


def gpu(size: int) -> dict[DeviceId, Bytes]:
    return {GPU: Bytes(size)}


def reading(
    used: int, *processes: tuple[int, int], at: float = 0, total: int = 100
) -> MemoryReading:
    shown = tuple(ProcessMemory(pid, Bytes(size)) for pid, size in processes) or None
    return MemoryReading(Instant(at), (DeviceMemory(GPU, "GPU", Bytes(total), Bytes(used), shown),))


def test_memory_is_held_from_before_the_load_until_it_is_seen_free() -> None:
    ledger = make_ledger()
    ledger.hold(CAT, ONE, ram(60))
    assert (ledger.has_room(ram(40)), ledger.has_room(ram(41))) == (True, False)
    assert not ledger.ram_returned(CAT, ONE), "its worker lives"
    ledger.worker_gone(CAT, ONE, Instant(1))
    assert (ledger.committed(), ledger.awaits_return) == (60, True)
    assert ledger.ram_returned(CAT, ONE)
    assert not ledger.ram_returned(CAT, ONE)
    assert (ledger.committed(), ledger.awaits_return) == (0, False)


def test_a_worker_may_turn_out_larger_but_not_smaller_and_not_beyond_the_budget() -> None:
    ledger = make_ledger()
    ledger.hold(CAT, ONE, ram(60))
    ledger.enlarge(CAT, ONE, ram(50))
    assert ledger.held(CAT, ONE) == ram(60)
    ledger.enlarge(CAT, ONE, ram(70))
    assert ledger.held(CAT, ONE) == ram(70)
    ledger.enlarge(CAT, ONE, ram(2**60))
    assert ledger.held(CAT, ONE) == ram(100)


def test_a_gpu_may_be_filled_up_to_its_share_less_what_others_hold() -> None:
    ledger = make_ledger()
    assert (ledger.gpus, ledger.limit(GPU)) == ((), 0)
    ledger.observe(reading(20), {})
    assert (ledger.gpus, ledger.limit(GPU), ledger.foreign(GPU)) == ((GPU,), 65, 20)


def test_what_our_workers_hold_is_not_foreign_whether_shown_or_not() -> None:
    ledger = make_ledger()
    ledger.hold(CAT, ONE, gpu(30))
    ledger.hold(DOG, ONE, gpu(20))
    for model in (CAT, DOG):
        ledger.enlarge(model, ONE, {})
    ledger.observe(reading(60), {(CAT, ONE): 7, (DOG, ONE): 8})
    assert ledger.foreign(GPU) == 10
    ledger.observe(reading(60, (7, 35), (99, 5)), {(CAT, ONE): 7, (DOG, ONE): 8})
    assert ledger.foreign(GPU) == 5, "60 in use, 35 shown of the cat, 20 held by the dog"
    ledger.observe(reading(60, (7, 35), (8, 20)), {(CAT, ONE): 7, (DOG, ONE): 8})
    assert ledger.foreign(GPU) == 5


def test_a_load_in_progress_does_not_hide_what_others_hold() -> None:
    ledger = make_ledger()
    ledger.observe(reading(20), {})
    ledger.hold(CAT, ONE, gpu(40))
    ledger.observe(reading(25), {(CAT, ONE): 7})
    assert ledger.foreign(GPU) == 20, "5 of the 40 are there, not 25"


def test_a_reading_begun_after_the_end_frees_what_was_held() -> None:
    ledger = make_ledger()
    ledger.hold(CAT, ONE, gpu(40))
    ledger.worker_gone(CAT, ONE, Instant(5))
    assert not ledger.ram_returned(CAT, ONE), "the GPU's memory is to be seen free"
    assert ledger.observe(reading(40, at=4.9), {}) == ()
    assert ledger.committed(GPU) == 40
    assert ledger.observe(reading(40, at=5), {}) == (), "it is still there"
    assert (ledger.committed(GPU), ledger.foreign(GPU)) == (40, 0)
    assert ledger.observe(reading(3, at=6), {}) == ((CAT, ONE),)
    assert (ledger.committed(GPU), ledger.foreign(GPU)) == (0, 3)


def test_what_is_never_seen_free_is_somebody_elses_in_the_end() -> None:
    ledger = make_ledger()
    ledger.hold(CAT, ONE, gpu(40))
    ledger.worker_gone(CAT, ONE, Instant(5))
    assert ledger.release(CAT, ONE)
    ledger.observe(reading(40, at=9), {})
    assert (ledger.foreign(GPU), ledger.limit(GPU)) == (40, 45)


def test_main_memory_is_the_budget_or_less_if_others_need_it() -> None:
    ledger = make_ledger(8 * GIB)
    device = DeviceMemory(RAM, "RAM", Bytes(16 * GIB), Bytes(2 * GIB), ())
    ledger.observe(MemoryReading(Instant(0), (device,)), {})
    assert ledger.limit(RAM) == 8 * GIB
    device = DeviceMemory(RAM, "RAM", Bytes(16 * GIB), Bytes(12 * GIB), ())
    ledger.observe(MemoryReading(Instant(0), (device,)), {})
    assert GIB < ledger.limit(RAM) < 2 * GIB


def test_a_device_that_does_not_tell_is_not_used_and_a_lost_one_neither() -> None:
    ledger = make_ledger()
    silent = DeviceMemory(GPU, "GPU", None, None)
    ledger.observe(MemoryReading(Instant(0), (silent,)), {})
    assert (ledger.gpus, ledger.why_no_gpu) == ((), None)
    ledger.observe(MemoryReading(Instant(0), (), faults=("The GPU is lost.",)), {})
    assert (ledger.gpus, ledger.why_no_gpu) == ((), "The GPU is lost.")


def test_an_engine_that_sees_no_gpu_ends_their_use() -> None:
    ledger = make_ledger()
    ledger.observe(reading(0), {})
    ledger.disable_gpus("The engine sees none.")
    assert (ledger.gpus, ledger.why_no_gpu) == ((), "The engine sees none.")
