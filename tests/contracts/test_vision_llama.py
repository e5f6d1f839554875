"""Pictures on the real engine, with a projector that a test has made."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.contracts.test_engine_llama import answer, ask, scores_of_all
from tests.mmproj import ROWS, png, write_mmproj
from tests.pictures import KINDS, Kind, jpeg_of, png_of
from tests.tiny_gguf import write_tiny_gguf
from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.domain.images import Image, ImageFormat
from unified_llm.worker.batching import BatchingEngine
from unified_llm.worker.engine import LlamaModel, open_llama_engine, open_native_log
from unified_llm.worker.engine_port import Pulse, Report
from unified_llm.worker.protocol import Done, Failed, Generate, Load, Started
from unified_llm.worker.sampling import resolve_sampling
from unified_llm.worker.slots import Feed, Seat
from unified_llm.worker.vision import Prompt


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


def run(engine: BatchingEngine, pulse: Pulse = lambda: None) -> list[Report]:
    """Step until nothing is left to do."""
    reports = []
    while engine.is_busy:
        reports += engine.step(pulse)
    return reports


_NO_PICTURES = {
    "half a PNG": png(1)[:60],
    "the name of PNG": b"\x89PNG\r\n\x1a\n",
    "the name of JPEG": b"\xff\xd8\xff" + bytes(50),
    "WebP": b"RIFF\x1a\0\0\0WEBPVP8L" + bytes(20),
}
no_pictures = pytest.mark.parametrize("data", _NO_PICTURES.values(), ids=_NO_PICTURES.keys())


@no_pictures
def test_what_is_no_picture_fails_only_who_has_shown_it(
    engine: BatchingEngine, data: bytes
) -> None:
    for number, shown in enumerate((png(1), data, png(2))):
        engine.submit(show(shown, number=number, principal=f"uid:{number}"))
    ends = [each for each in run(engine) if isinstance(each, Done | Failed)]
    (failed,) = [each for each in ends if isinstance(each, Failed)]
    assert (failed.id, failed.code, failed.parameter) == (1, "invalid-request", "messages")
    assert {each.id for each in ends} == {0, 1, 2}


@no_pictures
def test_what_is_no_picture_starts_no_program(
    engine: BatchingEngine, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ffprobe", "ffmpeg"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n: > {tmp_path}/started\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    engine.submit(show(data))
    assert isinstance(run(engine)[-1], Failed)
    assert not (tmp_path / "started").exists()


def test_more_images_than_the_context_has_room_for_are_not_decoded(
    engine: BatchingEngine,
) -> None:
    engine.submit(show(*[_NO_PICTURES["half a PNG"]] * (512 // ROWS + 1)))
    (failed,) = run(engine)
    assert isinstance(failed, Failed)
    assert failed.code == "too-large"
    assert f"{512 // ROWS + 1} images take {512 + ROWS} tokens" in failed.message


@pytest.mark.parametrize("pulses", [1, 2, 4])
def test_a_cancel_ends_a_look_at_a_picture(engine: BatchingEngine, pulses: int) -> None:
    expected, _ = answer(engine, show(png(1), number=1))
    engine.submit(show(png(1), number=2, principal="uid:2"))
    assert isinstance(engine.step(lambda: None)[0], Started)
    seen = list[None]()

    def cancel() -> None:
        seen.append(None)
        if len(seen) == pulses:
            engine.interrupt(2)
            engine.cancel(2)

    (failed,) = run(engine, cancel)
    assert isinstance(failed, Failed)
    assert failed.code == "cancelled"
    assert len(seen) == pulses
    again, done = answer(engine, show(png(1), number=3, principal="uid:2"))
    assert (again, done.cached_tokens < ROWS) == (expected, True)


@pytest.fixture
def model(load: Load) -> Iterator[LlamaModel]:
    model = LlamaModel(load, lambda _: None, open_native_log())
    yield model
    model.close()


def prompt_of(model: LlamaModel, principal: str, data: bytes = b"") -> Prompt:
    tokens = model.encode(show(data or png(1)).messages, principal=principal)
    assert isinstance(tokens, Prompt)
    return tokens


def test_two_principals_have_no_picture_in_common(model: LlamaModel) -> None:
    prompts = [prompt_of(model, principal) for principal in ("uid:1", "uid:2", "uid:1")]
    assert prompts[0] == prompts[2] != prompts[1]
    assert prompts[0].pictures == prompts[2].pictures
    assert not set(prompts[0].pictures) & set(prompts[1].pictures)


def test_numbers_for_pictures_do_not_run_out(load: Load) -> None:
    engine = open_llama_engine()
    engine.load(load, lambda _: None)
    expected, _ = answer(engine, show(png(1)))
    model = engine._model
    assert isinstance(model, LlamaModel)
    assert model._projector is not None
    model._projector._next_number = 2**40
    assert answer(engine, show(png(1), number=2, principal="uid:2"))[0] == expected
    engine.close()


def test_vectors_are_kept_until_the_last_of_them_has_been_fed(model: LlamaModel) -> None:
    prompt = prompt_of(model, "uid:1")
    (picture,) = prompt.pictures
    first = prompt.index(picture.tokens[0])
    sampling = resolve_sampling(Sampling(temperature=0), lambda: 0, model.vocabulary_size)
    model.begin(Seat(1, slot=0, cached=0, source=None), sampling, prompt, None)
    assert model.decode([Feed(0, 1, 0, tuple(prompt[:first]), is_last=False)], lambda: False)
    half = Feed(0, 1, first, tuple(picture.tokens[:5]), is_last=False)
    rest = Feed(0, 1, half.end, tuple(picture.tokens[5:]), is_last=False)
    assert model.is_unseen(half)
    assert model.see(half, lambda: False)
    for feed in (half, rest):
        assert not model.is_unseen(feed)
        assert picture.vectors is not None
        assert model.decode([feed], lambda: False)
    assert picture.vectors is None
    assert model.is_unseen(rest)
    model.end(0)


def test_pictures_of_all_kinds_are_seen(engine: BatchingEngine) -> None:
    shown = [png_of(21, 13, Kind(*kind, odd)) for kind in KINDS for odd in (False, True)]
    for number, each in enumerate((*shown, jpeg_of(20, 30), jpeg_of(20, 30, scans=64))):
        answer(engine, show(each, number=number))


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
