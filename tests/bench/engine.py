"""How fast answers come from our daemon and from llama-server, side by side on this machine.

`python -m tests.bench.engine` takes about 15 minutes, and 12 more when llama-server has to be
built first. Both have the same llama.cpp, model, threads, slots and context. They take turns, round
by round, so that whatever else the machine does hits both; the one that does not serve sleeps.
Twice: each question for itself, and all of them behind one system prompt of about 512 tokens.
"""

import argparse
import asyncio
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.bench.bars import Bar, print_bars
from tests.bench.chat_load import Question, Round, Server, ask_all
from tests.bench.llama_server import ensure_llama_server, open_llama_server
from tests.real_models import smollm2
from tests.whole_daemon import open_daemon
from unified_llm.worker.cores import allowed_physical_cores

_SLOTS = 8
_CONTEXT_TOKENS = 1024
_ANSWER_TOKENS = 64
_QUESTION_WORDS = 40
_SYSTEM_WORDS = 500
_QUESTIONS_PER_CLIENT = 2
_FEWEST_QUESTIONS = 8
_CLIENTS = (1, 4, 8, 16)
_VOCABULARY = (
    "apple bridge candle desert engine forest garden harbor island jacket kitchen ladder market "
    "needle ocean pencil quiet river silver table under valley window yellow morning winter stone "
    "travel music letter bottle circle doctor evening farmer golden hunter little mother number"
)
_WORDS = _VOCABULARY.split()


@dataclass(slots=True)
class Seen:
    """What one server showed, over all rounds."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [each.tokens_per_second for each in self.rounds]

    @property
    def first_tokens(self) -> list[float]:
        return [answer.first_token for each in self.rounds for answer in each.answers]

    @property
    def gaps(self) -> list[float]:
        return [gap for each in self.rounds for answer in each.answers for gap in answer.gaps]

    @property
    def cached_share(self) -> float:
        answers = [answer for each in self.rounds for answer in each.answers]
        return sum(a.cached_tokens for a in answers) / sum(a.prompt_tokens for a in answers)

    @property
    def processor_ms(self) -> float | None:
        """Milliseconds of processor time for each token of the answers, prompts included."""
        taken = [each.processor_seconds for each in self.rounds]
        known = [each for each in taken if each is not None]
        return 1000 * sum(known) / sum(each.tokens for each in self.rounds) if known else None

    @property
    def prompt_tokens(self) -> float:
        return statistics.median(a.prompt_tokens for each in self.rounds for a in each.answers)

    def line(self) -> str:
        first, gaps = self.first_tokens, self.gaps
        return (
            f"{statistics.median(self.rates):7.1f} tok/s ({min(self.rates):.1f}-"
            f"{max(self.rates):.1f}), first token {_ms(first, 50)} p95 {_ms(first, 95)}, "
            f"between tokens {_ms(gaps, 50)} p95 {_ms(gaps, 95)} p99 {_ms(gaps, 99)}, "
            f"prompt {self.prompt_tokens:.0f}, cached {self.cached_share:.0%}, "
            f"processor {self.processor_ms:.2f} ms a token"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both servers under the same load."""

    ours: Seen
    theirs: Seen

    @property
    def tokens_per_second(self) -> float:
        """Ours over theirs: the median of the rounds, each of which compares neighbours in time."""
        return statistics.median(
            ours / theirs for ours, theirs in zip(self.ours.rates, self.theirs.rates, strict=True)
        )

    @property
    def first_token_p95(self) -> float:
        """Ours over theirs, over the requests of all rounds."""
        return percentile(self.ours.first_tokens, 95) / percentile(self.theirs.first_tokens, 95)


def percentile(values: Iterable[float], rank: float) -> float:
    """The smallest value that `rank` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)]


def _ms(values: Sequence[float], rank: float) -> str:
    return f"{percentile(values, rank) * 1000:.0f} ms"


def make_questions(count: int, *, system: str | None, draw: random.Random) -> list[Question]:
    """Questions that have no first word in common but by chance."""
    return [
        Question(
            system,
            f"{draw.randrange(10**6)} Write a long story with all of these words: "
            + " ".join(draw.choices(_WORDS, k=_QUESTION_WORDS)),
            seed=draw.randrange(2**31),
        )
        for _ in range(count)
    ]


async def compare(
    servers: tuple[Server, Server], clients: int, rounds: int, system: str | None
) -> Comparison:
    """Let both answer the same questions, in turns; who begins alternates."""
    draw = random.Random(f"{clients} {system}")
    seen = (Seen(), Seen())
    for number in range(rounds):
        count = max(_FEWEST_QUESTIONS, _QUESTIONS_PER_CLIENT * clients)
        questions = make_questions(count, system=system, draw=draw)
        for which in ((0, 1), (1, 0))[number % 2]:
            answered = await ask_all(
                servers[which], questions, clients=clients, max_tokens=_ANSWER_TOKENS
            )
            seen[which].rounds.append(answered)
    return Comparison(*seen)


def measure(servers: tuple[Server, Server], clients: Iterable[int], rounds: int) -> list[Bar]:
    """Bars are held by questions of their own; those behind a shared prompt are named `.shared`."""
    draw = random.Random(0)
    shared = " ".join(draw.choices(_WORDS, k=_SYSTEM_WORDS))
    bars = []
    for system, suffix in ((None, ""), (shared, ".shared")):
        for number in clients:
            found = asyncio.run(compare(servers, number, rounds, system))
            print(f"{number} clients{', shared system prompt' if system else ''}")
            print(f"  ours   {found.ours.line()}")
            print(f"  theirs {found.theirs.line()}", flush=True)
            bars += [
                Bar(f"engine.tps.{number}{suffix}", found.tokens_per_second, at_least=1.0),
                Bar(f"engine.ttft_p95.{number}{suffix}", found.first_token_p95, at_most=1.0),
            ]
    return bars


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each server and load (5)")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=list(_CLIENTS), help="loads (1 4 8 16)"
    )
    parser.add_argument(
        "--threads", type=int, default=allowed_physical_cores(), help="of each server (all cores)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = _parse_arguments()
    ensure_llama_server()
    threads = arguments.threads
    placement = {"slots": _SLOTS, "context_tokens": _CONTEXT_TOKENS, "threads": threads}
    settings = {
        "models": {"directory": None, "smollm2": {"path": str(smollm2()), **placement}},
        "worker": {"engine": "llama"},
    }
    print(
        f"{_SLOTS} slots of {_CONTEXT_TOKENS} tokens, {threads} threads, {arguments.rounds} rounds"
    )
    with (
        open_llama_server(smollm2(), **placement) as peer,
        open_daemon(settings, with_bus=False) as daemon,
    ):
        ours = Server("unified-llm", str(daemon.socket_path), daemon.process.pid)
        servers = ours, Server("llama-server", peer.port, peer.process)
        warm_up = make_questions(_SLOTS, system=None, draw=random.Random(1))
        for server in servers:
            asyncio.run(ask_all(server, warm_up, clients=_SLOTS, max_tokens=_ANSWER_TOKENS))
        print_bars(measure(servers, arguments.clients, arguments.rounds))


if __name__ == "__main__":
    main()
