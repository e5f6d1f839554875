import logging

import pytest

from unified_llm.domain.errors import (
    ConfigurationError,
    InternalError,
    InvalidRequest,
    UnifiedLlmError,
    concrete_errors,
)
from unified_llm.fleet.faults import error_of, shown
from unified_llm.worker.protocol import Failed


def failed(code: str, message: str = "it is so") -> Failed:
    return Failed(id=1, code=code, message=message)


@pytest.mark.parametrize("error", concrete_errors())
def test_every_code_of_the_domain_has_its_error(error: type[UnifiedLlmError]) -> None:
    found = error_of(failed(error.code))
    if error in (ConfigurationError, InternalError):
        assert type(found) is InternalError
    else:
        assert type(found) is error
        assert found.message == "it is so"


def test_an_unknown_code_is_an_incident_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = error_of(failed("no-such-code\n", "secret cause"))
    assert isinstance(error, InternalError)
    assert "secret cause" not in str(error)
    assert error.incident in caplog.text
    assert "secret cause" in caplog.text


def test_what_a_worker_says_is_cut_and_cleaned() -> None:
    assert shown("a\nb\x1b[31m") == "a b [31m"
    assert len(shown("x" * 10_000)) == 501


def test_the_field_at_fault_reaches_the_caller() -> None:
    error = error_of(Failed(id=1, code="invalid-request", message="no", parameter="a\nb"))
    assert isinstance(error, InvalidRequest)
    assert error.parameter == "a b"
