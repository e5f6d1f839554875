"""The projector of a loaded model: pictures become vectors that stand among its tokens.

Each vector has a number below 0 in the place of a token, so that whatever compares tokens compares
pictures too: the same picture of the same principal has the same numbers while this process
remembers them, another one has others.

Facts about libmtmd that this file rests on (0.3.36, measured in tests/contracts):
- `mtmd_tokenize` brings a picture to the projector's size, and `mtmd_encode_chunk` computes. It
  asks `cb_eval` of every node, ahead, whether it is to be told of it; told, that may end it, and it
  says 0 all the same.
- Vectors and tokens cannot be in one batch of llama.cpp.
- A file that is no picture may be a film, which it starts `ffprobe` for.
"""

import ctypes
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from unified_llm.domain.errors import InvalidRequest, ModelFailedToLoad, TooLarge
from unified_llm.domain.images import ImageFormat, format_of
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
_NODES_AT_ONCE: Final = 4  # of a look; it can end between them
_NO_FOLDER: Final = b"/dev/null"  # where libmtmd shall search for programs to start
_F32: Final = 4


class Picture:
    """What a request shows.

    data: the file. tokens: the numbers that stand for it in a prompt. vectors: None until they are
    computed, and again when all of them have been fed.
    """

    def __init__(self, data: bytes, number: int, rows: int) -> None:
        self.data = data
        self.tokens = [-1 - number * MAX_ROWS - row for row in range(rows)]
        self.vectors: bytes | None = None


