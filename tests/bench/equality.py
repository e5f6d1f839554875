"""Whether greedy decoding says what llama-server says: alone, in a full batch, and asked again.

Asked again, prompts are for the most part not read but restored from kept states.

`python -m tests.bench.equality` takes about 5 minutes on one core, and 12 more when llama-server
has to be built first. Both have the same llama.cpp, model, threads and slots. Kernels round
differently with the size of a batch, so two tokens that are nearly as likely may change places:
where our text leaves theirs, their two best logits must lie within 0.05. Anything else is a bug.
"""

import argparse
import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.bench.bars import Bar, print_bars
from tests.bench.llama_server import ensure_llama_server, open_llama_server
from tests.real_models import smollm2
from tests.whole_daemon import PATIENCE, open_daemon

_SLOTS: Final = 8
_CONTEXT_TOKENS: Final = 512
_ANSWER_TOKENS: Final = 24
_PROMPTS: Final = 50
_WITHIN: Final = 0.05
_TOPICS: Final = (
    "the sea", "an old clock", "winter", "a lost letter", "bread", "the moon", "a violin", "bees",
    "a long bridge", "the desert",
)  # fmt: skip
_ASKS: Final = (
    "Write one sentence about {}.",
    "Why do people care about {}? Answer briefly.",
    "Name three things that go with {}.",
    "Begin a story about {}.",
    "Explain {} to a child.",
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of theirs. gap: logits between the likeliest and the next one."""

    text: str
    gap: float


@dataclass(frozen=True, slots=True)
class Reference:
    """What llama-server says."""

    prompt_tokens: int
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Said:
    """What we say."""

    prompt_tokens: int
    text: str


def gap_at_difference(reference: Reference, said: Said) -> float | None:
    """How far apart their two best logits are where we differ; None if we do not.

    Infinite where no near choice explains it: another prompt, or more or less text.
    """
    if said.prompt_tokens != reference.prompt_tokens:
        return float("inf")
    if said.text == reference.text:
        return None
    position = 0
    for token in reference.tokens:
        position += len(token.text)
        if said.text[:position] != reference.text[:position]:
            return token.gap
    return float("inf")


def make_prompts() -> list[str]:
    """50 questions, in an order that puts unlike ones beside each other."""
    prompts = [ask.format(topic) for ask in _ASKS for topic in _TOPICS]
    random.Random(1).shuffle(prompts)
    return prompts[:_PROMPTS]


async def _ask(client: httpx.AsyncClient, prompt: str, **more: Any) -> dict[str, Any]:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
        **more,
    }
    response = await client.post("/v1/chat/completions", json=body)
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


async def _reference(client: httpx.AsyncClient, prompt: str) -> Reference:
    more = {"logprobs": True, "top_logprobs": 2, "cache_prompt": False}
    answer = await _ask(client, prompt, **more)
    content = answer["choices"][0]["logprobs"]["content"]
    return Reference(answer["usage"]["prompt_tokens"], tuple(_token(each) for each in content))


def _token(entry: dict[str, Any]) -> Token:
    best, second = (each["logprob"] for each in entry["top_logprobs"])
    return Token(entry["token"], best - second)


async def _said(client: httpx.AsyncClient, prompt: str) -> Said:
    answer = await _ask(client, prompt)
    content = answer["choices"][0]["message"]["content"] or ""
    return Said(answer["usage"]["prompt_tokens"], content)


async def ask_theirs(port: int, prompts: Sequence[str]) -> list[Reference]:
    """One at a time."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        return [await _reference(client, prompt) for prompt in prompts]


async def ask_ours(socket: str, prompts: Sequence[str], *, clients: int) -> list[Said]:
    """`clients` at a time."""
    answers: dict[int, Said] = {}
    left = iter(enumerate(prompts))
    transport = httpx.AsyncHTTPTransport(uds=socket)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://daemon", timeout=PATIENCE
    ) as client:

        async def one_client() -> None:
            for number, prompt in left:
                answers[number] = await _said(client, prompt)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(one_client())
    return [answers[number] for number in range(len(prompts))]


def judge(
    name: str, prompts: Iterable[str], references: Iterable[Reference], said: Iterable[Said]
) -> Bar:
    """Print what differs; the largest gap of logits at a first difference, 0 without any."""
    worst, differing, count = 0.0, 0, 0
    for prompt, reference, answer in zip(prompts, references, said, strict=True):
        count += 1
        gap = gap_at_difference(reference, answer)
        if gap is not None:
            differing, worst = differing + 1, max(worst, gap)
            print(f"  {prompt!r}, gap {gap:.4f}:\n    {answer.text!r}\n    {reference.text!r}")
    print(f"{name}: {count - differing} of {count} texts are equal")
    return Bar(f"equality.gap.{name}", worst, at_most=_WITHIN)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.equality", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of each server (1)")
    threads = parser.parse_args().threads
    ensure_llama_server()
    placement = {"slots": _SLOTS, "context_tokens": _CONTEXT_TOKENS, "threads": threads}
    settings = {
        "models": {"directory": None, "smollm2": {"path": str(smollm2()), **placement}},
        "worker": {"engine": "llama"},
        "requests": {"first_event_seconds": PATIENCE, "between_events_seconds": PATIENCE},
    }
    prompts = make_prompts()
    with open_llama_server(smollm2(), **placement) as peer:
        references = asyncio.run(ask_theirs(peer.port, prompts))
    with open_daemon(settings, with_bus=False) as daemon:
        socket = str(daemon.socket_path)
        batch = asyncio.run(ask_ours(socket, prompts, clients=_SLOTS))
        again = asyncio.run(ask_ours(socket, prompts, clients=_SLOTS))
    with open_daemon(settings, with_bus=False) as daemon:
        alone = asyncio.run(ask_ours(str(daemon.socket_path), prompts, clients=1))
    said = {"alone": alone, "batch": batch, "again": again}
    print_bars([judge(name, prompts, references, each) for name, each in said.items()])


if __name__ == "__main__":
    main()
