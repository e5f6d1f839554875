"""Runs the part of classic BPF that seccomp filters are made of."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from unified_llm.worker.bpf import Instruction

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000


@dataclass(frozen=True)
class Answer:
    """What a filter returns."""

    value: int

    @classmethod
    def allow(cls) -> Self:
        return cls(_ALLOW)

    @classmethod
    def error(cls, number: int) -> Self:
        return cls(_ERRNO | number)


def run(
    program: Sequence[Instruction], number: int, arguments: Sequence[int], architecture: int
) -> Answer:
    """What `program` says to a call. Raises AssertionError at what the kernel would not take."""
    data = struct.pack("<iIQ6Q", _signed(number), architecture, 0, *arguments)
    accumulator, position = 0, 0
    while True:
        step = program[position]
        position += 1
        match step.code:
            case 0x20:
                assert step.value % 4 == 0
                (accumulator,) = struct.unpack_from("<I", data, step.value)
            case 0x54:
                accumulator &= step.value
            case 0x15:
                position += step.if_true if accumulator == step.value else step.if_false
            case 0x25:
                position += step.if_true if accumulator > step.value else step.if_false
            case 0x35:
                position += step.if_true if accumulator >= step.value else step.if_false
            case 0x06:
                return Answer(step.value)
            case unknown:
                raise AssertionError(f"no such instruction: {unknown:#x}")


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number
