"""Frames survive any chopping, and garbage is only ever a ProtocolError."""

import itertools
from contextlib import suppress
from dataclasses import fields
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import FinishReason, Message, Role, Sampling
from unified_llm.domain.profile import Purpose
from unified_llm.domain.sampling import NUMBERS
from unified_llm.worker import protocol
from unified_llm.worker.frames import FrameBuffer
from unified_llm.worker.protocol import (
    LEAST_LOGPROB,
    Cancel,
    Chance,
    Delta,
    Done,
    Embed,
    Failed,
    FromWorker,
    Generate,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    NotConfined,
    Pause,
    Progress,
    ProtocolError,
    Rank,
    Resume,
    Score,
    Started,
    Stop,
    ToWorker,
    Vector,
    decode_from_worker,
    decode_to_worker,
    encode,
)

_integers = st.integers(-(2**63), 2**63 - 1)
_counts = st.integers(0, 2**31 - 1)
_floats = st.floats(allow_nan=False)
_optional_floats = st.none() | _floats
_optional_integers = st.none() | _integers
_numbers: dict[str, Any] = {
    field.name: _optional_integers if field.type == int | None else _optional_floats
    for field in fields(Sampling)
    if field.name in NUMBERS
}
_sampling = st.builds(
    Sampling,
    **_numbers,
    logit_bias=st.lists(st.tuples(_integers, _floats), max_size=3).map(tuple),
    ignore_eos=st.booleans(),
)
_chances = st.builds(
    Chance,
    text=st.text(),
    data=st.none() | st.binary(),
    logprob=st.floats(LEAST_LOGPROB, 0),
)
_CHANCE = {"text": "a", "data": b"a", "logprob": -1.0}
_scores = st.builds(Score, chosen=_chances, top=st.lists(_chances, max_size=3).map(tuple))
_messages = st.lists(
    st.builds(Message, role=st.sampled_from(Role), content=st.text()), max_size=3
).map(tuple)
_to_worker: st.SearchStrategy[ToWorker] = st.one_of(
    st.builds(
        Load,
        model=st.text(),
        path=st.text(),
        context_tokens=_integers,
        slots=_integers,
        threads=_optional_integers,
        purpose=st.sampled_from(Purpose),
    ),
    st.builds(
        Embed,
        id=_integers,
        texts=st.lists(st.text(), min_size=1, max_size=3).map(tuple),
        dimensions=st.none() | st.integers(1, protocol.MAX_DIMENSIONS),
    ),
    st.builds(
        Rank,
        id=_integers,
        query=st.text(),
        documents=st.lists(st.text(), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Generate,
        id=_integers,
        principal=st.text(),
        messages=_messages,
        max_tokens=_optional_integers,
        stop=st.lists(st.text(), max_size=3).map(tuple),
        sampling=_sampling,
        top_logprobs=_optional_integers,
    ),
    st.builds(Cancel, id=_integers),
    st.builds(Pause, id=_integers),
    st.builds(Resume, id=_integers),
    st.just(Stop()),
)
_from_worker: st.SearchStrategy[FromWorker] = st.one_of(
    st.builds(
        Hello,
        version=_integers,
        pid=_integers,
        engine=st.text(),
        build=st.text(),
        sandbox=st.lists(st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), max_size=32).map(tuple),
    ),
    st.builds(NotConfined, layer=st.text(), reason=st.text()),
    st.builds(Progress, fraction=_floats),
    st.builds(
        Loaded,
        context_tokens=_counts,
        slots=_counts,
        memory_bytes=st.none() | _counts,
        description=st.text(),
    ),
    st.builds(LoadFailed, message=st.text()),
    st.builds(Started, id=_integers, prompt_tokens=_counts, cached_tokens=_counts),
    st.builds(Delta, id=_integers, text=st.text(min_size=1)),
    st.builds(Vector, id=_integers, numbers=st.binary(min_size=4, max_size=40)),
    st.builds(
        Delta,
        id=_integers,
        text=st.text(),
        scores=st.lists(_scores, min_size=1, max_size=2).map(tuple),
    ),
    st.builds(
        Done,
        id=_integers,
        reason=st.sampled_from(FinishReason),
        prompt_tokens=_counts,
        completion_tokens=_counts,
        cached_tokens=_counts,
    ),
    st.builds(
        Failed,
        id=_integers,
        code=st.text(),
        message=st.text(),
        parameter=st.none() | st.text(),
    ),
    st.builds(
        Heartbeat,
        steps_done=_integers,
        busy_seconds=_floats,
        active=_integers,
        waiting=_integers,
    ),
)


