"""Kept states of models whose memory cannot be cut anywhere: right, or not used."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as native

from tests.bench.architectures import Mixer, Transformer
from tests.synthetic_models import SyntheticModel
from unified_llm.worker.engine import LlamaModel
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.protocol import Load
from unified_llm.worker.slots import Feed

_WINDOW = 16
_SHAPE = Transformer(
    layers=2, embedding=64, heads=2, kv_heads=1, head=32, feed_forward=96, vocabulary=300
)
_TOKENS = [3 + 7 * index % 250 for index in range(40)]
_RMS = "attention.layer_norm_rms_epsilon"


def sliding() -> SyntheticModel:
    """Gemma 2: a window in every other layer."""
    t = _SHAPE
    layers = [
        t.attention(i)
        | t.dense(i)
        | {
            f"blk.{i}.post_attention_norm.weight": (t.embedding,),
            f"blk.{i}.post_ffw_norm.weight": (t.embedding,),
        }
        for i in range(t.layers)
    ]
    keys = t.keys() | {"attention.sliding_window": _WINDOW}
    tensors = t.each(t.ends(tied=True), *layers)
    return SyntheticModel("sliding", "gemma2", keys, tensors, t.vocabulary, "F32")


def recurrent() -> SyntheticModel:
    t, mixer = replace(_SHAPE, heads=0, kv_heads=0), Mixer(inner=128, state=16, rank=4)
    keys = {
        key: value
        for key, value in (t.keys() | mixer.keys()).items()
        if key.partition(".")[0] not in ("attention", "rope")
    }
    parts = [mixer.first(i, t.embedding) for i in range(t.layers)]
    tensors = t.each(t.ends(tied=True), *parts)
    return SyntheticModel("recurrent", "mamba", {**keys, _RMS: 1e-5}, tensors, t.vocabulary, "F32")


class Sequences:
    """A model of its own, and what it computes."""

    def __init__(self, path: Path, cache_type: str = "f16") -> None:
        load = Load(
            model="m",
            path=str(path),
            context_tokens=128,
            slots=2,
            threads=1,
            cache_type=cache_type,
        )
        self.model = LlamaModel(load, lambda _: None, NativeLog())

    def read(self, slot: int, position: int, tokens: list[int]) -> list[float]:
        """What it thinks may follow these tokens."""
        feed = Feed(slot, slot, position, tuple(tokens), is_last=True)
        assert self.model.decode([feed], lambda: False)
        row = self.model._rows[slot]
        logits = native.llama_get_logits_ith(self.model._context, row)
        return list(logits[: self.model.vocabulary.size])


@pytest.fixture
def open_sequences() -> Iterator[Callable[[Path], Sequences]]:
    with ExitStack() as stack:

        def open_one(path: Path) -> Sequences:
            sequences = Sequences(path)
            stack.callback(sequences.model.close)
            return sequences

        yield open_one


@pytest.mark.parametrize("make", [sliding, recurrent])
def test_a_restored_sequence_goes_on_as_the_one_that_was_saved(
    make: Callable[[], SyntheticModel],
    tmp_path: Path,
    open_sequences: Callable[[Path], Sequences],
) -> None:
    path = make().write_drawn(tmp_path)
    one, other = open_sequences(path), open_sequences(path)
    one.read(0, 0, _TOKENS)
    room = memoryview(bytearray(one.model.state_bytes(0)))
    assert len(room) > 1000
    assert one.model.save_state(0, room)
    expected = one.read(0, len(_TOKENS), [100])
    assert other.model.restore_state(1, room)
    assert other.model.truncate(1, len(_TOKENS))
    assert other.read(1, len(_TOKENS), [100]) == pytest.approx(expected, abs=1e-4)
    assert other.read(0, 0, [100]) != pytest.approx(expected, abs=1e-2)  # it does remember


@pytest.mark.parametrize("make", [sliding, recurrent])
def test_a_restored_sequence_that_cannot_be_cut_is_given_up(
    make: Callable[[], SyntheticModel],
    tmp_path: Path,
    open_sequences: Callable[[Path], Sequences],
) -> None:
    """A state holds no more of a window than what comes next needs."""
    path = make().write_drawn(tmp_path)
    one, other = open_sequences(path), open_sequences(path)
    expected = one.read(0, 0, _TOKENS[:20])
    one.read(1, 0, _TOKENS)
    room = memoryview(bytearray(one.model.state_bytes(1)))
    assert one.model.save_state(1, room)
    assert other.model.restore_state(0, room)
    assert not other.model.truncate(0, 20)
    assert other.read(0, 0, _TOKENS[:20]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("make", [sliding, recurrent])
def test_a_state_cut_short_is_refused(
    make: Callable[[], SyntheticModel],
    tmp_path: Path,
    open_sequences: Callable[[Path], Sequences],
) -> None:
    sequences = open_sequences(make().write_drawn(tmp_path))
    sequences.read(0, 0, _TOKENS)
    room = memoryview(bytearray(sequences.model.state_bytes(0)))
    assert sequences.model.save_state(0, room)
    for length in (0, 1, 8, len(room) // 2, len(room) - 1):
        assert not sequences.model.restore_state(1, room[:length])


def test_a_state_of_another_cache_type_is_not_taken(tmp_path: Path) -> None:
    path = sliding().write_drawn(tmp_path)
    wide, narrow = Sequences(path), Sequences(path, "q8_0")
    try:
        expected = narrow.read(0, 0, _TOKENS)
        wide.read(0, 0, _TOKENS)
        room = memoryview(bytearray(wide.model.state_bytes(0)))
        assert wide.model.save_state(0, room)
        assert not narrow.model.restore_state(1, room)
        narrow.model.truncate(1, 0)
        assert narrow.read(1, 0, _TOKENS) == pytest.approx(expected, abs=1e-4)
    finally:
        wide.model.close()
        narrow.model.close()
