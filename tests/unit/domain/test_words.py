"""Model ids, states and quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.lifecycle import TRANSITIONS, ModelState, may_become
from unified_llm.domain.models import MODEL_ID_PATTERN, is_model_id, parse_model_id
from unified_llm.domain.units import render_bytes


@given(st.from_regex(rf"\A{MODEL_ID_PATTERN}\Z"))
def test_what_fits_the_pattern_is_an_id(text: str) -> None:
    assert parse_model_id(text) == text


@given(st.text())
def test_anything_else_is_refused_naming_the_parameter(text: str) -> None:
    if not is_model_id(text):
        with pytest.raises(InvalidRequest) as refusal:
            parse_model_id(text, parameter="id")
        assert refusal.value.parameter == "id"


@pytest.mark.parametrize("text", ["", "/etc/passwd", "../x", "a b", "a\n", "é", "x" * 129])
def test_paths_and_absurd_names_are_no_ids(text: str) -> None:
    assert not is_model_id(text)


def test_every_state_has_a_way_in_and_a_way_out() -> None:
    assert set(TRANSITIONS) == set(ModelState)
    entered = {following for targets in TRANSITIONS.values() for following in targets}
    assert entered == set(ModelState)
    assert all(TRANSITIONS.values())


def test_no_state_follows_itself() -> None:
    assert not any(may_become(state, state) for state in ModelState)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (98_362_432, "93.8 MiB"), (2**40, "1.0 TiB")],
)
def test_sizes_are_rendered_in_binary_units(size: int, text: str) -> None:
    assert render_bytes(size) == text
