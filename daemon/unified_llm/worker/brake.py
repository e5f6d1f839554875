"""Ends a decode early: what llama.cpp's abort callback asks, some 500 times a step.

Into Python and back that often is 5 % of a short step (docs/bench/engine.md), so in short steps
llama.cpp asks the C library: `strlen` of a text that is empty until the brake is pulled is the
same question, and its answer is 0 or 1.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_AbortCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)  # ggml_abort_callback


class Brake:
    """The abort callback of one context. set_callback: takes the callback and its argument."""

    def __init__(self, set_callback: Callable[[Any, ctypes.c_void_p], object]) -> None:
        self._set_callback = set_callback
        self._should_stop: Callable[[], bool] = _never
        self._text = ctypes.create_string_buffer(2)
        # Kept here, since native code calls them as long as the context lives.
        self._asking = _AbortCallback(lambda _: self._text.value != b"" or self._should_stop())
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
        self._reading = ctypes.cast(strlen, _AbortCallback)

    @contextmanager
    def armed(self, should_stop: Callable[[], bool] | None) -> Iterator[None]:
        """Ask `should_stop` all the time; without it, only `pull` stops what goes on inside."""
        self._text[0] = b"\0"
        self._should_stop = should_stop or _never
        callback = self._asking if should_stop else self._reading
        self._set_callback(callback, ctypes.cast(self._text, ctypes.c_void_p))
        try:
            yield
        finally:
            self._should_stop = _never

    def pull(self) -> None:
        """Stop what goes on. From any thread; what has just ended is no error."""
        self._text[0] = b"x"


def _never() -> bool:
    return False
