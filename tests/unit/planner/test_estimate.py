from hypothesis import given
from hypothesis import strategies as st

from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.estimate import (
    ASSUMED_KV_BYTES_PER_TOKEN,
    COMPUTE_BYTES,
    PROCESS_BYTES,
    expected_bytes,
    kv_bytes_per_token,
)

MIB = 1024 * 1024


def test_the_cache_of_smollm2_is_what_llama_cpp_prints() -> None:
    per_token = kv_bytes_per_token(layers=30, kv_heads=3, key_length=64, value_length=64)
    assert per_token * 8192 == 180 * MIB


def test_every_slot_has_a_context_of_its_own() -> None:
    one = expected_bytes(Bytes(98 * MIB), Bytes(23040), Tokens(4096), slots=1)
    four = expected_bytes(Bytes(98 * MIB), Bytes(23040), Tokens(4096), slots=4)
    assert one == 98 * MIB + 90 * MIB + COMPUTE_BYTES + PROCESS_BYTES
    assert four - one == 3 * 90 * MIB


def test_a_header_that_does_not_tell_is_taken_for_a_large_model() -> None:
    silent = expected_bytes(Bytes(0), None, Tokens(100), slots=1)
    assert silent == expected_bytes(Bytes(0), ASSUMED_KV_BYTES_PER_TOKEN, Tokens(100), slots=1)


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(256, 2**20), st.integers(1, 64))
def test_more_of_anything_never_takes_less(size: int, kv: int, context: int, slots: int) -> None:
    least = expected_bytes(Bytes(size), Bytes(kv), Tokens(context), slots)
    assert expected_bytes(Bytes(size + 1), Bytes(kv), Tokens(context), slots) > least
    assert expected_bytes(Bytes(size), Bytes(kv + 1), Tokens(context), slots) > least
    assert expected_bytes(Bytes(size), Bytes(kv), Tokens(context + 1), slots) >= least
    assert expected_bytes(Bytes(size), Bytes(kv), Tokens(context), slots + 1) >= least
