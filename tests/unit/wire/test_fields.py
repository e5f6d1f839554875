"""JSON from anybody: bounded before it is parsed, and wrong fields are named."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unified_llm.domain.errors import InvalidRequest
from unified_llm.wire.fields import MAX_DEPTH, MAX_VALUES, decode_json, render_path

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "Extra data"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff\xfe{\0}\0", "byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        (b'{"x": {"a": 1, "\\u0061": 3}}', "'a' is there twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 5000 + b"]", "64 characters"),
        (b"[" * 65 + b"]" * 65, "65 deep"),
        (b"[" * 10**6, "brackets"),
        (b'{"a":' * 10**6, "texts"),
        (b"[" + b"0," * 10**6 + b"0]", "brackets"),
        (b'["' + b'",""' * 10**6 + b"]", "texts"),
        (b'["' + b'\\"' * MIB, "not JSON"),
        (b'["' + b"\\" * MIB, "not JSON"),
    ],
)
def test_hostile_json_is_refused_in_words(raw: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_json(raw)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("raw", "parameter"),
    [
        (b'"\\ud800"', None),
        (b'{"messages": [{"content": "a\\udc00b"}]}', "messages[0].content"),
        (b'{"a": {"\\ud83d": 1}}', "a"),
        (b'["ok", "\\ud83d\\ud83d"]', "[1]"),
    ],
)
def test_half_characters_are_refused_where_they_are(raw: bytes, parameter: str | None) -> None:
    with pytest.raises(InvalidRequest, match="half a character") as caught:
        decode_json(raw)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "value",
    [
        {"text": 'brackets [[[{{{ and \\ "quotes" in a text' * 10_000},
        {"a": "\\", "b": '\\"', "c": '"\\\\'},
        {"emoji": "😀", "accents": "é\u2028"},
        [1, -2.5, 1e10, 10**40, True, None, {}, []],
    ],
)
def test_what_json_can_say_arrives_unchanged(value: object) -> None:
    assert decode_json(json.dumps(value).encode()) == value
    assert decode_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_the_limits_themselves_are_allowed() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert decode_json(deepest)
    widest = b"[" + b"0," * (MAX_VALUES - 2) + b"0]"
    assert isinstance(decode_json(widest), list)


@given(st.binary(max_size=200))
@example(b'{"a":"\\ud800"}')
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with suppress(InvalidRequest):
        decode_json(raw)


# The characters in which our scan and a parser could disagree.
TRICKY = st.text(alphabet='"\\[]{},:u0d8a ', max_size=40).map(str.encode)


@given(TRICKY)
def test_the_scan_agrees_with_the_parser_on_where_texts_end(raw: bytes) -> None:
    try:
        expected = json.loads(raw)
    except ValueError:
        with pytest.raises(InvalidRequest):
            decode_json(raw)
        return
    with suppress(InvalidRequest):  # a key that is there twice, or half a character
        assert decode_json(raw) == expected


@given(st.text())
def test_no_text_hides_the_depth_that_follows_it(text: str) -> None:
    raw = json.dumps([text]).encode()[:-1] + b"," + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]"
    with pytest.raises(InvalidRequest, match="65 deep"):
        decode_json(raw)


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_decoding_reads_what_python_writes(value: Any) -> None:
    try:
        encoded = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        encoded = json.dumps(value).encode()
        with pytest.raises(InvalidRequest):
            decode_json(encoded)
        return
    assert decode_json(encoded) == value


def test_paths_read_like_code() -> None:
    assert render_path(("messages", 2, "content", "<parts>", 0, "text")) == (
        "messages[2].content[0].text"
    )
    assert render_path(()) == ""