class Prompt(list[int]):
    """Tokens, and the pictures that are to be there when they are computed."""

    def __init__(self, tokens: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        super().__init__(tokens)
        self.pictures = tuple(pictures)


class Watch:
    """libmtmd's `cb_eval`: ends a look in the middle."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._should_stop: Callable[[], bool] = lambda: False
        self._asked = 0
        # Kept here, since native code calls it as long as the context lives.
        self.callback = native.ggml_backend_sched_eval_callback(self._on_node)

    @contextmanager
    def open(self, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Ask `should_stop` while something is computed; `is_stopped` tells what it said."""
        self.is_stopped, self._should_stop = False, should_stop
        try:
            yield
        finally:
            self._should_stop = lambda: False

    def _on_node(self, _node: object, ask: bool, _: object) -> bool:
        if ask:
            self._asked += 1
            return self._asked % _NODES_AT_ONCE == 0
        self.is_stopped = self.is_stopped or self._should_stop()
        return not self.is_stopped


class Projector:
    """Opened for one model. batch_tokens: of one step. Raises ModelFailedToLoad."""

    def __init__(
        self, model: Any, load: Load, path: str, batch_tokens: int, log: NativeLog
    ) -> None:
        self._mtmd = load_mtmd()
        for say in (self._mtmd.mtmd_log_set, self._mtmd.mtmd_helper_log_set):
            say(log_callback(log.take), ctypes.c_void_p(None))
        self._width = int(native.llama_model_n_embd_inp(model))
        self._watch = Watch()
        self._context = self._open(model, load, path, log)
        try:
            self._rows = self._rows_of_any()
        except ModelFailedToLoad:
            self._mtmd.mtmd_free(self._context)
            raise
        self._batch = native.llama_batch_init(batch_tokens, self._width, 1)
        self._numbers: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._next_number = 0
        self._alive: weakref.WeakValueDictionary[int, Picture] = weakref.WeakValueDictionary()

    def close(self) -> None:
        native.llama_batch_free(self._batch)
        self._mtmd.mtmd_free(self._context)

    def number(self, files: Sequence[bytes], principal: str, most: int) -> list[Picture]:
        """The pictures in `files`, which nobody has looked at yet. most: tokens of a context.

        Two principals have no number in common, as how soon one is answered tells what is known.
        Raises TooLarge.
        """
        tokens = len(files) * self._rows
        if tokens > most:
            raise TooLarge(
                f"{len(files)} images take {tokens} tokens; the context has {most}.",
                hint="Show fewer images, or give the model a larger context.",
            )
        return [self._picture_in(each, principal) for each in files]

    def is_unseen(self, tokens: Sequence[int]) -> bool:
        """Whether `see` is needed before `batch_of`."""
        return any(each is None or each.vectors is None for each in self._shown_in(tokens))

    def see(self, tokens: Sequence[int], should_stop: Callable[[], bool]) -> bool:
        """Compute the first picture of `tokens` that is not; False if that was ended early.

        Raises InvalidRequest if it is none, DecodeError.
        """
        unseen = (each for each in self._shown_in(tokens) if each is None or each.vectors is None)
        picture = next(unseen)
        if picture is None:
            raise DecodeError("a picture is not there any more")
        with self._decoded(picture.data) as bitmap:
            if should_stop():
                return False
            with self._tokenised(bitmap) as chunks, self._watch.open(should_stop):
                vectors = self._encoded(self._only(chunks))
        if self._watch.is_stopped:
            return False
        picture.vectors = vectors
        return True

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

    def drop(self, feeds: Sequence[Feed]) -> None:
        """These have been computed: vectors of pictures that end in them are not kept."""
        for feed in feeds:
            for token in feed.tokens:
                number, row = divmod(-1 - token, MAX_ROWS)
                if row == self._rows - 1 and (picture := self._alive.get(number)) is not None:
                    picture.vectors = None

    def _picture_in(self, data: bytes, principal: str) -> Picture:
        number = self._number_of(principal, sha256(data).digest())
        picture = self._alive.get(number)
        if picture is None:
            picture = self._alive[number] = Picture(data, number, self._rows)
        return picture

    def _shown_in(self, tokens: Sequence[int]) -> list[Picture | None]:
        numbers = dict.fromkeys((-1 - token) // MAX_ROWS for token in tokens)
        return [self._alive.get(each) for each in numbers]

    def _vectors_of(self, tokens: Sequence[int]) -> Iterator[bytes]:
        for token in tokens:
            number, row = divmod(-1 - token, MAX_ROWS)
            picture = self._alive.get(number)
            if picture is None or picture.vectors is None:
                raise DecodeError("a picture is not there any more")
            size = self._width * _F32
            yield picture.vectors[row * size : (row + 1) * size]

    def _open(self, model: Any, load: Load, path: str, log: NativeLog) -> Any:
        params = self._mtmd.mtmd_context_params_default()
        params.use_gpu = False
        params.print_timings = False
        params.n_threads = load.threads or allowed_physical_cores()
        params.cb_eval = self._watch.callback
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

    def _rows_of_any(self) -> int:
        """Vectors of a picture: with one tile, as many whatever its size."""
        black = (ctypes.c_uint8 * 3)()
        bitmap = self._mtmd.mtmd_bitmap_init(1, 1, black)
        try:
            with self._tokenised(bitmap) as chunks:
                rows = int(self._mtmd.mtmd_helper_get_n_tokens(chunks))
        except InvalidRequest as error:
            raise ModelFailedToLoad("The projector makes no chunk of a picture.") from error
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)
        if not 1 <= rows <= MAX_ROWS:
            raise ModelFailedToLoad(
                f"The projector makes {rows} vectors of a picture; 1 to {MAX_ROWS} are supported."
            )
        return rows

    @contextmanager
    def _decoded(self, data: bytes) -> Iterator[Any]:
        """Raises InvalidRequest unless it is a PNG or JPEG: for WebP libmtmd starts ffmpeg."""
        bitmap = None
        if format_of(data) in (ImageFormat.PNG, ImageFormat.JPEG):
            options = self._mtmd.mtmd_helper_init_opt_default()
            options.video_params.ffmpeg_bin_dir = _NO_FOLDER
            buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
            bitmap = self._mtmd.mtmd_helper_bitmap_init_from_buf(
                self._context, buffer, len(data), False, options
            )
        if not bitmap:
            raise InvalidRequest("An image cannot be decoded.", parameter="messages")
        try:
            yield bitmap
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)

    @contextmanager
    def _tokenised(self, bitmap: Any) -> Iterator[Any]:
        """Chunks of nothing but the picture, at the projector's size. Raises InvalidRequest."""
        marker = self._mtmd.mtmd_default_marker()
        text = self._mtmd.mtmd_input_text(
            text=marker, text_len=len(marker), add_special=False, parse_special=True
        )
        chunks = self._mtmd.mtmd_input_chunks_init()
        bitmaps = (ctypes.c_void_p * 1)(bitmap)
        try:
            result = self._mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1)
            is_one = result == 0 and self._mtmd.mtmd_input_chunks_size(chunks) == 1
            if not is_one or self._mtmd.mtmd_input_chunk_get_type(self._only(chunks)) != _IMAGE:
                raise InvalidRequest(
                    "The model cannot look at an image of this size.", parameter="messages"
                )
            yield chunks
        finally:
            self._mtmd.mtmd_input_chunks_free(chunks)

    def _only(self, chunks: Any) -> Any:
        return self._mtmd.mtmd_input_chunks_get(chunks, 0)

    def _encoded(self, chunk: Any) -> bytes:
        rows = int(self._mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        if rows != self._rows:
            raise DecodeError(f"a picture has {rows} vectors, and not {self._rows}")
        result = self._mtmd.mtmd_encode_chunk(self._context, chunk)
        if result != 0:
            raise DecodeError(f"mtmd_encode_chunk returned {result}")
        size = rows * self._width * _F32
        return ctypes.string_at(self._mtmd.mtmd_get_output_embd(self._context), size)

    def _number_of(self, principal: str, digest: bytes) -> int:
        key = (principal, digest)
        if key in self._numbers:
            self._numbers.move_to_end(key)
            return self._numbers[key]
        number = self._numbers[key] = self._next_number
        self._next_number += 1
        if len(self._numbers) > _MOST_NUMBERED:
            self._numbers.popitem(last=False)
        return number
