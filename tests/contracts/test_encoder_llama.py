"""Vectors and scores of the real engine, against the same models worked out with numpy."""

import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tests.encoder_models import (
    CLS,
    LAST,
    MEAN,
    NONE,
    RANK,
    Encoder,
    minilm,
    tiny_encoder,
    write_tiny_encoder,
)
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.profile import Purpose
from unified_llm.worker.embedding import EncodingEngine
from unified_llm.worker.encoder import LlamaEncoder, open_engine
from unified_llm.worker.native_log import NativeLog
from unified_llm.worker.protocol import Done, Embed, Load, Rank, Vector

_SENTENCES = (
    "The cat sits outside.",
    "A kitten is sitting in front of the house.",
    "The stock market fell by three percent today, and nobody knows why!",
    "How do I bake bread?",
)
_TINY_TEXTS = ("the cat", "a dog in the sea, 3 times", "x")


def load_of(path: Path, purpose: Purpose = Purpose.EMBEDDING, context_tokens: int = 512) -> Load:
    return Load(
        model="m",
        path=str(path),
        context_tokens=context_tokens,
        slots=2,
        threads=2,
        purpose=purpose,
    )


def open_loaded(path: Path, purpose: Purpose = Purpose.EMBEDDING) -> EncodingEngine:
    engine = open_engine(purpose)
    assert isinstance(engine, EncodingEngine)
    engine.load(load_of(path, purpose), lambda _: None)
    return engine


def run(engine: EncodingEngine, *requests: Embed | Rank) -> dict[int, list[Sequence[float]]]:
    """The vectors of each request, computed together."""
    found: dict[int, list[Sequence[float]]] = {request.id: [] for request in requests}
    for request in requests:
        engine.submit(request)
    done = 0
    while engine.is_busy:
        for report in engine.step(lambda: None):
            if isinstance(report, Vector):
                found[report.id].append(array("f", report.numbers))
            done += isinstance(report, Done)
    assert done == len(requests)
    return found


def cosine(one: ArrayLike, other: ArrayLike) -> float:
    left, right = np.asarray(one), np.asarray(other)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.fixture(scope="module")
def real() -> Encoder:
    return minilm()


@pytest.fixture(scope="module")
def real_engine(
    real: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EncodingEngine]:
    path = real.write(tmp_path_factory.mktemp("minilm") / "minilm.gguf", MEAN)
    engine = open_loaded(path)
    yield engine
    engine.close()


@pytest.mark.slow
@pytest.mark.keeps_descriptors
def test_the_real_minilm_gives_its_reference_vectors_alone_and_in_a_batch(
    real: Encoder, real_engine: EncodingEngine
) -> None:
    reference = [real.embed(real.tokens(text)) for text in _SENTENCES]
    alone = [run(real_engine, Embed(id=1, texts=(text,)))[1][0] for text in _SENTENCES]
    padding = tuple(f"padding number {index} " * index for index in range(1, 8))
    together = run(
        real_engine, Embed(id=2, texts=(*_SENTENCES, *padding)), Embed(id=3, texts=padding)
    )[2]
    for expected, single, batched in zip(reference, alone, together, strict=False):
        assert cosine(expected, single) > 1 - 1e-3
        assert cosine(expected, batched) > 1 - 1e-3
        assert math.isclose(math.hypot(*single), 1, abs_tol=1e-5)
        assert len(single) == 384
    assert cosine(alone[0], alone[1]) > 0.5 > 0.2 > cosine(alone[0], alone[2])


@pytest.mark.slow
@pytest.mark.keeps_descriptors
def test_a_text_has_the_tokens_of_the_models_own_tokeniser(
    real: Encoder, real_engine: EncodingEngine
) -> None:
    encoder = real_engine._encoder
    assert isinstance(encoder, LlamaEncoder)
    for text in _SENTENCES:
        assert encoder.encode_text(text) == real.tokens(text)
    special = {real.vocabulary.index(word) for word in ("[CLS]", "[SEP]", "[MASK]")}
    assert not special & set(encoder.encode_text("say [CLS] and [MASK] and [SEP]")[1:-1])


@pytest.mark.parametrize("pooling", [MEAN, CLS, LAST])
def test_the_model_decides_how_its_tokens_become_a_vector(tmp_path: Path, pooling: int) -> None:
    reference = tiny_encoder()
    engine = open_loaded(write_tiny_encoder(tmp_path / "tiny.gguf", pooling))
    vectors = run(engine, Embed(id=1, texts=_TINY_TEXTS))[1]
    for text, vector in zip(_TINY_TEXTS, vectors, strict=True):
        assert cosine(vector, reference.embed(reference.tokens(text), pooling)) > 1 - 1e-3
    engine.close()


