"""The assembler, checked by running its programs on an interpreter of classic BPF."""

import errno
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.bpf_machine import Answer, run
from unified_llm.worker.bpf import (
    ANY_BIT,
    KILL_PROCESS,
    Condition,
    Filter,
    Instruction,
    Masked,
    assemble,
    pack,
)

_ARCHITECTURE = 0xC000_003E
_ALLOWED = Answer.allow()
_EPERM = Answer.error(errno.EPERM)
_words = st.integers(0, ANY_BIT)
_arguments = st.tuples(*[_words] * 6)
_masked = st.builds(
    lambda argument, mask, bits: Masked(argument, bits & mask, mask),
    st.integers(0, 5),
    # Masks of one half only matter: their other half must not be looked at.
    st.one_of(_words, st.just(ANY_BIT), st.integers(0, 2**32 - 1)),
    _words,
)
_conditions = st.lists(st.lists(_masked, min_size=1, max_size=3), max_size=4)


def make(conditions: Sequence[Condition] = (), foreign_from: int | None = None) -> Filter:
    return Filter(
        audit_architecture=_ARCHITECTURE,
        allowed=frozenset({1, 5, 100}),
        conditional={7: conditions},
        absent=frozenset({8}),
        last_known=400,
        foreign_from=foreign_from,
    )


def holds(condition: Condition, arguments: tuple[int, ...]) -> bool:
    return all(arguments[test.argument] & test.mask == test.value for test in condition)


@given(st.integers(0, 2**32 - 1), _arguments)
def test_a_number_alone_decides_whatever_the_arguments(
    number: int, arguments: tuple[int, ...]
) -> None:
    answer = run(assemble(make()), number, arguments, _ARCHITECTURE)
    if number in {1, 5, 100}:
        assert answer == _ALLOWED
    elif number == 8 or number > 400:
        assert answer == Answer.error(errno.ENOSYS)
    else:
        assert answer == _EPERM


@given(_conditions, _arguments, st.none() | st.integers(0, 3))
def test_a_condition_allows_exactly_what_it_says(
    conditions: list[Condition], arguments: tuple[int, ...], fitted: int | None
) -> None:
    if conditions and fitted is not None:
        # Random words hardly ever fulfil a condition: put one condition's bits in.
        words = list(arguments)
        for test in conditions[fitted % len(conditions)]:
            words[test.argument] = words[test.argument] & ~test.mask | test.value
        arguments = tuple(words)
    answer = run(assemble(make(conditions)), 7, arguments, _ARCHITECTURE)
    expected = any(holds(condition, arguments) for condition in conditions)
    assert answer == (_ALLOWED if expected else _EPERM)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_another_architecture_is_killed_whatever_it_calls(architecture: int, number: int) -> None:
    answer = run(assemble(make()), number, (0,) * 6, architecture)
    assert (answer == Answer(KILL_PROCESS)) is (architecture != _ARCHITECTURE)


@given(st.integers(0x4000_0000, 2**32 - 1))
def test_numbers_of_another_interface_are_killed(number: int) -> None:
    program = assemble(make(foreign_from=0x4000_0000))
    assert run(program, number, (0,) * 6, _ARCHITECTURE) == Answer(KILL_PROCESS)
    assert run(program, 0x3FFF_FFFF, (0,) * 6, _ARCHITECTURE) == Answer.error(errno.ENOSYS)


def test_an_instruction_is_packed_as_the_kernel_has_it() -> None:
    packed = pack([Instruction(0x15, 0xC000_003E, if_true=1, if_false=2)])
    assert packed == struct.pack("=HBBI", 0x15, 1, 2, 0xC000_003E)
    assert len(packed) == 8


def test_what_does_not_fit_is_refused() -> None:
    too_long = [[Masked(0, value)] for value in range(100)]
    with pytest.raises(ValueError, match="jump over"):
        assemble(make(too_long))
    many = Filter(1, frozenset(range(5000)), {}, frozenset(), 5000)
    with pytest.raises(ValueError, match="4096"):
        assemble(many)
