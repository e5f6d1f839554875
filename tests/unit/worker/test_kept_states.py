"""What a worker keeps: bounded, dropped when told, and never in the way of an answer."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from tests.fakes.state_daemon import FakeStateDaemon
from unified_llm.worker.state_channel import MAX_PRINCIPAL_CHARACTERS, SEALS
from unified_llm.worker.state_file import file_bytes

_ME = "uid:1"


class ByteMemory:
    """A model that remembers bytes."""

    context_tokens = 100

    def __init__(self) -> None:
        self.slots: dict[int, bytes] = {}
        self.can_save = True

    def state_bytes(self, slot: int) -> int:
        return len(self.slots[slot])

    def save_state(self, slot: int, room: memoryview) -> bool:
        room[:] = self.slots[slot]
        return self.can_save

    def restore_state(self, slot: int, state: memoryview) -> bool:
        self.slots[slot] = bytes(state)
        return True


@pytest.fixture
def daemon() -> Iterator[FakeStateDaemon]:
    daemon = FakeStateDaemon()
    yield daemon
    daemon.close()


@pytest.fixture
def memory() -> ByteMemory:
    memory = ByteMemory()
    memory.slots = {0: b"zero", 1: b"one"}
    return memory


def test_what_was_kept_of_one_adapter_is_offered_to_that_one_only(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, [1, 2, 3], "law")
        states.keep(memory, 1, _ME, [1, 2])
        states.close()
    with daemon.open_states() as states:
        states.take_delivered(memory)
        found = [states.index.best(_ME, [1, 2, 3, 4], each) for each in (None, "law", "poetry")]
        assert [None if each is None else each.tokens for each in found] == [2, 3, None]
        states.close()


def test_what_one_worker_keeps_the_next_restores(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, [1, 2, 3])
        states.close()
    with daemon.open_states() as states:
        states.take_delivered(memory)
        offer = states.index.best(_ME, [1, 2, 3, 4])
        assert offer is not None
        assert states.restore(memory, 5, offer)
        assert memory.slots[5] == b"zero"
        states.used(offer)
        assert states.index.best(_ME, [1, 2, 3, 4]) is None
        states.close()
    assert daemon.kept == {}


def test_a_state_that_served_a_little_stays(daemon: FakeStateDaemon, memory: ByteMemory) -> None:
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, list(range(10)))
        offer = states.index.best(_ME, [0, 1, 99])
        assert offer is not None
        assert states.restore(memory, 1, offer)
        states.used(offer)
        assert states.index.best(_ME, [0, 1, 99]) == offer
        states.close()
    assert [each.is_spent for each in daemon.restored] == [False]
    assert len(daemon.kept) == 1


@pytest.mark.parametrize("room", [0, 1])
def test_a_state_that_is_too_large_is_not_kept(
    room: int, daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states(file_bytes(3, len(b"zero")) - 1 + room) as states:
        states.keep(memory, 0, _ME, [1, 2, 3])
        states.close()
    assert len(daemon.kept) == room


def test_what_is_kept_already_is_not_kept_again(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, [1, 2])
        states.keep(memory, 0, _ME, [1, 2, 3])
        states.keep(memory, 1, _ME, [1, 2])
        states.close()
    assert len(daemon.kept) == 1
    assert [each.is_spent for each in daemon.restored] == [True]


def test_what_the_model_cannot_save_is_not_kept(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        memory.can_save = False
        states.keep(memory, 0, _ME, [1, 2])
        memory.can_save, memory.slots[0] = True, b""
        states.keep(memory, 0, _ME, [1, 2])
        states.keep(memory, 1, "p" * (MAX_PRINCIPAL_CHARACTERS + 1), [1, 2])
    assert daemon.kept == {}


def test_a_state_that_makes_no_sense_is_neither_used_nor_held(
    daemon: FakeStateDaemon, memory: ByteMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    lie = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.write(lie, bytes(100))
    fcntl.fcntl(lie, fcntl.F_ADD_SEALS, SEALS)
    daemon.kept[1] = (_ME, lie)
    with daemon.open_states() as states:
        states.take_delivered(memory)
        assert len(states.index) == 0
    assert "not used" in capsys.readouterr().err


def test_a_daemon_that_is_gone_is_no_reason_to_stop(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        pass
    states.take_delivered(memory)
    states.keep(memory, 0, _ME, [1, 2])
    assert len(states.index) == 0


def test_no_more_states_are_held_than_descriptors_can_be_spared_for(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        for number in range(70):
            states.keep(memory, 0, _ME, [number, number])
        assert len(states.index) == 64
        assert not states.index.covers(_ME, [5, 5])
        states.close()
    assert len(daemon.kept) == 70


def test_a_state_that_was_dropped_between_the_offer_and_its_use_is_not_restored(
    daemon: FakeStateDaemon, memory: ByteMemory
) -> None:
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, [1, 2])
        offer = states.index.best(_ME, [1, 2, 3])
        assert offer is not None
        states.drop(offer.state)
        states.drop(offer.state)
        assert not states.restore(memory, 1, offer)


def test_a_model_that_refuses_a_state_is_not_offered_it_again(
    daemon: FakeStateDaemon, memory: ByteMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "restore_state", lambda slot, state: False)
    with daemon.open_states() as states:
        states.keep(memory, 0, _ME, [1, 2])
        offer = states.index.best(_ME, [1, 2, 3])
        assert offer is not None
        assert not states.restore(memory, 1, offer)
        assert states.index.best(_ME, [1, 2, 3]) is None
    assert daemon.kept == {}
