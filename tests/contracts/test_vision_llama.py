"""Pictures on the real engine, with a projector that a test has made."""

from collections.abc import Iterator

import msgspec
import pytest

from tests.contracts.test_engine_llama import answer, ask, scores_of_all
from tests.mmproj import ROWS, png, write_mmproj
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import open_llama_engine
from unified_llm.worker.protocol import Failed, Generate, Load


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp("seeing")
    return Load(
        model="m",
        path=str(write_tiny_gguf(folder / "tiny.gguf", context_tokens=512)),
        context_tokens=512,
        slots=4,
        threads=1,
        projector=str(write_mmproj(folder / "mmproj.gguf")),
    )


@pytest.fixture
def engine(load: Load) -> Iterator[BatchingEngine]:
    engine = open_llama_engine()
    engine.load(load, lambda _: None)
    yield engine
    engine.close()


def show(
    *pictures: bytes, text: str = "what is this?", number: int = 1, principal: str = "uid:1"
) -> Generate:
    images = tuple(Image(ImageFormat.PNG, each, place=5) for each in pictures)
    request = ask(Message(Role.USER, text, images=images), number=number)
    return msgspec.structs.replace(request, principal=principal, top_logprobs=2)


def test_another_picture_gives_another_answer_and_the_same_one_the_same(
    engine: BatchingEngine,
) -> None:
    pictures = (png(1), png(2), png(1))
    found = [answer(engine, show(each, number=n)) for n, each in enumerate(pictures)]
    texts = [text for text, _ in found]
    assert texts[0] == texts[2] != texts[1]
    without, done = answer(engine, show(number=9))
    assert without not in texts
    # Around it the text is in two pieces, and may have a token more.
    assert ROWS <= found[0][1].prompt_tokens - done.prompt_tokens <= ROWS + 1


def test_what_is_the_same_up_to_and_with_a_picture_is_computed_once(
    engine: BatchingEngine,
) -> None:
    _, first = answer(engine, show(png(1)))
    _, again = answer(engine, show(png(1), text="what next?", number=2))
    _, other = answer(engine, show(png(2), number=3))
    assert first.cached_tokens == 0
    assert again.cached_tokens > ROWS
    assert 0 < other.cached_tokens < first.prompt_tokens - ROWS


def test_answers_with_pictures_are_the_same_beside_others(engine: BatchingEngine) -> None:
    shown: list[tuple[str, list[bytes]]] = [
        ("hello", [png(1)]),
        ("hello", [png(1), png(2)]),
        ("a story " * 20, []),
        ("hello", [png(3)]),
    ]
    asked = [
        show(*pictures, text=text, number=n, principal=f"uid:{n}")
        for n, (text, pictures) in enumerate(shown)
    ]
    alone = [scores_of_all(engine, [each])[each.id] for each in asked]
    beside = [
        msgspec.structs.replace(each, id=10 + each.id, principal=f"{each.principal}b")
        for each in asked
    ]
    together = scores_of_all(engine, beside)
    for scores, request in zip(alone, beside, strict=True):
        for one, other in zip(scores, together[request.id], strict=True):
            assert one.top[0].logprob == pytest.approx(other.top[0].logprob, abs=1e-2)
            if one.chosen.text != other.chosen.text:
                assert one.top[0].logprob - one.top[1].logprob < 1e-2
                break


@pytest.mark.parametrize("data", [png(1)[:60], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(50)])
def test_what_is_no_picture_is_refused(engine: BatchingEngine, data: bytes) -> None:
    engine.submit(show(data))
    (failed,) = engine.step(lambda: None)
    assert isinstance(failed, Failed)
    assert (failed.code, failed.parameter) == ("invalid-request", "messages")
    answer(engine, show(png(1), number=2))


def test_penalties_and_drafts_pass_over_pictures(load: Load) -> None:
    engine = open_llama_engine()
    engine.load(msgspec.structs.replace(load, speculation="prompt-lookup"), lambda _: None)
    request = msgspec.structs.replace(
        show(png(1)), sampling=Sampling(temperature=0, presence_penalty=1.0, repeat_last_n=200)
    )
    assert answer(engine, request)[1].completion_tokens == 24
    engine.close()


def test_a_model_without_a_projector_sees_nothing(load: Load) -> None:
    engine = open_llama_engine()
    engine.load(msgspec.structs.replace(load, projector=None), lambda _: None)
    engine.submit(show(png(1)))
    (failed,) = engine.step(lambda: None)
    assert isinstance(failed, Failed)
    assert "reads text only" in failed.message
    engine.close()
