"""Steps are as large as a quarter of a second, by what they have taken."""

from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Seconds
from unified_llm.worker.pace import LEAST_TOKENS, Pace


def after(pace: Pace, tokens_per_second: float, steps: int = 12) -> int:
    for _ in range(steps):
        tokens = pace.step_tokens
        pace.took(tokens, Seconds(tokens / tokens_per_second))
    return pace.step_tokens


def test_the_first_step_is_small() -> None:
    assert Pace(most=512, least=8).step_tokens == LEAST_TOKENS


def test_a_fast_machine_comes_to_whole_steps_and_a_slow_one_stays_with_small_ones() -> None:
    assert after(Pace(most=512, least=8), 20_000) == 512
    assert after(Pace(most=512, least=8), 160) == LEAST_TOKENS
    assert after(Pace(most=512, least=8), 1_000) in range(240, 261)


def test_a_machine_that_becomes_slow_comes_back_to_small_steps() -> None:
    pace = Pace(most=512, least=8)
    after(pace, 20_000)
    assert after(pace, 160) == LEAST_TOKENS


def test_steps_that_only_generate_tell_nothing_of_how_fast_prompts_are_read() -> None:
    pace = Pace(most=512, least=8)
    after(pace, 20_000)
    for _ in range(100):
        pace.took(8, Seconds(0.06))
    assert pace.step_tokens == 512


def test_a_step_that_took_no_time_is_the_fastest_there_is() -> None:
    pace = Pace(most=512, least=8)
    pace.took(64, Seconds(0))
    assert pace.step_tokens == 512


@given(
    most=st.integers(1, 4096),
    least=st.integers(1, 4096),
    steps=st.lists(st.tuples(st.integers(0, 8192), st.floats(0, 1e6))),
)
def test_whatever_was_measured_every_slot_fits_and_nothing_exceeds_the_step(
    most: int, least: int, steps: list[tuple[int, float]]
) -> None:
    pace = Pace(most, least)
    for tokens, duration in steps:
        pace.took(tokens, Seconds(duration))
        assert min(most, least) <= pace.step_tokens <= most
