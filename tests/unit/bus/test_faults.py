"""Errors of ours and of D-Bus."""

import logging

import pytest

from unified_llm.bus import faults
from unified_llm.domain.errors import (
    AuthenticationDismissed,
    AuthenticationRequired,
    ConfigurationError,
    InternalError,
    Problem,
    UnifiedLlmError,
    UnknownModel,
    concrete_errors,
)


def _example(kind: type[UnifiedLlmError]) -> UnifiedLlmError:
    if issubclass(kind, ConfigurationError):
        return ConfigurationError("config.yaml", (Problem("a", 1, "wrong"),))
    if issubclass(kind, InternalError):
        return InternalError("0badcafe")
    return kind("The fact.", hint="What to do.")


@pytest.mark.parametrize("kind", concrete_errors())
def test_every_error_has_a_name_of_its_own_and_comes_back(kind: type[UnifiedLlmError]) -> None:
    error = _example(kind)
    name, text = faults.describe(error)
    assert name.startswith(("org.freedesktop.DBus.Error.", "org.unifiedllm1.Error."))
    back = faults.parse_fault(faults.BusFault(name, text))
    assert type(back) is kind
    assert text.splitlines()[-1].strip() in str(back)


def test_no_two_errors_share_a_name() -> None:
    assert len(set(faults.NAMES.values())) == len(faults.NAMES) == len(concrete_errors())


def test_the_text_of_an_error_says_what_to_do() -> None:
    assert faults.describe(UnknownModel("There is no model 'x'.", hint="Ask for the list.")) == (
        "org.unifiedllm1.Error.NoSuchModel",
        "There is no model 'x'. Ask for the list.",
    )


def test_a_fault_the_domain_has_no_word_for_stays_itself() -> None:
    fault = faults.BusFault("org.freedesktop.DBus.Error.ServiceUnknown", "nobody")
    assert faults.parse_fault(fault) is fault
    assert faults.describe(fault) == (fault.name, "nobody")


def test_a_password_that_was_not_given_keeps_its_reason() -> None:
    for name, error in (
        (faults.INTERACTIVE_AUTHORIZATION_REQUIRED, AuthenticationRequired),
        (faults.AUTHORIZATION_DISMISSED, AuthenticationDismissed),
    ):
        assert isinstance(faults.parse_fault(faults.BusFault(name, "no")), error)


def test_the_log_holds_the_cause_under_the_id_the_caller_sees(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cause = RuntimeError("secret")
    with caplog.at_level(logging.ERROR):
        fault = faults.internal_fault("a.B.C", cause, incident=lambda: "0badcafe")
    (record,) = caplog.records
    assert "0badcafe" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is cause
    assert "secret" not in str(fault)


def test_incidents_differ() -> None:
    assert len({faults.new_incident() for _ in range(100)}) == 100
