"""Assembles seccomp filters: which system calls are allowed, under which conditions.

Pure: numbers in, a program of classic BPF out. The program is a chain of comparisons, one block per
call. Nothing faster is needed: for calls without conditions the kernel computes the answer once and
keeps it in a bitmap.

Formats: struct seccomp_data of linux/seccomp.h, instructions of linux/bpf_common.h.
"""

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_IF_GREATER: Final = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

MAX_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS
_MAX_JUMP: Final = 255

_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_WORD: Final = 0xFFFF_FFFF
ANY_BIT: Final = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Instruction:
    """struct sock_filter. if_true, if_false: instructions to skip after a jump."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def pack(self) -> bytes:
        """As the kernel reads it."""
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.value)


@dataclass(frozen=True, slots=True)
class Masked:
    """Holds if `argument` (0 to 5) has, within `mask`, exactly the bits of `value`."""

    argument: int
    value: int
    mask: int = ANY_BIT


Condition = Sequence[Masked]
"""All of them hold."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is to be assembled. Whatever is not named here is answered with EPERM.

    audit_architecture: AUDIT_ARCH_* of the kernel interface meant; any other is killed.
    allowed: numbers of calls. conditional: calls allowed if any of their conditions holds.
    absent: calls that look as if this kernel did not have them, so that the C library does without.
    last_known: greater numbers are absent too: nobody has judged them yet.
    foreign_from: numbers from here on belong to another interface of the same architecture (x32)
    and are killed; None if there is none.
    """

    audit_architecture: int
    allowed: frozenset[int]
    conditional: Mapping[int, Sequence[Condition]]
    absent: frozenset[int]
    last_known: int
    foreign_from: int | None = None


def assemble(wanted: Filter) -> list[Instruction]:
    """The program. Raises ValueError if it does not fit into what BPF can say."""
    absent = _refuse(errno.ENOSYS)
    program = [
        Instruction(LOAD, _ARCHITECTURE),
        *_unless(JUMP_IF_EQUAL, wanted.audit_architecture, KILL_PROCESS),
        Instruction(LOAD, _NUMBER),
    ]
    if wanted.foreign_from is not None:
        program += _when(JUMP_IF_AT_LEAST, wanted.foreign_from, KILL_PROCESS)
    program += _when(JUMP_IF_GREATER, wanted.last_known, absent)
    for number in sorted(wanted.absent):
        program += _when(JUMP_IF_EQUAL, number, absent)
    for number in sorted(wanted.allowed):
        program += _when(JUMP_IF_EQUAL, number, ALLOW)
    for number, conditions in sorted(wanted.conditional.items()):
        block = _assemble_conditions(conditions)
        program += [_jump(JUMP_IF_EQUAL, number, if_false=len(block)), *block]
    program.append(Instruction(RETURN, _refuse(errno.EPERM)))
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(program)} instructions; the kernel takes {MAX_INSTRUCTIONS}")
    return program


def pack(program: Iterable[Instruction]) -> bytes:
    """The array that struct sock_fprog points to."""
    return b"".join(instruction.pack() for instruction in program)


def _assemble_conditions(conditions: Sequence[Condition]) -> list[Instruction]:
    block: list[Instruction] = []
    for condition in conditions:
        block += _assemble_condition(condition)
    return [*block, Instruction(RETURN, _refuse(errno.EPERM))]


def _assemble_condition(condition: Condition) -> list[Instruction]:
    """Allow if it holds, else go on behind it; written from its end, where the way out is."""
    block = [Instruction(RETURN, ALLOW)]
    for test in reversed(condition):
        # Both architectures we know store the lower half of an argument first.
        for half in (1, 0):
            mask, value = test.mask >> 32 * half & _WORD, test.value >> 32 * half & _WORD
            if mask:
                block.insert(0, _jump(JUMP_IF_EQUAL, value, if_false=len(block)))
                if mask != _WORD:
                    block.insert(0, Instruction(AND, mask))
                block.insert(0, Instruction(LOAD, _ARGUMENTS + 8 * test.argument + 4 * half))
    return block


def _when(jump: int, value: int, action: int) -> list[Instruction]:
    return [_jump(jump, value, if_false=1), Instruction(RETURN, action)]


def _unless(jump: int, value: int, action: int) -> list[Instruction]:
    return [_jump(jump, value, if_true=1), Instruction(RETURN, action)]


def _jump(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> Instruction:
    if max(if_true, if_false) > _MAX_JUMP:
        raise ValueError(f"a jump over {max(if_true, if_false)} instructions; BPF has {_MAX_JUMP}")
    return Instruction(code, value, if_true, if_false)


def _refuse(number: int) -> int:
    return _ERRNO | number
