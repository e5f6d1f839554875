"""`unified-llm lease`: run a program beside models that have made room for it."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Annotated, Final

import typer

from unified_llm.bus.client import BusClient
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.faults import BusFault
from unified_llm.bus.following import open_owner_news
from unified_llm.bus.names import BUS_NAME
from unified_llm.cli.session import DaemonUnreachable, NoInteraction, reporting
from unified_llm.cli.sizes import parse_size
from unified_llm.cli.vram import Wish, ensure_held, keep_lease, open_lease
from unified_llm.domain.units import Bytes, Seconds

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_RETRY: Final = Seconds(30)
_LONGEST_NAME: Final = 100
# Sent on as they come. A terminal sends its own to the whole foreground group.
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)


def lease(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="What to run, best after `--`.")
    ],
    vram: Annotated[
        str, typer.Option(help="How much it needs, such as 6G or 512M; units are binary.")
    ],
    why: Annotated[str, typer.Option(help="What for, as others will be told.")] = "it was asked to",
    is_silent: NoInteraction = False,
) -> None:
    """Run a command once models have left the memory it needs, and keep them out until it ends.

    Its exit status is the command's own, 128 and the signal's number if a signal ended it, and 126
    or 127 if it can not be run. A refusal says how much there is. When the daemon is restarted, the
    memory is taken again. Where models run in main memory, that is what they leave. polkit decides
    who may, and may ask for a password.
    """
    wish = Wish(Bytes(parse_size(vram)), _name(command), why)
    with reporting(as_json=False):
        try:
            status = asyncio.run(_run(wish, command, may_interact=not is_silent))
        except BusFault as error:
            raise DaemonUnreachable(
                f"D-Bus: {error}. Is the daemon running? See `systemctl status unified-llm`."
            ) from error
    raise typer.Exit(status)


def _name(command: Sequence[str]) -> str:
    """The program's, as others may be shown it."""
    plain = "".join(each for each in PurePath(command[0]).name if each.isprintable())
    return plain[:_LONGEST_NAME] or "a program"


async def _run(wish: Wish, command: Sequence[str], *, may_interact: bool) -> int:
    async with open_connection() as bus:
        client = BusClient(bus, BUS_NAME)
        news = asyncio.Event()
        opening = open_lease(client, wish, may_interact=may_interact, may_start=True)
        async with open_owner_news(bus, BUS_NAME, news.set), opening as path:
            # Whatever came before: the next answer is of a daemon that has this lease.
            news.clear()
            await ensure_held(client, path)
            return await _run_beside(_renew(bus, wish, news), command)


async def _run_beside(renewal: Coroutine[object, object, None], command: Sequence[str]) -> int:
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(renewal)
        status = await _run_command(command)
        renewing.cancel()
    return status


async def _renew(bus: BusConnection, wish: Wish, news: asyncio.Event) -> None:
    """Take the memory again from a daemon that comes in the place of this one; news: it is gone."""
    try:
        await news.wait()
        await keep_lease(bus, wish, retry=_RETRY, tell=_tell)
    except BusFault as fault:
        # The command goes on: what it holds by now it keeps.
        _tell(f"nothing is kept free of models any more: {fault}")


def _tell(sentence: str) -> None:
    typer.echo(f"unified-llm: {sentence}", err=True)


async def _run_command(command: Sequence[str]) -> int:
    # Before it starts: a signal that is sent to us as soon as it says something must not end us.
    with _relaying() as relay:
        try:
            process = await asyncio.create_subprocess_exec(*command)
        except OSError as error:
            _tell(f"{command[0]} can not be run: {error.strerror}")
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        relay.begin(process)
        status = await process.wait()
    return status if status >= 0 else 128 - status


class _Relay:
    """Passes signals on to a command, those too that came before it ran."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._early: list[signal.Signals] = []

    def begin(self, process: Process) -> None:
        self._process = process
        for number in self._early:
            self.pass_on(number)

    def pass_on(self, number: signal.Signals) -> None:
        if self._process is None:
            self._early.append(number)
        elif self._process.returncode is None and not (
            number in _OF_TERMINALS and _is_in_foreground()
        ):
            self._process.send_signal(number)


@contextmanager
def _relaying() -> Iterator[_Relay]:
    loop = asyncio.get_running_loop()
    relay = _Relay()
    for number in (*_PASSED_ON, *_OF_TERMINALS):
        loop.add_signal_handler(number, relay.pass_on, number)
    try:
        yield relay
    finally:
        for number in (*_PASSED_ON, *_OF_TERMINALS):
            loop.remove_signal_handler(number)


def _is_in_foreground() -> bool:
    """Whether a terminal sends its signals to our process group, which is the command's as well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
