"""Which error is told when several were met."""

from unified_llm.domain.errors import (
    ProviderDown,
    ProviderOverloaded,
    TooLarge,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.routing.verdict import Failure, one_error

SMART = ModelId("smart")


def failures(*errors: UnifiedLlmError) -> list[Failure]:
    return [Failure(ModelId(f"m{place}"), error) for place, error in enumerate(errors)]


def test_a_single_error_is_told_as_it_is() -> None:
    error = ProviderDown("It is down.", hint="Look.")
    assert one_error(SMART, failures(error)) is error
    assert error.hint == "Look."


def test_what_passes_soonest_is_told_first_and_names_the_others() -> None:
    found = one_error(
        SMART,
        failures(
            TooLarge("Too large."),
            ProviderOverloaded("Busy.", retry_after=Seconds(9)),
            ProviderOverloaded("Busy too.", retry_after=Seconds(2)),
            ProviderDown("Down."),
        ),
    )
    assert found.retry_after == Seconds(2)
    assert found.hint == (
        "Tried for smart: m0 (too-large), m1 (provider-overloaded), m2 (provider-overloaded), "
        "m3 (provider-down)."
    )


def test_what_an_operator_can_mend_comes_before_what_the_caller_can() -> None:
    found = one_error(SMART, failures(TooLarge("Too large."), ProviderDown("Down.")))
    assert isinstance(found, ProviderDown)