def bodies(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The frame bodies of a stream that arrives in pieces."""
    frames = FrameBuffer()
    borders = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    found = []
    for start, end in itertools.pairwise(borders):
        found += list(frames.feed(stream[start:end]))
    assert frames.is_empty
    return found


@given(st.lists(_to_worker, max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_messages_to_the_worker_arrive_however_the_stream_is_chopped(
    messages: list[ToWorker], cuts: list[int]
) -> None:
    stream = b"".join(encode(message) for message in messages)
    assert [decode_to_worker(body) for body in bodies(stream, cuts)] == messages


@given(st.lists(_from_worker, max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_messages_from_the_worker_arrive_however_the_stream_is_chopped(
    messages: list[FromWorker], cuts: list[int]
) -> None:
    stream = b"".join(encode(message) for message in messages)
    assert [decode_from_worker(body) for body in bodies(stream, cuts)] == messages


@given(st.binary(max_size=300))
def test_random_bytes_are_only_ever_a_protocol_error(data: bytes) -> None:
    for decode in (decode_to_worker, decode_from_worker):
        with suppress(ProtocolError):
            decode(data)
    with suppress(ProtocolError):
        list(FrameBuffer().feed(data))


@given(_to_worker | _from_worker, st.data())
def test_a_damaged_frame_is_only_ever_a_protocol_error(
    message: ToWorker | FromWorker, data: st.DataObject
) -> None:
    body = bytearray(encode(message)[4:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for decode in (decode_to_worker, decode_from_worker):
        with suppress(ProtocolError):
            decode(bytes(body))


@pytest.mark.parametrize(
    "body",
    [
        {"type": "cancel", "id": 1, "more": 2},
        {"type": "cancel", "id": "1"},
        {"type": "cancel"},
        {"type": "format-disk"},
        {"id": 1},
        ["cancel", 1],
        None,
    ],
)
def test_a_message_with_anything_odd_is_refused(body: object) -> None:
    with pytest.raises(ProtocolError):
        decode_to_worker(msgspec.msgpack.encode(body))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_to_worker(b"\x91" * 100_000)


def test_the_two_directions_do_not_understand_each_other() -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(encode(Stop())[4:])
    with pytest.raises(ProtocolError):
        decode_to_worker(encode(Delta(id=1, text="x"))[4:])


def test_a_frame_longer_than_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(ProtocolError, match="16777217 bytes"):
        list(FrameBuffer().feed((protocol.MAX_FRAME_BYTES + 1).to_bytes(4, "big")))


def test_a_message_longer_than_the_limit_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        encode(Delta(id=1, text="x" * (protocol.MAX_FRAME_BYTES + 1)))


def test_a_cut_off_frame_is_noticed() -> None:
    frames = FrameBuffer()
    assert list(frames.feed(encode(Stop())[:-1])) == []
    assert not frames.is_empty


_DONE = Done(id=1, reason=FinishReason.STOP, prompt_tokens=1, completion_tokens=1, cached_tokens=0)
_LOADED = Loaded(context_tokens=1, slots=1, memory_bytes=None, description="")


@pytest.mark.parametrize(
    "lie",
    [
        Vector(id=1, numbers=b""),
        Vector(id=1, numbers=b"\0" * 4 * (protocol.MAX_DIMENSIONS + 1)),
        Started(id=1, prompt_tokens=-1, cached_tokens=0),
        msgspec.structs.replace(_DONE, prompt_tokens=-1),
        msgspec.structs.replace(_DONE, completion_tokens=2**31),
        msgspec.structs.replace(_LOADED, memory_bytes=-1),
        msgspec.structs.replace(_LOADED, memory_bytes=2**63),
    ],
    ids=str,
)
def test_a_frame_that_says_nothing_or_counts_absurdly_is_refused(lie: FromWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(encode(lie)[4:])


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [{"chosen": {"text": "a", "data": None, "logprob": 0.1}}],
        [{"chosen": {"text": "a", "data": None, "logprob": float("nan")}}],
        [{"chosen": {"text": "a", "data": None, "logprob": -10_000.0}}],
        [{"chosen": _CHANCE, "top": [_CHANCE] * 21}],
    ],
)
def test_a_delta_without_news_or_with_absurd_chances_is_refused(scores: list[object]) -> None:
    lie = {"type": "delta", "id": 1, "text": "", "scores": scores}
    with pytest.raises(ProtocolError):
        decode_from_worker(msgspec.msgpack.encode(lie))