def test_a_ranking_head_judges_query_and_document_together(tmp_path: Path) -> None:
    reference = tiny_encoder()
    engine = open_loaded(write_tiny_encoder(tmp_path / "tiny.gguf", RANK), Purpose.RANKING)
    query, documents = "a cat", ("the sea", "the cat and the dog", "cat")
    scores = run(engine, Rank(id=1, query=query, documents=documents))[1]
    for document, score in zip(documents, scores, strict=True):
        # [CLS] query [SEP] document [SEP]
        pair = [*reference.tokens(query), *reference.tokens(document)[1:]]
        assert len(score) == 1
        assert math.isclose(score[0], reference.score(pair), abs_tol=0.02)
    engine.close()


def test_a_vector_is_cut_to_the_dimensions_asked_for(tmp_path: Path) -> None:
    engine = open_loaded(write_tiny_encoder(tmp_path / "tiny.gguf"))
    found = run(
        engine, Embed(id=1, texts=("the cat",)), Embed(id=2, texts=("the cat",), dimensions=8)
    )
    whole, cut = found[1][0], found[2][0]
    assert (len(whole), len(cut)) == (32, 8)
    assert math.isclose(math.hypot(*cut), 1, abs_tol=1e-5)
    assert cosine(whole[:8], cut) > 1 - 1e-6
    engine.close()


def test_a_text_as_long_as_the_context_is_computed_whole(tmp_path: Path) -> None:
    reference = tiny_encoder(1024)
    engine = open_engine(Purpose.EMBEDDING)
    assert isinstance(engine, EncodingEngine)
    path = write_tiny_encoder(tmp_path / "tiny.gguf", context=1024)
    loaded = engine.load(load_of(path, context_tokens=4096), lambda _: None)
    assert loaded.context_tokens == 1024
    text = "cat " * 1022
    found = run(engine, Embed(id=1, texts=("dog", text, "sea")))[1]
    assert cosine(found[1], reference.embed(reference.tokens(text))) > 1 - 1e-3
    engine.close()


def test_a_decoder_that_pools_is_an_encoder_too(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path, pooling=LAST)
    engine = open_loaded(path)
    texts = ("the cat", "hello there", "a b c")
    alone = [run(engine, Embed(id=1, texts=(text,)))[1][0] for text in texts]
    together = run(engine, Embed(id=2, texts=texts))[2]
    again = run(engine, Embed(id=3, texts=texts[::-1]))[3][::-1]
    for one, other, third in zip(alone, together, again, strict=True):
        assert cosine(one, other) > 1 - 1e-4
        assert cosine(one, third) > 1 - 1e-4
    assert cosine(alone[0], alone[1]) < 0.99
    engine.close()


def test_an_interrupted_step_ends_early_and_spares_the_others(tmp_path: Path) -> None:
    engine = open_loaded(write_tiny_encoder(tmp_path / "tiny.gguf"))
    expected = run(engine, Embed(id=0, texts=_TINY_TEXTS))[0]
    engine.submit(Embed(id=1, texts=_TINY_TEXTS))
    engine.submit(Embed(id=2, texts=("cat " * 50,) * 20))
    engine.step(lambda: None)
    looks = 0

    def interrupt_soon() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            engine.interrupt(2)

    (failed,) = engine.step(interrupt_soon)
    assert (failed.id, looks) == (2, 3)
    engine.cancel(2)
    left: list[Sequence[float]] = []
    while engine.is_busy:
        left += [
            array("f", report.numbers)
            for report in engine.step(lambda: None)
            if isinstance(report, Vector)
        ]
    for one, other in zip(expected, left, strict=True):
        assert cosine(one, other) > 1 - 1e-6
    engine.close()


@pytest.mark.parametrize("pooling", [None, NONE, RANK])
def test_a_model_that_pools_otherwise_makes_no_vectors(tmp_path: Path, pooling: int | None) -> None:
    path = write_tiny_encoder(tmp_path / "tiny.gguf", pooling)
    with pytest.raises(ModelFailedToLoad, match="does not say how"):
        LlamaEncoder(load_of(path), lambda _: None, NativeLog())
