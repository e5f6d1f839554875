"""The store of kept states: whose they are, how much there is, and what goes first."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_gguf import write_tiny_gguf
from tests.unit.fleet.asking import TINY
from tests.unit.fleet.specs import spec_of
from unified_llm.domain.models import Adapter, FileIdentity
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.fleet.kept_states import MAX_STATES, KeptState, KeptStates, StateKind

_FILE = FileIdentity(1, 2, Bytes(3), 4)
_KIND = StateKind(_FILE, "llama", "1", Tokens(512), "f16")
_ME, _YOU = "uid:1", "uid:2"


def state(number: int, size: int = 10, principal: str = _ME, kind: StateKind = _KIND) -> KeptState:
    return KeptState(number, kind, principal, descriptor=100 + number, size_bytes=Bytes(size))


class Store:
    """A store that notes what it closes and what it tells."""

    def __init__(self, quota: int) -> None:
        self.closed: list[int] = []
        self.told: list[int] = []
        self.states = KeptStates(Bytes(quota), self.closed.append)
        self.unwatch = self.states.watch(self.told.append)

    def numbers(self, principal: str = _ME, kind: StateKind = _KIND) -> list[int]:
        return [each.number for each in self.states.of(kind, principal)]


def test_a_state_is_for_its_principal_and_for_workers_of_its_kind_only() -> None:
    store = Store(100)
    store.states.add(state(1))
    store.states.add(state(2, principal=_YOU))
    assert store.numbers() == [1]
    assert store.numbers(_YOU) == [2]
    others = (
        StateKind(FileIdentity(1, 2, Bytes(3), 5), "llama", "1", Tokens(512), "f16"),
        StateKind(_FILE, "fake", "1", Tokens(512), "f16"),
        StateKind(_FILE, "llama", "2", Tokens(512), "f16"),
        StateKind(_FILE, "llama", "1", Tokens(256), "f16"),
        StateKind(_FILE, "llama", "1", Tokens(512), "q8_0"),
    )
    assert [store.numbers(kind=kind) for kind in others] == [[]] * len(others)


def test_what_was_of_no_use_for_longest_makes_room() -> None:
    store = Store(30)
    for number in (1, 2, 3):
        store.states.add(state(number))
    store.states.touch(1)
    assert store.states.add(state(4, size=15))
    assert store.numbers() == [4, 1]
    assert store.closed == [102, 103]
    assert store.told == [2, 3]
    assert store.states.used == 25


def test_what_is_larger_than_the_quota_or_known_already_is_refused_and_closed() -> None:
    store = Store(30)
    store.states.add(state(1))
    assert not store.states.add(state(2, size=31))
    assert not store.states.add(state(1))
    assert store.closed == [102, 101]
    assert store.numbers() == [1]


def test_descriptors_are_bounded_too() -> None:
    store = Store(10**9)
    for number in range(MAX_STATES + 1):
        store.states.add(state(number, size=0))
    assert len(store.numbers()) == MAX_STATES
    assert store.told == [0]


def test_what_belongs_to_a_model_that_is_gone_is_dropped(tmp_path: Path) -> None:
    store = Store(100)
    spec = spec_of(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert spec.identity is not None
    store.states.add(state(1))
    store.states.add(state(2, kind=StateKind(spec.identity, "llama", "1", Tokens(512), "f16")))
    store.states.replace_catalogue({TINY: spec})
    assert store.told == [1]
    store.states.replace_catalogue({})
    assert store.told == [1, 2]
    assert store.states.used == 0


def test_with_another_file_of_an_adapter_the_states_of_its_model_are_dropped(
    tmp_path: Path,
) -> None:
    spec = spec_of(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert spec.identity is not None
    old, new = (
        Adapter("law", tmp_path / "law", 1.0, replace(spec.identity, modified_ns=moment), None)
        for moment in (1, 2)
    )
    store = Store(100)
    for number, adapter in enumerate((old, new)):
        kind = StateKind(spec.identity, "llama", "1", Tokens(512), "f16", (adapter,))
        store.states.add(state(number, kind=kind))
    store.states.replace_catalogue({TINY: replace(spec, adapters=(new,))})
    assert store.told == [0]


def test_once_closed_it_has_nothing_and_takes_nothing() -> None:
    store = Store(100)
    store.states.add(state(1))
    store.states.close()
    assert store.states.is_closed
    assert not store.states.add(state(2))
    assert store.closed == [101, 102]


def test_without_a_quota_nothing_is_kept() -> None:
    store = Store(0)
    assert store.states.is_closed
    assert not store.states.add(state(1, size=0))


def test_who_does_not_watch_any_more_is_told_nothing() -> None:
    store = Store(100)
    store.states.add(state(1))
    store.unwatch()
    store.states.drop(1)
    store.states.drop(1)
    store.states.touch(1)
    assert store.told == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.booleans()), max_size=40))
def test_the_quota_holds_and_every_descriptor_is_closed_once(
    moves: list[tuple[int, int, bool]],
) -> None:
    closed: list[int] = []
    states = KeptStates(Bytes(50), closed.append)
    for descriptor, (number, size, is_dropped) in enumerate(moves):
        if is_dropped:
            states.drop(number)
            continue
        states.add(KeptState(number, _KIND, _ME, descriptor, Bytes(size)))
        assert states.used <= 50
    states.close()
    assert sorted(closed) == [at for at, (_, _, is_dropped) in enumerate(moves) if not is_dropped]
