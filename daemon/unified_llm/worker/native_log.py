"""What llama.cpp says while it works: warnings for the journal, reasons, and allocated bytes.

The bytes are read from lines such as `CPU KV buffer size = 90.00 MiB`: the exact figures exist
only behind a C++ interface. The wording belongs to the pinned version; a test reads a real load.
"""

import re
import sys
from collections.abc import Callable
from typing import Final

_INFO, _WARN, _ERROR, _CONTINUED = 2, 3, 4, 5
_BUFFER: Final = re.compile(r"(\S+)\s+(\w+) buffer size\s*=\s*(\d+(?:\.\d+)?) MiB")
# Of a cache or of recurrent states, wherever they lie: `llama_kv_cache: size = 90.00 MiB (…`.
_CACHE: Final = re.compile(r"^\w+: size\s*=\s*(\d+(?:\.\d+)?) MiB \(")
_WORKING: Final = frozenset({"compute", "output"})
# Buffers of a GPU carry its number: CUDA0, Vulkan1; those in main memory do not: CPU, CUDA_Host.
_GPU: Final = re.compile(r"[A-Za-z]+(\d+)")
_OUT_OF_MEMORY: Final = ("out of memory", "failed to allocate", "unable to allocate")
_MOST_GPUS: Final = 63
# Said of a step that our own abort callback has ended: return code 2, GGML_STATUS_ABORTED.
_ENDED_EARLY: Final = re.compile(
    r"\w+: failed to (?:decode|encode), ret = 2"
    r"|\w+: (?:ggml_backend_sched_graph_compute_async failed with error"
    r"|failed to compute graph, compute status:) 1"
)
_CLEARED: Final = re.compile(r"\w+: removing memory module entries .*")  # and what follows of it
_MIB: Final = 1024 * 1024
_MAX_CHARACTERS: Final = 500


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"llama.cpp: {line}\n")
    sys.stderr.flush()


class NativeLog:
    """Takes the log text of native code, which comes in pieces.

    write: takes one line of a warning or an error; none of them holds a prompt, since all text
    passes through the tokeniser only. is_out_of_memory: whether an allocation has failed.
    cache_bytes: caches and states on all devices, told also where none is allocated.
    """

    def __init__(self, write: Callable[[str], None] = _to_stderr) -> None:
        self._write = write
        self._level = _INFO
        self._rest = ""
        self._ram_bytes = 0
        self._gpu_bytes: dict[int, int] = {}
        self._working: dict[int | None, int] = {}
        self.cache_bytes = 0
        self._error = ""
        self._is_ended_early = False
        self.is_out_of_memory = False

    @property
    def bytes_allocated(self) -> int | None:
        """Sum of the buffers in main memory announced so far; None if there was none."""
        return self._ram_bytes or None

    @property
    def gpu_bytes_allocated(self) -> tuple[int, ...]:
        """Likewise of each GPU, up to the last one that holds any."""
        return _by_number(self._gpu_bytes)

    @property
    def working_bytes(self) -> int:
        """Of what is in main memory, intermediate results and output."""
        return self._working.get(None, 0)

    @property
    def gpu_working_bytes(self) -> tuple[int, ...]:
        """Likewise of each GPU, up to the last one that holds any."""
        return _by_number({gpu: size for gpu, size in self._working.items() if gpu is not None})

    def reason(self) -> str:
        """The first error as the tail of a sentence, or nothing; later ones say less."""
        return f": {self._error}" if self._error else ""

    def take(self, level: int, text: bytes) -> None:
        """The next piece; a line may be spread over several, continued with a level of its own."""
        self._level = self._level if level == _CONTINUED else level
        *lines, self._rest = (self._rest + text.decode(errors="replace")).split("\n")
        self._rest = self._rest[-_MAX_CHARACTERS:]
        for line in lines:
            self._take_line(_clean(line))

    def _take_line(self, line: str) -> None:
        if self._level < _WARN:
            for device, kind, size in _BUFFER.findall(line):
                self._count(device, kind, round(float(size) * _MIB))
            for size in _CACHE.findall(line):
                self.cache_bytes += round(float(size) * _MIB)
            return
        is_ended_early = _ENDED_EARLY.fullmatch(line) is not None
        if is_ended_early or (self._is_ended_early and _CLEARED.fullmatch(line)):
            self._is_ended_early = True
            return
        self._is_ended_early = False
        if any(words in line for words in _OUT_OF_MEMORY):
            self.is_out_of_memory = True
        if self._level == _ERROR and not self._error:
            self._error = line.rstrip(".")
        self._write(line)

    def _count(self, device: str, kind: str, size: int) -> None:
        gpu = _GPU.fullmatch(device)
        number = None if gpu is None else min(int(gpu[1]), _MOST_GPUS)
        if number is None:
            self._ram_bytes += size
        else:
            self._gpu_bytes[number] = self._gpu_bytes.get(number, 0) + size
        if kind in _WORKING:
            self._working[number] = self._working.get(number, 0) + size


def _by_number(sizes: dict[int, int]) -> tuple[int, ...]:
    return tuple(sizes.get(gpu, 0) for gpu in range(max(sizes, default=-1) + 1))


def _clean(line: str) -> str:
    """A model file can put anything into a message: one line, printable, bounded."""
    return "".join(each if each.isprintable() else "?" for each in line)[:_MAX_CHARACTERS]
