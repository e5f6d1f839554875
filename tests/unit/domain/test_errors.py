"""The tree of errors keeps its promises."""

import re
from pathlib import Path

import pytest

import unified_llm.domain.errors as module
from unified_llm.domain.errors import (
    ConfigurationError,
    InternalError,
    Problem,
    RequestError,
    UnavailableError,
    UnifiedLlmError,
    concrete_errors,
)


@pytest.mark.parametrize("trunk", [UnifiedLlmError, RequestError, UnavailableError])
def test_a_trunk_is_never_raised_itself(trunk: type[UnifiedLlmError]) -> None:
    with pytest.raises(TypeError, match="is abstract"):
        trunk("message")


def test_codes_are_kebab_case_and_unique() -> None:
    codes = [error.code for error in concrete_errors()]
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_every_class_stands_in_the_drawing_at_the_top() -> None:
    drawing = Path(module.__file__).read_text().split('"""')[1]
    for error in concrete_errors():
        assert re.search(rf"\b{error.__name__}\b", drawing), error


def test_a_configuration_error_says_everything() -> None:
    problems = (
        Problem("log.level", 3, "is 'loud'", "debug or info"),
        Problem("", None, "is empty"),
    )
    error = ConfigurationError("config.yaml", problems)
    assert str(error) == (
        "config.yaml: 2 problems\n"
        "  line 3: log.level: is 'loud' (expected debug or info)\n"
        "  is empty"
    )


def test_an_internal_error_shows_its_id_only() -> None:
    assert "abc123" in str(InternalError("abc123"))


def test_the_hint_follows_the_message() -> None:
    (first, *_) = [error for error in concrete_errors() if error.code == "unknown-model"]
    assert str(first("No model.", hint="Try another.")) == "No model. Try another."
