"""Days of requests: generated from a seed, or read from the audit records of a real daemon.

People talk in conversations: the next request comes a while after the answer to the last, so a
scheduler that answers late is also asked late. A recorded day knows only when requests came.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fakes.replay import Ask, Heard, Replay
from tests.unit.scheduler.scenario import make_spec
from unified_llm.domain.models import ModelId, ModelSpec

HOUR = 3600.0

CODER, CHAT, WRITER, SMALL, EMBED, BATCH = map(
    ModelId, ("coder", "chat", "writer", "small", "embed", "batch")
)
SPECS: tuple[ModelSpec, ...] = (
    make_spec(CODER, 14, slots=2, priority=70, keep_alive=1800),
    make_spec(CHAT, 9, slots=4, priority=70, keep_alive=1800),
    make_spec(WRITER, 12, slots=2, priority=50, keep_alive=1800),
    make_spec(SMALL, 3, slots=4, priority=50, keep_alive=1800),
    make_spec(EMBED, 1, slots=8, priority=60, keep_alive=1800),
    make_spec(BATCH, 9, slots=4, priority=10, keep_alive=600),
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """answers, pauses: seconds of each; the first request comes at `at`, each next one after the
    answer before and a pause."""

    at: float
    models: tuple[ModelId, ...]
    principal: str
    answers: tuple[float, ...]
    pauses: tuple[float, ...]

    def asks(self) -> list[Ask]:
        """Its requests in order; the times of all but the first are not known yet."""
        return [
            Ask(self.at, self.models[number % len(self.models)], self.principal, seconds)
            for number, seconds in enumerate(self.answers)
        ]


def draw_day(seed: int) -> list[Conversation]:
    """An ordinary day of four people, a pipeline and a nightly job on one machine."""
    draw = random.Random(seed)
    return [*_people(draw), *_pipeline(draw), *_nightly_job(draw)]


def draw_rush(seed: int) -> list[Conversation]:
    """An hour in which three people talk all the time to models that do not fit together."""
    draw = random.Random(seed)
    return [
        Conversation(
            float(number),
            (model,),
            f"uid:{1000 + number}",
            tuple(draw.lognormvariate(1.0, 0.5) for _ in range(200)),
            tuple(draw.uniform(1, 6) for _ in range(200)),
        )
        for number, model in enumerate((CODER, WRITER, CHAT))
    ]


def _people(draw: random.Random) -> Iterator[Conversation]:
    habits = {
        "uid:1000": (CODER, CODER, CHAT),
        "uid:1001": (CHAT, CHAT, WRITER),
        "uid:1002": (CHAT, SMALL, CODER),
        "uid:1003": (WRITER, SMALL),
    }
    for principal, models in habits.items():
        for _ in range(draw.randint(8, 14)):
            length = draw.randint(3, 15)
            yield Conversation(
                draw.triangular(7 * HOUR, 23 * HOUR, 15 * HOUR),
                (draw.choice(models),),
                principal,
                tuple(draw.lognormvariate(1.5, 0.8) for _ in range(length)),
                tuple(draw.lognormvariate(2.5, 1.0) for _ in range(length)),
            )


def _pipeline(draw: random.Random) -> Iterator[Conversation]:
    """Searches: an embedding, and at once a chat about what it found."""
    for _ in range(30):
        yield Conversation(
            draw.uniform(8 * HOUR, 20 * HOUR),
            (EMBED, SMALL),
            "uid:990",
            (0.1, draw.lognormvariate(1.2, 0.5)) * 2,
            (0.05, 20.0) * 2,
        )


def _nightly_job(draw: random.Random) -> Iterator[Conversation]:
    """Two hundred documents, begun while some still work; four at a time."""
    for hand in range(4):
        yield Conversation(
            22 * HOUR + hand,
            (BATCH,),
            "uid:991",
            tuple(draw.uniform(2, 12) for _ in range(50)),
            (0.1,) * 50,
        )


def play(replay: Replay, day: list[Conversation]) -> list[Heard]:
    """Have the conversations take place; who is refused goes on after a pause like the others."""

    def begin(ask: Ask, rest: list[tuple[Ask, float]]) -> None:
        def go_on() -> None:
            (following, pause), *others = rest
            begin(replace(following, at=replay.now + pause), others)

        if rest:
            replay.add(ask, go_on)
        else:
            replay.add(ask)

    for conversation in day:
        first, *others = conversation.asks()
        begin(first, list(zip(others, conversation.pauses, strict=False)))
    return replay.run()


def read_journal(path: Path) -> list[Ask]:
    """The generations in the output of `journalctl -o json UNIFIED_LLM_ACTION=generate`.

    An answer took as long as its record says, waiting included; times count from the first.
    """
    found = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record.get("UNIFIED_LLM_ACTION") != "generate":
            continue
        took = int(record["UNIFIED_LLM_DURATION_USEC"]) / 1e6
        ended = int(record["__REALTIME_TIMESTAMP"]) / 1e6
        model, principal = record["UNIFIED_LLM_OBJECT"], record["UNIFIED_LLM_PRINCIPAL"]
        found.append(Ask(ended - took, ModelId(model), principal, took))
    found.sort(key=lambda ask: ask.at)
    return [replace(ask, at=ask.at - found[0].at) for ask in found]
