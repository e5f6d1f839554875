"""gguf.quantisation."""

import importlib.util
import re
from pathlib import Path

import pytest

from unified_llm.gguf.quantisation import quantisation_name


@pytest.mark.parametrize(
    ("file_type", "name"),
    [(0, "F32"), (3, "Q4_1"), (15, "Q4_K_M"), (1024 + 7, "Q8_0"), (5, None), (999, None)],
)
def test_a_file_type_has_the_name_people_use(file_type: int, name: str | None) -> None:
    assert quantisation_name(file_type) == name


def test_no_file_type_has_no_name() -> None:
    assert quantisation_name(None) is None


def test_every_file_type_of_the_pinned_llama_cpp_has_its_name() -> None:
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("llama_cpp.py").read_text()
    declared = re.findall(r"LLAMA_FTYPE_(?:ALL|MOSTLY)_(\w+) = (\d+)", source)
    current = {int(code): name for name, code in declared if "SOME" not in name}
    for removed in (33, 34, 35):
        current.pop(removed)
    assert {code: quantisation_name(code) for code in current} == current
