"""The table and the sentences under it."""

from dataclasses import replace

from tests.unit.planner.test_fit import WISHES, llama, machine
from unified_llm.domain.units import Bytes
from unified_llm.planner.explain import explain_parts, explain_sacrifices
from unified_llm.planner.fit import find_plan


def test_every_byte_of_a_plan_is_in_one_row() -> None:
    profile, devices = llama(), machine(64, 4, 3)
    plan = find_plan(profile, devices, replace(WISHES, drafts=True))
    rows = explain_parts(profile, devices, plan)
    assert sum(row.size_bytes for row in rows) == plan.estimate.total
    assert {row.device for row in rows} == {"RAM", "GPU 0", "GPU 1"}
    assert [row.device for row in rows if row.part == "drafts"] == ["RAM"]
    assert all(row.size_bytes > 0 and row.why for row in rows)


def test_rows_say_which_layers_lie_where() -> None:
    profile, devices = llama(), machine(64, 24)
    rows = explain_parts(profile, devices, find_plan(profile, devices, WISHES))
    why = {(row.device, row.part): row.why for row in rows}
    assert why["RAM", "weights"] == "the token embedding"
    assert why["GPU 0", "weights"] == "layers 0 to 31, the output"
    assert why["GPU 0", "cache"] == "f16 keys and values of 8192 tokens in 4 slots"


def test_what_is_as_wished_is_not_mentioned() -> None:
    profile = llama()
    plan = find_plan(profile, machine(64, 24), WISHES)
    assert explain_sacrifices(profile, WISHES, plan) == ()


def test_each_sacrifice_is_a_sentence() -> None:
    profile = llama()
    plan = find_plan(profile, machine(64, 4.6), WISHES)
    first, second, third = explain_sacrifices(profile, WISHES, plan)
    assert first == "The cache is q8_0 instead of f16."
    assert second == "There are 1 of 4 slots."
    assert third == f"The context is {plan.run.context_tokens} tokens instead of 8192."


def test_experts_and_layers_in_main_memory_are_mentioned() -> None:
    profile = llama()
    layers = tuple(replace(layer, expert_bytes=Bytes(2**30 // 10)) for layer in profile.layers)
    mixed = replace(profile, layers=layers)
    plan = find_plan(mixed, machine(64, 4.0), WISHES)
    assert "routed experts" in explain_sacrifices(mixed, WISHES, plan)[-1]
    rows = explain_parts(mixed, machine(64, 4.0), plan)
    assert "routed experts of layers 0 to" in rows[0].why
    small = find_plan(profile, machine(64, 2.0), WISHES)
    assert "of 32 layers stay in main memory" in explain_sacrifices(profile, WISHES, small)[-1]
