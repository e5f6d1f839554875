"""The projector of a loaded model: pictures become vectors that stand among its tokens.

Each vector has a number below 0 in the place of a token, so that whatever compares tokens compares
pictures too: the same picture has the same numbers for as long as this process lives, another one
has others.

Facts about libmtmd that this file rests on (0.3.36, measured in tests/contracts):
- `mtmd_tokenize` brings a picture to the projector's size; `mtmd_encode_chunk` computes, and
  nothing ends it early.
- Vectors and tokens cannot be in one batch of llama.cpp.
"""

import ctypes
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad
from unified_llm.worker.bindings import load_mtmd, log_callback, native
from unified_llm.worker.cores import allowed_physical_cores
from unified_llm.worker.model_port import DecodeError
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.offload import without_paths
from unified_llm.worker.protocol import Load
from unified_llm.worker.slots import Feed

MAX_ROWS: Final = 4096
"""Vectors of one picture."""

_IMAGE: Final = 1  # MTMD_INPUT_CHUNK_TYPE_IMAGE
_MOST_NUMBERED: Final = 1024
_LAST_NUMBER: Final = 2**31 // MAX_ROWS - 1
_F32: Final = 4


class Picture:
    """What a request shows; its memory is freed when nobody holds it any more.

    tokens: the numbers that stand for it in a prompt.
    """

    def __init__(self, mtmd: Any, chunks: Any, number: int, rows: int) -> None:
        weakref.finalize(self, mtmd.mtmd_input_chunks_free, chunks)
        self.chunk = mtmd.mtmd_input_chunks_get(chunks, 0)
        self.tokens = [-1 - number * MAX_ROWS - row for row in range(rows)]
        self.vectors: bytes | None = None


class Prompt(list[int]):
    """Tokens, and the pictures that are to be there when they are computed."""

    def __init__(self, tokens: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        super().__init__(tokens)
        self.pictures = tuple(pictures)


class Projector:
    """Opened for one model. batch_tokens: of one step. Raises ModelFailedToLoad."""

    def __init__(
        self, model: Any, load: Load, path: str, batch_tokens: int, log: NativeLog
    ) -> None:
        self._mtmd = load_mtmd()
        for say in (self._mtmd.mtmd_log_set, self._mtmd.mtmd_helper_log_set):
            say(log_callback(log.take), ctypes.c_void_p(None))
        self._width = int(native.llama_model_n_embd_inp(model))
        self._context = self._open(model, load, path, log)
        self._batch = native.llama_batch_init(batch_tokens, self._width, 1)
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._next_number = 0
        self._alive: weakref.WeakValueDictionary[int, Picture] = weakref.WeakValueDictionary()

    def close(self) -> None:
        native.llama_batch_free(self._batch)
        self._mtmd.mtmd_free(self._context)

    def look(self, data: bytes) -> Picture:
        """The picture in the file `data`. Raises InvalidRequest if it is none."""
        digest = sha256(data).digest()
        known = self._numbers.get(digest)
        if known is not None and (picture := self._alive.get(known)) is not None:
            return picture
        with self._decoded(data) as bitmap:
            chunks = self._tokenised(bitmap)
        rows = int(self._mtmd.mtmd_helper_get_n_tokens(chunks))
        number = self._number_of(digest)
        picture = self._alive[number] = Picture(self._mtmd, chunks, number, rows)
        return picture

    def batch_of(self, feeds: Sequence[Feed]) -> Any:
        """The vectors of `feeds` as llama.cpp takes them. Raises DecodeError."""
        batch, row = self._batch, 0
        for feed in feeds:
            for offset, vector in enumerate(self._vectors_of(feed.tokens)):
                place = ctypes.addressof(batch.embd.contents) + row * len(vector)
                ctypes.memmove(place, vector, len(vector))
                batch.pos[row] = feed.position + offset
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = feed.slot
                batch.logits[row] = 0
                row += 1
        batch.n_tokens = row
        return batch

    def _vectors_of(self, tokens: Sequence[int]) -> Iterator[bytes]:
        for token in tokens:
            number, row = divmod(-1 - token, MAX_ROWS)
            picture = self._alive.get(number)
            if picture is None:
                raise DecodeError("a picture is not there any more")
            vectors = picture.vectors = picture.vectors or self._encoded(picture)
            size = self._width * _F32
            yield vectors[row * size : (row + 1) * size]

    def _open(self, model: Any, load: Load, path: str, log: NativeLog) -> Any:
        params = self._mtmd.mtmd_context_params_default()
        params.use_gpu = False
        params.print_timings = False
        params.n_threads = load.threads or allowed_physical_cores()
        context = self._mtmd.mtmd_init_from_file(path.encode(), model, params)
        if not context:
            reason = without_paths(load, log.reason())
            raise ModelFailedToLoad(f"llama.cpp refuses the projector{reason}.")
        is_usable = self._mtmd.mtmd_support_vision(context) and not (
            self._mtmd.mtmd_decode_use_mrope(context)
            or self._mtmd.mtmd_decode_use_non_causal(context, None)
        )
        if not is_usable:
            self._mtmd.mtmd_free(context)
            raise ModelFailedToLoad("The projector is of a kind that is not supported.")
        return context

    @contextmanager
    def _decoded(self, data: bytes) -> Iterator[Any]:
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = self._mtmd.mtmd_helper_bitmap_init_from_buf(
            self._context, buffer, len(data), False
        )
        if not bitmap:
            raise InvalidRequest("An image cannot be decoded.", parameter="messages")
        try:
            yield bitmap
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)

    def _tokenised(self, bitmap: Any) -> Any:
        marker = self._mtmd.mtmd_default_marker()
        text = self._mtmd.mtmd_input_text(
            text=marker, text_len=len(marker), add_special=False, parse_special=True
        )
        chunks = self._mtmd.mtmd_input_chunks_init()
        bitmaps = (ctypes.c_void_p * 1)(bitmap)
        result = self._mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1)
        count = self._mtmd.mtmd_input_chunks_size(chunks)
        rows = self._mtmd.mtmd_helper_get_n_tokens(chunks)
        if result == 0 and count == 1 and 1 <= rows <= MAX_ROWS:
            only = self._mtmd.mtmd_input_chunks_get(chunks, 0)
            if self._mtmd.mtmd_input_chunk_get_type(only) == _IMAGE:
                return chunks
        self._mtmd.mtmd_input_chunks_free(chunks)
        raise InvalidRequest(
            "The model cannot look at an image of this size.", parameter="messages"
        )

    def _encoded(self, picture: Picture) -> bytes:
        result = self._mtmd.mtmd_encode_chunk(self._context, picture.chunk)
        if result != 0:
            raise DecodeError(f"mtmd_encode_chunk returned {result}")
        size = len(picture.tokens) * self._width * _F32
        return ctypes.string_at(self._mtmd.mtmd_get_output_embd(self._context), size)

    def _number_of(self, digest: bytes) -> int:
        if digest in self._numbers:
            self._numbers.move_to_end(digest)
            return self._numbers[digest]
        if self._next_number > _LAST_NUMBER:
            raise InvalidRequest(
                "The model has seen all the images it can number.",
                hint="Unload it.",
                parameter="messages",
            )
        number = self._numbers[digest] = self._next_number
        self._next_number += 1
        if len(self._numbers) > _MOST_NUMBERED:
            self._numbers.popitem(last=False)
        return number
