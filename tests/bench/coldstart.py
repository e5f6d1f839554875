"""How long the first token takes when the model is not in memory, beside llama-server.

`python -m tests.bench.coldstart` takes some minutes, and 12 more when llama-server has to be built
first. The files are in the page cache, for both; they take turns, round by round.

coldstart: our daemon runs, as it does on a machine that has it, and loads the model because it is
asked; llama-server is started, and asked as soon as it serves. Told besides: the same with ours.

swap: two models of which one has room, asked for in turns; llama-server in its router mode, which
may keep one. What is asked differs from time to time, so that no answer is known already.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.bench.bars import Bar, print_bars
from tests.bench.chat_load import Question, Server, ask
from tests.bench.engine import make_questions
from tests.bench.llama_server import ensure_llama_server, open_llama_server, open_router
from tests.real_models import smollm2
from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.worker.cores import allowed_physical_cores

_SLOTS: Final = 1
_CONTEXT_TOKENS: Final = 1024
_NAMES: Final = ("one", "other")
# One of these models takes some 200 MiB.
_ROOM_FOR_ONE: Final = 300 * 2**20
_GONE_LIMIT_SECONDS: Final = 60


def main() -> None:
    arguments = _parse_arguments()
    ensure_llama_server()
    placement = {
        "slots": _SLOTS,
        "context_tokens": _CONTEXT_TOKENS,
        "threads": arguments.threads,
    }
    questions = _questions()
    with tempfile.TemporaryDirectory() as folder:
        files = _copies(Path(folder))
        bars = [
            *_coldstart(files, placement, questions, arguments.rounds),
            _swap(files, placement, questions, arguments.rounds),
        ]
    print_bars(bars)


def _coldstart(
    files: dict[str, Path], placement: dict[str, int], questions: Iterator[Question], rounds: int
) -> list[Bar]:
    ours: list[float] = []
    theirs: list[float] = []
    from_nothing: list[float] = []
    with open_daemon(_settings(files, placement, keep_alive=1), with_bus=False) as daemon:
        for number in range(rounds + 1):
            seconds = (
                _first_token(_server(daemon), next(questions)),
                _theirs_from_start(files["one"], placement, next(questions)),
                _ours_from_start(files, placement, next(questions)),
            )
            _wait_until_unloaded(daemon)
            if number:  # the first reads the files into the page cache
                for all_of_them, one in zip((ours, theirs, from_nothing), seconds, strict=True):
                    all_of_them.append(one)
    _tell("first token of a model that is not loaded", ours=ours, theirs=theirs)
    _tell("the same, with the start of the daemon", ours=from_nothing)
    return [Bar("coldstart.first_token", _ratio(ours, theirs), at_most=1.1)]


def _swap(
    files: dict[str, Path], placement: dict[str, int], questions: Iterator[Question], rounds: int
) -> Bar:
    settings = _settings(files, placement, keep_alive=600)
    settings["memory"] = {"ram_budget_bytes": _ROOM_FOR_ONE, "kept_states_bytes": 0}
    seen: tuple[list[float], list[float]] = ([], [])
    with (
        open_daemon(settings, with_bus=False) as daemon,
        open_router(files["one"].parent, **placement) as router,
    ):
        servers = _server(daemon), Server("llama-server", router.port)
        for number in range(rounds + 1):
            for name in _NAMES:
                for server, all_of_them in zip(servers, seen, strict=True):
                    question = replace(next(questions), model=name)
                    seconds = _first_token(server, question)
                    if number:
                        all_of_them.append(seconds)
        if len(daemon.workers()) != 1:
            raise RuntimeError(f"{len(daemon.workers())} models are loaded, so none was swapped")
    _tell("first token of a model in place of another", ours=seen[0], theirs=seen[1])
    return Bar("swap.first_token", _ratio(*seen), at_most=0.8)


def _theirs_from_start(model: Path, placement: dict[str, int], question: Question) -> float:
    return _from_start(
        question,
        lambda stack: Server(
            "llama-server", stack.enter_context(open_llama_server(model, **placement)).port
        ),
    )


def _ours_from_start(
    files: dict[str, Path], placement: dict[str, int], question: Question
) -> float:
    settings = _settings(files, placement, keep_alive=600)
    return _from_start(
        question,
        lambda stack: _server(stack.enter_context(open_daemon(settings, with_bus=False))),
    )


def _from_start(question: Question, start: Callable[[ExitStack], Server]) -> float:
    """Seconds from before the start of a server to the first token."""
    with ExitStack() as stack:
        began = time.perf_counter()
        server = start(stack)
        started = time.perf_counter() - began
        return started + _first_token(server, question)


def _first_token(server: Server, question: Question) -> float:
    return asyncio.run(ask(server, question, max_tokens=2)).first_token


def _server(daemon: WholeDaemon) -> Server:
    return Server("unified-llm", str(daemon.socket_path))


def _wait_until_unloaded(daemon: WholeDaemon) -> None:
    give_up_at = time.monotonic() + _GONE_LIMIT_SECONDS
    while daemon.workers():
        if time.monotonic() > give_up_at:
            raise RuntimeError("the idle model has not been unloaded")
        time.sleep(0.05)


def _settings(
    files: dict[str, Path], placement: dict[str, int], *, keep_alive: int
) -> dict[str, Any]:
    models = {name: {"path": str(file), **placement} for name, file in files.items()}
    return {
        "models": {"directory": None, **models},
        "defaults": {"keep_alive_seconds": keep_alive},
        "worker": {"engine": "llama"},
    }


def _copies(folder: Path) -> dict[str, Path]:
    """One model under two names; both servers would know one file as one model."""
    files = {name: folder / f"{name}.gguf" for name in _NAMES}
    for file in files.values():
        file.write_bytes(smollm2().read_bytes())
    return files


def _questions() -> Iterator[Question]:
    draw = random.Random(7)
    while True:
        (question,) = make_questions(1, system=None, draw=draw)
        yield replace(question, model="one")


def _tell(what: str, **seen: list[float]) -> None:
    print(what)
    for name, seconds in seen.items():
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        print(f"  {name:6} {1000 * middle:.0f} ms ({1000 * low:.0f}-{1000 * high:.0f})", flush=True)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Of the medians."""
    return statistics.median(ours) / statistics.median(theirs)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.coldstart", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count (5)")
    parser.add_argument(
        "--threads", type=int, default=allowed_physical_cores(), help="of each server (all cores)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
