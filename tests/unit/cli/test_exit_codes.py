"""What a script learns from the exit status."""

import pytest

from unified_llm.cli import exit_codes
from unified_llm.domain.errors import (
    ConfigurationError,
    InternalError,
    InvalidRequest,
    NotPermitted,
    RateLimited,
    UnifiedLlmError,
    UnknownModel,
    WorkerDied,
    concrete_errors,
)


@pytest.mark.parametrize("kind", concrete_errors())
def test_every_error_has_a_documented_status(kind: type[UnifiedLlmError]) -> None:
    if kind is ConfigurationError:
        error: UnifiedLlmError = ConfigurationError("file", ())
    else:
        error = kind("message")
    assert exit_codes.exit_code(error) in exit_codes.MEANINGS
    assert exit_codes.exit_code(error) != exit_codes.DONE


def test_kinds_of_failure_are_told_apart() -> None:
    assert exit_codes.exit_code(UnknownModel("x")) == exit_codes.REFUSED
    assert exit_codes.exit_code(InvalidRequest("x")) == exit_codes.REFUSED
    assert exit_codes.exit_code(NotPermitted("x")) == exit_codes.NOT_PERMITTED
    assert exit_codes.exit_code(RateLimited("x")) == exit_codes.UNAVAILABLE
    assert exit_codes.exit_code(WorkerDied("x")) == exit_codes.UNAVAILABLE
    assert exit_codes.exit_code(InternalError("x")) == exit_codes.FAILED
