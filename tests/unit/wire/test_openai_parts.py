"""Parts of messages: texts and pictures, as OpenAI's clients send them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.chat import Message
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.images import Image, ImageDetail, ImageFormat
from unified_llm.wire.openai import parse_chat

PNG = b"\x89PNG\r\n\x1a\n and so on"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def picture(url: str = URL, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def said(*parts: dict[str, Any], role: str = "user") -> Message:
    body = {"model": "m", "messages": [{"role": role, "content": list(parts)}]}
    (message,) = parse_chat(json.dumps(body).encode()).request.messages
    return message


def test_texts_are_paragraphs_and_images_stand_between_them() -> None:
    message = said(words("A"), words("B"), picture(), words("C"), picture(detail="low"))
    assert message.content == "A\nBC"
    assert message.images == (
        Image(ImageFormat.PNG, PNG, 3),
        Image(ImageFormat.PNG, PNG, 4, ImageDetail.LOW),
    )
    assert [part if isinstance(part, str) else "image" for part in message.parts()] == [
        "A\nB",
        "image",
        "C",
        "image",
    ]


def test_a_picture_alone_is_a_message() -> None:
    message = said(picture(detail="auto"))
    assert (message.content, message.images) == ("", (Image(ImageFormat.PNG, PNG),))


def test_what_a_picture_is_its_bytes_say() -> None:
    message = said(picture(URL.replace("image/png", "image/jpeg")))
    assert message.images[0].format is ImageFormat.PNG


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/cat.png",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "data:image/png,raw",
        "data:image/png;base64",
        "data:image/png;base64,####",
        "data:image/png;base64,é",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png;base64,",
        "",
    ],
)
def test_what_is_no_picture_that_came_along_is_refused_by_its_path(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        said(words("A"), picture(url))
    assert refused.value.parameter == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_the_user_shows_pictures(role: str) -> None:
    with pytest.raises(InvalidRequest, match="only the user does"):
        said(words("A"), picture(), role=role)


@pytest.mark.parametrize(
    ("part", "parameter"),
    [
        ({"type": "input_audio", "input_audio": {}}, "messages[0].content[0].type"),
        ({"type": "image_url", "image_url": "x"}, "messages[0].content[0].image_url"),
        (picture(detail="original"), "messages[0].content[0].image_url.detail"),
        ("text", "messages[0].content[0]"),
    ],
)
def test_other_parts_are_refused_by_name(part: Any, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        said(part)
    assert refused.value.parameter == parameter


@given(st.text(max_size=40))
def test_hostile_addresses_are_no_surprise(url: str) -> None:
    with pytest.raises(InvalidRequest):
        said(picture(url))
