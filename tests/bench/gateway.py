"""What a request costs that goes through our daemon, or through LiteLLM's proxy, to a provider.

`python -m tests.bench.gateway` takes some 3 minutes, and 2 more when LiteLLM has to be installed
first. The provider is a server that answers at once; it is asked directly as well, and what a
gateway adds is what is left after that. The three take turns, round by round, so that whatever
else the machine does hits all of them. Each gateway is one process, on the door that it has: ours
is asked over its Unix socket.
"""

import argparse
import asyncio
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.bench.bars import Bar, print_bars
from tests.bench.chat_load import Server
from tests.bench.engine import percentile
from tests.bench.gateway_load import Round, Took, ask_all
from tests.bench.idle import read_memory
from tests.bench.litellm_proxy import ensure_litellm, open_litellm
from tests.bench.mock_upstream import open_mock_upstream
from tests.whole_daemon import open_daemon

_REQUESTS: Final = {1: 60, 50: 400}
_FORMS: Final = {"plain": False, "streamed": True}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One of the three, and what it calls the model."""

    server: Server
    model: str


@dataclass(slots=True)
class Seen:
    """What one of them showed under one load, over all rounds."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def took(self) -> list[Took]:
        return [took for each in self.rounds for took in each.took]

    @property
    def rates(self) -> list[float]:
        return [each.per_second for each in self.rounds]

    @property
    def medians(self) -> list[float]:
        """Seconds until the whole answer, for each round."""
        return [statistics.median(took.whole for took in each.took) for each in self.rounds]

    @property
    def processor_ms(self) -> float:
        """Milliseconds of processor time for each request."""
        return 1000 * sum(each.processor_seconds for each in self.rounds) / len(self.took)

    def line(self) -> str:
        whole = [took.whole for took in self.took]
        first = [took.first for took in self.took]
        return (
            f"{statistics.median(self.rates):7.1f} requests/s "
            f"({min(self.rates):.1f}-{max(self.rates):.1f}), "
            f"p50 {_ms(whole, 50)} p95 {_ms(whole, 95)}, "
            f"first word p50 {_ms(first, 50)} p95 {_ms(first, 95)}, "
            f"processor {self.processor_ms:.2f} ms a request"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """All three under the same load."""

    direct: Seen
    ours: Seen
    theirs: Seen

    @property
    def added_p50(self) -> float:
        """Ours over theirs: the median of the rounds, each of which compares neighbours in time."""
        rounds = zip(self.direct.medians, self.ours.medians, self.theirs.medians, strict=True)
        return statistics.median(
            (ours - direct) / (theirs - direct) for direct, ours, theirs in rounds
        )

    @property
    def rate(self) -> float:
        """Ours over theirs, as above."""
        return statistics.median(
            ours / theirs for ours, theirs in zip(self.ours.rates, self.theirs.rates, strict=True)
        )

    def added(self, gateway: Seen, rank: float) -> float:
        """Milliseconds that `gateway` adds to the latency of that rank, over all requests."""
        through, direct = (
            percentile((took.whole for took in seen.took), rank) for seen in (gateway, self.direct)
        )
        return 1000 * (through - direct)

    def lines(self) -> Iterator[str]:
        yield f"  direct {self.direct.line()}"
        for name, seen in (("ours", self.ours), ("theirs", self.theirs)):
            p50, p95 = self.added(seen, 50), self.added(seen, 95)
            yield f"  {name:6} {seen.line()}; added p50 {p50:.2f} ms p95 {p95:.2f} ms"


def _ms(values: Sequence[float], rank: float) -> str:
    return f"{percentile(values, rank) * 1000:.2f} ms"


async def compare(
    gateways: tuple[Gateway, Gateway, Gateway], *, stream: bool, clients: int, rounds: int
) -> Comparison:
    """Let all of them pass on the same requests, in turns that rotate; the first do not count."""
    seen = (Seen(), Seen(), Seen())
    for number in range(-1, rounds):
        for turn in range(3):
            which = (number + turn) % 3
            found = await ask_all(
                gateways[which].server,
                gateways[which].model,
                stream=stream,
                clients=clients,
                count=_REQUESTS[clients],
            )
            if number >= 0:
                seen[which].rounds.append(found)
    return Comparison(*seen)


def measure(gateways: tuple[Gateway, Gateway, Gateway], rounds: int) -> list[Bar]:
    bars = []
    for form, stream in _FORMS.items():
        for clients in _REQUESTS:
            found = asyncio.run(compare(gateways, stream=stream, clients=clients, rounds=rounds))
            print(f"{form}, {clients} client{'s' if clients > 1 else ''}")
            print(*found.lines(), sep="\n", flush=True)
            load = f"{form}.{clients}"
            bars += [
                Bar(f"gateway.added_p50.{load}", found.added_p50, at_most=0.1),
                Bar(f"gateway.rps.{load}", found.rate, at_least=5),
            ]
    return bars


@contextmanager
def open_gateways() -> Iterator[tuple[Gateway, Gateway, Gateway]]:
    """The upstream itself, our daemon and LiteLLM in front of it."""
    with open_mock_upstream() as upstream:
        url = f"http://127.0.0.1:{upstream.port}/v1"
        far = {"kind": "openai-compatible", "url": url, "models": ["m"]}
        with (
            open_daemon({"providers": {"far": far}}, with_bus=False) as daemon,
            open_litellm(url) as litellm,
        ):
            ours = Server("ours", str(daemon.socket_path), daemon.process.pid)
            yield (
                Gateway(Server("direct", upstream.port, upstream.process), "m"),
                Gateway(ours, "far/m"),
                Gateway(Server("theirs", litellm.port, litellm.process), "m"),
            )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count (5)")
    return parser.parse_args()


def main() -> None:
    arguments = _parse_arguments()
    ensure_litellm()
    with open_gateways() as gateways:
        bars = measure(gateways, arguments.rounds)
        for each in gateways[1:]:
            assert each.server.process is not None
            print(f"{each.server.name}: {read_memory(each.server.process).rss:.0f} MiB resident")
    print_bars(bars)


if __name__ == "__main__":
    main()
