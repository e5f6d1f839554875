"""The whole daemon with a model that sees, sandbox on."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.mmproj import ROWS, png, write_mmproj
from tests.pictures import jpeg_of, png_of
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import PATIENCE, open_daemon

pytestmark = [pytest.mark.system, pytest.mark.slow]


def showing(*pictures: bytes) -> list[Any]:
    urls = [f"data:image/png;base64,{base64.b64encode(each).decode()}" for each in pictures]
    images = [{"type": "image_url", "image_url": {"url": each}} for each in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *images]}]


def test_a_model_with_a_projector_answers_to_what_it_is_shown(tmp_path: Path) -> None:
    model = str(write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=512))
    projector = str(write_mmproj(tmp_path / "mmproj.gguf"))
    changes = {
        "models": {
            "directory": None,
            "seeing": {"path": model, "projector": projector},
            "blind": {"path": model},
        },
        "worker": {"engine": "llama", "stall_seconds": PATIENCE},
    }
    with open_daemon(changes, with_bus=False) as daemon, daemon.open_openai() as client:

        def ask(name: str, *pictures: bytes) -> Any:
            return client.chat.completions.create(
                model=name, messages=showing(*pictures), temperature=0, max_tokens=16
            )

        answers = [ask("seeing", each) for each in (png(1), png(2), png(1))]
        texts = [each.choices[0].message.content for each in answers]
        assert texts[0] == texts[2] != texts[1]
        more = ask("seeing", png(1), png(2)).usage.prompt_tokens
        assert more - answers[0].usage.prompt_tokens >= ROWS
        assert len(daemon.workers()) == 1
        with pytest.raises(openai.BadRequestError, match="blind reads text only"):
            ask("blind", png(1))
        with pytest.raises(openai.BadRequestError, match="blind reads text only"):
            ask("blind", png(1)[:60])
        with pytest.raises(openai.BadRequestError, match="no sound PNG"):
            ask("seeing", png(1)[:60])
        with pytest.raises(openai.BadRequestError, match="more than the 4 bytes of its pixels"):
            ask("seeing", png_of(1, 1, idat=zlib.compress(bytes(4 * 2**20))))
        with pytest.raises(openai.BadRequestError, match="bytes and 256 segments"):
            ask("seeing", b"\xff\xd8" + b"\xff" * (4 * 2**20))
        with pytest.raises(openai.BadRequestError, match="5000 scans; the most is 64"):
            ask("seeing", jpeg_of(8, 8, scans=5000))
        no_filter = png_of(1, 1, idat=zlib.compress(b"\x09\0\0\0"))
        with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
            client.chat.completions.create(model="seeing", messages=showing(no_filter), stream=True)
        bomb = png(1, 1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 50_000, 50_000))
        with pytest.raises(openai.BadRequestError, match="50000 x 50000 pixels"):
            ask("seeing", bomb)
        assert ask("seeing", png(2)).choices[0].message.content == texts[1]
        with daemon.open_http() as http:
            listed = {each["id"]: each for each in http.get("/v1/models").json()["data"]}
    assert {name: each["x_unified_llm"]["sees_images"] for name, each in listed.items()} == {
        "seeing": True,
        "blind": False,
    }
