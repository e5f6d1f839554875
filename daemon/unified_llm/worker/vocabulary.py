"""The tokeniser of a model, by llama.cpp."""

import ctypes
from typing import Any, Final

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.worker.bindings import native
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.protocol import Chance

_PIECE_BYTES: Final = 256
_SPECIAL: Final = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_USER_DEFINED


class LlamaVocabulary:
    """The model's tokeniser. pointer: llama.cpp's own."""

    def __init__(self, model: Any) -> None:
        self.pointer = ensure_pointer(native.llama_model_get_vocab(model), "tokeniser")
        self._special: dict[int, bool] = {}
        if native.llama_vocab_type(self.pointer) == native.LLAMA_VOCAB_TYPE_NONE:
            raise ModelFailedToLoad("The model has no tokeniser.")

    @property
    def size(self) -> int:
        return int(native.llama_vocab_n_tokens(self.pointer))

    @property
    def leading_token(self) -> int | None:
        bos = native.llama_vocab_bos(self.pointer)
        return bos if bos >= 0 and native.llama_vocab_get_add_bos(self.pointer) else None

    @property
    def bos_text(self) -> str:
        return self.text_of(native.llama_vocab_bos(self.pointer))

    @property
    def eos_text(self) -> str:
        return self.text_of(native.llama_vocab_eos(self.pointer))

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode()
        tokens, count = self._tokenise(data, len(data) + 2, parse_special)
        if count < 0:  # a space may be a character of three bytes, and each of those a token
            tokens, count = self._tokenise(data, -count, parse_special)
        if count < 0:
            raise DecodeError(f"llama_tokenize returned {count} for {len(data)} bytes")
        return tokens

    def _tokenise(self, data: bytes, room: int, parse_special: bool) -> tuple[list[int], int]:
        tokens = (native.llama_token * room)()
        count = native.llama_tokenize(
            self.pointer, data, len(data), tokens, room, False, parse_special
        )
        return tokens[: max(count, 0)], int(count)

    def text_of(self, token: int) -> str:
        if token < 0:
            return ""
        return (native.llama_vocab_get_text(self.pointer, token) or b"").decode(errors="replace")

    def is_special(self, token: int) -> bool:
        known = self._special.get(token)
        if known is None:
            known = self._special[token] = self._looks_special(token)
        return known

    def _looks_special(self, token: int) -> bool:
        if self.is_end(token):
            return True
        # Some tokenisers declare runs of white space as user-defined; those carry no meaning.
        has_meaning = bool(self.text_of(token).replace("\u2581", " ").strip())
        return has_meaning and bool(native.llama_vocab_get_attr(self.pointer, token) & _SPECIAL)

    def strips(self, token: int) -> tuple[bool, bool]:
        attributes = native.llama_vocab_get_attr(self.pointer, token)
        return (
            bool(attributes & native.LLAMA_TOKEN_ATTR_LSTRIP),
            bool(attributes & native.LLAMA_TOKEN_ATTR_RSTRIP),
        )

    def is_end(self, token: int) -> bool:
        return bool(native.llama_vocab_is_eog(self.pointer, token))

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        count = native.llama_token_to_piece(self.pointer, token, buffer, _PIECE_BYTES, 0, False)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = native.llama_token_to_piece(self.pointer, token, buffer, -count, 0, False)
        return buffer.raw[: max(count, 0)]

    def chance(self, token: int, logprob: float) -> Chance:
        """The token as it is told to people."""
        data = self.piece(token)
        text = data.decode(errors="replace") if data else self.text_of(token)
        return Chance(text=text, data=data or None, logprob=logprob)


def ensure_pointer(pointer: Any, what: str) -> Any:
    """`pointer`, unless it is NULL. Raises ModelFailedToLoad."""
    if not pointer:
        raise ModelFailedToLoad(f"llama.cpp gives no {what} for the model.")
    return pointer
