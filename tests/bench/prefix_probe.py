"""Whether the time to the first token tells what another user has asked.

`python -m tests.bench.prefix_probe` takes about 3 minutes: a real worker with a synthetic model
that reads prompts slowly enough, and a store of kept states. Before each probe, one user's request
leaves a prompt in memory; then the other user asks something that begins with that prompt, or with
another one of the same length. They take turns, so each makes 2,000 probes, half of each kind. The
figure is the area under the curve (AUC) that tells the two kinds apart by time: 0.5 is chance. As a
control, a user probes for prompts of its own, which must be found.
"""

import argparse
import asyncio
import os
import random
import statistics
import string
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.bench.architectures import Transformer
from tests.bench.bars import Bar, print_bars
from tests.fakes.leases import FakeLeases
from tests.fakes.reports import FakeReports
from tests.synthetic_models import SyntheticModel
from tests.unit.fleet.asking import CALLER, PLACEMENT, request
from tests.unit.fleet.specs import spec_of
from unified_llm.domain.chat import Finished
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.fleet.backend import Deadlines, LocalBackend
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.launcher import Launcher
from unified_llm.fleet.oom import OomKills
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.process import Launch
from unified_llm.fleet.supervisor import Fleet
from unified_llm.fleet.timers import LoopTimers
from unified_llm.scheduler.effects import Generation

_PREFIX_CHARACTERS: Final = 360
_QUOTA: Final = Bytes(2**26)
_USERS: Final = (1000, 1001)
_LIMIT_SECONDS: Final = 3600


@dataclass(slots=True)
class Probes:
    """Seconds to the first token, and prompt tokens that needed no computing, by kind of probe."""

    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    known_reused: list[int] = field(default_factory=list)
    unknown_reused: list[int] = field(default_factory=list)

    @property
    def auc(self) -> float:
        """How often a prompt that is known answers sooner than one that is not."""
        return area_under_curve(self.known, self.unknown)

    @property
    def excess_reused(self) -> float:
        """Tokens reused because the prompt was known; one's own template is reused either way."""
        return statistics.mean(self.known_reused) - statistics.mean(self.unknown_reused)

    def add(self, seconds: float, reused: int, *, is_known: bool) -> None:
        (self.known if is_known else self.unknown).append(seconds)
        (self.known_reused if is_known else self.unknown_reused).append(reused)


def area_under_curve(sooner: Sequence[float], later: Sequence[float]) -> float:
    """The chance that one of `sooner` is below one of `later`; a tie counts half (Mann-Whitney)."""
    ranked = sorted([(value, 0) for value in sooner] + [(value, 1) for value in later])
    below, wins, position = 0, 0.0, 0
    while position < len(ranked):
        end = position
        while end < len(ranked) and ranked[end][0] == ranked[position][0]:
            end += 1
        tied = [kind for _, kind in ranked[position:end]]
        wins += tied.count(1) * (below + tied.count(0) / 2)
        below += tied.count(0)
        position = end
    return wins / (len(sooner) * len(later))


class Prober:
    """Two users of one model."""

    def __init__(self, backend: LocalBackend, draw: random.Random) -> None:
        self._backend = backend
        self._draw = draw

    async def probe(self, probes: Probes, victim: int, attacker: int) -> None:
        """Two probes, one of each kind, in any order."""
        for is_known in self._draw.sample((True, False), 2):
            left, other = self._prefix(), self._prefix()
            await self._ask(victim, left)
            text = (left if is_known else other) + self._words(20)
            seconds, reused = await self._ask(attacker, text)
            probes.add(seconds, reused, is_known=is_known)

    def _prefix(self) -> str:
        return self._words(_PREFIX_CHARACTERS)

    def _words(self, characters: int) -> str:
        return "".join(self._draw.choices(string.ascii_lowercase, k=characters))

    async def _ask(self, user: int, text: str) -> tuple[float, int]:
        asked = replace(request(text), max_tokens=Tokens(1))
        began, first, cached = time.perf_counter(), 0.0, 0
        async with self._backend.chat(asked, replace(CALLER, uid=user)) as events:
            async for event in events:
                first = first or time.perf_counter() - began
                if isinstance(event, Finished):
                    assert event.usage is not None
                    cached = event.usage.cached_tokens
        return first, cached


@asynccontextmanager
async def open_backend(folder: Path) -> AsyncIterator[LocalBackend]:
    """A backend whose one model is loaded."""
    timers, quarantine, reports = LoopTimers(), Quarantine(os.urandom(32)), FakeReports()
    states = KeptStates(_QUOTA)
    launcher = Launcher(
        Launch("llama", states_bytes=_QUOTA),
        timers=timers,
        patience=Patience(),
        oom=OomKills(None),
        states=states,
    )
    fleet = Fleet(launcher.open_worker, quarantine, timers)
    dispatch = Dispatch(FakeLeases(generation=1), fleet, quarantine, timers)
    backend = LocalBackend(dispatch, timers, Deadlines())
    model = _model().write_drawn(folder)
    async with asyncio.timeout(_LIMIT_SECONDS), fleet.open(reports):
        fleet.begin_load(spec_of(model), Generation(1), PLACEMENT)
        await reports.until("load_finished", 1)
        yield backend
        states.close()


def _model() -> SyntheticModel:
    """Small, but reading a prompt takes it ten times what everything else takes."""
    t = Transformer(
        layers=2, embedding=128, heads=2, kv_heads=2, head=64, feed_forward=384, vocabulary=300
    )
    layers = [t.attention(i) | t.dense(i) for i in range(t.layers)]
    tensors = t.each(t.ends(tied=True), *layers)
    return SyntheticModel("probed", "llama", t.keys(), tensors, t.vocabulary, "F32")


async def measure(probes: int, control: int) -> list[Bar]:
    """`probes` of each user, and `control` of one for its own."""
    foreign, own = Probes(), Probes()
    with tempfile.TemporaryDirectory() as folder:
        async with open_backend(Path(folder)) as backend:
            prober = Prober(backend, random.Random(1))
            for number in range(probes):
                victim, attacker = _USERS if number % 2 else reversed(_USERS)
                await prober.probe(foreign, victim, attacker)
            for _ in range(control):
                await prober.probe(own, _USERS[0], _USERS[0])
    print(f"{2 * probes} probes for prompts of another user: AUC {foreign.auc:.4f}")
    print(f"{2 * control} probes for prompts of one's own: AUC {own.auc:.4f}")
    return [
        Bar("prefix_probe.bias", abs(foreign.auc - 0.5), at_most=0.05),
        Bar("prefix_probe.auc_own", own.auc, at_least=0.9),
        Bar("prefix_probe.reused_tokens", foreign.excess_reused, at_most=0.5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.prefix_probe", description=__doc__)
    parser.add_argument("--probes", type=int, default=2000, help="of each user (2000)")
    parser.add_argument("--control", type=int, default=100, help="pairs for one's own (100)")
    arguments = parser.parse_args()
    print_bars(asyncio.run(measure(arguments.probes, arguments.control)))


if __name__ == "__main__":
    main()
