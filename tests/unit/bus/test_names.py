"""Names and paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.bus.names import (
    escape_label,
    is_object_path,
    job_path,
    model_of_path,
    model_path,
    unescape_label,
)
from unified_llm.domain.models import MODEL_ID_PATTERN, ModelId


@given(st.text())
def test_every_text_comes_back_from_its_label(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    label = escape_label(text)
    assert is_object_path(f"/{label}")
    assert unescape_label(label) == text


@given(st.from_regex(MODEL_ID_PATTERN, fullmatch=True))
def test_every_model_comes_back_from_its_path(text: str) -> None:
    path = model_path(ModelId(text))
    assert is_object_path(path)
    assert model_of_path(path) == text


@given(st.text())
def test_no_two_labels_mean_the_same(label: str) -> None:
    text = unescape_label(label)
    assert text is None or escape_label(text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "_"),
        ("tiny", "tiny"),
        ("7b", "_37b"),
        ("a7", "a7"),
        ("qwen2.5:7b", "qwen2_2e5_3a7b"),
        ("a_b", "a_5fb"),
        ("é", "_c3_a9"),
    ],
)
def test_labels_are_those_of_systemd(text: str, label: str) -> None:
    assert escape_label(text) == label


@pytest.mark.parametrize("label", ["", "__", "_3", "_ZZ", "_c3", "_61", "a-b", "7b", "a\n"])
def test_what_is_no_label_of_ours_means_nothing(label: str) -> None:
    assert unescape_label(label) is None


@pytest.mark.parametrize("path", ["", "a", "/a/", "//", "/a\n", "/a-b", "/é"])
def test_paths_the_bus_would_not_take_are_told(path: str) -> None:
    assert not is_object_path(path)


def test_a_path_of_something_else_names_no_model() -> None:
    assert model_of_path(job_path(3)) is None
    assert job_path(3) == "/org/unifiedllm1/job/_3"
