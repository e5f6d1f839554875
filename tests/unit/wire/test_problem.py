"""Every error has one answer."""

import json

import pytest

from unified_llm.domain import errors
from unified_llm.domain.errors import InvalidRequest, NoRoom, RateLimited, UnifiedLlmError
from unified_llm.domain.units import Seconds
from unified_llm.wire.problem import TABLE, describe


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    # The tests define error classes of their own; only those of the tree count here.
    ours = {error for error in errors.concrete_errors() if error.__module__ == errors.__name__}
    assert set(TABLE) == ours


@pytest.mark.parametrize("error", TABLE, ids=lambda error: error.code)
def test_the_callers_mistakes_are_4xx_and_ours_are_5xx(error: type[UnifiedLlmError]) -> None:
    status, kind = TABLE[error]
    # Time or the operator mends a spent budget, and clients of OpenAI know such a thing by 429.
    is_callers = issubclass(error, errors.RequestError | errors.BudgetSpent)
    assert status // 100 == (4 if is_callers else 5)
    assert (kind == "server_error") is not is_callers


@pytest.mark.parametrize(
    ("given", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (30.0, "30")]
)
def test_the_time_to_come_back_is_a_whole_second_never_early(given: float, said: str) -> None:
    problem = describe(NoRoom("Full.", retry_after=Seconds(given)))
    assert problem.headers() == {"retry-after": said}


def test_trying_again_is_discouraged_where_it_is_no_use() -> None:
    assert describe(NoRoom("Full.")).headers() == {"x-should-retry": "false"}
    assert describe(RateLimited("Enough.")).headers() == {"x-should-retry": "false"}
    assert describe(InvalidRequest("Wrong.")).headers() == {}


def test_the_body_is_openais_error_object() -> None:
    error = InvalidRequest("Wrong.", hint="Do right.", parameter="stop")
    assert json.loads(describe(error).encode()) == {
        "error": {
            "message": "Wrong. Do right.",
            "type": "invalid_request_error",
            "param": "stop",
            "code": "invalid-request",
        }
    }


def test_half_a_character_in_a_message_can_still_be_sent() -> None:
    assert b"?" in describe(NoRoom("No \ud800.")).encode()
